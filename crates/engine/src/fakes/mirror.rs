//! A mirror with its outbox, in memory: the same rules as the SQL, in the plainest form.

use super::FakeClock;
use crate::guard::Ledger;
use crate::inbound::DELETED_AT;
use crate::ports::proof::{GuardLedger, PlannedChange, Taking};
use crate::ports::{
    KnownRow, LocalRow, MirrorStore, OutboxDepth, OutboxItem, OutboxStore, RejectedRecord, RemoteKey,
    RowState, WriteBatch, WriteOutcome,
};
use keapsync_domain::certificate::EntityCertificate;
use keapsync_domain::extra::Extra;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_domain::record::Record;
use keapsync_domain::timestamp::Timestamp;
use serde_json::{Map, Value};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// A row and what is shown beside it.
#[derive(Clone, Debug)]
pub struct FakeRow {
    /// The row.
    pub row: LocalRow,
    /// `sync_status`.
    pub state: RowState,
    /// `sync_error`.
    pub sync_error: Option<String>,
}

/// An item of the outbox.
#[derive(Clone, Debug)]
pub struct FakeItem {
    /// The item.
    pub item: OutboxItem,
    /// Not claimed before.
    pub due_at: Timestamp,
    /// `pending`, `completed` or `failed`.
    pub status: &'static str,
    /// What went wrong last.
    pub error: Option<Failure>,
}

/// Postgres in memory.
#[derive(Debug)]
pub struct FakeMirror<'a> {
    clock: &'a FakeClock,
    /// Rows by id.
    pub rows: RefCell<BTreeMap<String, FakeRow>>,
    /// The outbox, oldest first.
    pub items: RefCell<Vec<FakeItem>>,
    /// Rejected records.
    pub rejected: RefCell<Vec<RejectedRecord>>,
    /// Every conflict ever recorded, as `row field winner`.
    pub conflicts: RefCell<Vec<(String, String, Option<&'static str>)>>,
    /// Statements that wrote something.
    pub writes: Cell<u32>,
    /// Records that were looked up.
    pub looked_up: Cell<usize>,
    /// Run before each write: a chance for somebody else's edit between read and write.
    pub before_write: RefCell<Vec<(String, &'static str, Value)>>,
    /// Writes that fail before they have an effect.
    pub outages: Cell<u32>,
    /// What dry runs would do.
    pub planned: RefCell<Vec<PlannedChange>>,
    /// Certificates, oldest first.
    pub certificates: RefCell<Vec<EntityCertificate>>,
    /// What was destroyed.
    pub ledger: RefCell<Ledger>,
    next_id: Cell<u32>,
}

impl<'a> FakeMirror<'a> {
    /// An empty mirror.
    pub fn new(clock: &'a FakeClock) -> Self {
        Self {
            clock,
            rows: RefCell::default(),
            items: RefCell::default(),
            rejected: RefCell::default(),
            conflicts: RefCell::default(),
            writes: Cell::new(0),
            looked_up: Cell::new(0),
            before_write: RefCell::default(),
            outages: Cell::new(0),
            planned: RefCell::default(),
            certificates: RefCell::default(),
            ledger: RefCell::default(),
            next_id: Cell::new(1),
        }
    }

    fn fresh_id(&self) -> String {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        format!("00000000-0000-4000-8000-{id:012}")
    }

    fn capture(&self, row_id: &str, operation: &str) {
        let now = self.clock.tick();
        let rows = self.rows.borrow();
        let entity = rows.get(row_id).map_or(EntityType::Contact, |entry| entry.row.record.entity());
        self.items.borrow_mut().push(FakeItem {
            item: OutboxItem {
                id: self.fresh_id(),
                entity,
                entity_id: row_id.to_owned(),
                operation: operation.to_owned(),
                claims: 0,
                attempts: 0,
                captured_at: now,
            },
            due_at: now,
            status: "pending",
            error: None,
        });
    }

    /// A person inserts a contact.
    pub fn insert(&self, values: &Value) -> String {
        self.insert_as(EntityType::Contact, values)
    }

    /// A person inserts a row.
    pub fn insert_as(&self, entity: EntityType, values: &Value) -> String {
        let id = self.fresh_id();
        let row = LocalRow {
            id: id.clone(),
            keap_id: None,
            version: 1,
            record: Record::from_object(entity, values.as_object().cloned().unwrap_or_default()),
            extra: Extra::default(),
            base_delta: Map::new(),
            has_base: false,
            keap_hash: None,
            edited_at: Some(self.clock.tick()),
            keap_updated_at: None,
            keap_observed_at: None,
            deleted_at: None,
            waits_for_contact: false,
            lost_in_keap: false,
            word: None,
        };
        self.rows
            .borrow_mut()
            .insert(id.clone(), FakeRow { row, state: RowState::Pending, sync_error: None });
        self.capture(&id, "create");
        id
    }

    /// A person changes a column.
    pub fn edit(&self, id: &str, column: &str, value: &Value) {
        let now = self.clock.tick();
        if let Some(entry) = self.rows.borrow_mut().get_mut(id) {
            let old = entry.row.record.get_by_name(column).clone();
            entry.row.base_delta.entry(column).or_insert(old);
            entry.row.record.set_by_name(column, value.clone());
            entry.row.version += 1;
            entry.row.edited_at = Some(now);
            entry.row.word = None;
            entry.state = RowState::Pending;
        }
        self.capture(id, "update");
    }

    /// A person deletes a row.
    pub fn delete(&self, id: &str) {
        let now = self.clock.tick();
        if let Some(entry) = self.rows.borrow_mut().get_mut(id) {
            entry.row.deleted_at = Some(now);
            entry.row.base_delta.entry(DELETED_AT).or_insert(Value::Null);
            entry.row.version += 1;
            entry.row.edited_at = Some(now);
        }
        self.capture(id, "delete");
    }

    /// The only row that is linked to this Keap id.
    pub fn linked(&self, keap_id: u64) -> FakeRow {
        let rows = self.rows.borrow();
        let mut found = rows.values().filter(|entry| entry.row.keap_id == Some(keap_id.to_string()));
        let row = found.next().cloned().expect("a row is linked");
        assert!(found.next().is_none(), "two rows are linked to one contact");
        row
    }

    /// Items in that status.
    pub fn count(&self, status: &str) -> usize {
        self.items.borrow().iter().filter(|item| item.status == status).count()
    }

    fn with_items(&self, ids: &[String], change: impl Fn(&mut FakeItem)) {
        self.items.borrow_mut().iter_mut().filter(|item| ids.contains(&item.item.id)).for_each(change);
    }
}

impl MirrorStore for FakeMirror<'_> {
    async fn read_known(
        &self,
        _: &AccountId,
        _: EntityType,
        keys: &[RemoteKey],
    ) -> Result<Vec<KnownRow>, Failure> {
        self.looked_up.set(self.looked_up.get() + keys.len());
        let rows = self.rows.borrow();
        let find = |key: &RemoteKey| {
            let by_link =
                |row: &LocalRow| row.keap_id.is_none() && key.row_id.as_deref() == Some(row.id.as_str());
            let row = &rows
                .values()
                .find(|e| e.row.keap_id.as_deref() == Some(&key.keap_id) || by_link(&e.row))?
                .row;
            let unchanged = row.keap_hash.as_deref() == Some(&key.keap_hash);
            Some(KnownRow { keap_id: key.keap_id.clone(), row: (!unchanged).then(|| row.clone()) })
        };
        Ok(keys.iter().filter_map(find).collect())
    }

    async fn read_rows(
        &self,
        _: &AccountId,
        _: EntityType,
        ids: &[String],
    ) -> Result<Vec<LocalRow>, Failure> {
        Ok(ids.iter().filter_map(|id| self.rows.borrow().get(id).map(|entry| entry.row.clone())).collect())
    }

    async fn write(
        &self,
        _: &AccountId,
        entity: EntityType,
        batch: &WriteBatch,
    ) -> Result<WriteOutcome, Failure> {
        for (id, column, value) in self.before_write.take() {
            self.edit(&id, column, &value);
        }
        if self.outages.get() > 0 {
            self.outages.set(self.outages.get() - 1);
            return Err(Failure::new(FailureClass::Unavailable, "Postgres is away"));
        }
        let mut outcome = WriteOutcome::default();
        for write in &batch.rows {
            let id = match &write.id {
                Some(id) => id.clone(),
                None => self.fresh_id(),
            };
            let mut rows = self.rows.borrow_mut();
            let taken = rows.values().any(|e| e.row.keap_id.as_deref() == Some(&write.keap_id));
            let version = rows.get(&id).map_or(0, |entry| entry.row.version);
            if version != write.expected_version || (write.id.is_none() && taken) {
                outcome.skipped.push(write.keap_id.clone());
                continue;
            }
            let before = rows.get(&id).map(|entry| entry.row.clone());
            let record = write.record.clone().or_else(|| before.as_ref().map(|row| row.record.clone()));
            let row = LocalRow {
                id: id.clone(),
                keap_id: Some(write.keap_id.clone()),
                version: version + 1,
                record: record.unwrap_or_else(|| Record::empty(entity)),
                extra: write.extra.clone(),
                base_delta: write.base_delta.clone(),
                has_base: true,
                keap_hash: Some(write.keap_hash.clone()).filter(|hash| !hash.is_empty()),
                edited_at: before.as_ref().and_then(|row| row.edited_at),
                keap_updated_at: write.keap_updated_at,
                keap_observed_at: Some(write.keap_observed_at),
                deleted_at: write.deleted_at,
                waits_for_contact: false,
                lost_in_keap: write.leaves_lost(before.as_ref()),
                word: write.sync_error.clone(),
            };
            for conflict in &write.conflicts {
                self.conflicts.borrow_mut().push((id.clone(), conflict.field.clone(), conflict.winner));
            }
            rows.insert(id, FakeRow { row, state: write.state, sync_error: write.sync_error.clone() });
            outcome.written.push(write.keap_id.clone());
            self.writes.set(self.writes.get() + 1);
        }
        Ok(outcome)
    }

    async fn record_rejections(
        &self,
        _: &AccountId,
        _: EntityType,
        rejected: &[RejectedRecord],
    ) -> Result<(), Failure> {
        self.rejected.borrow_mut().extend(rejected.iter().cloned());
        Ok(())
    }
}

impl GuardLedger for FakeMirror<'_> {
    async fn take(&self, _: &AccountId, taking: &Taking<'_>) -> Result<bool, Failure> {
        let live = self.rows.borrow().values().filter(|entry| entry.row.deleted_at.is_none()).count() as u64;
        Ok(self.ledger.borrow_mut().take(taking, live, self.clock.tick()))
    }
}

impl OutboxStore for FakeMirror<'_> {
    async fn claim(
        &self,
        _: &AccountId,
        limit: usize,
        lease_ms: i64,
        _: &str,
    ) -> Result<Vec<OutboxItem>, Failure> {
        let now = self.clock.tick();
        let mut items = self.items.borrow_mut();
        let due = items.iter_mut().filter(|item| item.status == "pending" && item.due_at <= now).take(limit);
        Ok(due
            .map(|entry| {
                entry.due_at = now.plus_ms(lease_ms);
                entry.item.claims += 1;
                entry.item.clone()
            })
            .collect())
    }

    async fn complete(&self, _: &AccountId, ids: &[String]) -> Result<(), Failure> {
        self.with_items(ids, |item| item.status = "completed");
        Ok(())
    }

    async fn retry_later(
        &self,
        _: &AccountId,
        ids: &[String],
        delay_ms: i64,
        failure: &Failure,
        counts: bool,
    ) -> Result<(), Failure> {
        let due_at = self.clock.tick().plus_ms(delay_ms);
        self.with_items(ids, |item| {
            item.due_at = due_at;
            item.item.attempts += i32::from(counts);
            item.error = Some(failure.clone());
        });
        Ok(())
    }

    async fn fail(&self, _: &AccountId, ids: &[String], failure: &Failure) -> Result<(), Failure> {
        self.with_items(ids, |item| {
            item.status = "failed";
            item.error = Some(failure.clone());
        });
        Ok(())
    }

    async fn depth(&self, _: &AccountId) -> Result<OutboxDepth, Failure> {
        let items = self.items.borrow();
        Ok(OutboxDepth {
            open: i64::try_from(items.iter().filter(|item| item.status == "pending").count())
                .unwrap_or(i64::MAX),
            ..OutboxDepth::default()
        })
    }
}
