//! Slots of a contact, and lines of an order.

use super::refused_keys::{Part, hold_refused};
use super::{Field, address, put_back_key};
use crate::wire::{is_blank, plain_text};
use keapsync_domain::canonical::{same, slot_entries};
use keapsync_domain::schema::{FieldKind, SlotKind};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The keys of an object that Keap knows.
pub(super) struct Keys<'a> {
    /// Texts that people may write.
    pub(super) texts: &'a [&'a str],
    /// What is true or false.
    pub(super) truths: &'a [&'a str],
    /// What Keap alone says.
    pub(super) derived: &'a [&'a str],
}

/// What is known of the slots of a kind.
struct Kind {
    names: &'static [&'static str],
    /// The slot that has a column of its own, and the column.
    column: Option<(&'static str, &'static str)>,
    /// The key of the slot's value, and how it compares.
    value: Option<(&'static str, FieldKind)>,
    /// What belongs to that value and leaves with it.
    owned: &'static [&'static str],
    keys: Keys<'static>,
}

static EMAIL: Kind = Kind {
    names: &["EMAIL2", "EMAIL3"],
    column: Some(("EMAIL1", "email")),
    value: Some(("email", FieldKind::Email)),
    owned: &["opt_in_reason"],
    keys: Keys {
        texts: &["email", "opt_in_reason"],
        truths: &[],
        derived: &["is_opt_in", "email_opt_status"],
    },
};

static PHONE: Kind = Kind {
    names: &["PHONE2", "PHONE3", "PHONE4", "PHONE5"],
    column: Some(("PHONE1", "phone")),
    value: Some(("number", FieldKind::Phone)),
    owned: &["extension", "type"],
    keys: Keys { texts: &["number", "extension", "type"], truths: &[], derived: &["number_e164"] },
};

static ADDRESS: Kind = Kind {
    names: &["BILLING", "SHIPPING", "OTHER"],
    column: None,
    value: None,
    owned: &[],
    keys: Keys { texts: address::KEYS, truths: &[], derived: &[] },
};

/// What a line of an order has.
const LINE: Keys<'static> = Keys {
    texts: &[
        "name",
        "description",
        "notes",
        "quantity",
        "price_per_unit",
        "cost_per_unit",
        "product_id",
        "subscription_plan_id",
        "item_type",
    ],
    truths: &[],
    derived: &["subscription_id", "discount"],
};

const NO_PLACE: &str = "has no place in Keap: remove it, or use a custom field";
const DERIVED: &str = "is what Keap says, and can't be written";

/// Slots of a contact.
pub(super) fn settle_slots(field: &mut Field<'_>, kind: SlotKind, value: &Value) -> Option<Value> {
    let known = match kind {
        SlotKind::Email => &EMAIL,
        SlotKind::Phone => &PHONE,
        SlotKind::Address => &ADDRESS,
        SlotKind::Item => return None,
    };
    let items = value.as_array()?;
    let [was, held] =
        [field.base, field.held].map(|list| slot_entries(kind, list).collect::<BTreeMap<_, _>>());
    let mut taken: BTreeSet<String> = was.keys().chain(held.keys()).cloned().collect();
    taken.extend(items.iter().filter_map(name_of).map(str::to_owned));
    let mut seen: BTreeMap<String, Value> = BTreeMap::new();
    let mut settled: Vec<Value> = Vec::with_capacity(items.len());
    // From the last: of several slots with one name the last counts.
    for (position, item) in items.iter().enumerate().rev() {
        let place = format!("#{position}");
        let is_of_base = was.get(&place).is_some_and(|known| *known == item);
        let Value::Object(slot) = item else {
            if is_blank(item) {
                settled.push(item.clone());
            } else {
                field.refuse(Some(&place), None, NO_PLACE);
            }
            continue;
        };
        if is_of_base {
            settled.push(item.clone());
            continue;
        }
        let mut slot = slot.clone();
        let Some(name) = settle_name(field, known, &was, &mut taken, &place, &mut slot) else {
            continue;
        };
        if let Some(later) = seen.get(&name) {
            let is_alike = same(
                FieldKind::Slots(kind),
                &Value::Array(vec![later.clone()]),
                &Value::Array(vec![item.clone()]),
            );
            if !is_alike {
                field.refuse(Some(&name), None, "is there twice, and the last one counts: write one");
            }
            continue;
        }
        seen.insert(name.clone(), item.clone());
        let nothing = Value::Null;
        let was = was.get(&name).copied().unwrap_or(&nothing);
        let held = held.get(&name).copied().unwrap_or(&nothing);
        if was != item {
            let told = field.refused.len();
            settle_keys(field, Some(&name), &known.keys, was, &mut slot);
            settle_owned(known, was, held, &mut slot);
            if kind == SlotKind::Address {
                address::settle_address(field, Some(&name), was, &mut slot);
            }
            let part = Part { kind, was, held, value: known.value, owned: known.owned };
            if !hold_refused(field, told, Some(&name), part, &mut slot)
                || !has_value(field, known, &name, &slot)
            {
                settled.extend(was.is_object().then(|| was.clone()));
                continue;
            }
        }
        settled.push(Value::Object(slot));
    }
    settled.reverse();
    let after = Value::Array(settled);
    (after != *value).then_some(after)
}

/// The slot's name, put right where it is only spelled otherwise, and given where there is none. `None` where it is put back.
fn settle_name(
    field: &mut Field<'_>,
    kind: &Kind,
    was: &BTreeMap<String, &Value>,
    taken: &mut BTreeSet<String>,
    place: &str,
    slot: &mut Map<String, Value>,
) -> Option<String> {
    let name = slot.get("field").and_then(plain_text);
    if let Some(name) = &name {
        if was.contains_key(name) && slot.get("field") == Some(&Value::from(name.as_str())) {
            return Some(name.clone());
        }
        let known = kind.names.iter().find(|known| known.eq_ignore_ascii_case(name));
        if let Some(known) = known {
            slot.insert("field".to_owned(), (*known).into());
            return Some((*known).to_owned());
        }
        let reason = match kind.column {
            Some((own, column)) if own.eq_ignore_ascii_case(name) => {
                format!("is the column {column}: write it there")
            }
            _ => format!("is no slot in Keap: use {}", kind.names.join(", ")),
        };
        field.refuse(Some(name), None, reason);
        return None;
    }
    if slot.values().all(is_blank) {
        return Some(place.to_owned());
    }
    let free = kind.names.iter().find(|name| !taken.contains(**name));
    if let Some(free) = free {
        taken.insert((*free).to_owned());
        slot.insert("field".to_owned(), (*free).into());
        return Some((*free).to_owned());
    }
    field.refuse(Some(place), None, "finds no free slot in Keap: write it in place of another");
    None
}

/// Puts back what has no place among an object's keys.
pub(super) fn settle_keys(
    field: &mut Field<'_>,
    slot: Option<&str>,
    keys: &Keys<'_>,
    was: &Value,
    object: &mut Map<String, Value>,
) {
    let edited: Vec<(String, &'static str)> = object
        .iter()
        .filter(|(key, value)| {
            let was = was.get(key.as_str()).unwrap_or(&Value::Null);
            *key != "field" && *key != "id" && !same(FieldKind::Text, was, value)
        })
        .filter_map(|(key, value)| {
            let is = |keys: &[&str]| keys.contains(&key.as_str());
            let fault = if is(keys.texts) {
                let is_text = value.is_string() || value.is_number() || is_blank(value);
                (!is_text).then_some("is no text: write one")
            } else if is(keys.truths) {
                let is_truth = value.is_boolean() || is_blank(value);
                (!is_truth).then_some("is neither true nor false: correct it")
            } else if is(keys.derived) {
                // What was left out, or emptied, comes back from Keap.
                (!is_blank(value)).then_some(DERIVED)
            } else {
                (!is_blank(value)).then_some(NO_PLACE)
            };
            fault.map(|fault| (key.clone(), fault))
        })
        .collect();
    for (key, fault) in edited {
        field.refuse(slot, Some(&key), fault);
        put_back_key(object, was, &key);
    }
}

/// Takes off what belonged to the value before this one. Where Keap holds this very value already, what it holds of it.
fn settle_owned(kind: &Kind, was: &Value, held: &Value, slot: &mut Map<String, Value>) {
    let Some((key, value_kind)) = kind.value else { return };
    let of = |value: &Value, key: &str| value.get(key).cloned().unwrap_or(Value::Null);
    let now = slot.get(key).cloned().unwrap_or(Value::Null);
    if same(value_kind, &of(was, key), &now) {
        return;
    }
    let is_held = same(value_kind, &of(held, key), &now);
    for owned in kind.owned {
        let value = slot.get(*owned).cloned().unwrap_or(Value::Null);
        if !same(FieldKind::Text, &of(was, owned), &value) {
            continue;
        }
        match held.get(*owned).filter(|_| is_held) {
            Some(known) => drop(slot.insert((*owned).to_owned(), known.clone())),
            None => drop(slot.remove(*owned)),
        }
    }
}

/// Whether a slot may stand: one without its value has nothing to say, and one that says nothing goes.
fn has_value(field: &mut Field<'_>, kind: &Kind, name: &str, slot: &Map<String, Value>) -> bool {
    let says = |key: &str| slot.get(key).and_then(plain_text).is_some();
    match kind.value {
        Some((key, _)) if !says(key) && kind.keys.texts.iter().any(|key| says(key)) => {
            field.refuse(Some(name), None, format!("has no {key}: give it one"));
            false
        }
        _ => true,
    }
}

/// Lines of an order.
pub(super) fn settle_lines(field: &mut Field<'_>, value: &Value) -> Option<Value> {
    let items = value.as_array()?;
    let [was, held] =
        [field.base, field.held].map(|list| slot_entries(SlotKind::Item, list).collect::<BTreeMap<_, _>>());
    let names: BTreeMap<usize, String> = items
        .iter()
        .enumerate()
        .filter(|(_, item)| item.is_object())
        .map(|(position, item)| (position, line_name(item).unwrap_or_else(|| format!("#{position}"))))
        .collect();
    let mut settled: Vec<Value> = Vec::with_capacity(items.len());
    for (position, item) in items.iter().enumerate() {
        let (Value::Object(line), Some(name)) = (item, names.get(&position)) else {
            if is_blank(item) {
                settled.push(item.clone());
            } else {
                field.refuse(Some(&format!("#{position}")), None, NO_PLACE);
            }
            continue;
        };
        let nothing = Value::Null;
        let was = was.get(name).copied().unwrap_or(&nothing);
        let mut line = line.clone();
        if was != item {
            if was.is_null() {
                // A line that was copied says that nothing is taken off its price.
                line.retain(|key, value| key != "discount" || !same(FieldKind::Money, value, &0.into()));
            }
            let told = field.refused.len();
            settle_keys(field, Some(name), &LINE, was, &mut line);
            // A line that Keap has not got is made again as a whole.
            if let Some(held) = held.get(name) {
                let part = Part { kind: SlotKind::Item, was, held, value: None, owned: &[] };
                hold_refused(field, told, Some(name), part, &mut line);
            }
        }
        settled.push(Value::Object(line));
    }
    let after = Value::Array(settled);
    (after != *value).then_some(after)
}

fn line_name(line: &Value) -> Option<String> {
    line.get("id").and_then(plain_text)
}

fn name_of(item: &Value) -> Option<&str> {
    item.get("field").and_then(Value::as_str).map(str::trim)
}
