//! `cargo xtask fuzz`: every parser of outside input under random input. Builds and starts the program of the crate that does it.

use anyhow::{Context as _, Result};
use clap::Args;

use crate::subprocess::cargo;
use crate::workspace::Workspace;

/// Which cases to run.
#[derive(Debug, Args)]
pub struct FuzzArguments {
    /// How many cases of each parser.
    #[arg(long, default_value_t = 1_000_000)]
    cases: u64,
    /// Run these parsers alone; an unknown name lists them all.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The first seed; with `--cases 1`, replays the case of that seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many threads; all cores when nothing is said.
    #[arg(long)]
    threads: Option<u64>,
}

/// Builds and runs it; says whether nothing was found.
pub fn run(workspace: &Workspace, arguments: &FuzzArguments) -> Result<bool> {
    let mut command = cargo();
    command.current_dir(workspace.root());
    command.args([
        "run",
        "--quiet",
        "--profile",
        "fuzz",
        "--package",
        "keapsync-fuzz",
        "--bin",
        "fuzz",
        "--",
    ]);
    command.args(["--cases", &arguments.cases.to_string(), "--seed", &arguments.seed.to_string()]);
    if !arguments.only.is_empty() {
        command.args(["--only", &arguments.only.join(",")]);
    }
    if let Some(threads) = arguments.threads {
        command.args(["--threads", &threads.to_string()]);
    }
    let status = command.status().context("cargo cannot be started: install Rust")?;
    Ok(status.success())
}
