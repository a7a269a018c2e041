//! Postal addresses: names and codes that say the same thing twice.

use super::refused_keys::{Part, hold_refused};
use super::slots::{Keys, settle_keys};
use super::{Field, put_back_key};
use crate::countries::country_code;
use crate::wire::{is_blank, plain_text};
use keapsync_domain::canonical::same;
use keapsync_domain::schema::{FieldKind, SlotKind};
use serde_json::{Map, Value};

/// What Keap has of an address.
pub(super) const KEYS: &[&str] = &[
    "line1",
    "line2",
    "locality",
    "region",
    "region_code",
    "country",
    "country_code",
    "postal_code",
    "zip_code",
    "zip_four",
];

/// What Keap has beside the address of where an order goes; the last is true or false.
const RECIPIENT: &[&str] = &["company", "given_name", "family_name", "phone_number"];

/// Each name, and the code that it follows from.
pub(super) const NAMED: [(&str, &str); 2] = [("region", "region_code"), ("country", "country_code")];

/// Where an order goes.
pub(super) fn settle_shipping(field: &mut Field<'_>, value: &Value) -> Option<Value> {
    let mut address = value.as_object()?.clone();
    let texts = [KEYS, RECIPIENT].concat();
    let keys = Keys { texts: &texts, truths: &["invoice_to_company"], derived: &[] };
    let was = field.base.clone();
    let told = field.refused.len();
    settle_keys(field, None, &keys, &was, &mut address);
    settle_address(field, None, &was, &mut address);
    let part = Part { kind: SlotKind::Address, was: &was, held: field.held, value: None, owned: &[] };
    hold_refused(field, told, None, part, &mut address);
    let after = Value::Object(address);
    (after != *value).then_some(after)
}

/// Makes an address say once what it says twice: what was edited counts, and its other spelling follows.
pub(super) fn settle_address(
    field: &mut Field<'_>,
    slot: Option<&str>,
    was: &Value,
    address: &mut Map<String, Value>,
) {
    for (name, code) in NAMED {
        // A name that was cleared while its code stands is no edit of either, unless somebody says so.
        let is_cleared = address.get(name).is_some_and(is_blank) && is_filled(was, name);
        if is_cleared
            && is_edited(was, address, name)
            && !is_edited(was, address, code)
            && holds(address, code)
        {
            let reason = format!("follows from {code}: clear that");
            field.refuse(slot, Some(name), reason);
            put_back_key(address, was, name);
        }
    }
    settle_country(field, slot, was, address);
    if holds(address, "region")
        && is_edited(was, address, "region")
        && !is_edited(was, address, "region_code")
    {
        address.remove("region_code");
    }
    settle_postal_code(was, address);
}

/// Keap takes a country by its code of three letters.
fn settle_country(field: &mut Field<'_>, slot: Option<&str>, was: &Value, address: &mut Map<String, Value>) {
    let mut is_code_refused = false;
    if is_edited(was, address, "country_code") {
        let Some(text) = text_of(address, "country_code") else { return };
        let is_code = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_alphabetic());
        if let Some(code) = country_code(&text) {
            if !same(FieldKind::Text, &text.to_uppercase().into(), &code.into()) {
                address.insert("country_code".to_owned(), code.into());
            }
        } else if !is_code {
            let fault = "is no code of a country: use one such as USA";
            field.refuse(slot, Some("country_code"), fault);
            put_back_key(address, was, "country_code");
        }
        // Without the code that was refused, a name that was edited beside it counts.
        is_code_refused = !is_edited(was, address, "country_code");
        if !is_code_refused {
            return;
        }
    }
    if !is_edited(was, address, "country") {
        return;
    }
    let Some(name) = text_of(address, "country") else { return };
    match country_code(&name) {
        // Another name of the same country.
        Some(code)
            if !is_code_refused
                && text_of(address, "country_code").is_some_and(|held| held.eq_ignore_ascii_case(code)) =>
        {
            put_back_key(address, was, "country");
        }
        Some(code) => drop(address.insert("country_code".to_owned(), code.into())),
        None => {
            let fault = "is no country that is known by this name: write its country_code";
            field.refuse(slot, Some("country"), fault);
            put_back_key(address, was, "country");
        }
    }
}

/// The postal code says what `zip_code` and `zip_four` say.
fn settle_postal_code(was: &Value, address: &mut Map<String, Value>) {
    let is_edited = |key: &str| is_edited(was, address, key);
    if is_edited("postal_code") || !holds(address, "postal_code") {
        return;
    }
    if !is_edited("zip_code") && !is_edited("zip_four") {
        return;
    }
    let postal_code = text_of(address, "postal_code").unwrap_or_default();
    let (first, four) =
        postal_code.split_once('-').map_or((postal_code.as_str(), None), |(a, b)| (a, Some(b)));
    let zip_code = text_of(address, "zip_code").unwrap_or_else(|| first.to_owned());
    let zip_four = match text_of(address, "zip_four") {
        Some(zip_four) if four.is_some() || is_edited("zip_four") => Some(zip_four),
        Some(_) => None,
        // Cleared, or never said apart.
        None if is_edited("zip_four") => None,
        None => four.map(str::to_owned),
    };
    let derived = match zip_four {
        Some(zip_four) if !zip_code.contains('-') => format!("{zip_code}-{zip_four}"),
        _ => zip_code,
    };
    address.insert("postal_code".to_owned(), derived.into());
}

pub(super) fn is_edited(was: &Value, address: &Map<String, Value>, key: &str) -> bool {
    let [was, now] = [was.get(key), address.get(key)].map(|value| value.unwrap_or(&Value::Null));
    !same(FieldKind::Text, was, now)
}

fn is_filled(address: &Value, key: &str) -> bool {
    address.get(key).and_then(plain_text).is_some()
}

fn holds(address: &Map<String, Value>, key: &str) -> bool {
    text_of(address, key).is_some()
}

fn text_of(address: &Map<String, Value>, key: &str) -> Option<String> {
    address.get(key).and_then(plain_text)
}
