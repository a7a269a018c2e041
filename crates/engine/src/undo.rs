//! Undo: an audited change taken back by an edit like any other, which then merges and goes to Keap as a person's does.
//!
//! The plan is made by [`plan_undo`] from the log and the row as it is. It is written only while the row still has the version
//! that was read, and planned anew otherwise, so that no edit made in between is lost.
//!
//! An undo deletes in Keap only what the row itself had made there. That a run, a hook or a poll brought a record here is no reason
//! for it to go there: such a row is taken away alone, behind a tombstone that holds it until somebody edits the record in Keap or
//! brings the row back.

use crate::ports::history::{AuditEntry, HistoryStore, PersonEdit, UNDONE_HERE};
use crate::ports::{Clock, LocalRow, MirrorStore};
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::AccountId;
use keapsync_domain::limits::{REMERGE_MAX, UNIT_BUDGET_MS};
use keapsync_domain::run::{Counts, Cursor};
use keapsync_domain::undo::{Change, Current, LeftField, Operation, UndoPlan, plan_undo};
use keapsync_domain::wire::{UnitMode, UnitOrder, UnitReport};
use keapsync_keap::capability::{CreateKey, capability};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Entries undone in one step.
const ENTRIES_AT_ONCE: usize = 100;

/// Whether the record of a row was made by the change: what Keap, or a person there, had made before is not the row's to delete. A
/// record that cannot name its row may have been found by what it holds.
fn made_the_record(entry: &AuditEntry, operation: Operation) -> bool {
    operation == Operation::Create
        && entry.sync_source == MADE_HERE
        && capability(entry.entity).create_key == CreateKey::RowLink
}

/// The source that entries of people's edits name.
const MADE_HERE: &str = "supabase";

/// What became of an undo.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Undone {
    /// The entry that was undone.
    pub entry_id: i64,
    /// Whether the row changed.
    pub changed: bool,
    /// The columns that were written.
    pub fields: Vec<String>,
    /// Whether the row was deleted or brought back.
    pub deleted: Option<bool>,
    /// Of a row that was deleted while its record stays in Keap: why, and what to do where it is to go, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_in_keap: Option<String>,
    /// What was not taken back, and why.
    pub left: Vec<LeftField>,
    /// Fields of a row that was deleted by it which had changed after the row was made: they went with it, softly.
    pub changed_since: Vec<String>,
}

/// Undoes one entry of the log; with `run_id` in the name of a run.
pub async fn undo<S: MirrorStore + HistoryStore>(
    store: &S,
    account: &AccountId,
    entry: &AuditEntry,
    run_id: Option<&str>,
) -> Result<Undone, Failure> {
    let Some(operation) = Operation::from_name(&entry.operation) else {
        return Err(Failure::new(
            FailureClass::Invalid,
            format!("an entry that tells of '{}' cannot be undone", entry.operation),
        ));
    };
    for _ in 0..REMERGE_MAX {
        let ids = std::slice::from_ref(&entry.entity_id);
        let Some(row) = store.read_rows(account, entry.entity, ids).await?.into_iter().next() else {
            return Err(Failure::new(
                FailureClass::NotFound,
                "the row is not there any more: it was deleted, and its retention is over",
            ));
        };
        let plan = plan(entry, operation, &row);
        if plan.is_empty() {
            return Ok(undone(entry, plan, false, false));
        }
        let stays_here = plan.deleted == Some(true) && !made_the_record(entry, operation);
        let edit = PersonEdit {
            row_id: row.id,
            expected_version: row.version,
            values: plan.values.clone(),
            deleted: plan.deleted,
            stays_here,
            operation: "revert",
            note: Map::from_iter([("reverts".to_owned(), Value::from(entry.id))]),
            run_id: run_id.map(str::to_owned),
        };
        if store.edit(account, entry.entity, &edit).await? {
            return Ok(undone(entry, plan, true, stays_here));
        }
    }
    Err(Failure::new(FailureClass::Conflict, "the row keeps changing; try again"))
}

fn plan(entry: &AuditEntry, operation: Operation, row: &LocalRow) -> UndoPlan {
    let change =
        Change { entity: entry.entity, operation, old: &entry.old, after: &entry.after, note: &entry.note };
    plan_undo(&change, &Current { record: &row.record, is_deleted: row.deleted_at.is_some() })
}

fn undone(entry: &AuditEntry, plan: UndoPlan, changed: bool, stays_here: bool) -> Undone {
    Undone {
        entry_id: entry.id,
        changed,
        fields: plan.values.keys().cloned().collect(),
        deleted: plan.deleted,
        kept_in_keap: stays_here.then(|| UNDONE_HERE.to_owned()),
        left: plan.left,
        changed_since: plan.changed_since,
    }
}

/// Works on one unit of a run that undoes another, from its last entry back to its first.
pub async fn run_reversal<S: MirrorStore + HistoryStore, C: Clock>(
    store: &S,
    clock: &C,
    order: &UnitOrder,
) -> UnitReport {
    let mut report = UnitReport::begun(order);
    let started_at = clock.now();
    while !report.finished && clock.now().since_ms(started_at) < UNIT_BUDGET_MS {
        if let Err(failure) = reverse_step(store, order, &mut report).await {
            report.failure = Some(failure);
            break;
        }
    }
    report
}

async fn reverse_step<S: MirrorStore + HistoryStore>(
    store: &S,
    order: &UnitOrder,
    report: &mut UnitReport,
) -> Result<(), Failure> {
    let Some(reverted) = order.reverts.as_deref() else {
        return Err(Failure::new(FailureClass::Invalid, "the run names no run to undo"));
    };
    let before = report.cursor.before_entry;
    let entries = store.list_run_audit(&order.account, reverted, before, ENTRIES_AT_ONCE).await?;
    report.finished = entries.is_empty();
    for entry in entries {
        if entry.entity == order.entity {
            report.counts.read += 1;
            if order.mode != UnitMode::Plan {
                match undo(store, &order.account, &entry, Some(&order.run_id)).await {
                    Ok(undone) => count(&mut report.counts, &undone),
                    // Nothing is left to undo it in, or nothing can undo it; the others go on.
                    Err(failure)
                        if matches!(failure.class, FailureClass::NotFound | FailureClass::Invalid) =>
                    {
                        report.counts.rejected += 1;
                    }
                    Err(failure) => return Err(failure),
                }
            }
        }
        report.cursor = Cursor { before_entry: Some(entry.id), ..report.cursor.clone() };
    }
    Ok(())
}

fn count(counts: &mut Counts, undone: &Undone) {
    counts.conflicts += undone.left.len() as u64;
    match (undone.changed, undone.deleted) {
        (false, _) => counts.unchanged += 1,
        (true, Some(true)) => counts.deleted += 1,
        (true, _) => counts.updated += 1,
    }
}
