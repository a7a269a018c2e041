#![doc = include_str!("../README.md")]

pub mod access;
pub mod address_limit;
pub mod body;
pub mod clock;
pub mod config;
pub mod coordinator_client;
pub mod derived_key;
pub mod entropy;
pub mod health;
pub mod hook_auth;
pub mod hyperdrive;
pub mod keap_transport;
pub mod kv;
pub mod log;
pub mod memory;
pub mod panic_hook;
mod plain_object;
pub mod prometheus;
pub mod respond;
pub mod service;
pub mod socket;
pub mod sync_client;
