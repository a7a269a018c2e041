//! The ledger: follows every value that a person wrote, and says at once when an invariant is broken.
//!
//! Values have numbers of their own (see [`cells`](super::cells)), so each can be followed through both sides:
//! - *No lost update*: what a person wrote is overwritten by the engine only after the other side has shown it, or when the same
//!   statement records it in a conflict or as refused. The one exception is a person's write in Keap between the drain's read and its
//!   write: Keap has no conditional writes, so nobody could have seen it. These are counted, not excused silently.
//! - *No flip-flop*: the engine never brings back a value that a side has shown and left, unless a conflict is recorded with it.
//! - *No resurrection*: a row that was deleted because its contact was never comes back, nor does a second row for it.
//! - *Audit completeness*: the row after a write, overlaid with the old values in the write's audit entry, is the row before it.
//! - *One effect*: no second row for a contact that was made from a row, and no second contact for a row.

use super::cells::{CELLS, Cells, NAMES, READ_ONLY, ValueNumber, numbers_in};
use super::keap_side::KeapChange;
use super::mirror_side::RowChange;
use super::verdict::{Invariant, Violation};
use crate::inbound::DELETED_AT;
use crate::ports::{LocalRow, RowWrite};
use keapsync_domain::merge::Side;
use std::collections::{BTreeMap, BTreeSet};

/// What became of one value.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each says another thing that happened, and all may have")]
struct Fate {
    author: Option<Side>,
    authored_at_step: u64,
    shown_in_keap: bool,
    shown_in_mirror: bool,
    left_in_keap: bool,
    left_in_mirror: bool,
    is_recorded: bool,
}

/// Follows values.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    fates: Vec<Fate>,
    /// Contacts whose deletion has reached the mirror.
    deletions_applied: BTreeSet<u64>,
    /// When somebody cleared a cell in Keap, by contact and cell: nothing has no number to follow.
    cleared_at_step: BTreeMap<(u64, usize), u64>,
    /// Values written in Keap that no read could have seen before our write replaced them.
    pub unobservable: u64,
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

    fn show(&mut self, side: Side, before: Option<&Cells>, after: &Cells) {
        for cell in 0..CELLS {
            let (old, new) = (before.map_or(0, |cells| cells.get(cell)), after.get(cell));
            if old != new && old != 0 {
                match side {
                    Side::Keap => self.fate(old).left_in_keap = true,
                    Side::Supabase => self.fate(old).left_in_mirror = true,
                }
            }
            if new != 0 {
                match side {
                    Side::Keap => self.fate(new).shown_in_keap = true,
                    Side::Supabase => self.fate(new).shown_in_mirror = true,
                }
            }
        }
    }

    /// A person wrote on a side.
    pub(super) fn person_wrote(&mut self, side: Side, before: Option<&Cells>, after: &Cells, step: u64) {
        for cell in 0..CELLS {
            let (old, new) = (before.map_or(0, |cells| cells.get(cell)), after.get(cell));
            if new != old && new != 0 {
                let fate = self.fate(new);
                fate.author = Some(side);
                fate.authored_at_step = step;
            }
        }
        self.show(side, before, after);
    }

    /// A person wrote in Keap.
    pub(super) fn person_wrote_keap(&mut self, change: &KeapChange, step: u64) {
        let (before, after) = (change.before.unwrap_or_default(), change.after.unwrap_or_default());
        for cell in (0..CELLS).filter(|cell| after.get(*cell) == 0 && before.get(*cell) != 0) {
            self.cleared_at_step.insert((change.id, cell), step);
        }
        self.person_wrote(Side::Keap, change.before.as_ref(), &after, step);
    }

    /// The engine wrote a row. `there`: what Keap holds at this moment; a value that Keap shows now is no old one.
    pub(super) fn engine_wrote_row(
        &mut self,
        change: &RowChange,
        write: &RowWrite,
        there: &Cells,
    ) -> Result<(), Violation> {
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
        let before = change.before.as_ref().map(|row| Cells::of_record(&row.record));
        let after = Cells::of_record(&change.after.record);
        let keap_id: u64 = write.keap_id.parse().unwrap_or(0);
        if let (Some(row), Some(cells)) = (&change.before, &before) {
            self.check_overwritten((row, cells), (&change.after, &after), write, there)?;
            check_audit(row, cells, &change.after, write)?;
            let was_deleted_there = row.deleted_at.is_some() && self.deletions_applied.contains(&keap_id);
            if was_deleted_there && change.after.deleted_at.is_none() {
                return Err(Violation::new(
                    Invariant::NoResurrection,
                    format!("row of contact {keap_id} was deleted with it, and came back by an old reading"),
                ));
            }
            let is_agreed = change.after.deleted_at.is_some() && change.after.base_delta.is_empty();
            if is_agreed {
                self.deletions_applied.insert(keap_id);
            }
        } else if self.deletions_applied.contains(&keap_id) {
            return Err(Violation::new(
                Invariant::NoResurrection,
                format!(
                    "contact {keap_id} was deleted on both sides, and an old reading made a new row of it"
                ),
            ));
        }
        self.show(Side::Supabase, before.as_ref(), &after);
        Ok(())
    }

    fn check_overwritten(
        &mut self,
        (row, before): (&LocalRow, &Cells),
        (row_after, after): (&LocalRow, &Cells),
        write: &RowWrite,
        there: &Cells,
    ) -> Result<(), Violation> {
        let dies = row.deleted_at.is_none() && row_after.deleted_at.is_some();
        for cell in 0..CELLS {
            let (old, new) = (before.get(cell), after.get(cell));
            let name = NAMES.get(cell).copied().unwrap_or_default();
            if old != 0 && (old != new || dies) {
                let fate = *self.fate(old);
                let is_safe = fate.author != Some(Side::Supabase) || fate.shown_in_keap || fate.is_recorded;
                if !is_safe {
                    let what = if dies { "deleted".to_owned() } else { format!("replaced by v{new}") };
                    return Err(Violation::new(
                        Invariant::NoLostUpdate,
                        format!(
                            "v{old}, which a person wrote to {name} of row of contact {}, was {what} before Keap had it, and no \
                             conflict says so",
                            write.keap_id
                        ),
                    ));
                }
            }
            let is_back = new != 0 && old != new && self.fate(new).left_in_mirror;
            if is_back && cell != READ_ONLY && there.get(cell) != new {
                let is_named = write
                    .conflicts
                    .iter()
                    .any(|conflict| conflict.field == name || conflict.field == DELETED_AT);
                if !is_named {
                    return Err(Violation::new(
                        Invariant::NoFlipFlop,
                        format!(
                            "{name} of row of contact {} went from v{old} back to v{new}, which it had shown before",
                            write.keap_id
                        ),
                    ));
                }
            }
        }
        Ok(())
    }

    /// The engine wrote to Keap. `read_at_step`: when the same pass last read the contact.
    pub(super) fn engine_wrote_keap(
        &mut self,
        change: &KeapChange,
        read_at_step: Option<u64>,
    ) -> Result<(), Violation> {
        let after = change.after.unwrap_or_default();
        let Some(before) = change.before else {
            self.show(Side::Keap, None, &after);
            return Ok(());
        };
        for cell in 0..CELLS {
            let (old, new) = (before.get(cell), after.get(cell));
            if old == new {
                continue;
            }
            let name = NAMES.get(cell).copied().unwrap_or_default();
            let cleared_at = self.cleared_at_step.get(&(change.id, cell)).filter(|_| old == 0);
            let mut nobody_saw_it =
                cleared_at.is_some_and(|cleared_at| read_at_step.is_none_or(|read| read < *cleared_at));
            self.unobservable += u64::from(nobody_saw_it);
            if old != 0 {
                let fate = *self.fate(old);
                let is_safe = fate.author != Some(Side::Keap) || fate.shown_in_mirror || fate.is_recorded;
                nobody_saw_it = read_at_step.is_none_or(|read| read < fate.authored_at_step);
                if !is_safe && !nobody_saw_it {
                    return Err(Violation::new(
                        Invariant::NoLostUpdate,
                        format!(
                            "v{old}, which a person wrote to {name} of contact {}, was read and then replaced by v{new}, and no \
                             conflict says so",
                            change.id
                        ),
                    ));
                }
                self.unobservable += u64::from(!is_safe);
            }
            if new != 0 && self.fate(new).left_in_keap && !nobody_saw_it && !self.fate(new).is_recorded {
                return Err(Violation::new(
                    Invariant::NoFlipFlop,
                    format!(
                        "{name} of contact {} went from v{old} back to v{new}, which it had shown before",
                        change.id
                    ),
                ));
            }
        }
        self.show(Side::Keap, Some(&before), &after);
        Ok(())
    }
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
                "row of contact {} changed, and its audit entry does not rebuild what it was: {before:?}, rebuilt {rebuilt:?}",
                write.keap_id
            ),
        ));
    }
    Ok(())
}
