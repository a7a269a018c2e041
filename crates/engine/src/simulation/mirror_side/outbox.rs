//! The outbox: `sync_queue` as the store's statements see it.

use super::MirrorSide;
use crate::ports::{OutboxDepth, OutboxItem, RowState};
use keapsync_domain::ids::EntityType;
use keapsync_domain::timestamp::Timestamp;
use std::collections::BTreeSet;

/// Where an outbox item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ItemStatus {
    Pending,
    Processing,
    Completed,
    Failed,
}

/// An item of the outbox.
#[derive(Clone, Debug)]
pub struct QueueItem {
    /// The item.
    pub item: OutboxItem,
    status: ItemStatus,
    /// Not claimed before.
    due_at: Timestamp,
    leased_until: Option<Timestamp>,
    /// What ended it, for the report.
    pub error: Option<String>,
}

impl QueueItem {
    /// Whether it waits for Keap, leased or not.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.status, ItemStatus::Pending | ItemStatus::Processing)
    }
}

impl MirrorSide {
    pub(super) fn capture(&mut self, entity: EntityType, row_id: &str, operation: &str, now: Timestamp) {
        let item = OutboxItem {
            id: self.fresh_id(),
            entity,
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

    /// Whether an item of the row waits that nobody works on.
    pub(super) fn has_unclaimed(&self, row_id: &str) -> bool {
        self.items.iter().any(|item| item.status == ItemStatus::Pending && item.item.entity_id == row_id)
    }

    /// What ended the last item of a row for good, when that was a failure.
    #[must_use]
    pub fn dead_letter_of(&self, row_id: &str) -> Option<&str> {
        let mut items = self.items.iter().rev();
        items.find(|item| item.item.entity_id == row_id && item.error.is_some())?.error.as_deref()
    }

    /// The claim: all open items of each record that has a due one and none that is leased.
    pub fn claim(&mut self, limit: usize, lease_ms: i64, now: Timestamp) -> Vec<OutboxItem> {
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
    pub fn complete(&mut self, ids: &[String]) {
        for item in self.open_items(ids) {
            item.status = ItemStatus::Completed;
            item.leased_until = None;
        }
        self.items.retain(|item| item.status != ItemStatus::Completed);
    }

    /// The items are given back.
    pub fn retry_later(&mut self, ids: &[String], delay_ms: i64, counts: bool, now: Timestamp) {
        for item in self.open_items(ids) {
            item.status = ItemStatus::Pending;
            item.leased_until = None;
            item.due_at = now.plus_ms(delay_ms);
            item.item.attempts += i32::from(counts);
        }
    }

    /// The items end as dead letters, shown on their rows unless a newer edit is on its way.
    pub fn fail(&mut self, ids: &[String], message: &str) {
        let mut rows = BTreeSet::new();
        for item in self.open_items(ids) {
            item.status = ItemStatus::Failed;
            item.leased_until = None;
            item.error = Some(message.to_owned());
            rows.insert((item.item.entity, item.item.entity_id.clone()));
        }
        for (entity, id) in rows {
            let has_newer = self.items.iter().any(|item| item.is_open() && item.item.entity_id == id);
            if let Some(entry) = self.table_mut(entity).rows.get_mut(&id).filter(|_| !has_newer) {
                entry.state = RowState::Error;
                entry.sync_error = Some(message.to_owned());
                entry.row.version += 1;
            }
        }
    }

    /// Whether a row waits for a contact that will not reach Keap by itself: it was deleted before, or given up until a person looks.
    #[must_use]
    pub fn waits_for_nobody(&self, entity: EntityType, row_id: &str) -> bool {
        let Some(entry) = self.rows(entity).get(row_id) else { return false };
        let Some(contact_id) = &entry.contact_row else { return false };
        let Some(contact) = self.rows(EntityType::Contact).get(contact_id) else { return false };
        let is_open = || self.items.iter().any(|item| item.is_open() && item.item.entity_id == *contact_id);
        let is_given_up = || self.dead_letter_of(contact_id).is_some() && !is_open();
        let never_comes = contact.row.deleted_at.is_some() || is_given_up();
        contact.row.keap_id.is_none() && never_comes && entry.row.keap_id.is_none()
    }

    /// Whether anything waits that will get there.
    #[must_use]
    pub fn has_work(&self) -> bool {
        let mut open = self.items.iter().filter(|item| item.is_open());
        open.any(|item| !self.waits_for_nobody(item.item.entity, &item.item.entity_id))
    }

    /// How much waits.
    #[must_use]
    pub fn depth(&self) -> OutboxDepth {
        let open = || self.items.iter().filter(|item| item.is_open());
        OutboxDepth {
            open: i64::try_from(open().count()).unwrap_or(i64::MAX),
            failed: i64::try_from(self.items.iter().filter(|item| item.status == ItemStatus::Failed).count())
                .unwrap_or(i64::MAX),
            oldest_at: open().map(|item| item.item.captured_at).min(),
            next_due_at: open().map(|item| item.due_at).min(),
        }
    }
}
