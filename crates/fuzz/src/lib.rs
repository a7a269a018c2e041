#![doc = include_str!("../README.md")]

mod mutate;
pub mod run;
pub mod targets;
