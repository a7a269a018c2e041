//! Postgres in memory: rows, status, outbox, conflicts and audit log, by the rules of the migrations and of `store`'s SQL.
//!
//! Each function is one statement: it happens at one moment, or not at all. A row's version moves with every write; a
//! person's edit queues itself, keeps the base and is audited in its own transaction; the engine's writes do none of that.

use super::cells::Cells;
use super::mutation::Mutation;
use crate::inbound::DELETED_AT;
use crate::ports::{
    ConflictRecord, KnownRow, LocalRow, OutboxDepth, OutboxItem, RemoteKey, RowState, RowWrite, WriteOutcome,
};
use keapsync_domain::ids::EntityType;
use keapsync_domain::record::Record;
use keapsync_domain::timestamp::Timestamp;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// A row and what is shown beside it.
#[derive(Clone, Debug)]
pub(super) struct MirrorRow {
    /// The row with its status.
    pub row: LocalRow,
    /// `sync_status`.
    pub state: RowState,
}

/// Where an outbox item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ItemStatus {
    Pending,
    Processing,
    Completed,
    Failed,
}

/// An item of the outbox.
#[derive(Clone, Debug)]
pub(super) struct QueueItem {
    /// The item.
    pub item: OutboxItem,
    /// Where it stands.
    pub status: ItemStatus,
    /// Not claimed before.
    due_at: Timestamp,
    leased_until: Option<Timestamp>,
    /// Class of the failure that ended it, for the report.
    pub error: Option<String>,
}

impl QueueItem {
    /// Whether it waits for Keap, leased or not.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.status, ItemStatus::Pending | ItemStatus::Processing)
    }
}

/// A write that took effect: what the ledger looks at.
#[derive(Clone, Debug)]
pub(super) struct RowChange {
    /// The row before; `None` for a new one.
    pub before: Option<LocalRow>,
    /// The row after.
    pub after: LocalRow,
}

/// The database.
#[derive(Debug, Default)]
pub(super) struct MirrorSide {
    /// Rows by id.
    pub rows: BTreeMap<String, MirrorRow>,
    by_keap_id: BTreeMap<String, String>,
    /// The outbox, oldest first, ended items included.
    pub items: Vec<QueueItem>,
    /// Open conflicts by row and field.
    pub open_conflicts: BTreeSet<(String, String)>,
    /// Conflicts recorded, settled or open.
    pub conflicts: u64,
    /// Rows that the engine wrote.
    pub writes: u64,
    /// Records that could not be applied.
    pub rejected: u64,
    ids: u32,
}

fn record_of(columns: Map<String, Value>) -> Record {
    Record::from_object(EntityType::Contact, columns)
}

impl MirrorSide {
    fn fresh_id(&mut self) -> String {
        self.ids += 1;
        format!("00000000-0000-4000-8000-{:012}", self.ids)
    }

    fn capture(&mut self, row_id: &str, operation: &str, now: Timestamp) {
        let item = OutboxItem {
            id: self.fresh_id(),
            entity: EntityType::Contact,
            entity_id: row_id.to_owned(),
            operation: operation.to_owned(),
            claims: 0,
            attempts: 0,
            captured_at: now,
        };
        self.items.push(QueueItem {
            item,
            status: ItemStatus::Pending,
            due_at: now,
            leased_until: None,
            error: None,
        });
    }

    /// A person inserts a row.
    pub(super) fn insert(&mut self, cells: Cells, now: Timestamp) -> RowChange {
        let id = self.fresh_id();
        let row = LocalRow {
            id: id.clone(),
            keap_id: None,
            version: 1,
            record: cells.record(),
            extra: Map::new(),
            base_delta: Map::new(),
            has_base: false,
            keap_hash: None,
            updated_at: now,
            keap_updated_at: None,
            keap_observed_at: None,
            deleted_at: None,
            waits_for_contact: false,
        };
        self.rows.insert(id.clone(), MirrorRow { row: row.clone(), state: RowState::Pending });
        self.capture(&id, "create", now);
        RowChange { before: None, after: row }
    }

    /// A person changes a row. `None` when nothing changed, and nothing is captured.
    pub(super) fn edit(
        &mut self,
        id: &str,
        now: Timestamp,
        edit: impl FnOnce(&mut Cells),
    ) -> Option<RowChange> {
        let entry = self.rows.get_mut(id)?;
        let before = entry.row.clone();
        let old = Cells::of_record(&before.record);
        let mut new = old;
        edit(&mut new);
        let (old, new) = (old.columns(), new.columns());
        let mut changed = Map::new();
        for (name, value) in new {
            if old.get(&name) != Some(&value) {
                changed.insert(name.clone(), before.record.get_by_name(&name).clone());
                entry.row.record.set_by_name(&name, value);
            }
        }
        if changed.is_empty() {
            return None;
        }
        Some(self.captured(id, before, changed, "update", now))
    }

    /// A person deletes a row, or takes the delete back.
    pub(super) fn set_deleted(&mut self, id: &str, is_deleted: bool, now: Timestamp) -> Option<RowChange> {
        let entry = self.rows.get_mut(id)?;
        let before = entry.row.clone();
        if before.deleted_at.is_some() == is_deleted {
            return None;
        }
        let old = before.deleted_at.map(Timestamp::to_rfc3339).into();
        entry.row.deleted_at = is_deleted.then_some(now);
        let changed = Map::from_iter([(DELETED_AT.to_owned(), old)]);
        Some(self.captured(id, before, changed, if is_deleted { "delete" } else { "update" }, now))
    }

    fn captured(
        &mut self,
        id: &str,
        before: LocalRow,
        changed: Map<String, Value>,
        operation: &str,
        now: Timestamp,
    ) -> RowChange {
        let mut after = before.clone();
        if let Some(entry) = self.rows.get_mut(id) {
            for (name, old) in changed {
                entry.row.base_delta.entry(name).or_insert(old);
            }
            entry.row.version += 1;
            entry.row.updated_at = now;
            entry.state = RowState::Pending;
            after = entry.row.clone();
        }
        self.capture(id, operation, now);
        RowChange { before: Some(before), after }
    }

    /// `known.sql`.
    pub(super) fn read_known(&self, keys: &[RemoteKey]) -> Vec<KnownRow> {
        let find = |key: &RemoteKey| {
            let linked = self.by_keap_id.get(&key.keap_id).and_then(|id| self.rows.get(id));
            let made = || {
                let row = key.row_id.as_ref().and_then(|id| self.rows.get(id))?;
                row.row.keap_id.is_none().then_some(row)
            };
            let row = &linked.or_else(made)?.row;
            let is_unchanged = row.keap_id.is_some() && row.keap_hash.as_deref() == Some(&key.keap_hash);
            Some(KnownRow { keap_id: key.keap_id.clone(), row: (!is_unchanged).then(|| row.clone()) })
        };
        keys.iter().filter_map(find).collect()
    }

    /// `rows.sql`.
    pub(super) fn read_rows(&self, ids: &[String]) -> Vec<LocalRow> {
        ids.iter().filter_map(|id| self.rows.get(id)).map(|entry| entry.row.clone()).collect()
    }

    /// `write.sql`. With what a mistaken engine would not have held back.
    pub(super) fn write(
        &mut self,
        writes: &[RowWrite],
        now: Timestamp,
        mutation: Mutation,
    ) -> (WriteOutcome, Vec<RowChange>) {
        let mut outcome = WriteOutcome::default();
        let mut changes = Vec::with_capacity(writes.len());
        for write in writes {
            match self.write_row(write, now, mutation) {
                Some(change) => {
                    outcome.written.push(write.keap_id.clone());
                    changes.push(change);
                }
                None => outcome.skipped.push(write.keap_id.clone()),
            }
        }
        (outcome, changes)
    }

    fn write_row(&mut self, write: &RowWrite, now: Timestamp, mutation: Mutation) -> Option<RowChange> {
        let (id, before) = match &write.id {
            Some(id) => {
                let row = &self.rows.get(id)?.row;
                let is_other = row.keap_id.as_ref().is_some_and(|keap_id| *keap_id != write.keap_id);
                let is_moved = row.version != write.expected_version && mutation != Mutation::SkipBaseCheck;
                let is_taken = self.by_keap_id.get(&write.keap_id).is_some_and(|holder| holder != id);
                if is_other || is_moved || is_taken {
                    return None;
                }
                (id.clone(), Some(row.clone()))
            }
            None if self.by_keap_id.contains_key(&write.keap_id) => return None,
            None => (self.fresh_id(), None),
        };
        let old = before.as_ref();
        let old_record = old.map_or_else(|| record_of(Map::new()), |row| row.record.clone());
        let has_record = write.record.is_some();
        let record = write.record.clone().unwrap_or_else(|| old_record.clone());
        let old_deleted_at = old.and_then(|row| row.deleted_at);
        let deleted_at = if has_record { write.deleted_at } else { old_deleted_at.or(write.deleted_at) };
        let is_change = old.is_none() || record != old_record || deleted_at != old_deleted_at;
        let after = LocalRow {
            id: id.clone(),
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
            updated_at: if is_change { now } else { old.map_or(now, |row| row.updated_at) },
            keap_updated_at: write.keap_updated_at.or_else(|| old.and_then(|row| row.keap_updated_at)),
            keap_observed_at: Some(write.keap_observed_at),
            deleted_at,
            waits_for_contact: false,
        };
        if deleted_at.is_some() && mutation == Mutation::DropTombstone {
            self.by_keap_id.remove(&write.keap_id);
            self.rows.remove(&id);
        } else {
            self.by_keap_id.insert(write.keap_id.clone(), id.clone());
            self.rows.insert(id.clone(), MirrorRow { row: after.clone(), state: write.state });
        }
        self.settle_conflicts(&id, write.state, &write.conflicts);
        self.writes += 1;
        Some(RowChange { before, after })
    }

    fn settle_conflicts(&mut self, id: &str, state: RowState, conflicts: &[ConflictRecord]) {
        if state == RowState::Completed {
            self.open_conflicts.retain(|(row, _)| row != id);
        }
        for conflict in conflicts {
            self.conflicts += 1;
            let key = (id.to_owned(), conflict.field.clone());
            if conflict.winner.is_some() {
                self.open_conflicts.remove(&key);
            } else {
                self.open_conflicts.insert(key);
            }
        }
    }

    /// The claim: all open items of each record that has a due one and none that is leased.
    pub(super) fn claim(&mut self, limit: usize, lease_ms: i64, now: Timestamp) -> Vec<OutboxItem> {
        let is_leased = |item: &QueueItem| item.leased_until.is_some_and(|until| until > now);
        let leased: BTreeSet<&String> = self
            .items
            .iter()
            .filter(|item| item.is_open() && is_leased(item))
            .map(|item| &item.item.entity_id)
            .collect();
        let due: BTreeSet<String> = self
            .items
            .iter()
            .filter(|item| item.is_open() && item.due_at <= now && !leased.contains(&item.item.entity_id))
            .take(limit)
            .map(|item| item.item.entity_id.clone())
            .collect();
        let mut claimed = Vec::new();
        for item in self.items.iter_mut().filter(|item| item.is_open() && due.contains(&item.item.entity_id))
        {
            item.status = ItemStatus::Processing;
            item.leased_until = Some(now.plus_ms(lease_ms));
            item.due_at = now.plus_ms(lease_ms);
            item.item.claims += 1;
            claimed.push(item.item.clone());
        }
        claimed
    }

    fn open_items<'a>(&'a mut self, ids: &'a [String]) -> impl Iterator<Item = &'a mut QueueItem> {
        self.items.iter_mut().filter(|item| item.is_open() && ids.contains(&item.item.id))
    }

    /// The items are done.
    pub(super) fn complete(&mut self, ids: &[String]) {
        for item in self.open_items(ids) {
            item.status = ItemStatus::Completed;
            item.leased_until = None;
        }
        self.items.retain(|item| item.status != ItemStatus::Completed);
    }

    /// The items are given back.
    pub(super) fn retry_later(&mut self, ids: &[String], delay_ms: i64, counts: bool, now: Timestamp) {
        for item in self.open_items(ids) {
            item.status = ItemStatus::Pending;
            item.leased_until = None;
            item.due_at = now.plus_ms(delay_ms);
            item.item.attempts += i32::from(counts);
        }
    }

    /// The items end as dead letters, shown on their rows unless a newer edit is on its way.
    pub(super) fn fail(&mut self, ids: &[String], message: &str) {
        let mut rows = BTreeSet::new();
        for item in self.open_items(ids) {
            item.status = ItemStatus::Failed;
            item.leased_until = None;
            item.error = Some(message.to_owned());
            rows.insert(item.item.entity_id.clone());
        }
        for id in rows {
            let has_newer = self.items.iter().any(|item| item.is_open() && item.item.entity_id == id);
            if let Some(entry) = self.rows.get_mut(&id).filter(|_| !has_newer) {
                entry.state = RowState::Error;
                entry.row.version += 1;
            }
        }
    }

    /// How much waits.
    pub(super) fn depth(&self) -> OutboxDepth {
        let open = || self.items.iter().filter(|item| item.is_open());
        OutboxDepth {
            open: i64::try_from(open().count()).unwrap_or(i64::MAX),
            failed: i64::try_from(self.items.iter().filter(|item| item.status == ItemStatus::Failed).count())
                .unwrap_or(i64::MAX),
            oldest_at: open().map(|item| item.item.captured_at).min(),
            next_due_at: open().map(|item| item.due_at).min(),
        }
    }

    /// The row that is linked to a contact.
    pub(super) fn linked(&self, keap_id: u64) -> Option<&MirrorRow> {
        self.by_keap_id.get(&keap_id.to_string()).and_then(|id| self.rows.get(id))
    }
}
