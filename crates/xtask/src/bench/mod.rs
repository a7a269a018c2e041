//! `cargo xtask bench`: measures a whole system on this machine.
//!
//! It starts systems of its own on free ports, so a running `cargo xtask dev` is left alone (and shares the machine: stop
//! it first). What is measured is the product on real workerd, real Postgres and the simulated Keap. All workers run in one
//! workerd, where a call from one to another stays inside, as on the platform; `--wrangler-dev` measures them as `cargo
//! xtask dev` runs them, each behind wrangler's proxy, whose cost then is part of the figures.
//!
//! # Invariants
//! - Every figure stands beside its conditions; a missed target is told and is no error.
//! - A wrong result is an error: counts that differ, deliveries that were refused.
//! - One benchmark runs at a time on one machine; a second one waits.
//! - A measurement that breaks down is told as a failed check, and the others go on.

mod backfill;
mod capture_cost;
mod copy;
mod database;
mod full_sync;
mod generated_contacts;
mod latency;
mod load;
mod machine;
mod memory;
mod merge;
mod optimised;
mod plans;
mod processes;
mod queries;
mod queue;
mod report;
mod samples;
mod simulated_keap;
mod testbed;

use std::fs::File;

use anyhow::{Context as _, Result, bail};

use self::machine::Machine;
use self::processes::Part;
use self::report::{Measurement, Report};
use self::simulated_keap::Volume;
use self::testbed::{Quota, Testbed};
use crate::node_tools;
use crate::progress::{Step, say};
use crate::scratch_postgres::ScratchPostgres;
use crate::system::{POSTGRES_PART, WorkerRuntime};
use crate::workspace::Workspace;

/// The arguments of `cargo xtask bench`.
#[derive(Debug, Clone, clap::Args)]
pub struct BenchArguments {
    /// Print one JSON object in place of the table; it is written to `build/bench.json` in any case.
    #[arg(long)]
    pub json: bool,
    /// Contacts of the full sync. The load needs 10,000.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(200..=200_000))]
    pub contacts: u32,
    /// Run each worker under `wrangler dev`, as `cargo xtask dev` does, in place of all in one workerd.
    #[arg(long)]
    pub wrangler_dev: bool,
    /// Measure only this; may be given several times.
    #[arg(long, value_name = "MEASUREMENT")]
    pub only: Vec<Subject>,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Subject {
    /// A full sync, an unchanged one, and COPY for comparison.
    FullSync,
    /// Everything a business has in Keap into an empty database, and a poll with nothing new.
    Backfill,
    /// From a hook to the row.
    HookToRow,
    /// From an edited row to Keap.
    RowToKeap,
    /// Deliveries per second.
    Load,
    /// Memory and size of the workers.
    Memory,
    /// A queue of 100,000 hook events, drained.
    Queue,
    /// The store and the capture of edits on Postgres alone, and COPY for comparison.
    Database,
    /// People's queries on a million contacts.
    Queries,
    /// The three-way merge alone.
    Merge,
}

impl Subject {
    /// All, in the order in which they are measured.
    const ALL: [Self; 10] = [
        Self::FullSync,
        Self::Backfill,
        Self::HookToRow,
        Self::RowToKeap,
        Self::Load,
        Self::Memory,
        Self::Queue,
        Self::Database,
        Self::Queries,
        Self::Merge,
    ];

    /// Whether it needs no workers, only a Postgres.
    fn is_of_database(self) -> bool {
        matches!(self, Self::Database | Self::Queries)
    }

    fn measurement(self) -> Measurement {
        let (name, title) = match self {
            Self::FullSync => ("full-sync", "Full sync"),
            Self::Backfill => ("backfill", "Everything of four kinds into an empty database"),
            Self::HookToRow => ("hook-to-row", "Hook received until the row is visible"),
            Self::RowToKeap => ("row-to-keap", "Row edited until Keap is changed"),
            Self::Load => ("load", "Deliveries to the webhook handler"),
            Self::Memory => ("memory", "Memory and size of the workers"),
            Self::Queue => ("queue", "A long queue of hook events, drained"),
            Self::Database => ("database", "The store on Postgres alone"),
            Self::Merge => ("merge", "The three-way merge alone"),
            Self::Queries => ("queries", "Queries of a dashboard on a million contacts"),
        };
        Measurement::new(name, title)
    }
}

/// Measures, reports, and fails when something was wrong.
pub async fn run(arguments: BenchArguments) -> Result<()> {
    let workspace = Workspace::discover()?;
    if !optimised::is_this_program() {
        return optimised::run_instead(&workspace);
    }
    let lock = only_benchmark(&workspace)?;
    let wanted: Vec<Subject> = Subject::ALL
        .into_iter()
        .filter(|subject| arguments.only.is_empty() || arguments.only.contains(subject))
        .collect();
    let mut report = Report {
        started_at: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        git_commit: machine::git_commit(&workspace)?,
        versions: std::collections::BTreeMap::new(),
        machine: Machine::discover(),
        workers: if arguments.wrangler_dev {
            "each under wrangler dev, behind its proxy"
        } else {
            "all in one workerd"
        },
        measurements: Vec::new(),
    };
    let runtime = if arguments.wrangler_dev { WorkerRuntime::WranglerDev } else { WorkerRuntime::OneWorkerd };
    let (of_merge, wanted): (Vec<Subject>, Vec<Subject>) =
        wanted.into_iter().partition(|subject| *subject == Subject::Merge);
    let (of_database, of_system): (Vec<Subject>, Vec<Subject>) =
        wanted.into_iter().partition(|subject| subject.is_of_database());
    let (backfill, of_system): (Vec<Subject>, Vec<Subject>) =
        of_system.into_iter().partition(|subject| *subject == Subject::Backfill);
    let (memory, others): (Vec<Subject>, Vec<Subject>) =
        of_system.into_iter().partition(|subject| matches!(subject, Subject::Memory | Subject::Queue));
    for subject in of_merge.into_iter().chain(backfill) {
        measure_by_itself(&workspace, runtime, subject, &mut report).await?;
    }
    for (subjects, contacts) in [(others, arguments.contacts), (memory, memory::CONTACTS)] {
        if !subjects.is_empty() {
            let volume = Volume::of_contacts(contacts);
            let testbed = Testbed::start("bench", runtime, &volume, Quota::Lifted).await?;
            measure_on_one_system(&workspace, testbed, &subjects, &mut report).await?;
        }
    }
    if !of_database.is_empty() {
        let server = ScratchPostgres::start_embedded(&workspace, "bench-database").await?;
        for subject in of_database {
            measure_on_one_server(&workspace, &server, subject, arguments.contacts, &mut report).await?;
        }
        server.stop();
    }
    lock.unlock().context("the benchmark's lock cannot be released")?;
    publish(&workspace, &report, arguments.json)?;
    let failed = report.failed_checks();
    if !failed.is_empty() {
        bail!("the figures above mean nothing where a check failed: {}", failed.join("; "));
    }
    Ok(())
}

/// Waits until no other benchmark runs on this machine, whichever checkout it is of.
fn only_benchmark(workspace: &Workspace) -> Result<File> {
    let path = workspace.cache_dir().join("bench.lock");
    std::fs::create_dir_all(workspace.cache_dir()).context("the cache directory cannot be made")?;
    let lock = File::create(&path).with_context(|| format!("{} cannot be made", path.display()))?;
    if lock.try_lock().is_err() {
        say("Another benchmark runs on this machine; waiting for its end");
        lock.lock().with_context(|| format!("{} cannot be locked", path.display()))?;
    }
    Ok(lock)
}

/// Measures a subject that starts what it needs itself.
async fn measure_by_itself(
    workspace: &Workspace,
    runtime: WorkerRuntime,
    subject: Subject,
    report: &mut Report,
) -> Result<()> {
    let mut measurement = subject.measurement();
    let step = Step::start(format!("Measuring: {}", measurement.title));
    // What is measured here tells its versions before anything has been started that would install it.
    node_tools::ensure(workspace)?;
    report.versions = machine::versions(workspace)?;
    let outcome = if subject == Subject::Merge {
        merge::measure(workspace, &mut measurement)
    } else {
        backfill::measure(runtime, &mut measurement).await
    };
    if let Err(error) = outcome {
        measurement.check("the measurement came to its end", false, format!("{error:#}"));
    }
    report.measurements.push(measurement);
    step.done();
    Ok(())
}

/// Measures on a system one subject after another, and stops it.
async fn measure_on_one_system(
    workspace: &Workspace,
    mut testbed: Testbed,
    subjects: &[Subject],
    report: &mut Report,
) -> Result<()> {
    let outcome = measure_all(workspace, &testbed, subjects, report).await;
    testbed.stop().await?;
    outcome
}

/// Measures a subject that needs Postgres alone.
async fn measure_on_one_server(
    workspace: &Workspace,
    server: &ScratchPostgres,
    subject: Subject,
    contacts: u32,
    report: &mut Report,
) -> Result<()> {
    let mut measurement = subject.measurement();
    let step = Step::start(format!("Measuring: {}", measurement.title));
    let client = crate::database::connect(&server.url).await?;
    let version = client.query_one("show server_version", &[]).await?.get(0);
    report.versions.insert("postgres".to_owned(), version);
    let part = server.process_group().map(|pid| Part { name: POSTGRES_PART.to_owned(), pid });
    let parts: Vec<Part> = part.into_iter().collect();
    let before = processes::processor_times(&parts);
    let outcome = if subject == Subject::Queries {
        queries::measure(workspace, server, &mut measurement).await
    } else {
        database::measure(workspace, server, contacts, &mut measurement).await
    };
    if let Err(error) = outcome {
        measurement.check("the measurement came to its end", false, format!("{error:#}"));
    }
    measurement.cpu_seconds = processes::seconds_since(&before, &parts);
    report.measurements.push(measurement);
    step.done();
    Ok(())
}

async fn measure_all(
    workspace: &Workspace,
    testbed: &Testbed,
    subjects: &[Subject],
    report: &mut Report,
) -> Result<()> {
    report.versions = machine::versions(workspace)?;
    report.versions.insert("postgres".to_owned(), testbed.postgres_version().await?);
    // Everything but the first sync itself needs synced contacts.
    if !subjects.contains(&Subject::FullSync) && !subjects.contains(&Subject::Memory) {
        let step = Step::start("First full sync, which this does not measure");
        testbed.full_sync().await?;
        step.done();
    }
    for &subject in subjects {
        let mut measurement = subject.measurement();
        let step = Step::start(format!("Measuring: {}", measurement.title));
        let before = processes::processor_times(&testbed.parts());
        let outcome = match subject {
            Subject::FullSync => full_sync::measure(testbed, &mut measurement).await,
            Subject::HookToRow => latency::measure_hook_to_row(testbed, &mut measurement).await,
            Subject::RowToKeap => latency::measure_row_to_keap(testbed, &mut measurement).await,
            Subject::Load => load::measure(testbed, &mut measurement).await,
            Subject::Memory => memory::measure(workspace, testbed, &mut measurement).await,
            Subject::Queue => queue::measure(testbed, &mut measurement).await,
            // Measured without a system.
            Subject::Database | Subject::Queries | Subject::Backfill | Subject::Merge => Ok(()),
        };
        if let Err(error) = outcome {
            measurement.check("the measurement came to its end", false, format!("{error:#}"));
        }
        measurement.cpu_seconds = processes::seconds_since(&before, &testbed.parts());
        report.measurements.push(measurement);
        step.done();
    }
    Ok(())
}

/// Writes the report to `build/bench.json` and prints it.
fn publish(workspace: &Workspace, report: &Report, as_json: bool) -> Result<()> {
    let mut json = serde_json::to_string_pretty(report).context("the report has no JSON form")?;
    json.push('\n');
    let path = workspace.build_dir().join("bench.json");
    std::fs::write(&path, &json).with_context(|| format!("{} cannot be written", path.display()))?;
    say(format!("Written to {}", path.display()));
    if as_json {
        print!("{json}");
    } else {
        print!("{}", report.table());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        bench: BenchArguments,
    }

    #[test]
    fn a_subject_is_called_the_same_on_the_command_line_and_in_the_report() {
        for subject in Subject::ALL {
            let name = subject.measurement().name;
            let line = Line::try_parse_from(["bench", "--only", name]).unwrap();
            assert_eq!(line.bench.only, [subject]);
        }
    }

    #[test]
    fn defaults_are_all_subjects_and_fifty_thousand_contacts() {
        let line = Line::try_parse_from(["bench"]).unwrap();
        assert_eq!((line.bench.contacts, line.bench.only.len(), line.bench.json), (50_000, 0, false));
        assert!(Line::try_parse_from(["bench", "--contacts", "1"]).is_err());
    }
}
