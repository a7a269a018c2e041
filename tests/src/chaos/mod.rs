//! The proof from end to end: people edit both sides at random while everything goes wrong, and in the end nothing is lost,
//! nothing is doubled, both sides are equal, and it is quiet.
//!
//! # The course
//! 1. A new account is connected to a new tenant of the simulated Keap, which is full of records, and synced.
//! 2. People edit: several tasks on each side, often the same few records. Meanwhile the simulator's faults change every few
//!    seconds, workers are killed without a word and started again, and runs of every kind are started.
//! 3. The faults end. Within a bound everything comes to rest: no hook, no event, no item of the outbox, no run.
//! 4. Everything is read once from both sides, and compared by a form of this proof's own; the product's own certificate must say the
//!    same; every edit is accounted for; no row has two records in Keap.
//! 5. Then nothing happens any more: no write to Keap, no version of a row moves, while the workers' clock goes on.
//!
//! # What the seed determines
//! Each edit (side, kind, field; the record, as far as the same are there), each spell of faults and each death. Not how they
//! interleave: the processes are real. A seed that fails is worth running again a few times.
//!
//! Kinds of record are those that are asked for, and by default all that are in step ([`EntityType::ALL`]): where more become so,
//! more are edited.

mod compare;
mod contacts;
pub mod day;
mod edit;
mod fates;
mod orders;
mod people;
mod pool;
mod random;
mod record;
mod settle;
mod subscriptions;
mod tags;
mod views;
mod weather;

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use keapsync_domain::ids::EntityType;
use keapsync_xtask::progress::say;
use keapsync_xtask::supervise::{WATCHDOG_CRON, fire_cron};
use keapsync_xtask::system::{SystemOptions, WorkerRuntime};
use keapsync_xtask::worker_build::Worker;
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

use crate::account::Account;
use crate::database::{Mirror, Restartable, connect};
use crate::quota::without_quota;
use crate::stage::Stage;

use self::edit::Edit;
use self::people::Person;
use self::pool::Pool;
use self::random::Random;

/// Tasks that edit at the same time.
const PEOPLE: usize = 6;

/// How often what edits choose from is read anew.
const REFRESH_INTERVAL: Duration = Duration::from_secs(2);

/// How often the workers' clock ticks while people edit.
const CLOCK_INTERVAL: Duration = Duration::from_secs(5);

/// Of how many ticks one also starts a run.
const TICKS_PER_RUN: u64 = 4;

/// How many problems are told in full.
const TOLD_MAX: usize = 40;

/// How large a proof is.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many edits people make.
    pub edits: u64,
    /// What determines them.
    pub seed: u64,
    /// How often workers are killed.
    pub kills: u64,
    /// Edits a second, over all people.
    pub edits_per_second: u32,
    /// How long the silence afterwards is watched.
    pub quiet: Duration,
    /// How long coming to rest may take, at each step.
    pub patience: Duration,
    /// Contacts to begin with; orders and subscriptions in proportion.
    pub contacts: u32,
    /// Kinds of records that are edited and compared; usually all that are in step, [`EntityType::ALL`].
    pub entities: Vec<EntityType>,
}

/// What people did and what became of it, for people to read.
#[derive(Clone, Debug)]
pub struct Report(pub String);

/// Turns a system for tests into one for this proof: the quota is lifted, and all workers run in one process.
#[must_use]
pub fn system(options: SystemOptions) -> SystemOptions {
    let mut options = without_quota(options);
    options.runtime = WorkerRuntime::OneWorkerd;
    // Keap gives a delivery up, and its hook, after half an hour; a worker that starts again must be back by then.
    options.time_scale = 60.0;
    options
}

/// Runs the proof. An error tells what does not hold, with the seed.
pub async fn run(stage: &Stage, options: &Options) -> Result<Report> {
    let seed = options.seed;
    prove(stage, options).await.with_context(|| format!("the proof does not hold with seed {seed}"))
}

async fn prove(stage: &Stage, options: &Options) -> Result<Report> {
    let entities = options.entities.as_slice();
    let account = Account::connect_filled(stage, "chaos", options.contacts).await?;
    prepare(&account, options, entities).await?;
    let began = Instant::now();
    let edits = edit_in_bad_weather(&account, options, entities).await?;
    conclude(&account, options, &edits, began.elapsed()).await
}

/// Waits for rest, and tells what became of everything.
async fn conclude(
    account: &Account<'_>,
    options: &Options,
    edits: &[Edit],
    edited_in: Duration,
) -> Result<Report> {
    let entities = options.entities.as_slice();
    say(format!("{} edits made in {:.0} s; waiting for rest", edits.len(), edited_in.as_secs_f64()));
    let began = Instant::now();
    let given_up = settle::settle(account, entities, options.patience).await?;
    let settled_in = began.elapsed();
    say(format!("At rest after {:.0} s; comparing", settled_in.as_secs_f64()));
    let record = record::read(&account.mirror, &account.keap, entities).await?;
    let comparison = compare::compare(&record);
    let fates = fates::of(edits, &record);
    let duplicates = record.duplicates();
    let refused: HashSet<&str> = record.refused().collect();
    let objections = settle::verify(account, entities, &refused, options.patience).await?;

    let mut text = String::new();
    writeln!(
        text,
        "{} edits, seed {}, {} kills, in {:.0} s; at rest {:.0} s later; {} dead letters queued again",
        edits.len(),
        options.seed,
        options.kills,
        edited_in.as_secs_f64(),
        settled_in.as_secs_f64(),
        given_up.replayed
    )?;
    writeln!(
        text,
        "{} records compared, {} gone on both sides, {} open conflicts, {} refused and told so, {} differences",
        comparison.compared,
        comparison.gone,
        comparison.open,
        comparison.refused,
        comparison.differences.len()
    )?;
    for (said, count) in &given_up.left {
        writeln!(text, "{count} dead letters left: {said}")?;
    }
    for ((side, fate), count) in &fates.counts {
        writeln!(text, "{side:?} {fate:?}: {count}")?;
    }
    say(text.trim_end());
    let problems: Vec<&String> =
        comparison.differences.iter().chain(&fates.problems).chain(&duplicates).chain(&objections).collect();
    ensure!(
        problems.is_empty(),
        "{} problems:\n{}\n{text}",
        problems.len(),
        problems.iter().take(TOLD_MAX).map(|problem| problem.as_str()).collect::<Vec<_>>().join("\n")
    );
    ensure!(
        edits.len() as u64 * 10 >= options.edits * 9,
        "only {} of {} edits found a record",
        edits.len(),
        options.edits
    );
    say(format!("Watching the silence for {:.0} s", options.quiet.as_secs_f64()));
    settle::silence(account, entities, options.quiet).await?;
    writeln!(text, "silent for {:.0} s", options.quiet.as_secs_f64())?;
    Ok(Report(text))
}

/// Sets the account up and syncs what is there.
async fn prepare(account: &Account<'_>, options: &Options, entities: &[EntityType]) -> Result<()> {
    // The guard has tests of its own; here people delete as they please.
    let change = json!({"delete_in_keap": true, "blast_guard": {"records_max": 1_000_000}});
    account.change_settings(&change).await?;
    account.keap.keep_writes().await?;
    for entity in entities {
        settle::run(account, *entity, "full", options.patience).await?;
    }
    account.wait_for_quiet().await
}

/// Everything at once, until all edits are made; tells those that took place.
async fn edit_in_bad_weather(
    account: &Account<'_>,
    options: &Options,
    entities: &[EntityType],
) -> Result<Vec<Edit>> {
    let progress = Progress::default();
    let database = Restartable::new(&account.stage.access.database);
    tokio::try_join!(
        edit(account, options, &progress, &database),
        change_weather(account, options, &progress),
        kill_workers(account, options, &progress),
        keep_time(account, &progress, entities),
    )?;
    Ok(progress.into_edits())
}

/// People edit both sides until all edits are made.
async fn edit(
    account: &Account<'_>,
    options: &Options,
    progress: &Progress,
    database: &Restartable,
) -> Result<()> {
    let entities = options.entities.as_slice();
    let mut text_fields = HashMap::new();
    for entity in entities.iter().copied().filter(|entity| *entity != EntityType::Tag) {
        text_fields.insert(entity, account.keap.text_field(entity.plural()).await?);
    }
    let session = async || -> Result<Mirror> {
        let client = connect(&account.stage.access.database).await?;
        Ok(Mirror { client, account: account.name.clone() })
    };
    let pool = Pool::default();
    let mut onlooker = session().await?;
    pool.refresh(&onlooker, entities).await?;
    let mut people = Vec::new();
    for _ in 0..PEOPLE {
        people.push(Person {
            mirror: session().await?,
            database,
            keap: account.keap.clone(),
            pool: &pool,
            entities,
            text_fields: &text_fields,
            seed: options.seed,
        });
    }
    let began = Instant::now();
    let working = async {
        let all = people.iter_mut().map(|person| work(person, options, progress, began));
        let outcome = futures_util::future::try_join_all(all).await;
        progress.is_over.store(true, Ordering::Relaxed);
        outcome.map(drop)
    };
    let looking = async {
        while !progress.is_over() {
            sleep(REFRESH_INTERVAL).await;
            let _held = database.hold(&mut onlooker).await?;
            pool.refresh(&onlooker, entities).await?;
        }
        Ok(())
    };
    tokio::try_join!(working, looking).map(drop)
}

/// How far the edits are.
#[derive(Default)]
struct Progress {
    next: AtomicU64,
    is_over: AtomicBool,
    edits: Mutex<Vec<Edit>>,
}

impl Progress {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn made(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    fn into_edits(self) -> Vec<Edit> {
        self.edits.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One person's work: the next edit of all, at its time.
async fn work(person: &mut Person<'_>, options: &Options, progress: &Progress, began: Instant) -> Result<()> {
    loop {
        let number = progress.next.fetch_add(1, Ordering::Relaxed);
        if number >= options.edits {
            return Ok(());
        }
        let pace = Duration::from_secs(1) / options.edits_per_second;
        sleep_until(began + pace * u32::try_from(number)?).await;
        if let Some(edit) = person.edit(number).await? {
            progress.edits.lock().unwrap_or_else(PoisonError::into_inner).push(edit);
        }
    }
}

async fn change_weather(account: &Account<'_>, options: &Options, progress: &Progress) -> Result<()> {
    let mut number = 0;
    while !progress.is_over() {
        weather::change(&account.keap, options.seed, number).await?;
        number += 1;
        sleep(weather::SPELL).await;
    }
    Ok(())
}

/// Kills workers at moments that lie anywhere among the edits.
async fn kill_workers(account: &Account<'_>, options: &Options, progress: &Progress) -> Result<()> {
    let mut random = Random::of(options.seed, "deaths", 0);
    let mut moments: Vec<u64> = (0..options.kills).map(|_| random.below(options.edits)).collect();
    moments.sort_unstable();
    for moment in moments {
        while progress.made() < moment && !progress.is_over() {
            sleep(Duration::from_millis(50)).await;
        }
        // Most work is the coordinator's.
        let chances = [(3, Worker::Coordinator), (2, Worker::Sync), (1, Worker::Webhook)];
        let worker = random.weighted(&chances).context("no worker to kill")?;
        say(format!("Killing {} at edit {}", worker.name(), progress.made()));
        account.stage.system.lock().await.crash_worker(worker).await?;
    }
    Ok(())
}

/// The workers' clock, and runs that a person or a schedule starts; whatever is down just then misses them.
async fn keep_time(account: &Account<'_>, progress: &Progress, entities: &[EntityType]) -> Result<()> {
    let mut ticks: u64 = 0;
    while !progress.is_over() {
        // What does not answer is dead just now, and hears of the next tick.
        let _missed = fire_cron(&account.stage.access.sync, WATCHDOG_CRON).await;
        ticks += 1;
        if ticks.is_multiple_of(TICKS_PER_RUN) {
            for entity in entities {
                let kind = if ticks.is_multiple_of(TICKS_PER_RUN * 3) { "full" } else { "incremental" };
                let _missed = account.start(&format!("{}?kind={kind}", entity.plural())).await;
            }
        }
        sleep(CLOCK_INTERVAL).await;
    }
    Ok(())
}
