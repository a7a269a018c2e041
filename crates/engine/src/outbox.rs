//! Captured edits on their way to Keap.
//!
//! Claim, read the rows, read Keap's current records, merge, write only what differs, apply Keap's answer as the new base,
//! and only then end the items. A crash anywhere leaves items whose lease ends by itself; the next attempt reads both
//! sides again and finds what is already done. A create is looked for by the row's id in Keap before it is posted a second
//! time, so that one row never becomes two contacts.
//!
//! Each record fails alone. An outage is no fault of a record: its items wait and the attempt does not count.

use crate::inbound::{Applied, DELETED_AT, Origin, apply, apply_delete, is_edited_in_keap, merge_of};
use crate::ports::{Clock, LocalRow, MirrorStore, OutboxItem, OutboxStore, WriteSource};
use crate::world::World;
use futures_util::StreamExt as _;
use keapsync_domain::backoff::{DELAY_MAX_MS, delay_ms};
use keapsync_domain::canonical::set_elements;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::{EntityType, is_keap_id};
use keapsync_domain::limits::{ATTEMPTS_MAX, OUTBOX_CLAIM_MAX, OUTBOX_LEASE_MS};
use keapsync_domain::merge::FieldValue;
use keapsync_domain::record::Record;
use keapsync_domain::remote::RemoteRecord;
use keapsync_domain::schema::fields;
use keapsync_keap::contacts::convert::{Link, create_body, too_long, wire_property, write_body};
use keapsync_keap::tags::{TagChange, change_tag};
use keapsync_keap::transport::Transport;
use std::cell::Cell;
use std::collections::HashMap;

/// Records worked on at once: a worker may hold six connections, one of them to Postgres.
const CONCURRENCY: usize = 4;

/// Longest wait after an outage, in milliseconds: its end should be noticed soon.
const OUTAGE_DELAY_MAX_MS: i64 = 30_000;

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
}

/// Carries over what is due, once.
pub async fn drain<T: Transport, S: MirrorStore + OutboxStore, C: Clock>(
    world: &World<'_, T, S, C>,
    owner: &str,
) -> Result<DrainReport, Failure> {
    let items = world.store.claim(world.account, OUTBOX_CLAIM_MAX, OUTBOX_LEASE_MS, owner).await?;
    let mut report =
        DrainReport { claimed: items.len(), more: items.len() >= OUTBOX_CLAIM_MAX, ..DrainReport::default() };
    if items.is_empty() {
        return Ok(report);
    }
    let edits = by_row(items);
    let prepared = prepare(world, &edits).await;
    let (rows, remotes) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => {
            for edit in &edits {
                report.retried += put_back(world, edit, &failure).await?;
            }
            report.outage = Some(failure);
            return Ok(report);
        }
    };
    let outage: Cell<Option<Failure>> = Cell::new(None);
    let (rows, remotes, outage) = (&rows, &remotes, &outage);
    let outcomes: Vec<(&Edit, Result<(), Failure>)> = futures_util::stream::iter(&edits)
        .map(|edit| async move {
            if let Some(failure) = outage.take() {
                outage.set(Some(failure.clone()));
                return (edit, Err(failure));
            }
            let outcome = match rows.get(&edit.row_id) {
                Some(row) => {
                    carry(world, edit, row, row.keap_id.as_ref().and_then(|id| remotes.get(id))).await
                }
                // The row was purged: nothing is left to carry over.
                None => Ok(()),
            };
            if let Err(failure) = &outcome
                && matches!(
                    failure.class,
                    FailureClass::Unavailable | FailureClass::RateLimited | FailureClass::Unauthorized
                )
            {
                outage.set(Some(failure.clone()));
            }
            (edit, outcome)
        })
        .buffer_unordered(CONCURRENCY)
        .collect()
        .await;
    report.outage = outage.take();
    let mut done = Vec::new();
    for (edit, outcome) in outcomes {
        match outcome {
            Ok(()) => done.extend(edit.item_ids.iter().cloned()),
            Err(failure) if is_final(&failure, edit.attempts) => {
                world.store.fail(world.account, &edit.item_ids, &failure).await?;
                report.failed += edit.item_ids.len();
            }
            Err(failure) => report.retried += put_back(world, edit, &failure).await?,
        }
    }
    if !done.is_empty() {
        world.store.complete(world.account, &done).await?;
        report.completed = done.len();
    }
    Ok(report)
}

fn by_row(items: Vec<OutboxItem>) -> Vec<Edit> {
    let mut edits: Vec<Edit> = Vec::new();
    let mut positions: HashMap<String, usize> = HashMap::new();
    for item in items {
        let position = *positions.entry(item.entity_id.clone()).or_insert(edits.len());
        match edits.get_mut(position) {
            Some(edit) => {
                edit.claims = edit.claims.max(item.claims);
                edit.attempts = edit.attempts.max(item.attempts);
                edit.item_ids.push(item.id);
            }
            None => edits.push(Edit {
                row_id: item.entity_id,
                item_ids: vec![item.id],
                claims: item.claims,
                attempts: item.attempts,
            }),
        }
    }
    edits
}

type Rows = HashMap<String, LocalRow>;
type Remotes = HashMap<String, RemoteRecord>;

/// Reads the rows, and what Keap holds of them, in one call each.
async fn prepare<T: Transport, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    edits: &[Edit],
) -> Result<(Rows, Remotes), Failure> {
    let ids: Vec<String> = edits.iter().map(|edit| edit.row_id.clone()).collect();
    let rows = world.store.read_rows(world.account, EntityType::Contact, &ids).await?;
    let keap_ids: Vec<String> = rows.iter().filter_map(|row| row.keap_id.clone()).collect();
    let page = if keap_ids.is_empty() {
        None
    } else {
        Some(world.keap.list_ids(&keap_ids, world.clock.now()).await?)
    };
    let remotes = page.into_iter().flat_map(|page| page.contacts);
    Ok((
        rows.into_iter().map(|row| (row.id.clone(), row)).collect(),
        remotes.map(|remote| (remote.keap_id.clone(), remote)).collect(),
    ))
}

fn is_final(failure: &Failure, attempts: i32) -> bool {
    !failure.class.is_transient() || (failure.class.counts_against_item() && attempts + 1 >= ATTEMPTS_MAX)
}

async fn put_back<T, S: OutboxStore, C>(
    world: &World<'_, T, S, C>,
    edit: &Edit,
    failure: &Failure,
) -> Result<usize, Failure> {
    let delay_max_ms = if failure.class.counts_against_item() { DELAY_MAX_MS } else { OUTAGE_DELAY_MAX_MS };
    let claims = u32::try_from(edit.claims).unwrap_or(1);
    let delay = delay_ms(claims, world.entropy, delay_max_ms, failure.retry_after_ms);
    let counts = failure.class.counts_against_item();
    world.store.retry_later(world.account, &edit.item_ids, delay, failure, counts).await?;
    Ok(edit.item_ids.len())
}

fn origin() -> Origin {
    Origin { source: WriteSource::Outbox, run_id: None }
}

/// Brings Keap to what the row says, as far as the merge says so.
async fn carry<T: Transport, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    edit: &Edit,
    row: &LocalRow,
    listed: Option<&RemoteRecord>,
) -> Result<(), Failure> {
    let deleted_here = row.deleted_at.is_some() && row.base_delta.contains_key(DELETED_AT);
    let remote = match (&row.keap_id, listed) {
        (_, Some(remote)) => remote.clone(),
        (Some(keap_id), None) => {
            let observed_at = world.clock.now();
            let Some(remote) = world.keap.get(keap_id, observed_at).await? else {
                return deleted_there(world, row, keap_id, observed_at, deleted_here).await;
            };
            remote
        }
        (None, None) if row.deleted_at.is_some() && edit.claims <= 1 => return Ok(()),
        (None, None) => {
            let found = if edit.claims > 1 { find_created(world, row).await? } else { None };
            match found {
                Some(remote) => remote,
                None if row.deleted_at.is_some() => return Ok(()),
                None => return create(world, row).await,
            }
        }
    };
    if deleted_here {
        return delete(world, row, &remote).await;
    }
    update(world, row, remote).await
}

/// Keap has no such record any more.
async fn deleted_there<T, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    row: &LocalRow,
    keap_id: &str,
    observed_at: keapsync_domain::timestamp::Timestamp,
    deleted_here: bool,
) -> Result<(), Failure> {
    apply_delete(world, &origin(), keap_id, observed_at).await?;
    if deleted_here || row.deleted_at.is_some() {
        return Ok(());
    }
    Err(Failure::new(
        FailureClass::NotFound,
        "the contact was deleted in Keap while this edit waited; the row is kept and marked as a conflict",
    ))
}

/// Looks for what an earlier, interrupted attempt may have made.
async fn find_created<T: Transport, S, C: Clock>(
    world: &World<'_, T, S, C>,
    row: &LocalRow,
) -> Result<Option<RemoteRecord>, Failure> {
    let page = world.keap.list_by_row_id(&row.id, world.clock.now()).await?;
    let mut found =
        page.contacts.into_iter().filter(|contact| contact.row_id.as_deref() == Some(row.id.as_str()));
    match (found.next(), found.next()) {
        (Some(_), Some(_)) => Err(Failure::new(
            FailureClass::Invalid,
            "two contacts in Keap carry this row's id: merge or delete one of them in Keap, then replay this item",
        )),
        (first, _) => Ok(first),
    }
}

fn link<'a, T, S, C>(world: &'a World<'_, T, S, C>, row: &'a LocalRow) -> Option<Link<'a>> {
    world.keap.link_field.map(|field| Link { field_id: &field.id, row_id: &row.id })
}

fn check_lengths(record: &Record) -> Result<(), Failure> {
    let too_long: Vec<String> = too_long(record)
        .into_iter()
        .map(|(name, limit)| format!("{name} (at most {limit} characters)"))
        .collect();
    if too_long.is_empty() {
        return Ok(());
    }
    Err(Failure::new(FailureClass::Invalid, format!("too long for Keap: {}", too_long.join(", "))))
}

async fn create<T: Transport, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    row: &LocalRow,
) -> Result<(), Failure> {
    let Some(link) = link(world, row) else {
        return Err(Failure::new(
            FailureClass::Unavailable,
            "the custom field that carries row ids does not exist in Keap yet; it is made right after connecting",
        ));
    };
    check_lengths(&row.record)?;
    let reachable = ["email", "phone", "emails", "phones", "addresses"];
    if reachable.iter().all(|name| row.record.get_by_name(name).is_null()) {
        return Err(Failure::new(
            FailureClass::Invalid,
            "Keap takes no contact without an e-mail address, a phone number or an address: give the row one",
        ));
    }
    let made = world.keap.create(create_body(&row.record, Some(link)), world.clock.now()).await?;
    let settled = carry_tags(world, &row.record, made).await?;
    finish(world, settled).await
}

async fn update<T: Transport, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    row: &LocalRow,
    remote: RemoteRecord,
) -> Result<(), Failure> {
    let mut row = row.clone();
    if row.keap_hash.as_deref() != Some(remote.content_hash.as_str()) {
        // Keap changed too. Merging it in first records what is in conflict while all three values are at hand.
        merge_in(world, remote.clone()).await?;
        match reread(world, &row).await? {
            Some(merged) => row = merged,
            None => return Ok(()),
        }
    }
    let merge = merge_of(&remote, &row, &world.settings.policies);
    if merge.to_keap.is_empty() {
        return finish(world, remote).await;
    }
    let wanted = merge.keap_after(&remote.record);
    check_lengths(&wanted)?;
    let properties = properties_of(&merge.to_keap);
    let answer = if properties.is_empty() {
        remote
    } else {
        let body = write_body(&wanted, &remote.extra, &properties, link(world, &row));
        world.keap.update(&remote.keap_id, &properties, body, world.clock.now()).await?
    };
    let settled = carry_tags(world, &wanted, answer).await?;
    finish(world, settled).await
}

/// The row as it is now; `None` when it was purged.
async fn reread<T, S: MirrorStore, C>(
    world: &World<'_, T, S, C>,
    row: &LocalRow,
) -> Result<Option<LocalRow>, Failure> {
    let ids = std::slice::from_ref(&row.id);
    Ok(world.store.read_rows(world.account, EntityType::Contact, ids).await?.into_iter().next())
}

/// Applies what Keap holds after our write, so that it becomes the base. What Keap does not hold even so, because somebody
/// changed it there meanwhile, is carried again.
async fn finish<T, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    remote: RemoteRecord,
) -> Result<(), Failure> {
    let applied = merge_in(world, remote).await?;
    if applied.pending.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        FailureClass::Conflict,
        "the record changed while it was written; what is left is carried over later",
    ))
}

/// Applies what Keap holds now.
async fn merge_in<T, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    remote: RemoteRecord,
) -> Result<Applied, Failure> {
    let applied = apply(world, &origin(), vec![remote], Vec::new()).await?;
    if applied.unsettled.is_empty() {
        return Ok(applied);
    }
    Err(Failure::new(
        FailureClass::Conflict,
        "the row keeps changing; its edits are carried over together, later",
    ))
}

/// The properties of the write model that carry the changed fields, each once.
fn properties_of(changes: &[FieldValue]) -> Vec<&'static str> {
    let all = fields(EntityType::Contact);
    let mut properties: Vec<&'static str> = changes
        .iter()
        .filter_map(|change| all.get(change.position).and_then(|field| wire_property(field.name)))
        .collect();
    properties.sort_unstable();
    properties.dedup();
    properties
}

/// Applies and removes tags until Keap's contact carries those of `wanted`; the answer is the contact read again.
async fn carry_tags<T: Transport, S, C: Clock>(
    world: &World<'_, T, S, C>,
    wanted: &Record,
    remote: RemoteRecord,
) -> Result<RemoteRecord, Failure> {
    let (wanted, held) =
        (set_elements(wanted.get_by_name("tags")), set_elements(remote.record.get_by_name("tags")));
    if wanted == held {
        return Ok(remote);
    }
    if let Some(odd) = wanted.iter().find(|id| !is_keap_id(id)) {
        let shown: String = odd.chars().take(20).collect();
        return Err(Failure::new(
            FailureClass::Invalid,
            format!("tags holds '{shown}', which is no Keap tag id"),
        ));
    }
    let changes = wanted
        .difference(&held)
        .map(|id| (id, TagChange::Apply))
        .chain(held.difference(&wanted).map(|id| (id, TagChange::Remove)));
    for (tag_id, change) in changes {
        let api = world.keap;
        change_tag(api.transport, api.base_url, api.access_token, tag_id, &remote.keap_id, change).await?;
    }
    let observed_at = world.clock.now();
    world.keap.get(&remote.keap_id, observed_at).await?.ok_or_else(|| {
        Failure::new(FailureClass::Unexpected, "the contact vanished from Keap while its tags were written")
    })
}

/// The row was deleted in Supabase.
async fn delete<T: Transport, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    row: &LocalRow,
    remote: &RemoteRecord,
) -> Result<(), Failure> {
    if is_edited_in_keap(&remote.record, row) {
        // A delete against an edit: the edit survives, and the apply records the conflict. What was edited here before the
        // delete is still on its way.
        merge_in(world, remote.clone()).await?;
        return match reread(world, row).await? {
            Some(row) if row.deleted_at.is_none() => update(world, &row, remote.clone()).await,
            _ => Ok(()),
        };
    }
    if !world.settings.delete_in_keap {
        // The tombstone stays on our side only; the account's owner has not let deletes through. Edits made before it go on.
        return if row.base_delta.len() > 1 { update(world, row, remote.clone()).await } else { Ok(()) };
    }
    world.keap.delete(&remote.keap_id).await?;
    apply_delete(world, &origin(), &remote.keap_id, world.clock.now()).await.map(|_| ())
}
