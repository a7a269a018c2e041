//! What the database costs by itself: pages through the store, a person's edits, and the conflict check, beside bare `COPY`.
//!
//! No worker and no HTTP is measured. The store is the product's own, on one connection, as the engine's role; the merge between
//! reading and writing is left out, because it is the workers' time and not the database's.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use keapsync_domain::canonical::record_hash;
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_domain::remote::RemoteRecord;
use keapsync_engine::ports::{MirrorStore as _, RemoteKey, RowState, RowWrite, WriteBatch, WriteSource};
use keapsync_store::Store;
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::copy::CopyTable;
use super::full_sync::per_second;
use super::report::{Measurement, Target};
use super::samples::Samples;
use super::{capture_cost, generated_contacts};
use crate::database;
use crate::scratch_postgres::ScratchPostgres;
use crate::system::DEV_ACCOUNT;
use crate::workspace::Workspace;

/// The database that is measured.
const DATABASE: &str = "keapsync_bench";

/// How often a short thing is timed; the median counts.
const ROUNDS: usize = 9;

/// Pages of the first load after which the same rows are copied: both meet whatever else the machine does alike.
const PAGES_BEFORE_COPY: usize = 5;

/// The part of COPY's speed that the first load has to reach.
const FIRST_LOAD_TO_COPY: f64 = 0.4;

/// How many times faster an unchanged load has to be than the first.
const UNCHANGED_TO_FIRST_LOAD: f64 = 4.0;

/// Measures on a server of its own.
pub async fn measure(
    workspace: &Workspace,
    server: &ScratchPostgres,
    contacts: u32,
    measurement: &mut Measurement,
) -> Result<()> {
    let pages = generated_contacts::pages(workspace, contacts).await?;
    let database = server.migrated_database(workspace, DATABASE).await?;
    measurement.condition(
        "the store on one connection over loopback, pages of 1000 contacts of the simulator; what the workers do between reading \
         and writing is left out; COPY takes turns with it, as text into a table with the same columns, constraints and indexes and \
         the same check of the account, without other triggers, status and audit; settings of the server as in docs/benchmarks.md",
    );
    let engine = database::connect(&database.engine_url).await?;
    let account = AccountId::parse(DEV_ACCOUNT).map_err(|error| anyhow!("{error}"))?;
    let store = Store::new(&engine);
    store
        .upsert_account(&account, "Benchmark", "active", "{}")
        .await
        .map_err(|failure| anyhow!("the account is refused: {failure}"))?;
    let superuser = database::connect(&database.superuser_url).await?;

    superuser.batch_execute("checkpoint").await?;
    let mut table = CopyTable::empty(database::connect(&database.owner_url).await?).await?;
    let (mut first, mut copy, mut copied) = (Duration::ZERO, Duration::ZERO, 0);
    for block in pages.chunks(PAGES_BEFORE_COPY) {
        first += first_load(&store, &account, block).await?;
        let (rows, time) = table.copy_what_is_new().await?;
        copied += rows;
        copy += time;
    }
    table.drop_table().await?;
    let expected = u64::try_from(pages.iter().map(Vec::len).sum::<usize>())?;
    let rows: i64 = superuser.query_one("select count(*) from sync_contacts", &[]).await?.get(0);
    measurement.check_equal("rows in sync_contacts", u64::try_from(rows)?, expected);
    measurement.check_equal("rows copied", copied, expected);
    let (first_rate, copy_rate) = (per_second(expected, first), per_second(expected, copy));
    measurement.figure("first load", first_rate, "records/s");
    measurement.figure("COPY of the same rows", copy_rate, "records/s");
    let of_copy = first_rate / copy_rate;
    measurement.figure_with_target("first load to COPY", of_copy, "x", Target::AtLeast(FIRST_LOAD_TO_COPY));
    superuser.batch_execute("vacuum analyze").await?;

    let unchanged = unchanged_load(&store, &account, &pages).await?;
    let unchanged_rate = per_second(expected, unchanged);
    measurement.figure("unchanged load", unchanged_rate, "records/s");
    measurement.figure_with_target(
        "unchanged load to first load",
        unchanged_rate / first_rate,
        "x",
        Target::AtLeast(UNCHANGED_TO_FIRST_LOAD),
    );

    let page = pages.first().context("the simulator has no contacts")?;
    conflict_check(&engine, page, measurement).await?;
    capture_cost::measure(&database.owner_url, measurement).await
}

/// Reads each page and writes it, as a full sync of an empty mirror does.
async fn first_load(store: &Store<'_>, account: &AccountId, pages: &[Vec<RemoteRecord>]) -> Result<Duration> {
    let mut elapsed = Duration::ZERO;
    for page in pages {
        let keys = keys(page);
        let batch = WriteBatch {
            run_id: None,
            source: WriteSource::FullSync,
            rows: page.iter().map(insert_of).collect(),
        };
        let started = Instant::now();
        let known = store.read_known(account, EntityType::Contact, &keys).await;
        let written = store.write(account, EntityType::Contact, &batch).await;
        elapsed += started.elapsed();
        let known = known.map_err(|failure| anyhow!("a page cannot be read: {failure}"))?;
        let written = written.map_err(|failure| anyhow!("a page cannot be written: {failure}"))?;
        ensure!(known.is_empty(), "the mirror was not empty");
        ensure!(written.written.len() == page.len(), "a page was not written whole: {written:?}");
    }
    Ok(elapsed)
}

/// Reads each page again, which shows by its hashes that nothing is to be written.
async fn unchanged_load(
    store: &Store<'_>,
    account: &AccountId,
    pages: &[Vec<RemoteRecord>],
) -> Result<Duration> {
    let mut elapsed = Duration::ZERO;
    for page in pages {
        let keys = keys(page);
        let started = Instant::now();
        let known = store.read_known(account, EntityType::Contact, &keys).await;
        elapsed += started.elapsed();
        let known = known.map_err(|failure| anyhow!("a page cannot be read: {failure}"))?;
        let is_unchanged = known.len() == page.len() && known.iter().all(|row| row.row.is_none());
        ensure!(is_unchanged, "an unchanged page was taken for a changed one");
    }
    Ok(elapsed)
}

fn keys(page: &[RemoteRecord]) -> Vec<RemoteKey> {
    page.iter()
        .map(|remote| RemoteKey {
            keap_id: remote.keap_id.clone(),
            keap_hash: remote.content_hash.clone(),
            row_id: None,
        })
        .collect()
}

/// The write that a full sync makes of a record that is new.
fn insert_of(remote: &RemoteRecord) -> RowWrite {
    RowWrite {
        id: None,
        expected_version: 0,
        keap_id: remote.keap_id.clone(),
        record: Some(remote.record.clone()),
        extra: remote.extra.clone(),
        keap_created_at: remote.created_at,
        keap_updated_at: remote.updated_at,
        keap_observed_at: remote.observed_at,
        keap_hash: remote.content_hash.clone(),
        base_hash: record_hash(&remote.record),
        base_delta: Map::new(),
        state: RowState::Completed,
        sync_error: None,
        deleted_at: None,
        audit_operation: Some("create"),
        audit_old: Map::new(),
        audit_lost: Map::new(),
        conflicts: Vec::new(),
    }
}

/// Checks a page of records in one statement, as they are and with every tenth changed on both sides.
async fn conflict_check(client: &Client, page: &[RemoteRecord], measurement: &mut Measurement) -> Result<()> {
    let ids = client
        .query_typed(
            "select keap_id, id::text from public.sync_contacts where account_id = $1 and keap_id = any ($2)",
            &[
                (&DEV_ACCOUNT, Type::TEXT),
                (&page.iter().map(|remote| remote.keap_id.as_str()).collect::<Vec<_>>(), Type::TEXT_ARRAY),
            ],
        )
        .await?;
    let ids: std::collections::HashMap<String, String> =
        ids.iter().map(|row| (row.get(0), row.get(1))).collect();
    for (name, in_conflict) in [("no conflict", false), ("every tenth in conflict", true)] {
        let records: Vec<String> = page
            .iter()
            .enumerate()
            .map(|(position, remote)| {
                let id = ids.get(&remote.keap_id).map(String::as_str).unwrap_or_default();
                checked_record(id, remote, in_conflict && position % 10 == 0).to_string()
            })
            .collect();
        let mut times = Vec::new();
        let mut found = 0;
        for _ in 0..ROUNDS {
            let started = Instant::now();
            let rows = client
                .query_typed(CHECK, &[(&DEV_ACCOUNT, Type::TEXT), (&records, Type::TEXT_ARRAY)])
                .await?;
            times.push(started.elapsed());
            ensure!(rows.len() == page.len(), "{} of {} records were checked", rows.len(), page.len());
            found = rows.iter().filter(|row| row.get::<_, Option<String>>(0).is_some()).count();
        }
        let expected = if in_conflict { page.len().div_ceil(10) } else { 0 };
        measurement.check_equal(
            format!("conflicts found, {name}"),
            u64::try_from(found)?,
            u64::try_from(expected)?,
        );
        let median = times.into_iter().collect::<Samples>().median_ms();
        measurement.figure(format!("1,000 records conflict-checked in one statement, {name}"), median, "ms");
    }
    Ok(())
}

const CHECK: &str =
    "select conflict_id::text from public.detect_sync_conflicts($1, 'contact', $2::text[]::jsonb[])";

/// A record as the conflict check takes it; in conflict when both sides have another job title than they agreed on.
fn checked_record(entity_id: &str, remote: &RemoteRecord, in_conflict: bool) -> Value {
    let keap = remote.record.to_object();
    if !in_conflict {
        return json!({"entity_id": entity_id, "keap_data": keap});
    }
    let with_title = |title: &str| {
        let mut record = keap.clone();
        record.insert("job_title".to_owned(), json!(title));
        record
    };
    json!({
        "entity_id": entity_id,
        "keap_data": with_title("Chosen in Keap"),
        "supabase_data": with_title("Chosen in Supabase"),
    })
}
