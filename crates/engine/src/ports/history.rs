//! What undo needs of the database: audit entries with the values before and after, and edits made in a person's name.

use keapsync_domain::failure::Failure;
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_domain::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// An entry of the audit log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Key of the entry.
    pub id: i64,
    /// When the change was made.
    pub created_at: Timestamp,
    /// Kind of record.
    pub entity: EntityType,
    /// The row, a UUID.
    pub entity_id: String,
    /// Keap's id at that time, where known.
    pub keap_id: Option<String>,
    /// `create`, `update`, `delete`, `undelete`, `conflict`, `resolve`, `revert`.
    pub operation: String,
    /// `supabase` (a person's edit), or how Keap's record came: `hook`, `poll`, `full_sync`, `outbox`.
    pub sync_source: String,
    /// The run that wrote it, a UUID.
    pub run_id: Option<String>,
    /// The user who made the edit, a UUID.
    pub user_id: Option<String>,
    /// Old values of the columns that changed, as the log has them: `deleted_at` and `extra` may be among them.
    pub old: Map<String, Value>,
    /// Each changed column's value right after the entry: the old value in the next entry of the record that names the
    /// column, or what the row holds now. For a create the whole record. Null for a row that was purged meanwhile.
    pub after: Map<String, Value>,
    /// The columns that changed; empty for a create: all of them.
    pub changed_fields: Vec<String>,
    /// What the entry says besides: values that were overridden and are kept nowhere else, or the note of a
    /// [`PersonEdit`].
    pub note: Map<String, Value>,
}

/// What stands under `deleted_at` in the base of a row that was deleted here alone, for good.
pub const DELETED_HERE_ALONE: &str = "deleted here alone";

/// What such a row says.
pub const UNDONE_HERE: &str = "undone_here: the record was not made by this row, so the undo took the row away and left the record \
    in Keap. Delete the record in Keap if it is to go as well; an edit of it in Keap, or of deleted_at here, brings the row back";

/// An edit of a row that the engine makes in a person's name.
#[derive(Clone, Debug, PartialEq)]
pub struct PersonEdit {
    /// The row, a UUID.
    pub row_id: String,
    /// The version that was read: the edit is made only while the row still has it.
    pub expected_version: i32,
    /// New values by column; columns of the schema only. What the row holds already is no change.
    pub values: Map<String, Value>,
    /// Whether the row is to be deleted; `None` leaves that as it is.
    pub deleted: Option<bool>,
    /// Whether a delete is of the row alone, for good: see
    /// [`LocalRow::is_deleted_here_alone`](super::LocalRow::is_deleted_here_alone).
    pub stays_here: bool,
    /// The operation in the audit log: `revert`.
    pub operation: &'static str,
    /// What the audit entry says besides (`{"reverts": 17}`).
    pub note: Map<String, Value>,
    /// The run that makes the edit, a UUID.
    pub run_id: Option<String>,
}

/// The audit log, and edits that undo what it tells of.
pub trait HistoryStore {
    /// Reads one entry of an account.
    async fn read_audit(&self, account: &AccountId, id: i64) -> Result<Option<AuditEntry>, Failure>;

    /// The entries of a record, newest first: those older than the entry `before`, or from the newest; at most `limit`.
    async fn list_audit(
        &self,
        account: &AccountId,
        entity: EntityType,
        entity_id: &str,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, Failure>;

    /// The entries that a run wrote, newest first: those older than the entry `before`, or from the newest; at most `limit`.
    async fn list_run_audit(
        &self,
        account: &AccountId,
        run_id: &str,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, Failure>;

    /// Makes an edit as if a person had made it, in one statement: the row, what both sides agreed on, the outbox and the
    /// audit log. A delete that stays here owes Keap nothing; the row is in step, and says why it went alone. Says false when the row is gone or has another version: read it again then. An edit that changes
    /// nothing is true, and leaves no trace.
    ///
    /// [`FailureClass::Invalid`](keapsync_domain::failure::FailureClass::Invalid): a value does not fit its column.
    async fn edit(&self, account: &AccountId, entity: EntityType, edit: &PersonEdit)
    -> Result<bool, Failure>;
}
