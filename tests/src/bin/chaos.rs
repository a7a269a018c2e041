//! The proof from end to end at full size, as `cargo xtask chaos` runs it: on a system of its own, with all workers in one
//! workerd.

use anyhow::{Context as _, Result};
use clap::Parser as _;
use keapsync_e2e::chaos::day::{self, Day};
use keapsync_e2e::chaos::{self, Options};
use keapsync_e2e::stage::Stage;
use keapsync_xtask::chaos::ChaosArguments;
use keapsync_xtask::progress::say;
use keapsync_xtask::system::SystemOptions;
use std::process::ExitCode;
use std::time::Duration;

/// How long coming to rest may take, at each step.
const PATIENCE: Duration = Duration::from_mins(10);

#[derive(Debug, clap::Parser)]
#[command(about = "Edit both sides at random while everything goes wrong, and prove that nothing is lost")]
struct Arguments {
    #[command(flatten)]
    chaos: ChaosArguments,
}

fn main() -> ExitCode {
    match run(&Arguments::parse().chaos) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &ChaosArguments) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("no asynchronous runtime")?;
    let seed = arguments.seed_or_drawn()?;
    say(format!("Seed {seed}"));
    runtime.block_on(async {
        let quiet = Duration::from_secs_f64(arguments.quiet_minutes * 60.0);
        let entities = arguments.entities()?;
        let day = Day {
            minutes: arguments.minutes,
            seed,
            quiet,
            contacts: arguments.contacts,
            entities,
            patience: PATIENCE,
        };
        let mut system = if arguments.day {
            day.system(SystemOptions::for_tests("day"))
        } else {
            chaos::system(SystemOptions::for_tests("chaos"))
        };
        system.wipe_data_on_stop = false;
        let options = Options {
            edits: arguments.edits,
            seed,
            kills: arguments.kills,
            edits_per_second: arguments.edits_per_second,
            quiet,
            patience: PATIENCE,
            contacts: arguments.contacts,
            entities: day.entities.clone(),
        };
        let is_day = arguments.day;
        let proof = async |stage: &Stage| {
            if is_day { day::run(stage, &day).await } else { chaos::run(stage, &options).await }
        };
        let report = Stage::with_its_own(system, proof).await?;
        say("Nothing is lost");
        print!("{}", report.0);
        Ok(())
    })
}
