//! The mirrored tables: reading what the mirror knows, and writing pages of it.
//!
//! One path serves all of them. The statements are templates beside the functions, filled in once per process with what
//! `contacts.rs`, `orders.rs`, `tags.rs` and `subscriptions.rs` say of their tables; the snapshots in `snapshots/` show
//! what is sent.

pub(crate) mod bound;
pub(crate) mod columns;
pub(crate) mod first;
pub(crate) mod read;
pub(crate) mod statements;
pub(crate) mod table;
pub(crate) mod write;

use crate::contacts::CONTACTS;
use crate::orders::ORDERS;
use crate::subscriptions::SUBSCRIPTIONS;
use crate::tags::TAGS;
use keapsync_domain::ids::EntityType;
use table::Table;

/// The table of a kind of record.
pub(crate) fn table_of(entity: EntityType) -> &'static Table {
    match entity {
        EntityType::Contact => &CONTACTS,
        EntityType::Order => &ORDERS,
        EntityType::Tag => &TAGS,
        EntityType::Subscription => &SUBSCRIPTIONS,
    }
}
