//! The ledger: follows every value that a person wrote, and says at once when an invariant is broken.
//!
//! Values have numbers of their own (see [`cells`](super::cells)), so each can be followed through both sides:
//! - *No lost update*: what a person wrote is overwritten by the engine only after the other side has shown it, or when the same
//!   statement records it in a conflict or as refused. The one exception is a person's write in Keap between the pass's last read of
//!   that record and its write, while that reading was fresh and the row, when it was last read, had not shown it: Keap has no
//!   conditional writes, so nobody could have seen it. These are counted, not excused silently.
//! - *No flip-flop*: the engine never brings back a value that a side has shown and left, unless a conflict is recorded with it.
//! - *No resurrection*: a row that was deleted because its record was never comes back, nor does a second row for it.
//! - *Audit completeness*: the row after a write, overlaid with the old values in the write's audit entry, is the row before it.
//! - *One effect*: no second row for a record that was made from a row, no second record for a row, and no line of an order twice.

use super::cells::{CELLS, Cells, LINES_MAX, ValueNumber, numbers_in, shape};
use super::keap_side::KeapChange;
use super::mirror_side::RowChange;
use super::verdict::{Invariant, Violation};
use crate::inbound::DELETED_AT;
use crate::ports::{LocalRow, RowWrite};
use keapsync_domain::ids::EntityType;
use keapsync_domain::merge::Side;
use std::collections::{BTreeMap, BTreeSet};

/// What became of one value.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each says another thing that happened, and all may have")]
struct Fate {
    author: Option<Side>,
    authored_at_step: u64,
    /// When somebody took it away in Keap.
    removed_at_step: u64,
    shown_in_keap: bool,
    shown_in_mirror: bool,
    /// When the mirror first showed it.
    shown_in_mirror_at_step: u64,
    left_in_keap: bool,
    left_in_mirror: bool,
    is_recorded: bool,
    /// The mirror has held it when both sides agreed; of a line, under Keap's id.
    is_linked: bool,
}

/// A record, by its entity and Keap's id.
type RecordKey = (EntityType, u64);

/// What a write to Keap goes by.
#[derive(Clone, Copy, Debug)]
pub(super) struct WrittenBy {
    /// When the same pass last read the record.
    pub read_at_step: u64,
    /// Whether that was no longer ago than the engine may let it be.
    pub is_fresh: bool,
}

/// Follows values.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    fates: Vec<Fate>,
    /// Records whose deletion has reached the mirror.
    deletions_applied: BTreeSet<RecordKey>,
    /// When somebody cleared a cell in Keap, by record and cell: nothing has no number to follow.
    cleared_at_step: BTreeMap<(RecordKey, usize), u64>,
    /// Rows that a person made, or deleted.
    persons_rows: BTreeSet<String>,
    /// When the row of a record was last read to be carried.
    row_read_at_step: BTreeMap<RecordKey, u64>,
    /// Values that our own create had written, gone again in Keap before the mirror knew the record or the line, and written again:
    /// what carries no id of ours is told by its content alone.
    pub written_again: u64,
    /// Values written in Keap that no read could have seen before our write replaced them.
    pub unobservable: u64,
}

/// What changed in one place of a record: a cell, or a line of an order.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// The cell; `None` for a line.
    cell: Option<usize>,
    name: &'static str,
    old: ValueNumber,
    new: ValueNumber,
}

/// What two states differ in. Lines have no fixed place: one that is gone and one that is new are a step each.
fn steps(before: &Cells, after: &Cells) -> impl Iterator<Item = Step> {
    let (before, after) = (*before, *after);
    let cells = (0..CELLS).map(move |cell| Step {
        cell: Some(cell),
        name: before.name(cell),
        old: before.get(cell),
        new: after.get(cell),
    });
    let line = move |of: Cells, other: Cells, position: usize| {
        let value = of.lines.iter().nth(position).map_or(0, |line| line.value);
        if other.lines.iter().any(|line| line.value == value) { 0 } else { value }
    };
    let gone = (0..LINES_MAX).map(move |position| (line(before, after, position), 0));
    let came = (0..LINES_MAX).map(move |position| (0, line(after, before, position)));
    let count = if before.lines.len() + after.lines.len() == 0 { 0 } else { 2 * LINES_MAX };
    let lines = gone.chain(came).take(count);
    let lines = lines.map(|(old, new)| Step { cell: None, name: "line_items", old, new });
    cells.chain(lines).filter(|step| step.old != step.new)
}

/// Whether a conflict's field is a place, or has it as a part.
fn is_about(field: &str, name: &str) -> bool {
    field == name || field == DELETED_AT || field.split('.').next() == Some(name)
}

impl Ledger {
    fn fate(&mut self, value: ValueNumber) -> &mut Fate {
        let position = value as usize;
        if self.fates.len() <= position {
            self.fates.resize(position + 1, Fate::default());
        }
        // The vector was grown to hold the position.
        &mut self.fates[position]
    }

    /// Rows were read to be carried.
    pub(super) fn rows_were_read(&mut self, rows: &[LocalRow], step: u64) {
        let keys = rows
            .iter()
            .filter_map(|row| Some((row.record.entity(), row.keap_id.as_ref()?.parse::<u64>().ok()?)));
        self.row_read_at_step.extend(keys.map(|key| (key, step)));
    }

    fn show(&mut self, side: Side, before: &Cells, after: &Cells, step: u64) {
        for Step { old, new, .. } in steps(before, after) {
            if old != 0 {
                match side {
                    Side::Keap => self.fate(old).left_in_keap = true,
                    Side::Supabase => self.fate(old).left_in_mirror = true,
                }
            }
            if new != 0 {
                match side {
                    Side::Keap => self.fate(new).shown_in_keap = true,
                    Side::Supabase => {
                        let fate = self.fate(new);
                        if !fate.shown_in_mirror {
                            fate.shown_in_mirror_at_step = step;
                        }
                        fate.shown_in_mirror = true;
                    }
                }
            }
        }
    }

    /// A person wrote on a side.
    pub(super) fn person_wrote(&mut self, side: Side, before: Option<&Cells>, after: &Cells, step: u64) {
        let nothing = Cells::empty(after.entity);
        let before = before.unwrap_or(&nothing);
        for Step { new, .. } in steps(before, after).filter(|step| step.new != 0) {
            let fate = self.fate(new);
            fate.author = Some(side);
            fate.authored_at_step = step;
        }
        self.show(side, before, after, step);
    }

    /// A person wrote in Keap.
    pub(super) fn person_wrote_keap(&mut self, change: &KeapChange, step: u64) {
        let nothing = Cells::empty(change.entity);
        let (before, after) = (change.before.unwrap_or(nothing), change.after.unwrap_or(nothing));
        for Step { cell, old, .. } in steps(&before, &after).filter(|step| step.new == 0) {
            match cell {
                Some(cell) => {
                    self.cleared_at_step.insert(((change.entity, change.id), cell), step);
                }
                None => self.fate(old).removed_at_step = step,
            }
        }
        self.person_wrote(Side::Keap, change.before.as_ref(), &after, step);
    }

    /// A person made a row, or deleted one: what becomes of its record in Keap is that person's doing.
    pub(super) fn person_owns(&mut self, row_id: &str) {
        self.persons_rows.insert(row_id.to_owned());
    }

    /// A record in Keap is deleted only where a person here deleted its row, or had made it.
    pub(super) fn check_deleted_in_keap(
        &self,
        change: &KeapChange,
        row_id: Option<&str>,
    ) -> Result<(), Violation> {
        match row_id.filter(|id| !self.persons_rows.contains(*id)) {
            None => Ok(()),
            Some(_) => Err(Violation::new(
                Invariant::NoLostUpdate,
                format!(
                    "{} {} was deleted in Keap, where it had been made, and nobody had deleted it",
                    change.entity.as_str(),
                    change.id
                ),
            )),
        }
    }

    /// Values that an undo brings back are followed anew from there on. `there`: what Keap holds now; `agreed`: what both sides held
    /// last. An edit that is taken back before Keap's answer to it was heard leaves the row as both sides had agreed: that Keap
    /// took it meanwhile then looks like a change made there.
    pub(super) fn renew(
        &mut self,
        before: Option<&Cells>,
        after: &Cells,
        there: Option<&Cells>,
        agreed: Option<&Cells>,
    ) {
        let nothing = Cells::empty(after.entity);
        for Step { new, .. } in steps(before.unwrap_or(&nothing), after).filter(|step| step.new != 0) {
            let is_linked = self.fate(new).is_linked;
            let shown_in_keap = [there, agreed].into_iter().flatten().any(|cells| cells.holds(new));
            *self.fate(new) = Fate { shown_in_keap, is_linked, ..Fate::default() };
        }
    }

    /// A record that was out of reach is within it again: that its row comes back is no revival.
    pub(super) fn came_back(&mut self, entity: EntityType, id: u64) {
        self.deletions_applied.remove(&(entity, id));
    }

    /// Notes what a statement records besides the row.
    fn record(&mut self, write: &RowWrite) {
        let mut recorded = Vec::new();
        for conflict in &write.conflicts {
            for value in [&conflict.base, &conflict.keap, &conflict.supabase] {
                numbers_in(value, &mut recorded);
            }
        }
        write.audit_lost.values().for_each(|value| numbers_in(value, &mut recorded));
        for value in recorded {
            self.fate(value).is_recorded = true;
        }
    }

    /// The engine wrote a row. `there`: what Keap holds at this moment; a value that Keap shows now is no old one.
    pub(super) fn engine_wrote_row(
        &mut self,
        change: &RowChange,
        write: &RowWrite,
        there: Option<&Cells>,
        step: u64,
    ) -> Result<(), Violation> {
        self.record(write);
        let entity = change.after.record.entity();
        let nothing = Cells::empty(entity);
        let before = change.before.as_ref().map(|row| Cells::of_record(&row.record));
        let after = Cells::of_record(&change.after.record);
        let key: RecordKey = (entity, write.keap_id.parse().unwrap_or(0));
        let what = || format!("{} {}", entity.as_str(), write.keap_id);
        let is_gone = there.is_none();
        if let (Some(row), Some(cells)) = (&change.before, &before) {
            let there = there.unwrap_or(&nothing);
            self.check_overwritten((row, cells), (&change.after, &after), write, there)?;
            check_audit(row, cells, &change.after, write)?;
            let was_deleted_there = row.deleted_at.is_some() && self.deletions_applied.contains(&key);
            if was_deleted_there && change.after.deleted_at.is_none() {
                return Err(Violation::new(
                    Invariant::NoResurrection,
                    format!("row of {} was deleted with it, and came back by an old reading", what()),
                ));
            }
            let is_agreed =
                change.after.deleted_at.is_some() && !change.after.base_delta.contains_key(DELETED_AT);
            // A record that is back by now was not there when Keap was asked, and is met again.
            if is_agreed && is_gone {
                self.deletions_applied.insert(key);
            }
        } else if self.deletions_applied.contains(&key) {
            return Err(Violation::new(
                Invariant::NoResurrection,
                format!("{} was deleted on both sides, and an old reading made a new row of it", what()),
            ));
        }
        for line in after.lines.iter().filter(|line| line.id != 0) {
            self.fate(line.value).is_linked = true;
        }
        if change.after.base_delta.is_empty() {
            (0..CELLS).for_each(|cell| self.fate(after.get(cell)).is_linked = true);
        }
        self.show(Side::Supabase, &before.unwrap_or(nothing), &after, step);
        Ok(())
    }

    fn check_overwritten(
        &mut self,
        (row, before): (&LocalRow, &Cells),
        (row_after, after): (&LocalRow, &Cells),
        write: &RowWrite,
        there: &Cells,
    ) -> Result<(), Violation> {
        let of = || format!("row of {} {}", before.entity.as_str(), write.keap_id);
        let dies = row.deleted_at.is_none() && row_after.deleted_at.is_some();
        let kept = (0..CELLS).map(|cell| before.get(cell)).chain(before.lines.iter().map(|line| line.value));
        for old in kept.filter(|old| dies && *old != 0) {
            self.check_safe_here(old, "it", &of(), "deleted")?;
        }
        for Step { cell, name, old, new } in steps(before, after) {
            if old != 0 {
                self.check_safe_here(old, name, &of(), &format!("replaced by v{new}"))?;
            }
            let is_back = new != 0 && self.fate(new).left_in_mirror;
            let is_read_only = cell.is_some() && cell == shape(before.entity).read_only;
            if is_back && !is_read_only && !there.holds(new) {
                let is_named = write.conflicts.iter().any(|conflict| is_about(&conflict.field, name));
                if !is_named {
                    return Err(Violation::new(
                        Invariant::NoFlipFlop,
                        format!(
                            "{name} of {} went from v{old} back to v{new}, which it had shown before",
                            of()
                        ),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether a value of a row may go: nobody wrote it here, or Keap has had it, or a conflict or refusal keeps it.
    fn check_safe_here(
        &mut self,
        value: ValueNumber,
        name: &str,
        of: &str,
        what: &str,
    ) -> Result<(), Violation> {
        let fate = *self.fate(value);
        if fate.author != Some(Side::Supabase) || fate.shown_in_keap || fate.is_recorded {
            return Ok(());
        }
        Err(Violation::new(
            Invariant::NoLostUpdate,
            format!(
                "v{value}, which a person wrote to {name} of {of}, was {what} before Keap had it, and no conflict says so"
            ),
        ))
    }

    /// The engine wrote to Keap, by that reading; `None` where it had never read the record.
    pub(super) fn engine_wrote_keap(
        &mut self,
        change: &KeapChange,
        by: Option<WrittenBy>,
    ) -> Result<(), Violation> {
        let nothing = Cells::empty(change.entity);
        let after = change.after.unwrap_or(nothing);
        check_lines(change, &after)?;
        let Some(before) = change.before else {
            self.show(Side::Keap, &nothing, &after, 0);
            return Ok(());
        };
        let of = || format!("{} {}", change.entity.as_str(), change.id);
        let row_read_at = self.row_read_at_step.get(&(change.entity, change.id)).copied().unwrap_or(0);
        let unread_since = |step: u64| by.is_some_and(|by| by.is_fresh && by.read_at_step < step);
        for Step { cell, name, old, new } in steps(&before, &after) {
            let removed_at = match cell {
                Some(cell) => self.cleared_at_step.get(&((change.entity, change.id), cell)).copied(),
                None => Some(self.fate(new).removed_at_step).filter(|step| *step > 0),
            };
            let mut nobody_saw_it = old == 0 && removed_at.is_some_and(unread_since);
            self.unobservable += u64::from(nobody_saw_it);
            if old != 0 {
                let fate = *self.fate(old);
                let is_safe = fate.author != Some(Side::Keap) || fate.shown_in_mirror || fate.is_recorded;
                let has_met_row = fate.shown_in_mirror && fate.shown_in_mirror_at_step <= row_read_at;
                nobody_saw_it = unread_since(fate.authored_at_step) && !has_met_row;
                if !is_safe && !nobody_saw_it {
                    return Err(Violation::new(
                        Invariant::NoLostUpdate,
                        format!(
                            "v{old}, which a person wrote to {name} of {}, was read and then replaced by v{new}, and no \
                             conflict says so",
                            of()
                        ),
                    ));
                }
                self.unobservable += u64::from(!is_safe);
            }
            let has_no_id =
                cell.is_none() || matches!(change.entity, EntityType::Tag | EntityType::Subscription);
            if old == 0 && has_no_id && self.fate(new).left_in_keap && !self.fate(new).is_linked {
                self.written_again += 1;
                continue;
            }
            if new != 0 && self.fate(new).left_in_keap && !nobody_saw_it && !self.fate(new).is_recorded {
                return Err(Violation::new(
                    Invariant::NoFlipFlop,
                    format!("{name} of {} went from v{old} back to v{new}, which it had shown before", of()),
                ));
            }
        }
        self.show(Side::Keap, &before, &after, 0);
        Ok(())
    }
}

/// No line of an order is there twice.
fn check_lines(change: &KeapChange, after: &Cells) -> Result<(), Violation> {
    let mut seen = BTreeSet::new();
    let twice = after.lines.iter().find(|line| !seen.insert(line.value));
    if twice.is_none() && after.lines.left_out == 0 {
        return Ok(());
    }
    Err(Violation::new(
        Invariant::OneEffect,
        format!("a line of order {} was made twice: {:?}", change.id, after.lines.sorted()),
    ))
}

fn check_audit(
    row: &LocalRow,
    before: &Cells,
    row_after: &LocalRow,
    write: &RowWrite,
) -> Result<(), Violation> {
    let rebuilt = Cells::of_record(&row_after.record.overlaid(&write.audit_old));
    let is_change = Cells::of_record(&row_after.record) != *before || row.deleted_at != row_after.deleted_at;
    let keeps_deleted_at = row.deleted_at.is_some() == row_after.deleted_at.is_some()
        || write.audit_old.contains_key(DELETED_AT);
    if is_change && (rebuilt != *before || !keeps_deleted_at || write.audit_operation.is_none()) {
        return Err(Violation::new(
            Invariant::AuditCompleteness,
            format!(
                "row of {} {} changed, and its audit entry does not rebuild what it was: {before}, rebuilt {rebuilt}",
                row.record.entity().as_str(),
                write.keap_id
            ),
        ));
    }
    Ok(())
}
