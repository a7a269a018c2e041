//! The engine's statement: `write.sql`, with what the triggers on contacts do.

use super::super::cells::Cells;
use super::super::mutation::Mutation;
use super::{Entry, MirrorRow, MirrorSide, RowChange, record_of};
use crate::inbound::DELETED_AT;
use crate::ports::{
    ConflictRecord, LocalRow, RejectedRecord, RowState, RowWrite, WriteBatch, WriteOutcome, WriteSource,
};
use keapsync_domain::ids::EntityType;
use keapsync_domain::record::Record;
use keapsync_domain::timestamp::Timestamp;

/// What a batch did.
pub struct Written {
    /// As the engine is told.
    pub outcome: WriteOutcome,
    /// The writes that took effect, each with its position in the batch.
    pub changes: Vec<(usize, RowChange)>,
}

impl MirrorSide {
    /// Writes a batch, with what a mistaken engine would not have held back.
    pub fn write(
        &mut self,
        entity: EntityType,
        batch: &WriteBatch,
        now: Timestamp,
        mutation: Mutation,
    ) -> Written {
        let mut written = Written { outcome: WriteOutcome::default(), changes: Vec::new() };
        for (position, write) in batch.rows.iter().enumerate() {
            let is_poisoned = |record: &Record| Cells::of_record(record).is_poisoned();
            if !self.takes_every_value && write.record.as_ref().is_some_and(is_poisoned) {
                let reason = "a value that Postgres cannot store".to_owned();
                let keap_id = Some(write.keap_id.clone());
                written.outcome.rejected.push(RejectedRecord { keap_id, reason });
                continue;
            }
            match self.write_row(entity, write, now, mutation) {
                Some(change) => {
                    written.outcome.written.push(write.keap_id.clone());
                    if let Some(operation) = write.audit_operation {
                        self.audit.push(Entry {
                            entity,
                            row_id: change.after.id.clone(),
                            operation,
                            source: batch.source.as_str(),
                            run_id: batch.run_id.clone(),
                            old: write.audit_old.clone(),
                        });
                    }
                    if batch.source != WriteSource::Outbox {
                        self.queue_rest(entity, &change.after.id, write, now);
                    }
                    written.changes.push((position, change));
                }
                None => written.outcome.skipped.push(write.keap_id.clone()),
            }
        }
        written
    }

    fn write_row(
        &mut self,
        entity: EntityType,
        write: &RowWrite,
        now: Timestamp,
        mutation: Mutation,
    ) -> Option<RowChange> {
        let table = self.table(entity);
        let (id, before) = match &write.id {
            Some(id) => {
                let row = &table.rows.get(id)?.row;
                let is_other = row.keap_id.as_ref().is_some_and(|keap_id| *keap_id != write.keap_id);
                let is_moved = row.version != write.expected_version && mutation != Mutation::SkipBaseCheck;
                let is_taken = table.by_keap_id.get(&write.keap_id).is_some_and(|holder| holder != id);
                if is_other || is_moved || is_taken {
                    return None;
                }
                (id.clone(), Some(row.clone()))
            }
            None if table.by_keap_id.contains_key(&write.keap_id) => return None,
            None => (self.fresh_id(), None),
        };
        let mut after = row_after(entity, id, before.as_ref(), write);
        if mutation == Mutation::RememberGone && after.keap_hash.is_none() {
            after.keap_hash = before.as_ref().and_then(|row| row.keap_hash.clone());
        }
        let contact_row = self.contact_row_of(&after);
        let is_dropped = after.deleted_at.is_some() && mutation == Mutation::DropTombstone;
        let table = self.table_mut(entity);
        if is_dropped {
            table.by_keap_id.remove(&write.keap_id);
            table.rows.remove(&after.id);
        } else {
            table.by_keap_id.insert(write.keap_id.clone(), after.id.clone());
            let known = table.rows.get(&after.id).and_then(|entry| entry.contact_row.clone());
            let entry = MirrorRow {
                row: after.clone(),
                state: write.state,
                sync_error: write.sync_error.clone(),
                contact_row: contact_row.or(known),
            };
            table.rows.insert(after.id.clone(), entry);
        }
        self.rejected.remove(&(entity, write.keap_id.clone()));
        self.settle_conflicts(&after.id, write.state, &write.conflicts);
        self.writes += 1;
        if entity == EntityType::Contact && before.as_ref().is_none_or(|before| before.keap_id.is_none()) {
            self.identify(&after.id, &write.keap_id, now);
        }
        Some(RowChange { before, after })
    }

    /// The row of the contact whose Keap id a row holds.
    fn contact_row_of(&self, row: &LocalRow) -> Option<String> {
        let contact = row.record.get_by_name("keap_contact_id").as_str()?;
        self.table(EntityType::Contact).by_keap_id.get(contact).cloned()
    }

    /// `keapsync_link_waiting` and `keapsync_link_identified`: a contact has got its Keap id.
    fn identify(&mut self, contact_row: &str, keap_id: &str, now: Timestamp) {
        for entity in [EntityType::Order, EntityType::Subscription] {
            let mut gained = Vec::new();
            for entry in self.table_mut(entity).rows.values_mut() {
                let is_same = entry.row.record.get_by_name("keap_contact_id") == keap_id;
                if entry.contact_row.is_none() && is_same {
                    entry.contact_row = Some(contact_row.to_owned());
                }
                let is_of_it = entry.contact_row.as_deref() == Some(contact_row);
                if is_of_it && !is_same && entry.row.deleted_at.is_none() {
                    let old = entry.row.record.get_by_name("keap_contact_id").clone();
                    entry.row.record.set_by_name("keap_contact_id", keap_id.into());
                    entry.row.base_delta.entry("keap_contact_id").or_insert(old);
                    entry.row.version += 1;
                    entry.state = RowState::Pending;
                    entry.sync_error = None;
                    gained.push(entry.row.id.clone());
                }
            }
            for id in gained {
                self.capture(entity, &id, "update", now);
            }
        }
    }

    fn settle_conflicts(&mut self, id: &str, state: RowState, conflicts: &[ConflictRecord]) {
        if state == RowState::Completed {
            self.open_conflicts.retain(|(row, _)| row != id);
        }
        for conflict in conflicts {
            let key = (id.to_owned(), conflict.field.clone());
            if conflict.winner.is_some() {
                self.open_conflicts.remove(&key);
            } else {
                self.open_conflicts.insert(key);
            }
        }
    }

    /// What a page leaves to be carried to Keap is on its way from here on, unless an item waits that nobody has claimed.
    fn queue_rest(&mut self, entity: EntityType, id: &str, write: &RowWrite, now: Timestamp) {
        let is_open = |field: &str| {
            let mut open = write.conflicts.iter().filter(|conflict| conflict.winner.is_none());
            open.any(|conflict| conflict.field.split('.').next() == Some(field))
        };
        let has_news = || write.base_delta.keys().any(|field| !is_open(field));
        let is_owed = write.state == RowState::Pending
            || write.state != RowState::Completed
                && write.deleted_at.is_none()
                && !is_open(DELETED_AT)
                && has_news();
        if is_owed && !self.has_unclaimed(id) {
            self.capture(entity, id, "update", now);
        }
    }
}

fn row_after(entity: EntityType, id: String, old: Option<&LocalRow>, write: &RowWrite) -> LocalRow {
    let has_record = write.record.is_some();
    let record = write
        .record
        .clone()
        .unwrap_or_else(|| old.map_or_else(|| record_of(entity), |row| row.record.clone()));
    let old_deleted_at = old.and_then(|row| row.deleted_at);
    LocalRow {
        id,
        keap_id: Some(write.keap_id.clone()),
        version: old.map_or(1, |row| row.version + 1),
        record,
        extra: if has_record {
            write.extra.clone()
        } else {
            old.map(|row| row.extra.clone()).unwrap_or_default()
        },
        base_delta: write.base_delta.clone(),
        has_base: true,
        keap_hash: Some(write.keap_hash.clone()).filter(|hash| !hash.is_empty()),
        // The merge takes it for the time of the local change, so the sync's own writes leave it.
        edited_at: old.and_then(|row| row.edited_at),
        keap_updated_at: write.keap_updated_at.or_else(|| old.and_then(|row| row.keap_updated_at)),
        keap_observed_at: Some(write.keap_observed_at),
        deleted_at: if has_record { write.deleted_at } else { old_deleted_at.or(write.deleted_at) },
        waits_for_contact: false,
        lost_in_keap: write.leaves_lost(old),
        word: None,
    }
}
