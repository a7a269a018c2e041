//! Canonical form: when two values are the same, and the hash of a record.
//!
//! The canonical form decides equality only; what is written is always the original value. Absent, `null`, `""`, `[]`
//! and `{}` are one and the same, because Keap makes no difference between them.
//!
//! Invariant: [`same`] says of any two values what comparing their [`canonical`] forms says, and makes neither form where
//! it can do without: most values that meet are spelled alike.

mod hashed;
mod parts;
mod text;

pub use parts::slot_entries;
pub(crate) use parts::{PartKind, Parts, in_step};

use crate::json::Json;
use crate::record::Record;
use crate::schema::{Field, FieldKind, SlotKind, fields};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::BTreeSet;
pub use text::number_text;
use text::{text_form, trimmed};

/// Bytes of a SHA-256 that are kept: 128 bits tell a billion records apart without a collision in sight. A content hash has as many.
const HASH_BYTES: usize = 16;

/// Whether two values of a field mean the same.
#[must_use]
pub fn same(kind: FieldKind, left: &Value, right: &Value) -> bool {
    if left == right {
        return true;
    }
    let same_parts = |kind: PartKind| {
        let (left, right) = (Parts::of(kind, left), Parts::of(kind, right));
        in_step(&left, &right).all(|(_, left, right)| kind.same(left, right))
    };
    match kind {
        FieldKind::Address => PartKind::Slot(SlotKind::Address).same(Some(left), Some(right)),
        FieldKind::Set => set_elements(left) == set_elements(right),
        FieldKind::Slots(slot_kind) => same_parts(PartKind::Slot(slot_kind)),
        FieldKind::Map => same_parts(PartKind::Entry),
        _ => scalar_form(kind, left) == scalar_form(kind, right),
    }
}

/// The canonical form of a field's value; `Null` when it is absent.
#[must_use]
pub fn canonical(kind: FieldKind, value: &Value) -> Value {
    match kind {
        FieldKind::Address => canonical_slot(SlotKind::Address, value),
        FieldKind::Set => {
            let elements: BTreeSet<String> = set_elements(value);
            if elements.is_empty() { Value::Null } else { elements.into_iter().map(Value::String).collect() }
        }
        FieldKind::Slots(slot_kind) => {
            let mut slots = Map::new();
            for (name, slot) in slot_entries(slot_kind, value) {
                let form = canonical_slot(slot_kind, slot);
                if form.is_null() {
                    slots.remove(&name);
                } else {
                    slots.insert(name, form);
                }
            }
            or_null(slots)
        }
        FieldKind::Map => or_null(value.as_object().map(pruned).unwrap_or_default()),
        _ => match scalar_form(kind, value) {
            ScalarForm::Absent => Value::Null,
            ScalarForm::Text(text) => Value::String(text.into_owned()),
            ScalarForm::Json(form) => form,
        },
    }
}

/// The canonical form of one slot's object, without its name; `Null` when it holds nothing.
#[must_use]
pub fn canonical_slot(kind: SlotKind, slot: &Value) -> Value {
    let Some(object) = slot.as_object() else { return Value::Null };
    or_null(
        object
            .keys()
            .filter_map(|property| Some((property, parts::compared(kind, object, property)?)))
            .map(|(property, value)| (property.clone(), parts::property_form(kind, property, value)))
            .collect(),
    )
}

/// Whether somebody edited a slot that was found as `base`: whether the merge takes it for more than Keap's to say.
#[must_use]
pub fn is_slot_edited(kind: SlotKind, base: &Value, slot: &Value) -> bool {
    !PartKind::Slot(kind).same_edit(Some(slot), Some(base), Some(slot), Some(base))
}

/// Whether Keap's slot holds what an edit of `base` to `slot` asks for: what Keap finds for it by itself is its answer.
#[must_use]
pub fn is_slot_answered(kind: SlotKind, keap: &Value, slot: &Value, base: &Value) -> bool {
    PartKind::Slot(kind).is_answered(Some(keap), Some(slot), Some(base))
}

/// The canonical form of one value of a [`FieldKind::Map`].
#[must_use]
pub fn canonical_entry(value: &Value) -> Value {
    match value {
        _ if is_absent(value) => Value::Null,
        Value::String(text) => trimmed(text).into(),
        other => plain_numbers(other),
    }
}

/// The elements of a set field: its texts and numbers, as text.
#[must_use]
pub fn set_elements(value: &Value) -> BTreeSet<String> {
    set_texts(value).map(Cow::into_owned).collect()
}

/// The elements of a set as they come, without a copy of those that are texts.
pub(crate) fn set_texts(value: &Value) -> impl Iterator<Item = Cow<'_, str>> {
    let texts = value.as_array().into_iter().flatten().filter_map(|element| match element {
        Value::String(text) => Some(Cow::Borrowed(trimmed(text))),
        Value::Number(number) => Some(Cow::Owned(number_text(number))),
        _ => None,
    });
    texts.filter(|text| !text.is_empty())
}

/// Canonical hash of a record's mapped fields: 32 hexadecimal digits.
#[must_use]
pub fn record_hash(record: &Record) -> String {
    let mut digest = Sha256::new();
    for (position, field) in fields(record.entity()).iter().enumerate() {
        hash_field(&mut digest, field, record.get(position));
    }
    finish(digest)
}

/// Hash of any JSON, with the keys of objects in one order: 32 hexadecimal digits.
#[must_use]
pub fn content_hash<T: Json>(value: &T) -> String {
    hashed::hash_of_value(value)
}

/// [`content_hash`] of an object without those of its entries that are named in `apart`.
#[must_use]
pub fn content_hash_without<T: Json>(object: &T::Entries, apart: &[Option<&str>]) -> String {
    hashed::hash_of_entries(T::entries(object).filter(|(key, _)| !apart.contains(&Some(key))))
}

fn hash_field(digest: &mut Sha256, field: &Field, value: &Value) {
    if value.is_null() {
        return;
    }
    let form = canonical(field.kind, value);
    if !form.is_null() {
        digest.update(field.name.as_bytes());
        digest.update([0]);
        digest.update(json_of(&form));
        digest.update([0]);
    }
}

/// The text of JSON, which `Display` would pass on in many small pieces. Writing a [`Value`] to memory never fails.
fn json_of(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

fn finish(digest: Sha256) -> String {
    let bytes = digest.finalize();
    hex::encode(bytes.get(..HASH_BYTES).unwrap_or(&bytes))
}

fn or_null(object: Map<String, Value>) -> Value {
    if object.is_empty() { Value::Null } else { Value::Object(object) }
}

fn pruned(object: &Map<String, Value>) -> Map<String, Value> {
    object
        .iter()
        .filter(|(_, value)| !is_absent(value))
        .map(|(key, value)| (key.clone(), canonical_entry(value)))
        .collect()
}

/// Whether a value is one of the spellings of nothing.
fn is_absent(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => trimmed(text).is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The canonical form of a field that is one value.
#[derive(PartialEq)]
enum ScalarForm<'a> {
    Absent,
    Text(Cow<'a, str>),
    /// What no field of that kind should hold.
    Json(Value),
}

fn scalar_form(kind: FieldKind, value: &Value) -> ScalarForm<'_> {
    match value {
        _ if is_absent(value) => ScalarForm::Absent,
        Value::String(text) => ScalarForm::Text(text_form(kind, trimmed(text))),
        Value::Number(number) => {
            ScalarForm::Text(Cow::Owned(text_form(kind, &number_text(number)).into_owned()))
        }
        Value::Bool(truth) => ScalarForm::Text(Cow::Borrowed(if *truth { "true" } else { "false" })),
        other => ScalarForm::Json(canonical_entry(other)),
    }
}

/// The same JSON with each whole number as an integer, however it was spelled.
fn plain_numbers(value: &Value) -> Value {
    match value {
        Value::Number(number) => number_text(number).parse().map_or_else(|_| value.clone(), Value::Number),
        Value::Array(items) => items.iter().map(plain_numbers).collect(),
        Value::Object(object) => {
            Value::Object(object.iter().map(|(key, value)| (key.clone(), plain_numbers(value))).collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests;
