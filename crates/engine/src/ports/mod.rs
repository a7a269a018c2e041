//! What the engine needs of the world: the mirror in Postgres, its outbox, Keap, and the time.
//!
//! The traits are plain `async fn`s without `Send` bounds, because the workers run on one thread. Implementations live
//! in `store` and `platform`; tests use fakes. Every method is one statement or one request, so that each await ends a
//! step and what was done before it stands.

pub mod history;
pub mod proof;

use self::history::DELETED_HERE_ALONE;
use self::proof::LinkedRow;
use crate::inbound::DELETED_AT;
use keapsync_domain::extra::Extra;
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_domain::policy::Policy;
use keapsync_domain::record::Record;
pub use keapsync_domain::remote::RejectedRecord;
use keapsync_domain::timestamp::Timestamp;
use serde_json::{Map, Value};

/// What identifies a remote record while looking for its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteKey {
    /// Keap's id.
    pub keap_id: String,
    /// Content hash of what Keap holds now; 32 hexadecimal digits.
    pub keap_hash: String,
    /// Id of the row that says it created this record (our own custom field in Keap), a UUID.
    pub row_id: Option<String>,
}

/// What the mirror knows of a remote record.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownRow {
    /// Keap's id, as asked for.
    pub keap_id: String,
    /// The row; `None` when `keap_hash` equals the stored one, so that nothing changed on Keap's side.
    pub row: Option<LocalRow>,
}

/// A row of a mirrored table together with its sync status.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalRow {
    /// Primary key, a UUID.
    pub id: String,
    /// Keap's id, once linked.
    pub keap_id: Option<String>,
    /// Bumped by a trigger on every write.
    pub version: i32,
    /// The mapped columns.
    pub record: Record,
    /// The `extra` column.
    pub extra: Extra,
    /// Old values of the fields in which the row differs from the base, keyed by field name; empty while it does not. Holds the
    /// key `deleted_at` when the row was deleted in Supabase and Keap does not follow (yet).
    pub base_delta: Map<String, Value>,
    /// Whether a base exists at all: false for a row made in Supabase that never met its Keap record.
    pub has_base: bool,
    /// Content hash of the Keap record when it was last applied; `None` once Keap had none.
    pub keap_hash: Option<String>,
    /// When a person last edited a synced value of the row; `None` where nobody did. The engine's own writes leave it.
    pub edited_at: Option<Timestamp>,
    /// Keap's own time of the last applied change.
    pub keap_updated_at: Option<Timestamp>,
    /// When the answer had arrived that was applied last.
    pub keap_observed_at: Option<Timestamp>,
    /// When the row was deleted, on either side.
    pub deleted_at: Option<Timestamp>,
    /// Whether the row is of a contact that Keap has not got yet.
    pub waits_for_contact: bool,
    /// Whether Keap lost the record while an edit here waited, and a person has been asked about it.
    pub lost_in_keap: bool,
    /// What the row says where it is in error or in conflict (`sync_error`). A person's edit of the row takes it away.
    pub word: Option<String>,
}

impl LocalRow {
    /// Whether the row was deleted here alone: whatever the settings say of deletes, this one is not carried to Keap.
    #[must_use]
    pub fn is_deleted_here_alone(&self) -> bool {
        let marked = |value: &Value| value.as_str() == Some(DELETED_HERE_ALONE);
        self.deleted_at.is_some() && self.base_delta.get(DELETED_AT).is_some_and(marked)
    }
}

/// State of a row towards Keap, as `sync_status` columns say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowState {
    /// Both sides agree.
    Completed,
    /// A local change waits for its way to Keap.
    Pending,
    /// A field waits for a person.
    Conflict,
    /// An edit could not be carried over; `sync_error` says why.
    Error,
}

impl RowState {
    /// The value in the `sync_status` column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Pending => "pending",
            Self::Conflict => "conflict",
            Self::Error => "error",
        }
    }
}

/// One conflict, settled or open, as it is recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct ConflictRecord {
    /// Field, or `field.slot` (`addresses.BILLING`).
    pub field: String,
    /// The value both sides last agreed on.
    pub base: Value,
    /// Keap's value.
    pub keap: Value,
    /// Supabase's value.
    pub supabase: Value,
    /// The policy that applied.
    pub policy: Policy,
    /// Who won; `None` while a person has to decide.
    pub winner: Option<&'static str>,
}

/// One row to write, with everything that must change in the same statement.
#[derive(Clone, Debug, PartialEq)]
pub struct RowWrite {
    /// The row to update; `None` inserts one.
    pub id: Option<String>,
    /// The version that was read: the write applies only while the row still has it. 0 for an insert.
    pub expected_version: i32,
    /// Keap's id.
    pub keap_id: String,
    /// The mapped columns as they are to be; `None` leaves the row's columns (all but `sync_status`, `sync_error` and the Keap times) alone.
    pub record: Option<Record>,
    /// What Keap sent and no column holds; written together with `record`.
    pub extra: Extra,
    /// Keap's time of creation, for inserts.
    pub keap_created_at: Option<Timestamp>,
    /// Keap's time of change.
    pub keap_updated_at: Option<Timestamp>,
    /// When the answer had arrived that this is written from.
    pub keap_observed_at: Timestamp,
    /// Content hash of the Keap record; empty where Keap has none, which no reading equals.
    pub keap_hash: String,
    /// Canonical hash of the base; empty while the row is the base.
    pub base_hash: String,
    /// New base delta; empty means that the row is the base.
    pub base_delta: Map<String, Value>,
    /// State to show.
    pub state: RowState,
    /// What to show beside it.
    pub sync_error: Option<String>,
    /// `Some(time)` deletes softly, `None` clears or keeps it clear.
    pub deleted_at: Option<Timestamp>,
    /// Audit: operation (`create`, `update`, `delete`, `undelete`, `conflict`); `None` when nothing a person would call a change happened.
    pub audit_operation: Option<&'static str>,
    /// Audit: old values of the columns that change (mapped ones, `extra`, `deleted_at`), keyed by column; empty for an insert.
    pub audit_old: Map<String, Value>,
    /// Audit: values that were overridden and are kept nowhere else (a conflict's loser, a refused edit), keyed by field.
    pub audit_lost: Map<String, Value>,
    /// Conflicts settled or opened by this write.
    pub conflicts: Vec<ConflictRecord>,
}

impl RowWrite {
    /// Whether the row, once written, is one that Keap lost while an edit waited: see [`LocalRow::lost_in_keap`].
    #[must_use]
    pub fn leaves_lost(&self, before: Option<&LocalRow>) -> bool {
        match self.conflicts.iter().find(|conflict| conflict.field == DELETED_AT) {
            Some(conflict) => conflict.winner.is_none(),
            None => self.state == RowState::Conflict && before.is_some_and(|row| row.lost_in_keap),
        }
    }
}

/// Where a batch of writes comes from, for the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteSource {
    /// A hook named the record.
    Hook,
    /// The incremental poll saw it.
    Poll,
    /// A full sync read it.
    FullSync,
    /// It is Keap's answer to our own write.
    Outbox,
}

impl WriteSource {
    /// The value in the audit log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hook => "hook",
            Self::Poll => "poll",
            Self::FullSync => "full_sync",
            Self::Outbox => "outbox",
        }
    }
}

/// Writes that go to the mirror in one statement.
#[derive(Clone, Debug, PartialEq)]
pub struct WriteBatch {
    /// The run these belong to, a UUID.
    pub run_id: Option<String>,
    /// Where they come from.
    pub source: WriteSource,
    /// At most [`PAGE_RECORDS_MAX`](keapsync_domain::limits::PAGE_RECORDS_MAX) rows.
    pub rows: Vec<RowWrite>,
}

/// What a statement did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteOutcome {
    /// Keap ids that were written.
    pub written: Vec<String>,
    /// Keap ids whose row had changed or appeared since it was read: read and merge these again.
    pub skipped: Vec<String>,
    /// Records that Postgres refused even alone.
    pub rejected: Vec<RejectedRecord>,
}

/// The mirrored tables and their status rows.
pub trait MirrorStore: RowLists + proof::GuardLedger {
    /// Finds the rows of remote records, by Keap id or by the row id they carry. Records without a row are absent from the answer.
    async fn read_known(
        &self,
        account: &AccountId,
        entity: EntityType,
        keys: &[RemoteKey],
    ) -> Result<Vec<KnownRow>, Failure>;

    /// Reads rows by primary key. Rows that do not exist are absent from the answer.
    async fn read_rows(
        &self,
        account: &AccountId,
        entity: EntityType,
        ids: &[String],
    ) -> Result<Vec<LocalRow>, Failure>;

    /// Writes a batch in one statement: locks the rows in id order, applies each only at its expected version, audits,
    /// records conflicts, moves the base, and says what it skipped. A statement that Postgres refuses for its data is
    /// bisected until the bad record stands alone.
    async fn write(
        &self,
        account: &AccountId,
        entity: EntityType,
        batch: &WriteBatch,
    ) -> Result<WriteOutcome, Failure>;

    /// Keeps records that could not be applied where a person sees them (failed rows of the queue), once per record.
    async fn record_rejections(
        &self,
        account: &AccountId,
        entity: EntityType,
        rejected: &[RejectedRecord],
    ) -> Result<(), Failure>;
}

/// Rows by what Keap does not tell of them, page by page.
pub trait RowLists {
    /// Live rows with Keap ids above `after` and up to `until` (as numbers; `None` is without an end) that are not among `present`, in
    /// order of id, at most `limit`: rows whose records Keap may have lost.
    async fn list_missing(
        &self,
        account: &AccountId,
        entity: EntityType,
        after: Option<&str>,
        until: Option<&str>,
        present: &[String],
        limit: usize,
    ) -> Result<Vec<LinkedRow>, Failure>;

    /// Rows of which an edit waits for Keap or is on its way, behind the row `after`, in order of id, at most `limit`.
    async fn list_open(
        &self,
        account: &AccountId,
        entity: EntityType,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, Failure>;

    /// Live rows that no record of Keap is known for, behind the row `after`, in order of id, at most `limit`.
    async fn list_unlinked(
        &self,
        account: &AccountId,
        entity: EntityType,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, Failure>;
}

/// One captured change on its way to Keap.
#[derive(Clone, Debug, PartialEq)]
pub struct OutboxItem {
    /// Queue id, a UUID.
    pub id: String,
    /// Kind of record.
    pub entity: EntityType,
    /// Row id, a UUID.
    pub entity_id: String,
    /// `create`, `update` or `delete`.
    pub operation: String,
    /// How often it was claimed, this time included. More than once means that an earlier attempt may have had its effect.
    pub claims: i32,
    /// Failed attempts that counted: see [`OutboxStore::retry_later`].
    pub attempts: i32,
    /// When the change was captured.
    pub captured_at: Timestamp,
}

/// The outbox: rows of `sync_queue` that wait for Keap.
pub trait OutboxStore {
    /// Claims up to `limit` due items in one statement, oldest first: all due items of each record claimed, none of a record of which
    /// another is leased. The lease ends by itself after `lease_ms`.
    async fn claim(
        &self,
        account: &AccountId,
        limit: usize,
        lease_ms: i64,
        owner: &str,
    ) -> Result<Vec<OutboxItem>, Failure>;

    /// Marks items as done.
    async fn complete(&self, account: &AccountId, ids: &[String]) -> Result<(), Failure>;

    /// Gives items back to be claimed again after `delay_ms`, with what went wrong. `counts` raises the items' `attempts`: an
    /// outage is no fault of theirs. `claims` is never lowered.
    async fn retry_later(
        &self,
        account: &AccountId,
        ids: &[String],
        delay_ms: i64,
        failure: &Failure,
        counts: bool,
    ) -> Result<(), Failure>;

    /// Ends items as failed (dead letters), and shows the reason on their row.
    async fn fail(&self, account: &AccountId, ids: &[String], failure: &Failure) -> Result<(), Failure>;

    /// How much waits, for status and for the next wake-up.
    async fn depth(&self, account: &AccountId) -> Result<OutboxDepth, Failure>;
}

/// How much waits in the outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxDepth {
    /// Items not yet done, leased ones included.
    pub open: i64,
    /// Items that failed for good.
    pub failed: i64,
    /// Capture time of the oldest open item.
    pub oldest_at: Option<Timestamp>,
    /// When the next item falls due; `None` when none is open.
    pub next_due_at: Option<Timestamp>,
}

/// The clock.
pub trait Clock {
    /// The time now. Inside a worker it stands still between two I/O operations.
    fn now(&self) -> Timestamp;

    /// Waits.
    async fn sleep_ms(&self, delay_ms: i64);
}
