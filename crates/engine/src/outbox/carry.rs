//! One record's edits on their way to Keap: made, changed or deleted there, as far as the merge says so.
//!
//! Whatever writes to Keap goes by a [`Reading`] that is fresh and merged into the row. A write that takes several calls
//! ends where its reading has become too old; Keap is read again then, and the rest goes by that reading.

use super::Edit;
use super::reading::{Ahead, Reading, merge_in, origin, read_now, reread};
use crate::inbound::{DELETED_AT, MadeLine, Told, apply_delete, is_edited_in_keap, meet};
use crate::ports::{Clock, LocalRow, MirrorStore};
use crate::world::World;
use keapsync_domain::canonical::{same, slot_entries};
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::record::Record;
use keapsync_domain::remote::RemoteRecord;
use keapsync_domain::schema::{SlotKind, fields};
use keapsync_domain::timestamp::Timestamp;
use keapsync_keap::capability::{DeleteSupport, capability};
use keapsync_keap::edits::{Refusal, Wrote, put_back};
use keapsync_keap::records::{Change, Written};
use keapsync_keap::transport::Transport;
use serde_json::Value;

/// Readings of one record within one attempt. A record that changes in Keap as often as it is read waits for its next attempt, and
/// so does what is left of a write that takes more calls than fit.
const READINGS_MAX: usize = 8;

/// Brings Keap to what the row says, as far as the merge says so.
pub(super) async fn carry<T: Transport, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    edit: &Edit,
    ahead: &Ahead,
) -> Result<(), Failure> {
    // A row that was purged leaves nothing to carry over.
    let Some(row) = ahead.row(&edit.row_id) else { return Ok(()) };
    let entity = row.record.entity();
    let Some(keap_id) = &row.keap_id else {
        if !ahead.has_old_rows(world.clock.now()) {
            return carry_unlinked(world, edit, row).await;
        }
        let Some(row) = reread(world, row).await? else { return Ok(()) };
        // One that was linked meanwhile is read with its record by the next attempt.
        return if row.keap_id.is_none() { carry_unlinked(world, edit, &row).await } else { Err(moved()) };
    };
    let deletes = is_deleted_here(row);
    // What is deleted cannot be merged again: a delete goes by a reading of its own.
    let listed = if deletes && world.settings.delete_in_keap {
        None
    } else {
        ahead.reading(keap_id, world.clock.now())
    };
    let reading = match listed {
        Some(listed) => listed,
        None => match read_now(world, entity, keap_id).await? {
            Ok(reading) => reading,
            Err(observed_at) => return deleted_there(world, row, keap_id, observed_at).await,
        },
    };
    // The row is read after Keap, so that it knows of every edit that was told of before: what was edited here meanwhile goes along,
    // and nothing goes that was taken back.
    let Some(row) = reread(world, row).await? else { return Ok(()) };
    if deletes && is_deleted_here(&row) {
        delete(world, edit, row, reading).await
    } else {
        update(world, row, reading).await
    }
}

fn moved() -> Failure {
    Failure::new(FailureClass::Conflict, "the record met its row just now; its edits are carried over next")
}

fn is_deleted_here(row: &LocalRow) -> bool {
    row.deleted_at.is_some() && row.base_delta.contains_key(DELETED_AT)
}

/// Carries a row that no record of Keap's is known for.
async fn carry_unlinked<T: Transport, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    edit: &Edit,
    row: &LocalRow,
) -> Result<(), Failure> {
    // Nor can an earlier attempt have made it where the contact is not there. A deleted row does not learn when it is.
    if row.deleted_at.is_some() && (!edit.may_be_made() || row.waits_for_contact) {
        return Ok(());
    }
    if row.waits_for_contact {
        return Err(Failure::new(
            FailureClass::Conflict,
            "its contact is not in Keap yet: it follows as soon as the contact is there",
        ));
    }
    let found = if edit.may_be_made() {
        world.keap.find_created(&row.id, &row.record, world.clock.now()).await?
    } else {
        None
    };
    match found {
        Some(remote) => {
            let reading = Reading { remote: of_row(remote, row), read_at: world.clock.now() };
            if is_deleted_here(row) {
                return delete(world, edit, row.clone(), reading).await;
            }
            update(world, row.clone(), reading).await
        }
        None if row.deleted_at.is_some() => Ok(()),
        None => create(world, row).await,
    }
}

/// Keap has no such record any more.
async fn deleted_there<T, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    row: &LocalRow,
    keap_id: &str,
    observed_at: Timestamp,
) -> Result<(), Failure> {
    let entity = row.record.entity();
    apply_delete(world, entity, &origin(Told::default()), keap_id, observed_at).await?;
    if row.deleted_at.is_some() {
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
    let Written { remote, made_lines: _, gone_tags, refused, is_cut_short } =
        world.keap.create(&row.id, &row.record, &|| world.clock.now()).await?;
    let (remote, told) = (of_row(remote, row), Told { gone_tags, refused, ..Told::default() });
    if is_cut_short {
        let reading = Reading { remote: remote.clone(), read_at: world.clock.now() };
        settle_in(world, remote, told).await?;
        return match reread(world, row).await? {
            Some(row) => update(world, row, reading).await,
            None => Ok(()),
        };
    }
    finish(world, remote, told, None).await
}

/// A record that was made of the row. Not every kind of record can carry the row's id, so it is said here: without it the record
/// would become a second row.
fn of_row(remote: RemoteRecord, row: &LocalRow) -> RemoteRecord {
    RemoteRecord { row_id: Some(row.id.clone()), ..remote }
}

/// Writes the row's edits, by readings of which none is older than a moment.
async fn update<T: Transport, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    mut row: LocalRow,
    mut reading: Reading,
) -> Result<(), Failure> {
    // What is put back before the write is said after it.
    let mut refused: Vec<Refusal> = Vec::new();
    for _ in 0..READINGS_MAX {
        let met = meet(&reading.remote, &row, &world.settings.policies, &Told::default());
        let is_known = |new: &Refusal| refused.iter().any(|known| known.path() == new.path());
        let new: Vec<Refusal> = met.refused.into_iter().filter(|new| !is_known(new)).collect();
        refused.extend(new);
        if !reading.is_merged_into(&row) {
            // Keap changed too. Merging it in first records what is in conflict while all three values are at hand.
            let applied = merge_in(world, reading.remote.clone(), Told::default()).await?;
            match reread(world, &row).await? {
                Some(merged) => row = merged,
                None => return Ok(()),
            }
            if row.keap_id.is_none() && applied.unsettled.is_empty() {
                return another_row_has_it(&row);
            }
        }
        if !reading.is_merged_into(&row) || !reading.is_fresh(world.clock.now()) {
            // The mirror has moved on from the reading, or it has become old meanwhile.
            let of_row_id = reading.remote.row_id.clone();
            match read_now(world, row.record.entity(), &reading.remote.keap_id).await? {
                Ok(next) => reading = next,
                Err(observed_at) => {
                    return deleted_there(world, &row, &reading.remote.keap_id, observed_at).await;
                }
            }
            reading.remote.row_id = reading.remote.row_id.or(of_row_id);
            match reread(world, &row).await? {
                Some(current) => row = current,
                None => return Ok(()),
            }
            continue;
        }
        match write(world, &row, &reading, &mut refused).await? {
            Some(next) => reading = next,
            None => return Ok(()),
        }
        match reread(world, &row).await? {
            Some(current) => row = current,
            None => return Ok(()),
        }
    }
    Err(Failure::new(
        FailureClass::Conflict,
        "the record kept changing, or takes many calls to write; what is left of its edits is carried over later",
    ))
}

/// The record that an earlier attempt made of the row was met by another row first, and was merged with that one.
fn another_row_has_it(row: &LocalRow) -> Result<(), Failure> {
    if row.deleted_at.is_some() {
        return Ok(());
    }
    Err(Failure::new(
        FailureClass::Invalid,
        format!(
            "the {} that was made of this row in Keap is another row's already: carry what differs over to that row, and delete \
             this one",
            row.record.entity().as_str()
        ),
    ))
}

/// Writes what the merge of the row with the reading calls for. What is left for the next reading goes by the one that is returned;
/// `None` when nothing is.
async fn write<T: Transport, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    row: &LocalRow,
    Reading { remote, read_at }: &Reading,
    refused: &mut Vec<Refusal>,
) -> Result<Option<Reading>, Failure> {
    let meeting = meet(remote, row, &world.settings.policies, &Told::default());
    if meeting.merge.to_keap.is_empty() {
        let told = Told { refused: std::mem::take(refused), ..Told::default() };
        return finish(world, remote.clone(), told, None).await.map(|()| None);
    }
    let schema = fields(row.record.entity());
    let changed: Vec<&'static str> = meeting
        .merge
        .to_keap
        .iter()
        .filter_map(|change| schema.get(change.position).map(|field| field.name))
        .collect();
    let wanted = meeting.merge.keap_after(&remote.record);
    let change = Change {
        row_id: &row.id,
        base: &meeting.base,
        wanted: &wanted,
        remote,
        read_at: *read_at,
        changed: &changed,
    };
    let written = match world.keap.update(&change, &|| world.clock.now()).await {
        Ok(written) => written,
        Err(failure) if failure.class == FailureClass::NotFound => {
            return unfound(world, row, &remote.keap_id, failure).await.map(|()| None);
        }
        Err(failure) => {
            if !failure.class.is_transient() {
                // Nothing will be written, and what Keap lets nobody write is put back even so.
                settle_in(world, remote.clone(), Told::default()).await?;
            }
            return Err(failure);
        }
    };
    let after_at = world.clock.now();
    let Written { remote: after, made_lines, gone_tags, refused: not_taken, is_cut_short } = written;
    refused.extend(not_taken);
    let made_lines = named_as_in(row, change.wanted, made_lines);
    let wrote =
        Some(Wrote { sent: put_back(&remote.record, &wanted, refused), before: remote.record.clone() });
    let told = Told { made_lines, gone_tags, refused: std::mem::take(refused), wrote };
    if is_cut_short {
        let next = Reading { remote: after.clone(), read_at: after_at };
        merge_in(world, after, told).await?;
        return Ok(Some(next));
    }
    let is_heeded = meeting.merge.to_keap.iter().any(|change| {
        let held = |remote: &RemoteRecord| remote.record.get(change.position).clone();
        schema.get(change.position).is_none_or(|field| !same(field.kind, &held(remote), &held(&after)))
    });
    let unheeded = (!is_heeded).then(|| changed.join(", "));
    finish(world, after, told, unheeded).await.map(|()| None)
}

/// Keap answered a write as if something of it were not there. Whether that is the record itself, only asking for it tells: a
/// record that is there may have been out of reach for a moment, so it is written a few times more.
async fn unfound<T: Transport, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    row: &LocalRow,
    keap_id: &str,
    failure: Failure,
) -> Result<(), Failure> {
    match read_now(world, row.record.entity(), keap_id).await? {
        Ok(_) => Err(Failure { class: FailureClass::Unexpected, ..failure }),
        Err(observed_at) => deleted_there(world, row, keap_id, observed_at).await,
    }
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

/// Applies what Keap holds after our write, so that it becomes the base. What Keap does not hold even so, because somebody
/// changed it there meanwhile, is carried again. Fields that are all `unheeded`, as if nothing had been written, are not: Keap
/// would be asked the same forever.
async fn finish<T, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    remote: RemoteRecord,
    told: Told,
    unheeded: Option<String>,
) -> Result<(), Failure> {
    if settle_in(world, remote, told).await?.is_empty() {
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

/// Merges a record in, whatever else happens to its row, and tells what the row holds that Keap has not got.
async fn settle_in<T, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    remote: RemoteRecord,
    told: Told,
) -> Result<Vec<String>, Failure> {
    let applied = merge_in(world, remote, told).await?;
    if applied.unsettled.is_empty() {
        return Ok(applied.pending);
    }
    Err(Failure::new(
        FailureClass::Conflict,
        "the row keeps changing; its edits are carried over together, later",
    ))
}

/// The row was deleted in Supabase, and Keap was read just now.
async fn delete<T: Transport, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    edit: &Edit,
    row: LocalRow,
    reading: Reading,
) -> Result<(), Failure> {
    if is_edited_in_keap(&reading.remote.record, &row) {
        // A delete against an edit: the edit survives, and the apply records the conflict. What was edited here before the
        // delete is still on its way.
        settle_in(world, reading.remote.clone(), Told::default()).await?;
        return match reread(world, &row).await? {
            Some(row) if row.deleted_at.is_none() => update(world, row, reading).await,
            Some(row) if row.keap_id.is_some() && !reading.is_merged_into(&row) => Err(Failure::new(
                FailureClass::Conflict,
                "the record keeps changing in Keap; whether its deletion may be carried over is decided later",
            )),
            _ => Ok(()),
        };
    }
    let entity = row.record.entity();
    // An edit that was on its way when the row was deleted here alone takes no delete along.
    let stays_here = row.is_deleted_here_alone() && !edit.deletes;
    let goes_to_keap = world.settings.delete_in_keap && !stays_here;
    if let (true, DeleteSupport::Never(advice)) = (goes_to_keap, capability(entity).delete) {
        return Err(Failure::new(FailureClass::Invalid, advice));
    }
    if !goes_to_keap {
        // The tombstone stays on our side only; the account's owner has not let deletes through. Edits made before it go on.
        return if row.base_delta.len() > 1 { update(world, row, reading).await } else { Ok(()) };
    }
    if !reading.is_fresh(world.clock.now()) {
        return Err(Failure::new(
            FailureClass::Conflict,
            "what Keap holds was read too long ago for a deletion by it; it is read again",
        ));
    }
    let keap_id = &reading.remote.keap_id;
    world.keap.delete(entity, keap_id).await?;
    apply_delete(world, entity, &origin(Told::default()), keap_id, world.clock.now()).await.map(|_| ())
}
