//! What the workers say to each other: typed JSON over service bindings.

use crate::application::KeapApplication;
use crate::failure::Failure;
use crate::hook::Delivery;
use crate::ids::{AccountId, EntityType};
use crate::quota::QuotaReading;
use crate::run::{Counts, Cursor, Direction, RunKind};
use crate::secret::Secret;
use crate::settings::AccountSettings;
use crate::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

/// Header of calls between workers.
pub const INTERNAL_TOKEN_HEADER: &str = "x-internal-token";

/// The header in which the database shows the token that only wakes accounts.
pub const WAKE_TOKEN_HEADER: &str = "x-wake-token";

/// What somebody did, or was refused: the record of access keeps it, and the log says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessEntry {
    /// When it was answered.
    pub at: Timestamp,
    /// The worker that was asked.
    pub worker: String,
    /// `admin`, `admin_previous` (with the token before), `browser` (somebody who connects an account) or `refused`.
    pub actor: String,
    /// Short name of the token that was shown, when it is one of ours.
    pub token: Option<String>,
    /// The client's address, as Cloudflare's edge saw it.
    pub address: Option<String>,
    /// Method and path.
    pub action: String,
    /// The account concerned.
    pub account: Option<AccountId>,
    /// HTTP status of the answer.
    pub status: u16,
}

/// Webhook handler to coordinator: a verified delivery.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EventsRequest {
    /// What was delivered.
    pub delivery: Delivery,
    /// When.
    pub received_at: Timestamp,
}

/// Coordinator to webhook handler: the delivery is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsResponse {
    /// Objects newly queued.
    pub queued: u64,
    /// Objects that were already waiting.
    pub coalesced: u64,
    /// Objects of kinds that are not synced.
    pub not_synced: u64,
    /// The number by which the log names this delivery; none when nothing of it was queued.
    #[serde(default)]
    pub trace: Option<i64>,
}

/// Sync worker to coordinator: a person settled a conflict; for the live feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictResolvedRequest {
    /// The conflict, a UUID.
    pub conflict_id: String,
    /// How: `keap_wins`, `supabase_wins`, `merge` or `manual`.
    pub strategy: String,
}

/// Sync worker to coordinator: start runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StartRunsRequest {
    /// What to read.
    pub kind: RunKind,
    /// Of which entities: a run each.
    pub entities: Vec<EntityType>,
    /// Which way to carry changes.
    #[serde(default)]
    pub direction: Direction,
    /// Whether only to list what would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// The run to undo; for runs that revert.
    #[serde(default)]
    pub reverts: Option<String>,
}

/// The answer to started runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StartRunsResponse {
    /// What to ask for progress: the run, or what several runs are called together. A UUID.
    pub run_id: String,
    /// Each run, a UUID; the one already under way where there is one of the same kind.
    pub run_ids: Vec<String>,
    /// What it waits for, when it does not begin by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
}

/// What a worker needs to call Keap for an account, for a bounded while.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeapGrant {
    /// The bearer token.
    pub access_token: Secret,
    /// How many calls it may make.
    pub calls_max: u32,
    /// In any one second.
    pub calls_per_second_max: u32,
    /// No call after this: the share of the quota is somebody else's then.
    pub expires_at: Timestamp,
    /// The custom fields that carry our row ids, as far as they exist.
    pub link_fields: LinkFields,
    /// The Keap application whose records the account holds, as far as it is known: no answer of another one is used.
    #[serde(default)]
    pub application: KeapApplication,
    /// The credential's generation, for what a report tells of it.
    #[serde(default)]
    pub generation: u64,
}

/// The custom fields that carry ids of rows, per kind of record that has one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkFields {
    /// On contacts.
    pub contact: Option<LinkField>,
    /// On orders.
    pub order: Option<LinkField>,
}

/// A custom field in Keap that carries the id of our row: what tells, after a lost answer, which record a row became.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkField {
    /// Keap's id of the field, as `custom_fields` carry it.
    pub id: String,
    /// Its name in filters.
    pub field_name: String,
}

/// A person's word that so many records may be destroyed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Its own name, a UUID: what is destroyed under it is counted by that name where it is noted, so that a unit that is lost
    /// uses it up all the same.
    pub id: String,
    /// How many, in all.
    pub records: u64,
}

/// What a unit may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitMode {
    /// Write, within the blast guard.
    Guarded,
    /// Write what somebody approved. The guard's own limit comes on top, for what changed since.
    Approved(Approval),
    /// List what would be written.
    Plan,
}

/// Coordinator to sync worker: work on one unit of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UnitOrder {
    /// Whose.
    pub account: AccountId,
    /// The run it belongs to.
    pub run_id: String,
    /// Number of the unit within the run; a report with another number comes too late and is ignored.
    pub unit: u32,
    /// What the run reads.
    pub kind: RunKind,
    /// Of which entity.
    pub entity: EntityType,
    /// Which way it carries changes.
    pub direction: Direction,
    /// What it may do.
    pub mode: UnitMode,
    /// Where to go on.
    pub cursor: Cursor,
    /// When the run began.
    pub run_started_at: Timestamp,
    /// The run that it undoes.
    pub reverts: Option<String>,
    /// How to call Keap.
    pub grant: KeapGrant,
    /// The account's choices.
    pub settings: AccountSettings,
}

impl UnitReport {
    /// A report of a unit that has done nothing yet.
    #[must_use]
    pub fn begun(order: &UnitOrder) -> Self {
        Self {
            run_id: order.run_id.clone(),
            unit: order.unit,
            cursor: order.cursor.clone(),
            counts: Counts::default(),
            finished: false,
            held: false,
            newest_id: None,
            failure: None,
            calls: 0,
            quota: QuotaReading::default(),
            application: KeapApplication::default(),
            generation: order.grant.generation,
        }
    }
}

/// Sync worker to coordinator: how a unit ended. What the counts say is committed, and the cursor stands behind it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UnitReport {
    /// The run.
    pub run_id: String,
    /// The unit.
    pub unit: u32,
    /// Where the next unit goes on.
    pub cursor: Cursor,
    /// What this unit did.
    pub counts: Counts,
    /// Whether the run has read everything.
    pub finished: bool,
    /// Whether the blast guard stopped it: behind the cursor more would be destroyed than may be.
    #[serde(default)]
    pub held: bool,
    /// The largest id that Keap has, where the unit asked.
    #[serde(default)]
    pub newest_id: Option<u64>,
    /// Why the unit ended early; what was committed before stands.
    pub failure: Option<Failure>,
    /// Calls made to Keap.
    pub calls: u32,
    /// What Keap said about its quotas.
    #[serde(default)]
    pub quota: QuotaReading,
    /// The Keap application that answered last, where Keap named it.
    #[serde(default)]
    pub application: KeapApplication,
    /// Generation of the credential under which the unit worked.
    #[serde(default)]
    pub generation: u64,
}
