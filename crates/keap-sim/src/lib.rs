#![doc = include_str!("../README.md")]

mod clock;
mod control;
mod credentials;
mod data;
mod failure;
mod faults;
mod gate;
mod generate;
mod hooks;
mod in_process;
mod listener;
mod meter;
mod oauth;
mod operation;
mod options;
mod query;
mod quota;
mod random;
mod routes;
mod server;
mod simulator;
mod tenant;

pub use in_process::{Answer, InProcess};
pub use options::Options;
pub use server::{Handle, StartError, start};
