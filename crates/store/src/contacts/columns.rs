//! A page of writes as one array per column, which is how it crosses to Postgres.
//!
//! The order of [`PageColumns::parameters`] is the order of the `unnest`s in the write statement.

use crate::Parameter;
use keapsync_domain::schema::{CONTACT_FIELDS, FieldKind};
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::ports::{RowState, RowWrite};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use tokio_postgres::types::Type;

type Texts<'a> = Vec<Option<Cow<'a, str>>>;
type Times = Vec<Option<i64>>;

/// One vector per column, each as long as the page.
pub(crate) struct PageColumns<'a> {
    ids: Texts<'a>,
    expected_versions: Vec<i32>,
    keap_ids: Vec<&'a str>,
    has_record: Vec<bool>,
    fields: Vec<Texts<'a>>,
    extras: Texts<'a>,
    keap_created_at: Times,
    keap_updated_at: Times,
    keap_observed_at: Vec<i64>,
    keap_hashes: Vec<&'a str>,
    base_hashes: Vec<&'a str>,
    base_deltas: Texts<'a>,
    states: Vec<&'static str>,
    sync_errors: Texts<'a>,
    deleted_at: Times,
    audit_operations: Vec<Option<&'static str>>,
    audit_old: Texts<'a>,
    audit_fields: Texts<'a>,
    audit_lost: Texts<'a>,
    conflict_statuses: Vec<&'static str>,
    conflicts: String,
}

impl<'a> PageColumns<'a> {
    /// Turns rows into columns.
    pub(crate) fn new(rows: &[&'a RowWrite]) -> Self {
        let conflicts: Vec<Value> = rows.iter().flat_map(|row| conflict_objects(row)).collect();
        Self {
            ids: texts(rows, |row| row.id.as_deref().map(Cow::Borrowed)),
            expected_versions: rows.iter().map(|row| row.expected_version).collect(),
            keap_ids: rows.iter().map(|row| row.keap_id.as_str()).collect(),
            has_record: rows.iter().map(|row| row.record.is_some()).collect(),
            fields: CONTACT_FIELDS
                .iter()
                .enumerate()
                .map(|(position, field)| {
                    texts(rows, |row| field_text(field.kind, row.record.as_ref()?.get(position)))
                })
                .collect(),
            extras: texts(rows, |row| row.record.as_ref().and_then(|_| object_text(&row.extra))),
            keap_created_at: times(rows, |row| row.keap_created_at),
            keap_updated_at: times(rows, |row| row.keap_updated_at),
            keap_observed_at: rows.iter().map(|row| row.keap_observed_at.0).collect(),
            keap_hashes: rows.iter().map(|row| row.keap_hash.as_str()).collect(),
            base_hashes: rows.iter().map(|row| row.base_hash.as_str()).collect(),
            base_deltas: texts(rows, |row| map_text(&row.base_delta)),
            states: rows.iter().map(|row| row.state.as_str()).collect(),
            sync_errors: texts(rows, |row| row.sync_error.as_deref().map(Cow::Borrowed)),
            deleted_at: times(rows, |row| row.deleted_at),
            audit_operations: rows.iter().map(|row| row.audit_operation).collect(),
            audit_old: texts(rows, |row| map_text(&row.audit_old)),
            audit_fields: texts(rows, |row| {
                let names: Vec<&str> = row.audit_old.keys().map(String::as_str).collect();
                (!names.is_empty()).then(|| Cow::Owned(names.join(",")))
            }),
            audit_lost: texts(rows, |row| map_text(&row.audit_lost)),
            conflict_statuses: rows.iter().map(|row| conflict_status(row)).collect(),
            conflicts: Value::Array(conflicts).to_string(),
        }
    }

    /// The arrays in the order of the statement's `unnest`s, and last the conflicts as a JSON array of objects.
    pub(crate) fn parameters(&self) -> Vec<Parameter<'_>> {
        let mut parameters: Vec<Parameter<'_>> = vec![
            (&self.ids, Type::TEXT_ARRAY),
            (&self.expected_versions, Type::INT4_ARRAY),
            (&self.keap_ids, Type::TEXT_ARRAY),
            (&self.has_record, Type::BOOL_ARRAY),
        ];
        for field in &self.fields {
            parameters.push((field, Type::TEXT_ARRAY));
        }
        let rest: [Parameter<'_>; 16] = [
            (&self.extras, Type::TEXT_ARRAY),
            (&self.keap_created_at, Type::INT8_ARRAY),
            (&self.keap_updated_at, Type::INT8_ARRAY),
            (&self.keap_observed_at, Type::INT8_ARRAY),
            (&self.keap_hashes, Type::TEXT_ARRAY),
            (&self.base_hashes, Type::TEXT_ARRAY),
            (&self.base_deltas, Type::TEXT_ARRAY),
            (&self.states, Type::TEXT_ARRAY),
            (&self.sync_errors, Type::TEXT_ARRAY),
            (&self.deleted_at, Type::INT8_ARRAY),
            (&self.audit_operations, Type::TEXT_ARRAY),
            (&self.audit_old, Type::TEXT_ARRAY),
            (&self.audit_fields, Type::TEXT_ARRAY),
            (&self.audit_lost, Type::TEXT_ARRAY),
            (&self.conflict_statuses, Type::TEXT_ARRAY),
            (&self.conflicts, Type::TEXT),
        ];
        parameters.extend(rest);
        parameters
    }
}

fn texts<'a>(rows: &[&'a RowWrite], read: impl Fn(&'a RowWrite) -> Option<Cow<'a, str>>) -> Texts<'a> {
    rows.iter().map(|row| read(row)).collect()
}

fn times(rows: &[&RowWrite], read: impl Fn(&RowWrite) -> Option<Timestamp>) -> Times {
    rows.iter().map(|row| read(row).map(|time| time.0)).collect()
}

/// A value as its column takes it: JSON for structured fields, plain text for the others.
fn field_text(kind: FieldKind, value: &Value) -> Option<Cow<'_, str>> {
    match (kind, value) {
        (FieldKind::Set | FieldKind::Slots(_) | FieldKind::Map | FieldKind::Address, value) => {
            json_text(value)
        }
        (_, Value::String(text)) => Some(Cow::Borrowed(text)),
        (_, value) => json_text(value),
    }
}

fn json_text(value: &Value) -> Option<Cow<'static, str>> {
    (!value.is_null()).then(|| Cow::Owned(value.to_string()))
}

/// A map as JSON, nothing for an empty one.
fn map_text(map: &Map<String, Value>) -> Option<Cow<'static, str>> {
    if map.is_empty() { None } else { object_text(map) }
}

fn object_text(map: &Map<String, Value>) -> Option<Cow<'static, str>> {
    if map.is_empty() {
        return Some(Cow::Borrowed("{}"));
    }
    // Serialising a map of JSON values has no way to fail.
    serde_json::to_string(map).ok().map(Cow::Owned)
}

fn conflict_status(row: &RowWrite) -> &'static str {
    if row.state == RowState::Conflict || row.conflicts.iter().any(|conflict| conflict.winner.is_none()) {
        "pending"
    } else if row.conflicts.is_empty() {
        "none"
    } else {
        "resolved"
    }
}

/// The row's conflicts; of several on one field only the last, because an open one exists once.
fn conflict_objects(row: &RowWrite) -> impl Iterator<Item = Value> {
    row.conflicts.iter().enumerate().filter_map(|(position, conflict)| {
        let repeated = row.conflicts.iter().skip(position + 1).any(|later| later.field == conflict.field);
        (!repeated).then(|| {
            json!({
                "keap_id": row.keap_id, "field": conflict.field, "base": conflict.base, "keap": conflict.keap,
                "supabase": conflict.supabase, "policy": conflict.policy.as_str(), "winner": conflict.winner,
            })
        })
    })
}
