//! What the capture of a person's edit costs: the same single-row update with and without the capture trigger, turn by turn.
//!
//! Both kinds stand in the same minutes of the same server, in short blocks by turns, so that whatever else the machine does
//! meets both alike.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::Instant;
use tokio_postgres::Client;

use super::report::{Measurement, Target};
use super::samples::{Samples, milliseconds};
use crate::database;

/// Pairs of blocks.
const PAIRS: usize = 40;

/// Updates of each block.
const UPDATES: usize = 25;

/// The part of a single-row update that its capture may cost, in percent.
const PERCENT_MAX: f64 = 30.0;

/// The edit: one column of one row, by its key, in a transaction of its own.
const UPDATE: &str = "update public.sync_contacts set job_title = $2 where id = $1::text::uuid";

/// Measures as the database's owner, a person to the triggers.
pub async fn measure(owner_url: &str, measurement: &mut Measurement) -> Result<()> {
    let person = database::connect(owner_url).await?;
    let trigger: String = person
        .query_one(
            "select tgname::text from pg_trigger
             where tgrelid = 'public.sync_contacts'::regclass and tgfoid = 'public.keapsync_capture_contacts'::regproc
                 and tgtype & 16 <> 0",
            &[],
        )
        .await
        .context("there is no capture trigger for updates")?
        .get(0);
    let ids = person
        .query(
            "select id::text from public.sync_contacts where deleted_at is null order by id limit $1",
            &[&i64::try_from(PAIRS * UPDATES * 2 + PAIRS * 2)?],
        )
        .await?;
    let ids: Vec<String> = ids.iter().map(|row| row.get(0)).collect();
    measurement.condition(format!(
        "capture: {} updates of one column of one row by key with the capture trigger and as many without, in blocks of {UPDATES} by \
         turns, each a transaction of its own; median of the blocks' medians",
        PAIRS * UPDATES
    ));
    for (name, setting, target) in [
        ("each flushed to disk", "on", Some(Target::Under(PERCENT_MAX))),
        ("without waiting for the disk", "off", None),
    ] {
        person.batch_execute(&format!("set synchronous_commit = {setting}")).await?;
        let (with, without) = blocks(&person, &trigger, &ids).await?;
        let cost = (milliseconds(with) / milliseconds(without) - 1.0) * 100.0;
        measurement.figure(format!("update with capture, {name}"), milliseconds(with), "ms");
        measurement.figure(format!("update without capture, {name}"), milliseconds(without), "ms");
        let name = format!("cost of capture, {name}");
        match target {
            Some(target) => measurement.figure_with_target(name, cost, "%", target),
            None => measurement.figure(name, cost, "%"),
        }
    }
    Ok(())
}

async fn blocks(person: &Client, trigger: &str, ids: &[String]) -> Result<(Duration, Duration)> {
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for (pair, ids) in ids.chunks_exact(2 * UPDATES + 2).take(PAIRS).enumerate() {
        let (first, second) = ids.split_at(UPDATES + 1);
        // Which of them comes first changes too.
        let captured_first = pair % 2 == 0;
        for (ids, captured) in [(first, captured_first), (second, !captured_first)] {
            let state = if captured { "enable" } else { "disable" };
            person
                .batch_execute(&format!("alter table public.sync_contacts {state} trigger {trigger}"))
                .await?;
            let time = block(person, ids).await?;
            if captured { with.push(time) } else { without.push(time) }
        }
    }
    person.batch_execute(&format!("alter table public.sync_contacts enable trigger {trigger}")).await?;
    ensure!(
        with.len() == PAIRS && without.len() == PAIRS,
        "there are too few contacts: give --contacts 5000 or more"
    );
    let median = |times: Vec<Duration>| times.into_iter().collect::<Samples>().percentile(50);
    Ok((median(with), median(without)))
}

/// The median of a block's updates. The first is not counted: it reads the changed table's definition anew.
async fn block(person: &Client, ids: &[String]) -> Result<Duration> {
    let statement = person.prepare(UPDATE).await?;
    let mut times = Vec::new();
    for (position, id) in ids.iter().enumerate() {
        let started = Instant::now();
        let title = format!("Head of part {position} at {started:?}");
        let updated = person.execute(&statement, &[id, &title]).await?;
        times.push(started.elapsed());
        ensure!(updated == 1, "a contact is gone");
    }
    Ok(times.into_iter().skip(1).collect::<Samples>().percentile(50))
}
