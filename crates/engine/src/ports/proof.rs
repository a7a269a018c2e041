//! What comparing both sides, dry runs and the blast guard need of the database.
//!
//! Every method is one statement. Lists are read in pages by the key of the last row, so that a pass may stop anywhere and go
//! on from there.

use keapsync_domain::certificate::EntityCertificate;
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_domain::settings::{AccountSettings, BlastGuard};
use keapsync_domain::timestamp::Timestamp;
use keapsync_domain::wire::Approval;
use serde::{Deserialize, Serialize};

use super::OutboxItem;

/// A live row that is linked to a record of Keap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkedRow {
    /// Keap's id.
    pub keap_id: String,
    /// The row, a UUID.
    pub id: String,
}

/// What of a kind of record has not reached the other side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsynced {
    /// Live rows.
    pub live: i64,
    /// Of these, without a record in Keap.
    pub unlinked: i64,
    /// Conflicts that wait for a person.
    pub open_conflicts: i64,
    /// When the oldest edit was made that waits for its way to Keap, or the oldest unlinked row; `None` when none waits.
    pub oldest_unsynced_at: Option<Timestamp>,
}

/// A side that a dry run would have written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlannedSide {
    /// Keap's record.
    Keap,
    /// The row.
    Supabase,
}

impl PlannedSide {
    /// Both sides.
    pub const ALL: [Self; 2] = [Self::Keap, Self::Supabase];

    /// The name in SQL and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keap => "keap",
            Self::Supabase => "supabase",
        }
    }
}

/// What a dry run would have done to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlannedAction {
    /// Make it.
    Create,
    /// Change fields of it.
    Update,
    /// Delete it.
    Delete,
    /// Bring it back.
    Undelete,
    /// Leave fields of it to a person.
    Conflict,
}

impl PlannedAction {
    /// Every action.
    pub const ALL: [Self; 5] = [Self::Create, Self::Update, Self::Delete, Self::Undelete, Self::Conflict];

    /// The name in SQL and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Undelete => "undelete",
            Self::Conflict => "conflict",
        }
    }
}

/// One change that a dry run would have made. At least one of both ids is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedChange {
    /// The side that would have been written to.
    pub side: PlannedSide,
    /// What would have been done.
    pub action: PlannedAction,
    /// Kind of record.
    pub entity: EntityType,
    /// The row, a UUID; `None` where it would have been made.
    pub entity_id: Option<String>,
    /// Keap's id; `None` where the record would have been made.
    pub keap_id: Option<String>,
    /// The fields that would have changed, in the schema's order.
    pub fields: Vec<String>,
}

/// A planned change as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedChange {
    /// Where it stands in its run: later ones have greater numbers.
    pub number: i64,
    /// When it was planned.
    pub created_at: Timestamp,
    /// What would have been done.
    #[serde(flatten)]
    pub change: PlannedChange,
}

/// How many planned changes of one kind a run has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedCount {
    /// The side that would have been written to.
    pub side: PlannedSide,
    /// What would have been done.
    pub action: PlannedAction,
    /// To how many records.
    pub count: i64,
}

/// The latest certificate of a kind of record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatestCertificate {
    /// What was found.
    #[serde(flatten)]
    pub certificate: EntityCertificate,
    /// The run that compared, a UUID.
    pub run_id: Option<String>,
    /// When both sides were last proven equal; `None`: never yet.
    pub last_equal_at: Option<Timestamp>,
}

/// What the comparison of both sides reads, and what it and dry runs write.
pub trait ProofStore {
    /// Live rows with a Keap id behind the Keap id `after`, or from the first, at most `limit`. They come in the order of their Keap
    /// ids as texts ("10" before "9"), which is what the unique index of each mirrored table serves.
    async fn list_linked(
        &self,
        account: &AccountId,
        entity: EntityType,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<LinkedRow>, Failure>;

    /// What has not reached the other side.
    async fn unsynced(&self, account: &AccountId, entity: EntityType) -> Result<Unsynced, Failure>;

    /// Fields (`field` or `field.slot`) of these rows that wait for a person. Rows without any are absent from the answer.
    async fn open_conflict_fields(
        &self,
        account: &AccountId,
        entity: EntityType,
        row_ids: &[String],
    ) -> Result<Vec<(String, Vec<String>)>, Failure>;

    /// Keeps certificates, one per kind of record. Those of a run that are there already stay as they are, so that a unit that is
    /// repeated adds nothing.
    async fn write_certificate(
        &self,
        account: &AccountId,
        run_id: Option<&str>,
        certificates: &[EntityCertificate],
    ) -> Result<(), Failure>;

    /// The latest certificate of each kind of record that has one, in the order of [`EntityType::ALL`].
    async fn latest_certificates(&self, account: &AccountId) -> Result<Vec<LatestCertificate>, Failure>;

    /// Notes what a dry run would do. A record that the run named before for the same side is kept once, with what was
    /// planned last: a unit that is repeated adds nothing.
    async fn write_planned(
        &self,
        account: &AccountId,
        run_id: &str,
        changes: &[PlannedChange],
    ) -> Result<(), Failure>;

    /// A dry run's changes with numbers greater than `after_number` (0: from the first), at most `limit`, in order of number.
    async fn list_planned(
        &self,
        account: &AccountId,
        run_id: &str,
        after_number: i64,
        limit: usize,
    ) -> Result<Vec<ListedChange>, Failure>;

    /// How many changes a dry run has, by side and action; what there is none of is absent.
    async fn count_planned(&self, account: &AccountId, run_id: &str) -> Result<Vec<PlannedCount>, Failure>;
}

/// A class of destruction, which the blast guard counts and stops by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Held {
    /// Kind of record.
    pub entity: EntityType,
    /// Whether records are deleted, or values of them are replaced or cleared.
    pub deletes: bool,
}

/// Edits of one class that wait for somebody's approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The kind of record, and whether the edits delete or overwrite.
    pub held: Held,
    /// How many records they would destroy in Keap.
    pub records: u64,
    /// When the last of them was held, by the database's clock.
    pub newest_at: Timestamp,
}

/// What is about to be destroyed.
#[derive(Clone, Copy, Debug)]
pub struct Taking<'a> {
    /// Of which class.
    pub class: Held,
    /// The rows, each once: UUIDs.
    pub row_ids: &'a [String],
    /// The account's limits.
    pub guard: BlastGuard,
    /// What somebody approved; used up before the limit is.
    pub approval: Option<&'a Approval>,
    /// Whether to note nothing, only to ask.
    pub only_looks: bool,
}

/// The account of what was destroyed within the last hour.
pub trait GuardLedger {
    /// Notes what is about to be destroyed, all or nothing, durably before anything is written; false when it would be more within an
    /// hour than may be. A row that is noted already counts once.
    async fn take(&self, account: &AccountId, taking: &Taking<'_>) -> Result<bool, Failure>;
}

/// The outbox as the blast guard sees it, and its repair.
pub trait GuardStore {
    /// Lets edits that were captured since pass, or holds them with a word on their rows; says how many records were held. `stopped` are
    /// the kinds of record of which deletes wait already. Deletes destroy nothing in Keap where the settings keep them here.
    async fn pass_edits(
        &self,
        account: &AccountId,
        settings: &AccountSettings,
        stopped: &[EntityType],
    ) -> Result<u64, Failure>;

    /// What waits for approval, by class; classes of which nothing waits are absent.
    async fn waiting(&self, account: &AccountId) -> Result<Vec<Waiting>, Failure>;

    /// Approves what of a class waits since `until` or longer, and says how many items that are. `until` is when the number was
    /// read that a person approves: what came later waits on.
    async fn approve_waiting(
        &self,
        account: &AccountId,
        class: Held,
        until: Timestamp,
    ) -> Result<u64, Failure>;

    /// As [`OutboxStore::claim`](super::OutboxStore::claim), and leaves out every record of which an open item has neither passed nor been
    /// approved: its other items wait with it, because edits of one record are carried together.
    async fn claim_unheld(
        &self,
        account: &AccountId,
        limit: usize,
        lease_ms: i64,
        owner: &str,
    ) -> Result<Vec<OutboxItem>, Failure>;

    /// Shows on rows, by Keap's ids, that their deletion in Keap waits for approval; or no longer does.
    async fn show_held_deletes(
        &self,
        account: &AccountId,
        entity: EntityType,
        keap_ids: &[String],
        are_held: bool,
    ) -> Result<(), Failure>;

    /// Queues what is owed to Keap and not on its way: live rows without a record in Keap, and rows that differ from what both sides
    /// agreed on, at most `limit`; says how many it queued. Left out are rows with an open item, rows with a failed one (a person replays
    /// those), and rows that differ in nothing but open conflicts. `with_deletes` queues deletes that were kept here as well.
    async fn requeue(
        &self,
        account: &AccountId,
        entity: EntityType,
        with_deletes: bool,
        limit: usize,
    ) -> Result<u64, Failure>;
}
