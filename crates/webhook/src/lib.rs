#![doc = include_str!("../README.md")]
#![expect(async_fn_in_trait, reason = "the workers run on one thread: no future here needs to be Send")]

pub mod delivery;
mod entry;
mod intake;
mod pace;
pub mod route;
