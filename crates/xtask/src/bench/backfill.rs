//! How fast an empty database is filled with everything a business has in Keap, and what a poll with nothing new costs.
//!
//! Measured twice: under Keap's own quota, which allows 1500 calls a minute and 1000 records in each, and without one, where
//! what limits is this machine.

use std::collections::BTreeMap;

use anyhow::Result;
use keapsync_domain::ids::EntityType;

use super::full_sync::per_second;
use super::processes;
use super::report::{Measurement, Target};
use super::simulated_keap::Volume;
use super::testbed::{Quota, Testbed};
use crate::system::{KEAP_PART, POSTGRES_PART, WorkerRuntime};

/// A business with twenty people and ten years of customers.
const VOLUME: Volume = Volume { contacts: 50_000, orders: 100_000, subscriptions: 20_000, tags: 500 };

/// Records per second without a quota.
const RECORDS_PER_SECOND: f64 = 20_000.0;

/// Measures both, each on a system of its own.
pub async fn measure(runtime: WorkerRuntime, measurement: &mut Measurement) -> Result<()> {
    measurement.condition(format!(
        "{} contacts, {} orders, {} subscriptions, {} tags with their applications; of these are read: {}",
        VOLUME.contacts,
        VOLUME.orders,
        VOLUME.subscriptions,
        VOLUME.tags,
        EntityType::ALL.map(EntityType::plural).join(", ")
    ));
    measurement.condition(
        "from an empty database; durations are from the first run's start to the last one's end. Wall clock: from the \
         request until the answer that says completed, asked every 100 ms",
    );
    for (name, quota) in [("Keap's quota", Quota::OfKeap), ("quota lifted", Quota::Lifted)] {
        let mut testbed = Testbed::start("bench-backfill", runtime, &VOLUME, quota).await?;
        let outcome = fill(&testbed, measurement, name).await;
        testbed.stop().await?;
        outcome?;
    }
    Ok(())
}

async fn fill(testbed: &Testbed, measurement: &mut Measurement, name: &str) -> Result<()> {
    let calls_before = testbed.keap.calls().await?;
    let times_before = processes::processor_times(&testbed.parts());
    let run = testbed.sync("full").await?;
    let used = processes::seconds_since(&times_before, &testbed.parts());
    let calls = testbed.keap.calls().await?.saturating_sub(calls_before);
    let rate = per_second(run.read, run.own_time);
    measurement.figure_with_target(
        format!("{name}: rate"),
        rate,
        "records/s",
        Target::AtLeast(RECORDS_PER_SECOND),
    );
    measurement.figure(format!("{name}: duration"), run.own_time.as_secs_f64(), "s");
    measurement.figure(format!("{name}: wall clock"), run.wall_time.as_secs_f64(), "s");
    measurement.figure(format!("{name}: calls to Keap"), count(calls), "calls");
    for (part, seconds) in [
        ("Postgres", used.get(POSTGRES_PART).copied().unwrap_or_default()),
        ("the workers", processes::worker_seconds(&used)),
        ("the simulated Keap", used.get(KEAP_PART).copied().unwrap_or_default()),
    ] {
        measurement.figure(format!("{name}: processor time of {part}"), seconds, "s");
    }
    let expected = held(testbed).await?;
    measurement.check_equal(format!("{name}: records read"), run.read, expected.values().sum());
    for (entity, expected) in expected {
        let sql = format!(
            "select count(*) from sync_{} where account_id = $1 and deleted_at is null",
            entity.plural()
        );
        measurement.check_equal(
            format!("{name}: rows of {}", entity.plural()),
            testbed.count(&sql).await?,
            expected,
        );
    }
    testbed.wait_for_quiet().await?;
    poll(testbed, measurement, name).await
}

/// An incremental sync with nothing new: one call for each kind of record, and no row written.
async fn poll(testbed: &Testbed, measurement: &mut Measurement, name: &str) -> Result<()> {
    let mut before = BTreeMap::new();
    for entity in EntityType::ALL {
        before.insert(entity, testbed.keap.calls_of(&list_operation(entity)).await?);
    }
    let versions = testbed.count(WRITTEN).await?;
    let calls_before = testbed.keap.calls().await?;
    let mut written = 0;
    for entity in EntityType::ALL {
        let run = testbed.sync(&format!("{}?kind=incremental", entity.plural())).await?;
        written += run.created + run.updated;
        let asked = testbed.keap.calls_of(&list_operation(entity)).await?;
        let calls = asked.saturating_sub(before.get(&entity).copied().unwrap_or_default());
        let figure = format!("{name}: calls of a poll of {} with nothing new", entity.plural());
        measurement.figure_with_target(figure, count(calls), "calls", Target::Under(1.5));
    }
    let all = testbed.keap.calls().await?.saturating_sub(calls_before);
    measurement.figure(format!("{name}: calls of all polls with nothing new"), count(all), "calls");
    measurement.check_equal(
        format!("{name}: rows that a poll with nothing new wrote, by its own count"),
        written,
        0,
    );
    measurement.check_equal(
        format!("{name}: versions after a poll with nothing new"),
        testbed.count(WRITTEN).await?,
        versions,
    );
    Ok(())
}

/// Grows with every write of a mirrored row.
const WRITTEN: &str = "select (select coalesce(sum(version), 0) from sync_contacts where account_id = $1) \
    + (select coalesce(sum(version), 0) from sync_orders where account_id = $1) \
    + (select coalesce(sum(version), 0) from sync_tags where account_id = $1) \
    + (select coalesce(sum(version), 0) from sync_subscriptions where account_id = $1)";

/// What the simulator calls the list of a kind of record.
fn list_operation(entity: EntityType) -> String {
    format!("list_{}", entity.plural())
}

/// How many records of each kind Keap holds.
async fn held(testbed: &Testbed) -> Result<BTreeMap<EntityType, u64>> {
    let report = testbed.keap.report().await?;
    let count = |entity: EntityType| {
        report.get(entity.plural()).and_then(serde_json::Value::as_u64).unwrap_or_default()
    };
    Ok(EntityType::ALL.into_iter().map(|entity| (entity, count(entity))).collect())
}

fn count(value: u64) -> f64 {
    u32::try_from(value).map_or(f64::MAX, f64::from)
}
