#![doc = include_str!("../README.md")]

mod delivery;
mod entry;
mod intake;
mod route;
