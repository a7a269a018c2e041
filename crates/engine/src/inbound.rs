//! Keap's records on their way into the mirror: one path for hook, poll, full sync and the answers to our own writes.
//!
//! Read the rows, merge, write only where the row still has the version that was read, and merge again what was skipped.
//! So no edit made between read and write is ever lost, whoever made it. Records that are refused are kept where a person
//! sees them, and harm nobody else.
//!
//! What makes it atomic: [`MirrorStore::write`] is one statement. What keeps old news out: a remote record that is older
//! than the state applied last is dropped: by Keap's time of change, and where that is the same, by when it was read. An answer is of
//! some moment between its request and its arrival, so what was asked for before the last answer had arrived is read again.

mod base;
mod words;

pub use base::base_of;

use crate::guard::{Allowance, destroys};
use crate::ports::history::UNDONE_HERE;
use crate::ports::proof::Held;
use crate::ports::{
    Clock, ConflictRecord, KnownRow, LocalRow, MirrorStore, RejectedRecord, RemoteKey, RowState, RowWrite,
    WriteBatch, WriteSource,
};
use crate::world::World;
use base::{Base, is_empty};
use keapsync_domain::canonical::{canonical, record_hash, same, set_elements};
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::EntityType;
use keapsync_domain::json_number;
use keapsync_domain::limits::{PAGE_RECORDS_MAX, REMERGE_MAX};
use keapsync_domain::merge::{FieldValue, Merge, Side, Sides, base_delta, reconcile};
use keapsync_domain::policy::{Policies, Policy};
use keapsync_domain::record::Record;
use keapsync_domain::remote::RemoteRecord;
use keapsync_domain::run::Counts;
use keapsync_domain::schema::{fields, position};
use keapsync_domain::timestamp::Timestamp;
use keapsync_keap::capability::{CreateKey, capability};
use keapsync_keap::edits::{Refusal, Settled, Wrote, made_of, put_back, settle};
use keapsync_keap::orders::line_steps::aligned;
use keapsync_keap::transport::Transport;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use words::state_of;

/// The key under which a delete stands in base deltas, audit entries and conflicts.
pub const DELETED_AT: &str = "deleted_at";

/// What an apply did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// How many records became what.
    pub counts: Counts,
    /// Keap ids that kept losing to concurrent edits, or whose reading is not clearly the newest: to be read again later.
    pub unsettled: Vec<String>,
    /// Keap ids whose rows hold something that Keap has not got.
    pub pending: Vec<String>,
    /// Whether the blast guard stopped it: more would have been destroyed than may be, and what is left was not written.
    pub held: bool,
}

/// What became of ids that were fetched again.
#[derive(Clone, Debug, Default)]
pub struct Refetched {
    /// How many records became what.
    pub counts: Counts,
    /// Ids that are done with.
    pub settled: Vec<String>,
    /// Ids that are not, and why.
    pub failed: Vec<(String, Failure)>,
    /// Ids that Keap does not know any more, and whose rows the blast guard keeps until somebody approves.
    pub held: Vec<String>,
}

/// Where a batch comes from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// For the audit log.
    pub source: WriteSource,
    /// The run, when there is one.
    pub run_id: Option<String>,
    /// What our own write just told of the one record applied.
    pub told: Told,
}

/// What is expected of the records of a page, from what was met before: a guess that only costs time where it is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected<'a> {
    /// Nothing is known of them.
    Anything,
    /// None has a row, but for those with these Keap ids.
    New {
        /// Records that were applied before.
        but: &'a HashSet<String>,
    },
}

impl Expected<'_> {
    fn is_new(self, remote: &RemoteRecord) -> bool {
        match self {
            Self::Anything => false,
            Self::New { but } => remote.row_id.is_none() && !but.contains(&remote.keap_id),
        }
    }
}

/// What our own write told of a record, beyond the record itself.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Lines of the order that it made.
    pub made_lines: Vec<MadeLine>,
    /// Tags that it was to put on the contact and that Keap has not got any more: they leave the row as well.
    pub gone_tags: Vec<String>,
    /// What of the row Keap does not take: it is put back where it still stands, and said.
    pub refused: Vec<Refusal>,
    /// The write that the record is the answer to.
    pub wrote: Option<Wrote>,
}

/// A line that our own update made in Keap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeLine {
    /// The version of the row in which the name stands for the line: a later edit may have moved it.
    pub row_version: i32,
    /// What the row's list calls it (`#2` by position).
    pub name: String,
    /// Keap's id of it.
    pub id: String,
}

/// Applies records read from Keap, at most a page of them.
pub async fn apply<T, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    entity: EntityType,
    origin: &Origin,
    remotes: Vec<RemoteRecord>,
    rejected: Vec<RejectedRecord>,
) -> Result<Applied, Failure> {
    apply_within(world, entity, origin, &Allowance::unlimited(), Expected::Anything, remotes, rejected).await
}

/// [`apply`], as far as the blast guard lets it.
///
/// Records that are expected to be new are written without a look whether they have rows. No row is harmed where that was wrong: a
/// write that inserts gives way to the row that is there, and that one is read and merged then. Records that name the row they were
/// made from are looked up all the same, and so are all of a kind that cannot name it: they are told by what they hold.
pub async fn apply_within<T, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    entity: EntityType,
    origin: &Origin,
    allowance: &Allowance,
    expected: Expected<'_>,
    remotes: Vec<RemoteRecord>,
    rejected: Vec<RejectedRecord>,
) -> Result<Applied, Failure> {
    let mut applied = Applied::default();
    applied.counts.read = (remotes.len() + rejected.len()) as u64;
    let mut refused = rejected;
    let mut open = newest_of_each(remotes);
    let arrived_at = world.clock.now();
    let names_its_row = key_fields(capability(entity).create_key).is_empty();
    let expected = if names_its_row { expected } else { Expected::Anything };
    let rounds_unseen = usize::from(expected != Expected::Anything);
    for round in 0..rounds_unseen + REMERGE_MAX {
        if open.is_empty() {
            break;
        }
        let is_looked_up = |remote: &&RemoteRecord| round >= rounds_unseen || !expected.is_new(remote);
        let keys: Vec<RemoteKey> =
            open.iter().filter(is_looked_up).map(|remote| key_of(remote, origin.source)).collect();
        let known = world.store.read_known(world.account, entity, &keys).await?;
        let known = with_made(world, entity, &open, known).await?;
        let plan = plan_page(&mut open, known, arrived_at, &world.settings.policies, &origin.told);
        applied.counts.unchanged += plan.unchanged;
        applied.unsettled.extend(plan.unclear);
        if plan.rows.is_empty() {
            applied.pending.extend(plan.pending);
            open.clear();
            break;
        }
        let overwritten = rows_of(&plan.rows, &plan.destroyed);
        let class = Held { entity, deletes: false };
        if !allowance.take(world.store, world.account, class, &overwritten).await? {
            applied.held = true;
            return Ok(applied);
        }
        let batch = WriteBatch { run_id: origin.run_id.clone(), source: origin.source, rows: plan.rows };
        let outcome = match world.store.write(world.account, entity, &batch).await {
            Ok(outcome) => outcome,
            Err(failure) => {
                allowance.give_back(plan.destroyed.len() as u64);
                return Err(failure);
            }
        };
        count_written(&mut applied.counts, &batch, &outcome.written);
        let destroyed = outcome.written.iter().filter(|id| plan.destroyed.contains(*id)).count() as u64;
        allowance.give_back((plan.destroyed.len() as u64).saturating_sub(destroyed));
        refused.extend(outcome.rejected);
        let skipped: HashSet<String> = outcome.skipped.into_iter().collect();
        applied.pending.extend(plan.pending.into_iter().filter(|id| !skipped.contains(id)));
        open.retain(|remote| skipped.contains(&remote.keap_id));
        give_back(&mut open, batch.rows);
    }
    applied.unsettled.extend(open.into_iter().map(|remote| remote.keap_id));
    applied.counts.rejected = refused.len() as u64;
    if !refused.is_empty() {
        world.store.record_rejections(world.account, entity, &refused).await?;
    }
    Ok(applied)
}

/// The rows that the writes of these Keap ids are of.
fn rows_of(writes: &[RowWrite], keap_ids: &HashSet<String>) -> Vec<String> {
    let chosen = writes.iter().filter(|write| keap_ids.contains(&write.keap_id));
    chosen.filter_map(|write| write.id.clone()).collect()
}

/// What lets the deletes pass that a fetch comes upon.
#[derive(Clone, Copy, Debug)]
pub struct DeleteGate<'a> {
    /// Records whose deletion somebody approved.
    pub approved: &'a HashSet<String>,
    /// Whether deletes of the kind wait for approval already: then no further one passes before that.
    pub is_stopped: bool,
}

/// [`refetch_guarded`] with every delete approved.
pub async fn refetch<T: Transport, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    entity: EntityType,
    ids: &[String],
) -> Result<Refetched, Failure> {
    let approved = ids.iter().cloned().collect();
    refetch_guarded(world, entity, ids, DeleteGate { approved: &approved, is_stopped: false }).await
}

/// Fetches records again by id and applies them; an id that Keap does not know any more is a delete. Deletes that were fetched
/// together pass the blast guard together, or are all held.
pub async fn refetch_guarded<T: Transport, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    entity: EntityType,
    ids: &[String],
    gate: DeleteGate<'_>,
) -> Result<Refetched, Failure> {
    let origin = Origin { source: WriteSource::Hook, run_id: None, told: Told::default() };
    let mut refetched = Refetched::default();
    for chunk in ids.chunks(PAGE_RECORDS_MAX) {
        let page = world.keap.list_ids(entity, chunk, world.clock.now()).await?;
        // Ordered, so that the same pass makes the same calls.
        let mut missing: BTreeSet<&str> = chunk.iter().map(String::as_str).collect();
        for record in &page.records {
            missing.remove(record.keap_id.as_str());
        }
        for id in page.rejected.iter().filter_map(|rejected| rejected.keap_id.as_deref()) {
            missing.remove(id);
        }
        let mut failed: BTreeMap<String, Failure> = BTreeMap::new();
        let doomed = doomed_rows(world, entity, &missing, gate).await?;
        // Before any is asked for: that would take a call each, and a person has to look anyway. What was read is not kept waiting.
        let mut held = stopped(world, entity, &doomed, gate, true).await?;
        missing.retain(|id| !held.contains(*id));
        let mut found = Vec::new();
        let mut gone: Vec<(&str, Timestamp)> = Vec::new();
        for id in missing {
            // A list without the id may be a filter's doing; only a 404 for the record itself is a delete.
            let observed_at = world.clock.now();
            match world.keap.get(entity, id, observed_at).await {
                Ok(Some(record)) => found.push(record),
                Ok(None) => gone.push((id, observed_at)),
                Err(failure) => drop(failed.insert(id.to_owned(), failure)),
            }
        }
        let is_gone = |id: &String| gone.iter().any(|(gone, _)| gone == id);
        let doomed = doomed.into_iter().filter(|(id, _)| is_gone(id)).collect();
        held.extend(stopped(world, entity, &doomed, gate, false).await?);
        for (id, observed_at) in gone.into_iter().filter(|(id, _)| !held.contains(*id)) {
            match apply_delete(world, entity, &origin, id, observed_at).await {
                Ok(deleted) => refetched.counts.deleted += u64::from(deleted),
                Err(failure) => drop(failed.insert(id.to_owned(), failure)),
            }
        }
        found.extend(page.records);
        let applied = apply(world, entity, &origin, found, page.rejected).await?;
        refetched.counts.add(&applied.counts);
        for id in applied.unsettled {
            let failure =
                Failure::new(FailureClass::Conflict, "the row keeps changing; it is merged again later");
            failed.insert(id, failure);
        }
        let is_settled = |id: &&String| !failed.contains_key(*id) && !held.contains(*id);
        refetched.settled.extend(chunk.iter().filter(is_settled).cloned());
        refetched.held.extend(held);
        refetched.failed.extend(failed);
    }
    Ok(refetched)
}

/// The rows, by Keap's ids, that would be deleted with these records, and that nobody has approved. A record without a row, or one that
/// a person is asked about, is settled without a word.
async fn doomed_rows<T, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    entity: EntityType,
    missing: &BTreeSet<&str>,
    gate: DeleteGate<'_>,
) -> Result<BTreeMap<String, String>, Failure> {
    let keys: Vec<RemoteKey> = missing
        .iter()
        .filter(|id| !gate.approved.contains(**id))
        .map(|id| RemoteKey { keap_id: (*id).to_owned(), keap_hash: String::new(), row_id: None })
        .collect();
    if keys.is_empty() {
        return Ok(BTreeMap::new());
    }
    let known = world.store.read_known(world.account, entity, &keys).await?;
    let doomed = known.into_iter().filter_map(|known| {
        let row = known.row?;
        let write = plan_delete(&row, &known.keap_id, world.clock.now())?;
        (write.audit_operation == Some("delete")).then_some((known.keap_id, row.id))
    });
    Ok(doomed.collect())
}

/// Which of the doomed rows the blast guard keeps: none, or all. What may pass is noted as destroyed, unless the caller `only_looks`.
async fn stopped<T, S: MirrorStore, C>(
    world: &World<'_, T, S, C>,
    entity: EntityType,
    doomed: &BTreeMap<String, String>,
    gate: DeleteGate<'_>,
    only_looks: bool,
) -> Result<HashSet<String>, Failure> {
    let rows: Vec<String> = doomed.values().cloned().collect();
    let allowance = Allowance::of(world.settings.blast_guard, None);
    let class = Held { entity, deletes: true };
    let passes = match (rows.is_empty(), gate.is_stopped) {
        (true, _) => true,
        (false, true) => false,
        (false, false) if only_looks => {
            allowance.would_take(world.store, world.account, class, &rows).await?
        }
        (false, false) => allowance.take(world.store, world.account, class, &rows).await?,
    };
    Ok(if passes { HashSet::new() } else { doomed.keys().cloned().collect() })
}

/// Applies that Keap deleted a record. Says whether a row was deleted.
///
/// A row with edits that Keap has not got yet is not deleted: that is a conflict, kept open for a person.
///
/// [`FailureClass::Conflict`]: another answer about the record arrived after this one was asked for. Which of both is the newer, only
/// asking again tells.
pub async fn apply_delete<T, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    entity: EntityType,
    origin: &Origin,
    keap_id: &str,
    observed_at: Timestamp,
) -> Result<bool, Failure> {
    let key = RemoteKey { keap_id: keap_id.to_owned(), keap_hash: String::new(), row_id: None };
    let arrived_at = world.clock.now();
    for _ in 0..REMERGE_MAX {
        let known = world.store.read_known(world.account, entity, std::slice::from_ref(&key)).await?;
        let Some(row) = known.into_iter().find_map(|known| known.row) else { return Ok(false) };
        let Some(write) = plan_delete(&row, keap_id, observed_at) else { return Ok(false) };
        if row.keap_observed_at.is_some_and(|seen| seen > observed_at) {
            return Err(Failure::new(
                FailureClass::Conflict,
                "Keap was asked for the record before the last answer about it had arrived; it is read again",
            ));
        }
        let write = RowWrite { keap_observed_at: arrived_at, ..write };
        let deletes = write.audit_operation == Some("delete");
        let batch = WriteBatch { run_id: origin.run_id.clone(), source: origin.source, rows: vec![write] };
        let outcome = world.store.write(world.account, entity, &batch).await?;
        if outcome.skipped.is_empty() {
            return Ok(deletes);
        }
    }
    Err(Failure::new(FailureClass::Conflict, "the row keeps changing; its deletion in Keap is applied later"))
}

/// Adds the rows that records without one were made of. A record that cannot carry its row's id is told by what Keap keeps
/// unique of it; otherwise the hook of our own create, when it comes before the answer, would make a second row.
async fn with_made<T, S: MirrorStore, C>(
    world: &World<'_, T, S, C>,
    entity: EntityType,
    remotes: &[RemoteRecord],
    mut known: Vec<KnownRow>,
) -> Result<Vec<KnownRow>, Failure> {
    let key = key_fields(capability(entity).create_key);
    let met: HashSet<&str> = known.iter().map(|known| known.keap_id.as_str()).collect();
    let strangers: Vec<&RemoteRecord> =
        remotes.iter().filter(|remote| !met.contains(remote.keap_id.as_str())).collect();
    if key.is_empty() || strangers.is_empty() {
        return Ok(known);
    }
    let mut unlinked: HashMap<String, LocalRow> = HashMap::new();
    for row in unlinked_rows(world, entity).await? {
        if let Some(told_by) = told_by(&row.record, key) {
            unlinked.entry(told_by).or_insert(row);
        }
    }
    for remote in strangers {
        let row = told_by(&remote.record, key).and_then(|told_by| unlinked.remove(&told_by));
        if row.is_some() {
            known.push(KnownRow { keap_id: remote.keap_id.clone(), row });
        }
    }
    Ok(known)
}

/// The values that tell a record, in canonical form; `None` where one of them says nothing.
fn told_by(record: &Record, key: &[&str]) -> Option<String> {
    let entity = record.entity();
    let values = key.iter().map(|name| {
        let field = position(entity, name).and_then(|position| fields(entity).get(position))?;
        let value = record.get_by_name(name);
        (!is_empty(field.kind, value)).then(|| canonical(field.kind, value))
    });
    let values: Option<Vec<Value>> = values.collect();
    Some(Value::Array(values?).to_string())
}

/// Live rows that no record of Keap is known for.
async fn unlinked_rows<T, S: MirrorStore, C>(
    world: &World<'_, T, S, C>,
    entity: EntityType,
) -> Result<Vec<LocalRow>, Failure> {
    let mut rows: Vec<LocalRow> = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let (account, limit) = (world.account, PAGE_RECORDS_MAX);
        let ids = world.store.list_unlinked(account, entity, after.as_deref(), limit).await?;
        if !ids.is_empty() {
            rows.extend(world.store.read_rows(account, entity, &ids).await?);
        }
        if ids.len() < limit {
            return Ok(rows);
        }
        after = ids.into_iter().next_back();
    }
}

/// What tells a record that cannot carry its row's id.
fn key_fields(key: CreateKey) -> &'static [&'static str] {
    match key {
        CreateKey::RowLink => &[],
        CreateKey::Name => &["name"],
        CreateKey::ContactPlanStart => &["keap_contact_id", "plan_id", "start_date"],
    }
}

pub(crate) fn key_of(remote: &RemoteRecord, source: WriteSource) -> RemoteKey {
    RemoteKey {
        keap_id: remote.keap_id.clone(),
        // Where edits wait, the row matters also when Keap's side did not change: an edit may have been refused, or undone
        // by the next one.
        keap_hash: if source == WriteSource::Outbox { String::new() } else { remote.content_hash.clone() },
        row_id: remote.row_id.clone(),
    }
}

/// One record per id: a page that moved while it was read may hold one twice.
pub(crate) fn newest_of_each(remotes: Vec<RemoteRecord>) -> Vec<RemoteRecord> {
    let mut newest: HashMap<String, usize> = HashMap::with_capacity(remotes.len());
    let mut kept: Vec<RemoteRecord> = Vec::with_capacity(remotes.len());
    for remote in remotes {
        if let Some(earlier) = newest.get(&remote.keap_id).and_then(|position| kept.get_mut(*position)) {
            if remote.updated_at >= earlier.updated_at {
                *earlier = remote;
            }
        } else {
            newest.insert(remote.keap_id.clone(), kept.len());
            kept.push(remote);
        }
    }
    kept
}

pub(crate) fn count_written(counts: &mut Counts, batch: &WriteBatch, written: &[String]) {
    let written: HashSet<&str> = written.iter().map(String::as_str).collect();
    for row in batch.rows.iter().filter(|row| written.contains(row.keap_id.as_str())) {
        counts.conflicts += row.conflicts.len() as u64;
        match row.audit_operation {
            Some("create") => counts.created += 1,
            Some("delete") => counts.deleted += 1,
            Some(_) => counts.updated += 1,
            None => counts.unchanged += 1,
        }
    }
}

/// The writes that a page calls for.
#[derive(Debug, Default)]
pub(crate) struct PagePlan {
    pub(crate) rows: Vec<RowWrite>,
    pub(crate) unchanged: u64,
    /// Keap ids to be read again.
    unclear: Vec<String>,
    /// Keap ids whose rows hold something that Keap has not got.
    pending: Vec<String>,
    /// For each of them, the row and the fields.
    pub(crate) outgoing: Vec<Outgoing>,
    /// Keap ids of rows of which something is deleted, replaced or cleared.
    pub(crate) destroyed: HashSet<String>,
}

/// What a row holds that Keap has not got.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) row_id: String,
    pub(crate) keap_id: String,
    pub(crate) fields: Vec<String>,
}

/// Plans a page. What is new is not copied but moved into its write: [`give_back`] undoes that for what was skipped.
pub(crate) fn plan_page(
    remotes: &mut [RemoteRecord],
    known: Vec<KnownRow>,
    arrived_at: Timestamp,
    policies: &Policies,
    told: &Told,
) -> PagePlan {
    let mut known: HashMap<String, Option<LocalRow>> =
        known.into_iter().map(|row| (row.keap_id, row.row)).collect();
    let mut plan = PagePlan::default();
    for remote in remotes {
        let write = match known.remove(&remote.keap_id) {
            None => Some(plan_insert(remote)),
            Some(None) => None,
            Some(Some(row)) => match age_of(remote, &row) {
                Age::Older => {
                    // Somebody else merged a newer reading; whether all was carried, the next attempt sees.
                    if may_hold_news(&row) {
                        plan.pending.push(remote.keap_id.clone());
                    }
                    None
                }
                Age::Newer => {
                    let meeting = meet(remote, &row, policies, told);
                    if may_hold_news(&row) && !meeting.merge.to_keap.is_empty() {
                        plan.pending.push(remote.keap_id.clone());
                        plan.outgoing.push(Outgoing {
                            row_id: row.id.clone(),
                            keap_id: remote.keap_id.clone(),
                            fields: names_of(row.record.entity(), &meeting.merge.to_keap),
                        });
                    }
                    let write = plan_update(remote, &row, meeting);
                    let after = write.as_ref().and_then(|write| write.record.as_ref());
                    if after.is_some_and(|after| row.deleted_at.is_none() && destroys(&row.record, after)) {
                        plan.destroyed.insert(remote.keap_id.clone());
                    }
                    write
                }
                Age::Unclear => {
                    plan.unclear.push(remote.keap_id.clone());
                    continue;
                }
            },
        };
        match write {
            Some(write) => plan.rows.push(RowWrite { keap_observed_at: arrived_at, ..write }),
            None => plan.unchanged += 1,
        }
    }
    plan
}

/// The names of the fields that changes are about.
pub(crate) fn names_of(entity: EntityType, changes: &[FieldValue]) -> Vec<String> {
    let schema = fields(entity);
    changes
        .iter()
        .filter_map(|change| schema.get(change.position).map(|field| field.name.to_owned()))
        .collect()
}

/// Whether Keap may have to take something of the row: only where edits are on their way.
fn may_hold_news(row: &LocalRow) -> bool {
    row.deleted_at.is_none() && (!row.base_delta.is_empty() || !row.has_base)
}

fn plan_insert(remote: &mut RemoteRecord) -> RowWrite {
    let nothing = Record::empty(remote.record.entity());
    let record = std::mem::replace(&mut remote.record, nothing);
    let extra = std::mem::take(&mut remote.extra);
    RowWrite {
        id: None,
        expected_version: 0,
        record: Some(record),
        extra,
        state: RowState::Completed,
        audit_operation: Some("create"),
        ..write_of(remote)
    }
}

/// Gives records that were to be inserted, and were not, what their writes took from them.
fn give_back(remotes: &mut [RemoteRecord], rows: Vec<RowWrite>) {
    if remotes.is_empty() {
        return;
    }
    let inserts = rows.into_iter().filter(|row| row.id.is_none());
    let mut taken: HashMap<String, RowWrite> = inserts.map(|row| (row.keap_id.clone(), row)).collect();
    for remote in remotes {
        if let Some(RowWrite { record: Some(record), extra, .. }) = taken.remove(&remote.keap_id) {
            remote.record = record;
            remote.extra = extra;
        }
    }
}

/// The hash that is kept of a base which is no longer its row: otherwise the row says all of it.
fn base_hash(base: &Record, delta: &Map<String, Value>) -> String {
    if delta.is_empty() { String::new() } else { record_hash(base) }
}

/// A write that carries what is known of the remote record, and changes nothing else.
fn write_of(remote: &RemoteRecord) -> RowWrite {
    RowWrite {
        id: None,
        expected_version: 0,
        keap_id: remote.keap_id.clone(),
        record: None,
        extra: remote.extra.clone(),
        keap_created_at: remote.created_at,
        keap_updated_at: remote.updated_at,
        keap_observed_at: remote.observed_at,
        keap_hash: remote.content_hash.clone(),
        base_hash: String::new(),
        base_delta: Map::new(),
        state: RowState::Completed,
        sync_error: None,
        deleted_at: None,
        audit_operation: None,
        audit_old: Map::new(),
        audit_lost: Map::new(),
        conflicts: Vec::new(),
    }
}

/// How a reading stands to the state applied last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    /// It is old news.
    Older,
    /// Keap's times are the same, and the reading was on its way while the other arrived: reading again tells.
    Unclear,
    /// It is at least as new.
    Newer,
}

fn age_of(remote: &RemoteRecord, row: &LocalRow) -> Age {
    let is_seen_before = row.keap_observed_at.is_some_and(|seen| seen > remote.observed_at);
    // Ids are not given again, so a reading from before the record was gone is old news, however new its content. One that was asked
    // for afterwards says that the record is back, however old its content: access to it was lost, or a backup was played back.
    if is_gone_from_keap(row) {
        return if is_seen_before { Age::Older } else { Age::Newer };
    }
    match (remote.updated_at, row.keap_updated_at) {
        (Some(remote_at), Some(row_at)) if remote_at < row_at => Age::Older,
        (Some(remote_at), Some(row_at)) if remote_at > row_at => Age::Newer,
        _ if !is_seen_before => Age::Newer,
        // The same content can be taken for a new reading of it.
        _ if row.keap_hash.as_deref() == Some(remote.content_hash.as_str()) => Age::Newer,
        _ => Age::Unclear,
    }
}

/// Whether Keap had no record of the row when it was asked last.
fn is_gone_from_keap(row: &LocalRow) -> bool {
    row.lost_in_keap || (row.deleted_at.is_some() && !row.base_delta.contains_key(DELETED_AT))
}

/// A row as the merge with a remote record sees it.
#[derive(Clone, Debug)]
pub struct Meeting {
    /// What both sides last agreed on.
    pub base: Record,
    /// What the row holds, the lines of an order called as Keap calls them, and without tags that Keap has not got any more.
    pub row: Record,
    /// Such tags, where the row held them.
    pub gone_tags: Vec<String>,
    /// What of the row Keap does not take, and is put back in it.
    pub refused: Vec<Refusal>,
    /// What comes of it.
    pub merge: Merge,
}

/// Merges a remote record with its row. `told` is that of [`Origin`].
#[must_use]
pub fn meet(remote: &RemoteRecord, row: &LocalRow, policies: &Policies, told: &Told) -> Meeting {
    let agreed = Base::towards(row, &remote.record);
    let base = agreed.record.clone();
    let named = told.made_lines.iter().filter(|line| line.row_version == row.version);
    let sent: Vec<(String, String)> = named.map(|line| (line.name.clone(), line.id.clone())).collect();
    let (base, mut record) = match aligned(&base, &row.record, &remote.record, &sent) {
        Some(lines) => (lines.base, lines.row),
        None => (base, row.record.clone()),
    };
    let gone_tags = take_tags(&mut record, &told.gone_tags);
    let mut refused = told.refused.clone();
    if !row.base_delta.is_empty() || !row.has_base {
        record = put_back(&base, &record, &told.refused);
        let mut take = |settled: Option<Settled>, record: &mut Record| {
            let Some(settled) = settled else { return };
            *record = settled.row;
            let paths: HashSet<String> = refused.iter().map(Refusal::path).collect();
            refused.extend(settled.refused.into_iter().filter(|refusal| !paths.contains(&refusal.path())));
        };
        take(settle(&base, &record, &remote.record), &mut record);
        if let Some(wrote) = &told.wrote {
            take(made_of(wrote, &base, &record, &remote.record), &mut record);
        }
    }
    let sides = Sides {
        base: &base,
        keap: &remote.record,
        supabase: &record,
        keap_changed_at: remote.updated_at,
        supabase_changed_at: row.edited_at,
    };
    let mut merge = reconcile(&sides, policies);
    agreed.record_replaced(&remote.record, &record, policies, &mut merge);
    Meeting { base, row: record, gone_tags, refused, merge }
}

/// Takes tags off a contact, and tells which of them it had.
fn take_tags(record: &mut Record, gone: &[String]) -> Vec<String> {
    if gone.is_empty() {
        return Vec::new();
    }
    let mut held = set_elements(record.get_by_name("tags"));
    let taken: Vec<String> = gone.iter().filter(|tag| held.remove(*tag)).cloned().collect();
    if !taken.is_empty() {
        record.set_by_name("tags", held.into_iter().map(Value::from).collect());
    }
    taken
}

/// Whether somebody changed the record in Keap since the base. What equals the row does not count: our own write may have
/// landed without our knowing.
#[must_use]
pub fn is_edited_in_keap(remote: &Record, row: &LocalRow) -> bool {
    let base = Base::towards(row, remote).record;
    let (base, held) = match aligned(&base, &row.record, remote, &[]) {
        Some(lines) => (lines.base, lines.row),
        None => (base, row.record.clone()),
    };
    fields(base.entity()).iter().enumerate().any(|(position, field)| {
        let there = remote.get(position);
        !same(field.kind, base.get(position), there) && !same(field.kind, held.get(position), there)
    })
}

/// Moves the base of a row that was deleted here and not there: edits made before the delete may have arrived.
fn plan_tombstone(remote: &RemoteRecord, row: &LocalRow) -> Option<RowWrite> {
    let mut delta = base_delta(&remote.record, &row.record);
    delta.insert(DELETED_AT.to_owned(), row.base_delta.get(DELETED_AT).cloned().unwrap_or(Value::Null));
    let keap_unchanged = row.keap_hash.as_deref() == Some(remote.content_hash.as_str());
    (!keap_unchanged || delta != row.base_delta).then(|| RowWrite {
        id: Some(row.id.clone()),
        expected_version: row.version,
        base_hash: base_hash(&remote.record, &delta),
        base_delta: delta,
        sync_error: row.is_deleted_here_alone().then(|| UNDONE_HERE.to_owned()),
        deleted_at: row.deleted_at,
        ..write_of(remote)
    })
}

fn plan_update(remote: &RemoteRecord, row: &LocalRow, meeting: Meeting) -> Option<RowWrite> {
    let deleted_here = row.base_delta.contains_key(DELETED_AT);
    let undeletes = match row.deleted_at {
        None => false,
        // Deleted in Supabase: the tombstone holds unless somebody edited the record in Keap since. An edit survives.
        Some(_) if deleted_here => is_edited_in_keap(&remote.record, row),
        // Deleted in Keap, and now read from it again by a later request: it is back.
        Some(_) => true,
    };
    if row.deleted_at.is_some() && !undeletes {
        return plan_tombstone(remote, row);
    }
    let Meeting { row: held, merge, gone_tags, refused, .. } = meeting;
    let after = merge.row_after(&held);
    let base = merge.base_after(&remote.record);
    let delta = base_delta(&base, &after);
    let mut conflicts: Vec<ConflictRecord> = merge.conflicts.iter().map(conflict_record).collect();
    if undeletes && deleted_here {
        conflicts.push(ConflictRecord {
            field: DELETED_AT.to_owned(),
            base: Value::Null,
            keap: Value::Null,
            supabase: row.deleted_at.map(Timestamp::to_rfc3339).into(),
            policy: Policy::NewestWins,
            winner: Some(Side::Keap.as_str()),
        });
    }
    if row.lost_in_keap {
        // The question whether the row goes with its record has no object any more: the record is back, and takes the edit.
        conflicts.push(ConflictRecord {
            field: DELETED_AT.to_owned(),
            base: Value::Null,
            keap: Value::Null,
            supabase: Value::Null,
            policy: Policy::Manual,
            winner: Some(Side::Supabase.as_str()),
        });
    }
    let mut audit_old = changed_values(&row.record, &after);
    if row.extra != remote.extra {
        audit_old.insert("extra".to_owned(), Value::Object(row.extra.to_object()));
    }
    if undeletes {
        audit_old.insert(DELETED_AT.to_owned(), row.deleted_at.map(Timestamp::to_rfc3339).into());
    }
    let is_refused = !merge.refused.is_empty() || !refused.is_empty();
    let operation = match (undeletes, audit_old.is_empty() && conflicts.is_empty() && !is_refused) {
        (true, _) => Some("undelete"),
        (false, true) => None,
        (false, false) => Some("update"),
    };
    let keap_unchanged = row.keap_hash.as_deref() == Some(remote.content_hash.as_str());
    if operation.is_none() && keap_unchanged && delta == row.base_delta && row.has_base {
        return None;
    }
    let (state, sync_error) = state_of(&merge, &delta, &gone_tags, &refused, row.word.as_deref());
    let mut audit_lost: Map<String, Value> =
        merge.refused.iter().map(|edit| (edit.field.to_owned(), edit.value.clone())).collect();
    for refusal in &refused {
        audit_lost.entry(refusal.field).or_insert_with(|| row.record.get_by_name(refusal.field).clone());
    }
    if !gone_tags.is_empty() {
        audit_lost.insert("tags".to_owned(), gone_tags.into());
    }
    Some(RowWrite {
        id: Some(row.id.clone()),
        expected_version: row.version,
        record: operation.is_some().then_some(after),
        base_hash: base_hash(&base, &delta),
        base_delta: delta,
        state,
        sync_error,
        audit_operation: operation,
        audit_old,
        audit_lost,
        conflicts,
        ..write_of(remote)
    })
}

/// What a 404 for the record of a row calls for; `None` where the row says it already.
///
/// Nothing is kept of what Keap held: whatever is read of the record from then on is news, also if not a byte of it has changed
/// when access to it returns.
pub(crate) fn plan_delete(row: &LocalRow, keap_id: &str, observed_at: Timestamp) -> Option<RowWrite> {
    // A row that was deleted and is back has the key as well: then the return is an edit that waits.
    let deleted_here = row.deleted_at.is_some() && row.base_delta.contains_key(DELETED_AT);
    if is_gone_from_keap(row) && !deleted_here {
        return None;
    }
    let write = RowWrite {
        id: Some(row.id.clone()),
        expected_version: row.version,
        keap_id: keap_id.to_owned(),
        record: None,
        extra: row.extra.clone(),
        keap_created_at: None,
        keap_updated_at: row.keap_updated_at,
        keap_observed_at: observed_at,
        keap_hash: String::new(),
        base_hash: base_hash(&base_of(row), &row.base_delta),
        base_delta: row.base_delta.clone(),
        state: RowState::Completed,
        sync_error: None,
        deleted_at: row.deleted_at,
        audit_operation: None,
        audit_old: Map::new(),
        audit_lost: Map::new(),
        conflicts: Vec::new(),
    };
    if deleted_here {
        // Deleted on both sides: they agree, and nothing is left to ask. What was edited before is still an edit, should the record come back.
        let mut base_delta = write.base_delta;
        base_delta.remove(DELETED_AT);
        return Some(RowWrite { base_hash: base_hash(&base_of(row), &base_delta), base_delta, ..write });
    }
    if row.base_delta.is_empty() {
        return Some(RowWrite {
            deleted_at: Some(observed_at),
            audit_operation: Some("delete"),
            audit_old: Map::from_iter([(DELETED_AT.to_owned(), Value::Null)]),
            ..write
        });
    }
    Some(RowWrite {
        state: RowState::Conflict,
        sync_error: Some("conflict: deleted in Keap while an edit here waited to be carried over".to_owned()),
        audit_operation: Some("conflict"),
        conflicts: vec![ConflictRecord {
            field: DELETED_AT.to_owned(),
            base: Value::Null,
            keap: observed_at.to_rfc3339().into(),
            supabase: Value::Object(changed_values(&row.record, &base_of(row))),
            policy: Policy::Manual,
            winner: None,
        }],
        ..write
    })
}

fn conflict_record(conflict: &keapsync_domain::merge::Conflict) -> ConflictRecord {
    ConflictRecord {
        field: conflict.path.clone(),
        base: conflict.base.clone(),
        keap: conflict.keap.clone(),
        supabase: conflict.supabase.clone(),
        policy: conflict.policy,
        winner: conflict.winner.map(Side::as_str),
    }
}

/// Values of `before` in the fields that `after` writes otherwise.
fn changed_values(before: &Record, after: &Record) -> Map<String, Value> {
    fields(before.entity())
        .iter()
        .enumerate()
        .filter(|(position, _)| before.get(*position) != after.get(*position))
        .map(|(position, field)| (field.name.to_owned(), json_number::shown(before.get(position))))
        .collect()
}
