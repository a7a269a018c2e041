//! Writes pages of contacts, each in one statement.
//!
//! What makes a page safe: its rows are locked in order of id, each is written only at the version that was read, and new rows
//! give way to rows that appeared meanwhile. What is left out is reported as skipped, to be read and merged again.

use super::columns::PageColumns;
use crate::refusal::{Refusal, failure, refusal, retried};
use crate::{Parameter, Store};
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::AccountId;
use keapsync_domain::limits::PAGE_RECORDS_MAX;
use keapsync_engine::ports::{RejectedRecord, RowWrite, WriteBatch, WriteOutcome};
use std::collections::HashSet;
use tokio_postgres::types::Type;

const WRITE: &str = include_str!("write.sql");

/// Writes a batch. A part that Postgres refuses for its data is halved until the bad record stands alone, so that it costs the
/// others a few statements and nothing else.
pub(crate) async fn batch(
    store: &Store<'_>,
    account: &AccountId,
    batch: &WriteBatch,
) -> Result<WriteOutcome, Failure> {
    let mut outcome = WriteOutcome::default();
    // A record named twice would be written from two merges of the same state: the second is merged again.
    let mut keap_ids = HashSet::with_capacity(batch.rows.len());
    let mut row_ids = HashSet::new();
    let mut rows: Vec<&RowWrite> = Vec::with_capacity(batch.rows.len());
    for row in &batch.rows {
        let first =
            keap_ids.insert(row.keap_id.as_str()) && row.id.as_deref().is_none_or(|id| row_ids.insert(id));
        if first {
            rows.push(row);
        } else {
            outcome.skipped.push(row.keap_id.clone());
        }
    }
    // New rows are inserted in one order by everybody, so that two writers of the same records don't wait for each other.
    rows.sort_unstable_by_key(|row| (row.keap_id.len(), row.keap_id.as_str()));

    let mut parts: Vec<&[&RowWrite]> = rows.chunks(PAGE_RECORDS_MAX).rev().collect();
    while let Some(part) = parts.pop() {
        match write_part(store, account, batch, part).await? {
            Ok(written) => {
                if written.len() < part.len() {
                    let written: HashSet<&str> = written.iter().map(String::as_str).collect();
                    let left_out = part.iter().filter(|row| !written.contains(row.keap_id.as_str()));
                    outcome.skipped.extend(left_out.map(|row| row.keap_id.clone()));
                }
                outcome.written.extend(written);
            }
            Err(refused) => match (part, refused) {
                ([row], PartRefusal::Data(reason)) => {
                    outcome.rejected.push(RejectedRecord { keap_id: Some(row.keap_id.clone()), reason });
                }
                ([row], PartRefusal::Duplicate) => outcome.skipped.push(row.keap_id.clone()),
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
    batch: &WriteBatch,
    part: &[&RowWrite],
) -> Result<Result<Vec<String>, PartRefusal>, Failure> {
    let columns = PageColumns::new(part);
    let account = account.as_str();
    let source = batch.source.as_str();
    let mut parameters: Vec<Parameter<'_>> =
        vec![(&account, Type::TEXT), (&source, Type::TEXT), (&batch.run_id, Type::TEXT)];
    parameters.extend(columns.parameters());
    match retried(async || store.client.query_typed(WRITE, &parameters).await).await {
        Ok(rows) => {
            let written: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get(0)).collect();
            Ok(Ok(written.map_err(|error| failure(&error))?))
        }
        Err(error) => match refusal(&error) {
            Refusal::Data(reason) => Ok(Err(PartRefusal::Data(reason))),
            Refusal::Duplicate => Ok(Err(PartRefusal::Duplicate)),
            Refusal::Other(failure) => Err(failure),
        },
    }
}
