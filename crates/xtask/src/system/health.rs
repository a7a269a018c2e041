//! Waiting until a part answers, with an error that shows why it does not.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::Instant;

use crate::http;
use crate::process::Service;

/// How long a worker may take: wrangler's own start on a busy machine.
pub(super) const WORKER_START_LIMIT: Duration = Duration::from_mins(2);

/// How long the simulator may take: it makes its data first.
pub(super) const KEAP_START_LIMIT: Duration = Duration::from_mins(1);

/// How often a starting part is asked.
const INTERVAL: Duration = Duration::from_millis(100);

/// The lines of a log that an error shows.
const LOG_LINES: usize = 20;

/// What counts as an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    /// Anything: the part runs.
    AnyAnswer,
    /// Success: the part and what it depends on work.
    Success,
}

/// Waits until a part answers.
pub(super) async fn wait_for_answer(
    service: &mut Service,
    url: &str,
    readiness: Readiness,
    limit: Duration,
) -> Result<()> {
    let client = http::client()?;
    let deadline = Instant::now() + limit;
    let name = service.record().name.clone();
    loop {
        let last = match client.get(url).timeout(Duration::from_secs(10)).send().await {
            Ok(response) if readiness == Readiness::AnyAnswer || response.status().is_success() => {
                return Ok(());
            }
            Ok(response) => {
                let status = response.status();
                format!("it answers {status}: {}", response.text().await.unwrap_or_default())
            }
            Err(error) => format!("{:#}", anyhow::Error::from(error)),
        };
        let log = service.record().log.clone();
        if !service.is_running() {
            bail!(
                "{name} ended while it was starting. The end of {}:\n{}",
                log.display(),
                service.log_tail(LOG_LINES)
            );
        }
        if Instant::now() > deadline {
            bail!(
                "{name} is not healthy after {} s: {last}. The end of {}:\n{}",
                limit.as_secs(),
                log.display(),
                service.log_tail(LOG_LINES)
            );
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
