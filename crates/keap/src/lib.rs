//! Keap's REST API: its wire types, requests, parsers and error classes, over a [`Transport`](transport::Transport).
//!
//! Pure: no HTTP library, no clock. What Keap promises and where it surprises is said beside each piece. Nothing here
//! decides when to call or what to do with an answer; that is the engine's.

#![expect(async_fn_in_trait, reason = "the workers run on one thread: no future here needs to be Send")]

pub mod contacts;
pub mod failure;
pub mod hooks;
pub mod oauth;
pub mod query;
pub mod quota;
pub mod tags;
pub mod transport;
