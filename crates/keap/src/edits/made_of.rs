//! What Keap made of a write: its answer may hold something else than was sent, although nobody edited that in Keap.
//!
//! Keap ends a subscription today whatever end was asked for, finds the name of a region for its code, works out a line's
//! discount anew. Merged as if somebody had changed it, that would be a conflict with nobody. So the row takes it, and what
//! somebody had asked for and did not get is said.
//!
//! A part that the answer holds as it was before the write was not heeded, and is left to the caller.

use super::{Refusal, Settled, shown};
use crate::wire::is_blank;
use keapsync_domain::canonical::{canonical_slot, is_slot_answered, same, slot_entries};
use keapsync_domain::merge::with_part;
use keapsync_domain::record::Record;
use keapsync_domain::schema::{FieldKind, SlotKind, fields};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

const MADE: &str =
    "Keap made something else of it, which the row holds now: write it in Keap if that has a place for it";

/// A write, by what Keap held before it and was to hold after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Wrote {
    /// What Keap held.
    pub before: Record,
    /// What it was to hold.
    pub sent: Record,
}

/// A part as each of the states has it; null where it is missing.
#[derive(Clone, Copy)]
struct States<'a> {
    base: &'a Value,
    before: &'a Value,
    sent: &'a Value,
    row: &'a Value,
    after: &'a Value,
}

impl<'a> States<'a> {
    /// Whether Keap took something of what was sent and made something else of it, in a part that stands as it was sent.
    fn is_made_otherwise(self, same: impl Fn(&Value, &Value) -> bool) -> bool {
        !same(self.before, self.sent)
            && same(self.row, self.sent)
            && !same(self.after, self.before)
            && !same(self.after, self.row)
    }

    fn map(self, part: impl Fn(&'a Value) -> &'a Value) -> Self {
        Self {
            base: part(self.base),
            before: part(self.before),
            sent: part(self.sent),
            row: part(self.row),
            after: part(self.after),
        }
    }
}

/// The row with what Keap made of the write; `None` where it holds what was sent, or what is somebody's later edit.
#[must_use]
pub fn made_of(wrote: &Wrote, base: &Record, row: &Record, after: &Record) -> Option<Settled> {
    let mut settled: Option<Settled> = None;
    for (position, schema) in fields(row.entity()).iter().enumerate() {
        let states = States {
            base: base.get(position),
            before: wrote.before.get(position),
            sent: wrote.sent.get(position),
            row: row.get(position),
            after: after.get(position),
        };
        if states.before == states.sent || states.row == states.after || schema.access.refusal().is_some() {
            continue;
        }
        let mut refused = Vec::new();
        let value = match schema.kind {
            FieldKind::Slots(kind) => in_slots(schema.name, kind, states, &mut refused),
            FieldKind::Map => in_map(schema.name, states, &mut refused),
            FieldKind::Address => in_slot(schema.name, None, SlotKind::Address, states, &mut refused),
            FieldKind::Set => None,
            kind => states.is_made_otherwise(|left, right| same(kind, left, right)).then(|| {
                refused.push(refusal(schema.name, None, None));
                states.after.clone()
            }),
        };
        if let Some(value) = value {
            let settled = settled.get_or_insert_with(|| Settled { row: row.clone(), refused: Vec::new() });
            settled.row.set(position, value);
            settled.refused.append(&mut refused);
        }
    }
    settled
}

fn refusal(field: &'static str, part: Option<&str>, key: Option<&str>) -> Refusal {
    Refusal { field, part: part.map(shown), key: key.map(shown), sent: None, reason: MADE.to_owned() }
}

fn in_slots(
    field: &'static str,
    kind: SlotKind,
    states: States<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<Value> {
    let list = |value| slot_entries(kind, value).collect::<BTreeMap<String, &Value>>();
    let [base, before, sent, row, after] =
        [states.base, states.before, states.sent, states.row, states.after].map(list);
    // A place says nothing of another list.
    let names: BTreeSet<&String> =
        sent.keys().chain(before.keys()).filter(|name| !name.starts_with('#')).collect();
    let mut made: Option<Value> = None;
    for name in names {
        let of = |slots: &BTreeMap<String, &'_ Value>| slots.get(name).copied().cloned().unwrap_or_default();
        let [base, before, sent, row, after] = [&base, &before, &sent, &row, &after].map(of);
        let slot = States { base: &base, before: &before, sent: &sent, row: &row, after: &after };
        if let Some(value) = in_slot(field, Some(name), kind, slot, refused) {
            let list = made.as_ref().unwrap_or(states.row);
            made = Some(with_part(FieldKind::Slots(kind), list, name, &value));
        }
    }
    made
}

fn in_slot(
    field: &'static str,
    name: Option<&str>,
    kind: SlotKind,
    states: States<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<Value> {
    let alike = |left: &Value, right: &Value| canonical_slot(kind, left) == canonical_slot(kind, right);
    if !states.is_made_otherwise(alike) || is_slot_answered(kind, states.after, states.row, states.base) {
        return None;
    }
    let keys: BTreeSet<&String> =
        [states.before, states.sent].into_iter().filter_map(Value::as_object).flat_map(Map::keys).collect();
    for key in keys {
        let same = |left: &Value, right: &Value| {
            let [left, right] =
                [left, right].map(|value| Value::Object(Map::from_iter([(key.clone(), value.clone())])));
            alike(&left, &right)
        };
        let States { before, sent, after, .. } = states.map(|slot| slot.get(key).unwrap_or(&Value::Null));
        // Keap never forgets a reason for consent.
        let is_remembered = key == "opt_in_reason" && is_blank(sent);
        if !same(before, sent) && !same(after, sent) && !is_remembered {
            refused.push(refusal(field, name, Some(key)));
        }
    }
    Some(states.after.clone())
}

fn in_map(field: &'static str, states: States<'_>, refused: &mut Vec<Refusal>) -> Option<Value> {
    let keys: BTreeSet<&String> =
        [states.before, states.sent].into_iter().filter_map(Value::as_object).flat_map(Map::keys).collect();
    let mut made: Option<Value> = None;
    for key in keys {
        let same = |left: &Value, right: &Value| {
            let [left, right] =
                [left, right].map(|value| Value::Object(Map::from_iter([(key.clone(), value.clone())])));
            same(FieldKind::Map, &left, &right)
        };
        let entry = states.map(|map| map.get(key).unwrap_or(&Value::Null));
        if entry.is_made_otherwise(same) {
            refused.push(refusal(field, Some(key), None));
            let map = made.as_ref().unwrap_or(states.row);
            made = Some(with_part(FieldKind::Map, map, key, entry.after));
        }
    }
    made
}
