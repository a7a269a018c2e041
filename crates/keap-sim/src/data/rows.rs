//! Orders and subscriptions by id, by time of change and by contact.
//!
//! Invariant: each row is in `by_id` once and in both indexes once, under its current keys. All changes go through
//! `put` and `remove`, which keep that.

use std::collections::{BTreeMap, BTreeSet};

/// What the store has to know of a row.
pub(crate) trait Row {
    fn id(&self) -> u64;
    fn contact_id(&self) -> u64;
    fn modified_ms(&self) -> i64;
    fn set_modified_ms(&mut self, modified_ms: i64);
}

/// The rows of one kind.
#[derive(Debug)]
pub(crate) struct Rows<T> {
    by_id: BTreeMap<u64, T>,
    by_modified: BTreeSet<(i64, u64)>,
    by_contact: BTreeSet<(u64, u64)>,
    next_id: u64,
}

impl<T: Row> Rows<T> {
    /// An empty store whose first row will have that id. Kinds begin far apart, so that a client that mixes up the
    /// ids of two kinds is found out.
    pub(crate) const fn new(first_id: u64) -> Self {
        Self {
            by_id: BTreeMap::new(),
            by_modified: BTreeSet::new(),
            by_contact: BTreeSet::new(),
            next_id: first_id,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn get(&self, id: u64) -> Option<&T> {
        self.by_id.get(&id)
    }

    pub(crate) const fn all(&self) -> &BTreeMap<u64, T> {
        &self.by_id
    }

    pub(crate) const fn by_modified(&self) -> &BTreeSet<(i64, u64)> {
        &self.by_modified
    }

    /// The ids of a contact's rows, in ascending order.
    pub(crate) fn ids_of_contact(&self, contact_id: u64) -> impl Iterator<Item = u64> {
        self.by_contact.range((contact_id, 0)..=(contact_id, u64::MAX)).map(|(_, id)| *id)
    }

    /// The id of the next row: every other number, as in an app that has deleted some. Ids are never used again.
    pub(crate) const fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 2;
        id
    }

    /// Stores a row under its id, in place of the one that was there.
    pub(crate) fn put(&mut self, row: T) {
        let (id, contact_id, modified_ms) = (row.id(), row.contact_id(), row.modified_ms());
        self.remove(id);
        self.by_modified.insert((modified_ms, id));
        self.by_contact.insert((contact_id, id));
        self.by_id.insert(id, row);
    }

    /// Stores a changed row. Its time of change moves strictly forward even within one millisecond, so that two states
    /// of a row never share a time.
    pub(crate) fn put_changed(&mut self, mut row: T, now_ms: i64) {
        row.set_modified_ms(now_ms.max(row.modified_ms() + 1));
        self.put(row);
    }

    /// Removes a row for good.
    pub(crate) fn remove(&mut self, id: u64) -> Option<T> {
        let row = self.by_id.remove(&id)?;
        self.by_modified.remove(&(row.modified_ms(), id));
        self.by_contact.remove(&(row.contact_id(), id));
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone)]
    struct Plain {
        id: u64,
        contact_id: u64,
        modified_ms: i64,
    }

    impl Row for Plain {
        fn id(&self) -> u64 {
            self.id
        }

        fn contact_id(&self) -> u64 {
            self.contact_id
        }

        fn modified_ms(&self) -> i64 {
            self.modified_ms
        }

        fn set_modified_ms(&mut self, modified_ms: i64) {
            self.modified_ms = modified_ms;
        }
    }

    #[test]
    fn indexes_follow_a_row_and_times_move_strictly() {
        let mut rows = Rows::new(5);
        let id = rows.take_id();
        rows.put(Plain { id, contact_id: 1, modified_ms: 1000 });
        rows.put_changed(Plain { id, contact_id: 2, modified_ms: 1000 }, 900);
        assert_eq!(rows.by_modified().iter().copied().collect::<Vec<_>>(), [(1001, id)]);
        assert_eq!(rows.ids_of_contact(1).count(), 0);
        assert_eq!(rows.ids_of_contact(2).collect::<Vec<_>>(), [id]);
        rows.remove(id);
        assert_eq!((rows.len(), rows.by_modified().len(), rows.ids_of_contact(2).count()), (0, 0, 0));
        assert_eq!(rows.take_id(), id + 2);
    }
}
