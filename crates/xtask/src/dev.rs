//! `cargo xtask dev`: from a fresh checkout to a working system that shows what it does.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::admin_api::{AdminApi, Run};
use crate::live;
use crate::process::{Lifetime, Service, StopSignal};
use crate::progress::{detail, say};
use crate::status;
use crate::supervise;
use crate::system::{DEV_ACCOUNT, KeapSource, System, SystemOptions, SystemRecord, Urls};
use crate::worker_build::Recipe;
use crate::workspace::Workspace;

/// How long the first sync may take before something must be wrong.
const SYNC_LIMIT: Duration = Duration::from_mins(10);

/// How often a running sync is asked how far it is.
const SYNC_POLL_INTERVAL: Duration = Duration::from_millis(200);

/// How often its progress is printed.
const SYNC_PRINT_INTERVAL: Duration = Duration::from_secs(1);

/// How long a person may take to connect a real account in a browser.
const CONNECT_LIMIT: Duration = Duration::from_mins(15);

/// What `dev` is told on the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct DevArguments {
    /// Return when everything is up and leave it running; stop it with `cargo xtask down`.
    #[arg(long)]
    pub detach: bool,
    /// Contacts in the simulated Keap.
    #[arg(long, default_value_t = 10_000)]
    pub contacts: u32,
    /// Another Keap for the workers to talk to: a proxy in front of the simulator, or the real one, which needs
    /// `KEAP_CLIENT_ID` and `KEAP_CLIENT_SECRET` in the environment.
    #[arg(long, value_name = "URL")]
    pub keap_api_url: Option<String>,
    /// Run the workers as they are deployed, small and fast; the first build of them takes minutes longer.
    #[arg(long)]
    pub release: bool,
    /// Put `PgBouncer` in transaction mode between the workers and the embedded Postgres, as Hyperdrive stands there in
    /// production.
    #[arg(long)]
    pub pooler: bool,
}

/// Brings the system up, runs the first sync, and stays until it is interrupted unless it is to detach.
pub async fn run(workspace: &Workspace, arguments: &DevArguments) -> Result<()> {
    let state_dir = workspace.dev_state_dir();
    if is_up(&state_dir).await? {
        say("The system is already up and healthy");
        print_addresses(&state_dir).await?;
        if arguments.detach {
            return Ok(());
        }
        say("Showing its activity; Ctrl-C ends the showing and leaves the system running");
        let api = recorded_access(&state_dir)?;
        return tokio::select! {
            shown = live::show(&api, DEV_ACCOUNT) => shown,
            interrupted = interruption() => interrupted,
        };
    }
    let outcome = tokio::select! {
        outcome = bring_up_and_stay(arguments, &state_dir) => outcome,
        interrupted = interruption() => interrupted.and_then(|()| {
            if arguments.detach { bail!("interrupted before the system was up") }
            say("Stopping everything that was started");
            Ok(())
        }),
    };
    if outcome.is_err() || !arguments.detach {
        down(&state_dir)?;
    }
    outcome
}

/// Stops the recorded system; true when there was one.
pub fn down(state_dir: &Path) -> Result<bool> {
    let Some(record) = SystemRecord::read(state_dir)? else { return Ok(false) };
    record.stop();
    SystemRecord::remove(state_dir)?;
    Ok(true)
}

async fn bring_up_and_stay(arguments: &DevArguments, state_dir: &Path) -> Result<()> {
    let started = Instant::now();
    let system = System::start(system_options(arguments)?).await?;
    let urls = system.urls();
    let api = AdminApi::new(&urls.coordinator, &urls.sync, &system.secrets().admin_api_token)?;
    if arguments.detach {
        start_supervisor(state_dir, &system.logs_dir())?;
    }
    let clock = async {
        if arguments.detach { std::future::pending().await } else { supervise::run(state_dir).await }
    };
    let main_job = async {
        connect(&api, arguments).await?;
        first_sync(&api).await?;
        say(format!("Up after {:.1} s", started.elapsed().as_secs_f64()));
        print_addresses(state_dir).await?;
        if arguments.keap_api_url.is_none() {
            print_things_to_try(urls);
        }
        if arguments.detach {
            say("Running in the background: `cargo xtask status` shows it, `cargo xtask down` stops it");
            return Ok(());
        }
        say("Watching; change a contact on either side and see it here. Ctrl-C stops everything");
        live::show(&api, DEV_ACCOUNT).await
    };
    tokio::select! {
        outcome = main_job => outcome,
        outcome = clock => outcome,
    }
}

fn system_options(arguments: &DevArguments) -> Result<SystemOptions> {
    let lifetime = if arguments.detach { Lifetime::Detached } else { Lifetime::WithParent };
    let database_url = std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty());
    let keap = keap_source(arguments.keap_api_url.as_deref(), |name| std::env::var(name).ok())?;
    if keap.is_simulated() && database_url.is_none() {
        detail("The simulated Keap starts anew each time, and so does its mirror in the embedded Postgres");
    }
    Ok(SystemOptions {
        contacts: arguments.contacts,
        fresh: keap.is_simulated() && database_url.is_none(),
        keap,
        recipe: if arguments.release { Recipe::Deployed } else { Recipe::Quick },
        database_url,
        pooler: arguments.pooler,
        ..SystemOptions::for_dev(lifetime)
    })
}

/// Which Keap an address means: Keap's own hosts are the real one, anything else stands in front of the simulator.
fn keap_source(url: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> Result<KeapSource> {
    let Some(url) = url else { return Ok(KeapSource::Simulator) };
    let parsed: reqwest::Url = url.parse().with_context(|| format!("--keap-api-url {url} is no URL"))?;
    let api_base_url = url.to_owned();
    let is_keap = |host: &str| host.ends_with("infusionsoft.com") || host.ends_with("keap.com");
    if !parsed.host_str().is_some_and(is_keap) {
        return Ok(KeapSource::SimulatorBehind { api_base_url });
    }
    match (variable("KEAP_CLIENT_ID"), variable("KEAP_CLIENT_SECRET")) {
        (Some(client_id), Some(client_secret)) => {
            Ok(KeapSource::Real { api_base_url, client_id, client_secret })
        }
        _ => bail!("the real Keap needs your OAuth application: set KEAP_CLIENT_ID and KEAP_CLIENT_SECRET"),
    }
}

async fn is_up(state_dir: &Path) -> Result<bool> {
    if SystemRecord::read(state_dir)?.is_none() {
        return Ok(false);
    }
    Ok(status::of(state_dir).await?.up)
}

fn recorded_access(state_dir: &Path) -> Result<AdminApi> {
    let record =
        SystemRecord::read(state_dir)?.context("no system is recorded: start one with `cargo xtask dev`")?;
    let secrets = crate::secrets::Secrets::of(state_dir)?;
    AdminApi::new(&record.urls.coordinator, &record.urls.sync, &secrets.admin_api_token)
}

/// The clock of a system that stays when this process ends.
fn start_supervisor(state_dir: &Path, logs: &Path) -> Result<()> {
    let program: PathBuf = std::env::current_exe().context("this program's own path is unknown")?;
    let mut command = Command::new(program);
    command.arg("supervise").arg(state_dir).current_dir(state_dir);
    let log = logs.join("supervisor.log");
    let service =
        Service::start("supervisor", &mut command, &log, Lifetime::Detached, StopSignal::Terminate)?;
    SystemRecord::add_part(state_dir, service.record().clone())
}

async fn connect(api: &AdminApi, arguments: &DevArguments) -> Result<()> {
    let is_real = matches!(
        keap_source(arguments.keap_api_url.as_deref(), |name| std::env::var(name).ok())?,
        KeapSource::Real { .. }
    );
    if !is_real {
        say(format!("Connecting the account `{DEV_ACCOUNT}` through OAuth, as a person would in a browser"));
        return api
            .connect_through_simulator(DEV_ACCOUNT)
            .await
            .context("the account could not be connected");
    }
    say("Open this link in a browser and approve; waiting until the account is connected:");
    detail(api.connect_link(DEV_ACCOUNT).await?);
    let deadline = Instant::now() + CONNECT_LIMIT;
    while !api.is_connected(DEV_ACCOUNT).await? {
        if Instant::now() > deadline {
            bail!("nobody connected the account within {} minutes", CONNECT_LIMIT.as_secs() / 60);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    Ok(())
}

async fn first_sync(api: &AdminApi) -> Result<()> {
    say("Running the first full sync");
    let started = Instant::now();
    let run_id = api.start_full_sync(DEV_ACCOUNT).await.context("the full sync could not be started")?;
    let run = follow(api, &run_id).await?;
    let seconds = run_seconds(&run).unwrap_or_else(|| started.elapsed().as_secs_f64());
    let counts = run.counts;
    if run.state != "completed" {
        let reason = run.error.map(|error| error.to_string()).unwrap_or_default();
        bail!("the full sync ended as {}: {reason}. See `GET /sync/runs/{run_id}` and the logs", run.state);
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
    let rate = counts.read as f64 / seconds.max(0.001);
    say(format!(
        "Synced {} contacts in {seconds:.2} s ({rate:.0}/s): {} created, {} updated, {} unchanged, {} deleted, {} conflicts, \
         {} rejected",
        counts.read,
        counts.created,
        counts.updated,
        counts.unchanged,
        counts.deleted,
        counts.conflicts,
        counts.rejected
    ));
    Ok(())
}

/// Waits for a run's end and prints how far it is.
async fn follow(api: &AdminApi, run_id: &str) -> Result<Run> {
    let deadline = Instant::now() + SYNC_LIMIT;
    let mut printed = Instant::now();
    loop {
        let run = api.run(DEV_ACCOUNT, run_id).await?;
        if run.is_over() {
            return Ok(run);
        }
        if printed.elapsed() >= SYNC_PRINT_INTERVAL {
            printed = Instant::now();
            detail(format!("{} contacts read", run.counts.read));
        }
        if Instant::now() > deadline {
            bail!("the full sync is still {} after {} s: see the logs", run.state, SYNC_LIMIT.as_secs());
        }
        tokio::time::sleep(SYNC_POLL_INTERVAL).await;
    }
}

/// How long a run took by its own record.
#[must_use]
pub fn run_seconds(run: &Run) -> Option<f64> {
    let started: jiff::Timestamp = run.started_at.as_deref()?.parse().ok()?;
    let finished: jiff::Timestamp = run.finished_at.as_deref()?.parse().ok()?;
    let seconds = finished.duration_since(started).as_secs_f64();
    (seconds > 0.0).then_some(seconds)
}

async fn print_addresses(state_dir: &Path) -> Result<()> {
    let status = status::of(state_dir).await?;
    for line in status.table().lines() {
        detail(line);
    }
    Ok(())
}

/// One change on either side, and where to see it arrive.
fn print_things_to_try(urls: &Urls) {
    say("Try it: change a contact in the database, and one in Keap");
    let edit = "update sync_contacts set job_title = 'Captain' where keap_id = '1'";
    detail(format!("psql '{}' -c \"{edit}\"", urls.database));
    let tenant = format!("{}/sim/tenants/{DEV_ACCOUNT}", urls.keap);
    detail(format!("curl '{tenant}/contacts/1'   # Keap's side of it, a second later"));
    detail(format!(
        "curl -X PATCH '{tenant}/contacts/2' -H 'content-type: application/json' -d '{{\"given_name\":\"Zoë\"}}'"
    ));
}

/// Waits for Ctrl-C or a polite request to end.
async fn interruption() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be waited for")?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted.context("Ctrl-C cannot be waited for"),
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keaps_own_hosts_are_the_real_keap_and_need_an_application() {
        let given = |name: &str| Some(format!("{name}-value"));
        assert_eq!(keap_source(None, |_| None).unwrap(), KeapSource::Simulator);
        let proxied = keap_source(Some("http://127.0.0.1:9000/crm"), |_| None).unwrap();
        assert!(proxied.is_simulated());
        let real = "https://api.infusionsoft.com/crm";
        assert!(!keap_source(Some(real), given).unwrap().is_simulated());
        assert!(keap_source(Some(real), |_| None).unwrap_err().to_string().contains("KEAP_CLIENT_ID"));
    }

    #[test]
    fn a_runs_duration_comes_from_its_own_times() {
        let times = |started: &str, finished: &str| Run {
            started_at: Some(started.to_owned()),
            finished_at: Some(finished.to_owned()),
            ..Run::default()
        };
        let run = times("2026-01-01T00:00:00.250Z", "2026-01-01T00:00:01Z");
        assert_eq!(run_seconds(&run), Some(0.75));
        assert_eq!(run_seconds(&Run::default()), None);
    }
}
