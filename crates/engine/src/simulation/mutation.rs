//! Known-bad engines: each a mistake that a sync engine can make, put between the engine and its ports.
//!
//! The engine's own code stays as it is. What a mistake in it would do, its ports do instead: they hide from it what the
//! mistaken engine would not look at, or carry out what it would not have held back.

use crate::inbound::DELETED_AT;
use crate::ports::{KnownRow, LocalRow, OutboxItem};

/// A mistake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mutation {
    /// None: the engine as it is.
    #[default]
    None,
    /// A write goes ahead although the row has changed since it was read.
    SkipBaseCheck,
    /// A deleted row leaves nothing behind.
    DropTombstone,
    /// Who writes last wins, whatever the other side did since the base.
    LastWriterWins,
    /// What is read is applied as it arrives, however old.
    ArrivalOrder,
    /// A create that was begun before is not looked for.
    ForgetIntent,
    /// A row that Keap has no record of any more is still known by what the record held.
    RememberGone,
    /// The undo of what Keap made is carried to Keap.
    UndoInKeap,
    /// Keap is written by what a list told of a record before, however long ago that was.
    StaleReading,
    /// A poll goes through what changed in the order of change, from page to page by Keap's tokens, which are positions.
    PositionTokens,
}

impl Mutation {
    /// All mistakes.
    pub const ALL: [Self; 9] = [
        Self::SkipBaseCheck,
        Self::DropTombstone,
        Self::LastWriterWins,
        Self::ArrivalOrder,
        Self::ForgetIntent,
        Self::RememberGone,
        Self::UndoInKeap,
        Self::StaleReading,
        Self::PositionTokens,
    ];

    /// The name on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::SkipBaseCheck => "skip-base-check",
            Self::DropTombstone => "drop-tombstone",
            Self::LastWriterWins => "last-writer-wins",
            Self::ArrivalOrder => "arrival-order",
            Self::ForgetIntent => "forget-intent",
            Self::RememberGone => "remember-gone",
            Self::UndoInKeap => "undo-in-keap",
            Self::StaleReading => "stale-reading",
            Self::PositionTokens => "position-tokens",
        }
    }

    /// The mistake of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mutation| mutation.as_str() == name)
    }

    pub(super) fn of_row(self, mut row: LocalRow) -> LocalRow {
        match self {
            Self::ArrivalOrder => {
                row.keap_updated_at = None;
                row.keap_observed_at = None;
            }
            Self::LastWriterWins if row.has_base => row.base_delta.retain(|name, _| name == DELETED_AT),
            _ => {}
        }
        row
    }

    pub(super) fn of_known(self, known: KnownRow) -> KnownRow {
        KnownRow { row: known.row.map(|row| self.of_row(row)), ..known }
    }

    pub(super) fn of_item(self, item: OutboxItem) -> OutboxItem {
        let claims = if self == Self::ForgetIntent { 1 } else { item.claims };
        OutboxItem { claims, ..item }
    }
}
