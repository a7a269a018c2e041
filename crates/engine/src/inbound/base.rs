//! What both sides last agreed on, also where they have not met yet.
//!
//! A row that was made here meets its record for the first time by whatever comes first: the answer to the create, a retry that finds
//! what an earlier attempt made, the hook of it, a page of a poll. All of them take the base from here.

use crate::ports::LocalRow;
use keapsync_domain::canonical::{canonical, same};
use keapsync_domain::merge::{Conflict, Merge, Side};
use keapsync_domain::policy::Policies;
use keapsync_domain::record::Record;
use keapsync_domain::schema::{Field, FieldKind, fields};
use keapsync_keap::capability::{CreateKey, capability};
use keapsync_keap::records::as_created;
use serde_json::Value;

/// What both sides last agreed on, rebuilt from the row and what was saved beside it.
///
/// A row that never met its Keap record has none. One that the record names as its maker gets what the create carried: the
/// row as it was inserted, without what takes calls of its own. One that is told by its content gets an empty base, because
/// somebody else may have made the record: `Base::towards` looks at the record, and tells more.
#[must_use]
pub fn base_of(row: &LocalRow) -> Record {
    let entity = row.record.entity();
    if row.has_base {
        return row.record.overlaid(&row.base_delta);
    }
    let capability = capability(entity);
    if capability.create_key != CreateKey::RowLink {
        return Record::empty(entity);
    }
    let mut base = row.record.overlaid(&row.base_delta);
    for (position, field) in fields(entity).iter().enumerate() {
        if !capability.is_carried_by_create(field.name) {
            base.set(position, Value::Null);
        }
    }
    base
}

/// The base of a row towards a record.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Base {
    /// The base.
    pub(crate) record: Record,
    /// Positions of the fields in which Keap's value is taken for what Keap fills in, and which the call after the create was to set.
    filled_in: Vec<usize>,
}

impl Base {
    /// The base of a row towards the record that it is merged with.
    ///
    /// A record that is told by its content, and that holds everything a create of the row carries, counts as made by that create. Then
    /// what the create carried is the base, and what only an update could have set beside it is what Keap filled in: the person's value
    /// goes to Keap. A record that holds anything else may be somebody else's.
    pub(crate) fn towards(row: &LocalRow, keap: &Record) -> Self {
        let entity = row.record.entity();
        if row.has_base || capability(entity).create_key == CreateKey::RowLink {
            return Self::known(base_of(row));
        }
        // The create may have been sent before or after what was edited meanwhile.
        let inserted = as_created(&row.record.overlaid(&row.base_delta));
        let current = as_created(&row.record);
        let mut base = Self::known(Record::empty(entity));
        for (position, field) in fields(entity).iter().enumerate() {
            let Some(carriers) = capability(entity).field(field.name) else { continue };
            let there = keap.get(position);
            let (first, last) = (inserted.get(position), current.get(position));
            if carriers.is_carried_by_create() {
                let Some(value) = agreed(field, there, [first, last]) else {
                    return Self::known(Record::empty(entity));
                };
                base.record.set(position, value);
            } else if carriers.set_after_create().is_some() && !is_empty(field.kind, last) {
                base.record.set(position, there.clone());
                base.filled_in.push(position);
            }
        }
        base
    }

    fn known(record: Record) -> Self {
        Self { record, filled_in: Vec::new() }
    }

    /// Records what of Keap's the merge replaces as filled in: should somebody else have made the record after all, nothing of it is
    /// overwritten without a word.
    pub(crate) fn record_replaced(
        &self,
        keap: &Record,
        row: &Record,
        policies: &Policies,
        merge: &mut Merge,
    ) {
        let entity = row.entity();
        for (position, field) in fields(entity).iter().enumerate() {
            let is_replaced = self.filled_in.contains(&position)
                && !is_empty(field.kind, keap.get(position))
                && merge.to_keap.iter().any(|change| change.position == position);
            if is_replaced {
                merge.conflicts.push(Conflict {
                    path: field.name.to_owned(),
                    base: Value::Null,
                    keap: keap.get(position).clone(),
                    supabase: row.get(position).clone(),
                    policy: policies.of(entity, field.name),
                    winner: Some(Side::Supabase),
                });
            }
        }
    }
}

/// What both sides agreed on of a field, if the create carried one of `sent`; `None` where the record holds something else. Where
/// Keap holds nothing, or may have filled in what was not sent, nothing was agreed on.
fn agreed(field: &Field, there: &Value, sent: [&Value; 2]) -> Option<Value> {
    let says_nothing = |value: &Value| is_empty(field.kind, value);
    let carried = sent.into_iter().find(|value| !says_nothing(value) && holds(field.kind, there, value));
    match carried {
        _ if says_nothing(there) => Some(Value::Null),
        Some(value) => Some(value.clone()),
        None => sent.into_iter().any(says_nothing).then_some(Value::Null),
    }
}

/// Whether Keap holds what was sent. Of an object it may hold more.
fn holds(kind: FieldKind, there: &Value, sent: &Value) -> bool {
    match (kind, canonical(kind, there), canonical(kind, sent)) {
        (FieldKind::Map, Value::Object(there), Value::Object(sent)) => {
            sent.iter().all(|(key, value)| there.get(key) == Some(value))
        }
        _ => same(kind, there, sent),
    }
}

/// Whether a value says nothing.
pub(super) fn is_empty(kind: FieldKind, value: &Value) -> bool {
    same(kind, value, &Value::Null)
}
