//! What the end-to-end tests work with: a running system, the simulated Keap behind it, and the database as a person
//! sees it. Tests share one system; each has its own account and its own Keap tenant, so that none disturbs another.

#![allow(
    clippy::indexing_slicing,
    reason = "an index into JSON that has another shape gives null, and the test says so"
)]

pub mod account;
pub mod chaos;
pub mod database;
pub mod keap;
pub mod quota;
pub mod raw;
pub mod stage;
pub mod wait;
