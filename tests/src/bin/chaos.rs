//! The proof from end to end at full size, as `cargo xtask chaos` runs it: on a system of its own, with all workers in one
//! workerd.

use anyhow::{Context as _, Result};
use clap::Parser as _;
use keapsync_e2e::chaos::day::{self, Day};
use keapsync_e2e::chaos::{self, Options};
use keapsync_e2e::quota::without_quota;
use keapsync_e2e::stage::{Access, Stage};
use keapsync_xtask::chaos::ChaosArguments;
use keapsync_xtask::progress::say;
use keapsync_xtask::system::{System, SystemOptions, WorkerRuntime};
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
            let mut system = without_quota(SystemOptions::for_tests("chaos"));
            system.runtime = WorkerRuntime::OneWorkerd;
            // Keap gives a delivery up, and its hook, after half an hour; a worker that starts again must be back by then.
            system.time_scale = 60.0;
            system
        };
        system.wipe_data_on_stop = false;
        let system = System::start(system).await?;
        let access = Access::of(&system);
        let stage = Stage::new(system, access)?;
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
        let outcome =
            if arguments.day { day::run(&stage, &day).await } else { chaos::run(&stage, &options).await };
        let logs = stage.access.logs.clone();
        stage.system.lock().await.stop().await?;
        let report = outcome.with_context(|| format!("logs and database are kept: {logs}"))?;
        say("Nothing is lost");
        print!("{}", report.0);
        Ok(())
    })
}
