//! Captured edits on their way to Keap.
//!
//! Claim, read the rows, read Keap's current records, merge, write only what differs, apply Keap's answer as the new base,
//! and only then end the items. A crash anywhere leaves items whose lease ends by itself; the next attempt reads both
//! sides again and finds what is already done. What a create may have made is looked for before it is posted a second time,
//! so that one row never becomes two records.
//!
//! Entities go one after the other, each behind those that its records refer to. Each record fails alone, with what hangs on it. An outage is no fault of a record: its items wait and the attempt does not count.

use crate::inbound::{
    Applied, DELETED_AT, MadeLine, Origin, Told, apply, apply_delete, is_edited_in_keap, meet,
};
use crate::ports::proof::GuardStore;
use crate::ports::{Clock, LocalRow, MirrorStore, OutboxItem, OutboxStore, WriteSource};
use crate::world::World;
use futures_util::StreamExt as _;
use keapsync_domain::canonical::{same, slot_entries};
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::EntityType;
use keapsync_domain::limits::{OUTBOX_CLAIM_MAX, OUTBOX_LEASE_MS};
use keapsync_domain::record::Record;
use keapsync_domain::remote::RemoteRecord;
use keapsync_domain::retry::{Earlier, Next, Work, after};
use keapsync_domain::schema::{SlotKind, fields};
use keapsync_domain::timestamp::Timestamp;
use keapsync_keap::capability::{DeleteSupport, capability};
use keapsync_keap::records::{Change, Written};
use keapsync_keap::transport::Transport;
use serde_json::Value;
use std::cell::Cell;
use std::collections::HashMap;

/// Records worked on at once: a worker may hold six connections, one of them to Postgres.
const CONCURRENCY: usize = 4;

/// The order in which edits are carried: contacts carry tags, and orders and subscriptions are of contacts.
const DEPENDENCY_ORDER: [EntityType; 4] =
    [EntityType::Tag, EntityType::Contact, EntityType::Order, EntityType::Subscription];

/// How old a reading of a row may be when Keap is written by it, in milliseconds.
const ROW_AGE_MAX_MS: i64 = 500;

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
    let prepared = match known_outage(outage) {
        Some(failure) => Err(failure),
        None => prepare(world, entity, edits).await,
    };
    let (rows, remotes) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => {
            for edit in edits {
                end_attempt(world, edit, Work::Page, &failure, report).await?;
            }
            if failure.class.is_outage() {
                outage.set(Some(failure));
            }
            return Ok(());
        }
    };
    let (rows, remotes, read_at) = (&rows, &remotes, world.clock.now());
    let outcomes: Vec<(&Edit, Result<(), Failure>)> = futures_util::stream::iter(edits)
        .map(|edit| async move {
            if let Some(failure) = known_outage(outage) {
                return (edit, Err(failure));
            }
            let outcome = match rows.get(&edit.row_id) {
                Some(row) => {
                    let listed = row.keap_id.as_ref().and_then(|id| remotes.get(id));
                    carry(world, edit, row, listed, read_at).await
                }
                // The row was purged: nothing is left to carry over.
                None => Ok(()),
            };
            if let Err(failure) = &outcome
                && failure.class.is_outage()
            {
                outage.set(Some(failure.clone()));
            }
            (edit, outcome)
        })
        .buffer_unordered(CONCURRENCY)
        .collect()
        .await;
    let mut done = Vec::new();
    for (edit, outcome) in outcomes {
        match outcome {
            Ok(()) => done.extend(edit.item_ids.iter().cloned()),
            Err(failure) => end_attempt(world, edit, Work::Record, &failure, report).await?,
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

type Rows = HashMap<String, LocalRow>;
type Remotes = HashMap<String, RemoteRecord>;

/// Reads the rows, and what Keap holds of them, in one call each.
async fn prepare<T: Transport, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    entity: EntityType,
    edits: &[Edit],
) -> Result<(Rows, Remotes), Failure> {
    let ids: Vec<String> = edits.iter().map(|edit| edit.row_id.clone()).collect();
    let rows = world.store.read_rows(world.account, entity, &ids).await?;
    let keap_ids: Vec<String> = rows.iter().filter_map(|row| row.keap_id.clone()).collect();
    let page = if keap_ids.is_empty() {
        None
    } else {
        Some(world.keap.list_ids(entity, &keap_ids, world.clock.now()).await?)
    };
    let remotes = page.into_iter().flat_map(|page| page.records);
    Ok((
        rows.into_iter().map(|row| (row.id.clone(), row)).collect(),
        remotes.map(|remote| (remote.keap_id.clone(), remote)).collect(),
    ))
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

fn origin(told: Told) -> Origin {
    Origin { source: WriteSource::Outbox, run_id: None, told: Told { refuses: true, ..told } }
}

/// Brings Keap to what the row says, as far as the merge says so.
async fn carry<T: Transport, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    edit: &Edit,
    row: &LocalRow,
    listed: Option<&RemoteRecord>,
    read_at: Timestamp,
) -> Result<(), Failure> {
    let current;
    let row = if world.clock.now().since_ms(read_at) > ROW_AGE_MAX_MS {
        // Calls before this one took their time. What was edited meanwhile goes along, and nothing goes that was taken back.
        match reread(world, row).await? {
            Some(row) => current = row,
            None => return Ok(()),
        }
        &current
    } else {
        row
    };
    let entity = row.record.entity();
    let deleted_here = row.deleted_at.is_some() && row.base_delta.contains_key(DELETED_AT);
    let remote = match (&row.keap_id, listed) {
        (Some(_), Some(remote)) => remote.clone(),
        (Some(keap_id), None) => {
            let observed_at = world.clock.now();
            let Some(remote) = world.keap.get(entity, keap_id, observed_at).await? else {
                return deleted_there(world, row, keap_id, observed_at, deleted_here).await;
            };
            remote
        }
        // Nor can an earlier attempt have made it where the contact is not there. A deleted row does not learn when it is.
        (None, _) if row.deleted_at.is_some() && (!edit.may_be_made() || row.waits_for_contact) => {
            return Ok(());
        }
        (None, _) if row.waits_for_contact => {
            return Err(Failure::new(
                FailureClass::Conflict,
                "its contact is not in Keap yet: it follows as soon as the contact is there",
            ));
        }
        (None, _) => {
            let found = if edit.may_be_made() {
                world.keap.find_created(&row.id, &row.record, world.clock.now()).await?
            } else {
                None
            };
            match found {
                Some(remote) => of_row(remote, row),
                None if row.deleted_at.is_some() => return Ok(()),
                None => return create(world, row).await,
            }
        }
    };
    if deleted_here {
        // An edit that was on its way when the row was deleted here alone takes no delete along.
        let stays_here = row.is_deleted_here_alone() && !edit.deletes;
        return delete(world, row, &remote, stays_here).await;
    }
    update(world, row, remote).await
}

/// Keap has no such record any more.
async fn deleted_there<T, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    row: &LocalRow,
    keap_id: &str,
    observed_at: Timestamp,
    deleted_here: bool,
) -> Result<(), Failure> {
    let entity = row.record.entity();
    apply_delete(world, entity, &origin(Told::default()), keap_id, observed_at).await?;
    if deleted_here || row.deleted_at.is_some() {
        return Ok(());
    }
    Err(Failure::new(
        FailureClass::NotFound,
        format!(
            "the {} was deleted in Keap while this edit waited; the row is kept and marked as a conflict",
            entity.as_str()
        ),
    ))
}

async fn create<T: Transport, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    row: &LocalRow,
) -> Result<(), Failure> {
    let made = world.keap.create(&row.id, &row.record, &|| world.clock.now()).await?;
    let told = Told { gone_tags: made.gone_tags, refused: made.refused, ..Told::default() };
    finish(world, of_row(made.remote, row), told, None).await
}

/// A record that was made of the row. Not every kind of record can carry the row's id, so it is said here: without it the record
/// would become a second row.
fn of_row(remote: RemoteRecord, row: &LocalRow) -> RemoteRecord {
    RemoteRecord { row_id: Some(row.id.clone()), ..remote }
}

async fn update<T: Transport, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    row: &LocalRow,
    remote: RemoteRecord,
) -> Result<(), Failure> {
    let mut row = row.clone();
    let as_carried = Told { refuses: true, ..Told::default() };
    // What is put back before the write is said after it.
    let mut refused = meet(&remote, &row, &world.settings.policies, &as_carried).refused;
    if row.keap_hash.as_deref() != Some(remote.content_hash.as_str()) {
        // Keap changed too. Merging it in first records what is in conflict while all three values are at hand.
        merge_in(world, remote.clone(), Told::default()).await?;
        match reread(world, &row).await? {
            Some(merged) => row = merged,
            None => return Ok(()),
        }
    }
    let meeting = meet(&remote, &row, &world.settings.policies, &as_carried);
    if meeting.merge.to_keap.is_empty() {
        return finish(world, remote, Told { refused, ..Told::default() }, None).await;
    }
    let schema = fields(row.record.entity());
    let changed: Vec<&'static str> = meeting
        .merge
        .to_keap
        .iter()
        .filter_map(|change| schema.get(change.position).map(|field| field.name))
        .collect();
    let change = Change {
        row_id: &row.id,
        base: &meeting.base,
        wanted: &meeting.merge.keap_after(&remote.record),
        remote: &remote,
        changed: &changed,
    };
    let Written { remote: after, made_lines, gone_tags, refused: not_taken } =
        match world.keap.update(&change, &|| world.clock.now()).await {
            Ok(written) => written,
            Err(failure) => {
                if !failure.class.is_transient() {
                    // Nothing will be written, and what Keap lets nobody write is put back even so.
                    merge_in(world, remote.clone(), Told::default()).await?;
                }
                return Err(failure);
            }
        };
    let made_lines = named_as_in(&row, change.wanted, made_lines);
    let is_heeded = meeting.merge.to_keap.iter().any(|change| {
        let held = |remote: &RemoteRecord| remote.record.get(change.position).clone();
        schema.get(change.position).is_none_or(|field| !same(field.kind, &held(&remote), &held(&after)))
    });
    let unheeded = (!is_heeded).then(|| changed.join(", "));
    refused.extend(not_taken);
    finish(world, after, Told { made_lines, gone_tags, refused, ..Told::default() }, unheeded).await
}

/// The made lines by the names that the row's list has for them: what was sent is in the order of the merge, not of the row.
fn named_as_in(row: &LocalRow, sent: &Record, made: Vec<(String, String)>) -> Vec<MadeLine> {
    let lines_of = |record: &Record| -> Vec<(String, Value)> {
        let entries = slot_entries(SlotKind::Item, record.get_by_name("line_items"));
        entries.map(|(name, line)| (name, line.clone())).collect()
    };
    let (mut held, sent) = (lines_of(&row.record), lines_of(sent));
    let mut named = Vec::with_capacity(made.len());
    for (sent_name, id) in made {
        let line = sent.iter().find(|(name, _)| *name == sent_name).map(|(_, line)| line);
        if let Some(position) = held.iter().position(|(_, held)| Some(held) == line) {
            let (name, _) = held.remove(position);
            named.push(MadeLine { row_version: row.version, name, id });
        }
    }
    named
}

/// The row as it is now; `None` when it was purged.
async fn reread<T, S: MirrorStore, C>(
    world: &World<'_, T, S, C>,
    row: &LocalRow,
) -> Result<Option<LocalRow>, Failure> {
    let ids = std::slice::from_ref(&row.id);
    Ok(world.store.read_rows(world.account, row.record.entity(), ids).await?.into_iter().next())
}

/// Applies what Keap holds after our write, so that it becomes the base. What Keap does not hold even so, because somebody
/// changed it there meanwhile, is carried again. Fields that are all `unheeded`, as if nothing had been written, are not: Keap
/// would be asked the same forever.
async fn finish<T, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    remote: RemoteRecord,
    told: Told,
    unheeded: Option<String>,
) -> Result<(), Failure> {
    let applied = merge_in(world, remote, told).await?;
    if applied.pending.is_empty() {
        return Ok(());
    }
    Err(match unheeded {
        None => Failure::new(
            FailureClass::Conflict,
            "the record changed while it was written; what is left is carried over later",
        ),
        Some(fields) => Failure::new(
            FailureClass::Unexpected,
            format!(
                "Keap takes the change of {fields} and keeps what it had: write it in Keap, or take it back here"
            ),
        ),
    })
}

/// Applies what Keap holds now.
async fn merge_in<T, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    remote: RemoteRecord,
    told: Told,
) -> Result<Applied, Failure> {
    let entity = remote.record.entity();
    let applied = apply(world, entity, &origin(told), vec![remote], Vec::new()).await?;
    if applied.counts.rejected > 0 {
        // Going on would overwrite in Keap what no conflict could record.
        return Err(Failure::new(
            FailureClass::Invalid,
            format!(
                "the mirror cannot store what Keap's {} holds now: correct it in Keap, then replay this item",
                entity.as_str()
            ),
        ));
    }
    if applied.unsettled.is_empty() {
        return Ok(applied);
    }
    Err(Failure::new(
        FailureClass::Conflict,
        "the row keeps changing; its edits are carried over together, later",
    ))
}

/// The row was deleted in Supabase.
async fn delete<T: Transport, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    row: &LocalRow,
    remote: &RemoteRecord,
    stays_here: bool,
) -> Result<(), Failure> {
    if is_edited_in_keap(&remote.record, row) {
        // A delete against an edit: the edit survives, and the apply records the conflict. What was edited here before the
        // delete is still on its way.
        merge_in(world, remote.clone(), Told::default()).await?;
        return match reread(world, row).await? {
            Some(row) if row.deleted_at.is_none() => update(world, &row, remote.clone()).await,
            _ => Ok(()),
        };
    }
    let entity = row.record.entity();
    let goes_to_keap = world.settings.delete_in_keap && !stays_here;
    if let (true, DeleteSupport::Never(advice)) = (goes_to_keap, capability(entity).delete) {
        return Err(Failure::new(FailureClass::Invalid, advice));
    }
    if !goes_to_keap {
        // The tombstone stays on our side only; the account's owner has not let deletes through. Edits made before it go on.
        return if row.base_delta.len() > 1 { update(world, row, remote.clone()).await } else { Ok(()) };
    }
    world.keap.delete(entity, &remote.keap_id).await?;
    apply_delete(world, entity, &origin(Told::default()), &remote.keap_id, world.clock.now())
        .await
        .map(|_| ())
}
