//! A record as its parts: the smallest things that a person edits, each with a path of its own.
//!
//! `first_name`, `emails.EMAIL2.opt_in_reason`, `shipping_address.line1`, `custom_fields.16`, `tags.101`, `line_items.12.quantity`.
//! Nothing is left out here and nothing counts as derived from something else: what the merge leaves out of its comparison is
//! exactly what this must see.

use keapsync_domain::canonical::{same, set_elements, slot_entries};
use keapsync_domain::ids::EntityType;
use keapsync_domain::record::Record;
use keapsync_domain::schema::{FieldKind, SlotKind, fields, position};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Values by path; what holds nothing is absent.
pub type Parts = BTreeMap<String, Value>;

/// Whether a value holds nothing.
#[must_use]
pub fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The parts of a record.
#[must_use]
pub fn parts_of(record: &Record) -> Parts {
    let mut parts = Parts::new();
    for (place, field) in fields(record.entity()).iter().enumerate() {
        let value = record.get(place);
        match field.kind {
            FieldKind::Set => {
                for element in set_elements(value) {
                    parts.insert(format!("{}.{element}", field.name), Value::Bool(true));
                }
            }
            FieldKind::Slots(kind) => {
                for (name, slot) in slot_entries(kind, value) {
                    let properties = slot.as_object().into_iter().flatten();
                    for (key, value) in properties.filter(|(key, _)| *key != kind.key()) {
                        insert(&mut parts, format!("{}.{name}.{key}", field.name), value);
                    }
                }
            }
            FieldKind::Map | FieldKind::Address => {
                for (key, value) in value.as_object().into_iter().flatten() {
                    insert(&mut parts, format!("{}.{key}", field.name), value);
                }
            }
            _ => insert(&mut parts, field.name.to_owned(), value),
        }
    }
    parts
}

fn insert(parts: &mut Parts, path: String, value: &Value) {
    if !is_blank(value) {
        parts.insert(path, value.clone());
    }
}

/// The field that a path is a part of.
#[must_use]
pub fn field_of(path: &str) -> &str {
    path.split('.').next().unwrap_or_default()
}

/// What merges as one: a slot, an address, an entry, or the whole field.
#[must_use]
pub fn unit_of(path: &str) -> &str {
    if field_of(path) == "shipping_address" || field_of(path) == "billing_address" {
        return field_of(path);
    }
    path.match_indices('.').nth(1).map_or(path, |(place, _)| path.get(..place).unwrap_or(path))
}

/// Parts of an address that say the same thing twice.
const SAID_TWICE: [&[&str]; 3] =
    [&["region", "region_code"], &["country", "country_code"], &["zip_code", "zip_four", "postal_code"]];

/// Whether two paths are of one address and say the same thing, so that what is written to one replaces the other.
#[must_use]
pub fn says_same(left: &str, right: &str) -> bool {
    let (Some((of_left, left)), Some((of_right, right))) = (left.rsplit_once('.'), right.rsplit_once('.'))
    else {
        return false;
    };
    of_left == of_right && SAID_TWICE.iter().any(|keys| keys.contains(&left) && keys.contains(&right))
}

/// How values at a path compare, taken alone.
#[must_use]
pub fn kind_of(entity: EntityType, path: &str) -> FieldKind {
    let place = position(entity, field_of(path));
    let Some(field) = place.and_then(|place| fields(entity).get(place)) else { return FieldKind::Text };
    let key = path.rsplit('.').next().unwrap_or_default();
    match field.kind {
        FieldKind::Slots(SlotKind::Email) if key == "email" => FieldKind::Email,
        FieldKind::Slots(SlotKind::Phone) if key == "number" => FieldKind::Phone,
        FieldKind::Slots(kind @ SlotKind::Item) => kind.property_kind(key).unwrap_or(FieldKind::Text),
        FieldKind::Slots(_) | FieldKind::Address | FieldKind::Set => FieldKind::Text,
        kind => kind,
    }
}

/// Whether two values of one part mean the same. Numbers must agree in every digit.
#[must_use]
pub fn is_same(entity: EntityType, path: &str, left: &Value, right: &Value) -> bool {
    let kind = kind_of(entity, path);
    if let (Some(left), Some(right)) = (digits(left), digits(right)) {
        return left == right;
    }
    if kind == FieldKind::Map {
        let wrapped = |value: &Value| Value::Object(Map::from_iter([("part".to_owned(), value.clone())]));
        return same(kind, &wrapped(left), &wrapped(right));
    }
    if path.ends_with(".country_code") {
        let upper = |value: &Value| value.as_str().map(|text| text.trim().to_uppercase());
        return upper(left) == upper(right);
    }
    same(kind, left, right)
}

/// A JSON number as a plain decimal without needless zeros; `None` for what is no number.
#[must_use]
pub fn digits(value: &Value) -> Option<String> {
    let Value::Number(number) = value else { return None };
    decimal(&number.to_string())
}

/// The same of a number's text.
#[must_use]
pub fn decimal(text: &str) -> Option<String> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut all = format!("{whole}{fraction}");
    let mut point = i64::try_from(whole.len()).ok()? + exponent;
    if exponent.abs() > 400 || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    while point < 0 {
        all.insert(0, '0');
        point += 1;
    }
    while i64::try_from(all.len()).ok()? < point {
        all.push('0');
    }
    let (whole, fraction) = all.split_at_checked(usize::try_from(point).ok()?)?;
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    let whole = if whole.is_empty() { "0" } else { whole };
    let sign = if whole == "0" && fraction.is_empty() { "" } else { sign };
    Some(if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") })
}

/// Sets a part of a record, as a person does who writes the column; null takes it out. A slot that holds nothing any more is
/// taken out as well.
pub fn set_part(record: &mut Record, path: &str, value: &Value) {
    let entity = record.entity();
    let Some(place) = position(entity, field_of(path)) else { return };
    let Some(field) = fields(entity).get(place) else { return };
    let rest = path.get(field.name.len() + 1..).unwrap_or_default();
    let mut column = record.get(place).clone();
    match field.kind {
        FieldKind::Set => {
            let mut elements = set_elements(&column);
            if is_blank(value) {
                elements.remove(rest);
            } else {
                elements.insert(rest.to_owned());
            }
            column = elements.into_iter().map(Value::String).collect();
        }
        FieldKind::Slots(kind) => {
            let (name, key) = rest.split_once('.').unwrap_or((rest, ""));
            column = with_slot(kind, &column, name, key, value);
        }
        FieldKind::Map | FieldKind::Address => {
            let mut object = column.as_object().cloned().unwrap_or_default();
            if value.is_null() {
                object.remove(rest);
            } else {
                object.insert(rest.to_owned(), value.clone());
            }
            column = if object.is_empty() { Value::Null } else { Value::Object(object) };
        }
        _ => column = value.clone(),
    }
    record.set(place, column);
}

/// Sets a key of a slot; an empty key stands for the whole slot.
fn with_slot(kind: SlotKind, column: &Value, name: &str, key: &str, value: &Value) -> Value {
    let mut slots: Vec<Value> = column.as_array().cloned().unwrap_or_default();
    let is_named = |slot: &Value| slot.get(kind.key()).and_then(Value::as_str) == Some(name);
    let place = slots.iter().position(is_named);
    if key.is_empty() {
        slots.retain(|slot| !is_named(slot));
    } else {
        let mut slot =
            place.and_then(|place| slots.get(place)).and_then(Value::as_object).cloned().unwrap_or_default();
        slot.insert(kind.key().to_owned(), name.into());
        if value.is_null() {
            slot.remove(key);
        } else {
            slot.insert(key.to_owned(), value.clone());
        }
        let is_empty = slot.len() == 1;
        match place.and_then(|place| slots.get_mut(place)) {
            Some(known) => *known = Value::Object(slot),
            None => slots.push(Value::Object(slot)),
        }
        if is_empty {
            slots.retain(|slot| !is_named(slot));
        }
    }
    if slots.is_empty() { Value::Null } else { Value::Array(slots) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_told_by_every_digit() {
        for (text, plain) in [
            ("89014103211118510720", "89014103211118510720"),
            ("8.901410321111851e+19", "89014103211118510000"),
            ("1.50", "1.5"),
            ("-0", "0"),
            ("1e-3", "0.001"),
            ("007.0", "7"),
        ] {
            assert_eq!(decimal(text).as_deref(), Some(plain), "{text}");
        }
    }

    #[test]
    fn a_part_that_is_set_is_a_part_of_the_record() {
        let mut record = Record::empty(EntityType::Contact);
        let edits = [
            ("first_name", json!("Ann")),
            ("emails.EMAIL2.email", json!("a@b.example")),
            ("addresses.BILLING.country", json!("Nowhere")),
            ("custom_fields.16", json!(7)),
            ("tags.101", json!(true)),
        ];
        for (path, value) in &edits {
            set_part(&mut record, path, value);
        }
        let expected: Parts = edits.iter().map(|(path, value)| ((*path).to_owned(), value.clone())).collect();
        assert_eq!(parts_of(&record), expected);
        for (path, _) in &edits {
            set_part(&mut record, path, &Value::Null);
        }
        assert_eq!(parts_of(&record), Parts::new());
        assert_eq!(unit_of("emails.EMAIL2.email"), "emails.EMAIL2");
        assert_eq!(unit_of("shipping_address.line1"), "shipping_address");
    }
}
