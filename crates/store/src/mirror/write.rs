//! Writes pages of a mirrored table, each in one statement.
//!
//! What makes a page safe: its rows are locked in order of id, each is written only at the version that was read, and new rows
//! give way to rows that appeared meanwhile. What is left out is reported as skipped, to be read and merged again. A page of
//! nothing but new records takes the short way of `first.rs`.

use super::bound::BoundRow;
use super::columns::PageColumns;
use super::first::{FirstColumns, is_first};
use super::statements::statements_of;
use super::table::Table;
use super::table_of;
use crate::Store;
use crate::refusal::{Refusal, failure, refusal, retried};
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_domain::limits::PAGE_RECORDS_MAX;
use keapsync_engine::ports::{RejectedRecord, WriteBatch, WriteOutcome};
use std::collections::HashSet;

/// Writes a batch. A record that Postgres could not take is left out, with the reason; a part that it refuses all the same is
/// halved until the bad record stands alone, so that it costs the others a few statements and nothing else.
pub(crate) async fn batch(
    store: &Store<'_>,
    account: &AccountId,
    entity: EntityType,
    batch: &WriteBatch,
) -> Result<WriteOutcome, Failure> {
    let table = table_of(entity);
    let mut outcome = WriteOutcome::default();
    // A record named twice would be written from two merges of the same state: the second is merged again.
    let mut keap_ids = HashSet::with_capacity(batch.rows.len());
    let mut row_ids = HashSet::new();
    let mut rows: Vec<BoundRow<'_>> = Vec::with_capacity(batch.rows.len());
    for row in &batch.rows {
        let first =
            keap_ids.insert(row.keap_id.as_str()) && row.id.as_deref().is_none_or(|id| row_ids.insert(id));
        if !first {
            outcome.skipped.push(row.keap_id.clone());
            continue;
        }
        match BoundRow::new(table, row) {
            Ok(bound) => rows.push(bound),
            Err(reason) => {
                outcome.rejected.push(RejectedRecord { keap_id: Some(row.keap_id.clone()), reason });
            }
        }
    }
    // New rows are inserted in one order by everybody, so that two writers of the same records don't wait for each other.
    rows.sort_unstable_by_key(|row| (row.write.keap_id.len(), row.write.keap_id.as_str()));

    let mut parts: Vec<&[BoundRow<'_>]> = rows.chunks(PAGE_RECORDS_MAX).rev().collect();
    while let Some(part) = parts.pop() {
        match write_part(store, account, table, batch, part).await? {
            Ok(written) => {
                if written.len() < part.len() {
                    let written: HashSet<&str> = written.iter().map(String::as_str).collect();
                    let left_out = part.iter().map(|row| &row.write.keap_id);
                    outcome
                        .skipped
                        .extend(left_out.filter(|keap_id| !written.contains(keap_id.as_str())).cloned());
                }
                outcome.written.extend(written);
            }
            Err(refused) => match (part, refused) {
                ([row], PartRefusal::Data(reason)) => {
                    outcome
                        .rejected
                        .push(RejectedRecord { keap_id: Some(row.write.keap_id.clone()), reason });
                }
                ([row], PartRefusal::Duplicate) => outcome.skipped.push(row.write.keap_id.clone()),
                (part, _) => {
                    let (left, right) = part.split_at(part.len() / 2);
                    parts.push(right);
                    parts.push(left);
                }
            },
        }
    }
    Ok(outcome)
}

/// Why a part was refused, when a record of it is to blame.
enum PartRefusal {
    Data(String),
    Duplicate,
}

async fn write_part(
    store: &Store<'_>,
    account: &AccountId,
    table: &Table,
    batch: &WriteBatch,
    part: &[BoundRow<'_>],
) -> Result<Result<Vec<String>, PartRefusal>, Failure> {
    if is_first(batch, part) {
        match write_first(store, account, table, batch, part).await {
            // Somebody else brought one of them: the rest is written around it.
            Ok(Err(PartRefusal::Duplicate)) => {}
            done => return done,
        }
    }
    let columns = PageColumns::new(account, batch, part, table.columns.len());
    let parameters = columns.parameters();
    let statement = statements_of(table.entity).write.as_str();
    match retried(async || store.client.query_typed(statement, &parameters).await).await {
        Ok(rows) => {
            let written: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get(0)).collect();
            Ok(Ok(written.map_err(|error| failure(&error))?))
        }
        Err(error) => refused(&error),
    }
}

/// Writes a part of nothing but new records: all of it, or nothing.
async fn write_first(
    store: &Store<'_>,
    account: &AccountId,
    table: &Table,
    batch: &WriteBatch,
    part: &[BoundRow<'_>],
) -> Result<Result<Vec<String>, PartRefusal>, Failure> {
    let columns = FirstColumns::new(account, batch, part, table.columns.len());
    let parameters = columns.parameters();
    let statement = statements_of(table.entity).first.as_str();
    match retried(async || store.client.query_typed(statement, &parameters).await).await {
        Ok(_) => Ok(Ok(part.iter().map(|row| row.write.keap_id.clone()).collect())),
        Err(error) => refused(&error),
    }
}

fn refused(error: &tokio_postgres::Error) -> Result<Result<Vec<String>, PartRefusal>, Failure> {
    match refusal(error) {
        Refusal::Data(reason) => Ok(Err(PartRefusal::Data(reason))),
        Refusal::Duplicate => Ok(Err(PartRefusal::Duplicate)),
        Refusal::Other(failure) => Err(failure),
    }
}
