//! What Keap would refuse, found before a call is spent on it, and said so that a person knows what to do.
//!
//! All that is missing or too long is named at once. What only a write's body can tell (an amount's places, a line's
//! product) is checked where the body is made.

use crate::capability::{Capability, capability};
use crate::wire::{is_blank, is_date, plain_text, text_at};
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::{EntityType, is_keap_id};
use keapsync_domain::record::Record;
use keapsync_domain::schema::{FieldKind, fields};
use keapsync_domain::timestamp::Timestamp;
use serde_json::Value;

/// How far behind UTC a Keap account's own day may be, in milliseconds: the westernmost time zone.
const DAY_BEHIND_MAX_MS: i64 = 12 * 60 * 60 * 1000;

/// What makes a contact one for Keap: at least one of these.
pub const REACHED_BY: [&str; 5] = ["email", "phone", "emails", "phones", "addresses"];

/// Fields that hold one of Keap's ids.
const IDS: [&str; 4] = ["keap_contact_id", "plan_id", "category_id", "lead_source_id"];

/// Checks a new record.
pub fn before_create(record: &Record, now: Timestamp) -> Result<(), Failure> {
    let capability = capability(record.entity());
    let missing: Vec<&str> = capability
        .fields
        .iter()
        .filter(|field| field.required && plain_text(record.get_by_name(field.name)).is_none())
        .map(|field| field.name)
        .collect();
    if !missing.is_empty() {
        let name = record.entity().as_str();
        return Err(invalid(format!(
            "a new {name} needs {} in Keap: give the row a value for each",
            missing.join(", ")
        )));
    }
    check_reachable(record)?;
    check_values(record, capability, now, |_| true)
}

/// Checks what is to become of a field of a record.
pub fn before_update(wanted: &Record, changed: &str, now: Timestamp) -> Result<(), Failure> {
    check_values(wanted, capability(wanted.entity()), now, |name| changed == name)
}

/// Checks that Keap keeps a contact of which the fields in [`REACHED_BY`] change.
pub fn check_reachable(record: &Record) -> Result<(), Failure> {
    let is_contact = record.entity() == EntityType::Contact;
    if is_contact && REACHED_BY.iter().all(|name| is_blank(record.get_by_name(name))) {
        return Err(invalid(
            "Keap takes no contact without an e-mail address, a phone number or an address: give the row one"
                .to_owned(),
        ));
    }
    Ok(())
}

/// The fields that are longer than Keap takes, with their limits in characters.
#[must_use]
pub fn too_long(record: &Record) -> Vec<(&'static str, usize)> {
    fields(record.entity())
        .iter()
        .enumerate()
        .filter(|(position, field)| {
            field.length_max > 0
                && !matches!(field.kind, FieldKind::Slots(_) | FieldKind::Map | FieldKind::Set)
                && record
                    .get(*position)
                    .as_str()
                    .is_some_and(|text| text.trim().chars().count() > field.length_max)
        })
        .map(|(_, field)| (field.name, field.length_max))
        .collect()
}

fn check_values(
    record: &Record,
    capability: &Capability,
    now: Timestamp,
    is_written: impl Fn(&str) -> bool,
) -> Result<(), Failure> {
    let long: Vec<String> = too_long(record)
        .into_iter()
        .filter(|(name, _)| is_written(name))
        .map(|(name, limit)| format!("{name} (at most {limit} characters)"))
        .collect();
    if !long.is_empty() {
        return Err(invalid(format!("too long for Keap: {}", long.join(", "))));
    }
    for name in IDS.into_iter().filter(|name| is_written(name)) {
        if let Some(text) = plain_text(record.get_by_name(name)).filter(|text| !is_keap_id(text)) {
            let shown: String = text.chars().filter(|c| !c.is_control()).take(20).collect();
            return Err(invalid(format!("{name} is '{shown}', which is no id of Keap's: correct it")));
        }
    }
    for field in ["emails", "phones", "addresses"].into_iter().filter(|name| is_written(name)) {
        check_slots(record, field)?;
    }
    match capability.entity {
        EntityType::Contact if is_written("addresses") => check_addresses(record.get_by_name("addresses")),
        EntityType::Order if is_written("order_type") => {
            match plain_text(record.get_by_name("order_type")).as_deref() {
                Some("ONLINE" | "OFFLINE") => Ok(()),
                _ => Err(invalid("order_type is neither ONLINE nor OFFLINE: correct it".to_owned())),
            }
        }
        EntityType::Subscription => check_days(record, now, is_written),
        EntityType::Contact | EntityType::Order | EntityType::Tag => Ok(()),
    }
}

/// Longest texts of a slot's keys, in characters, as the contract tells them: of the slots named, else of all.
const SLOT_LENGTHS: [(&str, &[&str], &str, usize); 15] = [
    ("emails", &[], "email", 100),
    ("phones", &["PHONE4", "PHONE5"], "number", 20),
    ("phones", &[], "number", 40),
    ("addresses", &["BILLING"], "line1", 75),
    ("addresses", &[], "line1", 100),
    ("addresses", &["BILLING"], "line2", 75),
    ("addresses", &[], "line2", 100),
    ("addresses", &["BILLING"], "locality", 50),
    ("addresses", &[], "locality", 100),
    ("addresses", &[], "region", 50),
    ("addresses", &["SHIPPING"], "postal_code", 20),
    ("addresses", &[], "postal_code", 15),
    ("addresses", &["SHIPPING"], "zip_code", 20),
    ("addresses", &[], "zip_code", 15),
    ("addresses", &[], "zip_four", 10),
];

fn check_slots(record: &Record, field: &str) -> Result<(), Failure> {
    for slot in record.get_by_name(field).as_array().into_iter().flatten() {
        let name = text_at(slot, "field");
        for (_, slots, key, limit) in SLOT_LENGTHS.iter().filter(|(known, ..)| *known == field) {
            let is_of_slot = slots.is_empty() || slots.contains(&name);
            let is_long =
                slot.get(*key).and_then(plain_text).is_some_and(|text| text.chars().count() > *limit);
            if is_of_slot && is_long {
                let slot: String = name.chars().filter(char::is_ascii_graphic).take(20).collect();
                return Err(invalid(format!(
                    "{field}: {key} of {slot} is too long for Keap: at most {limit} characters"
                )));
            }
        }
    }
    Ok(())
}

fn check_addresses(addresses: &Value) -> Result<(), Failure> {
    let filled = |address: &Value, key: &str| !is_blank(address.get(key).unwrap_or(&Value::Null));
    let incomplete = addresses.as_array().into_iter().flatten().find(|address| {
        (filled(address, "region") || filled(address, "region_code")) && !filled(address, "country_code")
    });
    match incomplete {
        None => Ok(()),
        Some(address) => {
            let slot: String =
                text_at(address, "field").chars().filter(char::is_ascii_graphic).take(20).collect();
            Err(invalid(format!(
                "addresses: {slot} names a region and no country, which Keap refuses: give it a country_code such as USA"
            )))
        }
    }
}

/// Keap takes no day in the past for the start of a subscription, its end and its next bill.
fn check_days(record: &Record, now: Timestamp, is_written: impl Fn(&str) -> bool) -> Result<(), Failure> {
    let earliest = now.plus_ms(-DAY_BEHIND_MAX_MS).to_rfc3339();
    let earliest = earliest.split_once('T').map_or(earliest.as_str(), |(day, _)| day);
    for name in ["start_date", "end_date", "next_bill_date"].into_iter().filter(|name| is_written(name)) {
        let Some(text) = plain_text(record.get_by_name(name)) else { continue };
        if !is_date(&text) {
            return Err(invalid(format!("{name} is no day that can be read: correct it")));
        }
        // Days of four-digit years compare as texts.
        if text.as_str() < earliest {
            return Err(invalid(format!(
                "{name} lies in the past, which Keap refuses: choose today or later"
            )));
        }
    }
    Ok(())
}

fn invalid(message: String) -> Failure {
    Failure::new(FailureClass::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// 2026-01-01T00:00:00Z
    const NOW: Timestamp = Timestamp(1_767_225_600_000);

    fn record(entity: EntityType, object: Value) -> Record {
        match object {
            Value::Object(object) => Record::from_object(entity, object),
            _ => Record::empty(entity),
        }
    }

    #[test]
    fn what_keap_would_refuse_in_a_create_is_named() {
        use EntityType::{Contact, Order, Subscription, Tag};
        let order =
            json!({"keap_contact_id": "1", "title": "x", "order_date": "2026-01-01", "order_type": "ONLINE"});
        let subscription = json!({"keap_contact_id": "1", "plan_id": 4, "start_date": "2026-01-01"});
        let with = |object: &Value, key: &str, value: Value| {
            let mut object = object.clone();
            object[key] = value;
            object
        };
        for (entity, object, said) in [
            (Contact, json!({"email": "a@b.c"}), None),
            (Contact, json!({"first_name": "Ann"}), Some("without an e-mail address")),
            (
                Contact,
                json!({"email": "a@b.c", "first_name": "x".repeat(41)}),
                Some("first_name (at most 40 characters)"),
            ),
            (
                Contact,
                json!({"addresses": [{"field": "BILLING", "region": "Arizona"}]}),
                Some("BILLING names a region"),
            ),
            (
                Contact,
                json!({"addresses": [{"field": "BILLING", "region": "Arizona", "country_code": "USA"}]}),
                None,
            ),
            (Order, order.clone(), None),
            (Order, with(&order, "title", json!("  ")), Some("a new order needs title in Keap")),
            (Order, json!({}), Some("keap_contact_id, title, order_date, order_type")),
            (Order, with(&order, "order_type", json!("PHONE")), Some("neither ONLINE nor OFFLINE")),
            (Order, with(&order, "keap_contact_id", json!("x1")), Some("'x1', which is no id")),
            (Tag, json!({"name": "VIP"}), None),
            (Tag, json!({"description": "x"}), Some("a new tag needs name")),
            (Tag, json!({"name": "VIP", "category_id": "none"}), Some("no id of Keap's")),
            (Subscription, subscription.clone(), None),
            (Subscription, with(&subscription, "start_date", Value::Null), Some("needs start_date")),
            (Subscription, with(&subscription, "start_date", json!("2025-12-31")), None),
            (Subscription, with(&subscription, "start_date", json!("2025-12-30")), Some("lies in the past")),
            (Subscription, with(&subscription, "end_date", json!("soon")), Some("end_date is no day")),
        ] {
            let outcome = before_create(&record(entity, object.clone()), NOW);
            match (outcome, said) {
                (Ok(()), None) => {}
                (Err(failure), Some(said)) => {
                    assert_eq!(failure.class, FailureClass::Invalid);
                    assert!(failure.message.contains(said), "{object}: {}", failure.message);
                }
                (outcome, said) => panic!("{object}: {outcome:?} instead of {said:?}"),
            }
        }
    }

    #[test]
    fn an_update_is_answerable_for_what_it_changes_alone() {
        let old = record(
            EntityType::Subscription,
            json!({"start_date": "2020-01-01", "next_bill_date": "2020-02-01", "quantity": 2}),
        );
        assert_eq!(before_update(&old, "quantity", NOW), Ok(()));
        assert!(before_update(&old, "next_bill_date", NOW).is_err());
        let long = record(EntityType::Contact, json!({"email": "a@b.c", "last_name": "x".repeat(41)}));
        assert_eq!(before_update(&long, "email", NOW), Ok(()));
        assert!(before_update(&long, "last_name", NOW).is_err());
        assert!(check_reachable(&Record::empty(EntityType::Contact)).is_err());
        let blanks = record(EntityType::Contact, json!({"last_name": format!(" {} ", "x".repeat(40))}));
        assert_eq!(before_update(&blanks, "last_name", NOW), Ok(()));
    }
}
