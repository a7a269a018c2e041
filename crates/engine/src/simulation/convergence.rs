//! Whether both sides are equal, as the invariant of convergence says it.

use super::cells::{CELLS, Cells, TAG_IDS, shape, total_of};
use super::keap_side::{KeapRecord, KeapSide};
use super::mirror_side::{MirrorRow, MirrorSide};
use super::stage::Stage;
use super::verdict::{Invariant, Violation};
use crate::inbound::DELETED_AT;
use crate::ports::RowState;
use keapsync_domain::ids::EntityType;

fn diverged(detail: String) -> Violation {
    Violation::new(Invariant::Convergence, detail)
}

/// Both sides are equal on all mapped fields, or differ only where the mirror says so.
pub(super) fn check_convergence(stage: &Stage) -> Result<(), Violation> {
    let (keap, mirror) = (stage.keap.borrow(), stage.mirror.borrow());
    for entity in EntityType::ALL {
        for (id, record) in keap.records(entity) {
            check_record(stage, &mirror, *id, record)?;
        }
        check_rows(&keap, &mirror, entity)?;
    }
    Ok(())
}

fn check_record(stage: &Stage, mirror: &MirrorSide, id: u64, record: &KeapRecord) -> Result<(), Violation> {
    let entity = record.cells.entity;
    let what = format!("{} {id}", entity.as_str());
    if record.cells.is_poisoned() && mirror.rejected.contains(&(entity, id.to_string())) {
        // What the mirror cannot store stays as it was, among the dead letters.
        return Ok(());
    }
    let Some(row) = mirror.linked(entity, id) else {
        return Err(diverged(format!("{what} has no row")));
    };
    if let Some(made_from) = record.link.as_ref().filter(|made_from| **made_from != row.row.id) {
        return Err(Violation::new(
            Invariant::OneEffect,
            format!("{what} was made from row {made_from} and is linked to row {}", row.row.id),
        ));
    }
    if row.row.deleted_at.is_some() {
        let may_delete = stage.setting.delete_in_keap && entity != EntityType::Subscription;
        let is_kept = !may_delete || row.row.is_deleted_here_alone();
        if !is_kept || !row.row.base_delta.contains_key(DELETED_AT) {
            return Err(diverged(format!("{what} exists and its row is deleted")));
        }
        return Ok(());
    }
    // An undo may bring back a nothing that Keap does not take: the row says so, and waits with all it has for a person.
    if row.state == RowState::Error && is_refused(mirror, row) && mirror.was_undone(&row.row.id) {
        return Ok(());
    }
    check_equal(mirror, &what, row, &record.cells)?;
    let has_open = mirror.open_conflicts.iter().any(|(of, _)| *of == row.row.id);
    let is_explained = row.state == RowState::Pending && is_refused(mirror, row);
    if row.state == RowState::Pending && !is_explained || (row.state == RowState::Completed && has_open) {
        return Err(diverged(format!("row of {what} says {:?}, conflicts open: {has_open}", row.state)));
    }
    Ok(())
}

/// Whether Keap refused an edit of the row.
fn is_refused(mirror: &MirrorSide, row: &MirrorRow) -> bool {
    mirror.dead_letter_of(&row.row.id).is_some()
}

fn check_equal(mirror: &MirrorSide, what: &str, row: &MirrorRow, there: &Cells) -> Result<(), Violation> {
    let here = Cells::of_record(&row.row.record);
    let is_open = |name: &str| mirror.open_conflicts.contains(&(row.row.id.clone(), name.to_owned()));
    for cell in 0..CELLS {
        let name = there.name(cell);
        if here.get(cell) != there.get(cell) && !is_open(name) {
            return Err(diverged(format!(
                "{name} of {what} is v{} in Keap and v{} in Supabase, whose row is {:?}",
                there.get(cell),
                here.get(cell),
                row.state
            )));
        }
    }
    if here.contact != there.contact && !is_open("keap_contact_id") {
        return Err(diverged(format!("{what} is of {} in Keap, of {} here", there.contact, here.contact)));
    }
    let name = shape(there.entity).flags_name;
    if here.flags != there.flags && !is_open(name) {
        return Err(diverged(format!("{name} of {what}: {:b} in Keap, {:b} here", there.flags, here.flags)));
    }
    let (ours, theirs) = (here.lines.sorted(), there.lines.sorted());
    let differing = ours.iter().filter(|line| !theirs.contains(line));
    let mut differing = differing.chain(theirs.iter().filter(|line| !ours.contains(line)));
    if let Some((line, value)) = differing.find(|(line, _)| !is_open(&format!("line_items.{line}"))) {
        return Err(diverged(format!("line {line} (v{value}) of {what}: {theirs:?} in Keap, {ours:?} here")));
    }
    let total = row.row.record.get_by_name("total_amount");
    if there.entity == EntityType::Order && *total != total_of(there.lines.len()) {
        return Err(diverged(format!("total of {what} is {total} with {} lines", there.lines.len())));
    }
    Ok(())
}

/// Bits of the tags that Keap has not got any more.
pub(super) fn gone_tags(keap: &KeapSide) -> u8 {
    let exists = |id: &str| id.parse().is_ok_and(|id| keap.cells(EntityType::Tag, id).is_some());
    TAG_IDS.iter().enumerate().filter(|(_, id)| !exists(id)).fold(0, |bits, (bit, _)| bits | 1 << bit)
}

fn check_rows(keap: &KeapSide, mirror: &MirrorSide, entity: EntityType) -> Result<(), Violation> {
    for (id, row) in mirror.rows(entity) {
        let exists = match &row.row.keap_id {
            Some(keap_id) => keap_id.parse().is_ok_and(|keap_id: u64| keap.cells(entity, keap_id).is_some()),
            None => false,
        };
        let is_told = row.row.deleted_at.is_some()
            || mirror.open_conflicts.contains(&(id.clone(), DELETED_AT.to_owned()))
            || is_refused(mirror, row)
            || mirror.waits_for_nobody(entity, id);
        if !exists && !is_told {
            return Err(diverged(format!(
                "row {id} ({} {:?}) has no record in Keap, and nothing says so; it is {:?}",
                entity.as_str(),
                row.row.keap_id,
                row.state
            )));
        }
    }
    Ok(())
}
