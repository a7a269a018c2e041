//! A long queue of hook events: taken in while the account is paused, drained when it resumes, and what memory that takes.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use reqwest::Method;
use tokio::time::Instant;

use super::memory::{MEGABYTE, WASM_MEMORY, Watch, gauge};
use super::processes;
use super::report::{Measurement, Target};
use super::testbed::Testbed;
use crate::send_hook::delivery_body;
use crate::system::DEV_ACCOUNT;
use crate::worker_build::Worker;

/// Objects of one delivery: Keap's own limit.
const BATCH: usize = 1_000;

/// How much the workers may grow by while they drain, in megabytes: their own memory and the runtime's heaps, of which none may
/// depend on how long the queue is.
const GROWTH_MAX_MB: f64 = 64.0;

/// Queues every contact, and drains them.
pub async fn measure(testbed: &Testbed, measurement: &mut Measurement) -> Result<()> {
    let rows = testbed
        .database
        .query(
            "select keap_id from sync_contacts where account_id = $1 and deleted_at is null order by md5(keap_id)",
            &[&DEV_ACCOUNT],
        )
        .await?;
    let ids: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    measurement.condition(format!(
        "the account is paused, {} events of as many contacts are delivered, {BATCH} at a time, and the account is resumed; \
         memory is that of the whole process of the workers",
        ids.len()
    ));
    testbed.account_call("pause").await?;
    let slowest = fill(testbed, &ids).await?;
    measurement.figure("slowest delivery of 1,000 objects", slowest * 1e3, "ms");
    let queued = testbed.events("open").await?;
    measurement.check_equal("events that wait", queued, u64::try_from(ids.len())?);

    let wasm_before = coordinator_memory(testbed).await?;
    let watched = processes::worker_processes(&testbed.parts());
    let before: BTreeMap<String, f64> = watched
        .iter()
        .filter_map(|part| Some((part.name.clone(), processes::memory(part.pid)?.resident_bytes)))
        .collect();
    let calls_before = testbed.keap.calls().await?;
    let watch = Watch::start(watched);
    let begun = Instant::now();
    testbed.account_call("resume").await?;
    let drained = testbed
        .until("the end of the queue", async || Ok((testbed.events("open").await? == 0).then_some(())))
        .await;
    let seconds = begun.elapsed().as_secs_f64();
    let peaks = watch.end()?;
    drained?;
    testbed.wait_for_quiet().await?;

    measurement.figure("until all were drained", seconds, "s");
    measurement.figure("drained", f64::from(u32::try_from(ids.len())?) / seconds, "/s");
    let calls = testbed.keap.calls().await?.saturating_sub(calls_before);
    measurement.figure("calls to Keap", f64::from(u32::try_from(calls)?), "calls");
    for (name, peak) in &peaks {
        let grown = peak.resident_bytes - before.get(name).copied().unwrap_or_default();
        let target = Target::Under(GROWTH_MAX_MB);
        measurement.figure_with_target(
            format!("{name}: RSS growth"),
            grown.max(0.0) / MEGABYTE,
            "MB",
            target,
        );
    }
    let wasm_after = coordinator_memory(testbed).await?;
    measurement.figure("coordinator: WebAssembly memory before", wasm_before / MEGABYTE, "MB");
    measurement.figure("coordinator: WebAssembly memory after", wasm_after / MEGABYTE, "MB");
    measurement.check_equal("events that became dead letters", testbed.events("dead").await?, 0);
    Ok(())
}

/// Delivers all ids; the longest that one delivery took, in seconds.
async fn fill(testbed: &Testbed, ids: &[String]) -> Result<f64> {
    let url = testbed.hook_url()?;
    let mut slowest: f64 = 0.0;
    for batch in ids.chunks(BATCH) {
        let begun = Instant::now();
        let request = testbed.http.post(&url).json(&delivery_body("contact.edit", batch));
        request.send().await?.error_for_status().context("a delivery was refused")?;
        slowest = slowest.max(begun.elapsed().as_secs_f64());
    }
    Ok(slowest)
}

async fn coordinator_memory(testbed: &Testbed) -> Result<f64> {
    let metrics = testbed.metrics(Worker::Coordinator).await?;
    gauge(&metrics, WASM_MEMORY).with_context(|| format!("the coordinator tells no {WASM_MEMORY}"))
}

impl Testbed {
    /// Asks the account's object for something that needs no body.
    async fn account_call(&self, what: &str) -> Result<()> {
        let url = format!("{}/coordinator/{DEV_ACCOUNT}/{what}", self.coordinator_url());
        self.api.call(Method::POST, &url, None).await.map(drop)
    }
}
