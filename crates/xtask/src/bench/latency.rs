//! How long one change takes from one side to the other, without any load.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::report::{Measurement, Target};
use super::samples::Samples;
use super::testbed::Testbed;
use crate::send_hook::delivery_body;
use crate::system::DEV_ACCOUNT;

/// Changes that are measured, one after another, each of another contact.
const SAMPLES: u32 = 100;

/// Changes before them that are not counted: they load code and fill caches.
const WARM_UP: u32 = 5;

/// Pause between two looks. Looks without a pause would take a processor away from what is measured.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// How long one change may take before the benchmark gives up.
const PATIENCE: Duration = Duration::from_mins(1);

/// The median wanted from a hook to the row, in milliseconds.
const HOOK_TO_ROW_MS: f64 = 300.0;

/// The median wanted from a row to Keap, in milliseconds.
const ROW_TO_KEAP_MS: f64 = 2_000.0;

/// A contact on both sides.
struct Contact {
    keap_id: String,
    row_id: String,
}

/// Measures from the delivery of a hook to the row that shows the change.
pub async fn measure_hook_to_row(testbed: &Testbed, measurement: &mut Measurement) -> Result<()> {
    measurement.condition(
        "the contact is changed in the simulator with its own hooks lost; the clock runs from just before the delivery is \
         sent to the webhook handler until a SELECT by primary key (another connection, not the engine's role, a look every \
         1 to 2 ms) shows the change",
    );
    testbed.keap.lose_hooks().await?;
    let outcome = hook_to_row(testbed).await;
    testbed.keap.clear_faults().await?;
    let (visible, answered) = outcome?;
    measurement.figure_with_target(
        "hook to row, median",
        visible.median_ms(),
        "ms",
        Target::Under(HOOK_TO_ROW_MS),
    );
    add_tail(measurement, "hook to row", &visible);
    measurement.figure("the handler's answer, median", answered.median_ms(), "ms");
    Ok(())
}

async fn hook_to_row(testbed: &Testbed) -> Result<(Samples, Samples)> {
    let (person, url) = (testbed.connect_as_person().await?, testbed.hook_url()?);
    let look = person.prepare("select job_title from sync_contacts where id = $1::text::uuid").await?;
    let (mut visible, mut answered) = (Vec::new(), Vec::new());
    for (number, contact) in (0_u32..).zip(contacts(testbed).await?) {
        let title = format!("Hooked {number}");
        testbed.keap.edit(&contact.keap_id, &json!({"job_title": title})).await?;
        let body = delivery_body("contact.edit", std::slice::from_ref(&contact.keap_id));
        let request = testbed.http.post(&url).json(&body);
        let started = Instant::now();
        let delivery = tokio::spawn(async move {
            let answer = request.send().await?;
            Ok::<_, reqwest::Error>((answer.status(), started.elapsed()))
        });
        loop {
            let row = person.query_one(&look, &[&contact.row_id]).await?;
            if row.get::<_, Option<&str>>(0) == Some(&title) {
                break;
            }
            if started.elapsed() > PATIENCE {
                bail!(
                    "contact {} did not change in its row within {} s",
                    contact.keap_id,
                    PATIENCE.as_secs()
                );
            }
            sleep(LOOK_INTERVAL).await;
        }
        let time = started.elapsed();
        let (status, answer_time) = delivery.await.context("a delivery was not sent")??;
        if status != 200 {
            bail!("the webhook handler answered {status}");
        }
        if number >= WARM_UP {
            visible.push(time);
            answered.push(answer_time);
        }
    }
    Ok((visible.into_iter().collect(), answered.into_iter().collect()))
}

/// Measures from a person's edit to the change in Keap.
pub async fn measure_row_to_keap(testbed: &Testbed, measurement: &mut Measurement) -> Result<()> {
    measurement.condition(
        "the clock runs from just before the UPDATE until the simulator's own view of the contact (a look every 1 to 2 ms) \
         shows the change; edits are spread evenly over the outbox's poll interval (OUTBOX_POLL_INTERVAL_MAX_MS 1000, no \
         pg_net to wake it)",
    );
    let person = testbed.connect_as_person().await?;
    let edit = person.prepare("update sync_contacts set job_title = $2 where id = $1::text::uuid").await?;
    let mut times = Vec::new();
    for (number, contact) in (0_u32..).zip(contacts(testbed).await?) {
        // Without this, each edit would come right after the look that found the one before.
        sleep(spread(number)).await;
        let title = format!("Edited {number}");
        let started = Instant::now();
        let changed = person.execute(&edit, &[&contact.row_id, &title]).await?;
        if changed != 1 {
            bail!("the UPDATE changed {changed} rows");
        }
        loop {
            let kept = testbed.keap.contact(&contact.keap_id).await?;
            if kept.get("job_title").and_then(Value::as_str) == Some(&title) {
                break;
            }
            if started.elapsed() > PATIENCE {
                bail!("contact {} did not change in Keap within {} s", contact.keap_id, PATIENCE.as_secs());
            }
            sleep(LOOK_INTERVAL).await;
        }
        if number >= WARM_UP {
            times.push(started.elapsed());
        }
    }
    let times: Samples = times.into_iter().collect();
    measurement.figure_with_target(
        "row to Keap, median",
        times.median_ms(),
        "ms",
        Target::Under(ROW_TO_KEAP_MS),
    );
    add_tail(measurement, "row to Keap", &times);
    testbed.wait_for_quiet().await
}

fn add_tail(measurement: &mut Measurement, name: &str, samples: &Samples) {
    measurement.figure(format!("{name}, p95"), samples.percentile_ms(95), "ms");
    measurement.figure(format!("{name}, max"), samples.max_ms(), "ms");
    measurement.check_equal(format!("samples of {name}"), samples.count() as u64, u64::from(SAMPLES));
}

/// Pauses from 0 to 1 s that fill the interval evenly: multiples of the golden ratio, without their whole part.
fn spread(number: u32) -> Duration {
    let position = (f64::from(number) * 0.618_033_988_749_895).fract();
    Duration::from_secs_f64(position)
}

async fn contacts(testbed: &Testbed) -> Result<Vec<Contact>> {
    let wanted = i64::from(SAMPLES + WARM_UP);
    let rows = testbed
        .database
        .query(
            "select keap_id, id::text from sync_contacts where account_id = $1 and deleted_at is null \
             order by keap_id::bigint limit $2",
            &[&DEV_ACCOUNT, &wanted],
        )
        .await?;
    if i64::try_from(rows.len()) != Ok(wanted) {
        bail!("this needs {wanted} contacts, and there are {}: give a larger --contacts", rows.len());
    }
    Ok(rows.iter().map(|row| Contact { keap_id: row.get(0), row_id: row.get(1) }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::samples::milliseconds;

    #[test]
    fn pauses_fill_the_interval_evenly() {
        let pauses: Samples = (0..SAMPLES).map(spread).collect();
        assert!(milliseconds(pauses.percentile(100)) < 1000.0);
        for quarter in [25, 50, 75] {
            let expected = f64::from(u32::try_from(quarter).unwrap()) * 10.0;
            assert!((milliseconds(pauses.percentile(quarter)) - expected).abs() < 30.0, "{quarter}");
        }
    }
}
