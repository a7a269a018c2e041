#![doc = include_str!("../README.md")]

mod delivery;
mod entry;
mod route;
