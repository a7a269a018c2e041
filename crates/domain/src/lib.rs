//! The pure heart of keapsync: what a record is, when two values are equal, and how three states of a record merge.
//!
//! No clock, no network, no randomness: time and entropy come in as arguments, so that any run can be replayed. Nothing
//! here knows Keap's JSON (see the `keap` crate), SQL (`store`) or Workers (`platform`).

pub mod application;
pub mod backoff;
pub mod canonical;
pub mod certificate;
pub mod extra;
pub mod failure;
pub mod feed;
pub mod hook;
pub mod ids;
pub mod json;
pub mod json_number;
pub mod json_text;
pub mod limits;
pub mod merge;
pub mod policy;
pub mod quota;
pub mod record;
pub mod remote;
pub mod retry;
pub mod run;
pub mod schema;
pub mod secret;
pub mod settings;
pub mod timestamp;
pub mod tree;
pub mod undo;
pub mod wire;
