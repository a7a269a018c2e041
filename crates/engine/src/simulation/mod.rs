//! The deterministic simulator: the engine's real code against both sides in memory, under a seeded scheduler.
//!
//! One seed is one history: a story of people's edits and faults, and one of the many orders in which everything may
//! happen. The same seed gives the same history, byte for byte. The invariants are checked while it runs and at its end. See
//! [`simulate`].
//!
//! An *operation* is whatever has an effect: a request that Keap serves, a statement, a refresh, a lease taken or given back,
//! a unit ordered or reported, a hook that arrives, a line of the story. Looks that find nothing are not counted.
//!
//! It plays contacts, orders with their lines, tags and subscriptions. It does not play the blast guard, dry runs, purges and
//! people's resolutions of conflicts. What has no value of its own (tags of a contact, whether a subscription bills) is checked
//! for convergence, not for lost updates.

#![expect(
    clippy::indexing_slicing,
    reason = "JSON values are indexed by key, which is total; the one vector is grown to the index before"
)]

mod carrying;
mod cells;
mod connection;
mod convergence;
mod coverage;
mod events;
mod history;
mod keap_side;
mod ledger;
pub mod mirror_side;
mod mutation;
mod object;
mod people;
mod ports;
pub mod random;
mod row_lists;
mod schedule;
mod shrink;
mod stage;
mod story;
mod trace;
mod unit_orders;
mod verdict;

pub use coverage::Coverage;
pub use history::{History, replay, simulate};
pub use mutation::Mutation;
pub use shrink::{Shrunk, shrunk};
pub use story::Story;
pub use verdict::{Invariant, Violation};

#[cfg(test)]
mod tests;
