//! The mirror's ports over the simulator's database in memory, and what the engine wrote into it.

use crate::mutation::Mutation;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::ports::proof::{GuardLedger, LinkedRow, Taking};
use keapsync_engine::ports::{
    Clock, KnownRow, LocalRow, MirrorStore, OutboxDepth, OutboxItem, OutboxStore, RejectedRecord, RemoteKey,
    RowLists, WriteBatch, WriteOutcome,
};
use keapsync_engine::simulation::mirror_side::MirrorSide;
use serde_json::{Map, Value};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// What the engine wrote beside a row's values.
#[derive(Clone, Debug)]
pub struct Noted {
    /// The row.
    pub row_id: String,
    /// What the audit log keeps of overridden values.
    pub lost: Map<String, Value>,
    /// What the row says.
    pub word: Option<String>,
    /// Conflicts: path and winner.
    pub conflicts: Vec<(String, Option<&'static str>)>,
}

/// The clock: it stands still until somebody moves it.
#[derive(Clone, Debug)]
pub struct StandingClock(pub Rc<Cell<i64>>);

impl Clock for StandingClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.get())
    }

    async fn sleep_ms(&self, delay_ms: i64) {
        self.0.set(self.0.get() + delay_ms);
    }
}

/// The database, as the engine sees it.
pub struct Store {
    /// Rows and outbox.
    pub mirror: RefCell<MirrorSide>,
    /// The time.
    pub clock: StandingClock,
    /// What was noted since it was last taken.
    pub noted: RefCell<Vec<Noted>>,
    /// A mistake that is planted.
    pub mutation: Mutation,
}

impl Store {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

impl MirrorStore for Store {
    async fn read_known(
        &self,
        _: &AccountId,
        entity: EntityType,
        keys: &[RemoteKey],
    ) -> Result<Vec<KnownRow>, Failure> {
        let known = self.mirror.borrow().read_known(entity, keys);
        let shown =
            |known: KnownRow| KnownRow { row: known.row.map(|row| self.mutation.of_row(row)), ..known };
        Ok(known.into_iter().map(shown).collect())
    }

    async fn read_rows(
        &self,
        _: &AccountId,
        entity: EntityType,
        ids: &[String],
    ) -> Result<Vec<LocalRow>, Failure> {
        let rows = self.mirror.borrow().read_rows(entity, ids);
        Ok(rows.into_iter().map(|row| self.mutation.of_row(row)).collect())
    }

    async fn write(
        &self,
        _: &AccountId,
        entity: EntityType,
        batch: &WriteBatch,
    ) -> Result<WriteOutcome, Failure> {
        let now = self.now();
        let mut batch = batch.clone();
        if self.mutation == Mutation::SilentParts {
            let mirror = self.mirror.borrow();
            for write in &mut batch.rows {
                let held =
                    write.id.as_ref().and_then(|id| mirror.rows(entity).get(id)).map(|entry| &entry.row);
                *write = self.mutation.of_write(write, held);
            }
        }
        let written =
            self.mirror.borrow_mut().write(entity, &batch, now, keapsync_engine::simulation::Mutation::None);
        let mut noted = self.noted.borrow_mut();
        for (position, change) in &written.changes {
            let Some(write) = batch.rows.get(*position) else { continue };
            noted.push(Noted {
                row_id: change.after.id.clone(),
                lost: write.audit_lost.clone(),
                word: write.sync_error.clone(),
                conflicts: write.conflicts.iter().map(|one| (one.field.clone(), one.winner)).collect(),
            });
        }
        Ok(written.outcome)
    }

    async fn record_rejections(
        &self,
        _: &AccountId,
        _: EntityType,
        _: &[RejectedRecord],
    ) -> Result<(), Failure> {
        Ok(())
    }
}

impl GuardLedger for Store {
    async fn take(&self, _: &AccountId, _: &Taking<'_>) -> Result<bool, Failure> {
        // Nothing is deleted here, and the blast guard is the simulator's.
        Ok(true)
    }
}

impl RowLists for Store {
    async fn list_missing(
        &self,
        _: &AccountId,
        _: EntityType,
        _: Option<&str>,
        _: Option<&str>,
        _: &[String],
        _: usize,
    ) -> Result<Vec<LinkedRow>, Failure> {
        // Only full runs ask, and none is played.
        Ok(Vec::new())
    }

    async fn list_open(
        &self,
        _: &AccountId,
        _: EntityType,
        _: Option<&str>,
        _: usize,
    ) -> Result<Vec<String>, Failure> {
        Ok(Vec::new())
    }

    async fn list_unlinked(
        &self,
        _: &AccountId,
        entity: EntityType,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, Failure> {
        let mirror = self.mirror.borrow();
        let rows = mirror.rows(entity).values().map(|entry| &entry.row);
        let unlinked = rows.filter(|row| row.keap_id.is_none() && row.deleted_at.is_none());
        let behind = unlinked.filter(|row| after.is_none_or(|after| row.id.as_str() > after));
        Ok(behind.take(limit).map(|row| row.id.clone()).collect())
    }
}

impl OutboxStore for Store {
    async fn claim(
        &self,
        account: &AccountId,
        limit: usize,
        lease_ms: i64,
        _: &str,
    ) -> Result<Vec<OutboxItem>, Failure> {
        let items = self.mirror.borrow_mut().claim(limit, lease_ms, self.now());
        if self.mutation != Mutation::HoldBack {
            return Ok(items);
        }
        let is_held = |item: &OutboxItem| {
            let mirror = self.mirror.borrow();
            let entry = mirror.rows(item.entity).get(&item.entity_id);
            entry.is_some_and(|entry| {
                let was_refused = self.noted.borrow().iter().any(|noted| {
                    noted.row_id == item.entity_id && noted.word.is_some() && !noted.lost.is_empty()
                });
                was_refused || self.mutation.holds_back(&entry.row, entry.state)
            })
        };
        let (held, free): (Vec<_>, Vec<_>) = items.into_iter().partition(is_held);
        let ids: Vec<String> = held.into_iter().map(|item| item.id).collect();
        if !ids.is_empty() {
            self.fail(account, &ids, &Failure::new(FailureClass::Invalid, "a value was refused")).await?;
        }
        Ok(free)
    }

    async fn complete(&self, _: &AccountId, ids: &[String]) -> Result<(), Failure> {
        self.mirror.borrow_mut().complete(ids);
        Ok(())
    }

    async fn retry_later(
        &self,
        _: &AccountId,
        ids: &[String],
        delay_ms: i64,
        _: &Failure,
        counts: bool,
    ) -> Result<(), Failure> {
        self.mirror.borrow_mut().retry_later(ids, delay_ms, counts, self.now());
        Ok(())
    }

    async fn fail(&self, _: &AccountId, ids: &[String], failure: &Failure) -> Result<(), Failure> {
        let mut mirror = self.mirror.borrow_mut();
        let rows: Vec<String> = mirror
            .items
            .iter()
            .filter(|item| ids.contains(&item.item.id))
            .map(|item| item.item.entity_id.clone())
            .collect();
        mirror.fail(ids, &failure.message);
        for row_id in rows {
            self.noted.borrow_mut().push(Noted {
                row_id,
                lost: Map::new(),
                word: Some(failure.message.clone()),
                conflicts: Vec::new(),
            });
        }
        Ok(())
    }

    async fn depth(&self, _: &AccountId) -> Result<OutboxDepth, Failure> {
        Ok(self.mirror.borrow().depth())
    }
}
