//! How many deliveries the webhook handler takes.
//!
//! The load is open: deliveries are sent at their scheduled moments whether or not earlier ones were answered, and each
//! latency counts from its scheduled moment, so that a stall shows in every delivery that it held up.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use reqwest::{Client, StatusCode};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::processes::{self, Part};
use super::report::{Measurement, Target};
use super::samples::Samples;
use super::testbed::Testbed;
use crate::http;
use crate::progress::detail;
use crate::send_hook::delivery_body;
use crate::system::DEV_ACCOUNT;

/// Deliveries per second that the handler has to take.
const RATE_PER_SECOND: u32 = 500;

/// How long it has to take them.
const DURATION_S: u32 = 20;

/// Deliveries per second of the storm, and how long it lasts: what is not taken at once may be answered with 503, but nothing that was
/// answered with 200 may be lost.
const STORM_PER_SECOND: u32 = 1_000;
const STORM_DURATION_S: u32 = 60;

/// Rates that are tried to find the highest one, in deliveries per second.
const STEPS_PER_SECOND: [u32; 12] = [100, 200, 300, 400, 500, 600, 800, 1_000, 1_250, 1_500, 2_000, 3_000];

/// How long each step lasts.
const STEP_DURATION_S: u32 = 5;

/// The latency that 99 of 100 deliveries have to stay under, in milliseconds.
const P99_MS: f64 = 50.0;

/// Of the rate that was asked for, how much has to be achieved for a step to count as sustained.
const ACHIEVED_SHARE: f64 = 0.98;

/// Connections that deliveries share. The platform's edge keeps its own; without a bound each stall would open hundreds of new ones here,
/// and what the local runtime's short queue of them drops comes back a second later, which is TCP's doing and not the workers'.
const CONNECTIONS: usize = 64;

/// Deliveries before the clock starts, a whole round of what is measured: connections are made, the runtime compiles what it sees often
/// a second time, for speed, and its heaps find their size.
const WARM_UP_DELIVERIES: u32 = RATE_PER_SECOND * DURATION_S;

/// How long one delivery may take before it counts as failed.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// How much slower Keap is made so that the drain waits: under the workers' own limit for one call, so that none fails.
const SLOW_KEAP_MS: u64 = 20_000;

/// What one burst of load gave.
#[derive(Debug)]
struct Burst {
    latencies: Samples,
    /// Deliveries that were not answered with 200.
    failed: u64,
    /// Of these, answered with 503: Keap sends them again.
    refused: u64,
    /// Deliveries per second, from the first one's moment to the last one's answer.
    achieved: f64,
    /// Processor time of the workers for one delivery, in milliseconds.
    worker_ms: f64,
}

/// Measures the wanted rate and the highest one, with the drain at work and without it.
pub async fn measure(testbed: &Testbed, measurement: &mut Measurement) -> Result<()> {
    measurement.condition(format!(
        "open loop at a constant rate over {CONNECTIONS} kept connections, one contact per delivery, each delivery another existing \
         contact; latencies count from the scheduled moment; {WARM_UP_DELIVERIES} deliveries before the clock starts",
    ));
    measurement.condition(
        "with drain: the account's object fetches the delivered contacts from the simulator and merges them meanwhile. \
         Intake only: Keap answers 20 s late, so the drain waits",
    );
    measurement.condition(format!(
        "highest rate: steps of {STEP_DURATION_S} s; the last one with p99 under {P99_MS} ms, no answer but 200, and \
         {:.0} % of the rate achieved",
        ACHIEVED_SHARE * 100.0
    ));
    let source = Source::new(testbed).await?;
    with_drain(testbed, measurement, &source).await?;
    storm(testbed, measurement, &source).await?;
    testbed.keap.slow_down(SLOW_KEAP_MS).await?;
    let outcome = intake_only(measurement, &source).await;
    testbed.keap.clear_faults().await?;
    outcome?;
    testbed.wait_for_quiet().await?;
    measurement.check_equal("events that became dead letters", testbed.events("dead").await?, 0);
    let refused = "select count(*) from sync_queue where account_id = $1 and status = 'failed'";
    measurement.check_equal("contacts that could not be applied", testbed.count(refused).await?, 0);
    Ok(())
}

async fn with_drain(testbed: &Testbed, measurement: &mut Measurement, source: &Source) -> Result<()> {
    source.burst(RATE_PER_SECOND, WARM_UP_DELIVERIES).await?;
    testbed.wait_for_quiet().await?;
    let calls_before = testbed.keap.calls().await?;
    let burst = source.burst(RATE_PER_SECOND, RATE_PER_SECOND * DURATION_S).await?;
    let waiting = testbed.events("open").await?;
    burst.report(measurement, "with drain");
    measurement.figure("with drain: events waiting at the end", count(waiting), "events");
    let drained = Instant::now();
    testbed.wait_for_quiet().await?;
    measurement.figure("with drain: until they were drained", drained.elapsed().as_secs_f64(), "s");
    let calls = testbed.keap.calls().await?.saturating_sub(calls_before);
    measurement.figure("with drain: calls to Keap", count(calls), "calls");
    measurement.check("the drain asked Keap for what was delivered", calls > 0, format!("{calls} calls"));
    let highest = highest_rate(source, Some(testbed)).await?;
    measurement.figure("with drain: highest sustained rate", f64::from(highest), "/s");
    Ok(())
}

/// A minute of more than is ever to be expected, while the object drains.
async fn storm(testbed: &Testbed, measurement: &mut Measurement, source: &Source) -> Result<()> {
    testbed.wait_for_quiet().await?;
    let counted_before = stored_today(testbed).await?;
    let burst = source.burst(STORM_PER_SECOND, STORM_PER_SECOND * STORM_DURATION_S).await?;
    let name = "storm";
    measurement.figure(format!("{name}: achieved rate"), burst.achieved, "/s");
    measurement.figure(format!("{name}: p50"), burst.latencies.median_ms(), "ms");
    let p99 = burst.latencies.percentile_ms(99);
    measurement.figure_with_target(format!("{name}: p99"), p99, "ms", Target::Under(P99_MS));
    measurement.figure(format!("{name}: max"), burst.latencies.max_ms(), "ms");
    measurement.figure(format!("{name}: answered with 503"), count(burst.refused), "deliveries");
    let others = burst.failed - burst.refused;
    measurement.check_equal(format!("{name}: answered with neither 200 nor 503"), others, 0);
    testbed.wait_for_quiet().await?;
    let stored = stored_today(testbed).await?.saturating_sub(counted_before);
    let accepted = u64::from(STORM_PER_SECOND * STORM_DURATION_S) - burst.failed;
    measurement.check_equal(
        format!("{name}: deliveries stored, of those answered with 200"),
        stored,
        accepted,
    );
    Ok(())
}

/// Deliveries that the account's object has stored today.
async fn stored_today(testbed: &Testbed) -> Result<u64> {
    let status = testbed.api.account_status(DEV_ACCOUNT).await?;
    let hooks = status.get("hooks").and_then(serde_json::Value::as_array).context("no hooks in status")?;
    let stored = hooks.iter().filter_map(|hook| hook.pointer("/today/deliveries")?.as_u64());
    Ok(stored.sum())
}

async fn intake_only(measurement: &mut Measurement, source: &Source) -> Result<()> {
    source.burst(RATE_PER_SECOND, WARM_UP_DELIVERIES).await?;
    let burst = source.burst(RATE_PER_SECOND, RATE_PER_SECOND * DURATION_S).await?;
    burst.report(measurement, "intake only");
    let highest = highest_rate(source, None).await?;
    measurement.figure("intake only: highest sustained rate", f64::from(highest), "/s");
    Ok(())
}

/// Tries one rate after another; zero when not even the first is sustained. With a testbed, each step starts quiet.
async fn highest_rate(source: &Source, drained: Option<&Testbed>) -> Result<u32> {
    let mut highest = 0;
    for rate in STEPS_PER_SECOND {
        if let Some(testbed) = drained {
            testbed.wait_for_quiet().await?;
        }
        let burst = source.burst(rate, rate * STEP_DURATION_S).await?;
        detail(format!(
            "{rate}/s: achieved {:.0}/s, p99 {:.1} ms, {} failed, {:.2} ms of the workers' processor time each",
            burst.achieved,
            burst.latencies.percentile_ms(99),
            burst.failed,
            burst.worker_ms
        ));
        if !burst.is_sustained(rate) {
            break;
        }
        highest = rate;
    }
    Ok(highest)
}

impl Burst {
    fn is_sustained(&self, rate: u32) -> bool {
        let fast = self.latencies.percentile_ms(99) < P99_MS;
        fast && self.failed == 0 && self.achieved >= f64::from(rate) * ACHIEVED_SHARE
    }

    fn report(&self, measurement: &mut Measurement, name: &str) {
        let wanted = Target::AtLeast(f64::from(RATE_PER_SECOND) * ACHIEVED_SHARE);
        measurement.figure_with_target(format!("{name}: achieved rate"), self.achieved, "/s", wanted);
        measurement.figure(format!("{name}: p50"), self.latencies.median_ms(), "ms");
        let p99 = self.latencies.percentile_ms(99);
        measurement.figure_with_target(format!("{name}: p99"), p99, "ms", Target::Under(P99_MS));
        measurement.figure(format!("{name}: max"), self.latencies.max_ms(), "ms");
        let name_of_time = format!("{name}: processor time of the workers, a delivery");
        measurement.figure(name_of_time, self.worker_ms, "ms");
        measurement.check_equal(format!("{name}: deliveries not answered with 200"), self.failed, 0);
    }
}

/// Where deliveries come from and go to.
#[derive(Debug)]
struct Source {
    http: Client,
    url: String,
    ids: Vec<String>,
    /// The processes that work on what is sent.
    parts: Vec<Part>,
}

impl Source {
    async fn new(testbed: &Testbed) -> Result<Self> {
        let rows = testbed
            .database
            .query(
                "select keap_id from sync_contacts where account_id = $1 and deleted_at is null order by md5(keap_id)",
                &[&DEV_ACCOUNT],
            )
            .await?;
        let ids: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let needed = RATE_PER_SECOND * DURATION_S;
        if ids.len() < usize::try_from(needed)? {
            bail!("this needs {needed} contacts, and there are {}: give a larger --contacts", ids.len());
        }
        Ok(Self { http: http::client()?, url: testbed.hook_url()?, ids, parts: testbed.parts() })
    }

    /// Sends `deliveries` at `rate` per second and waits for all answers.
    async fn burst(&self, rate: u32, deliveries: u32) -> Result<Burst> {
        let interval = Duration::from_secs(1) / rate;
        let times_before = processes::processor_times(&self.parts);
        let connections = Arc::new(Semaphore::new(CONNECTIONS));
        let mut flying = JoinSet::new();
        let started = Instant::now();
        for (number, id) in (0..deliveries).zip(self.ids.iter().cycle()) {
            let due = started + interval * number;
            sleep_until(due).await;
            let body = delivery_body("contact.edit", std::slice::from_ref(id));
            let request = self.http.post(&self.url).json(&body).timeout(ANSWER_LIMIT);
            let connections = Arc::clone(&connections);
            flying.spawn(async move {
                // Waiting for one counts: the delivery's moment has come.
                let _connection = connections.acquire().await;
                let status = match request.send().await {
                    Ok(answer) => {
                        let status = answer.status();
                        // The connection is free for the next delivery only when the body was read.
                        answer.bytes().await.ok().map(|_| status)
                    }
                    Err(_) => None,
                };
                (due.elapsed(), status)
            });
        }
        let mut latencies = Vec::new();
        let (mut failed, mut refused) = (0, 0);
        while let Some(outcome) = flying.join_next().await {
            let (latency, status) = outcome.context("a delivery was not sent")?;
            latencies.push(latency);
            failed += u64::from(status != Some(StatusCode::OK));
            refused += u64::from(status == Some(StatusCode::SERVICE_UNAVAILABLE));
        }
        let achieved = f64::from(deliveries) / started.elapsed().as_secs_f64();
        let used = processes::seconds_since(&times_before, &self.parts);
        let worker_ms = processes::worker_seconds(&used) * 1000.0 / f64::from(deliveries);
        Ok(Burst { latencies: latencies.into_iter().collect(), failed, refused, achieved, worker_ms })
    }
}

fn count(value: u64) -> f64 {
    u32::try_from(value).map_or(f64::MAX, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn burst(latency_ms: u64, failed: u64, achieved: f64) -> Burst {
        Burst {
            latencies: [Duration::from_millis(latency_ms)].into_iter().collect(),
            failed,
            refused: 0,
            achieved,
            worker_ms: 0.0,
        }
    }

    #[test]
    fn a_rate_is_sustained_only_when_fast_complete_and_achieved() {
        assert!(burst(49, 0, 595.0).is_sustained(600));
        assert!(!burst(50, 0, 600.0).is_sustained(600));
        assert!(!burst(5, 1, 600.0).is_sustained(600));
        assert!(!burst(5, 0, 580.0).is_sustained(600));
    }

    #[tokio::test]
    async fn a_stall_shows_in_the_deliveries_it_held_up() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        // One connection at a time, and the first answer late: what waits behind it is late, too.
        let server = tokio::spawn(async move {
            let stalled_until = Instant::now() + Duration::from_millis(300);
            for _ in 0..20 {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 4096];
                let _length = stream.read(&mut request).await.unwrap();
                sleep_until(stalled_until).await;
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nOK")
                    .await
                    .unwrap();
            }
        });
        let source =
            Source { http: http::client().unwrap(), url, ids: vec!["1".to_owned()], parts: Vec::new() };
        let burst = source.burst(100, 20).await.unwrap();
        server.await.unwrap();
        assert_eq!((burst.latencies.count(), burst.failed), (20, 0));
        // The twentieth was scheduled 190 ms after the first and answered after the stall: at least 110 ms.
        assert!(burst.latencies.percentile(1) >= Duration::from_millis(100), "{burst:?}");
        assert!(burst.achieved < 100.0, "{burst:?}");
    }
}
