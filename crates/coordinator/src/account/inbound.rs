//! Hook events: taken in durably, drained by the alarm.

use super::credential::Live;
use super::lease::{LeasedTransport, Want};
use super::{Account, time_now};
use crate::database::Database;
use crate::storage::values;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::feed::{ChangedRecord, FeedEvent};
use keapsync_domain::hook::Delivery;
use keapsync_domain::ids::EntityType;
use keapsync_domain::limits::{EVENT_CLAIM_MAX, EVENT_QUEUE_MAX};
use keapsync_domain::run::Direction;
use keapsync_domain::settings::AccountSettings;
use keapsync_domain::timestamp::Timestamp;
use keapsync_domain::wire::{EventsRequest, EventsResponse, LinkFields};
use keapsync_engine::event_queue::{ClaimedEvent, Failed, failed, turns};
use keapsync_engine::inbound::{DeleteGate, Refetched, refetch_guarded};
use keapsync_engine::ports::proof::GuardStore as _;
use keapsync_engine::quota::Priority;
use keapsync_engine::watched::{Watched, dead_letter};
use keapsync_engine::world::World;
use keapsync_platform::clock::WorkerClock;
use keapsync_platform::entropy::{random_bytes, random_u32};
use keapsync_platform::log::Level;
use keapsync_platform::respond::Answer;
use keapsync_store::Store;
use std::collections::{HashMap, HashSet};
use tokio_postgres::Client;

/// Calls that one lease of the drain holds: deletes cost one each, everything else one per batch.
const WANT: Want = Want { priority: Priority::Hook, calls_max: 100, calls_per_second_max: 6 };

/// Calls that must be left for another batch to be begun.
const CALLS_LEFT_MIN: u32 = 3;

/// Wait after a share of the quota that is too small, in milliseconds.
const SMALL_SHARE_RETRY_MS: i64 = 10_000;

/// Wait that a full queue tells, in milliseconds; Keap tries again by its own schedule.
const QUEUE_FULL_RETRY_MS: i64 = 30_000;

impl Account<'_> {
    /// Stores a delivery. Durable when the answer says so: writes are confirmed before an answer leaves the object.
    pub(super) async fn take_events(&self, body: &[u8]) -> Result<Answer, Failure> {
        let Ok(EventsRequest { delivery, received_at: _ }) = serde_json::from_slice(body) else {
            return Ok(Answer::bad_request(
                "the delivery has an unexpected shape: deploy all workers at one version",
            ));
        };
        if !self.is_known()? {
            return Err(self.unknown());
        }
        let now = time_now();
        let concerned = delivery.concerned();
        let waiting = self.open_events()?;
        if waiting.saturating_add(count(concerned.len())) > EVENT_QUEUE_MAX {
            self.object.tally.refused(&delivery.event_key);
            let message = "the account's queue of events is full: see what its status says holds it up";
            return Ok(Answer::error(503, "queue_full", message).with_retry_after_ms(QUEUE_FULL_RETRY_MS));
        }
        self.object.tally.stored(&delivery.event_key, count(delivery.object_ids.len()), now);
        let mut response = EventsResponse { queued: 0, coalesced: 0, not_synced: 0, trace: None };
        if delivery.is_about_unnamed_contacts() {
            // Their tags are found by reading all contacts; the event is stored as that debt.
            let before = self.catch_up()?;
            let mut owed = before.clone();
            owed.owe_tags(&self.full_reads()?, now);
            if owed != before {
                self.sql().put(values::CATCH_UP, &owed)?;
            }
            response.queued = 1;
            self.tell(received(&delivery, true));
            self.object.arm(now).await;
            return Ok(Answer::json(200, &response));
        }
        if concerned.is_empty() {
            response.not_synced = delivery.object_ids.len() as u64;
            self.sql().count_not_synced(&delivery.event_key, count(delivery.object_ids.len()), now)?;
            self.tell(received(&delivery, false));
            return Ok(Answer::json(200, &response));
        }
        let sequence = new_sequence()?;
        response.trace = Some(sequence);
        let mut open = waiting;
        for entity in EntityType::ALL {
            let ids: Vec<&str> =
                concerned.iter().filter(|(kind, _)| *kind == entity).map(|(_, id)| *id).collect();
            if ids.is_empty() {
                continue;
            }
            let queued = self.sql().push_events(entity, &ids, &delivery.event_key, sequence, now)?;
            open = open.saturating_add(queued);
            self.object.open_events.set(Some(open));
            response.queued += u64::try_from(queued).unwrap_or(0);
            response.coalesced += ids.len() as u64 - u64::try_from(queued).unwrap_or(0);
        }
        self.tell(received(&delivery, true));
        self.object.arm_for_events(now).await;
        Ok(Answer::json(200, &response))
    }

    /// Drains what is due until nothing is, or `deadline` has passed. Says how many events were settled.
    pub(super) async fn drain_events(
        &self,
        database: &Database,
        deadline: Timestamp,
    ) -> Result<usize, Failure> {
        let credential = self.credential().await?;
        let client = database.client().await?;
        let (settings, link_fields) = (self.settings()?, self.link_fields()?);
        let drain = Drain { account: self, credential: &credential, client: &client, settings, link_fields };
        self.leased(&credential, WANT, async |paced| {
            if paced.calls_left() < CALLS_LEFT_MIN {
                // A smaller share serves no batch: nothing would be done, and due again at once.
                return Err(Failure::new(FailureClass::RateLimited, "the quota is nearly used up")
                    .with_retry_after_ms(Some(SMALL_SHARE_RETRY_MS)));
            }
            let mut settled = 0;
            loop {
                let mut has_claimed = false;
                let first = self.object.first_turn.get();
                self.object.first_turn.set(first.wrapping_add(1));
                // In turn, so that many events of one entity do not hold up those of another.
                for entity in turns(first) {
                    if paced.calls_left() < CALLS_LEFT_MIN || time_now() >= deadline || self.is_paused()? {
                        return Ok(settled);
                    }
                    let claimed = self.sql().claim_events(entity, EVENT_CLAIM_MAX, time_now())?;
                    if !claimed.is_empty() {
                        has_claimed = true;
                        settled += drain.batch(paced, entity, claimed).await?;
                    }
                }
                if !has_claimed {
                    return Ok(settled);
                }
            }
        })
        .await?
    }

    /// Events that wait; counted once, then kept up to date by whoever changes it.
    fn open_events(&self) -> Result<i64, Failure> {
        if let Some(open) = self.object.open_events.get() {
            return Ok(open);
        }
        let open = self.sql().event_depth()?.open;
        self.object.open_events.set(Some(open));
        Ok(open)
    }
}

/// What every batch of one drain shares.
struct Drain<'a> {
    account: &'a Account<'a>,
    credential: &'a Live,
    client: &'a Client,
    settings: AccountSettings,
    link_fields: LinkFields,
}

impl Drain<'_> {
    /// Works on a batch. An outage fails it as a whole and touches no event; an answer that only one record may be to blame
    /// for is narrowed down by halves, so that a poison record delays nobody else.
    async fn batch(
        &self,
        paced: &LeasedTransport<'_>,
        entity: EntityType,
        claimed: Vec<ClaimedEvent>,
    ) -> Result<usize, Failure> {
        let mut settled = 0;
        let mut open = vec![claimed];
        while let Some(mut events) = open.pop() {
            match self.refetch(paced, entity, &events).await {
                Ok(refetched) => {
                    self.hold(entity, &events, &refetched.held).await?;
                    settled += self.settle(entity, &events, refetched)?;
                }
                Err(failure) if failure.class.is_outage() => {
                    return self.account.heed(self.credential, Err(failure));
                }
                Err(_) if events.len() > 1 => {
                    let rest = events.split_off(events.len() / 2);
                    open.extend([rest, events]);
                }
                Err(failure) => {
                    let failed =
                        events.iter().map(|event| (event.keap_id.clone(), failure.clone())).collect();
                    self.settle(entity, &events, Refetched { failed, ..Refetched::default() })?;
                }
            }
        }
        Ok(settled)
    }

    async fn refetch(
        &self,
        paced: &LeasedTransport<'_>,
        entity: EntityType,
        events: &[ClaimedEvent],
    ) -> Result<Refetched, Failure> {
        let store = Store::new(self.client);
        let store = Watched::new(&store);
        let api = self.account.records(paced, self.credential, &self.link_fields);
        let world = World {
            keap: &api,
            store: &store,
            clock: &WorkerClock,
            account: self.account.id,
            settings: &self.settings,
            entropy: random_u32()?,
        };
        let ids: Vec<String> = events.iter().map(|event| event.keap_id.clone()).collect();
        let approved = self.account.sql().approved_events(entity)?;
        let is_stopped = self.account.stopped_deletes()?.contains(&entity);
        let gate = DeleteGate { approved: &approved, is_stopped };
        let refetched = refetch_guarded(&world, entity, &ids, gate).await;
        self.account.tell_all(store.take_events());
        refetched
    }

    /// Keeps deletions that the blast guard stopped until somebody approves them, and says so.
    async fn hold(
        &self,
        entity: EntityType,
        events: &[ClaimedEvent],
        held: &[String],
    ) -> Result<(), Failure> {
        if held.is_empty() {
            return Ok(());
        }
        let kept: Vec<&ClaimedEvent> = events.iter().filter(|event| held.contains(&event.keap_id)).collect();
        self.account.sql().hold_events(entity, &kept, time_now())?;
        let store = Store::new(self.client);
        store.show_held_deletes(self.account.id, entity, held, true).await?;
        self.account.tell_of_holds(&store).await
    }

    /// Ends what is done and notes what is not, in one step.
    fn settle(
        &self,
        entity: EntityType,
        events: &[ClaimedEvent],
        refetched: Refetched,
    ) -> Result<usize, Failure> {
        let (now, entropy) = (time_now(), random_u32()?);
        let failures: HashMap<String, Failure> = refetched.failed.into_iter().collect();
        let settled: HashSet<&str> = refetched.settled.iter().map(String::as_str).collect();
        let done: Vec<&ClaimedEvent> =
            events.iter().filter(|event| settled.contains(event.keap_id.as_str())).collect();
        let not_done: Vec<(&ClaimedEvent, Failed, &Failure)> = events
            .iter()
            .filter_map(|event| Some((event, failures.get(&event.keap_id)?)))
            .map(|(event, failure)| (event, failed(event, failure, now, entropy), failure))
            .collect();
        let ended = self.account.sql().settle_events(entity, &done)?;
        let dead = self.account.sql().fail_events(entity, &not_done)?;
        let open = &self.account.object.open_events;
        open.set(open.get().map(|open| open.saturating_sub(count(ended + dead.len()))));
        self.log_applied(entity, &done, entropy);
        for event_key in &dead {
            self.account.object.tally.given_up(event_key);
        }
        if failures.values().any(|failure| failure.class == FailureClass::Unauthorized) {
            self.account.note_rejection(self.credential.generation)?;
        }
        for (event, outcome, failure) in &not_done {
            if matches!(outcome, Failed::Dead { .. }) {
                let line = self.account.log().error("event_given_up").account(self.account.id);
                line.id("keap_id", &event.keap_id).count("trace", event.sequence).failure(failure).emit();
                self.account.tell(given_up(entity, event, failure));
            }
        }
        Ok(done.len())
    }

    /// Names what was read together, and which deliveries it answers: for somebody who follows one change. `batch` is random.
    fn log_applied(&self, entity: EntityType, done: &[&ClaimedEvent], batch: u32) {
        let log = self.account.log();
        if !log.writes(Level::Debug) {
            return;
        }
        let about = |event| {
            let line = log.debug(event).account(self.account.id).word("entity", entity.as_str());
            line.count("batch", batch)
        };
        about("events_fetched").count("records", done.len() as u64).emit();
        for event in done {
            about("event_applied").id("keap_id", &event.keap_id).count("trace", event.sequence).emit();
        }
    }
}

fn received(delivery: &Delivery, synced: bool) -> FeedEvent {
    FeedEvent::DeliveryReceived {
        event_key: delivery.event_key.clone(),
        deliveries: 1,
        objects: delivery.object_ids.len() as u64,
        synced,
    }
}

fn given_up(entity: EntityType, event: &ClaimedEvent, failure: &Failure) -> FeedEvent {
    let record = ChangedRecord { keap_id: Some(event.keap_id.clone()), ..ChangedRecord::default() };
    dead_letter(entity, Direction::KeapToSupabase, record, failure)
}

/// A number that no arrival had before: 53 random bits, what a JavaScript number holds exactly.
fn new_sequence() -> Result<i64, Failure> {
    let number = u64::from_le_bytes(random_bytes()?) >> 11;
    Ok(i64::try_from(number).unwrap_or_default())
}

fn count(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}
