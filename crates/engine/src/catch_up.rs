//! What has to be read because events may have been missed: hooks that were not Verified, a time without the account's alarm, a
//! pause.
//!
//! A debt is paid by any run that reads the entity completely and begins after the gap has ended: one that began before may have
//! passed by what changed since. So debts are settled by what completed runs leave (the watermark, and the start of the last full
//! run), not by which run it was, and a run that a debt needs is begun only when none that pays it is under way.

use crate::runs::TrackedRun;
use keapsync_domain::ids::EntityType;
use keapsync_domain::run::{Direction, RunKind};
use keapsync_domain::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Pause between two runs that are begun for the same debt, in milliseconds: the first has failed, or a person ended it.
const RETRY_MS: i64 = 600_000;

/// Time between the beginnings of two runs that read the tags of contacts which Keap did not name, in milliseconds.
const TAG_RUNS_APART_MS: i64 = 1_800_000;

/// Runs that are begun for one debt before it is left to the daily full run.
const BEGUN_MAX: u32 = 4;

/// Why events may have been missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Keap did not deliver.
    HookGap,
    /// The account's alarm did not run.
    Downtime,
    /// Somebody paused the account.
    Pause,
    /// Keap told that tags were applied to contacts or taken off, but not which contacts.
    UnnamedTags,
}

/// Something to be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Debt {
    /// Of which entity.
    pub entity: EntityType,
    /// Whether what changed is enough, or everything has to be read.
    pub kind: RunKind,
    /// Why.
    pub reason: Reason,
    /// Events may be missing from here on.
    pub since: Timestamp,
    /// Up to here: a run that begins later pays.
    pub until: Timestamp,
    /// Runs that were begun for it.
    pub begun: u32,
    /// No other run is begun before.
    pub not_before: Option<Timestamp>,
}

/// Starts of completed runs, by entity.
#[derive(Clone, Copy, Debug)]
pub struct Read<'a> {
    /// Of those that read what changed, or everything.
    pub watermarks: &'a BTreeMap<EntityType, Timestamp>,
    /// Of those that read everything.
    pub full: &'a BTreeMap<EntityType, Timestamp>,
}

/// What is to be done about a debt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// It is paid.
    Paid,
    /// Nothing was ever read: the first full run will read it all.
    Void,
    /// Too many runs have failed.
    GivenUp,
    /// A run that pays it, or that must end before, is under way.
    Waits,
    /// A run is begun at this moment.
    Begin(Timestamp),
}

/// All debts of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CatchUp(pub Vec<Debt>);

impl CatchUp {
    /// Adds a debt to those of its entity and kind.
    pub fn owe(&mut self, entity: EntityType, kind: RunKind, reason: Reason, gap: (Timestamp, Timestamp)) {
        let (since, until) = gap;
        match self.0.iter_mut().find(|debt| debt.entity == entity && debt.kind == kind) {
            Some(debt) => {
                debt.reason = reason;
                debt.since = debt.since.min(since);
                debt.until = debt.until.max(until);
                debt.begun = 0;
                debt.not_before = None;
            }
            None => {
                self.0.push(Debt { entity, kind, reason, since, until, begun: 0, not_before: None });
            }
        }
    }

    /// Owes a full run of contacts, because tags were applied to some that Keap did not name. Such runs begin half an hour apart,
    /// however many tags are applied.
    pub fn owe_tags(&mut self, full: &BTreeMap<EntityType, Timestamp>, now: Timestamp) {
        let spaced = full.get(&EntityType::Contact).map(|started| started.plus_ms(TAG_RUNS_APART_MS));
        match self.0.iter_mut().find(|debt| debt.entity == EntityType::Contact && debt.kind == RunKind::Full)
        {
            Some(debt) => {
                debt.until = debt.until.max(now);
                if debt.reason == Reason::UnnamedTags {
                    debt.not_before = debt.not_before.max(spaced);
                }
            }
            None => self.0.push(Debt {
                entity: EntityType::Contact,
                kind: RunKind::Full,
                reason: Reason::UnnamedTags,
                since: now,
                until: now,
                begun: 0,
                not_before: spaced,
            }),
        }
    }

    /// Whether something is owed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The debts that stay, after those that are paid or void were taken off; and those that were given up.
    #[must_use]
    pub fn settled(&self, active: &[TrackedRun], read: Read<'_>) -> (Self, Vec<Debt>) {
        let (mut kept, mut given_up) = (Vec::new(), Vec::new());
        for debt in self.0.iter().map(|debt| debt.advanced(read)) {
            match debt.next(active, read) {
                Next::Paid | Next::Void => {}
                Next::GivenUp => given_up.push(debt),
                Next::Waits | Next::Begin(_) => kept.push(debt),
            }
        }
        (Self(kept), given_up)
    }

    /// When there is a run to begin; `None` when there is none, or runs under way have to end first.
    #[must_use]
    pub fn due_at(&self, active: &[TrackedRun], read: Read<'_>) -> Option<Timestamp> {
        let due = self.0.iter().filter_map(|debt| match debt.next(active, read) {
            Next::Begin(at) => Some(at),
            // To be taken off at once.
            Next::Paid | Next::Void | Next::GivenUp => Some(debt.until),
            Next::Waits => None,
        });
        due.min()
    }

    /// Takes note that the runs which are due now are begun, and says which.
    pub fn begin(
        &mut self,
        active: &[TrackedRun],
        read: Read<'_>,
        now: Timestamp,
    ) -> Vec<(EntityType, RunKind)> {
        let mut begun = Vec::new();
        for debt in &mut self.0 {
            if matches!(debt.next(active, read), Next::Begin(at) if at <= now) {
                debt.begun += 1;
                debt.not_before = Some(now.plus_ms(RETRY_MS));
                begun.push((debt.entity, debt.kind));
            }
        }
        // Who reads everything reads what changed.
        let full: Vec<EntityType> =
            begun.iter().filter(|(_, kind)| *kind == RunKind::Full).map(|(entity, _)| *entity).collect();
        begun.retain(|(entity, kind)| *kind == RunKind::Full || !full.contains(entity));
        begun
    }
}

impl Debt {
    /// When the last completed run began that pays such a debt, or a part of it.
    fn read_from(&self, read: Read<'_>) -> Option<Timestamp> {
        let started = match self.kind {
            RunKind::Full => read.full.get(&self.entity),
            _ => read.watermarks.get(&self.entity),
        };
        started.copied()
    }

    /// The debt after what has been read of it. Tags that Keap does not name go on being applied while a run reads: that it did not pay is
    /// no failure of it, and what is owed from its beginning on is tried as often as a new debt.
    fn advanced(&self, read: Read<'_>) -> Self {
        let comes_again = self.reason == Reason::UnnamedTags;
        match self.read_from(read).filter(|started| comes_again && *started > self.since) {
            Some(started) => Self { since: started, begun: 0, ..self.clone() },
            None => self.clone(),
        }
    }

    fn next(&self, active: &[TrackedRun], read: Read<'_>) -> Next {
        if self.read_from(read).is_some_and(|started| started >= self.until) {
            return Next::Paid;
        }
        let mut reading = active.iter().filter(|tracked| {
            let run = &tracked.run;
            !run.state.is_final()
                && run.entity == self.entity
                && matches!(run.kind, RunKind::Full | RunKind::Incremental)
                && run.direction != Direction::SupabaseToKeap
                && !run.dry_run
        });
        // One of the same kind would be joined, so it has to end first, even if it began too early to pay.
        let has_to_end = reading.any(|tracked| {
            let began_in_time = tracked.run.started_at.is_none_or(|started| started >= self.until);
            tracked.run.kind == self.kind || (tracked.run.kind == RunKind::Full && began_in_time)
        });
        if has_to_end {
            Next::Waits
        } else if !read.watermarks.contains_key(&self.entity) {
            if active.iter().any(|tracked| tracked.run.entity == self.entity && !tracked.run.state.is_final())
            {
                Next::Waits
            } else {
                Next::Void
            }
        } else if self.begun >= BEGUN_MAX {
            Next::GivenUp
        } else {
            Next::Begin(self.not_before.unwrap_or(self.until))
        }
    }
}

/// Notes that a run which began at `started` has read an entity. Runs end in any order: one that ends late takes nothing back.
pub fn note_read(read: &mut BTreeMap<EntityType, Timestamp>, entity: EntityType, started: Timestamp) {
    let known = read.entry(entity).or_insert(started);
    *known = started.max(*known);
}

/// Since when the account's alarm did not run, when that is longer than `silence_max_ms`: what Keap could not deliver meanwhile it
/// tries again for about half an hour only.
#[must_use]
pub fn downtime(alive_at: Option<Timestamp>, now: Timestamp, silence_max_ms: i64) -> Option<Timestamp> {
    alive_at.filter(|alive_at| now.since_ms(*alive_at) > silence_max_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runs::{RunRequest, Start, start};
    use keapsync_domain::run::RunState;
    use proptest::prelude::*;

    const CONTACT: EntityType = EntityType::Contact;

    fn run(kind: RunKind, started_at: Option<i64>) -> TrackedRun {
        let request = RunRequest {
            kind,
            entity: CONTACT,
            direction: Direction::Bidirectional,
            batch_id: None,
            dry_run: false,
            reverts: None,
        };
        let Start::Started(mut tracked) = start(&[], &request, "run", Some(Timestamp(0)), Timestamp(0))
        else {
            panic!("nothing to join");
        };
        tracked.run.started_at = started_at.map(Timestamp);
        *tracked
    }

    fn owed(kind: RunKind) -> CatchUp {
        let mut owed = CatchUp::default();
        owed.owe(CONTACT, kind, Reason::HookGap, (Timestamp(50), Timestamp(100)));
        owed
    }

    fn at(moment: i64) -> BTreeMap<EntityType, Timestamp> {
        BTreeMap::from([(CONTACT, Timestamp(moment))])
    }

    #[test]
    fn a_run_that_began_in_the_gap_does_not_pay() {
        let (early, none) = (at(99), BTreeMap::new());
        let read = Read { watermarks: &early, full: &none };
        let mut debts = owed(RunKind::Incremental);
        let under_way = [run(RunKind::Incremental, Some(99))];
        assert_eq!(debts.due_at(&under_way, read), None);
        assert!(debts.begin(&under_way, read, Timestamp(200)).is_empty());
        assert_eq!(debts.begin(&[], read, Timestamp(200)), [(CONTACT, RunKind::Incremental)]);
        assert_eq!(debts.settled(&[], read).0, debts);
        let late = at(100);
        let read = Read { watermarks: &late, full: &none };
        assert!(debts.settled(&[], read).0.is_empty());
    }

    #[test]
    fn only_a_full_run_pays_for_deletes_and_it_pays_for_changes_too() {
        let (late, none) = (at(500), BTreeMap::new());
        let read = Read { watermarks: &late, full: &none };
        let mut debts = owed(RunKind::Full);
        assert!(!debts.settled(&[], read).0.is_empty());
        debts.owe(CONTACT, RunKind::Incremental, Reason::Pause, (Timestamp(600), Timestamp(700)));
        assert_eq!(debts.begin(&[], read, Timestamp(800)), [(CONTACT, RunKind::Full)]);
        let under_way = [run(RunKind::Full, Some(800))];
        assert!(debts.begin(&under_way, read, Timestamp(9_000_000)).is_empty());
        let paid = at(800);
        assert!(debts.settled(&[], Read { watermarks: &paid, full: &paid }).0.is_empty());
    }

    #[test]
    fn before_the_first_full_run_nothing_is_owed() {
        let none = BTreeMap::new();
        let read = Read { watermarks: &none, full: &none };
        let debts = owed(RunKind::Incremental);
        assert!(debts.settled(&[], read).0.is_empty());
        // The first run began before the gap ended: what it passed by is read again.
        let first = [run(RunKind::Full, Some(10))];
        assert!(!debts.settled(&first, read).0.is_empty());
        assert_eq!(debts.due_at(&first, read), None);
    }

    #[test]
    fn runs_that_fail_are_begun_again_a_few_times() {
        let (early, none) = (at(1), BTreeMap::new());
        let read = Read { watermarks: &early, full: &none };
        let mut debts = owed(RunKind::Incremental);
        let mut now = Timestamp(100);
        for _ in 0..BEGUN_MAX {
            assert_eq!(debts.begin(&[], read, now).len(), 1);
            assert!(debts.begin(&[], read, now).is_empty());
            now = now.plus_ms(RETRY_MS);
        }
        let (left, given_up) = debts.settled(&[], read);
        assert!(left.is_empty());
        assert_eq!(given_up.len(), 1);
    }

    #[test]
    fn tags_of_unnamed_contacts_are_read_soon_and_then_half_an_hour_apart() {
        let (watermarks, none) = (at(1), BTreeMap::new());
        let read = Read { watermarks: &watermarks, full: &none };
        let mut debts = CatchUp::default();
        debts.owe_tags(&none, Timestamp(100));
        debts.owe_tags(&none, Timestamp(110));
        assert_eq!(debts.0.len(), 1);
        assert_eq!(debts.begin(&[], read, Timestamp(110)), [(CONTACT, RunKind::Full)]);
        // One that comes while the run reads is not paid by it.
        debts.owe_tags(&none, Timestamp(120));
        let full = at(115);
        let read = Read { watermarks: &watermarks, full: &full };
        let (mut debts, _) = debts.settled(&[], read);
        debts.owe_tags(&full, Timestamp(130));
        let due_at = debts.due_at(&[], read).unwrap();
        assert_eq!(due_at, Timestamp(115 + TAG_RUNS_APART_MS));
        assert!(debts.begin(&[], read, due_at.plus_ms(-1)).is_empty());
        assert_eq!(debts.begin(&[], read, due_at), [(CONTACT, RunKind::Full)]);
        // A gap does not wait for that.
        let mut debts = CatchUp::default();
        debts.owe_tags(&full, Timestamp(140));
        debts.owe(CONTACT, RunKind::Full, Reason::HookGap, (Timestamp(130), Timestamp(150)));
        assert_eq!(debts.due_at(&[], read), Some(Timestamp(150)));
    }

    #[test]
    fn tags_that_never_stop_are_read_as_long_as_runs_succeed() {
        let watermarks = at(1);
        let mut full = BTreeMap::new();
        let mut debts = CatchUp::default();
        let mut now = Timestamp(100);
        debts.owe_tags(&full, now);
        for _ in 0..3 * BEGUN_MAX {
            let read = Read { watermarks: &watermarks, full: &full };
            let due_at = debts.due_at(&[], read).expect("a run is owed");
            now = now.max(due_at);
            let started = now;
            assert_eq!(debts.begin(&[], read, now), [(CONTACT, RunKind::Full)]);
            // One comes while the run reads; then the run succeeds.
            debts.owe_tags(&full, now.plus_ms(5));
            full.insert(CONTACT, started);
            let (left, given_up) = debts.settled(&[], Read { watermarks: &watermarks, full: &full });
            assert!(given_up.is_empty(), "each run succeeded");
            debts = left;
            now = now.plus_ms(RETRY_MS);
        }
    }

    #[test]
    fn a_run_that_ends_late_takes_nothing_back() {
        let mut read = at(500);
        note_read(&mut read, CONTACT, Timestamp(400));
        assert_eq!(read, at(500));
        note_read(&mut read, CONTACT, Timestamp(600));
        assert_eq!(read, at(600));
    }

    #[test]
    fn silence_is_told_from_a_pause_between_two_looks() {
        assert_eq!(downtime(None, Timestamp(1_000_000), 600_000), None);
        assert_eq!(downtime(Some(Timestamp(0)), Timestamp(600_000), 600_000), None);
        assert_eq!(downtime(Some(Timestamp(0)), Timestamp(600_001), 600_000), Some(Timestamp(0)));
    }

    proptest! {
        /// Whatever runs come and go: once nothing is owed, a complete reading has begun after the end of the last gap.
        #[test]
        fn debts_end_only_by_reading(steps in prop::collection::vec((0_u8..4, any::<bool>()), 0..60)) {
            let (mut watermarks, mut full) = (at(0), BTreeMap::new());
            let mut debts = CatchUp::default();
            let mut active: Vec<TrackedRun> = Vec::new();
            let mut last_gap: BTreeMap<bool, i64> = BTreeMap::new();
            for (now, (step, is_full)) in (1_i64..).zip(steps) {
                let kind = if is_full { RunKind::Full } else { RunKind::Incremental };
                match step {
                    0 => {
                        debts.owe(CONTACT, kind, Reason::HookGap, (Timestamp(now - 1), Timestamp(now)));
                        last_gap.insert(is_full, now);
                    }
                    1 => {
                        let read = Read { watermarks: &watermarks, full: &full };
                        for (_, kind) in debts.begin(&active, read, Timestamp(now)) {
                            active.push(run(kind, Some(now)));
                        }
                    }
                    2 if !active.is_empty() => {
                        let mut ended = active.remove(0);
                        ended.run.state = RunState::Completed;
                        let started = ended.watermark().unwrap();
                        let known = watermarks.entry(CONTACT).or_insert(started);
                        *known = started.max(*known);
                        if ended.run.kind == RunKind::Full {
                            let known = full.entry(CONTACT).or_insert(started);
                            *known = started.max(*known);
                        }
                    }
                    _ => {
                        let (left, given_up) = debts.settled(&active, Read { watermarks: &watermarks, full: &full });
                        prop_assert!(given_up.is_empty());
                        debts = left;
                    }
                }
                if debts.is_empty() {
                    for (is_full, ended) in &last_gap {
                        let started = if *is_full { full.get(&CONTACT) } else { watermarks.get(&CONTACT) };
                        prop_assert!(started.is_some_and(|started| started.0 >= *ended));
                    }
                }
            }
        }
    }
}
