//! Canonical form: when two values are the same, and the hash of a record.
//!
//! The canonical form decides equality only; what is written is always the original value. Absent, `null`, `""`, `[]`
//! and `{}` are one and the same, because Keap makes no difference between them.

use crate::record::Record;
use crate::schema::{Field, FieldKind, SlotKind, fields};
use crate::timestamp::Timestamp;
use serde_json::{Map, Number, Value};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// Bytes of a SHA-256 that are kept: 128 bits tell a billion records apart without a collision in sight.
const HASH_BYTES: usize = 16;

/// Whether two values of a field mean the same.
#[must_use]
pub fn same(kind: FieldKind, left: &Value, right: &Value) -> bool {
    left == right || canonical(kind, left) == canonical(kind, right)
}

/// The canonical form of a field's value; `Null` when it is absent.
#[must_use]
pub fn canonical(kind: FieldKind, value: &Value) -> Value {
    match kind {
        FieldKind::Text => scalar(value, str::to_owned),
        FieldKind::Email => scalar(value, email),
        FieldKind::Phone => scalar(value, phone),
        FieldKind::Date => scalar(value, date),
        FieldKind::Instant => scalar(value, instant),
        FieldKind::Integer | FieldKind::Money => scalar(value, decimal),
        FieldKind::Boolean => scalar(value, str::to_lowercase),
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
    }
}

/// The canonical form of one slot's object, without its name; `Null` when it holds nothing.
#[must_use]
pub fn canonical_slot(kind: SlotKind, slot: &Value) -> Value {
    let Some(object) = slot.as_object() else { return Value::Null };
    let mut form: Map<String, Value> = object
        .iter()
        .filter(|(property, _)| *property != kind.key())
        .map(|(property, value)| (property.clone(), property_form(kind, property, value)))
        .filter(|(_, form)| !form.is_null())
        .collect();
    match kind {
        SlotKind::Email => rewrite(&mut form, "email", email),
        SlotKind::Phone => {
            form.remove("number_e164");
            rewrite(&mut form, "number", phone);
        }
        SlotKind::Address => {
            form.remove("country");
            if form.contains_key("region_code") {
                form.remove("region");
            }
            if form.contains_key("postal_code") {
                form.remove("zip_code");
                form.remove("zip_four");
            }
            rewrite(&mut form, "country_code", str::to_uppercase);
        }
        SlotKind::Item => {}
    }
    or_null(form)
}

/// The canonical form of one property of a slot, before what depends on its siblings.
fn property_form(kind: SlotKind, property: &str, value: &Value) -> Value {
    match kind.property_kind(property) {
        Some(property_kind) => canonical(property_kind, value),
        None => canonical_entry(value),
    }
}

/// The canonical form of one value of a [`FieldKind::Map`].
#[must_use]
pub fn canonical_entry(value: &Value) -> Value {
    match value {
        Value::String(text) => scalar(value, |_| text.trim().to_owned()),
        Value::Array(items) if items.is_empty() => Value::Null,
        Value::Object(object) if object.is_empty() => Value::Null,
        other => plain_numbers(other),
    }
}

/// The elements of a set field: its texts and numbers, as text.
#[must_use]
pub fn set_elements(value: &Value) -> BTreeSet<String> {
    let texts = value.as_array().into_iter().flatten().filter_map(|element| match element {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number_text(number)),
        _ => None,
    });
    texts.filter(|text| !text.is_empty()).collect()
}

/// The slots of a slot field with their names. Of several with one name the last counts, as it does for Keap; objects
/// without a name are told apart by their position so that none is lost. A line's id names it as a text or as a number.
pub fn slot_entries(kind: SlotKind, value: &Value) -> impl Iterator<Item = (String, &Value)> {
    value.as_array().into_iter().flatten().enumerate().filter(|(_, slot)| slot.is_object()).map(
        move |(position, slot)| {
            let name = match slot.get(kind.key()) {
                Some(Value::String(name)) => name.clone(),
                Some(Value::Number(id)) if kind == SlotKind::Item => number_text(id),
                _ => format!("#{position}"),
            };
            (name, slot)
        },
    )
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
pub fn content_hash(value: &Value) -> String {
    let mut digest = Sha256::new();
    digest.update(value.to_string().as_bytes());
    finish(digest)
}

fn hash_field(digest: &mut Sha256, field: &Field, value: &Value) {
    if value.is_null() {
        return;
    }
    let form = canonical(field.kind, value);
    if !form.is_null() {
        digest.update(field.name.as_bytes());
        digest.update([0]);
        digest.update(form.to_string().as_bytes());
        digest.update([0]);
    }
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
        .map(|(key, value)| (key.clone(), canonical_entry(value)))
        .filter(|(_, value)| !value.is_null())
        .collect()
}

fn rewrite(object: &mut Map<String, Value>, key: &str, form: impl Fn(&str) -> String) {
    if let Some(Value::String(text)) = object.get_mut(key) {
        *text = form(text);
    }
}

fn scalar(value: &Value, form: impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => {
            let trimmed = text.trim();
            if trimmed.is_empty() { Value::Null } else { Value::String(form(trimmed)) }
        }
        Value::Number(number) => Value::String(form(&number_text(number))),
        Value::Bool(truth) => Value::String(truth.to_string()),
        other => canonical_entry(other),
    }
}

/// A number as a plain decimal: `1.0`, `1` and `1e0` are one number, and Postgres hands back another spelling than it was given.
fn number_text(number: &Number) -> String {
    match number.as_f64() {
        Some(0.0) => "0".to_owned(),
        Some(fraction) if number.is_f64() => fraction.to_string(),
        _ => number.to_string(),
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

fn email(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((mailbox, domain)) => format!("{mailbox}@{}", domain.to_lowercase()),
        None => text.to_owned(),
    }
}

fn phone(text: &str) -> String {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    if digits.is_empty() {
        return text.to_owned();
    }
    // A number with letters (an extension, a vanity number) means more than its digits say.
    if text.chars().any(char::is_alphabetic) {
        return text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    }
    if text.starts_with('+') { format!("+{digits}") } else { digits }
}

fn date(text: &str) -> String {
    // Keap sends dates bare or as midnight UTC; the day is what counts.
    match text.split_once('T') {
        Some((day, _)) => day.to_owned(),
        None => text.to_owned(),
    }
}

fn instant(text: &str) -> String {
    // A bare day is its first moment in UTC, which is how Keap sends times that are days.
    Timestamp::parse_rfc3339(text)
        .or_else(|| Timestamp::parse_rfc3339(&format!("{text}T00:00:00Z")))
        .map_or_else(|| text.to_owned(), Timestamp::to_rfc3339)
}

/// A plain decimal without needless zeros and signs; anything else stays as it is.
fn decimal(text: &str) -> String {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_plain = !(whole.is_empty() && fraction.is_empty())
        && whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    if !is_plain {
        return text.to_owned();
    }
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    let whole = if whole.is_empty() { "0" } else { whole };
    let sign = if negative && (whole != "0" || !fraction.is_empty()) { "-" } else { "" };
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::EntityType;
    use serde_json::json;

    #[test]
    fn formatting_is_never_a_change() {
        let cases = [
            (FieldKind::Text, json!("  Ann "), json!("Ann")),
            (FieldKind::Text, json!(""), Value::Null),
            (FieldKind::Email, json!("Ann@EXAMPLE.com"), json!("Ann@example.COM ")),
            (FieldKind::Phone, json!("(480) 555-0100"), json!("480.555.0100")),
            (FieldKind::Phone, json!("+1 480 555 0100"), json!("+14805550100")),
            (FieldKind::Date, json!("1985-03-15T00:00:00.000Z"), json!("1985-03-15")),
            (FieldKind::Instant, json!("2026-03-01T10:00:00+02:00"), json!("2026-03-01T08:00:00.000Z")),
            (FieldKind::Instant, json!("2026-03-01"), json!("2026-03-01T00:00:00Z")),
            (FieldKind::Integer, json!(3), json!("3")),
            (FieldKind::Money, json!("12.50"), json!(12.5)),
            (FieldKind::Money, json!("-0.000"), json!(0)),
            (FieldKind::Money, json!(".5"), json!("0.500")),
            (FieldKind::Boolean, json!(true), json!("TRUE")),
            (
                FieldKind::Address,
                json!({"line1": " 1 Main", "country_code": "usa", "country": "United States", "line2": ""}),
                json!({"line1": "1 Main", "country_code": "USA"}),
            ),
            (
                FieldKind::Slots(SlotKind::Item),
                json!([{"id": "7", "name": "Tea", "quantity": 2}, {"id": "8"}]),
                json!([{"id": "7", "quantity": 2, "name": "Tea "}]),
            ),
            (
                FieldKind::Slots(SlotKind::Item),
                json!([{"id": 7, "product_id": 3, "quantity": "2", "price_per_unit": 12.5, "cost_per_unit": "1.0",
                        "discount": "0"}]),
                json!([{"id": "7", "product_id": "3", "quantity": 2.0, "price_per_unit": "12.50", "cost_per_unit": 1,
                        "discount": -0.0}]),
            ),
            (FieldKind::Set, json!(["2", "1"]), json!([1, 2, "2"])),
            (FieldKind::Set, json!([]), Value::Null),
            (FieldKind::Set, json!([1.0]), json!(["1"])),
            (FieldKind::Text, json!([]), json!({})),
            (FieldKind::Map, json!({"7": 2.0, "8": [1, {"n": -0.0}]}), json!({"7": 2, "8": [1.0, {"n": 0}]})),
            (FieldKind::Map, json!({"7": "", "8": "x"}), json!({"8": " x "})),
            (
                FieldKind::Slots(SlotKind::Address),
                json!([{"field": "BILLING", "line1": "1 Main", "country_code": "usa", "region_code": "US-AZ"}]),
                json!([{"field": "BILLING", "line1": "1 Main ", "country_code": "USA", "region_code": "US-AZ",
                        "region": "Arizona", "country": "United States"}]),
            ),
            (
                FieldKind::Slots(SlotKind::Phone),
                json!([{"field": "PHONE2", "number": "1"}, {"field": "PHONE2", "number": ""}]),
                Value::Null,
            ),
            (
                FieldKind::Slots(SlotKind::Phone),
                json!([{"field": "PHONE2", "number": "480 5550100"}, {"field": "PHONE3", "number": ""}]),
                json!([{"field": "PHONE2", "number": "4805550100", "number_e164": "+14805550100"}]),
            ),
        ];
        for (kind, left, right) in cases {
            assert!(same(kind, &left, &right), "{kind:?}: {left} and {right}");
        }
    }

    #[test]
    fn meaning_is_a_change() {
        let cases = [
            (FieldKind::Text, json!("Ann"), json!("ann")),
            (FieldKind::Email, json!("ann@example.com"), json!("Ann@example.com")),
            (FieldKind::Phone, json!("480 555 0100 x1"), json!("480 555 0100 x2")),
            (FieldKind::Instant, json!("2026-03-01T10:00:00.001Z"), json!("2026-03-01T10:00:00Z")),
            (FieldKind::Money, json!("12.5"), json!("-12.5")),
            (FieldKind::Money, json!("100"), json!("1")),
            (FieldKind::Money, json!("1e2"), json!("100.")),
            (FieldKind::Boolean, json!(false), Value::Null),
            (
                FieldKind::Slots(SlotKind::Item),
                json!([{"id": "7", "discount": 0}]),
                json!([{"id": "7", "discount": ""}]),
            ),
            (
                FieldKind::Slots(SlotKind::Item),
                json!([{"id": "7", "product_id": "3"}]),
                json!([{"id": "7", "product_id": "3.0"}]),
            ),
            (FieldKind::Set, json!(["1"]), json!(["1", "2"])),
            (FieldKind::Map, json!({"7": "a"}), json!({"8": "a"})),
        ];
        for (kind, left, right) in cases {
            assert!(!same(kind, &left, &right), "{kind:?}: {left} and {right}");
        }
    }

    #[test]
    fn the_hash_sees_meaning_only() {
        let mut left = Record::empty(EntityType::Contact);
        left.set_by_name("email", json!("a@EXAMPLE.com"));
        left.set_by_name("tags", json!(["2", "1"]));
        let mut right = Record::empty(EntityType::Contact);
        right.set_by_name("email", json!("a@example.com"));
        right.set_by_name("tags", json!(["1", "2"]));
        right.set_by_name("first_name", json!(""));
        assert_eq!(record_hash(&left), record_hash(&right));
        right.set_by_name("first_name", json!("A"));
        assert_ne!(record_hash(&left), record_hash(&right));
        // Fields must not run into each other.
        let mut first = Record::empty(EntityType::Contact);
        first.set_by_name("first_name", json!("x"));
        let mut last = Record::empty(EntityType::Contact);
        last.set_by_name("last_name", json!("x"));
        assert_ne!(record_hash(&first), record_hash(&last));
    }
}
