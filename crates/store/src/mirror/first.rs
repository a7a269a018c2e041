//! A page of nothing but new records, by a statement that does no more than insert them.
//!
//! Most of a first load is such pages. The statement for any page looks its rows up, locks them and joins what it wrote; here
//! the ids of the rows are made first, so that each table is filled from the arrays alone.
//!
//! Invariant: the page is written whole or not at all. That a record is there already, which another reader of it may have
//! brought meanwhile, is told by the unique key of Keap's id, which waits for whoever is writing it.

use super::bound::BoundRow;
use super::columns::{Texts, Times, millis};
use crate::Parameter;
use keapsync_domain::ids::AccountId;
use keapsync_engine::ports::{RowState, RowWrite, WriteBatch, WriteSource};
use tokio_postgres::types::Type;

/// Parameters before those of the table's own columns.
pub(crate) const FIXED_PARAMETERS: usize = 10;

/// Whether a part of a batch can be written so.
pub(crate) fn is_first(batch: &WriteBatch, part: &[BoundRow<'_>]) -> bool {
    // Answers to our own writes are of rows that are there, and are counted elsewhere.
    batch.source != WriteSource::Outbox && part.iter().all(|row| is_plainly_new(row.write))
}

/// Whether a write makes a row that is as Keap has it, and says nothing else of it.
fn is_plainly_new(write: &RowWrite) -> bool {
    write.id.is_none()
        && write.record.is_some()
        && write.state == RowState::Completed
        && write.sync_error.is_none()
        && write.deleted_at.is_none()
        && write.base_delta.is_empty()
        && write.conflicts.is_empty()
        && write.audit_operation == Some("create")
        && write.audit_old.is_empty()
        && write.audit_lost.is_empty()
}

/// One vector per column, each as long as the page.
#[derive(Debug)]
pub(crate) struct FirstColumns<'a> {
    account: &'a str,
    source: &'static str,
    run_id: Option<&'a str>,
    keap_ids: Vec<&'a str>,
    extras: Texts<'a>,
    keap_created_at: Times,
    keap_updated_at: Times,
    keap_observed_at: Vec<i64>,
    keap_hashes: Vec<&'a str>,
    base_hashes: Vec<&'a str>,
    own: Vec<Texts<'a>>,
}

impl<'a> FirstColumns<'a> {
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
            keap_ids: writes().map(|row| row.keap_id.as_str()).collect(),
            extras: rows.iter().map(|row| row.extra.as_deref()).collect(),
            keap_created_at: writes().map(|row| millis(row.keap_created_at)).collect(),
            keap_updated_at: writes().map(|row| millis(row.keap_updated_at)).collect(),
            keap_observed_at: writes().map(|row| row.keap_observed_at.0).collect(),
            keap_hashes: writes().map(|row| row.keap_hash.as_str()).collect(),
            base_hashes: writes().map(|row| row.base_hash.as_str()).collect(),
            own: super::columns::own_columns(rows, width),
        }
    }

    /// What the statement takes, in its order.
    pub(crate) fn parameters(&self) -> Vec<Parameter<'_>> {
        let fixed: [Parameter<'_>; FIXED_PARAMETERS] = [
            (&self.account, Type::TEXT),
            (&self.source, Type::TEXT),
            (&self.run_id, Type::TEXT),
            (&self.keap_ids, Type::TEXT_ARRAY),
            (&self.extras, Type::TEXT_ARRAY),
            (&self.keap_created_at, Type::INT8_ARRAY),
            (&self.keap_updated_at, Type::INT8_ARRAY),
            (&self.keap_observed_at, Type::INT8_ARRAY),
            (&self.keap_hashes, Type::TEXT_ARRAY),
            (&self.base_hashes, Type::TEXT_ARRAY),
        ];
        let mut parameters = Vec::from(fixed);
        parameters.extend(self.own.iter().map(|column| -> Parameter<'_> { (column, Type::TEXT_ARRAY) }));
        parameters
    }
}
