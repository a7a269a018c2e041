//! The command line: what each command is called and takes.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::account_edits::AccountEditsArguments;
use crate::bench::BenchArguments;
use crate::chaos::ChaosArguments;
use crate::dev::DevArguments;
use crate::doctor::DoctorArguments;
use crate::fuzz::FuzzArguments;
use crate::live::LiveArguments;
use crate::send_hook::SendHookArguments;
use crate::simulate::SimulateArguments;
use crate::smoke::SmokeArguments;
use crate::test_run::TestArguments;
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
    /// Do all set-up, start the whole system, connect a demo account, run the first full sync and show live activity.
    Dev(DevArguments),
    /// Stop what `dev` started.
    Down,
    /// Show where the system answers and which parts are up.
    Status {
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Apply, undo or list the database migrations, on `DATABASE_URL` or the database of `dev`.
    Migrate {
        /// What to do.
        #[command(subcommand)]
        direction: MigrateCommand,
    },
    /// Give the workers' role its password, `ENGINE_DATABASE_PASSWORD`, on `DATABASE_URL`.
    EnginePassword,
    /// Look at a set-up, the local one or a deployed one, and name a fix for each thing that is wrong. Changes nothing.
    Doctor(DoctorArguments),
    /// Prove that a running system works, a deployed one above all: health, a thousand typed queries each of 1, 50 and 500 rows through
    /// the proxy before Postgres, large parameters, connections, KV and objects. Changes nothing.
    Smoke(SmokeArguments),
    /// Run every test, or parts of it.
    Test(TestArguments),
    /// Describe the database in docs/database: a diagram, every table, view, column and function.
    SchemaDocs {
        /// Change nothing, and fail when the documents don't fit the schema.
        #[arg(long)]
        check: bool,
    },
    /// Measure a system of its own on free ports.
    Bench(BenchArguments),
    /// Run the engine through histories that seeds determine, with everything going wrong that can.
    Simulate(SimulateArguments),
    /// Edit both sides of small accounts at random, odd values above all, and find every single edit again: on both sides, in a conflict, or
    /// refused with a word. A case that is not accounted for is shrunk and told.
    AccountEdits(AccountEditsArguments),
    /// Run every parser of outside input under random input, and tell the seed of what panics or hangs.
    Fuzz(FuzzArguments),
    /// Edit both sides of a system of its own at random while everything goes wrong, and prove that nothing is lost.
    Chaos(ChaosArguments),
    /// Send a delivery as Keap makes it, to any deployment.
    SendHook(SendHookArguments),
    /// Print what happens to an account as it happens, of any deployment.
    Live(LiveArguments),
    /// Install the pinned tools and build everything that `dev` needs.
    Setup,
    /// Build workers to wasm as they are deployed, unless they are up to date. With `KEAPSYNC_QUICK_WORKERS=1` they are built as `dev`
    /// builds them: quick to make, but neither small nor fast to run.
    BuildWorker {
        /// The workers to build; all when none is named.
        workers: Vec<Worker>,
    },
    /// Fire the crons of a running system; `dev --detach` starts this by itself.
    #[command(hide = true)]
    Supervise {
        /// The system's state directory.
        state_dir: PathBuf,
    },
}

/// What `migrate` can do.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum MigrateCommand {
    /// Apply all that are missing.
    Up {
        /// Stop after this version.
        #[arg(long)]
        to: Option<i64>,
    },
    /// Undo the last one.
    Down {
        /// Undo all after this version; 0 undoes everything.
        #[arg(long)]
        to: Option<i64>,
    },
    /// List them.
    Status,
}
