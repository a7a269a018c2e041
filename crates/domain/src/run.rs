//! Runs: bulk syncs as people see them, and the bounded units they are made of.

use crate::failure::Failure;
use crate::ids::EntityType;
use crate::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

/// What a run reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    /// Every record, in order of id.
    Full,
    /// What changed since the watermark, less an overlap.
    Incremental,
}

/// Which way a run carries changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Reads Keap and merges into the mirror.
    KeapToSupabase,
    /// Carries captured edits to Keap.
    SupabaseToKeap,
    /// Both.
    #[default]
    Bidirectional,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Waits for its first unit.
    Queued,
    /// Units are being worked on.
    Running,
    /// Everything was read and applied.
    Completed,
    /// Given up; `failure` says why and what to do.
    Failed,
}

impl RunState {
    /// Whether nothing more will happen.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

/// How many records a run handled, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Read from Keap.
    pub read: u64,
    /// Rows made.
    pub created: u64,
    /// Rows changed.
    pub updated: u64,
    /// Already equal: nothing written.
    pub unchanged: u64,
    /// Rows deleted.
    pub deleted: u64,
    /// Conflicts found, settled or open.
    pub conflicts: u64,
    /// Records that could not be read or stored; each is listed among the dead letters.
    pub rejected: u64,
}

impl Counts {
    /// Adds what another pass did.
    pub fn add(&mut self, other: &Self) {
        self.read += other.read;
        self.created += other.created;
        self.updated += other.updated;
        self.unchanged += other.unchanged;
        self.deleted += other.deleted;
        self.conflicts += other.conflicts;
        self.rejected += other.rejected;
    }
}

/// Where the next unit goes on. Everything before it is committed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cursor {
    /// Full runs: the largest id applied so far. A key instead of a page token, so that a run can go on after any pause
    /// and rows that come or go meanwhile move nothing.
    pub after_id: Option<String>,
    /// Incremental runs: changes from this moment on.
    pub since: Option<Timestamp>,
    /// Incremental runs: Keap's token of the next page.
    pub page_token: Option<String>,
}

/// A run, as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// A UUID.
    pub id: String,
    /// The runs that were started together with it share this UUID; none for one that was started alone.
    #[serde(default)]
    pub batch_id: Option<String>,
    /// What it reads.
    pub kind: RunKind,
    /// Of which entity.
    pub entity: EntityType,
    /// Which way it carries changes.
    pub direction: Direction,
    /// Where it stands.
    pub state: RunState,
    /// What it did so far.
    pub counts: Counts,
    /// Where it goes on.
    pub cursor: Cursor,
    /// Units finished.
    pub units: u32,
    /// Failed attempts at the current unit.
    pub attempts: u32,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// When its first unit was ordered.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// The unit being worked on comes back to the queue at this moment.
    pub leased_until: Option<Timestamp>,
    /// No unit is ordered before this moment.
    pub not_before: Option<Timestamp>,
    /// What went wrong last.
    pub error: Option<Failure>,
}

/// Runs that were started together, as one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// What they are called together, a UUID.
    pub id: String,
    /// What they read.
    pub kind: RunKind,
    /// Where they stand: under way while one of them is, failed if one has.
    pub state: RunState,
    /// What they did so far, in all.
    pub counts: Counts,
    /// When the first was asked for.
    pub requested_at: Timestamp,
    /// When the first unit was ordered.
    pub started_at: Option<Timestamp>,
    /// When the last of them ended.
    pub finished_at: Option<Timestamp>,
    /// What went wrong with one of them.
    pub error: Option<Failure>,
    /// Each of them.
    pub runs: Vec<Run>,
}

impl Batch {
    /// The runs as one; `None` when there are none.
    #[must_use]
    pub fn of(id: &str, runs: Vec<Run>) -> Option<Self> {
        let first = runs.first()?;
        let mut counts = Counts::default();
        for run in &runs {
            counts.add(&run.counts);
        }
        let any = |state: RunState| runs.iter().any(|run| run.state == state);
        let is_over = runs.iter().all(|run| run.state.is_final());
        let state = match () {
            () if is_over && any(RunState::Failed) => RunState::Failed,
            () if is_over => RunState::Completed,
            () if runs.iter().all(|run| run.state == RunState::Queued) => RunState::Queued,
            () => RunState::Running,
        };
        Some(Self {
            id: id.to_owned(),
            kind: first.kind,
            state,
            counts,
            requested_at: runs.iter().map(|run| run.requested_at).min().unwrap_or(first.requested_at),
            started_at: runs.iter().filter_map(|run| run.started_at).min(),
            finished_at: runs.iter().filter_map(|run| run.finished_at).max().filter(|_| is_over),
            error: runs.iter().find_map(|run| run.error.clone()),
            runs,
        })
    }
}
