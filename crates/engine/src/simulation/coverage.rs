//! What a history exercised: counts by name, so that a report shows what was tried and what never was.

use crate::ports::ConflictRecord;
use std::collections::BTreeMap;

/// Counts by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// The counts.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Coverage {
    pub(super) fn count(&mut self, name: &'static str) {
        self.add(name, 1);
    }

    pub(super) fn add(&mut self, name: &'static str, count: u64) {
        if count > 0 {
            *self.counts.entry(name).or_default() += count;
        }
    }

    pub(super) fn conflict(&mut self, conflict: &ConflictRecord) {
        let is_delete = conflict.field == crate::inbound::DELETED_AT;
        self.count(match (is_delete, conflict.winner) {
            (true, None) => "conflict: delete in Keap against an edit, open",
            (true, Some(_)) => "conflict: delete in Supabase against an edit, undeleted",
            (false, Some("keap")) => "conflict: Keap wins",
            (false, Some(_)) => "conflict: Supabase wins",
            (false, None) => "conflict: waits for a person",
        });
    }

    /// Adds another history's.
    pub fn merge(&mut self, other: &Self) {
        for (name, count) in &other.counts {
            self.add(name, *count);
        }
    }
}
