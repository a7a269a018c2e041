//! `cargo xtask`: reads the command line and calls the library.

use anyhow::Result;
use clap::Parser;
use keapsync_xtask::cli::{Arguments, Command};
use keapsync_xtask::worker_build::{self, Worker};
use keapsync_xtask::workspace::Workspace;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let workspace = Workspace::discover()?;
    match arguments.command {
        Command::Setup => {
            worker_build::ensure(&workspace, &Worker::ALL)?;
        }
        Command::BuildWorker { workers } => {
            let workers = if workers.is_empty() { Worker::ALL.to_vec() } else { workers };
            worker_build::ensure(&workspace, &workers)?;
        }
    }
    Ok(())
}
