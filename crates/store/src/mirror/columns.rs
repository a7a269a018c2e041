//! A page of writes as one array per column, which is how it crosses to Postgres.
//!
//! The order of [`PageColumns::parameters`] is the order of the arrays in `write.sql`.

use super::bound::BoundRow;
use crate::Parameter;
use keapsync_domain::ids::AccountId;
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::ports::{RowState, RowWrite, WriteBatch};
use serde_json::Value;
use tokio_postgres::types::Type;

/// Parameters before those of the table's own columns.
pub(crate) const FIXED_PARAMETERS: usize = 23;

/// A column of texts, some absent.
pub(super) type Texts<'a> = Vec<Option<&'a str>>;
/// A column of times in milliseconds, some absent.
pub(super) type Times = Vec<Option<i64>>;

/// One vector per column, each as long as the page.
#[derive(Debug)]
pub(crate) struct PageColumns<'a> {
    account: &'a str,
    source: &'static str,
    run_id: Option<&'a str>,
    conflicts: String,
    ids: Texts<'a>,
    expected_versions: Vec<i32>,
    keap_ids: Vec<&'a str>,
    has_record: Vec<bool>,
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
    own: Vec<Texts<'a>>,
}

impl<'a> PageColumns<'a> {
    /// Turns rows into columns, of which the table has `width` of its own.
    pub(crate) fn new(
        account: &'a AccountId,
        batch: &'a WriteBatch,
        rows: &'a [BoundRow<'a>],
        width: usize,
    ) -> Self {
        let writes = || rows.iter().map(|row| row.write);
        Self {
            account: account.as_str(),
            source: batch.source.as_str(),
            run_id: batch.run_id.as_deref(),
            conflicts: Value::Array(rows.iter().flat_map(|row| row.conflicts.iter().cloned()).collect())
                .to_string(),
            ids: writes().map(|row| row.id.as_deref()).collect(),
            expected_versions: writes().map(|row| row.expected_version).collect(),
            keap_ids: writes().map(|row| row.keap_id.as_str()).collect(),
            has_record: writes().map(|row| row.record.is_some()).collect(),
            extras: rows.iter().map(|row| row.extra.as_deref()).collect(),
            keap_created_at: writes().map(|row| millis(row.keap_created_at)).collect(),
            keap_updated_at: writes().map(|row| millis(row.keap_updated_at)).collect(),
            keap_observed_at: writes().map(|row| row.keap_observed_at.0).collect(),
            keap_hashes: writes().map(|row| row.keap_hash.as_str()).collect(),
            base_hashes: writes().map(|row| row.base_hash.as_str()).collect(),
            base_deltas: rows.iter().map(|row| row.base.as_deref()).collect(),
            states: writes().map(|row| row.state.as_str()).collect(),
            sync_errors: writes().map(|row| row.sync_error.as_deref()).collect(),
            deleted_at: writes().map(|row| millis(row.deleted_at)).collect(),
            audit_operations: writes().map(|row| row.audit_operation).collect(),
            audit_old: rows.iter().map(|row| row.audit_old.as_deref()).collect(),
            audit_fields: rows.iter().map(|row| row.audit_fields.as_deref()).collect(),
            audit_lost: rows.iter().map(|row| row.audit_lost.as_deref()).collect(),
            conflict_statuses: writes().map(conflict_status).collect(),
            own: own_columns(rows, width),
        }
    }

    /// What the statement takes, in its order.
    pub(crate) fn parameters(&self) -> Vec<Parameter<'_>> {
        let fixed: [Parameter<'_>; FIXED_PARAMETERS] = [
            (&self.account, Type::TEXT),
            (&self.source, Type::TEXT),
            (&self.run_id, Type::TEXT),
            (&self.conflicts, Type::TEXT),
            (&self.ids, Type::TEXT_ARRAY),
            (&self.expected_versions, Type::INT4_ARRAY),
            (&self.keap_ids, Type::TEXT_ARRAY),
            (&self.has_record, Type::BOOL_ARRAY),
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
        ];
        let mut parameters = Vec::from(fixed);
        for column in &self.own {
            parameters.push((column, Type::TEXT_ARRAY));
        }
        parameters
    }
}

/// The columns that are the table's own.
pub(super) fn own_columns<'a>(rows: &'a [BoundRow<'a>], width: usize) -> Vec<Texts<'a>> {
    let column = |position: usize| {
        rows.iter().map(|row| row.columns.get(position).and_then(Option::as_deref)).collect()
    };
    (0..width).map(column).collect()
}

/// A time as it crosses.
pub(super) fn millis(time: Option<Timestamp>) -> Option<i64> {
    time.map(|time| time.0)
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
