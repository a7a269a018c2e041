//! The system that is measured, with one connected account, and the ways into it.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use reqwest::{Client, Method};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::processes::Part;
use super::simulated_keap::{SimulatedKeap, Volume};
use crate::admin_api::AdminApi;
use crate::progress::Step;
use crate::send_hook::delivery_url;
use crate::system::{DEV_ACCOUNT, System, SystemOptions, WorkerRuntime};
use crate::worker_build::Worker;
use crate::{database, http};

/// Limits that are never reached, in calls per second, minute and day. The simulator is given the same ones as the
/// coordinator, which otherwise takes the difference for calls that somebody else makes.
const UNLIMITED: [&str; 3] = ["100000", "1000000", "100000000"];

/// What lifting the quotas means, for a report.
pub const QUOTA_CONDITION: &str =
    "Keap's quota is lifted, in the simulator (--calls-per-*) and in the coordinator (KEAP_CALLS_PER_*)";

/// Which quota Keap grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// None that is ever reached.
    Lifted,
    /// Keap's own: 25 calls a second, 1500 a minute.
    OfKeap,
}

/// How often a condition is asked for while waiting.
const INTERVAL: Duration = Duration::from_millis(50);

/// How often the state of a run is asked for while waiting for its end. An answer costs a millisecond of what runs the sync.
const RUN_INTERVAL: Duration = Duration::from_millis(100);

/// How long anything may take before the benchmark gives up.
const PATIENCE: Duration = Duration::from_mins(10);

/// A running system with one connected account.
#[derive(Debug)]
pub struct Testbed {
    system: System,
    /// The admin endpoints.
    pub api: AdminApi,
    /// For everything else; keeps its connections.
    pub http: Client,
    /// The Keap behind the account.
    pub keap: SimulatedKeap,
    /// The database as a person: what is written here is captured.
    pub database: tokio_postgres::Client,
}

/// How a run went.
#[derive(Debug, Clone, Copy)]
pub struct FinishedRun {
    /// By the run's own times.
    pub own_time: Duration,
    /// From the request that started it to the answer that said it was completed.
    pub wall_time: Duration,
    /// Records read from Keap.
    pub read: u64,
    /// Rows made.
    pub created: u64,
    /// Rows changed.
    pub updated: u64,
    /// Rows that agreed already.
    pub unchanged: u64,
}

impl Testbed {
    /// Starts a system of its own, connects an account and fills its Keap.
    pub async fn start(name: &str, runtime: WorkerRuntime, volume: &Volume, quota: Quota) -> Result<Self> {
        // Without the pooler, whose part Hyperdrive plays in production: the figures are those of the product itself.
        let mut options = SystemOptions { runtime, pooler: false, ..SystemOptions::for_tests(name) };
        if quota == Quota::Lifted {
            lift_quota(&mut options);
        }
        let system = System::start(options).await?;
        let urls = system.urls().clone();
        let http = http::client()?;
        let mut testbed = Self {
            api: AdminApi::new(&urls.coordinator, &urls.sync, &system.secrets().admin_api_token)?,
            keap: SimulatedKeap::new(http.clone(), &urls.keap, DEV_ACCOUNT),
            database: database::connect(&urls.database).await?,
            http,
            system,
        };
        if let Err(error) = testbed.prepare(volume).await {
            testbed.stop().await?;
            return Err(error);
        }
        Ok(testbed)
    }

    async fn prepare(&self, volume: &Volume) -> Result<()> {
        let contacts = volume.contacts;
        let step =
            Step::start(format!("Filling a Keap with {contacts} contacts and connecting an account to it"));
        // Before: connecting makes what the sync needs there.
        self.keap.seed(volume).await?;
        self.api.connect_through_simulator(DEV_ACCOUNT).await?;
        self.until("verified hooks", async || {
            let hooks = self.keap.report().await?;
            let hooks = hooks.get("hooks").and_then(Value::as_array).cloned().unwrap_or_default();
            let verified = |hook: &Value| hook.get("status").and_then(Value::as_str) == Some("Verified");
            // The list may still be growing; the account knows when it is done. A run that begins before reads what may be missed,
            // and so a second one of the same records would begin beside what is measured.
            let status = self.api.account_status(DEV_ACCOUNT).await?;
            let is_set_up = status.get("setup_open").and_then(Value::as_array).is_some_and(Vec::is_empty);
            Ok((is_set_up && !hooks.is_empty() && hooks.iter().all(verified)).then_some(()))
        })
        .await?;
        self.wait_for_quiet().await?;
        step.done();
        Ok(())
    }

    /// Stops everything.
    pub async fn stop(&mut self) -> Result<()> {
        self.system.stop().await
    }

    /// A further connection to the database, as a person.
    pub async fn connect_as_person(&self) -> Result<tokio_postgres::Client> {
        database::connect(&self.system.urls().database).await
    }

    /// The parts whose processes are watched, this program included.
    #[must_use]
    pub fn parts(&self) -> Vec<Part> {
        let groups = self.system.process_groups().into_iter().map(|(name, pid)| Part { name, pid });
        let own =
            i32::try_from(std::process::id()).ok().map(|pid| Part { name: "benchmark".to_owned(), pid });
        groups.chain(own).collect()
    }

    /// The coordinator's address.
    #[must_use]
    pub fn coordinator_url(&self) -> &str {
        &self.system.urls().coordinator
    }

    /// The address that the account's hooks are registered with.
    pub fn hook_url(&self) -> Result<String> {
        delivery_url(&self.system.urls().webhook, &self.system.secrets().keap_webhook_secret, DEV_ACCOUNT)
    }

    /// What a worker says of itself in Prometheus' text form.
    pub async fn metrics(&self, worker: Worker) -> Result<String> {
        let urls = self.system.urls();
        let base = match worker {
            Worker::Coordinator => &urls.coordinator,
            Worker::Webhook => &urls.webhook,
            Worker::Sync => &urls.sync,
        };
        let url = format!("{base}/metrics");
        let request = self.http.get(&url).bearer_auth(&self.system.secrets().admin_api_token);
        let answer = request.send().await.and_then(reqwest::Response::error_for_status);
        answer.with_context(|| format!("{url} does not answer"))?.text().await.context("metrics broke off")
    }

    /// Runs a full sync of contacts to its end.
    pub async fn full_sync(&self) -> Result<FinishedRun> {
        self.sync("contacts").await
    }

    /// Runs what `POST /sync/{what}` starts to its end.
    pub async fn sync(&self, what: &str) -> Result<FinishedRun> {
        let base = self.system.urls().sync.clone();
        let separator = if what.contains('?') { '&' } else { '?' };
        let started = Instant::now();
        let url = format!("{base}/sync/{what}{separator}account={DEV_ACCOUNT}");
        let begun = self.api.call(Method::POST, &url, None).await?;
        let ids = begun.get("run_ids").and_then(Value::as_array).context("the answer holds no run_ids")?;
        // One run after another: to ask for all of them all the time would be a good part of what is measured.
        let mut runs = Vec::with_capacity(ids.len());
        for id in ids.iter().filter_map(Value::as_str) {
            let url = format!("{base}/sync/runs/{id}?account={DEV_ACCOUNT}");
            let end = format!("the end of {what}");
            let run = self.until_asked_every(RUN_INTERVAL, &end, async || {
                let run = self.api.call(Method::GET, &url, None).await?;
                Ok((!is_under_way(&run)).then_some(run))
            });
            runs.push(run.await?);
        }
        finished_runs(&runs, started.elapsed())
    }

    /// The server's version.
    pub async fn postgres_version(&self) -> Result<String> {
        let row =
            self.database.query_one("show server_version", &[]).await.context("Postgres tells no version")?;
        Ok(row.get(0))
    }

    /// The only number that a query gives. `$1` is the account.
    pub async fn count(&self, sql: &str) -> Result<u64> {
        let row = self.database.query_one(sql, &[&DEV_ACCOUNT]).await.with_context(|| sql.to_owned())?;
        u64::try_from(row.get::<_, i64>(0)).context("a count is negative")
    }

    /// Hook events of the account that are `open` or `dead`.
    pub async fn events(&self, state: &str) -> Result<u64> {
        let status = self.api.account_status(DEV_ACCOUNT).await?;
        let count = status.pointer(&format!("/events/{state}")).and_then(Value::as_u64);
        count.with_context(|| format!("the account's status counts no {state} events"))
    }

    /// Waits until nothing is on its way: no event, no run, no edit in the outbox.
    pub async fn wait_for_quiet(&self) -> Result<()> {
        let waiting =
            "select count(*) from sync_queue where account_id = $1 and status in ('pending', 'processing')";
        self.until("quiet", async || {
            let status = self.api.account_status(DEV_ACCOUNT).await?;
            let events = status.pointer("/events/open").and_then(Value::as_u64);
            let runs = status.get("runs").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let is_quiet = events == Some(0) && !runs.iter().any(is_under_way);
            Ok((is_quiet && self.count(waiting).await? == 0).then_some(()))
        })
        .await
    }

    /// Asks until `condition` answers with a value. Its errors count as "not yet": the last one is told in the end.
    pub async fn until<T>(&self, what: &str, condition: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
        self.until_asked_every(INTERVAL, what, condition).await
    }

    async fn until_asked_every<T>(
        &self,
        interval: Duration,
        what: &str,
        mut condition: impl AsyncFnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let problem = match condition().await {
                Ok(Some(value)) => return Ok(value),
                Ok(None) => String::new(),
                Err(error) => format!(": {error:#}"),
            };
            if Instant::now() >= deadline {
                let logs = self.system.logs_dir();
                bail!(
                    "waited {} s for {what}, in vain{problem}; logs: {}",
                    PATIENCE.as_secs(),
                    logs.display()
                );
            }
            sleep(interval).await;
        }
    }
}

/// Lifts the quota on both sides.
fn lift_quota(options: &mut SystemOptions) {
    let [second, minute, day] = UNLIMITED;
    for (variable, limit) in
        [("KEAP_CALLS_PER_SECOND", second), ("KEAP_CALLS_PER_MINUTE", minute), ("KEAP_CALLS_PER_DAY", day)]
    {
        let variables = options.worker_variables.entry(Worker::Coordinator).or_default();
        variables.insert(variable.to_owned(), limit.to_owned());
    }
    for (option, limit) in [
        ("--calls-per-second", second),
        ("--calls-per-minute", minute),
        ("--calls-per-day", day),
        ("--tenant-calls-per-minute", minute),
        ("--tenant-calls-per-day", day),
    ] {
        options.keap_sim_arguments.extend([option.to_owned(), limit.to_owned()]);
    }
}

fn is_under_way(run: &Value) -> bool {
    matches!(run.get("state").and_then(Value::as_str), Some("queued" | "running"))
}

/// Runs that were started together, as one: from the first one's start to the last one's end.
fn finished_runs(runs: &[Value], wall_time: Duration) -> Result<FinishedRun> {
    let (mut first, mut last) = (i64::MAX, i64::MIN);
    let mut finished =
        FinishedRun { own_time: Duration::ZERO, wall_time, read: 0, created: 0, updated: 0, unchanged: 0 };
    for run in runs {
        if run.get("state").and_then(Value::as_str) != Some("completed") {
            bail!("the sync did not complete: {run}");
        }
        let moment = |name: &str| {
            run.get(name).and_then(milliseconds_of).with_context(|| format!("the run has no {name}"))
        };
        (first, last) = (first.min(moment("started_at")?), last.max(moment("finished_at")?));
        let count =
            |name: &str| run.pointer(&format!("/counts/{name}")).and_then(Value::as_u64).unwrap_or_default();
        finished.read += count("read");
        finished.created += count("created");
        finished.updated += count("updated");
        finished.unchanged += count("unchanged");
    }
    let own_time = last.checked_sub(first).context("no run was started")?;
    finished.own_time =
        Duration::from_millis(u64::try_from(own_time).context("a run ended before it started")?);
    Ok(finished)
}

/// A moment in milliseconds since the Unix epoch, given as such or as RFC 3339.
fn milliseconds_of(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_completed_run_is_read_with_either_form_of_time() {
        let counts = json!({"read": 7, "created": 5, "unchanged": 2});
        let numbers =
            json!({"state": "completed", "started_at": 1_000, "finished_at": 3_500, "counts": counts});
        let texts = json!({"state": "completed", "started_at": "1970-01-01T00:00:01Z",
            "finished_at": "1970-01-01T00:00:03.5Z", "counts": counts});
        for run in [numbers, texts] {
            let finished = finished_runs(&[run], Duration::from_secs(4)).unwrap();
            assert_eq!(finished.own_time, Duration::from_millis(2_500));
            assert_eq!((finished.read, finished.created, finished.unchanged), (7, 5, 2));
        }
    }

    #[test]
    fn runs_that_were_started_together_are_one() {
        let run = |start: i64, end: i64| json!({"state": "completed", "started_at": start, "finished_at": end, "counts": {"read": 3, "updated": 1}});
        let finished = finished_runs(&[run(2_000, 3_000), run(1_000, 2_500)], Duration::ZERO).unwrap();
        assert_eq!((finished.own_time, finished.read, finished.updated), (Duration::from_secs(2), 6, 2));
        assert!(finished_runs(&[], Duration::ZERO).is_err());
    }

    #[test]
    fn a_failed_run_is_an_error_that_shows_it() {
        let run = json!({"state": "failed", "error": {"message": "quota"}});
        assert!(finished_runs(&[run], Duration::ZERO).unwrap_err().to_string().contains("quota"));
    }
}
