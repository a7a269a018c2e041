//! The account's object: durable storage, and the loops that drive the engine as the coordinator's alarm does.
//!
//! Storage survives an eviction; the loops and all that they hold do not. What a loop decides, it decides by the engine's own
//! functions: which event is tried again, what becomes of a token, a run, a lease.

use super::ports::{SimulatedClock, SimulatedStore, SimulatedTransport};
use super::schedule::{Wait, Waiter};
use super::stage::{Event, Stage};
use crate::event_queue::{ClaimedEvent, Failed, failed};
use crate::inbound::{Refetched, refetch};
use crate::outbox::drain;
use crate::paced::PacedTransport;
use crate::ports::Clock as _;
use crate::quota::{Grant, Lease, LeaseRequest, Priority};
use crate::runs::{RunRequest, Start, TrackedRun, incremental_due_at, start};
use crate::token::{ConnectionState, Decision, TokenState};
use crate::world::World;
use keapsync_domain::backoff::delay_ms;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::EntityType;
use keapsync_domain::limits::EVENT_CLAIM_MAX;
use keapsync_domain::run::{Direction, RunKind};
use keapsync_domain::secret::Secret;
use keapsync_domain::timestamp::Timestamp;
use keapsync_keap::caller::Caller;
use keapsync_keap::oauth::TokenResponse;
use keapsync_keap::records::{Links, RecordsApi};
use std::collections::BTreeMap;
use std::rc::Rc;

/// How long one pass goes on taking up work, in milliseconds: the alarm's budget.
const WORK_BUDGET_MS: i64 = 20_000;

/// Longest wait of a part that fails, in milliseconds.
const PART_DELAY_MAX_MS: i64 = 30_000;

/// How long a lease of live work lives, in milliseconds.
const LIVE_LEASE_MS: i64 = 60_000;

/// Pause between two looks at the outbox, in milliseconds.
const LOOK_MS: i64 = 1_000;

/// Seconds that an access token of the simulated Keap lives: short, so that stories see refreshes.
const TOKEN_LIFE_S: i64 = 900;

/// How long it takes a person to connect an account again, in milliseconds.
const RECONNECT_MS: i64 = 60_000;

/// A queued event.
#[derive(Clone, Debug)]
pub(super) struct QueuedEvent {
    sequence: i64,
    attempts: i32,
    failures: u32,
    next_attempt_at: Timestamp,
    /// Given up: a dead letter.
    pub is_dead: bool,
}

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
    /// Events by contact.
    pub events: BTreeMap<u64, QueuedEvent>,
    /// The credential.
    pub token: TokenState,
    /// Active runs.
    pub runs: Vec<TrackedRun>,
    /// Where the next incremental run starts.
    pub watermark: Option<Timestamp>,
    /// When the last run was asked for.
    pub last_requested_at: Option<Timestamp>,
    /// When the runs that were completed began.
    pub completed_since: Vec<(RunKind, Timestamp)>,
    parts: [PartState; 3],
    numbers: i64,
}

impl Storage {
    /// Takes hooks in: one event per contact.
    pub(super) fn push(&mut self, ids: &[u64], now: Timestamp) {
        for id in ids {
            self.numbers += 1;
            let event = QueuedEvent {
                sequence: self.numbers,
                attempts: 0,
                failures: 0,
                next_attempt_at: now,
                is_dead: false,
            };
            self.events.insert(*id, event);
        }
    }

    fn claim(&self, now: Timestamp) -> Vec<ClaimedEvent> {
        let due = self.events.iter().filter(|(_, event)| !event.is_dead && event.next_attempt_at <= now);
        let claimed = due.map(|(id, event)| ClaimedEvent {
            keap_id: id.to_string(),
            sequence: event.sequence,
            attempts: event.attempts,
            failures: event.failures,
        });
        claimed.take(EVENT_CLAIM_MAX).collect()
    }

    fn settle(&mut self, event: &ClaimedEvent, outcome: Option<&Failed>) {
        let id: u64 = event.keap_id.parse().unwrap_or(0);
        let Some(known) = self.events.get_mut(&id).filter(|known| known.sequence == event.sequence) else {
            return;
        };
        match outcome {
            None => drop(self.events.remove(&id)),
            Some(Failed::Retry { attempts, failures, next_attempt_at }) => {
                known.attempts = *attempts;
                known.failures = *failures;
                known.next_attempt_at = *next_attempt_at;
            }
            Some(Failed::Dead { .. }) => known.is_dead = true,
        }
    }

    fn next_event_at(&self) -> Option<Timestamp> {
        self.events.values().filter(|event| !event.is_dead).map(|event| event.next_attempt_at).min()
    }
}

/// A credential at hand.
struct Live {
    token: Secret,
    generation: u64,
}

/// The story's connection of the account.
pub(super) fn connect(stage: &Stage) {
    let (access, refresh) = stage.keap.borrow_mut().grant();
    let now = stage.object_now();
    let mut storage = stage.storage.borrow_mut();
    storage.token = storage.token.connected(grant_of(access, refresh), now);
}

fn grant_of(access: String, refresh: String) -> TokenResponse {
    TokenResponse {
        access_token: Secret::new(access),
        refresh_token: Secret::new(refresh),
        expires_in: TOKEN_LIFE_S,
        scope: None,
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
    stage.schedule.spawn(group, super::unit_orders::runs_loop(Rc::clone(stage), refreshing));
}

type Refreshing = Rc<std::cell::Cell<bool>>;

async fn events_loop(stage: Rc<Stage>, refreshing: Refreshing) {
    loop {
        let now = stage.object_now();
        let due = stage.storage.borrow().next_event_at();
        if may_work(&stage, Part::Events) && due.is_some_and(|due| due <= now) {
            let outcome = drain_events(&stage, &refreshing).await;
            note(&stage, Part::Events, &outcome);
            continue;
        }
        let waiter = Rc::new(Waiter::default());
        stage.arrivals.borrow_mut().push(Rc::clone(&waiter));
        let until_due = due.map_or(LOOK_MS, |due| due.since_ms(now).clamp(1, LOOK_MS));
        stage.schedule.fire_after(until_due.max(50), Rc::clone(&waiter));
        Wait(waiter).await;
    }
}

async fn drain_events(stage: &Rc<Stage>, refreshing: &Refreshing) -> Result<(), Failure> {
    let deadline = stage.object_now().plus_ms(WORK_BUDGET_MS);
    let live = credential(stage, refreshing).await?;
    let lease = take_lease(stage, Priority::Hook, 100, 6, None).await?;
    let (transport, clock) = (SimulatedTransport::new(stage), object_clock(stage));
    let paced = PacedTransport::new(&transport, &clock, lease.permits, lease.calls_per_second_max)
        .until(lease.expires_at);
    let mut outcome = Ok(());
    loop {
        let claimed = stage.storage.borrow().claim(clock.now());
        if claimed.is_empty() || paced.calls_left() < 3 || clock.now() >= deadline {
            break;
        }
        outcome = drain_batch(stage, &live, &paced, claimed).await;
        if outcome.is_err() {
            break;
        }
    }
    release(stage, &lease, paced.calls()).await;
    outcome
}

async fn drain_batch(
    stage: &Rc<Stage>,
    live: &Live,
    paced: &PacedTransport<'_, SimulatedTransport, SimulatedClock>,
    claimed: Vec<ClaimedEvent>,
) -> Result<(), Failure> {
    let mut open = vec![claimed];
    while let Some(mut events) = open.pop() {
        let (store, clock) = (SimulatedStore { stage: Rc::clone(stage) }, object_clock(stage));
        let caller = Caller { transport: paced, base_url: "http://keap", access_token: &live.token };
        let api = RecordsApi::new(caller, Links::of(&stage.link_fields));
        let world = world_of(stage, &api, &store, &clock);
        let ids: Vec<String> = events.iter().map(|event| event.keap_id.clone()).collect();
        match refetch(&world, EntityType::Contact, &ids).await {
            Ok(refetched) => settle(stage, live, &events, refetched),
            Err(failure) if is_outage(&failure) => return heed(stage, live, failure),
            Err(_) if events.len() > 1 => {
                let rest = events.split_off(events.len() / 2);
                open.extend([rest, events]);
            }
            Err(failure) => {
                let failed = events.iter().map(|event| (event.keap_id.clone(), failure.clone())).collect();
                settle(stage, live, &events, Refetched { failed, ..Refetched::default() });
            }
        }
    }
    Ok(())
}

fn settle(stage: &Stage, live: &Live, events: &[ClaimedEvent], refetched: Refetched) {
    let failures: BTreeMap<String, Failure> = refetched.failed.into_iter().collect();
    let (now, entropy) = (stage.object_now(), entropy(stage));
    for event in events {
        if let Some(failure) = failures.get(&event.keap_id) {
            stage.coverage.borrow_mut().count("event tried again");
            if failure.class == FailureClass::Unauthorized {
                note_rejection(stage, live.generation);
            }
            let outcome = failed(event, failure, now, entropy);
            if matches!(outcome, Failed::Dead { .. }) {
                stage.coverage.borrow_mut().count("dead event");
                stage.tell(|| format!("event of {} given up: {failure}", event.keap_id));
            }
            stage.storage.borrow_mut().settle(event, Some(&outcome));
        } else if refetched.settled.contains(&event.keap_id) {
            stage.storage.borrow_mut().settle(event, None);
        }
    }
}

async fn outbox_loop(stage: Rc<Stage>, refreshing: Refreshing) {
    loop {
        let due = stage.mirror.borrow().depth().next_due_at;
        if may_work(&stage, Part::Outbox) && due.is_some_and(|due| due <= stage.postgres_now()) {
            let outcome = drain_outbox(&stage, &refreshing).await;
            note(&stage, Part::Outbox, &outcome);
        }
        stage.schedule.sleep(LOOK_MS).await;
    }
}

async fn drain_outbox(stage: &Rc<Stage>, refreshing: &Refreshing) -> Result<(), Failure> {
    let deadline = stage.object_now().plus_ms(WORK_BUDGET_MS);
    let live = credential(stage, refreshing).await?;
    let lease = take_lease(stage, Priority::Outbox, 160, 8, None).await?;
    let (transport, clock) = (SimulatedTransport::new(stage), object_clock(stage));
    let paced = PacedTransport::new(&transport, &clock, lease.permits, lease.calls_per_second_max)
        .until(lease.expires_at);
    let store = SimulatedStore { stage: Rc::clone(stage) };
    let caller = Caller { transport: &paced, base_url: "http://keap", access_token: &live.token };
    let api = RecordsApi::new(caller, Links::of(&stage.link_fields));
    let world = world_of(stage, &api, &store, &clock);
    let outcome = loop {
        transport.begin_pass();
        match drain(&world, "object").await {
            Err(failure) => break Err(failure),
            Ok(report) => {
                let mut coverage = stage.coverage.borrow_mut();
                coverage.add("edit carried", report.completed as u64);
                coverage.add("edit put back", report.retried as u64);
                if let Some(failure) = report.outage {
                    break Err(failure);
                }
                if !report.more || paced.calls_left() < 10 || clock.now() >= deadline {
                    break Ok(());
                }
            }
        }
    };
    release(stage, &lease, paced.calls()).await;
    outcome.or_else(|failure| heed(stage, &live, failure))
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

fn object_clock(stage: &Rc<Stage>) -> SimulatedClock {
    SimulatedClock { stage: Rc::clone(stage), skew_ms: 0 }
}

pub(super) fn entropy(stage: &Stage) -> u32 {
    u32::try_from(stage.schedule.draw(|random| random.below(1 << 31))).unwrap_or(0)
}

/// Whether a failure says nothing about any record.
fn is_outage(failure: &Failure) -> bool {
    matches!(
        failure.class,
        FailureClass::Unavailable | FailureClass::RateLimited | FailureClass::Unauthorized
    )
}

fn heed<T>(stage: &Stage, live: &Live, failure: Failure) -> Result<T, Failure> {
    if failure.class == FailureClass::Unauthorized {
        note_rejection(stage, live.generation);
    }
    Err(failure)
}

pub(super) fn note_rejection(stage: &Stage, generation: u64) {
    let now = stage.object_now();
    let mut storage = stage.storage.borrow_mut();
    storage.token = storage.token.access_token_rejected(generation, now);
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
                let wait_ms = delay_ms(waits.failures, entropy, PART_DELAY_MAX_MS, failure.retry_after_ms);
                waits.retry_at = now.plus_ms(wait_ms);
            }
            stage.coverage.borrow_mut().count("part waits after a failure");
        }
    }
}

/// A credential that is valid now, refreshed when that is due, by one at a time.
async fn credential(stage: &Rc<Stage>, refreshing: &Refreshing) -> Result<Live, Failure> {
    while refreshing.get() {
        stage.schedule.sleep(25).await;
    }
    let decision = stage.storage.borrow().token.decide(stage.object_now());
    if let Decision::Refuse(failure) = decision {
        return Err(failure);
    }
    if decision == Decision::Refresh {
        refreshing.set(true);
        refresh(stage).await;
        refreshing.set(false);
    }
    let storage = stage.storage.borrow();
    match &storage.token.access_token {
        Some(token) if storage.token.is_usable(stage.object_now()) => {
            Ok(Live { token: token.clone(), generation: storage.token.generation })
        }
        _ => Err(Failure::new(FailureClass::Unauthorized, "there is no usable token")),
    }
}

async fn refresh(stage: &Rc<Stage>) {
    let (generation, refresh_token) = {
        let storage = stage.storage.borrow();
        (storage.token.generation, storage.token.refresh_token.clone())
    };
    stage.pause().await;
    stage.step(10, generation);
    let is_down = stage.faults.borrow().keap_down.is_some_and(|(_, until)| until > stage.schedule.now_ms());
    let is_good = refresh_token.is_some_and(|token| token.reveal() == stage.keap.borrow().refresh_token);
    let answer = if is_down {
        Err(Failure::new(FailureClass::Unavailable, "Keap is down"))
    } else if is_good {
        let (access, refresh) = stage.keap.borrow_mut().grant();
        Ok(grant_of(access, refresh))
    } else {
        Err(Failure::new(FailureClass::Unauthorized, "invalid_grant"))
    };
    stage.pause().await;
    stage.coverage.borrow_mut().count("token refreshed");
    stage.tell(|| format!("token: refreshed {:?}", answer.is_ok()));
    let (now, entropy) = (stage.object_now(), entropy(stage));
    let mut storage = stage.storage.borrow_mut();
    storage.token = storage.token.settle_refresh(generation, answer, now, entropy);
    if storage.token.state == ConnectionState::NeedsReauthorization {
        stage.coverage.borrow_mut().count("account connected again");
        stage.schedule.after(RECONNECT_MS, Event::Reconnect);
    }
}

pub(super) async fn live_token(stage: &Rc<Stage>, refreshing: &Refreshing) -> Result<(Secret, u64), Failure> {
    credential(stage, refreshing).await.map(|live| (live.token, live.generation))
}

pub(super) async fn take_lease(
    stage: &Stage,
    priority: Priority,
    permits_max: u32,
    calls_per_second_max: u32,
    id: Option<String>,
) -> Result<Lease, Failure> {
    let id = id.unwrap_or_else(|| format!("lease-{}", entropy(stage)));
    let request = LeaseRequest { id, priority, permits_max, calls_per_second_max, ttl_ms: LIVE_LEASE_MS };
    stage.pause().await;
    stage.step(11, u64::from(permits_max));
    let grant = stage.quota.borrow_mut().request(&stage.limits, &request, stage.object_now());
    stage.pause().await;
    match grant {
        Grant::Granted(lease) => Ok(lease),
        Grant::Refused { retry_after_ms } => {
            stage.coverage.borrow_mut().count("lease refused");
            Err(Failure::new(FailureClass::RateLimited, "the quota is taken")
                .with_retry_after_ms(Some(retry_after_ms)))
        }
    }
}

pub(super) async fn release(stage: &Stage, lease: &Lease, calls: u32) {
    stage.pause().await;
    stage.step(12, u64::from(calls));
    stage.quota.borrow_mut().release(&lease.id, calls, stage.object_now());
}

/// Starts what is due among runs, or joins what is under way.
pub(super) fn begin_run(stage: &Stage, kind: RunKind) {
    let now = stage.object_now();
    let mut storage = stage.storage.borrow_mut();
    let request = RunRequest {
        kind,
        entity: EntityType::Contact,
        direction: Direction::Bidirectional,
        batch_id: None,
        dry_run: false,
        reverts: None,
    };
    storage.numbers += 1;
    let run_id = format!("run-{}", storage.numbers);
    if let Start::Started(run) = start(&storage.runs, &request, &run_id, storage.watermark, now) {
        storage.runs.push(*run);
        storage.last_requested_at = Some(now);
    }
}

/// When an incremental run is due.
pub(super) fn incremental_due(stage: &Stage) -> Option<Timestamp> {
    let storage = stage.storage.borrow();
    if !storage.runs.is_empty() {
        return None;
    }
    incremental_due_at(
        storage.last_requested_at,
        storage.watermark,
        stage.settings.incremental_interval_minutes,
    )
}

/// Whether nothing waits and nothing is on its way.
pub(super) fn is_idle(stage: &Stage) -> bool {
    let storage = stage.storage.borrow();
    storage.runs.is_empty()
        && storage.events.values().all(|event| event.is_dead)
        && stage.in_flight.get() == 0
        && stage.hooks_in_flight.get() == 0
        && stage.mirror.borrow().depth().open == 0
}
