//! A store whose writes are noted for the live feed. It changes nothing and adds no call: it sees what passes through.
//!
//! What is noted is what the store said it did, so nothing is told that was not written.

use crate::inbound::DELETED_AT;
use crate::ports::proof::{GuardLedger, GuardStore, Held, LinkedRow, Taking, Waiting};
use crate::ports::{
    KnownRow, LocalRow, MirrorStore, OutboxDepth, OutboxItem, OutboxStore, RejectedRecord, RemoteKey,
    RowLists, RowWrite, WriteBatch, WriteOutcome, WriteSource,
};
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::feed::{
    ChangedRecord, ConflictSeen, FeedError, FeedEvent, RECORDS_NAMED_MAX, RecordChange,
};
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_domain::run::Direction;
use keapsync_domain::settings::AccountSettings;
use keapsync_domain::timestamp::Timestamp;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

/// A store and what was seen of it.
pub struct Watched<'a, S> {
    store: &'a S,
    seen: RefCell<Seen>,
}

#[derive(Default)]
struct Seen {
    events: Vec<FeedEvent>,
    /// Claimed items that have not ended, by id.
    items: HashMap<String, OutboxItem>,
    /// What is known of the rows that are carried to Keap, by row id.
    rows: HashMap<String, ChangedRecord>,
}

impl<'a, S> Watched<'a, S> {
    /// Watches a store.
    pub fn new(store: &'a S) -> Self {
        Self { store, seen: RefCell::default() }
    }

    /// What happened since this was asked last, in the order in which it happened.
    #[must_use]
    pub fn take_events(&self) -> Vec<FeedEvent> {
        std::mem::take(&mut self.seen.borrow_mut().events)
    }

    fn tell(&self, event: FeedEvent) {
        self.seen.borrow_mut().events.push(event);
    }

    fn note_claimed(&self, items: &[OutboxItem]) {
        let mut seen = self.seen.borrow_mut();
        seen.items.extend(items.iter().map(|item| (item.id.clone(), item.clone())));
    }

    /// Remembers what an edit is about before it is carried: afterwards the row is the base again.
    fn note_rows(&self, rows: &[LocalRow]) {
        let mut seen = self.seen.borrow_mut();
        for row in rows {
            let known = seen.rows.entry(row.id.clone()).or_default();
            known.id = Some(row.id.clone());
            known.keap_id = row.keap_id.clone().or_else(|| known.keap_id.take());
            if row.has_base && !row.base_delta.is_empty() {
                known.fields = row.base_delta.keys().filter(|name| *name != DELETED_AT).cloned().collect();
            }
        }
    }

    fn note_written(&self, entity: EntityType, batch: &WriteBatch, outcome: &WriteOutcome) {
        let written: HashSet<&str> = outcome.written.iter().map(String::as_str).collect();
        let rows: Vec<&RowWrite> =
            batch.rows.iter().filter(|row| written.contains(row.keap_id.as_str())).collect();
        if batch.source == WriteSource::Outbox {
            // Keap's answer to our own write is no change of the row; but it tells Keap's id of what was made.
            let mut seen = self.seen.borrow_mut();
            for row in &rows {
                if let Some(known) = row.id.as_ref().and_then(|id| seen.rows.get_mut(id)) {
                    known.keap_id = Some(row.keap_id.clone());
                }
            }
        } else {
            for change in
                [RecordChange::Created, RecordChange::Updated, RecordChange::Deleted, RecordChange::Undeleted]
            {
                let changed: Vec<&RowWrite> =
                    rows.iter().filter(|row| change_of(row) == Some(change)).copied().collect();
                self.tell_applied(
                    entity,
                    Direction::KeapToSupabase,
                    change,
                    changed.len(),
                    changed.iter().map(|row| record_of(row, change)),
                );
            }
        }
        for row in rows.iter().filter(|row| !row.conflicts.is_empty()) {
            self.tell_conflicts(entity, row);
        }
    }

    fn tell_applied(
        &self,
        entity: EntityType,
        direction: Direction,
        change: RecordChange,
        count: usize,
        records: impl Iterator<Item = ChangedRecord>,
    ) {
        if count > 0 {
            let records = records.take(RECORDS_NAMED_MAX).collect();
            self.tell(FeedEvent::RecordsApplied { entity, direction, change, count: count as u64, records });
        }
    }

    fn tell_conflicts(&self, entity: EntityType, row: &RowWrite) {
        let mut fields_by_winner: Vec<(Option<&'static str>, Vec<String>)> = Vec::new();
        for conflict in &row.conflicts {
            match fields_by_winner.iter_mut().find(|(winner, _)| *winner == conflict.winner) {
                Some((_, fields)) => fields.push(conflict.field.clone()),
                None => fields_by_winner.push((conflict.winner, vec![conflict.field.clone()])),
            }
        }
        for (winner, fields) in fields_by_winner {
            let record = ChangedRecord { id: row.id.clone(), keap_id: Some(row.keap_id.clone()), fields };
            let conflict = ConflictSeen { entity, record };
            self.tell(match winner {
                None => FeedEvent::ConflictOpened(conflict),
                Some(winner) => FeedEvent::ConflictSettled { winner: winner.to_owned(), conflict },
            });
        }
    }

    fn note_carried(&self, ids: &[String]) {
        // Several edits of one row are carried as one.
        let mut carried: Vec<(EntityType, RecordChange, ChangedRecord)> = Vec::new();
        let mut rows: HashSet<String> = HashSet::new();
        {
            let mut seen = self.seen.borrow_mut();
            let items: Vec<OutboxItem> = ids.iter().filter_map(|id| seen.items.remove(id)).collect();
            for item in &items {
                if rows.insert(item.entity_id.clone()) {
                    let of_row = |operation: &str| {
                        items
                            .iter()
                            .any(|other| other.entity_id == item.entity_id && other.operation == operation)
                    };
                    let change = match () {
                        () if of_row("delete") => RecordChange::Deleted,
                        () if of_row("create") => RecordChange::Created,
                        () => RecordChange::Updated,
                    };
                    let mut record = seen.rows.remove(&item.entity_id).unwrap_or_else(|| ChangedRecord {
                        id: Some(item.entity_id.clone()),
                        ..ChangedRecord::default()
                    });
                    if change != RecordChange::Updated {
                        record.fields.clear();
                    }
                    carried.push((item.entity, change, record));
                }
            }
        }
        while let Some((entity, change, _)) = carried.first() {
            let (entity, change) = (*entity, *change);
            let (same, rest): (Vec<_>, Vec<_>) =
                carried.into_iter().partition(|(other, became, _)| (*other, *became) == (entity, change));
            carried = rest;
            let count = same.len();
            let records = same.into_iter().map(|(_, _, record)| record);
            self.tell_applied(entity, Direction::SupabaseToKeap, change, count, records);
        }
    }

    fn note_failed(&self, ids: &[String], failure: &Failure) {
        let items: Vec<OutboxItem> = {
            let mut seen = self.seen.borrow_mut();
            ids.iter().filter_map(|id| seen.items.remove(id)).collect()
        };
        let mut rows: HashSet<&str> = HashSet::new();
        for item in items.iter().filter(|item| rows.insert(item.entity_id.as_str())) {
            let known = self.seen.borrow_mut().rows.remove(&item.entity_id);
            let record = known.unwrap_or_else(|| ChangedRecord {
                id: Some(item.entity_id.clone()),
                ..ChangedRecord::default()
            });
            self.tell(dead_letter(item.entity, Direction::SupabaseToKeap, record, failure));
        }
    }
}

/// An event or an edit was given up.
#[must_use]
pub fn dead_letter(
    entity: EntityType,
    direction: Direction,
    record: ChangedRecord,
    failure: &Failure,
) -> FeedEvent {
    let error = FeedError { class: failure.class, message: failure.message.clone() };
    FeedEvent::DeadLetter { entity, direction, record, error }
}

fn change_of(row: &RowWrite) -> Option<RecordChange> {
    match row.audit_operation? {
        "create" => Some(RecordChange::Created),
        "delete" => Some(RecordChange::Deleted),
        "undelete" => Some(RecordChange::Undeleted),
        // A conflict that changes no column is told as a conflict only.
        _ if row.audit_old.is_empty() => None,
        _ => Some(RecordChange::Updated),
    }
}

fn record_of(row: &RowWrite, change: RecordChange) -> ChangedRecord {
    let fields = match change {
        RecordChange::Updated => row.audit_old.keys().cloned().collect(),
        RecordChange::Created | RecordChange::Deleted | RecordChange::Undeleted => Vec::new(),
    };
    ChangedRecord { id: row.id.clone(), keap_id: Some(row.keap_id.clone()), fields }
}

impl<S: MirrorStore> MirrorStore for Watched<'_, S> {
    async fn read_known(
        &self,
        account: &AccountId,
        entity: EntityType,
        keys: &[RemoteKey],
    ) -> Result<Vec<KnownRow>, Failure> {
        self.store.read_known(account, entity, keys).await
    }

    async fn read_rows(
        &self,
        account: &AccountId,
        entity: EntityType,
        ids: &[String],
    ) -> Result<Vec<LocalRow>, Failure> {
        let rows = self.store.read_rows(account, entity, ids).await?;
        self.note_rows(&rows);
        Ok(rows)
    }

    async fn write(
        &self,
        account: &AccountId,
        entity: EntityType,
        batch: &WriteBatch,
    ) -> Result<WriteOutcome, Failure> {
        let outcome = self.store.write(account, entity, batch).await?;
        self.note_written(entity, batch, &outcome);
        Ok(outcome)
    }

    async fn record_rejections(
        &self,
        account: &AccountId,
        entity: EntityType,
        rejected: &[RejectedRecord],
    ) -> Result<(), Failure> {
        self.store.record_rejections(account, entity, rejected).await?;
        for record in rejected {
            let failure = Failure::new(FailureClass::Invalid, record.reason.clone());
            let named = ChangedRecord { keap_id: record.keap_id.clone(), ..ChangedRecord::default() };
            self.tell(dead_letter(entity, Direction::KeapToSupabase, named, &failure));
        }
        Ok(())
    }
}

impl<S: RowLists> RowLists for Watched<'_, S> {
    async fn list_missing(
        &self,
        account: &AccountId,
        entity: EntityType,
        after: Option<&str>,
        until: Option<&str>,
        present: &[String],
        limit: usize,
    ) -> Result<Vec<LinkedRow>, Failure> {
        self.store.list_missing(account, entity, after, until, present, limit).await
    }

    async fn list_open(
        &self,
        account: &AccountId,
        entity: EntityType,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, Failure> {
        self.store.list_open(account, entity, after, limit).await
    }

    async fn list_unlinked(
        &self,
        account: &AccountId,
        entity: EntityType,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, Failure> {
        self.store.list_unlinked(account, entity, after, limit).await
    }
}

impl<S: OutboxStore> OutboxStore for Watched<'_, S> {
    async fn claim(
        &self,
        account: &AccountId,
        limit: usize,
        lease_ms: i64,
        owner: &str,
    ) -> Result<Vec<OutboxItem>, Failure> {
        let items = self.store.claim(account, limit, lease_ms, owner).await?;
        self.note_claimed(&items);
        Ok(items)
    }

    async fn complete(&self, account: &AccountId, ids: &[String]) -> Result<(), Failure> {
        self.store.complete(account, ids).await?;
        self.note_carried(ids);
        Ok(())
    }

    async fn retry_later(
        &self,
        account: &AccountId,
        ids: &[String],
        delay_ms: i64,
        failure: &Failure,
        counts: bool,
    ) -> Result<(), Failure> {
        self.store.retry_later(account, ids, delay_ms, failure, counts).await
    }

    async fn fail(&self, account: &AccountId, ids: &[String], failure: &Failure) -> Result<(), Failure> {
        self.store.fail(account, ids, failure).await?;
        self.note_failed(ids, failure);
        Ok(())
    }

    async fn depth(&self, account: &AccountId) -> Result<OutboxDepth, Failure> {
        self.store.depth(account).await
    }
}

impl<S: GuardLedger> GuardLedger for Watched<'_, S> {
    async fn take(&self, account: &AccountId, taking: &Taking<'_>) -> Result<bool, Failure> {
        self.store.take(account, taking).await
    }
}

impl<S: GuardStore> GuardStore for Watched<'_, S> {
    async fn pass_edits(
        &self,
        account: &AccountId,
        settings: &AccountSettings,
        stopped: &[EntityType],
    ) -> Result<u64, Failure> {
        self.store.pass_edits(account, settings, stopped).await
    }

    async fn waiting(&self, account: &AccountId) -> Result<Vec<Waiting>, Failure> {
        self.store.waiting(account).await
    }

    async fn approve_waiting(
        &self,
        account: &AccountId,
        class: Held,
        until: Timestamp,
    ) -> Result<u64, Failure> {
        self.store.approve_waiting(account, class, until).await
    }

    async fn claim_unheld(
        &self,
        account: &AccountId,
        limit: usize,
        lease_ms: i64,
        owner: &str,
    ) -> Result<Vec<OutboxItem>, Failure> {
        let items = self.store.claim_unheld(account, limit, lease_ms, owner).await?;
        self.note_claimed(&items);
        Ok(items)
    }

    async fn show_held_deletes(
        &self,
        account: &AccountId,
        entity: EntityType,
        keap_ids: &[String],
        are_held: bool,
    ) -> Result<(), Failure> {
        self.store.show_held_deletes(account, entity, keap_ids, are_held).await
    }

    async fn requeue(
        &self,
        account: &AccountId,
        entity: EntityType,
        with_deletes: bool,
        limit: usize,
    ) -> Result<u64, Failure> {
        self.store.requeue(account, entity, with_deletes, limit).await
    }
}
