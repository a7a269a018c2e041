//! The live feed: what an account's object tells whoever watches, as it happens.
//!
//! Events name records by id and fields by name. They hold no value of anybody's data and no secret, so that they may be shown,
//! logged and kept. `docs/live-feed.md` has an example of each; a test keeps it true.

use crate::failure::FailureClass;
use crate::ids::EntityType;
use crate::run::{Counts, Direction, RunKind, RunState};
use crate::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

/// The form of the messages. It is raised when a field is taken away or changes its meaning; fields and types are added
/// without that, so clients ignore what they do not know.
pub const FEED_VERSION: u32 = 1;

/// Records that one event names; of further ones only the number is told.
pub const RECORDS_NAMED_MAX: usize = 20;

/// An event as it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedEntry {
    /// Counts the account's events, from 1 on and without a gap.
    pub sequence: u64,
    /// When it happened; of several told as one, the first.
    #[serde(with = "rfc3339")]
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub event: FeedEvent,
}

/// The first message of every connection, before any event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FeedGreeting {
    /// What follows goes on where the client said that it stands, or from now on when it said nothing.
    Hello(FeedExtent),
    /// What the client asks for is not kept any more: it reads the account's status anew. What is kept follows, then what
    /// happens.
    Reset(FeedExtent),
}

/// Which events there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedExtent {
    /// [`FEED_VERSION`].
    pub version: u32,
    /// The oldest event that is kept; one more than `newest` while none is.
    pub first_kept: u64,
    /// The newest event; 0 before the first.
    pub newest: u64,
}

/// `GET /coordinator/{account}/live` without an upgrade: events that are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedPage {
    /// Where the events stand.
    #[serde(flatten)]
    pub extent: FeedExtent,
    /// Whether events between the one asked for and the first of these are not kept any more.
    pub reset: bool,
    /// The events, oldest first. Where `newest` is beyond the last of them, ask again from there.
    pub events: Vec<FeedEntry>,
}

/// `POST /coordinator/{account}/live-ticket`: what a browser opens the feed with, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedTicket {
    /// For the parameter `ticket` of the address.
    pub ticket: String,
    /// When it dies unused.
    #[serde(with = "rfc3339")]
    pub expires_at: Timestamp,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FeedEvent {
    /// Keap delivered hooks of one kind.
    DeliveryReceived {
        /// Keap's name of the event.
        event_key: String,
        /// How many deliveries.
        deliveries: u64,
        /// Objects that they named.
        objects: u64,
        /// Whether records of this kind are synced; what is not is counted and nothing else.
        synced: bool,
    },
    /// Records were changed on one side as the other has them.
    RecordsApplied {
        /// Their kind.
        entity: EntityType,
        /// Where the change went.
        direction: Direction,
        /// What became of them.
        change: RecordChange,
        /// How many.
        count: u64,
        /// Which; the first [`RECORDS_NAMED_MAX`] of them.
        records: Vec<ChangedRecord>,
    },
    /// A conflict waits for a person.
    ConflictOpened(ConflictSeen),
    /// A conflict was settled by the account's policy.
    ConflictSettled {
        /// Which side's value stands: `keap`, `supabase` or `both`.
        winner: String,
        /// About what.
        #[serde(flatten)]
        conflict: ConflictSeen,
    },
    /// A person settled a conflict.
    ConflictResolved {
        /// The conflict, a UUID.
        conflict_id: String,
        /// How: `keap_wins`, `supabase_wins`, `merge` or `manual`.
        strategy: String,
    },
    /// A run was asked for, or begins by itself.
    RunStarted {
        /// Which.
        #[serde(flatten)]
        run: RunNamed,
        /// Which way it carries changes.
        direction: Direction,
        /// Whether it only lists what it would do.
        dry_run: bool,
    },
    /// A run has come further.
    RunProgressed {
        /// Which.
        #[serde(flatten)]
        run: RunNamed,
        /// What it did so far.
        counts: Counts,
        /// Of 100, where it can be told.
        percent: Option<u32>,
        /// When it will have read everything, at the rate so far.
        #[serde(with = "rfc3339::optional")]
        done_at: Option<Timestamp>,
    },
    /// The blast guard stopped a run: it goes on when somebody approves it.
    RunAwaitsApproval {
        /// Which.
        #[serde(flatten)]
        run: RunNamed,
        /// What it would still do.
        planned: Option<Counts>,
    },
    /// Somebody approved what a run would do.
    RunApproved {
        /// Which.
        #[serde(flatten)]
        run: RunNamed,
    },
    /// A run ended.
    RunEnded {
        /// Which.
        #[serde(flatten)]
        run: RunNamed,
        /// `completed` or `failed`.
        state: RunState,
        /// What it did.
        counts: Counts,
        /// How long it took, in milliseconds, from when it was asked for.
        duration_ms: i64,
        /// What went wrong.
        error: Option<FeedError>,
    },
    /// Work waits because the quota of calls to Keap is taken.
    QuotaThrottled {
        /// Which work: `person`, `outbox`, `hook`, `poll` or `backfill`.
        priority: String,
        /// How often it was put off.
        times: u64,
        /// The latest wait, in milliseconds.
        retry_after_ms: i64,
    },
    /// A part of the account's work fails; it is tried again by itself.
    PartFailed {
        /// Which, as in the account's status.
        part: String,
        /// Why.
        error: FeedError,
        /// Not before.
        #[serde(with = "rfc3339::optional")]
        retry_at: Option<Timestamp>,
    },
    /// A part that failed works again.
    PartRecovered {
        /// Which.
        part: String,
    },
    /// An event or an edit was given up until somebody replays it.
    DeadLetter {
        /// Kind of record.
        entity: EntityType,
        /// Where the change was going.
        direction: Direction,
        /// Which record.
        record: ChangedRecord,
        /// Why.
        error: FeedError,
    },
    /// The account's connection to Keap changed.
    ConnectionChanged {
        /// `connected`, `needs_reauthorization`, `revoked` or `disconnected`.
        state: String,
    },
    /// Somebody paused the account: what arrives is kept, and waits.
    Paused,
    /// Somebody let the account go on.
    Resumed,
}

/// What became of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordChange {
    /// Made.
    Created,
    /// Fields changed.
    Updated,
    /// Deleted.
    Deleted,
    /// Brought back.
    Undeleted,
}

/// A record that changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedRecord {
    /// The row, a UUID, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Keap's id, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keap_id: Option<String>,
    /// Names of the fields; empty for what was made or deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
}

/// What a conflict is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictSeen {
    /// Kind of record.
    pub entity: EntityType,
    /// The record, and the fields in conflict.
    pub record: ChangedRecord,
}

/// A run, as events name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunNamed {
    /// A UUID.
    pub run_id: String,
    /// What the runs that were started together with it share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_id: Option<String>,
    /// What it reads.
    pub kind: RunKind,
    /// Of which entity.
    pub entity: EntityType,
}

/// A failure, as events tell it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedError {
    /// What it calls for.
    pub class: FailureClass,
    /// What happened and what to do.
    pub message: String,
}

/// Times as the API shows them.
mod rfc3339 {
    use crate::timestamp::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(moment: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&moment.to_rfc3339())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        Timestamp::parse_rfc3339(&text).ok_or_else(|| D::Error::custom("a time is RFC 3339"))
    }

    pub(super) mod optional {
        use crate::timestamp::Timestamp;
        use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

        #[expect(clippy::ref_option, reason = "serde calls it so")]
        pub(in super::super) fn serialize<S: Serializer>(
            moment: &Option<Timestamp>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match moment {
                Some(moment) => serializer.serialize_some(&moment.to_rfc3339()),
                None => serializer.serialize_none(),
            }
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Timestamp>, D::Error> {
            let text = Option::<String>::deserialize(deserializer)?;
            text.map(|text| {
                Timestamp::parse_rfc3339(&text).ok_or_else(|| D::Error::custom("a time is RFC 3339"))
            })
            .transpose()
        }
    }
}
