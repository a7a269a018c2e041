//! The blast guard: how much may be destroyed before a person says that it is meant.
//!
//! Destroyed is a row that is deleted, or one of whose values is replaced or cleared. What is only added, to a blank field, a set
//! or a free slot, destroys nothing.
//!
//! Invariant: what was allowed in all is never more than the limit, however many pages ask at once, because an allowance is
//! taken whole before anything of a page is written.

use crate::ports::proof::{Held, Waiting};
use keapsync_domain::canonical::{canonical, same, set_elements};
use keapsync_domain::record::Record;
use keapsync_domain::schema::{FieldKind, fields};
use keapsync_domain::settings::BlastGuard;
use serde_json::{Map, Value};
use std::cell::Cell;

/// How much a pass may still destroy.
#[derive(Debug)]
pub struct Allowance {
    left: Cell<Option<u64>>,
    used: Cell<u64>,
}

impl Allowance {
    /// Anything: a person approved it, or it is one record at a time.
    #[must_use]
    pub fn unlimited() -> Self {
        Self { left: Cell::new(None), used: Cell::new(0) }
    }

    /// So many records.
    #[must_use]
    pub fn up_to(records: u64) -> Self {
        Self { left: Cell::new(Some(records)), used: Cell::new(0) }
    }

    /// What the guard leaves of `live` records, of which the run destroyed `destroyed` before.
    #[must_use]
    pub fn of(guard: BlastGuard, live: u64, destroyed: u64) -> Self {
        Self::up_to(guard.limit(live).saturating_sub(destroyed))
    }

    /// How much was taken.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.get()
    }

    /// Gives back what was taken for a write that did not take place.
    pub fn give_back(&self, records: u64) {
        self.used.set(self.used.get().saturating_sub(records));
        self.left.set(self.left.get().map(|left| left.saturating_add(records)));
    }

    /// Takes the right to destroy `records` of them; all or nothing.
    #[must_use]
    pub fn take(&self, records: u64) -> bool {
        let left = self.left.get();
        if left.is_some_and(|left| records > left) {
            return false;
        }
        self.left.set(left.map(|left| left - records));
        self.used.set(self.used.get() + records);
        true
    }
}

/// A class of edits that waits for a person's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldBack {
    /// Which.
    pub held: Held,
    /// How many records they would overwrite or delete.
    pub records: u64,
    /// How many may be without a word.
    pub limit: u64,
}

/// What of the waiting edits is not to be carried: every class that would destroy more in Keap than the guard lets through.
#[must_use]
pub fn held_back(waiting: &[Waiting], guard: BlastGuard) -> Vec<HeldBack> {
    let classes = waiting.iter().flat_map(|waiting| {
        let limit = guard.limit(u64::try_from(waiting.live).unwrap_or(0));
        [(false, waiting.edited), (true, waiting.deleted)].map(|(deletes, records)| HeldBack {
            held: Held { entity: waiting.entity, deletes },
            records: u64::try_from(records).unwrap_or(0),
            limit,
        })
    });
    classes.filter(|class| class.records > class.limit).collect()
}

/// Whether something that `before` holds is not in `after` any more.
#[must_use]
pub fn destroys(before: &Record, after: &Record) -> bool {
    fields(before.entity()).iter().enumerate().any(|(position, field)| {
        let (before, after) = (before.get(position), after.get(position));
        before != after && !same(field.kind, before, after) && !holds_all_of(field.kind, after, before)
    })
}

fn holds_all_of(kind: FieldKind, after: &Value, before: &Value) -> bool {
    match kind {
        FieldKind::Set => set_elements(before).is_subset(&set_elements(after)),
        FieldKind::Slots(_) | FieldKind::Map => {
            let (before, after) = (parts_of(kind, before), parts_of(kind, after));
            before.iter().all(|(name, part)| after.get(name) == Some(part))
        }
        _ => same(kind, before, &Value::Null),
    }
}

fn parts_of(kind: FieldKind, value: &Value) -> Map<String, Value> {
    match canonical(kind, value) {
        Value::Object(parts) => parts,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keapsync_domain::ids::EntityType;
    use serde_json::json;

    #[test]
    fn an_allowance_is_taken_whole_and_never_exceeded() {
        let allowance = Allowance::of(BlastGuard { records_max: 10, percent_max: 0 }, 1_000, 3);
        assert!(allowance.take(5) && !allowance.take(3) && allowance.take(2) && !allowance.take(1));
        assert_eq!(allowance.used(), 7);
        allowance.give_back(2);
        assert!(allowance.take(2) && !allowance.take(1) && allowance.used() == 7);
        assert!(allowance.take(0) && Allowance::unlimited().take(u64::MAX));
        assert!(!Allowance::of(BlastGuard { records_max: 1, percent_max: 0 }, 9, 4).take(1));
    }

    #[test]
    fn classes_of_edits_are_held_each_by_its_own_number() {
        let waiting = |edited, deleted, live| Waiting { entity: EntityType::Contact, edited, deleted, live };
        let guard = BlastGuard::default();
        assert_eq!(held_back(&[waiting(50, 50, 100)], guard), []);
        assert_eq!(held_back(&[waiting(400, 51, 10_000)], guard), []);
        let held = held_back(&[waiting(10, 60, 100)], guard);
        let expected =
            HeldBack { held: Held { entity: EntityType::Contact, deletes: true }, records: 60, limit: 50 };
        assert_eq!(held, [expected]);
    }

    #[test]
    fn what_is_only_added_destroys_nothing() {
        let contact = |values: Value| {
            Record::from_object(EntityType::Contact, values.as_object().cloned().unwrap_or_default())
        };
        let email = |slot: &str, address: &str| json!({"field": slot, "email": address});
        let before = contact(json!({
            "first_name": "Ann", "tags": ["1"], "emails": [email("EMAIL2", "a@x.io")], "custom_fields": {"7": "x"},
        }));
        let with = |name: &str, value: Value| {
            let mut after = before.clone();
            after.set_by_name(name, value);
            after
        };
        for (name, value) in [
            ("last_name", json!("Lee")),
            ("first_name", json!(" Ann ")),
            ("tags", json!(["2", "1"])),
            ("emails", json!([email("EMAIL3", "b@x.io"), email("EMAIL2", "a@x.io")])),
            ("custom_fields", json!({"8": "y", "7": "x"})),
        ] {
            assert!(!destroys(&before, &with(name, value.clone())), "{name}: {value}");
        }
        for (name, value) in [
            ("first_name", json!("Anna")),
            ("first_name", Value::Null),
            ("tags", json!(["2"])),
            ("emails", json!([email("EMAIL3", "b@x.io")])),
            ("custom_fields", json!({"7": "y"})),
        ] {
            assert!(destroys(&before, &with(name, value.clone())), "{name}: {value}");
        }
    }
}
