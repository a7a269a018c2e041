//! The command line: what each command is called and takes.

use clap::{Parser, Subcommand};

use crate::worker_build::Worker;

/// The arguments of `cargo xtask`.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Development, test and operations commands of keapsync")]
pub struct Arguments {
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Install the pinned tools and build everything that `dev` needs.
    Setup,
    /// Build workers to wasm, unless they are up to date.
    BuildWorker {
        /// The workers to build; all when none is named.
        workers: Vec<Worker>,
    },
}
