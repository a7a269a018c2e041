//! Runs: bulk syncs as people see them, and the bounded units they are made of.

use crate::certificate::Comparison;
use crate::failure::Failure;
use crate::ids::EntityType;
use crate::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

/// What a run reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    /// Every record, in order of id, and what Keap has lost: the daily reconciliation as well as the first load.
    Full,
    /// What changed since the watermark, less an overlap.
    Incremental,
    /// Both sides completely, and compares them: the convergence certificate. Writes no record.
    Verify,
    /// No record of Keap, but the audit log of another run, to undo what that did.
    Revert,
}

impl RunKind {
    /// The name in `sync_runs` and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Incremental => "incremental",
            Self::Verify => "verify",
            Self::Revert => "revert",
        }
    }
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
    /// Stopped by the blast guard, with a list of what it would still do: somebody approves it or starts another.
    AwaitingApproval,
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

    /// The name in `sync_runs` and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::AwaitingApproval => "awaiting_approval",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
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
    /// Rows that were deleted, or of which a value was replaced or cleared: what the blast guard counts.
    pub destroyed: u64,
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
        self.destroyed += other.destroyed;
    }
}

/// The parts of a run, one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Keap's records are read.
    #[default]
    Reading,
    /// The rows are gone through, for those whose record Keap has lost, or that never had one.
    Rows,
    /// Dry runs: what waits for Keap is gone through.
    Outgoing,
}

/// Where the next unit goes on. Everything before it is committed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cursor {
    /// Full and incremental runs: the largest id applied so far. A key instead of a page token, so that a run can go on after any pause
    /// and rows that come or go meanwhile move nothing.
    pub after_id: Option<String>,
    /// Incremental runs: changes from this moment on.
    pub since: Option<Timestamp>,
    /// Keap's token of the next page, where it pages by token.
    pub page_token: Option<String>,
    /// How often a list was gone through that moves while it is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pass: Option<ListPass>,
    /// Which part of the run this is in.
    pub phase: Phase,
    /// Later phases: the last row that was looked at.
    pub after_row: Option<String>,
    /// Verifying runs: what the comparison came to so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Box<Comparison>>,
    /// Reverting runs: the oldest audit entry that is undone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before_entry: Option<i64>,
}

/// One pass over a list that is paged by position: what comes or goes meanwhile shifts the rest, so that a record may lie on none of the
/// pages. The list counts as read once two passes have met the same records, each with the same time of change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListPass {
    /// Passes before this one.
    pub number: u32,
    /// A sum over the records met so far.
    pub met: u32,
    /// The same of the pass before.
    pub before: Option<u32>,
}

/// How far a run that reads everything has come. Keap tells no number of records; the ids are taken for evenly spread, so this
/// is an estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The largest id when the run began.
    pub newest_id: u64,
    /// Of 100.
    pub percent: u32,
    /// When it will have read everything, at the rate so far.
    pub done_at: Option<Timestamp>,
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
    /// Whether it only lists what it would do.
    #[serde(default)]
    pub dry_run: bool,
    /// The run that it undoes.
    #[serde(default)]
    pub reverts: Option<String>,
    /// Where it stands.
    pub state: RunState,
    /// What it did so far.
    pub counts: Counts,
    /// What it would still do, once the blast guard has stopped it.
    #[serde(default)]
    pub planned: Option<Counts>,
    /// How far it has come.
    #[serde(default)]
    pub progress: Option<Progress>,
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
            () if runs.iter().all(|run| run.state.is_final() || run.state == RunState::AwaitingApproval) => {
                RunState::AwaitingApproval
            }
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
