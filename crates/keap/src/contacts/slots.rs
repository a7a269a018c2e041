//! The lists of a contact that Keap replaces whole, as a write sends them.
//!
//! What is not listed is removed, so every slot is listed; what is listed counts as said. Hence the rule: a slot carries
//! its own value, what somebody edited of it, and of the rest what Keap holds for that very value. What belonged to
//! another value is left out: the extension of a former number, the long name of a former code.
//!
//! Consent is an act and no property. A reason for it (`opt_in_reason`) makes Keap hold the address opted in and lifts
//! opt-outs, so that one is sent once, with the edit in which a person wrote it for that very address, and never again
//! beside other edits. Keap keeps the one it has.

use crate::wire::plain_text;
use keapsync_domain::canonical::{same, slot_entries};
use keapsync_domain::record::Record;
use keapsync_domain::schema::{FieldKind, SlotKind};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The three states of a contact that a write is made from.
#[derive(Clone, Copy, Debug)]
pub struct States<'a> {
    /// What both sides last agreed on.
    pub base: &'a Record,
    /// What Keap is to hold.
    pub wanted: &'a Record,
    /// What Keap holds now.
    pub held: &'a Record,
    /// What Keap holds and no column does.
    pub extra: &'a Map<String, Value>,
}

type Slots<'a> = BTreeMap<String, &'a Value>;

/// `email_addresses`.
pub(super) fn emails(states: &States<'_>) -> Value {
    let [base, wanted, held] = states.lists(SlotKind::Email, "emails");
    let mut items = Vec::new();
    if let Some(address) = plain_text(states.wanted.get_by_name("email")) {
        items.push(item("EMAIL1", [("email", address)]));
    }
    for (slot, wanted) in &wanted {
        let Some(address) = text(wanted, "email") else { continue };
        let mut item = Map::from_iter([("email".to_owned(), Value::String(address))]);
        insert_name(&mut item, wanted);
        let is_known = [&base, &held].iter().any(|slots| {
            slots.iter().any(|(other, known)| {
                let is_of_it = other == slot || is_same(FieldKind::Email, known, wanted, "email");
                is_of_it && is_same(FieldKind::Text, known, wanted, "opt_in_reason")
            })
        });
        if let Some(reason) = text(wanted, "opt_in_reason").filter(|_| !is_known) {
            item.insert("opt_in_reason".to_owned(), Value::String(reason));
        }
        items.push(Value::Object(item));
    }
    Value::Array(items)
}

/// `phone_numbers`.
pub(super) fn phones(states: &States<'_>) -> Value {
    let [base, wanted, held] = states.lists(SlotKind::Phone, "phones");
    let mut items = Vec::new();
    if let Some(number) = plain_text(states.wanted.get_by_name("phone")) {
        let mut item = Map::from_iter([
            ("number".to_owned(), Value::String(number)),
            ("field".to_owned(), "PHONE1".into()),
        ]);
        let is_kept =
            same(FieldKind::Phone, states.wanted.get_by_name("phone"), states.held.get_by_name("phone"));
        if let Some(rest) = states.extra.get("phone1").filter(|_| is_kept) {
            insert_texts(&mut item, rest, &["extension", "type"]);
        }
        items.push(Value::Object(item));
    }
    for (slot, wanted) in &wanted {
        let Some(number) = text(wanted, "number") else { continue };
        let mut item = Map::from_iter([("number".to_owned(), Value::String(number))]);
        insert_name(&mut item, wanted);
        let [base, held] = [&base, &held].map(|slots| slots.get(slot).copied().unwrap_or(&Value::Null));
        let is_kept = [base, held].iter().any(|known| is_same(FieldKind::Phone, known, wanted, "number"));
        for key in ["extension", "type"] {
            if is_kept || !is_same(FieldKind::Text, base, wanted, key) {
                insert_texts(&mut item, wanted, &[key]);
            }
        }
        items.push(Value::Object(item));
    }
    Value::Array(items)
}

/// `addresses`.
pub(super) fn addresses(states: &States<'_>) -> Value {
    let [_, wanted, held] = states.lists(SlotKind::Address, "addresses");
    let items = wanted.iter().map(|(slot, wanted)| {
        let held = held.get(slot).copied().unwrap_or(&Value::Null);
        let mut item = Map::new();
        insert_name(&mut item, wanted);
        let plain = ["line1", "line2", "locality", "postal_code", "region_code", "country_code"];
        insert_texts(&mut item, wanted, &plain);
        // The code goes before the name, and before a former code's name in any case.
        for (name, code) in [
            ("region", "region_code"),
            ("country", "country_code"),
            ("zip_code", "postal_code"),
            ("zip_four", "postal_code"),
        ] {
            let is_coded = item.contains_key(code);
            let is_of_held = is_same(FieldKind::Text, held, wanted, code);
            let is_held = is_same(FieldKind::Text, held, wanted, name);
            let is_sent = match name {
                // The contract wants the code in a write.
                "country" => !is_coded,
                "region" => !is_coded || (is_of_held && is_held),
                _ => !is_coded || is_of_held || !is_held,
            };
            if is_sent {
                insert_texts(&mut item, wanted, &[name]);
            }
        }
        if let Some(Value::String(code)) = item.get_mut("country_code") {
            code.make_ascii_uppercase();
        }
        Value::Object(item)
    });
    items.collect()
}

impl<'a> States<'a> {
    fn lists(&self, kind: SlotKind, field: &str) -> [Slots<'a>; 3] {
        [self.base, self.wanted, self.held]
            .map(|record| slot_entries(kind, record.get_by_name(field)).collect())
    }
}

fn item<const N: usize>(slot: &str, texts: [(&str, String); N]) -> Value {
    let mut item = Map::from_iter([("field".to_owned(), Value::from(slot))]);
    item.extend(texts.into_iter().map(|(key, text)| (key.to_owned(), Value::String(text))));
    Value::Object(item)
}

/// The slot's name as the list spells it; what has none gets one of Keap.
fn insert_name(item: &mut Map<String, Value>, slot: &Value) {
    insert_texts(item, slot, &["field"]);
}

fn insert_texts(item: &mut Map<String, Value>, slot: &Value, keys: &[&str]) {
    for key in keys {
        if let Some(text) = text(slot, key) {
            item.insert((*key).to_owned(), Value::String(text));
        }
    }
}

fn property<'a>(slot: &'a Value, key: &str) -> &'a Value {
    slot.get(key).unwrap_or(&Value::Null)
}

fn text(slot: &Value, key: &str) -> Option<String> {
    plain_text(property(slot, key))
}

/// Whether two slots say the same of a property.
fn is_same(kind: FieldKind, left: &Value, right: &Value, key: &str) -> bool {
    same(kind, property(left, key), property(right, key))
}
