//! Runs as a state machine: started once per kind, ordered unit by unit, moved on by reports.
//!
//! Invariants. One run per kind and entity is active. Of a run, one unit is out at a time; its number is new with every
//! order, and only the report of the unit that is out counts, so a unit that was believed dead cannot move the cursor back
//! or count twice. The cursor moves only by reports, which stand behind what is committed. The watermark moves only when a
//! run has read everything, and to the moment at which it began.
//!
//! A run that the blast guard stops goes on as a plan, from there to its end, so that a person sees what it would still do. Then it
//! waits, and goes on from where it was stopped only by a person's word.

use crate::guard::HeldBack;
use crate::ports::proof::Held;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::EntityType;
use keapsync_domain::limits::UNIT_LEASE_MS;
use keapsync_domain::retry::{Earlier, Next, Work, after};
use keapsync_domain::run::{Counts, Cursor, Direction, Phase, Progress, Run, RunKind, RunState};
use keapsync_domain::timestamp::Timestamp;
use keapsync_domain::wire::{Approval, UnitMode, UnitReport};
use serde::{Deserialize, Serialize};

/// How far an incremental run reads back before the watermark, in milliseconds: Keap's clock and ours differ, and a change
/// may become visible late. What is read twice is found unchanged by its hash.
pub const WATERMARK_OVERLAP_MS: i64 = 5 * 60_000;

/// Units that may vanish without a report, one after the other at the same cursor, before a person looks.
const LOST_UNITS_MAX: u32 = 5;

/// A run and what is needed to work on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrackedRun {
    /// As the API shows it.
    pub run: Run,
    /// Number of the unit that was ordered last; 0 before the first.
    pub unit: u32,
    /// Failures at the current cursor for which the run itself may be to blame.
    pub counted_failures: i32,
    /// Units at the current cursor that vanished.
    pub lost_units: u32,
    /// Quota lease of the unit that is out.
    pub lease_id: Option<String>,
    /// Where the blast guard stopped the run.
    #[serde(default)]
    pub held_at: Option<Box<Cursor>>,
    /// What somebody approved that the run destroys.
    #[serde(default)]
    pub approved: Option<Approval>,
    /// The class of edits and deletes that wait with the run for approval; `None` for a run that was started.
    #[serde(default)]
    pub holds: Option<Holding>,
}

/// What a run holds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// Of which class.
    pub class: Held,
    /// Edits that were held until then, by the database's clock, are among what it shows.
    pub edits_until: Timestamp,
}

/// What a run is asked to do.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRequest {
    /// What to read.
    pub kind: RunKind,
    /// Of which entity.
    pub entity: EntityType,
    /// Which way to carry changes.
    pub direction: Direction,
    /// Shared with the runs that are started together with it.
    pub batch_id: Option<String>,
    /// Whether only to list what it would do.
    pub dry_run: bool,
    /// The run to undo.
    pub reverts: Option<String>,
}

/// What starting a run comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    /// A run of that kind is under way: its id.
    Joined(String),
    /// A new run, to be stored.
    Started(Box<TrackedRun>),
}

/// Starts a run, or joins the active one of its kind. An incremental run without a watermark has nothing to start from and
/// becomes a full one.
#[must_use]
pub fn start(
    active: &[TrackedRun],
    request: &RunRequest,
    run_id: &str,
    watermark: Option<Timestamp>,
    now: Timestamp,
) -> Start {
    let kind = match request.kind {
        RunKind::Incremental if watermark.is_none() => RunKind::Full,
        kind => kind,
    };
    let same = active.iter().map(|tracked| &tracked.run).find(|run| {
        !run.state.is_final()
            && (run.kind, run.entity, run.direction) == (kind, request.entity, request.direction)
            && (run.dry_run, &run.reverts) == (request.dry_run, &request.reverts)
    });
    if let Some(run) = same {
        return Start::Joined(run.id.clone());
    }
    let since = match kind {
        RunKind::Full | RunKind::Verify | RunKind::Revert => None,
        RunKind::Incremental => watermark.map(|moment| moment.plus_ms(-WATERMARK_OVERLAP_MS)),
    };
    let phase = match (kind, request.direction) {
        (RunKind::Full | RunKind::Incremental, Direction::SupabaseToKeap) => Phase::Outgoing,
        _ => Phase::Reading,
    };
    Start::Started(Box::new(TrackedRun {
        run: Run {
            id: run_id.to_owned(),
            batch_id: request.batch_id.clone(),
            kind,
            entity: request.entity,
            direction: request.direction,
            dry_run: request.dry_run,
            reverts: request.reverts.clone(),
            state: RunState::Queued,
            counts: Counts::default(),
            planned: None,
            progress: None,
            cursor: Cursor { since, phase, ..Cursor::default() },
            units: 0,
            attempts: 0,
            requested_at: now,
            started_at: None,
            finished_at: None,
            leased_until: None,
            not_before: None,
            error: None,
        },
        unit: 0,
        counted_failures: 0,
        lost_units: 0,
        lease_id: None,
        held_at: None,
        approved: None,
        holds: None,
    }))
}

/// The run by which a person approves what the blast guard holds back of a class, with what it holds now; `None` when `known` says that
/// already.
#[must_use]
pub fn hold(
    known: Option<&TrackedRun>,
    class: &HeldBack,
    run_id: &str,
    now: Timestamp,
) -> Option<TrackedRun> {
    let message = class.message();
    if known.and_then(|known| known.run.error.as_ref()).is_some_and(|error| error.message == message) {
        return None;
    }
    let request = RunRequest {
        kind: RunKind::Full,
        entity: class.held.entity,
        direction: Direction::SupabaseToKeap,
        batch_id: None,
        dry_run: false,
        reverts: None,
    };
    let mut tracked = match (known, start(&[], &request, run_id, None, now)) {
        (Some(known), _) => known.clone(),
        (None, Start::Started(tracked)) => *tracked,
        (None, Start::Joined(_)) => return None,
    };
    let records = class.records();
    let (deleted, updated) = if class.held.deletes { (records, 0) } else { (0, records) };
    tracked.holds = Some(Holding { class: class.held, edits_until: class.edits_until });
    tracked.run.state = RunState::AwaitingApproval;
    tracked.run.planned = Some(Counts { destroyed: records, deleted, updated, ..Counts::default() });
    // What is approved is what was waiting when this was said.
    tracked.run.started_at = Some(now);
    tracked.run.error = Some(Failure::new(FailureClass::Invalid, message));
    Some(tracked)
}

impl TrackedRun {
    /// Whether the run is worked on in units. A run that only carries edits to Keap is the outbox's work, unless it is to
    /// list them.
    #[must_use]
    pub fn has_units(&self) -> bool {
        !self.only_carries() || self.run.dry_run
    }

    fn only_carries(&self) -> bool {
        matches!(self.run.kind, RunKind::Full | RunKind::Incremental)
            && self.run.direction == Direction::SupabaseToKeap
    }

    /// Whether the run waits for a person.
    #[must_use]
    pub fn awaits_approval(&self) -> bool {
        self.run.state == RunState::AwaitingApproval
    }

    /// What the next unit may do.
    #[must_use]
    pub fn unit_mode(&self) -> UnitMode {
        if self.run.dry_run || self.held_at.is_some() {
            UnitMode::Plan
        } else if let Some(approved) = &self.approved {
            UnitMode::Approved(approved.clone())
        } else {
            UnitMode::Guarded
        }
    }

    /// How many records a person approves who approves the run as it is shown; 0 while it waits for nobody.
    #[must_use]
    pub fn number_to_approve(&self) -> u64 {
        let planned = self.run.planned.filter(|_| self.awaits_approval());
        planned.map_or(0, |planned| planned.destroyed)
    }

    /// The run after a person approved what it would still do, by the name `approval_id` (a UUID); `None` when it does not wait for
    /// that.
    #[must_use]
    pub fn approved(&self, approval_id: &str) -> Option<Self> {
        if !self.awaits_approval() {
            return None;
        }
        let mut next = self.clone();
        next.run.state = RunState::Running;
        next.approved = Some(Approval { id: approval_id.to_owned(), records: self.number_to_approve() });
        next.run.planned = None;
        next.run.error = None;
        Some(next)
    }

    /// The run after a person ended it; `None` when it has ended already.
    #[must_use]
    pub fn cancelled(&self, now: Timestamp) -> Option<Self> {
        if self.run.state.is_final() {
            return None;
        }
        // A unit that is out goes on until its budget ends: the lease tells how long that may take.
        let mut next = self.clone();
        next.run.error =
            Some(Failure::new(FailureClass::Invalid, "a person ended the run; what it had written stands"));
        next.fail(now);
        Some(next)
    }

    /// When the next unit can be ordered; `None` when the run has ended.
    #[must_use]
    pub fn next_order_at(&self) -> Option<Timestamp> {
        if self.run.state.is_final() || self.awaits_approval() {
            return None;
        }
        let leased_until = self.run.leased_until.unwrap_or_default();
        Some(leased_until.max(self.run.not_before.unwrap_or_default()))
    }

    /// Whether a full run leaves the beginning to the contacts that its records are of, as long as these are at their first unit and
    /// nothing has gone wrong with it.
    ///
    /// A record that comes before its contact is written twice, the second time when it is linked. Most accounts' contacts are
    /// there within one unit, and where they are not, or Keap is slow, it is all that the others wait.
    #[must_use]
    pub fn follows_contacts(&self, active: &[Self]) -> bool {
        let is_of_contacts = matches!(self.run.entity, EntityType::Order | EntityType::Subscription);
        is_of_contacts
            && self.is_at_first_unit()
            && active.iter().any(|other| {
                other.run.entity == EntityType::Contact
                    && other.run.batch_id.is_some()
                    && other.run.batch_id == self.run.batch_id
                    && other.is_at_first_unit()
            })
    }

    /// Whether it is to read everything into rows, and no unit of it has ended yet, in whatever way.
    fn is_at_first_unit(&self) -> bool {
        self.run.kind == RunKind::Full
            && self.run.direction != Direction::SupabaseToKeap
            && !self.run.dry_run
            && !self.run.state.is_final()
            && !self.awaits_approval()
            && (self.run.units, self.run.attempts) == (0, 0)
    }

    /// Notes that the unit that is out has vanished, when its lease is over. Too many of them end the run.
    #[must_use]
    pub fn expired(&self, now: Timestamp) -> Option<Self> {
        let leased_until = self.run.leased_until?;
        if self.run.state.is_final() || now < leased_until {
            return None;
        }
        let mut next = self.clone();
        next.run.leased_until = None;
        next.lease_id = None;
        next.lost_units += 1;
        next.run.attempts += 1;
        let failure = Failure::new(
            FailureClass::Unexpected,
            format!("unit {} did not report within {} s", self.unit, UNIT_LEASE_MS / 1000),
        );
        if next.lost_units >= LOST_UNITS_MAX {
            next.fail(now);
        }
        next.run.error = Some(failure);
        Some(next)
    }

    /// The run with its next unit out, when one can be ordered now.
    #[must_use]
    pub fn ordered(&self, now: Timestamp, lease_id: Option<String>) -> Option<Self> {
        if self.run.leased_until.is_some() || self.next_order_at().is_none_or(|at| at > now) {
            return None;
        }
        let mut next = self.clone();
        next.unit += 1;
        next.lease_id = lease_id;
        next.run.state = RunState::Running;
        next.run.started_at = next.run.started_at.or(Some(now));
        next.run.leased_until = Some(now.plus_ms(UNIT_LEASE_MS));
        next.run.not_before = None;
        Some(next)
    }

    /// The run after its unit could not be handed over.
    #[must_use]
    pub fn not_taken(&self, failure: &Failure, now: Timestamp, entropy: u32) -> Self {
        let mut next = self.clone();
        next.run.leased_until = None;
        next.lease_id = None;
        next.record_failure(failure, now, entropy);
        next
    }

    /// The run put off: nothing failed, but nothing can be ordered before `until`.
    #[must_use]
    pub fn postponed(&self, until: Timestamp) -> Self {
        let mut next = self.clone();
        next.run.not_before = Some(until);
        next
    }

    /// The run after a report; `None` when the report comes too late to count.
    #[must_use]
    pub fn reported(&self, report: &UnitReport, now: Timestamp, entropy: u32) -> Option<Self> {
        if self.run.state.is_final() || report.unit != self.unit || self.run.leased_until.is_none() {
            return None;
        }
        let mut next = self.clone();
        next.run.leased_until = None;
        next.lease_id = None;
        next.run.units += 1;
        match &mut next.run.planned {
            Some(planned) if next.held_at.is_some() => planned.add(&report.counts),
            _ => next.run.counts.add(&report.counts),
        }
        if report.cursor != next.run.cursor {
            next.run.cursor = report.cursor.clone();
            next.run.attempts = 0;
            next.counted_failures = 0;
            next.lost_units = 0;
        }
        next.note_progress(report.newest_id, now);
        match &report.failure {
            Some(failure) => next.record_failure(failure, now, entropy),
            None if report.held => {
                next.held_at = Some(Box::new(report.cursor.clone()));
                next.run.planned = Some(Counts::default());
                next.run.error = None;
            }
            None if report.finished => match next.held_at.take() {
                Some(held_at) => next.await_approval(*held_at),
                None => next.complete(now),
            },
            None => next.run.error = None,
        }
        Some(next)
    }

    /// A run that only carries edits, once what it owes is queued.
    #[must_use]
    pub fn begun(&self, now: Timestamp) -> Self {
        let mut next = self.clone();
        next.run.state = RunState::Running;
        next.run.started_at = next.run.started_at.or(Some(now));
        next
    }

    /// The run after the outbox was found drained: what a run that only carries edits waits for.
    #[must_use]
    pub fn drained(&self, carried: u64, now: Timestamp) -> Self {
        let mut next = self.clone();
        next.run.started_at = next.run.started_at.or(Some(now));
        next.run.counts.updated += carried;
        next.complete(now);
        next
    }

    /// The watermark that this run leaves: its start, once it has read everything.
    #[must_use]
    pub fn watermark(&self) -> Option<Timestamp> {
        let has_read = matches!(self.run.kind, RunKind::Full | RunKind::Incremental)
            && self.run.direction != Direction::SupabaseToKeap
            && !self.run.dry_run;
        (self.run.state == RunState::Completed && has_read).then_some(self.run.started_at).flatten()
    }

    fn await_approval(&mut self, held_at: Cursor) {
        let planned = self.run.planned.unwrap_or_default();
        self.run.cursor = held_at;
        self.run.state = RunState::AwaitingApproval;
        self.run.error = Some(Failure::new(
            FailureClass::Invalid,
            format!(
                "the blast guard stopped the run: it would overwrite or delete {} more records here, which is more than the \
                 settings let through within an hour. Look at what it would do (GET /sync/runs/{{id}}/plan), then approve it with {{\"number\": {}}}, or cancel it",
                planned.destroyed, planned.destroyed
            ),
        ));
    }

    /// Estimates how far the run has come, by the ids: they are given in order.
    fn note_progress(&mut self, newest_id: Option<u64>, now: Timestamp) {
        let known = self.run.progress.map(|progress| progress.newest_id);
        let Some(newest_id) = newest_id.or(known).filter(|id| *id > 0) else { return };
        let read_to = match self.run.cursor.phase {
            Phase::Reading => self.run.cursor.after_id.as_deref().and_then(|id| id.parse().ok()).unwrap_or(0),
            Phase::Rows | Phase::Outgoing => newest_id,
        };
        let percent = u128::from(read_to.min(newest_id)) * 100 / u128::from(newest_id);
        let percent = u32::try_from(percent).unwrap_or(100);
        let done_at = self.run.started_at.filter(|_| read_to > 0).map(|started_at| {
            let elapsed_ms = u128::from(now.since_ms(started_at).unsigned_abs());
            let left = u128::from(newest_id.saturating_sub(read_to));
            let left_ms = elapsed_ms.saturating_mul(left) / u128::from(read_to);
            now.plus_ms(i64::try_from(left_ms).unwrap_or(i64::MAX / 4))
        });
        self.run.progress = Some(Progress { newest_id, percent, done_at });
    }

    fn complete(&mut self, now: Timestamp) {
        if let Some(progress) = &mut self.run.progress {
            progress.percent = 100;
            progress.done_at = Some(now);
        }
        self.run.state = RunState::Completed;
        self.run.finished_at = Some(now);
        self.run.error = None;
    }

    fn fail(&mut self, now: Timestamp) {
        self.run.state = RunState::Failed;
        self.run.finished_at = Some(now);
    }

    fn record_failure(&mut self, failure: &Failure, now: Timestamp, entropy: u32) {
        let earlier = Earlier { counted: self.counted_failures, failures: self.run.attempts };
        self.run.attempts = self.run.attempts.saturating_add(1);
        self.run.error = Some(failure.clone());
        match after(failure, Work::Page, earlier, entropy) {
            Next::GiveUp { counted } => {
                self.counted_failures = counted;
                self.fail(now);
            }
            Next::Retry { counted, delay_ms, .. } => {
                self.counted_failures = counted;
                self.run.not_before = Some(now.plus_ms(delay_ms));
            }
        }
    }
}

/// When the next incremental run is due: an interval after the last one was asked for. None while nothing was ever read
/// completely, because there is no watermark to start from.
#[must_use]
pub fn incremental_due_at(
    last_requested_at: Option<Timestamp>,
    watermark: Option<Timestamp>,
    interval_minutes: u32,
) -> Option<Timestamp> {
    let last = last_requested_at.max(watermark).filter(|_| watermark.is_some())?;
    Some(last.plus_ms(i64::from(interval_minutes.max(1)) * 60_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use keapsync_domain::application::KeapApplication;
    use keapsync_domain::limits::ATTEMPTS_MAX;
    use keapsync_domain::quota::QuotaReading;
    use proptest::prelude::*;

    fn request(kind: RunKind) -> RunRequest {
        RunRequest {
            kind,
            entity: EntityType::Contact,
            direction: Direction::Bidirectional,
            batch_id: None,
            dry_run: false,
            reverts: None,
        }
    }

    fn started(kind: RunKind) -> TrackedRun {
        match start(&[], &request(kind), "r1", Some(Timestamp(1_000_000)), Timestamp(0)) {
            Start::Started(run) => *run,
            Start::Joined(id) => panic!("joined {id}"),
        }
    }

    fn report(unit: u32, after_id: &str) -> UnitReport {
        UnitReport {
            run_id: "r1".to_owned(),
            unit,
            cursor: Cursor { after_id: Some(after_id.to_owned()), ..Cursor::default() },
            counts: Counts { read: 10, ..Counts::default() },
            finished: false,
            held: false,
            newest_id: None,
            failure: None,
            calls: 1,
            quota: QuotaReading::default(),
            application: KeapApplication::default(),
            generation: 1,
        }
    }

    #[test]
    fn one_active_run_per_kind_and_a_first_incremental_is_full() {
        let full = started(RunKind::Full);
        let again = start(std::slice::from_ref(&full), &request(RunKind::Full), "r2", None, Timestamp(1));
        assert_eq!(again, Start::Joined("r1".to_owned()));
        let first =
            start(std::slice::from_ref(&full), &request(RunKind::Incremental), "r2", None, Timestamp(1));
        assert_eq!(first, Start::Joined("r1".to_owned()));
        let incremental = started(RunKind::Incremental);
        assert_eq!(incremental.run.cursor.since, Some(Timestamp(1_000_000 - WATERMARK_OVERLAP_MS)));
        let over = full.ordered(Timestamp(2), None).unwrap();
        let over = over.reported(&UnitReport { finished: true, ..report(1, "9") }, Timestamp(3), 0).unwrap();
        let next = start(&[over], &request(RunKind::Full), "r2", None, Timestamp(4));
        assert!(matches!(next, Start::Started(run) if run.run.id == "r2"));
    }

    #[test]
    fn records_of_contacts_follow_them_by_one_unit_at_the_most() {
        let run = |entity: EntityType, batch: Option<&str>| {
            let batch_id = batch.map(str::to_owned);
            match start(
                &[],
                &RunRequest { entity, batch_id, ..request(RunKind::Full) },
                "r1",
                None,
                Timestamp(0),
            ) {
                Start::Started(run) => *run,
                Start::Joined(id) => panic!("joined {id}"),
            }
        };
        let contacts = run(EntityType::Contact, Some("b"));
        let order = run(EntityType::Order, Some("b"));
        let out = contacts.ordered(Timestamp(1), None).unwrap();
        for (follower, follows) in [
            (order.clone(), true),
            (run(EntityType::Subscription, Some("b")), true),
            (run(EntityType::Tag, Some("b")), false),
            (run(EntityType::Order, Some("another")), false),
            (run(EntityType::Order, None), false),
            (TrackedRun { run: Run { dry_run: true, ..order.run.clone() }, ..order.clone() }, false),
            (contacts.clone(), false),
        ] {
            assert_eq!(
                follower.follows_contacts(&[follower.clone(), contacts.clone()]),
                follows,
                "{follower:?}"
            );
            assert_eq!(follower.follows_contacts(std::slice::from_ref(&out)), follows, "{follower:?}");
        }
        let failure = Failure::new(FailureClass::Unavailable, "down");
        let failed = UnitReport { failure: Some(failure.clone()), ..report(1, "5") };
        for ended in [
            out.reported(&report(1, "5"), Timestamp(2), 0).unwrap(),
            out.reported(&failed, Timestamp(2), 0).unwrap(),
            out.reported(&UnitReport { held: true, ..report(1, "5") }, Timestamp(2), 0).unwrap(),
            out.expired(Timestamp(1).plus_ms(UNIT_LEASE_MS)).unwrap(),
            out.not_taken(&failure, Timestamp(2), 0),
            out.cancelled(Timestamp(2)).unwrap(),
        ] {
            assert!(!order.follows_contacts(std::slice::from_ref(&ended)), "{ended:?}");
        }
    }

    #[test]
    fn goes_unit_by_unit_to_its_end_and_leaves_its_start_as_watermark() {
        let run = started(RunKind::Full).ordered(Timestamp(100), Some("l".to_owned())).unwrap();
        assert_eq!((run.unit, run.run.state), (1, RunState::Running));
        assert!(run.ordered(Timestamp(101), None).is_none(), "two units out at a time");
        let run = run.reported(&report(1, "50"), Timestamp(200), 0).unwrap();
        assert_eq!((run.run.counts.read, run.run.units, run.watermark()), (10, 1, None));
        let run = run.ordered(Timestamp(201), None).unwrap();
        let last = UnitReport { finished: true, ..report(2, "60") };
        let run = run.reported(&last, Timestamp(300), 0).unwrap();
        assert_eq!((run.run.state, run.run.counts.read), (RunState::Completed, 20));
        assert_eq!(run.watermark(), Some(Timestamp(100)));
        assert!(run.reported(&last, Timestamp(301), 0).is_none() && run.next_order_at().is_none());
    }

    #[test]
    fn a_vanished_unit_is_ordered_again_and_its_late_report_does_not_count() {
        let run = started(RunKind::Full).ordered(Timestamp(0), None).unwrap();
        assert!(run.expired(Timestamp(UNIT_LEASE_MS - 1)).is_none());
        let run = run.expired(Timestamp(UNIT_LEASE_MS)).unwrap();
        let run = run.ordered(Timestamp(UNIT_LEASE_MS), None).unwrap();
        assert_eq!(run.unit, 2);
        assert!(run.reported(&report(1, "50"), Timestamp(UNIT_LEASE_MS + 1), 0).is_none());
        assert!(run.reported(&report(2, "50"), Timestamp(UNIT_LEASE_MS + 1), 0).is_some());
    }

    #[test]
    fn units_that_keep_vanishing_end_the_run() {
        let (mut run, mut now) = (started(RunKind::Full), Timestamp(0));
        for _ in 0..LOST_UNITS_MAX {
            assert!(!run.run.state.is_final());
            run = run.ordered(now, None).unwrap();
            now = now.plus_ms(UNIT_LEASE_MS);
            run = run.expired(now).unwrap();
        }
        assert_eq!(run.run.state, RunState::Failed);
        assert!(run.run.error.unwrap().message.contains("did not report"));
    }

    #[test]
    fn outages_only_delay_refusals_end_the_run() {
        let failed = |class: FailureClass, rounds: i32| {
            let (mut run, mut now) = (started(RunKind::Full), Timestamp(0));
            for _ in 0..rounds {
                now = run.next_order_at().unwrap().max(now);
                run = run.ordered(now, None).unwrap();
                let cursor = run.run.cursor.clone();
                let unit = run.unit;
                let failure = Some(Failure::new(class, "x"));
                run = run.reported(&UnitReport { cursor, failure, ..report(unit, "") }, now, 0).unwrap();
            }
            run.run
        };
        let waiting = failed(FailureClass::Unavailable, 200);
        assert_eq!(waiting.state, RunState::Running);
        assert!(waiting.not_before.is_some());
        assert_eq!(failed(FailureClass::Invalid, ATTEMPTS_MAX - 1).state, RunState::Running);
        assert_eq!(failed(FailureClass::Invalid, ATTEMPTS_MAX).state, RunState::Failed);
    }

    #[test]
    fn incremental_runs_wait_for_a_first_watermark_and_their_interval() {
        assert_eq!(incremental_due_at(Some(Timestamp(5)), None, 30), None);
        assert_eq!(incremental_due_at(None, Some(Timestamp(7)), 30), Some(Timestamp(7 + 30 * 60_000)));
        assert_eq!(
            incremental_due_at(Some(Timestamp(9)), Some(Timestamp(7)), 0),
            Some(Timestamp(9 + 60_000))
        );
    }

    #[test]
    fn what_the_guard_stops_is_planned_to_its_end_and_goes_on_by_a_persons_word() {
        let run = started(RunKind::Full).ordered(Timestamp(0), None).unwrap();
        assert_eq!(run.unit_mode(), UnitMode::Guarded);
        let held = UnitReport { held: true, ..report(1, "50") };
        let run = run.reported(&held, Timestamp(1), 0).unwrap().ordered(Timestamp(2), None).unwrap();
        assert_eq!(run.unit_mode(), UnitMode::Plan);
        let counts = Counts { destroyed: 60, ..Counts::default() };
        let planned = UnitReport { counts, finished: true, ..report(2, "90") };
        let run = run.reported(&planned, Timestamp(3), 0).unwrap();
        assert!(run.awaits_approval() && run.next_order_at().is_none() && run.watermark().is_none());
        assert_eq!((run.run.planned.unwrap().destroyed, run.run.counts.destroyed), (60, 0));
        assert_eq!(run.run.cursor.after_id.as_deref(), Some("50"), "goes on from where it was stopped");
        assert_eq!(run.number_to_approve(), 60);
        let run = run.approved("a1").unwrap();
        let approval = Approval { id: "a1".to_owned(), records: 60 };
        assert_eq!((run.unit_mode(), run.approved("a2")), (UnitMode::Approved(approval), None));
        assert_eq!(run.number_to_approve(), 0);
        let run = run.ordered(Timestamp(4), None).unwrap();
        let run = run.reported(&UnitReport { finished: true, ..report(3, "90") }, Timestamp(5), 0).unwrap();
        assert_eq!((run.run.state, run.watermark()), (RunState::Completed, Some(Timestamp(0))));
        assert!(run.cancelled(Timestamp(6)).is_none());
    }

    #[test]
    fn held_edits_are_told_once_and_again_when_their_number_changes() {
        let class = |edits, hooks| HeldBack {
            held: Held { entity: EntityType::Order, deletes: true },
            edits,
            hooks,
            edits_until: Timestamp(4),
        };
        let run = hold(None, &class(50, 10), "r1", Timestamp(5)).unwrap();
        assert!(run.awaits_approval() && !run.has_units() && run.next_order_at().is_none());
        assert!(run.run.error.as_ref().unwrap().message.contains("50 orders in Keap and of 10 here"));
        assert_eq!((run.number_to_approve(), run.holds.map(|holds| holds.class.deletes)), (60, Some(true)));
        assert_eq!(hold(Some(&run), &class(50, 10), "r2", Timestamp(6)), None);
        let more = hold(Some(&run), &class(51, 10), "r2", Timestamp(7)).unwrap();
        assert_eq!((more.run.id.as_str(), more.run.started_at), ("r1", Some(Timestamp(7))));
        assert_eq!(more.number_to_approve(), 61);
    }

    #[test]
    fn progress_is_told_by_the_ids() {
        let run = started(RunKind::Full).ordered(Timestamp(0), None).unwrap();
        let first = UnitReport { newest_id: Some(1_000), ..report(1, "250") };
        let run = run.reported(&first, Timestamp(10_000), 0).unwrap();
        let expected = Progress { newest_id: 1_000, percent: 25, done_at: Some(Timestamp(40_000)) };
        assert_eq!(run.run.progress, Some(expected));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Order,
        Report { back: u32, read: u64, fails: bool, finished: bool },
        Wait(i64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Order),
            (0_u32..3, 0_u64..100, any::<bool>(), any::<bool>())
                .prop_map(|(back, read, fails, finished)| Step::Report { back, read, fails, finished }),
            (0_i64..2 * UNIT_LEASE_MS).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// Orders, reports of this and older units and waits in any order: every unit counts at most once, the cursor never
        /// goes back, and an ended run stays ended.
        #[test]
        fn every_unit_counts_at_most_once(steps in prop::collection::vec(step(), 0..120)) {
            let (mut run, mut now, mut expected, mut position) = (started(RunKind::Full), Timestamp(0), 0_u64, 0_u64);
            for step in steps {
                let before = run.clone();
                match step {
                    Step::Wait(wait_ms) => {
                        now = now.plus_ms(wait_ms);
                        run = run.expired(now).unwrap_or(run);
                    }
                    Step::Order => run = run.ordered(now, None).unwrap_or(run),
                    Step::Report { back, read, fails, finished } => {
                        let counts = Counts { read, ..Counts::default() };
                        let unit = run.unit.saturating_sub(back);
                        let failure = fails.then(|| Failure::new(FailureClass::Unavailable, "x"));
                        let sent = UnitReport { counts, finished, failure, ..report(unit, &(position + read).to_string()) };
                        let was_out = run.run.leased_until.is_some() && back == 0;
                        match run.reported(&sent, now, 0) {
                            Some(next) => {
                                prop_assert!(was_out);
                                expected += read;
                                position += read;
                                run = next;
                            }
                            None => prop_assert!(!was_out || run.run.state.is_final()),
                        }
                    }
                }
                prop_assert_eq!(run.run.counts.read, expected);
                if before.run.state.is_final() {
                    prop_assert_eq!(&before, &run);
                }
            }
        }
    }
}
