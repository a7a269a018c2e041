//! Undoing one audited change: what has to be written to the row so that the change is taken back and nothing else is.
//!
//! Undo is a three-way merge like any other. The base is the record right after the change, one side is the record before it,
//! the other the record as it is now:
//!
//! | since the change | result |
//! |---|---|
//! | nobody changed the field | it gets its old value back, as it was spelled |
//! | it has its old value already | nothing |
//! | somebody changed it to something else | it is left as it is, and reported |
//!
//! Sets, slots and entries are taken back one by one, so that an undo takes away the tag that the change added and leaves
//! one that came later. The undo of a create deletes the record (softly), that of a delete brings it back.
//!
//! Invariants: undoing the last change of a record restores what it was before; an undo is an edit like any other,
//! so undoing the undo brings the change back; what is not taken back is in [`UndoPlan::left`] with its reason.
//!
//! What it does not do: read the audit log, write the row, or decide whether the person may. It plans for the row alone;
//! the edit goes to Keap as any edit does, and merges there with what Keap holds by then.

use crate::canonical::{same, slot_entries};
use crate::ids::EntityType;
use crate::merge::{Sides, reconcile, with_part};
use crate::policy::{Policies, Policy};
use crate::record::Record;
use crate::schema::{Field, FieldKind, SlotKind, fields, position};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The column that tells a deleted row.
const DELETED_AT: &str = "deleted_at";

/// What an entry of the audit log tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// The record was made.
    Create,
    /// Fields changed.
    Update,
    /// The record was deleted.
    Delete,
    /// The record came back.
    Undelete,
    /// A conflict was settled by its policy.
    Conflict,
    /// A person settled a conflict.
    Resolve,
    /// A change was undone.
    Revert,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 7] = [
        Self::Create,
        Self::Update,
        Self::Delete,
        Self::Undelete,
        Self::Conflict,
        Self::Resolve,
        Self::Revert,
    ];

    /// The name in the audit log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Undelete => "undelete",
            Self::Conflict => "conflict",
            Self::Resolve => "resolve",
            Self::Revert => "revert",
        }
    }

    /// Finds the operation by its name.
    #[must_use]
    pub fn from_name(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.as_str() == text)
    }
}

/// An audited change.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// Kind of record.
    pub entity: EntityType,
    /// What happened.
    pub operation: Operation,
    /// Values of the columns that changed, before the change; empty for a create. `deleted_at` may be among them.
    pub old: &'a Map<String, Value>,
    /// The same columns right after the change; for a create the whole record, where an absent column is an absent value, or
    /// nothing where that is not known.
    pub after: &'a Map<String, Value>,
    /// What the entry says besides. Of a resolution: the values that lost, keyed by `field` or `field.slot` and then by side.
    pub note: &'a Map<String, Value>,
}

/// The row as it is now.
#[derive(Clone, Copy, Debug)]
pub struct Current<'a> {
    /// Its fields.
    pub record: &'a Record,
    /// Whether it is deleted (softly).
    pub is_deleted: bool,
}

/// Why something is not taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftReason {
    /// Somebody changed it since, to something else than it was before.
    ChangedSince,
    /// Keap does not take it, and would restore its own value at once.
    ReadOnly,
    /// The record was deleted since.
    DeletedSince,
    /// The audit log does not tell what it was right after the change, so nobody can say whether it changed since.
    UnknownAfter,
    /// It is no field that is synced: Keap's own data, kept for information.
    NotSynced,
}

/// Something that is not taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftField {
    /// `email`, `addresses.BILLING`, `custom_fields.12`.
    pub field: String,
    /// Why.
    pub reason: LeftReason,
    /// The same for people, with what they can do.
    pub explanation: String,
}

/// What undoes a change. Empty when nothing is to do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UndoPlan {
    /// Columns to write.
    pub values: Map<String, Value>,
    /// Whether the row is to be deleted (softly) or brought back; `None` leaves that as it is.
    pub deleted: Option<bool>,
    /// What is not taken back.
    pub left: Vec<LeftField>,
    /// Fields of a record that is to be deleted which changed after it was made, as far as that is known. They go with it,
    /// softly; a caller that undoes many changes at once may want to ask first.
    pub changed_since: Vec<String>,
}

impl UndoPlan {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.deleted.is_none()
    }

    fn leave(&mut self, field: impl Into<String>, reason: LeftReason, explanation: &str) {
        self.left.push(LeftField { field: field.into(), reason, explanation: explanation.to_owned() });
    }
}

/// Plans the undo of one change.
#[must_use]
pub fn plan_undo(change: &Change<'_>, current: &Current<'_>) -> UndoPlan {
    let mut plan = UndoPlan { deleted: deletion_to_undo(change, current), ..UndoPlan::default() };
    if change.operation == Operation::Create {
        if plan.deleted == Some(true) {
            plan.changed_since = changed_since_create(change, current.record);
        }
        return plan;
    }
    for column in change.old.keys() {
        if column != DELETED_AT && position(change.entity, column).is_none() {
            plan.leave(
                column,
                LeftReason::NotSynced,
                "is kept for information and never sent to Keap: nothing to do",
            );
        }
    }
    for (position, field) in fields(change.entity).iter().enumerate() {
        if let Some(taken_back) = taken_back(change, current.record, position, field, &mut plan) {
            if current.is_deleted && plan.deleted != Some(false) {
                plan.leave(
                    field.name,
                    LeftReason::DeletedSince,
                    "the record was deleted since: undo its deletion first",
                );
            } else {
                plan.values.insert(field.name.to_owned(), taken_back);
            }
        }
    }
    plan
}

/// Whether the row is to be deleted or brought back.
fn deletion_to_undo(change: &Change<'_>, current: &Current<'_>) -> Option<bool> {
    let is_deletion = |values: &Map<String, Value>| values.get(DELETED_AT).map(|time| !time.is_null());
    let (was_deleted, became_deleted) = match change.operation {
        // Before a record is made there is none, which is what a deleted one is like.
        Operation::Create | Operation::Undelete => (true, false),
        Operation::Delete => (false, true),
        Operation::Update | Operation::Conflict | Operation::Resolve | Operation::Revert => {
            let was_deleted = is_deletion(change.old)?;
            // A change that tells of the column changed it.
            (was_deleted, is_deletion(change.after).unwrap_or(!was_deleted))
        }
    };
    (was_deleted != became_deleted && current.is_deleted == became_deleted).then_some(was_deleted)
}

fn changed_since_create(change: &Change<'_>, current: &Record) -> Vec<String> {
    if change.after.is_empty() {
        return Vec::new();
    }
    fields(change.entity)
        .iter()
        .enumerate()
        .filter(|(position, field)| {
            let made = change.after.get(field.name).unwrap_or(&Value::Null);
            field.access.refusal().is_none() && !same(field.kind, made, current.get(*position))
        })
        .map(|(_, field)| field.name.to_owned())
        .collect()
}

/// A field's value with the change taken back; `None` where nothing is to be written. Notes what is left.
fn taken_back(
    change: &Change<'_>,
    current: &Record,
    position: usize,
    field: &Field,
    plan: &mut UndoPlan,
) -> Option<Value> {
    let now = current.get(position);
    let after = change.after.get(field.name);
    let old = match change.old.get(field.name) {
        Some(old) => old.clone(),
        None => with_overridden(change, field, after.unwrap_or(now))?,
    };
    if same(field.kind, &old, now) {
        return None;
    }
    if let Some(reason) = field.access.refusal() {
        plan.leave(field.name, LeftReason::ReadOnly, reason);
        return None;
    }
    let Some(after) = after else {
        let explanation =
            "the audit log does not tell what it was right after the change: edit it where that is wanted";
        plan.leave(field.name, LeftReason::UnknownAfter, explanation);
        return None;
    };
    if same(field.kind, &old, after) {
        return None;
    }
    if let FieldKind::Slots(kind) = field.kind
        && got_names(kind, &old, after)
    {
        // Keap numbered the lines. Without their numbers they would be lines to be made, and stand there twice.
        plan.leave(
            field.name,
            LeftReason::ChangedSince,
            "Keap has numbered the lines: edit them where that is wanted",
        );
        return None;
    }
    if same(field.kind, after, now) {
        return Some(old);
    }
    let left = "was changed since to something else, which stays: edit it where the old value is wanted";
    if let FieldKind::Slots(kind) = field.kind
        && [&old, after].into_iter().any(|value| has_nameless_slot(kind, value))
    {
        // Keap has numbered the lines meanwhile, or others moved: which of them the change meant cannot be told.
        plan.leave(field.name, LeftReason::ChangedSince, left);
        return None;
    }
    let state = |value: &Value| {
        let mut record = Record::empty(change.entity);
        record.set(position, value.clone());
        record
    };
    let (base, before, now) = (state(after), state(&old), state(now));
    // The record before the change stands where Keap's stands in a sync: what only it has goes to the row, and where
    // both differ from the base the row stays as it is.
    let sides = Sides {
        base: &base,
        keap: &before,
        supabase: &now,
        keap_changed_at: None,
        supabase_changed_at: None,
    };
    let policies = Policies { default: Policy::SupabaseWins, ..Policies::default() };
    let merge = reconcile(&sides, &policies);
    for conflict in &merge.conflicts {
        plan.leave(conflict.path.as_str(), LeftReason::ChangedSince, left);
    }
    merge.to_supabase.into_iter().next().map(|write| write.value)
}

/// A field that a resolution left as it was, with what it overrode in Keap: what the person who undoes it wants to see
/// again. `None` where it overrode nothing.
fn with_overridden(change: &Change<'_>, field: &Field, after: &Value) -> Option<Value> {
    if change.operation != Operation::Resolve {
        return None;
    }
    let mut old = None;
    for (path, lost) in change.note {
        let Some(keap) = lost.get("keap") else { continue };
        if path == field.name {
            return Some(keap.clone());
        }
        if let Some(part) = path.strip_prefix(field.name).and_then(|rest| rest.strip_prefix('.')) {
            old = Some(with_part(field.kind, old.as_ref().unwrap_or(after), part, keap));
        }
    }
    old
}

/// Whether a change gave slots names that had none.
fn got_names(kind: SlotKind, old: &Value, after: &Value) -> bool {
    has_nameless_slot(kind, old)
        && slot_entries(kind, after).any(|(name, _)| {
            !name.starts_with('#') && slot_entries(kind, old).all(|(known, _)| known != name)
        })
}

fn has_nameless_slot(kind: SlotKind, value: &Value) -> bool {
    slot_entries(kind, value).any(|(name, _)| name.starts_with('#'))
}

#[cfg(test)]
mod tests;
