//! Counts of deliveries, by event: added up in memory, written about once a minute.
//!
//! They are for people to see. What is in memory when the object dies is not counted: at most a minute's.

use super::{Account, time_now};
use crate::storage::hook_days::{HookCounts, HookDay};
use keapsync_domain::failure::Failure;
use keapsync_domain::timestamp::Timestamp;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

/// Pause between two writes, in milliseconds.
const WRITE_INTERVAL_MS: i64 = 60_000;

/// Events that are counted by name at once; further ones are counted together.
const KEYS_MAX: usize = 100;

/// Name under which events are counted that Keap does not offer, or too many of them.
const OTHER_KEYS: &str = "other";

/// Counts that are not written yet.
#[derive(Debug, Default)]
pub(super) struct Tally {
    by_key: RefCell<BTreeMap<String, HookCounts>>,
    written_at: Cell<Timestamp>,
}

impl Tally {
    /// Adds to an event's counts.
    fn add(&self, event_key: &str, counts: &HookCounts) {
        let mut by_key = self.by_key.borrow_mut();
        if let Some(known) = by_key.get_mut(event_key) {
            known.add(counts);
            return;
        }
        let name = if by_key.len() < KEYS_MAX { event_key } else { OTHER_KEYS };
        by_key.entry(name.to_owned()).or_default().add(counts);
    }

    /// A delivery was stored.
    pub(super) fn stored(&self, event_key: &str, objects: i64, now: Timestamp) {
        self.add(
            event_key,
            &HookCounts { deliveries: 1, objects, last_at: Some(now.0), ..HookCounts::default() },
        );
    }

    /// A delivery was answered with 503.
    pub(super) fn refused(&self, event_key: &str) {
        self.add(event_key, &HookCounts { refused: 1, ..HookCounts::default() });
    }

    /// An object became a dead letter.
    pub(super) fn given_up(&self, event_key: &str) {
        self.add(event_key, &HookCounts { given_up: 1, ..HookCounts::default() });
    }

    /// When what was counted is to be written; `None` when there is nothing.
    pub(super) fn due_at(&self) -> Option<Timestamp> {
        (!self.by_key.borrow().is_empty()).then(|| self.written_at.get().plus_ms(WRITE_INTERVAL_MS))
    }

    fn take(&self, known: &BTreeSet<String>) -> Vec<HookDay> {
        let mut named: BTreeMap<String, HookCounts> = BTreeMap::new();
        for (key, counts) in std::mem::take(&mut *self.by_key.borrow_mut()) {
            let name = if known.contains(&key) { key } else { OTHER_KEYS.to_owned() };
            named.entry(name).or_default().add(&counts);
        }
        named.into_iter().map(|(event_key, counts)| HookDay { event_key, counts }).collect()
    }
}

impl Account<'_> {
    /// Writes what was counted, when that is due.
    pub(super) fn write_tally(&self) -> Result<(), Failure> {
        let now = time_now();
        let tally = &self.object.tally;
        if tally.due_at().is_none_or(|due_at| due_at > now) {
            return Ok(());
        }
        let book = self.hook_book()?;
        let offered = book.hooks.into_iter().map(|hook| hook.event_key).chain(book.not_synced_keys);
        tally.written_at.set(now);
        self.sql().add_hook_counts(&tally.take(&offered.collect()), now)
    }

    /// The counts of today by event, those included that are not written yet.
    pub(super) fn hook_counts(&self) -> Result<BTreeMap<String, HookCounts>, Failure> {
        let written = self.sql().hook_counts(time_now())?;
        let mut counts: BTreeMap<String, HookCounts> =
            written.into_iter().map(|day| (day.event_key, day.counts)).collect();
        for (key, fresh) in self.object.tally.by_key.borrow().iter() {
            counts.entry(key.clone()).or_default().add(fresh);
        }
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_name_what_keap_offers_and_the_rest_together() {
        let tally = Tally::default();
        assert_eq!(tally.due_at(), None);
        tally.stored("contact.edit", 3, Timestamp(7));
        tally.stored("contact.edit", 1, Timestamp(8));
        tally.refused("contact.edit");
        tally.given_up("contact.edit");
        tally.stored("made.up", 1, Timestamp(9));
        tally.stored("made.up.too", 1, Timestamp(9));
        assert!(tally.due_at().is_some());
        let taken = tally.take(&BTreeSet::from(["contact.edit".to_owned()]));
        let edits = HookCounts { deliveries: 2, objects: 4, refused: 1, given_up: 1, last_at: Some(8) };
        assert_eq!(taken[0], HookDay { event_key: "contact.edit".to_owned(), counts: edits });
        assert_eq!((taken[1].event_key.as_str(), taken[1].counts.deliveries), (OTHER_KEYS, 2));
        assert_eq!(tally.due_at(), None);
    }

    #[test]
    fn however_many_names_come_memory_is_bounded() {
        let tally = Tally::default();
        for number in 0..10_000 {
            tally.stored(&format!("made.up{number}"), 1, Timestamp(1));
        }
        assert!(tally.by_key.borrow().len() <= KEYS_MAX + 1);
        assert_eq!(tally.take(&BTreeSet::new())[0].counts.deliveries, 10_000);
    }
}
