#![doc = include_str!("../README.md")]

pub mod access_log;
pub mod account;
mod database;
pub mod entry;
mod live;
mod metered;
pub mod metrics;
pub mod oauth;
pub mod object_call;
pub mod objects;
pub mod quota;
pub mod registry;
pub mod route;
pub mod seal;
mod storage;
