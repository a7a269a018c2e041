//! One change is followed through the logs of two workers by the number that its delivery was answered with.

use anyhow::{Context as _, Result, ensure};
use keapsync_e2e::account::Account;
use keapsync_e2e::stage::Stage;
use keapsync_e2e::wait::until;
use keapsync_xtask::system::SystemOptions;
use keapsync_xtask::worker_build::Worker;
use serde_json::{Value, json};

/// Makes the workers say every step, as somebody does who follows a change.
pub fn with_every_step_logged(options: SystemOptions) -> SystemOptions {
    let options = options.with_variable(Worker::Coordinator, "LOG_LEVEL", "debug");
    options.with_variable(Worker::Webhook, "LOG_LEVEL", "debug")
}

/// The lines of an event in a worker's log.
async fn lines(stage: &Stage, worker: &str, event: &str) -> Result<Vec<Value>> {
    let path = format!("{}/{worker}.log", stage.access.logs);
    let bytes = tokio::fs::read(&path).await.with_context(|| path.clone())?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    // The runtime may write its own words before a line.
    let parsed =
        text.lines().filter_map(|line| serde_json::from_str::<Value>(line.get(line.find('{')?..)?).ok());
    Ok(parsed.filter(|line| line["event"] == event).collect())
}

pub async fn a_delivery_is_followed_from_the_hook_to_the_row(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "trace").await?;
    let id = account.keap.add(&json!({"given_name": "Tess", "email_addresses": [{"field": "EMAIL1", "email": "tess@x.example"}]})).await?;
    let answer = account.deliver("contact.edit", &[&id]).await?;
    let trace = answer.headers.get("x-trace-id").and_then(|value| value.to_str().ok());
    let trace: i64 = trace.context("the delivery was answered without a trace")?.parse()?;
    account.wait_for_row(&id, "the row", |row| row["first_name"] == "Tess").await?;
    let stored = until("the stored delivery in the log", async || {
        Ok(lines(stage, "webhook", "hook_stored").await?.into_iter().find(|line| line["trace"] == trace))
    })
    .await?;
    ensure!(stored["account"] == account.name.as_str(), "{stored}");
    // Keap's own hook about the new contact may have renewed the trace: then the reading answers both, under the newer.
    let applied = until("the applied record in the log", async || {
        let lines = lines(stage, "coordinator", "event_applied").await?;
        Ok(lines
            .into_iter()
            .find(|line| line["keap_id"] == id.as_str() && line["account"] == account.name.as_str()))
    })
    .await?;
    ensure!(applied["trace"].as_i64().is_some() && applied["entity"] == "contact", "{applied}");
    let fetched = lines(stage, "coordinator", "events_fetched").await?;
    ensure!(
        fetched.iter().any(|line| line["batch"] == applied["batch"]),
        "no reading of this batch: {applied}"
    );
    Ok(())
}
