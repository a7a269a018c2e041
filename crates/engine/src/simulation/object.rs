//! The account's object: durable storage, and the loops that drive the engine as the coordinator's alarm does.
//!
//! Storage survives an eviction; the loops and all that they hold do not. What a loop decides, it decides by the engine's own
//! functions: which event is tried again, what becomes of a token, a run, a lease.

use super::carrying::outbox_loop;
use super::events::{QueuedEvent, events_loop};
use super::ports::{SimulatedClock, SimulatedStore};
use super::stage::Stage;
use super::unit_orders::runs_loop;
use crate::event_queue::{ClaimedEvent, Failed};
use crate::runs::TrackedRun;
use crate::token::{ConnectionState, TokenState};
use crate::world::World;
use keapsync_domain::backoff::delay_ms;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::EntityType;
use keapsync_domain::limits::EVENT_CLAIM_MAX;
use keapsync_domain::retry::OUTAGE_DELAY_MAX_MS;
use keapsync_domain::timestamp::Timestamp;
use keapsync_keap::records::RecordsApi;
use std::collections::BTreeMap;
use std::rc::Rc;

/// How long one pass goes on taking up work, in milliseconds: the alarm's budget.
pub(super) const WORK_BUDGET_MS: i64 = 20_000;

/// Pause between two looks at the outbox, in milliseconds.
pub(super) const LOOK_MS: i64 = 1_000;

/// The object's parts, each with its own wait.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Events,
    Outbox,
    Runs,
}

#[derive(Clone, Copy, Debug, Default)]
struct PartState {
    failures: u32,
    retry_at: Timestamp,
}

/// What survives an eviction.
#[derive(Debug, Default)]
pub(super) struct Storage {
    /// Events by record.
    pub events: BTreeMap<(EntityType, u64), QueuedEvent>,
    /// The credential.
    pub token: TokenState,
    /// Active runs.
    pub runs: Vec<TrackedRun>,
    /// Where the next incremental run of each entity starts.
    pub watermarks: BTreeMap<EntityType, Timestamp>,
    /// When the last run was asked for.
    pub last_requested_at: Option<Timestamp>,
    /// When the last completed run of each entity and kind began.
    pub completed_since: BTreeMap<(EntityType, bool), Timestamp>,
    parts: [PartState; 3],
    /// Runs that have ended and wrote something, oldest first.
    pub ended: Vec<(EntityType, String)>,
    /// Numbers given to events and runs.
    pub numbers: i64,
}

impl Storage {
    /// Takes hooks in: one event per record.
    pub(super) fn push(&mut self, records: &[(EntityType, u64)], now: Timestamp) {
        for record in records {
            self.numbers += 1;
            let event = QueuedEvent {
                sequence: self.numbers,
                attempts: 0,
                failures: 0,
                next_attempt_at: now,
                is_dead: false,
            };
            self.events.insert(*record, event);
        }
    }

    /// Due events of one entity.
    pub(super) fn claim(&self, entity: EntityType, now: Timestamp) -> Vec<ClaimedEvent> {
        let events = self.events.range((entity, 0)..=(entity, u64::MAX));
        let due = events.filter(|(_, event)| !event.is_dead && event.next_attempt_at <= now);
        let claimed = due.map(|((_, id), event)| ClaimedEvent {
            keap_id: id.to_string(),
            sequence: event.sequence,
            attempts: event.attempts,
            failures: event.failures,
        });
        claimed.take(EVENT_CLAIM_MAX).collect()
    }

    /// Ends an event, or puts it off, unless another one for the record came meanwhile.
    pub(super) fn settle(&mut self, entity: EntityType, event: &ClaimedEvent, outcome: Option<&Failed>) {
        let record = (entity, event.keap_id.parse().unwrap_or(0));
        let Some(known) = self.events.get_mut(&record).filter(|known| known.sequence == event.sequence)
        else {
            return;
        };
        match outcome {
            None => drop(self.events.remove(&record)),
            Some(Failed::Retry { attempts, failures, next_attempt_at }) => {
                known.attempts = *attempts;
                known.failures = *failures;
                known.next_attempt_at = *next_attempt_at;
            }
            Some(Failed::Dead { .. }) => known.is_dead = true,
        }
    }

    /// When the next event falls due.
    pub(super) fn next_event_at(&self) -> Option<Timestamp> {
        self.events.values().filter(|event| !event.is_dead).map(|event| event.next_attempt_at).min()
    }
}

/// Starts the object's loops, as whatever wakes it does.
pub(super) fn start_object(stage: &Rc<Stage>) {
    let group = stage.incarnation.get() + 1;
    stage.incarnation.set(group);
    // Refreshing is for one at a time; a restart forgets who was at it.
    let refreshing = Rc::new(std::cell::Cell::new(false));
    stage.schedule.spawn(group, events_loop(Rc::clone(stage), Rc::clone(&refreshing)));
    stage.schedule.spawn(group, outbox_loop(Rc::clone(stage), Rc::clone(&refreshing)));
    stage.schedule.spawn(group, runs_loop(Rc::clone(stage), refreshing));
}

pub(super) fn world_of<'a, T>(
    stage: &'a Stage,
    api: &'a RecordsApi<'a, T>,
    store: &'a SimulatedStore,
    clock: &'a SimulatedClock,
) -> World<'a, T, SimulatedStore, SimulatedClock> {
    World {
        keap: api,
        store,
        clock,
        account: &stage.account,
        settings: &stage.settings,
        entropy: entropy(stage),
    }
}

pub(super) fn object_clock(stage: &Rc<Stage>) -> SimulatedClock {
    SimulatedClock { stage: Rc::clone(stage), skew_ms: 0 }
}

pub(super) fn entropy(stage: &Stage) -> u32 {
    u32::try_from(stage.schedule.draw(|random| random.below(1 << 31))).unwrap_or(0)
}

fn part_state(storage: &mut Storage, part: Part) -> &mut PartState {
    let [events, outbox, runs] = &mut storage.parts;
    match part {
        Part::Events => events,
        Part::Outbox => outbox,
        Part::Runs => runs,
    }
}

/// Whether a part may work now: not paused, not waiting after a failure, and there is a connection.
pub(super) fn may_work(stage: &Stage, part: Part) -> bool {
    let now = stage.object_now();
    let mut storage = stage.storage.borrow_mut();
    storage.token.state == ConnectionState::Connected
        && part_state(&mut storage, part).retry_at <= now
        && !stage.is_paused()
}

/// Notes how a part ended.
pub(super) fn note(stage: &Stage, part: Part, outcome: &Result<(), Failure>) {
    let (now, entropy) = (stage.object_now(), entropy(stage));
    let mut storage = stage.storage.borrow_mut();
    let waits = part_state(&mut storage, part);
    match outcome {
        Ok(()) => *waits = PartState::default(),
        Err(failure) => {
            let asked = failure.retry_after_ms.filter(|_| failure.class == FailureClass::RateLimited);
            if let Some(wait_ms) = asked {
                waits.retry_at = now.plus_ms(wait_ms.max(1));
            } else {
                waits.failures = waits.failures.saturating_add(1);
                let wait_ms = delay_ms(waits.failures, entropy, OUTAGE_DELAY_MAX_MS, failure.retry_after_ms);
                waits.retry_at = now.plus_ms(wait_ms);
            }
            stage.coverage.borrow_mut().count("part waits after a failure");
        }
    }
}

/// Whether nothing waits and nothing is on its way.
pub(super) fn is_idle(stage: &Stage) -> bool {
    let storage = stage.storage.borrow();
    storage.runs.is_empty()
        && storage.events.values().all(|event| event.is_dead)
        && stage.in_flight.get() == 0
        && stage.hooks_in_flight.get() == 0
        && !stage.mirror.borrow().has_work()
}
