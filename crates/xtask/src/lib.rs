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
//! It does not deploy, which is `deploy.sh`'s, and it never writes to a real Keap account on its own.

pub mod account_edits;
pub mod admin_api;
pub mod artifacts;
pub mod bench;
pub mod chaos;
pub mod cli;
pub mod countdown;
pub mod database;
pub mod debian;
pub mod deployment;
pub mod dev;
pub mod doctor;
pub mod engine_password;
pub mod fuzz;
pub mod http;
pub mod live;
pub mod migrate;
pub mod node_tools;
pub mod one_workerd;
pub mod pooler;
pub mod ports;
pub mod postgres;
pub mod private_file;
pub mod process;
pub mod progress;
pub mod rust_tools;
pub mod schema_docs;
pub mod scratch_postgres;
pub mod secrets;
pub mod send_hook;
pub mod simulate;
pub mod smoke;
pub mod status;
pub mod subprocess;
pub mod supervise;
pub mod system;
pub mod test_run;
pub mod unprivileged;
pub mod wasm_target;
pub mod worker_build;
pub mod workspace;
pub mod wrangler_dev;
