//! One row and its record at rest: every edit of a round is looked for, and everything that was sent is somebody's.

use crate::grammar::Edit;
use crate::judge::{Fate, Rest, Wanted, is_derived, is_moved_with, unasked};
use crate::keap::Sent;
use crate::parts::{Parts, is_same, parts_of, unit_of};
use crate::store::Noted;
use crate::world::{Outcome, Problem};
use keapsync_domain::ids::EntityType;
use keapsync_engine::ports::RowState;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// An edit in Keap.
#[derive(Clone, Debug)]
pub struct InKeap {
    /// Kind of record.
    pub entity: EntityType,
    /// Keap's id.
    pub keap_id: String,
    /// What was set.
    pub edit: Edit,
    /// Whether a person replaced it in the row after it had arrived there.
    pub is_replaced: bool,
}

/// A row and its record, with what was done to them in a round.
pub struct Case<'a> {
    /// Kind of record.
    pub entity: EntityType,
    /// The row's id.
    pub row_id: &'a str,
    /// What people call it.
    pub name: String,
    /// The row's parts.
    pub here: Parts,
    /// Keap's.
    pub there: Parts,
    /// Whether Keap has the record.
    pub has_record: bool,
    /// `sync_status`.
    pub state: RowState,
    /// `sync_error`.
    pub word: Option<&'a str>,
    /// What people wrote in the row, in order.
    pub edits: &'a [Edit],
    /// What people wrote in Keap, in order.
    pub in_keap: Vec<&'a InKeap>,
    /// What the engine noted of the row.
    pub noted: Vec<Noted>,
    /// What the engine wrote in Keap.
    pub sent: Vec<&'a Sent>,
}

impl Case<'_> {
    /// Notes a problem.
    pub fn problem(&self, path: &str, what: &str, detail: &str, outcome: &mut Outcome) {
        let entity = self.entity.as_str();
        outcome.problems.push(Problem {
            kind: format!("{entity} {}: {what}", kind_of_path(path)),
            told: format!("{entity} {}: {path}: {detail}", self.name),
            round: outcome.round,
        });
    }

    /// Judges the row; says whether it still differs from its record.
    pub fn judge(&self, outcome: &mut Outcome) -> bool {
        self.edits_here(outcome);
        self.edits_in_keap(outcome);
        self.everything_sent(outcome);
        let differing = self.differing();
        if self.state == RowState::Completed && self.has_record {
            self.untouched(&differing, outcome);
        }
        !differing.is_empty() || self.state == RowState::Conflict || !self.has_record
    }

    fn edits_here(&self, outcome: &mut Outcome) {
        let in_keap: BTreeSet<&str> = self.in_keap.iter().map(|one| one.edit.path.as_str()).collect();
        let after = |is_chosen: &dyn Fn(&Sent) -> bool| -> Vec<Parts> {
            let sent = self.sent.iter().filter(|sent| is_chosen(sent));
            sent.filter_map(|sent| sent.after.as_ref().map(|after| parts_of(&after.record))).collect()
        };
        let (reached, unanswered) = (after(&|_| true), after(&|sent| sent.is_answer_lost));
        let rest = Rest {
            entity: self.entity,
            here: &self.here,
            there: &self.there,
            state: self.state,
            word: self.word,
            noted: &self.noted,
            in_keap: &in_keap,
            edits: self.edits,
            reached: &reached,
            unanswered: &unanswered,
        };
        for (place, edit) in self.edits.iter().enumerate() {
            outcome.edits += 1;
            // A reason is that of an address: another address has none.
            let address = edit.path.strip_suffix("opt_in_reason").map(|slot| format!("{slot}email"));
            let mut later = self.edits.iter().skip(place + 1);
            let is_replaced =
                later.any(|later| later.path == edit.path || Some(&later.path) == address.as_ref());
            match if is_replaced { Ok(Fate::Replaced) } else { rest.fate(edit) } {
                Ok(fate) => *outcome.fates.entry(fate).or_default() += 1,
                Err(what) => {
                    let detail = format!("{} was written; {what}; {}", edit.json, self.shown(&edit.path));
                    self.problem(&edit.path, what.split(';').next().unwrap_or_default(), &detail, outcome);
                }
            }
        }
    }

    /// What people did in Keap is an edit as well.
    fn edits_in_keap(&self, outcome: &mut Outcome) {
        let (edited, conflicts) = (self.edited(), self.conflicts());
        for (place, one) in self.in_keap.iter().enumerate() {
            outcome.edits += 1;
            let (edit, unit) = (&one.edit, unit_of(&one.edit.path));
            let later = self.in_keap.iter().skip(place + 1);
            let is_replaced =
                one.is_replaced || later.into_iter().any(|later| unit_of(&later.edit.path) == unit);
            let is_there = |parts: &Parts| {
                let value = parts.get(&edit.path);
                value.is_some_and(|value| is_same(self.entity, &edit.path, value, &edit.value()))
            };
            let is_excused = conflicts.contains(unit) || is_moved_with(self.entity, &edit.path, &edited);
            if !(is_replaced || is_there(&self.here) && is_there(&self.there) || is_excused) {
                let detail =
                    format!("{} was written in Keap and is lost; {}", edit.json, self.shown(&edit.path));
                self.problem(&edit.path, "an edit in Keap is lost", &detail, outcome);
            }
        }
    }

    fn everything_sent(&self, outcome: &mut Outcome) {
        let mut edits: BTreeMap<&str, Vec<&Edit>> = BTreeMap::new();
        for edit in self.edits {
            edits.entry(&edit.path).or_default().push(edit);
        }
        let wanted = Wanted { row_id: self.row_id, edits, conflicts: self.conflicts() };
        for sent in &self.sent {
            for what in unasked(sent, &wanted) {
                let path = what.split(' ').next().unwrap_or_default();
                self.problem(path, "nobody asked for it", &format!("{what} ({})", sent.call), outcome);
            }
        }
    }

    /// A row that says completed holds what Keap holds, edited or not. What Keap works out by itself may be missing in the row, but
    /// not be that of another value.
    fn untouched(&self, differing: &[&String], outcome: &mut Outcome) {
        let edited = self.edited();
        for path in differing.iter().filter(|path| !edited.contains(path.as_str())) {
            if self.here.contains_key(*path) || !is_derived(path) {
                let what = "completed with a difference in a part that nobody edited";
                self.problem(path, what, &format!("{what}; {}", self.shown(path)), outcome);
            }
        }
    }

    fn differing(&self) -> Vec<&String> {
        let paths: BTreeSet<&String> = self.here.keys().chain(self.there.keys()).collect();
        let differs = |path: &&String| {
            let [here, there] =
                [&self.here, &self.there].map(|parts| parts.get(*path).cloned().unwrap_or_default());
            !is_same(self.entity, path, &here, &there)
        };
        paths.into_iter().filter(differs).collect()
    }

    fn edited(&self) -> BTreeSet<&str> {
        self.edits.iter().map(|edit| edit.path.as_str()).collect()
    }

    fn conflicts(&self) -> BTreeSet<&str> {
        self.noted.iter().flat_map(|noted| &noted.conflicts).map(|(field, _)| field.as_str()).collect()
    }

    fn shown(&self, path: &str) -> String {
        let [here, there] = [&self.here, &self.there]
            .map(|parts| parts.get(path).map_or_else(|| "nothing".to_owned(), Value::to_string));
        format!("the row holds {here}, Keap {there}")
    }
}

/// A path without the names of what differs from case to case.
fn kind_of_path(path: &str) -> String {
    let is_name =
        |step: &str| step.bytes().any(|byte| byte.is_ascii_digit()) || step.chars().all(char::is_uppercase);
    path.split('.').map(|step| if is_name(step) { "*" } else { step }).collect::<Vec<_>>().join(".")
}
