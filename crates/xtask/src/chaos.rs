//! `cargo xtask chaos`: the end-to-end proof at full size.
//!
//! The proof is a program of the package of the end-to-end tests, which depends on this one; this only builds and starts it.

use anyhow::{Context as _, Result};

use keapsync_domain::ids::EntityType;

use crate::subprocess::cargo;
use crate::workspace::Workspace;

/// The profile of native programs that work beside what they measure or test.
const PROFILE: &str = "tools";

/// The arguments of `cargo xtask chaos`.
#[derive(Debug, Clone, clap::Args)]
pub struct ChaosArguments {
    /// How many edits people make.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(10..=1_000_000))]
    pub edits: u64,
    /// What determines the edits, the faults and the deaths; drawn and printed when not given.
    #[arg(long)]
    pub seed: Option<u64>,
    /// How long nothing may happen afterwards.
    #[arg(long, default_value_t = 5.0)]
    pub quiet_minutes: f64,
    /// How often workers are killed.
    #[arg(long, default_value_t = 12)]
    pub kills: u64,
    /// Edits a second, over all people.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub edits_per_second: u32,
    /// Contacts to begin with.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(50..=100_000))]
    pub contacts: u32,
    /// A simulated day in place of a number of edits: with an hour of downtime, restarts of Postgres, outages of Keap, and
    /// revoked tokens.
    #[arg(long, conflicts_with_all = ["edits", "kills", "edits_per_second"])]
    pub day: bool,
    /// How many minutes the day takes.
    #[arg(long, default_value_t = 24.0, requires = "day", value_parser = parse_minutes)]
    pub minutes: f64,
    /// Kinds of records that are edited: contact, order, tag, subscription; all when none is named.
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
}

impl ChaosArguments {
    /// The kinds of records that are edited.
    pub fn entities(&self) -> Result<Vec<EntityType>> {
        if self.only.is_empty() {
            return Ok(EntityType::ALL.to_vec());
        }
        let named = self.only.iter().map(|name| {
            let entity = EntityType::from_name(name).filter(|entity| EntityType::ALL.contains(entity));
            entity.with_context(|| format!("--only takes contact, order, tag and subscription, not {name}"))
        });
        named.collect()
    }

    /// The seed, drawn when none was given.
    pub fn seed_or_drawn(&self) -> Result<u64> {
        match self.seed {
            Some(seed) => Ok(seed),
            // Short enough to be typed.
            None => Ok(u64::from(getrandom::u32().context("no randomness for a seed")?)),
        }
    }
}

fn parse_minutes(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(minutes) if (1.0..=1_440.0).contains(&minutes) => Ok(minutes),
        _ => Err("give 1 to 1440 minutes, such as 24".to_owned()),
    }
}

/// Builds and runs the proof; says whether it holds.
pub fn run(workspace: &Workspace, arguments: &ChaosArguments) -> Result<bool> {
    let mut command = cargo();
    command.current_dir(workspace.root()).args(["run", "--quiet", "--profile", PROFILE]);
    command.args(["--package", "keapsync-e2e", "--bin", "chaos", "--"]);
    command.args(["--seed", &arguments.seed_or_drawn()?.to_string()]);
    command.args(["--quiet-minutes", &arguments.quiet_minutes.to_string()]);
    if arguments.day {
        command.args(["--day", "--minutes", &arguments.minutes.to_string()]);
    } else {
        command.args(["--edits", &arguments.edits.to_string()]);
        command.args(["--kills", &arguments.kills.to_string()]);
        command.args(["--edits-per-second", &arguments.edits_per_second.to_string()]);
    }
    command.args(["--contacts", &arguments.contacts.to_string()]);
    if !arguments.only.is_empty() {
        command.args(["--only", &arguments.only.join(",")]);
    }
    let status = command.status().context("cargo cannot be started: install Rust")?;
    Ok(status.success())
}
