//! `cargo xtask test`: every test and gate of the project, one part after another.
//!
//! # Invariants
//! - All parts run, whatever an earlier one found; the run fails when any part did.
//! - A part that lacks something fails and names the fix; none is skipped in silence.

mod contract_rule;
mod dependency_rules;
mod deployment;
mod gates;
mod licences;
mod lint;
mod native_tests;
mod postgres_15;
mod restore_drill;
mod schema_round_trip;
mod secret_scan;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::account_edits::{self, AccountEditsArguments};
use crate::progress::{detail, say};
use crate::simulate::{self, SimulateArguments};
use crate::worker_build::{self, Recipe, Worker};
use crate::workspace::Workspace;

/// What `test` is told on the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct TestArguments {
    /// Run only these parts.
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<Part>,
    /// For daily work, in minutes: all kinds of tests, but few random ones, workers that are built quickly, and end to end only the main
    /// job. What is handed on still has to pass the whole.
    #[arg(long)]
    pub quick: bool,
}

/// How much of what has no natural end is run.
#[derive(Debug, Clone, Copy)]
struct Extent {
    /// Seeds of the simulation.
    seeds: u64,
    /// Edits of the accounting.
    edits: u64,
    /// Random states that both merges are given.
    states: u64,
    /// How long a hundred connections edit at once.
    contention_seconds: u64,
    /// Whether only the main job is done end to end, with workers that are built quickly.
    main_job_only: bool,
}

impl Extent {
    /// The simulation takes under a minute on one core, the accounting three to four.
    const WHOLE: Self = Self {
        seeds: 10_000,
        edits: 1_000_000,
        states: 1_000_000,
        contention_seconds: 60,
        main_job_only: false,
    };
    const QUICK: Self =
        Self { seeds: 1_000, edits: 50_000, states: 50_000, contention_seconds: 20, main_job_only: true };

    fn of(arguments: &TestArguments) -> Self {
        if arguments.quick { Self::QUICK } else { Self::WHOLE }
    }
}

/// A part of the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// `cargo fmt --check`.
    Format,
    /// No secret in a tracked file.
    Secrets,
    /// Dependencies point one way, none is unused, and licences and sources are those that `deny.toml` allows.
    Dependencies,
    /// Shell scripts by shellcheck, workflow files by actionlint, and migrations that take something away.
    Lint,
    /// Clippy on all targets, warnings denied.
    Clippy,
    /// The documentation builds without warnings.
    Docs,
    /// Unit, property and simulation tests of all crates that need no server.
    Unit,
    /// Ten thousand random histories of the sync, simulated.
    Simulation,
    /// A million random edits of both sides, each of them accounted for.
    Edits,
    /// The store on a real Postgres.
    Store,
    /// Migrations up, down and up again, compared; the runbook's backup, restored; and whether `docs/database` describes the schema.
    Schema,
    /// The three workers build to wasm within their size budget.
    Workers,
    /// Each environment of the wrangler files, bundled as a deployment would, within the size budget.
    Deployment,
    /// The whole system on workerd, Postgres and the simulator.
    E2e,
    /// Licences, sources and banned crates, by cargo-deny; builds that tool first, so it runs only when named.
    Deny,
    /// Known vulnerabilities of what is used, by cargo-deny and npm, from databases in the network; runs only when named.
    Advisories,
}

impl Part {
    /// What runs when nothing is named: what is quick to fail comes first.
    const USUAL: [Self; 14] = [
        Self::Format,
        Self::Secrets,
        Self::Dependencies,
        Self::Lint,
        Self::Clippy,
        Self::Docs,
        Self::Unit,
        Self::Store,
        Self::Schema,
        Self::Simulation,
        Self::Edits,
        Self::Workers,
        Self::Deployment,
        Self::E2e,
    ];

    /// What runs for daily work: no documents, no schema taken down and up, and nothing of what is only deployed.
    const QUICK: [Self; 10] = [
        Self::Format,
        Self::Secrets,
        Self::Dependencies,
        Self::Lint,
        Self::Clippy,
        Self::Unit,
        Self::Store,
        Self::Simulation,
        Self::Edits,
        Self::E2e,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Secrets => "secrets",
            Self::Dependencies => "dependencies",
            Self::Lint => "lint",
            Self::Clippy => "clippy",
            Self::Docs => "docs",
            Self::Unit => "unit",
            Self::Simulation => "simulation",
            Self::Edits => "edits",
            Self::Store => "store",
            Self::Schema => "schema",
            Self::Workers => "workers",
            Self::Deployment => "deployment",
            Self::E2e => "e2e",
            Self::Deny => "deny",
            Self::Advisories => "advisories",
        }
    }
}

/// How one part ended.
#[derive(Debug)]
struct Outcome {
    part: Part,
    elapsed: Duration,
    result: Result<()>,
}

/// Runs the parts and prints how each ended; true when all passed.
pub async fn run(workspace: &Workspace, arguments: &TestArguments) -> Result<bool> {
    let extent = Extent::of(arguments);
    let parts = match (arguments.only.as_slice(), arguments.quick) {
        ([], false) => Part::USUAL.to_vec(),
        ([], true) => Part::QUICK.to_vec(),
        (only, _) => only.to_vec(),
    };
    let started = Instant::now();
    let mut outcomes = Vec::new();
    let mut waiting = parts.as_slice();
    while let Some((&part, rest)) = waiting.split_first() {
        if let [Part::Simulation, Part::Edits, Part::Workers, rest @ ..] = waiting {
            outcomes.extend(random_stories_beside_workers(workspace, extent));
            waiting = rest;
            continue;
        }
        say(format!("Testing: {}", part.name()));
        let started = Instant::now();
        let result = run_part(workspace, part, extent).await;
        outcomes.push(ended(part, started, result));
        waiting = rest;
    }
    say(format!("All parts, {:.0} s", started.elapsed().as_secs_f64()));
    for outcome in &outcomes {
        println!("{}", line(outcome));
        if let Err(error) = &outcome.result {
            println!("    {}", format!("{error:#}").replace('\n', "\n    "));
        }
    }
    Ok(outcomes.iter().all(|outcome| outcome.result.is_ok()))
}

/// Says how a part ended.
fn ended(part: Part, started: Instant, result: Result<()>) -> Outcome {
    let outcome = Outcome { part, elapsed: started.elapsed(), result };
    detail(line(&outcome));
    outcome
}

/// Runs at the same time what keeps one core busy each: the random stories always, and a worker's build for the most of it.
fn random_stories_beside_workers(workspace: &Workspace, extent: Extent) -> Vec<Outcome> {
    say("Testing: simulation and edits, and at the same time workers");
    let started = Instant::now();
    std::thread::scope(|scope| {
        let stories = scope.spawn(|| {
            let simulated = ended(Part::Simulation, started, simulation(workspace, extent));
            let started = Instant::now();
            [simulated, ended(Part::Edits, started, edits(workspace, extent))]
        });
        let built = ended(Part::Workers, started, workers(workspace));
        let stories = stories.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        stories.into_iter().chain([built]).collect()
    })
}

fn line(outcome: &Outcome) -> String {
    let verdict = if outcome.result.is_ok() { "passed" } else { "FAILED" };
    format!("{:<14}{verdict:<8}{:>8.1} s", outcome.part.name(), outcome.elapsed.as_secs_f64())
}

async fn run_part(workspace: &Workspace, part: Part, extent: Extent) -> Result<()> {
    match part {
        Part::Format => gates::format(workspace),
        Part::Secrets => secret_scan::run(workspace),
        Part::Dependencies => {
            dependency_rules::run(workspace)?;
            licences::run(workspace)
        }
        Part::Lint => lint::run(workspace),
        Part::Clippy => gates::clippy(workspace),
        Part::Docs => gates::docs(workspace),
        Part::Unit => native_tests::unit(workspace),
        Part::Simulation => simulation(workspace, extent),
        Part::Edits => edits(workspace, extent),
        Part::Store => native_tests::store(workspace, extent).await,
        Part::Schema => native_tests::schema(workspace).await,
        Part::Workers => workers(workspace),
        Part::Deployment => deployment::run(workspace),
        Part::E2e => native_tests::end_to_end(workspace, extent),
        Part::Deny => gates::deny(workspace),
        Part::Advisories => gates::advisories(workspace),
    }
}

fn simulation(workspace: &Workspace, extent: Extent) -> Result<()> {
    if !simulate::run(workspace, &SimulateArguments::first(extent.seeds))? {
        bail!("a simulated history broke an invariant: replay the seed that is named above");
    }
    Ok(())
}

fn edits(workspace: &Workspace, extent: Extent) -> Result<()> {
    if !account_edits::run(workspace, &AccountEditsArguments::of(extent.edits))? {
        bail!("an edit is not accounted for: replay the seed that is named above");
    }
    Ok(())
}

fn workers(workspace: &Workspace) -> Result<()> {
    anyhow::ensure!(
        Recipe::of_environment() == Recipe::Deployed,
        "quick builds say nothing about the workers' sizes: unset KEAPSYNC_QUICK_WORKERS and repeat"
    );
    let built = worker_build::ensure(workspace, &Worker::ALL, Recipe::Deployed)?;
    for worker in &built {
        detail(format!("{}: {} KB gzipped", worker.worker.name(), worker.gzipped_bytes / 1000));
    }
    if built.len() != Worker::ALL.len() {
        bail!("only {} workers were built", built.len());
    }
    Ok(())
}
