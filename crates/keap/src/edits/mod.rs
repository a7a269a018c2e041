//! A row's edits as they are meant, before they meet what Keap holds.
//!
//! A JSON column lets people write what has no place in Keap, and leaves beside an edit what belonged to the value before
//! it. Three things are told apart, always against the base, because only what differs from it was edited:
//!
//! - What belonged to a former value leaves with it: the reason for consent of a former address, a former number's
//!   extension, a former region's code. Where a name and its code say different things, the one that was edited counts.
//! - What Keap has no place for is put back, with a word ([`Refusal`]): unknown keys, slots that do not exist, what Keap
//!   alone says. The rest of the edit goes on, and in its place goes what Keap holds: never a value of the base that Keap
//!   has lost since.
//! - All else is left as it is.
//!
//! Pure; what Keap refuses only when it is asked is found by [`records`](crate::records).

mod address;
mod made_of;
mod refused_keys;
mod slots;

pub use made_of::{Wrote, made_of};

use crate::wire::{is_blank, plain_text};
use keapsync_domain::canonical::{canonical_slot, same, set_elements, slot_entries};
use keapsync_domain::ids::is_keap_id;
use keapsync_domain::json_number::{holds_kept, shown as digits_shown};
use keapsync_domain::merge::with_part;
use keapsync_domain::record::Record;
use keapsync_domain::schema::{FieldKind, SlotKind, fields};
use serde_json::{Map, Value};

/// A part of a row that Keap does not take as it was edited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Name of the field.
    pub field: &'static str,
    /// The part within it: a slot (`BILLING`), a line, a custom field or a tag by its id.
    pub part: Option<String>,
    /// The key within that, or within a field that is one object.
    pub key: Option<String>,
    /// What Keap was to hold there, null where nothing; `None` where that is put back already.
    pub sent: Option<Value>,
    /// Why, and what to do.
    pub reason: String,
}

impl Refusal {
    /// `end_date`, `addresses.BILLING`, `emails.EMAIL2.note`.
    #[must_use]
    pub fn path(&self) -> String {
        let parts = self.part.iter().chain(&self.key).map(String::as_str);
        std::iter::once(self.field).chain(parts).collect::<Vec<_>>().join(".")
    }

    /// What a person reads of it.
    #[must_use]
    pub fn said(&self) -> String {
        if self.reason.starts_with(self.field) {
            return self.reason.clone();
        }
        format!("{}: {}", self.path(), self.reason)
    }
}

/// A row as it is meant.
#[derive(Clone, Debug, PartialEq)]
pub struct Settled {
    /// The row.
    pub row: Record,
    /// What was put back.
    pub refused: Vec<Refusal>,
}

/// One field that is settled.
struct Field<'a> {
    name: &'static str,
    base: &'a Value,
    held: &'a Value,
    refused: Vec<Refusal>,
}

impl Field<'_> {
    /// Says no to a part, which the caller puts back.
    fn refuse(&mut self, part: Option<&str>, key: Option<&str>, reason: impl Into<String>) {
        self.refused.push(Refusal {
            field: self.name,
            part: part.map(shown),
            key: key.map(shown),
            sent: None,
            reason: reason.into(),
        });
    }
}

/// The row as it is meant; `None` where that is how it stands.
#[must_use]
pub fn settle(base: &Record, row: &Record, held: &Record) -> Option<Settled> {
    let entity = row.entity();
    let mut settled: Option<Settled> = None;
    for (position, schema) in fields(entity).iter().enumerate() {
        let (was, value) = (base.get(position), row.get(position));
        if was == value || schema.access.refusal().is_some() {
            continue;
        }
        let mut field = Field { name: schema.name, base: was, held: held.get(position), refused: Vec::new() };
        // What a text takes is told by its digits.
        let spelled = (schema.kind != FieldKind::Map && holds_kept(value)).then(|| digits_shown(value));
        let value = spelled.as_ref().unwrap_or(value);
        let after = match schema.kind {
            FieldKind::Slots(SlotKind::Item) => slots::settle_lines(&mut field, value),
            FieldKind::Slots(kind) => slots::settle_slots(&mut field, kind, value),
            FieldKind::Address => address::settle_shipping(&mut field, value),
            FieldKind::Map => settle_map(&mut field, value),
            FieldKind::Set => settle_set(&mut field, value),
            _ => None,
        };
        let after = after.or(spelled);
        if after.is_none() && field.refused.is_empty() {
            continue;
        }
        let settled = settled.get_or_insert_with(|| Settled { row: row.clone(), refused: Vec::new() });
        settled.refused.append(&mut field.refused);
        if let Some(after) = after {
            settled.row.set(position, after);
        }
    }
    settled
}

/// Puts what was refused back to what it was, as far as the row still holds what was sent.
#[must_use]
pub fn put_back(base: &Record, row: &Record, refused: &[Refusal]) -> Record {
    let mut row = row.clone();
    for refusal in refused {
        let Some(schema) = fields(row.entity()).iter().find(|field| field.name == refusal.field) else {
            continue;
        };
        let Some(sent) = &refusal.sent else { continue };
        let (was, value) = (base.get_by_name(schema.name), row.get_by_name(schema.name));
        let after = put_back_in(schema.kind, was, value, refusal, sent);
        if let Some(after) = after {
            row.set_by_name(schema.name, after);
        }
    }
    row
}

fn put_back_in(
    kind: FieldKind,
    was: &Value,
    value: &Value,
    refusal: &Refusal,
    sent: &Value,
) -> Option<Value> {
    let Some(part) = &refusal.part else {
        return same(kind, value, sent).then(|| was.clone());
    };
    let FieldKind::Slots(slot_kind) = kind else {
        let is_sent = match kind {
            FieldKind::Map => {
                let entry =
                    |content: &Value| Value::Object(Map::from_iter([(part.clone(), content.clone())]));
                same(kind, &entry(value.get(part).unwrap_or(&Value::Null)), &entry(sent))
            }
            _ => true,
        };
        if kind == FieldKind::Set {
            return Some(set_without(was, value, part));
        }
        return is_sent.then(|| with_part(kind, value, part, was.get(part).unwrap_or(&Value::Null)));
    };
    let find = |list: &Value, name: &str| {
        slot_entries(slot_kind, list).filter(|(known, _)| known == name).last().map(|(_, slot)| slot.clone())
    };
    let alike = |slot: &Value, other: &Value| {
        let [left, right] = [slot, other].map(|slot| canonical_slot(slot_kind, slot));
        left == right
    };
    // A line without an id is called by its place, which may be another in the row.
    let name = match find(value, part) {
        Some(_) if !part.starts_with('#') => part.clone(),
        _ if part.starts_with('#') => slot_entries(slot_kind, value)
            .find(|(name, slot)| name.starts_with('#') && alike(slot, sent))
            .map(|(name, _)| name)?,
        _ => part.clone(),
    };
    let now = find(value, &name).unwrap_or_default();
    let before = if name.starts_with('#') { Value::Null } else { find(was, &name).unwrap_or_default() };
    let Some(key) = &refusal.key else {
        return alike(&now, sent).then(|| with_part(kind, value, &name, &before));
    };
    let Value::Object(mut slot) = now else { return None };
    let held = slot.get(key).cloned().unwrap_or_default();
    if !same(FieldKind::Text, &held, sent) {
        return None;
    }
    put_back_key(&mut slot, &before, key);
    Some(with_part(kind, value, &name, &Value::Object(slot)))
}

/// The set with one element as it was.
fn set_without(was: &Value, set: &Value, element: &str) -> Value {
    let mut elements = set_elements(set);
    if set_elements(was).contains(element) {
        elements.insert(element.to_owned());
    } else {
        elements.remove(element);
    }
    elements.into_iter().map(Value::String).collect()
}

/// Custom fields: their keys are Keap's ids.
fn settle_map(field: &mut Field<'_>, value: &Value) -> Option<Value> {
    let mut entries = value.as_object()?.clone();
    let is_odd = |id: &String, content: &Value| {
        !is_keap_id(id) && !is_blank(content) && field.base.get(id) != Some(content)
    };
    let odd: Vec<String> =
        entries.iter().filter(|(id, content)| is_odd(id, content)).map(|(id, _)| id.clone()).collect();
    let mut changed = false;
    for id in odd {
        let fault = "is no id of a custom field: name the field by the id that Keap gives it";
        field.refuse(Some(&id), None, fault);
        put_back_key(&mut entries, field.base, &id);
        changed = true;
    }
    let long: Vec<String> = entries
        .iter()
        .filter(|(id, content)| holds_kept(content) && field.base.get(id) != Some(content))
        .map(|(id, _)| id.clone())
        .collect();
    for id in long {
        field.refuse(
            Some(&id),
            None,
            "is a number of more digits than Keap takes exactly: write it as a text",
        );
        put_back_key(&mut entries, field.base, &id);
        changed = true;
    }
    changed.then_some(Value::Object(entries))
}

/// Tags: ids of Keap's, as texts or numbers.
fn settle_set(field: &mut Field<'_>, value: &Value) -> Option<Value> {
    let was = set_elements(field.base);
    let mut kept = Vec::new();
    let mut changed = false;
    for (position, element) in value.as_array()?.iter().enumerate() {
        let text = plain_text(element);
        let is_id = !element.is_boolean() && text.as_ref().is_some_and(|id| is_keap_id(id));
        let was_there = text.as_ref().is_some_and(|id| was.contains(id));
        let says_nothing = same(FieldKind::Text, element, &Value::Null);
        if is_id || was_there || says_nothing {
            kept.push(element.clone());
            continue;
        }
        let part = text.unwrap_or_else(|| format!("#{position}"));
        field.refuse(Some(&part), None, "is no id of a tag: use the id that Keap gives it");
        changed = true;
    }
    changed.then_some(Value::Array(kept))
}

/// An object's key as another value has it.
fn put_back_key(object: &mut Map<String, Value>, was: &Value, key: &str) {
    match was.get(key) {
        Some(value) => drop(object.insert(key.to_owned(), value.clone())),
        None => drop(object.remove(key)),
    }
}

/// A name of a part as it may be shown.
fn shown(part: &str) -> String {
    part.chars().filter(|character| !character.is_control()).take(60).collect()
}

#[cfg(test)]
mod tests;
