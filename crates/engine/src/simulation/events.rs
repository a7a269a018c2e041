//! Queued hook events, drained as the coordinator does.

use super::connection::{Live, Refreshing, credential, heed, note_rejection, release, take_lease};
use super::object::{LOOK_MS, Part, WORK_BUDGET_MS, entropy, may_work, note, object_clock, world_of};
use super::ports::{SimulatedClock, SimulatedStore, SimulatedTransport};
use super::schedule::{Wait, Waiter};
use super::stage::Stage;
use crate::event_queue::{ClaimedEvent, Failed, failed};
use crate::inbound::{Refetched, refetch};
use crate::paced::PacedTransport;
use crate::quota::Priority;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::EntityType;
use keapsync_domain::timestamp::Timestamp;
use keapsync_keap::caller::Caller;
use keapsync_keap::records::{Links, RecordsApi};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Calls that a batch may take: a list, and a read of what it left out.
const CALLS_LEFT_MIN: u32 = 3;

/// A queued event.
#[derive(Clone, Debug)]
pub(super) struct QueuedEvent {
    /// Number of the last arrival.
    pub sequence: i64,
    /// Failed attempts that counted.
    pub attempts: i32,
    /// Failed attempts of any kind.
    pub failures: u32,
    /// Not worked on before.
    pub next_attempt_at: Timestamp,
    /// Given up: a dead letter.
    pub is_dead: bool,
}

/// Works on events as they come.
pub(super) async fn events_loop(stage: Rc<Stage>, refreshing: Refreshing) {
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
    if lease.permits < CALLS_LEFT_MIN {
        // Too few for one event: taking them again at once would go on for ever.
        release(stage, &lease, 0).await;
        return Err(Failure::new(FailureClass::RateLimited, "too little is left of the quota")
            .with_retry_after_ms(Some(WORK_BUDGET_MS)));
    }
    let (transport, clock) = (SimulatedTransport::new(stage), object_clock(stage));
    let paced = PacedTransport::new(&transport, &clock, lease.permits, lease.calls_per_second_max)
        .until(lease.expires_at);
    let outcome = drain_claims(stage, &live, &paced, deadline).await;
    release(stage, &lease, paced.calls()).await;
    outcome
}

async fn drain_claims(
    stage: &Rc<Stage>,
    live: &Live,
    paced: &PacedTransport<'_, SimulatedTransport, SimulatedClock>,
    deadline: Timestamp,
) -> Result<(), Failure> {
    loop {
        let mut has_claimed = false;
        // In turn, so that many events of one entity do not hold up those of another.
        for entity in EntityType::ALL {
            if paced.calls_left() < CALLS_LEFT_MIN || stage.object_now() >= deadline {
                return Ok(());
            }
            let claimed = stage.storage.borrow().claim(entity, stage.object_now());
            if !claimed.is_empty() {
                has_claimed = true;
                drain_batch(stage, live, paced, entity, claimed).await?;
            }
        }
        if !has_claimed {
            return Ok(());
        }
    }
}

async fn drain_batch(
    stage: &Rc<Stage>,
    live: &Live,
    paced: &PacedTransport<'_, SimulatedTransport, SimulatedClock>,
    entity: EntityType,
    claimed: Vec<ClaimedEvent>,
) -> Result<(), Failure> {
    let mut open = vec![claimed];
    while let Some(mut events) = open.pop() {
        let (store, clock) = (SimulatedStore { stage: Rc::clone(stage) }, object_clock(stage));
        let caller = Caller { transport: paced, base_url: "http://keap", access_token: &live.token };
        let api = RecordsApi::new(caller, Links::of(&stage.link_fields));
        let world = world_of(stage, &api, &store, &clock);
        let ids: Vec<String> = events.iter().map(|event| event.keap_id.clone()).collect();
        match refetch(&world, entity, &ids).await {
            Ok(refetched) => settle(stage, live, entity, &events, refetched),
            Err(failure) if failure.class.is_outage() => return heed(stage, live, failure),
            Err(_) if events.len() > 1 => {
                let rest = events.split_off(events.len() / 2);
                open.extend([rest, events]);
            }
            Err(failure) => {
                let failed = events.iter().map(|event| (event.keap_id.clone(), failure.clone())).collect();
                settle(stage, live, entity, &events, Refetched { failed, ..Refetched::default() });
            }
        }
    }
    Ok(())
}

fn settle(stage: &Stage, live: &Live, entity: EntityType, events: &[ClaimedEvent], refetched: Refetched) {
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
                stage.tell(|| format!("event of {} {} given up: {failure}", entity.as_str(), event.keap_id));
            }
            stage.storage.borrow_mut().settle(entity, event, Some(&outcome));
        } else if refetched.settled.contains(&event.keap_id) {
            stage.storage.borrow_mut().settle(entity, event, None);
        }
    }
}
