//! Captured edits on their way to Keap.
//!
//! Claim, read the rows, read Keap's current records, merge, write only what differs, apply Keap's answer as the new base,
//! and only then end the items. Nothing is written by a reading that is older than a moment, because Keap takes no write under
//! a condition: see `outbox/reading.rs`. A crash anywhere leaves items whose lease ends by itself; the next attempt reads both
//! sides again and finds what is already done. What a create may have made is looked for before it is posted a second time,
//! so that one row never becomes two records.
//!
//! Entities go one after the other, each behind those that its records refer to. Each record fails alone, with what hangs on it. An outage is no fault of a record: its items wait and the attempt does not count.

mod carry;
mod reading;

use crate::ports::proof::GuardStore;
use crate::ports::{Clock, MirrorStore, OutboxItem, OutboxStore};
use crate::world::World;
use carry::carry;
use futures_util::StreamExt as _;
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::EntityType;
use keapsync_domain::limits::{OUTBOX_CLAIM_MAX, OUTBOX_LEASE_MS};
use keapsync_domain::retry::{Earlier, Next, Work, after};
use keapsync_keap::transport::Transport;
use reading::{READ_AHEAD, read_ahead};
use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

/// Records worked on at once: a worker may hold six connections, one of them to Postgres.
const CONCURRENCY: usize = 4;

/// The order in which edits are carried: contacts carry tags, and orders and subscriptions are of contacts.
const DEPENDENCY_ORDER: [EntityType; 4] =
    [EntityType::Tag, EntityType::Contact, EntityType::Order, EntityType::Subscription];

/// What a drain did, in items.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrainReport {
    /// Claimed.
    pub claimed: usize,
    /// Carried over, or found to be already.
    pub completed: usize,
    /// Given back for later.
    pub retried: usize,
    /// Ended as dead letters.
    pub failed: usize,
    /// Whether as many as possible were claimed, so that more may wait.
    pub more: bool,
    /// What kept items back through no fault of theirs: an outage, a used-up quota, a refused token.
    pub outage: Option<Failure>,
}

/// All claimed items of one row.
struct Edit {
    row_id: String,
    item_ids: Vec<String>,
    /// The largest number of claims of one of the items, this one included.
    claims: i32,
    /// The largest number of counted failures of one of the items.
    attempts: i32,
    /// Whether one of the items is the row's own creation.
    creates: bool,
    /// Whether one of the items is a person's delete of the row.
    deletes: bool,
}

impl Edit {
    /// Whether an earlier attempt may have made the record in Keap: one of these items was claimed before, or the item that
    /// the row was made with has ended without linking it.
    fn may_be_made(&self) -> bool {
        self.claims > 1 || !self.creates
    }
}

/// Carries over what is due, once.
pub async fn drain<T: Transport, S: MirrorStore + OutboxStore, C: Clock>(
    world: &World<'_, T, S, C>,
    owner: &str,
) -> Result<DrainReport, Failure> {
    let items = world.store.claim(world.account, OUTBOX_CLAIM_MAX, OUTBOX_LEASE_MS, owner).await?;
    carry_items(world, items, OUTBOX_CLAIM_MAX).await
}

/// [`drain`] of at most `limit` records, without those that the blast guard has not let pass.
pub async fn drain_unheld<T: Transport, S: MirrorStore + OutboxStore + GuardStore, C: Clock>(
    world: &World<'_, T, S, C>,
    owner: &str,
    limit: usize,
) -> Result<DrainReport, Failure> {
    let items = world.store.claim_unheld(world.account, limit, OUTBOX_LEASE_MS, owner).await?;
    carry_items(world, items, limit).await
}

async fn carry_items<T: Transport, S: MirrorStore + OutboxStore, C: Clock>(
    world: &World<'_, T, S, C>,
    items: Vec<OutboxItem>,
    limit: usize,
) -> Result<DrainReport, Failure> {
    let mut report =
        DrainReport { claimed: items.len(), more: items.len() >= limit, ..DrainReport::default() };
    if items.is_empty() {
        return Ok(report);
    }
    let mut edits_of = by_row(items);
    let outage: Cell<Option<Failure>> = Cell::new(None);
    for entity in DEPENDENCY_ORDER {
        if let Some(edits) = edits_of.remove(&entity) {
            carry_entity(world, entity, &edits, &outage, &mut report).await?;
        }
    }
    report.outage = outage.take();
    Ok(report)
}

/// Carries the claimed edits of one entity, and ends their items.
async fn carry_entity<T: Transport, S: MirrorStore + OutboxStore, C: Clock>(
    world: &World<'_, T, S, C>,
    entity: EntityType,
    edits: &[Edit],
    outage: &Cell<Option<Failure>>,
    report: &mut DrainReport,
) -> Result<(), Failure> {
    // The records that come next are read together, when their turn has come: not earlier, because a reading ages.
    let outcomes: Vec<(&Edit, Work, Result<(), Failure>)> =
        futures_util::stream::iter(edits.chunks(READ_AHEAD))
            .then(|chunk| async move {
                let read = match known_outage(outage) {
                    Some(failure) => Err(failure),
                    None => read_ahead(world, entity, chunk.iter().map(|edit| edit.row_id.clone())).await,
                };
                note_outage(outage, read.as_ref().err());
                (chunk, Rc::new(read))
            })
            .flat_map(|(chunk, read)| {
                futures_util::stream::iter(chunk.iter().map(move |edit| (edit, Rc::clone(&read))))
            })
            .map(|(edit, read)| async move {
                if let Some(failure) = known_outage(outage) {
                    return (edit, Work::Record, Err(failure));
                }
                match &*read {
                    Err(failure) => (edit, Work::Page, Err(failure.clone())),
                    Ok(ahead) => {
                        let outcome = carry(world, edit, ahead).await;
                        note_outage(outage, outcome.as_ref().err());
                        (edit, Work::Record, outcome)
                    }
                }
            })
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
    let mut done = Vec::new();
    for (edit, work, outcome) in outcomes {
        match outcome {
            Ok(()) => done.extend(edit.item_ids.iter().cloned()),
            Err(failure) => end_attempt(world, edit, work, &failure, report).await?,
        }
    }
    if !done.is_empty() {
        world.store.complete(world.account, &done).await?;
        report.completed += done.len();
    }
    Ok(())
}

fn known_outage(outage: &Cell<Option<Failure>>) -> Option<Failure> {
    let known = outage.take();
    outage.set(known.clone());
    known
}

fn note_outage(outage: &Cell<Option<Failure>>, failure: Option<&Failure>) {
    if let Some(failure) = failure.filter(|failure| failure.class.is_outage()) {
        outage.set(Some(failure.clone()));
    }
}

fn by_row(items: Vec<OutboxItem>) -> HashMap<EntityType, Vec<Edit>> {
    let mut edits_of: HashMap<EntityType, Vec<Edit>> = HashMap::new();
    let mut positions: HashMap<String, usize> = HashMap::new();
    for item in items {
        let edits = edits_of.entry(item.entity).or_default();
        let position = *positions.entry(item.entity_id.clone()).or_insert(edits.len());
        match edits.get_mut(position) {
            Some(edit) => {
                edit.claims = edit.claims.max(item.claims);
                edit.attempts = edit.attempts.max(item.attempts);
                edit.creates |= item.operation == "create";
                edit.deletes |= item.operation == "delete";
                edit.item_ids.push(item.id);
            }
            None => edits.push(Edit {
                row_id: item.entity_id,
                item_ids: vec![item.id],
                claims: item.claims,
                attempts: item.attempts,
                creates: item.operation == "create",
                deletes: item.operation == "delete",
            }),
        }
    }
    edits_of
}

/// Puts items off whose attempt failed, or ends them as dead letters.
async fn end_attempt<T, S: OutboxStore, C>(
    world: &World<'_, T, S, C>,
    edit: &Edit,
    work: Work,
    failure: &Failure,
    report: &mut DrainReport,
) -> Result<(), Failure> {
    // Each claim was an attempt, this one included.
    let failures = u32::try_from(edit.claims.saturating_sub(1)).unwrap_or(0);
    let earlier = Earlier { counted: edit.attempts, failures };
    match after(failure, work, earlier, world.entropy) {
        Next::GiveUp { .. } => {
            world.store.fail(world.account, &edit.item_ids, failure).await?;
            report.failed += edit.item_ids.len();
        }
        Next::Retry { delay_ms, .. } => {
            let counts = failure.class.counts_against_item();
            world.store.retry_later(world.account, &edit.item_ids, delay_ms, failure, counts).await?;
            report.retried += edit.item_ids.len();
        }
    }
    Ok(())
}
