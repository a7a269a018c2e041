//! A subscription on Keap's wire (v2 schema `Subscription`) and as a record, both ways.
//!
//! | field | wire |
//! |---|---|
//! | `keap_contact_id`, `plan_id`, `cancel_reason` | `contact_id`, `subscription_plan_id`, `reason_stopped` |
//! | `status` | `active`: `active` or `inactive` |
//! | `amount` | `billing_amount`, a `double`; what has more than three places is rounded, and the number stays in `extra` |
//! | `product_name`, `currency` | of the product and its plan; no part of the subscription |
//! | `custom_fields` | the array as an object keyed by id |
//!
//! What is of the product is joined by [`names`](crate::names). [`subscription_to_wire`] gives back what [`subscription_from_wire`] read.

use crate::custom_fields;
use crate::money::{decimal_of_double, double_of_decimal, exponent};
use crate::wire::{
    WireObject, WireValue, boolean_of, insert_present, integer_of, is_blank, is_date, name_of, pair,
    plain_text, text_of, time_at, whole_number,
};
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::EntityType;
use keapsync_domain::record::Record;
use keapsync_domain::remote::RemoteRecord;
use keapsync_domain::timestamp::Timestamp;
use serde_json::{Map, Value};

/// Texts that only have another name on the wire.
const RENAMED: [(&str, &str); 5] = [
    ("keap_contact_id", "contact_id"),
    ("product_id", "product_id"),
    ("plan_id", "subscription_plan_id"),
    ("billing_cycle", "billing_cycle"),
    ("cancel_reason", "reason_stopped"),
];

/// Calendar days, named alike on both sides.
const DATES: [&str; 3] = ["start_date", "end_date", "next_bill_date"];

/// Whole numbers, named alike on both sides.
const INTEGERS: [&str; 2] = ["billing_frequency", "quantity"];

/// The status of a subscription that bills.
pub const ACTIVE: &str = "active";

/// The status of a subscription that was stopped.
pub const INACTIVE: &str = "inactive";

/// Reads a subscription without its id. The error names the property that has another shape than the contract says.
pub fn subscription_from_wire(
    keap_id: String,
    mut wire: WireObject<'_>,
    observed_at: Timestamp,
) -> Result<RemoteRecord, String> {
    let updated_at = time_at(&wire, "modification_time");
    wire.sort_list("custom_fields", Some("id"), false);
    let content_hash = wire.content_hash_without(&[updated_at.map(|_| "modification_time")]);

    let mut record = Record::empty(EntityType::Subscription);
    let mut extra = WireObject::default();
    for (key, value) in wire {
        match key.as_ref() {
            "modification_time" if updated_at.is_some() => {}
            "auto_charge" => record.set_by_name("auto_charge", boolean_of(&value, "auto_charge")?.into()),
            "active" => {
                let active = boolean_of(&value, "active")?;
                let status = active.map(|active| if active { ACTIVE } else { INACTIVE });
                record.set_by_name("status", status.into());
            }
            "billing_amount" => match value {
                WireValue::Null => {}
                WireValue::Number(number) => {
                    let (decimal, exact) = decimal_of_double(&number);
                    record.set_by_name("amount", decimal.into());
                    if !exact {
                        extra.insert(key, WireValue::Number(number));
                    }
                }
                _ => return Err("billing_amount is not a number".to_owned()),
            },
            "custom_fields" => {
                let (values, _) = custom_fields::read(value, None)?;
                if !values.is_empty() {
                    record.set_by_name("custom_fields", Value::Object(values));
                }
            }
            property if DATES.contains(&property) => match text_of(value, property)? {
                // A date that Postgres can't hold stays as Keap has it, beside the columns.
                Some(text) if !is_date(&text) => extra.insert(key, WireValue::Text(text.into())),
                text => record.set_by_name(property, text.into()),
            },
            property if INTEGERS.contains(&property) => {
                record.set_by_name(property, integer_of(&value, property)?.into());
            }
            property => {
                if let Some(name) = name_of(&RENAMED, property) {
                    record.set_by_name(name, text_of(value, property)?.into());
                } else if !value.is_null() {
                    extra.insert(key, value);
                }
            }
        }
    }
    Ok(RemoteRecord {
        keap_id,
        record,
        extra: extra.to_extra()?,
        row_id: None,
        content_hash,
        created_at: None,
        updated_at,
        observed_at,
    })
}

/// The subscription as Keap would send it (without id and time): the inverse of [`subscription_from_wire`].
#[must_use]
pub fn subscription_to_wire(record: &Record, extra: &Map<String, Value>) -> Map<String, Value> {
    let mut wire: Map<String, Value> = extra.iter().map(pair).collect();
    for (name, property) in RENAMED {
        insert_present(&mut wire, property, record.get_by_name(name));
    }
    for name in DATES.into_iter().chain(INTEGERS).chain(["auto_charge"]) {
        insert_present(&mut wire, name, record.get_by_name(name));
    }
    if let Some(status) = record.get_by_name("status").as_str() {
        wire.insert("active".to_owned(), (status == ACTIVE).into());
    }
    let exact = extra.get("billing_amount").and_then(Value::as_number).map(decimal_of_double);
    let is_rounded = exact.is_some_and(|(decimal, _)| record.get_by_name("amount") == &Value::from(decimal));
    if !is_rounded && let Ok(amount) = double_of_decimal(record.get_by_name("amount"), 3) {
        wire.insert("billing_amount".to_owned(), amount);
    }
    custom_fields::write(&mut wire, record.get_by_name("custom_fields"));
    wire
}

/// The properties of `CreateSubscriptionRequest` or `UpdateSubscriptionRequest` named in `properties`, as `wanted` is to
/// be in Keap.
pub fn write_body(
    wanted: &Record,
    remote: &Record,
    properties: &[&str],
) -> Result<Map<String, Value>, Failure> {
    let mut body = Map::new();
    for property in properties {
        let name = field_of(property);
        let value = wanted.get_by_name(name);
        let sent = match *property {
            "custom_fields" => custom_fields::replacing(value, remote.get_by_name("custom_fields"), None),
            "reason_stopped" => plain_text(value).unwrap_or_default().into(),
            "active" => (status_of(wanted)? == ACTIVE).into(),
            "billing_amount" => {
                let places = wanted.get_by_name("currency").as_str().map_or(2, exponent);
                double_of_decimal(&needed(wanted, name)?, places).map_err(|fault| invalid(name, &fault))?
            }
            "quantity" | "billing_frequency" => match whole_number(&needed(wanted, name)?) {
                Some(number) if number >= 1 => number.into(),
                _ => return Err(invalid(name, "is no whole number of 1 or more: correct it")),
            },
            "auto_charge" => {
                match plain_text(&needed(wanted, name)?).map(|text| text.to_lowercase()).as_deref() {
                    Some("true") => true.into(),
                    Some("false") => false.into(),
                    _ => return Err(invalid(name, "is neither true nor false: correct it")),
                }
            }
            "billing_cycle" => match plain_text(&needed(wanted, name)?) {
                Some(cycle) if ["YEAR", "MONTH", "WEEK", "DAY"].contains(&cycle.as_str()) => cycle.into(),
                _ => return Err(invalid(name, "is none of YEAR, MONTH, WEEK and DAY: correct it")),
            },
            "start_date" | "end_date" | "next_bill_date" => {
                let text = plain_text(&needed(wanted, name)?).unwrap_or_default();
                if !is_date(&text) {
                    return Err(invalid(name, "is no day that can be read: correct it"));
                }
                text.split_once('T').map_or(text.as_str(), |(day, _)| day).into()
            }
            _ => needed(wanted, name)?,
        };
        body.insert((*property).to_owned(), sent);
    }
    Ok(body)
}

/// `CreateSubscriptionRequest` of a new subscription: what it takes and the record has.
///
/// Keap would charge the contact's card for a subscription that does not say otherwise. Nobody asked for that who left
/// the field empty, so then `auto_charge` is false.
pub fn create_body(record: &Record) -> Result<Map<String, Value>, Failure> {
    let mut properties = vec!["contact_id", "subscription_plan_id", "start_date"];
    for property in ["quantity", "billing_amount", "auto_charge", "active", "reason_stopped", "custom_fields"]
    {
        if !is_blank(record.get_by_name(field_of(property))) {
            properties.push(property);
        }
    }
    let mut body = write_body(record, &Record::empty(EntityType::Subscription), &properties)?;
    body.entry("auto_charge").or_insert(Value::Bool(false));
    Ok(body)
}

/// The status that a record asks for.
pub fn status_of(record: &Record) -> Result<&'static str, Failure> {
    match record.get_by_name("status").as_str().map(str::trim) {
        Some(ACTIVE) => Ok(ACTIVE),
        Some(INACTIVE) => Ok(INACTIVE),
        _ => Err(invalid("status", "is neither active nor inactive: correct it")),
    }
}

fn field_of(property: &str) -> &str {
    match property {
        "active" => "status",
        "billing_amount" => "amount",
        other => RENAMED.iter().find(|(_, wire)| *wire == other).map_or(property, |(name, _)| *name),
    }
}

fn needed(record: &Record, name: &str) -> Result<Value, Failure> {
    plain_text(record.get_by_name(name)).map(Value::String).ok_or_else(|| {
        invalid(name, "is empty, and Keap can't clear it on a subscription: give the row a value")
    })
}

fn invalid(name: &str, fault: &str) -> Failure {
    Failure::new(FailureClass::Invalid, format!("{name} {fault}"))
}
