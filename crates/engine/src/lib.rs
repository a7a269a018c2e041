//! What keapsync does, as functions over ports: apply Keap's records, drain the outbox, keep tokens alive, share quota.
//!
//! Pure in the sense that matters: no clock, no network and no randomness of its own. Each await is a call of a port,
//! and each ends a step whose effects stand. Nothing here knows SQL or Workers.

#![expect(async_fn_in_trait, reason = "the workers run on one thread: no future here needs to be Send")]

pub mod catch_up;
pub mod dead_letters;
pub mod event_queue;
#[cfg(test)]
mod fakes;
pub mod feed;
pub mod foresight;
pub mod guard;
pub mod hook_life;
pub mod inbound;
pub mod outbox;
pub mod paced;
pub mod ports;
pub mod quota;
pub mod runs;
#[cfg(any(test, feature = "test-support"))]
pub mod simulation;
pub mod token;
pub mod undo;
pub mod unit;
pub mod watchdog;
pub mod watched;
pub mod world;

#[cfg(test)]
mod tests;
