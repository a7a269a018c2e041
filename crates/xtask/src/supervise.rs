//! The clock of a local system: `wrangler dev` never fires crons, so this does.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::time::{Instant, MissedTickBehavior};

use crate::http;
use crate::progress::detail;
use crate::system::SystemRecord;

/// The cron expression of the watchdog.
pub const WATCHDOG_CRON: &str = "* * * * *";

/// The cron expression of the incremental sync.
pub const INCREMENTAL_CRON: &str = "*/30 * * * *";

/// How often the watchdog's cron fires.
const MINUTE: Duration = Duration::from_mins(1);

/// Of how many minutes one also fires the incremental sync.
const INCREMENTAL_EVERY_MINUTES: u64 = 30;

/// Fires one of the sync worker's cron expressions, and gives it up when the next minute's is due.
pub async fn fire_cron(sync_url: &str, cron: &str) -> Result<()> {
    fire_cron_within(MINUTE, sync_url, cron).await
}

/// As [`fire_cron`], with a limit of one's own to how long what it does may take.
pub async fn fire_cron_within(limit: Duration, sync_url: &str, cron: &str) -> Result<()> {
    let response = http::client()?
        .get(format!("{sync_url}/cdn-cgi/handler/scheduled"))
        .query(&[("cron", cron)])
        .timeout(limit)
        .send()
        .await
        .context("the sync worker does not answer")?;
    if !response.status().is_success() {
        bail!("the sync worker answered {} to its cron", response.status());
    }
    Ok(())
}

/// Fires the crons of a recorded system for as long as the system is there.
pub async fn run(state_dir: &Path) -> Result<()> {
    let mut interval = tokio::time::interval_at(Instant::now() + MINUTE, MINUTE);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for minute in 1_u64.. {
        interval.tick().await;
        let Some(record) = SystemRecord::read(state_dir)? else { return Ok(()) };
        if let Err(error) = fire_cron(&record.urls.sync, WATCHDOG_CRON).await {
            detail(format!("cron: {error:#}"));
        }
        if minute.is_multiple_of(INCREMENTAL_EVERY_MINUTES)
            && let Err(error) = fire_cron(&record.urls.sync, INCREMENTAL_CRON).await
        {
            detail(format!("cron: {error:#}"));
        }
    }
    Ok(())
}
