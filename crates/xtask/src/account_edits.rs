//! `cargo xtask account-edits`: random edits of both sides, each of which must be accounted for. Builds and starts the program of the crate
//! that does it.

use anyhow::{Context as _, Result};
use clap::Args;

use crate::subprocess::cargo;
use crate::workspace::Workspace;

/// Which edits to make.
#[derive(Debug, Args)]
pub struct AccountEditsArguments {
    /// How many edits, each of one part of a record.
    #[arg(long, default_value_t = 100_000)]
    edits: u64,
    /// The first seed; each is a small account of its own.
    #[arg(long, conflicts_with = "seed")]
    first_seed: Option<u64>,
    /// Replay this seed alone.
    #[arg(long)]
    seed: Option<u64>,
    /// Do not end at the first edit that is not accounted for: list every kind, each with its shortest story.
    #[arg(long)]
    survey: bool,
    /// Plant a fault, to see it found: sticky-consent, silent-parts, rounded-numbers, hold-back or forgotten-create.
    #[arg(long)]
    mutation: Option<String>,
}

impl AccountEditsArguments {
    /// So many edits, from the first seed on.
    #[must_use]
    pub const fn of(edits: u64) -> Self {
        Self { edits, first_seed: None, seed: None, survey: false, mutation: None }
    }
}

/// Builds and runs it; says whether every edit is accounted for.
pub fn run(workspace: &Workspace, arguments: &AccountEditsArguments) -> Result<bool> {
    let mut command = cargo();
    command.current_dir(workspace.root());
    command.args([
        "run",
        "--quiet",
        "--profile",
        "fuzz",
        "--package",
        "keapsync-accounting",
        "--bin",
        "account-edits",
        "--",
    ]);
    command.args(["--edits", &arguments.edits.to_string()]);
    for (name, number) in [("--first-seed", arguments.first_seed), ("--seed", arguments.seed)] {
        if let Some(number) = number {
            command.args([name, &number.to_string()]);
        }
    }
    if let Some(mutation) = &arguments.mutation {
        command.args(["--mutation", mutation]);
    }
    if arguments.survey {
        command.arg("--survey");
    }
    let status = command.status().context("cargo cannot be started: install Rust")?;
    Ok(status.success())
}
