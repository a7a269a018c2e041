//! The deterministic simulator of the engine: built for speed, then run with the arguments as given.
//!
//! It is a binary of the engine's own, because this tool is built for a quick start, and the simulator for quick runs.

use anyhow::{Context, Result};
use clap::Args;

use crate::subprocess::cargo;
use crate::workspace::Workspace;

/// Which seeds to run.
#[derive(Debug, Args)]
pub struct SimulateArguments {
    /// How many seeds to run; 1000 when nothing is said.
    #[arg(long, conflicts_with_all = ["seed", "minutes"])]
    seeds: Option<u64>,
    /// The first seed of many.
    #[arg(long, conflicts_with = "seed")]
    first_seed: Option<u64>,
    /// Replay this seed alone, told step by step, and shrunk to a short story when it breaks something.
    #[arg(long)]
    seed: Option<u64>,
    /// Run as long as this.
    #[arg(long, conflicts_with = "seed")]
    minutes: Option<u64>,
    /// Run a known-bad engine, to see it caught; a name that there is not is answered with those there are.
    #[arg(long)]
    mutation: Option<String>,
}

impl SimulateArguments {
    /// The first so many seeds.
    #[must_use]
    pub fn first(seeds: u64) -> Self {
        Self { seeds: Some(seeds), first_seed: None, seed: None, minutes: None, mutation: None }
    }
}

/// Builds and runs the simulator; says whether nothing was broken.
pub fn run(workspace: &Workspace, arguments: &SimulateArguments) -> Result<bool> {
    let mut command = cargo();
    command.current_dir(workspace.root()).args([
        "run",
        "--quiet",
        "--release",
        "--package",
        "keapsync-engine",
        "--features",
        "test-support",
        "--bin",
        "simulate",
        "--",
    ]);
    for (name, number) in [
        ("--seeds", arguments.seeds),
        ("--first-seed", arguments.first_seed),
        ("--seed", arguments.seed),
        ("--minutes", arguments.minutes),
    ] {
        if let Some(number) = number {
            command.args([name, &number.to_string()]);
        }
    }
    if let Some(mutation) = &arguments.mutation {
        command.args(["--mutation", mutation]);
    }
    let status = command.status().context("cargo cannot be started: install Rust")?;
    Ok(status.success())
}
