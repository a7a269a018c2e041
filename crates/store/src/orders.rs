//! `sync_orders`. `contact_id` is no column of the sync: a trigger keeps it at the row that `keap_contact_id` leads to.

use crate::mirror::table::{Column, Form, Table};
use keapsync_domain::ids::EntityType;

pub(crate) static ORDERS: Table = Table {
    entity: EntityType::Order,
    name: "public.sync_orders",
    columns: &[
        Column::new("keap_contact_id", Form::KeapId),
        Column::new("order_number", Form::IndexedText),
        Column::new("title", Form::Text),
        Column::new("order_date", Form::Instant),
        Column::new("total_amount", Form::Money),
        Column::new("paid_amount", Form::Money),
        Column::new("due_amount", Form::Money),
        Column::new("refund_amount", Form::Money),
        Column::new("currency", Form::Currency),
        Column::new("status", Form::IndexedText),
        Column::new("order_type", Form::Text),
        Column::new("line_items", Form::JsonArray),
        Column::new("shipping_address", Form::JsonObject),
        Column::new("billing_address", Form::JsonObject),
        Column::new("notes", Form::Text),
        Column::new("custom_fields", Form::JsonObject),
    ],
};
