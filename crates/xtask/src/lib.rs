//! The tools behind `cargo xtask`, as a library.
//!
//! The command line in `main.rs` is a thin shell over these modules, and the end-to-end tests start whole systems
//! through [`system`]. Nothing here runs inside a worker.
//!
//! # Invariants
//! - Every step is safe to repeat: what is already there is recognised and left alone.
//! - Whatever takes longer than a second or two says what it does and why, on standard error.
//! - Every failure names the fix.
//!
//! It does not deploy, and it never writes to a real Keap account on its own.

pub mod cli;
pub mod debian;
pub mod node_tools;
pub mod progress;
pub mod rust_tools;
pub mod subprocess;
pub mod wasm_target;
pub mod worker_build;
pub mod workspace;
