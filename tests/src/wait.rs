//! Waiting for what is to come: asked again and again until a deadline, never slept for.

use anyhow::{Result, anyhow};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, sleep};

/// How often a condition is asked.
const INTERVAL: Duration = Duration::from_millis(25);

/// How long anything may take before a test fails. Far above what is normal, because test machines are busy.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Asks until `condition` answers with a value. Errors of the condition count as "not yet"; the last one is told when the
/// deadline passes.
pub async fn until<T>(what: &str, condition: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    until_within(PATIENCE, what, condition).await
}

/// As [`until`], with a patience of one's own.
pub async fn until_within<T>(
    patience: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        let last = match condition().await {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if Instant::now() >= deadline {
            let why = last.map(|error| format!(": {error:#}")).unwrap_or_default();
            return Err(anyhow!("waited {} s for {what}, in vain{why}", patience.as_secs()));
        }
        sleep(INTERVAL).await;
    }
}

/// Does what counts by the day, and does it once more where it failed and the day (in UTC) was another at its end than at its
/// beginning: its counts began anew in the middle.
pub async fn within_a_day(part: impl AsyncFn() -> Result<()>) -> Result<()> {
    let began_on = today();
    match part().await {
        Err(_) if today() != began_on => part().await,
        outcome => outcome,
    }
}

/// Whole days since 1970.
fn today() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400)
}
