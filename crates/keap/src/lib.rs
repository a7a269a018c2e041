//! Keap's REST API: its wire types, requests, parsers and error classes, over a [`Transport`](transport::Transport).
//!
//! Pure: no HTTP library, no clock. What Keap promises and where it surprises is said beside each piece. Nothing here
//! decides when to call or what to do with an answer; that is the engine's.

#![expect(async_fn_in_trait, reason = "the workers run on one thread: no future here needs to be Send")]

pub mod caller;
pub mod capability;
pub mod checks;
pub mod contacts;
pub mod countries;
mod custom_fields;
pub mod edits;
pub mod failure;
pub mod hooks;
pub mod model;
pub mod money;
pub mod names;
pub mod oauth;
pub mod orders;
pub mod page;
pub mod products;
pub mod query;
pub mod quota;
#[cfg(test)]
mod recorded;
pub mod records;
pub mod subscriptions;
pub mod tags;
pub mod transport;
mod walk;
pub mod wire;
