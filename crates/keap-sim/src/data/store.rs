//! The contacts of one tenant with the orders they are listed in.
//!
//! Invariant: each record is in `records` once and in every index once, under its current key. All changes go through
//! `put` and `remove`, which keep that.

use std::collections::{BTreeMap, BTreeSet};

use super::contact::Contact;
use super::record::Record;
use crate::clock;

/// Contacts by id, update time, creation time and e-mail.
#[derive(Debug)]
pub(crate) struct ContactStore {
    records: BTreeMap<u64, Record>,
    by_update: BTreeSet<(i64, u64)>,
    by_create: BTreeSet<(i64, u64)>,
    by_email: BTreeSet<(Box<str>, u64)>,
    next_id: u64,
    next_utm_id: u64,
}

impl Default for ContactStore {
    fn default() -> Self {
        Self {
            records: BTreeMap::new(),
            by_update: BTreeSet::new(),
            by_create: BTreeSet::new(),
            by_email: BTreeSet::new(),
            next_id: 1,
            next_utm_id: 1,
        }
    }
}

impl ContactStore {
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn get(&self, id: u64) -> Option<&Record> {
        self.records.get(&id)
    }

    pub(crate) const fn records(&self) -> &BTreeMap<u64, Record> {
        &self.records
    }

    pub(crate) const fn by_update(&self) -> &BTreeSet<(i64, u64)> {
        &self.by_update
    }

    pub(crate) const fn by_create(&self) -> &BTreeSet<(i64, u64)> {
        &self.by_create
    }

    pub(crate) const fn by_email(&self) -> &BTreeSet<(Box<str>, u64)> {
        &self.by_email
    }

    /// The contacts whose `EMAIL1` is that address, whatever its case, oldest first.
    pub(crate) fn with_email(&self, email: &str) -> impl Iterator<Item = &Record> {
        let email: Box<str> = email.to_lowercase().into();
        self.by_email.range((email.clone(), 0)..=(email, u64::MAX)).filter_map(|(_, id)| self.records.get(id))
    }

    /// Stores a new contact under the next id. Ids are never used again.
    pub(crate) fn insert(&mut self, contact: Contact, create_ms: i64, update_ms: i64) -> &Record {
        let id = self.next_id;
        self.next_id += 1;
        self.put(id, contact, create_ms, update_ms)
    }

    /// Replaces a contact after a change of its own properties. The update time moves strictly forward even within
    /// one millisecond, so that two states of a contact never share a time.
    pub(crate) fn update(&mut self, id: u64, contact: Contact, now_ms: i64) -> Option<&Record> {
        let record = self.records.get(&id)?;
        let (create_ms, update_ms) = (record.create_ms, now_ms.max(record.update_ms + 1));
        Some(self.put(id, contact, create_ms, update_ms))
    }

    /// Sets the tags a contact shows, without touching its update time: whether Keap moves it for a tag is
    /// unverified, and a client must not rely on it.
    pub(crate) fn set_tags(&mut self, id: u64, tag_ids: Vec<String>) {
        let Some(record) = self.records.get(&id) else { return };
        let (create_ms, update_ms) = (record.create_ms, record.update_ms);
        let mut contact = record.contact();
        show_tags(&mut contact, tag_ids);
        self.put(id, contact, create_ms, update_ms);
    }

    /// Removes a contact for good.
    pub(crate) fn remove(&mut self, id: u64) -> Option<Record> {
        let record = self.records.remove(&id)?;
        self.by_update.remove(&(record.update_ms, id));
        self.by_create.remove(&(record.create_ms, id));
        self.by_email.remove(&(record.email.clone(), id));
        Some(record)
    }

    /// The next id of a set of UTM parameters.
    pub(crate) const fn take_utm_id(&mut self) -> u64 {
        let id = self.next_utm_id;
        self.next_utm_id += 1;
        id
    }

    fn put(&mut self, id: u64, mut contact: Contact, create_ms: i64, update_ms: i64) -> &Record {
        contact.id = Some(id.to_string());
        contact.create_time = Some(clock::format_ms(create_ms));
        contact.update_time = Some(clock::format_ms(update_ms));
        self.remove(id);
        let record = Record::new(id, create_ms, update_ms, &contact);
        self.by_update.insert((update_ms, id));
        self.by_create.insert((create_ms, id));
        self.by_email.insert((record.email.clone(), id));
        self.records.entry(id).or_insert(record)
    }
}

/// Writes a contact's tags into the two properties that show them.
pub(crate) fn show_tags(contact: &mut Contact, tag_ids: Vec<String>) {
    contact.groups = (!tag_ids.is_empty()).then(|| tag_ids.join(","));
    contact.tag_ids = Some(tag_ids);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn update_times_move_strictly_even_when_the_clock_stands() {
        let mut store = ContactStore::default();
        let id = store.insert(Contact::default(), 1000, 1000).id;
        let times: Vec<i64> = (0..3)
            .map(|_| store.update(id, Contact::default(), 1000).map(|record| record.update_ms).unwrap())
            .collect();
        assert_eq!(times, [1001, 1002, 1003]);
        assert_eq!(store.by_update().iter().copied().collect::<Vec<_>>(), [(1003, id)]);
    }

    #[test]
    fn ids_ascend_and_are_not_reused() {
        let mut store = ContactStore::default();
        let first = store.insert(Contact::default(), 1, 1).id;
        store.remove(first);
        assert!(store.insert(Contact::default(), 1, 1).id > first);
        assert_eq!(store.len(), 1);
    }

    #[test]
    fn tags_do_not_move_the_update_time() {
        let mut store = ContactStore::default();
        let id = store.insert(Contact::default(), 5, 5).id;
        store.set_tags(id, vec!["3".to_owned(), "4".to_owned()]);
        let record = store.get(id).unwrap();
        assert_eq!(record.update_ms, 5);
        assert_eq!(record.contact().groups.as_deref(), Some("3,4"));
    }
}
