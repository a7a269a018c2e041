//! A delivery is followed by the number that it was answered with, from the hook to what became of it.

use anyhow::{Context as _, Result, ensure};
use keapsync_e2e::account::Account;
use keapsync_e2e::stage::Stage;
use keapsync_e2e::wait::until;
use serde_json::{Value, json};

/// The lines of an event in a worker's log.
async fn lines(stage: &Stage, worker: &str, event: &str) -> Result<Vec<Value>> {
    let path = format!("{}/{worker}.log", stage.access.logs);
    let bytes = tokio::fs::read(&path).await.with_context(|| path.clone())?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    // The runtime writes words and colours of its own around a line.
    let objects = text.lines().filter_map(|line| line.get(line.find('{')?..=line.rfind('}')?));
    let parsed = objects.filter_map(|object| serde_json::from_str::<Value>(object).ok());
    Ok(parsed.filter(|line| line["event"] == event).collect())
}

pub async fn what_became_of_a_delivery_names_its_trace(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "trace").await?;
    account.wait_for_quiet().await?;
    // What fails is logged at every level, and takes the same way as what does not.
    let fault = json!([{"kind": "status", "operation": "get_contact", "status": 400, "times": 1}]);
    account.keap.faults(&fault).await?;
    let id = "5000101";
    let answer = account.deliver("contact.edit", &[id]).await?;
    let trace = answer.headers.get("x-trace-id").and_then(|value| value.to_str().ok());
    let trace: i64 = trace.context("the delivery was answered without a trace")?.parse()?;
    let line = until("the line about the record", async || {
        let lines = lines(stage, "coordinator", "event_given_up").await?;
        Ok(lines.into_iter().find(|line| line["account"] == account.name.as_str()))
    })
    .await?;
    ensure!(line["trace"] == trace && line["keap_id"] == id, "the delivery was {trace}, the line is {line}");
    let other = account.deliver("contact.edit", &[id]).await?;
    let other = other.headers.get("x-trace-id").and_then(|value| value.to_str().ok()).map(str::to_owned);
    ensure!(other.is_some_and(|other| other != trace.to_string()), "two deliveries have one trace");
    account.wait_for_quiet().await
}
