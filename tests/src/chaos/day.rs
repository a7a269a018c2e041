//! A day in the life of an account, told in minutes: people edit from midnight to midnight while everything goes wrong that goes
//! wrong in the life of a service, and at the end nothing is lost, nothing is late and no quota was exceeded.
//!
//! # What is scaled
//! With a day of `minutes` real minutes, the simulator's waits between deliveries of hooks and the life of its access tokens are
//! shorter by as much, and the workers' crons are fired as much more often. The workers themselves know nothing of it: their waits after failures
//! and the quota are real ones, which makes the day harder for them, not easier.
//!
//! # What must hold at the end
//! What `conclude` says of any chaos (nothing lost, nothing doubled, both sides equal, then silence), and:
//! - the account is connected and has had new tokens;
//! - every hook delivers again, although Keap had given them up while the workers were down;
//! - no event is left or dead;
//! - by the simulator's own count no second, minute or day has had more calls than Keap allows, and it has refused none for it.

use super::{Edit, Options, PEOPLE, Progress, Report, conclude, edit, prepare, settle, weather};
use crate::account::{Account, journey};
use crate::database::{Restartable, connect};
use crate::stage::Stage;
use crate::wait::until_within;
use anyhow::{Context as _, Result, ensure};
use keapsync_domain::ids::EntityType;
use keapsync_xtask::progress::say;
use keapsync_xtask::supervise::{INCREMENTAL_CRON, WATCHDOG_CRON, fire_cron};
use keapsync_xtask::system::{SystemOptions, WorkerRuntime};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// Minutes of a day.
const DAY_MINUTES: u32 = 24 * 60;

/// How long Keap's access tokens live, in seconds.
const TOKEN_LIFE_S: f64 = 86_400.0;

/// Edits a second, over all people: what leaves the quota room for the day's outages to be made up for.
const EDITS_PER_SECOND: u32 = 3;

/// How often Keap may be asked for the incremental sync's changes, and the workers be reminded, at the most.
const CLOCK_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// How often it is looked whether the weather has to change.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Something that happens at its time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// Keap forgets the access tokens; the grant stands.
    RevokeAccessTokens,
    /// The grant is withdrawn in Keap.
    RevokeGrant,
    /// The account says that a person is needed, and the person connects it again.
    Reconnect,
    /// Postgres is stopped, and is back two minutes later.
    RestartPostgres,
    /// All workers die and stay dead.
    WorkersDown,
    /// They are started again.
    WorkersUp,
    /// Keap answers 503 to everything.
    KeapDown,
    /// It is back.
    KeapUp,
}

/// When what happens, in minutes after midnight. The workers are down for an hour, which is longer than Keap tries to deliver; nobody
/// connects the account again after it, so that only the watch over the hooks brings them back.
const PLAN: [(u32, Deed); 13] = [
    (60, Deed::RevokeAccessTokens),
    (120, Deed::RestartPostgres),
    (210, Deed::KeapDown),
    (270, Deed::KeapUp),
    (420, Deed::RevokeGrant),
    (450, Deed::Reconnect),
    (600, Deed::RestartPostgres),
    (720, Deed::KeapDown),
    (735, Deed::KeapUp),
    (840, Deed::WorkersDown),
    (900, Deed::WorkersUp),
    (1_020, Deed::RestartPostgres),
    (1_140, Deed::RevokeAccessTokens),
];

/// How long the database is away, in minutes of the day.
const RESTART_MINUTES: u32 = 2;

/// A day's length and size.
#[derive(Clone, Debug)]
pub struct Day {
    /// Real minutes that it takes.
    pub minutes: f64,
    /// What determines the edits and the faults.
    pub seed: u64,
    /// How long the silence afterwards is watched.
    pub quiet: Duration,
    /// Contacts to begin with.
    pub contacts: u32,
    /// Kinds of records that are edited and compared.
    pub entities: Vec<EntityType>,
    /// How long coming to rest may take, at each step.
    pub patience: Duration,
}

impl Day {
    /// How many times faster than the clock the day goes by.
    fn scale(&self) -> f64 {
        f64::from(DAY_MINUTES) / self.minutes
    }

    /// So many minutes of the day.
    fn minutes(&self, minutes: u32) -> Duration {
        Duration::from_secs_f64(f64::from(minutes) * 60.0 / self.scale())
    }

    /// Turns a system for tests into one for this day: hooks and tokens of the simulator live faster, and the quota is Keap's own.
    #[must_use]
    pub fn system(&self, mut options: SystemOptions) -> SystemOptions {
        options.runtime = WorkerRuntime::OneWorkerd;
        options.time_scale = self.scale();
        let life_s = format!("{:.0}", TOKEN_LIFE_S / self.scale());
        options.keap_sim_arguments.extend(["--access-token-ttl-s".to_owned(), life_s]);
        options
    }

    fn options(&self) -> Options {
        let edits = (self.minutes * 60.0 * f64::from(EDITS_PER_SECOND)).max(1.0);
        Options {
            // A day has at most so many minutes that this fits.
            edits: format!("{edits:.0}").parse().unwrap_or(1),
            seed: self.seed,
            kills: 0,
            edits_per_second: EDITS_PER_SECOND,
            quiet: self.quiet,
            patience: self.patience,
            contacts: self.contacts,
            entities: self.entities.clone(),
        }
    }
}

/// Lives through a day. An error tells what does not hold, with the seed.
pub async fn run(stage: &Stage, day: &Day) -> Result<Report> {
    let seed = day.seed;
    live(stage, day).await.with_context(|| format!("the day does not hold with seed {seed}"))
}

async fn live(stage: &Stage, day: &Day) -> Result<Report> {
    let options = day.options();
    let mut account = Account::connect_filled(stage, "day", day.contacts).await?;
    prepare(&account, &options, &day.entities).await?;
    // The least that can be set; a day of 24 minutes has a watch every hour with it.
    account.change_settings(&json!({"hook_watch_interval_minutes": 1})).await?;
    let before = account.keap.counts().await?;
    let began = Instant::now();
    let (edits, is_keap_down) = (Progress::default(), AtomicBool::new(false));
    let database = Restartable::new(&stage.access.database);
    tokio::try_join!(
        edit(&account, &options, &edits, &database),
        let_things_happen(&account, day, &database, &is_keap_down, began),
        change_weather(&account, day, &edits, &is_keap_down),
        keep_time(&account, day, &edits),
    )?;
    // The database was restarted under the connection that the account had.
    account.mirror.client = connect(&stage.access.database).await?;
    let edits: Vec<Edit> = edits.into_edits();
    let mut report = conclude(&account, &options, &edits, began.elapsed()).await?;
    let after = account.keap.counts().await?;
    let checked = check(&account, day, &before, &after).await?;
    report.0.push_str(&checked);
    Ok(report)
}

/// Carries out the plan.
async fn let_things_happen(
    account: &Account<'_>,
    day: &Day,
    database: &Restartable,
    is_keap_down: &AtomicBool,
    began: Instant,
) -> Result<()> {
    for (minute, deed) in PLAN {
        sleep_until(began + day.minutes(minute)).await;
        say(format!("{:02}:{:02} {deed:?}", minute / 60, minute % 60));
        match deed {
            Deed::RevokeAccessTokens => account.keap.revoke_access_tokens().await?,
            Deed::RevokeGrant => account.keap.revoke().await?,
            Deed::Reconnect => reconnect(account, day).await?,
            Deed::RestartPostgres => {
                let _taken = database.take().await;
                let mut system = account.stage.system.lock().await;
                system.stop_postgres().await?;
                sleep(day.minutes(RESTART_MINUTES)).await;
                system.start_postgres().await?;
            }
            Deed::WorkersDown => account.stage.system.lock().await.kill_workers().await?,
            Deed::WorkersUp => account.stage.system.lock().await.start_workers().await?,
            Deed::KeapDown => is_keap_down.store(true, Ordering::Relaxed),
            Deed::KeapUp => is_keap_down.store(false, Ordering::Relaxed),
        }
    }
    Ok(())
}

/// Waits until the account calls for a person, and does what it calls for.
async fn reconnect(account: &Account<'_>, day: &Day) -> Result<()> {
    until_within(day.patience, "the call for a person", async || {
        let status = account.status().await?;
        Ok((status["token"]["state"] == "needs_reauthorization").then_some(()))
    })
    .await?;
    // Keap's faults may hit the exchange of the code, as they may in life; then a person tries again.
    until_within(day.patience, "a new connection", async || {
        let journey = journey(account.stage, &account.name, &account.name).await?;
        ensure!(journey.answer.status == 200, "the callback answered {}", journey.answer.status);
        Ok(Some(()))
    })
    .await
}

/// Changes the weather every spell, and at once when Keap breaks down or is back.
async fn change_weather(
    account: &Account<'_>,
    day: &Day,
    edits: &Progress,
    is_keap_down: &AtomicBool,
) -> Result<()> {
    let mut number = 0;
    let mut changes_at = Instant::now();
    let mut was_down = false;
    while !edits.is_over() {
        let is_down = is_keap_down.load(Ordering::Relaxed);
        if is_down != was_down || Instant::now() >= changes_at {
            if is_down {
                weather::break_down(&account.keap).await?;
            } else {
                weather::change(&account.keap, day.seed, number).await?;
            }
            number += 1;
            was_down = is_down;
            changes_at = Instant::now() + weather::SPELL;
        }
        sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}

/// Fires the crons at their times of day; whatever is down just then misses them.
async fn keep_time(account: &Account<'_>, day: &Day, edits: &Progress) -> Result<()> {
    let watchdog = day.minutes(1).max(CLOCK_INTERVAL_MIN);
    let incremental = day.minutes(30).max(CLOCK_INTERVAL_MIN);
    let mut incremental_at = Instant::now() + incremental;
    while !edits.is_over() {
        let _missed = fire_cron(&account.stage.access.sync, WATCHDOG_CRON).await;
        if Instant::now() >= incremental_at {
            let _missed = fire_cron(&account.stage.access.sync, INCREMENTAL_CRON).await;
            incremental_at += incremental;
        }
        sleep(watchdog).await;
    }
    Ok(())
}

/// What must hold beyond what holds after any chaos.
async fn check(account: &Account<'_>, day: &Day, before: &Value, after: &Value) -> Result<String> {
    account.wait_for_hooks_within(day.patience).await?;
    let status = account.status().await?;
    ensure!(status["token"]["state"] == "connected", "the account is not connected: {}", status["token"]);
    ensure!(
        status["events"]["dead"] == 0 && status["events"]["open"] == 0,
        "events are left: {}",
        status["events"]
    );
    let count = |of: &Value, path: &str| of.pointer(path).and_then(Value::as_u64).unwrap_or_default();
    let since = |path: &str| count(after, path).saturating_sub(count(before, path));
    let refreshes = since("/refreshes");
    ensure!(refreshes > 0, "no token was refreshed");
    let quota = account.keap.quota().await?;
    let mut text = String::new();
    for window in ["second", "minute", "day"] {
        let (most, limit) = (&quota["max_calls"][window], &quota["limits"][window]);
        ensure!(most.as_u64() <= limit.as_u64(), "{most} calls in a {window}, and {limit} are allowed");
        writeln!(text, "at most {most} of {limit} calls in a {window}")?;
    }
    ensure!(quota["refused"] == 0, "the quota refused calls: {quota}");
    writeln!(
        text,
        "a day in {:.0} min by {PEOPLE} people: {} calls, {refreshes} refreshes, {} deliveries of which {} failed and {} were lost",
        day.minutes,
        since("/calls/total"),
        since("/deliveries/attempted"),
        since("/deliveries/failed"),
        since("/deliveries/lost"),
    )?;
    settle::is_at_rest(account).await?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(minutes: f64) -> Day {
        Day {
            minutes,
            seed: 1,
            quiet: Duration::ZERO,
            contacts: 100,
            entities: EntityType::ALL.to_vec(),
            patience: Duration::ZERO,
        }
    }

    #[test]
    fn a_day_of_24_minutes_goes_by_sixty_times_as_fast() {
        let day = day(24.0);
        assert_eq!(day.minutes(60), Duration::from_mins(1));
        assert_eq!(day.options().edits, 24 * 60 * 3);
        let system = day.system(SystemOptions::for_tests("day"));
        assert!(system.keap_sim_arguments.ends_with(&["--access-token-ttl-s".to_owned(), "1440".to_owned()]));
    }

    #[test]
    fn the_plan_is_in_order_and_whatever_goes_down_comes_back() {
        assert!(
            PLAN.is_sorted_by(|one, other| one.0 < other.0) && PLAN.iter().all(|(at, _)| *at < DAY_MINUTES)
        );
        for (down, up) in [
            (Deed::WorkersDown, Deed::WorkersUp),
            (Deed::KeapDown, Deed::KeapUp),
            (Deed::RevokeGrant, Deed::Reconnect),
        ] {
            let deeds: Vec<Deed> =
                PLAN.iter().map(|(_, deed)| *deed).filter(|deed| [down, up].contains(deed)).collect();
            assert!(!deeds.is_empty() && deeds.chunks(2).all(|pair| pair == [down, up]), "{deeds:?}");
        }
    }
}
