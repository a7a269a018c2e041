//! How fast a full sync is: everything new, then nothing changed, then the same rows by bare `COPY` for comparison.

use std::time::Duration;

use anyhow::Result;

use super::copy::CopyTable;
use super::processes;
use super::report::{Measurement, Target};
use super::testbed::{FinishedRun, QUOTA_CONDITION, Testbed};
use crate::system::{DEV_ACCOUNT, POSTGRES_PART};

/// How often `COPY` is timed; the median counts.
const COPY_ROUNDS: usize = 3;

/// Contacts per second that a full sync has to reach on two cores.
const RECORDS_PER_SECOND: f64 = 10_000.0;

/// Measures both syncs and the comparison.
pub async fn measure(testbed: &Testbed, measurement: &mut Measurement) -> Result<()> {
    measurement.condition(QUOTA_CONDITION);
    measurement.condition(
        "fetch, merge, contacts, status and audit rows are included; durations are the run's own (started_at to \
         finished_at) unless they are called wall clock (request until the answer that says completed, asked every 100 ms)",
    );
    let expected = testbed.keap.contacts().await?;
    let before = processes::processor_times(&testbed.parts());
    let first = testbed.full_sync().await?;
    let used = processes::seconds_since(&before, &testbed.parts());
    let rate = per_second(first.read, first.own_time);
    measurement.figure_with_target("first full sync", rate, "records/s", Target::AtLeast(RECORDS_PER_SECOND));
    measurement.figure("first full sync, wall clock", per_second(first.read, first.wall_time), "records/s");
    measurement.figure("first full sync, duration", first.own_time.as_secs_f64(), "s");
    let of_postgres = used.get(POSTGRES_PART).copied().unwrap_or_default();
    measurement.figure("first full sync, processor time of Postgres", of_postgres, "s");
    measurement.figure(
        "first full sync, processor time of the workers",
        processes::worker_seconds(&used),
        "s",
    );
    check_counts(testbed, measurement, expected, &first).await?;

    let audited = testbed.count(AUDITED).await?;
    let second = testbed.full_sync().await?;
    let unchanged_rate = per_second(second.read, second.own_time);
    measurement.figure("unchanged full sync", unchanged_rate, "records/s");
    measurement.figure(
        "unchanged full sync, wall clock",
        per_second(second.read, second.wall_time),
        "records/s",
    );
    measurement.figure("unchanged to first", unchanged_rate / rate, "x");
    measurement.check_equal("the second sync found all unchanged", second.unchanged, expected);
    measurement.check_equal("the second sync wrote no audit entry", testbed.count(AUDITED).await?, audited);

    let copied = copy_rows(testbed, measurement, expected).await?;
    let copy_rate = per_second(expected, copied);
    measurement.condition(
        "COPY: the same rows as text, from one connection, into an ordinary table with the same columns, constraints and \
         indexes (of the triggers only the check of the account) on the same server; contacts only, no status, no audit",
    );
    measurement.figure("COPY of the same rows", copy_rate, "records/s");
    measurement.figure("first full sync to COPY", rate / copy_rate, "x");
    Ok(())
}

const AUDITED: &str = "select count(*) from sync_audit_log where account_id = $1";

async fn check_counts(
    testbed: &Testbed,
    measurement: &mut Measurement,
    expected: u64,
    run: &FinishedRun,
) -> Result<()> {
    measurement.check_equal("records read", run.read, expected);
    measurement.check_equal("rows made by the run", run.created, expected);
    for (name, sql) in [
        ("rows in sync_contacts", "select count(*) from sync_contacts where account_id = $1"),
        ("rows in sync_status", "select count(*) from sync_status where account_id = $1"),
        (
            "creates in sync_audit_log",
            "select count(*) from sync_audit_log where account_id = $1 and operation = 'create'",
        ),
    ] {
        measurement.check_equal(name, testbed.count(sql).await?, expected);
    }
    Ok(())
}

async fn copy_rows(testbed: &Testbed, measurement: &mut Measurement, expected: u64) -> Result<Duration> {
    let table = CopyTable::make(testbed.connect_as_person().await?, DEV_ACCOUNT).await?;
    let mut times = Vec::new();
    for _ in 0..COPY_ROUNDS {
        let (copied, time) = table.copy().await?;
        times.push(time);
        measurement.check_equal("rows copied", copied, expected);
    }
    table.drop_table().await?;
    times.sort_unstable();
    Ok(times.get(COPY_ROUNDS / 2).copied().unwrap_or_default())
}

/// Records per second.
pub fn per_second(records: u64, time: Duration) -> f64 {
    let records = u32::try_from(records).map_or(f64::MAX, f64::from);
    records / time.as_secs_f64().max(0.001)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_records_by_seconds_and_always_finite() {
        assert!((per_second(50_000, Duration::from_millis(2_500)) - 20_000.0).abs() < 1e-6);
        assert!(per_second(50_000, Duration::ZERO).is_finite());
    }
}
