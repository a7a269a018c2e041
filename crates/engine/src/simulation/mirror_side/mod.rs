//! Postgres in memory: rows, status, outbox, conflicts and audit log, by the rules of the migrations and of `store`'s SQL.
//!
//! Each function is one statement: it happens at one moment, or not at all. A row's version moves with every write; a
//! person's edit queues itself, keeps the base and is audited in its own transaction; the engine's writes do none of that. A row
//! that a person made for a contact learns of that contact's Keap id when the contact gets it. What people do is here, what the
//! engine does in `write` and `outbox`.

mod history;
mod outbox;
mod write;

pub(super) use history::Entry;
pub use outbox::QueueItem;
pub use write::Written;

use super::cells::{Cells, entity_position};
use crate::guard::Ledger;
use crate::inbound::DELETED_AT;
use crate::ports::proof::Taking;
use crate::ports::{KnownRow, LocalRow, RemoteKey, RowState};
use keapsync_domain::extra::Extra;
use keapsync_domain::ids::EntityType;
use keapsync_domain::record::Record;
use keapsync_domain::timestamp::Timestamp;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// A row and what is shown beside it.
#[derive(Clone, Debug)]
pub struct MirrorRow {
    /// The row with its status.
    pub row: LocalRow,
    /// `sync_status`.
    pub state: RowState,
    /// `sync_error`: what is said beside it.
    pub sync_error: Option<String>,
    /// `contact_id`: the row of the contact that this one is of.
    pub contact_row: Option<String>,
}

/// A write that took effect: what the ledger looks at.
#[derive(Clone, Debug)]
pub struct RowChange {
    /// The row before; `None` for a new one.
    pub before: Option<LocalRow>,
    /// The row after.
    pub after: LocalRow,
}

/// The rows of one entity.
#[derive(Debug, Default)]
struct Table {
    rows: BTreeMap<String, MirrorRow>,
    by_keap_id: BTreeMap<String, String>,
}

/// The database.
#[derive(Debug, Default)]
pub struct MirrorSide {
    tables: [Table; 4],
    /// The outbox, oldest first; completed items are gone.
    pub items: Vec<QueueItem>,
    /// Open conflicts by row and field.
    pub open_conflicts: BTreeSet<(String, String)>,
    /// The audit log, oldest first.
    pub(super) audit: Vec<Entry>,
    /// What was destroyed lately.
    destroyed: Ledger,
    /// Rows that the engine wrote.
    pub writes: u64,
    /// Records that could not be applied.
    pub rejected: BTreeSet<(EntityType, String)>,
    /// Whether no value is one that it cannot store: numbered values, of which stories hold some, mean nothing then.
    takes_every_value: bool,
    ids: u32,
}

impl MirrorSide {
    /// Notes what is about to be destroyed, as far as the blast guard lets it.
    pub(super) fn take(&mut self, taking: &Taking<'_>, now: Timestamp) -> bool {
        let rows = self.table(taking.class.entity).rows.values();
        let live = rows.filter(|row| row.row.deleted_at.is_none()).count() as u64;
        self.destroyed.take(taking, live, now)
    }

    /// An empty database that stores every value.
    #[must_use]
    pub fn of_any_values() -> Self {
        Self { takes_every_value: true, ..Self::default() }
    }

    fn fresh_id(&mut self) -> String {
        self.ids += 1;
        format!("00000000-0000-4000-8000-{:012}", self.ids)
    }

    fn table(&self, entity: EntityType) -> &Table {
        &self.tables[entity_position(entity)]
    }

    fn table_mut(&mut self, entity: EntityType) -> &mut Table {
        &mut self.tables[entity_position(entity)]
    }

    /// The rows of an entity, by id.
    #[must_use]
    pub fn rows(&self, entity: EntityType) -> &BTreeMap<String, MirrorRow> {
        &self.table(entity).rows
    }

    /// The row that is linked to a record.
    #[must_use]
    pub fn linked(&self, entity: EntityType, keap_id: u64) -> Option<&MirrorRow> {
        let table = self.table(entity);
        table.by_keap_id.get(&keap_id.to_string()).and_then(|id| table.rows.get(id))
    }

    /// A person inserts a row; `contact_row` names the contact that it is of.
    pub(super) fn insert(
        &mut self,
        mut cells: Cells,
        contact_row: Option<String>,
        now: Timestamp,
    ) -> RowChange {
        let contact = contact_row.as_ref().and_then(|contact| self.rows(EntityType::Contact).get(contact));
        let contact_keap_id = contact.and_then(|contact| contact.row.keap_id.as_ref());
        cells.contact = contact_keap_id.and_then(|id| id.parse().ok()).unwrap_or(0);
        self.insert_record(cells.record(), contact_row, now)
    }

    /// A person inserts a row of any values.
    pub fn insert_record(
        &mut self,
        record: Record,
        contact_row: Option<String>,
        now: Timestamp,
    ) -> RowChange {
        let (id, entity) = (self.fresh_id(), record.entity());
        let row = LocalRow {
            id: id.clone(),
            keap_id: None,
            version: 1,
            record,
            extra: Extra::default(),
            base_delta: Map::new(),
            has_base: false,
            keap_hash: None,
            edited_at: Some(now),
            keap_updated_at: None,
            keap_observed_at: None,
            deleted_at: None,
            waits_for_contact: false,
            lost_in_keap: false,
            word: None,
        };
        let entry = MirrorRow { row: row.clone(), state: RowState::Pending, sync_error: None, contact_row };
        self.table_mut(entity).rows.insert(id.clone(), entry);
        self.capture(entity, &id, "create", now);
        self.audit_person(entity, &id, "create", Map::new());
        RowChange { before: None, after: row }
    }

    /// A person changes a row. `None` when nothing changed, and nothing is captured.
    pub(super) fn edit(
        &mut self,
        entity: EntityType,
        id: &str,
        now: Timestamp,
        edit: impl FnOnce(&mut Cells),
    ) -> Option<RowChange> {
        let row = &self.rows(entity).get(id)?.row;
        let old = Cells::of_record(&row.record);
        let mut new = old;
        edit(&mut new);
        let (old, mut new) = (old.columns(), new.columns());
        new.retain(|name, value| old.get(name) != Some(value));
        self.edit_columns(entity, id, new, now)
    }

    /// A person sets columns to any values. `None` when nothing changed, and nothing is captured.
    pub fn edit_columns(
        &mut self,
        entity: EntityType,
        id: &str,
        columns: Map<String, Value>,
        now: Timestamp,
    ) -> Option<RowChange> {
        let entry = self.table_mut(entity).rows.get_mut(id)?;
        let before = entry.row.clone();
        let mut changed = Map::new();
        for (name, value) in columns {
            if *before.record.get_by_name(&name) != value {
                changed.insert(name.clone(), before.record.get_by_name(&name).clone());
                entry.row.record.set_by_name(&name, value);
            }
        }
        if changed.is_empty() {
            return None;
        }
        Some(self.captured(entity, id, before, changed, "update", now))
    }

    /// A person deletes a row, or takes the delete back.
    pub(super) fn set_deleted(
        &mut self,
        entity: EntityType,
        id: &str,
        is_deleted: bool,
        now: Timestamp,
    ) -> Option<RowChange> {
        let entry = self.table_mut(entity).rows.get_mut(id)?;
        let before = entry.row.clone();
        if before.deleted_at.is_some() == is_deleted {
            return None;
        }
        let old = before.deleted_at.map(Timestamp::to_rfc3339).into();
        entry.row.deleted_at = is_deleted.then_some(now);
        let changed = Map::from_iter([(DELETED_AT.to_owned(), old)]);
        Some(self.captured(entity, id, before, changed, if is_deleted { "delete" } else { "update" }, now))
    }

    fn audit_person(
        &mut self,
        entity: EntityType,
        id: &str,
        operation: &'static str,
        old: Map<String, Value>,
    ) {
        let (row_id, source) = (id.to_owned(), "supabase");
        self.audit.push(Entry { entity, row_id, operation, source, run_id: None, old });
    }

    fn captured(
        &mut self,
        entity: EntityType,
        id: &str,
        before: LocalRow,
        changed: Map<String, Value>,
        operation: &'static str,
        now: Timestamp,
    ) -> RowChange {
        let is_back = operation == "update" && changed.contains_key(DELETED_AT);
        self.audit_person(entity, id, if is_back { "undelete" } else { operation }, changed.clone());
        let change = self.rebased(entity, id, before, changed, now);
        self.capture(entity, id, operation, now);
        change
    }

    /// What an edit leaves besides the row's columns and the outbox.
    fn rebased(
        &mut self,
        entity: EntityType,
        id: &str,
        before: LocalRow,
        changed: Map<String, Value>,
        now: Timestamp,
    ) -> RowChange {
        let mut after = before.clone();
        if let Some(entry) = self.table_mut(entity).rows.get_mut(id) {
            for (name, old) in changed {
                entry.row.base_delta.entry(name).or_insert(old);
            }
            entry.row.version += 1;
            entry.row.edited_at = Some(now);
            entry.state = RowState::Pending;
            entry.sync_error = None;
            after = entry.row.clone();
        }
        RowChange { before: Some(before), after }
    }

    fn shown(entry: &MirrorRow) -> LocalRow {
        let waits = entry.contact_row.is_some() && entry.row.record.get_by_name("keap_contact_id").is_null();
        let is_said = matches!(entry.state, RowState::Error | RowState::Conflict);
        let word = entry.sync_error.clone().filter(|_| is_said);
        LocalRow { waits_for_contact: waits, word, ..entry.row.clone() }
    }

    /// `known.sql`.
    #[must_use]
    pub fn read_known(&self, entity: EntityType, keys: &[RemoteKey]) -> Vec<KnownRow> {
        let table = self.table(entity);
        let find = |key: &RemoteKey| {
            let linked = table.by_keap_id.get(&key.keap_id).and_then(|id| table.rows.get(id));
            let made = || {
                let row = key.row_id.as_ref().and_then(|id| table.rows.get(id))?;
                row.row.keap_id.is_none().then_some(row)
            };
            let entry = linked.or_else(made)?;
            let is_unchanged =
                entry.row.keap_id.is_some() && entry.row.keap_hash.as_deref() == Some(&key.keap_hash);
            Some(KnownRow { keap_id: key.keap_id.clone(), row: (!is_unchanged).then(|| Self::shown(entry)) })
        };
        keys.iter().filter_map(find).collect()
    }

    /// `rows.sql`.
    pub fn read_rows(&self, entity: EntityType, ids: &[String]) -> Vec<LocalRow> {
        let rows = self.rows(entity);
        ids.iter().filter_map(|id| rows.get(id)).map(Self::shown).collect()
    }
}

fn record_of(entity: EntityType) -> Record {
    Record::empty(entity)
}
