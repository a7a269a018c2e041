//! A contact on Keap's wire and as a record, both ways.
//!
//! | field | wire |
//! |---|---|
//! | `email`, `opt_in_status` | `email` and `email_opt_status` of the `EMAIL1` item of `email_addresses`; the item's rest is `extra.email1` |
//! | `emails` | the other items |
//! | `phone` | `number` of the `PHONE1` item of `phone_numbers`; the item's rest is `extra.phone1` |
//! | `phones` | the other items |
//! | `company` | `company.company_name`; the rest is `extra.company` |
//! | `custom_fields` | the array as an object keyed by id, without the field that carries our row's id |
//! | `tags` | `tag_ids`; written by applying and removing tags, never through the contact |
//!
//! Nothing is stored twice and nothing is dropped: [`contact_to_wire`] gives back what [`contact_from_wire`] read.

use super::slots;
use crate::custom_fields;
use crate::wire::{
    WireObject, WireValue, extra_object, insert_filled, insert_present, is_blank, is_date, items_of, name_of,
    object_of, pair, plain_text, text_of, time_at,
};
use keapsync_domain::canonical::set_elements;
use keapsync_domain::ids::EntityType;
use keapsync_domain::record::Record;
use keapsync_domain::remote::RemoteRecord;
use keapsync_domain::schema::{WriteAccess, fields};
use keapsync_domain::timestamp::Timestamp;
use serde_json::{Map, Value};

pub use super::slots::States;
pub use crate::checks::too_long;
pub use crate::custom_fields::Link;

/// Texts that only have another name on the wire.
const RENAMED: [(&str, &str); 8] = [
    ("first_name", "given_name"),
    ("last_name", "family_name"),
    ("middle_name", "middle_name"),
    ("job_title", "job_title"),
    ("website", "website"),
    ("birth_date", "birth_date"),
    ("owner_id", "owner_id"),
    ("lead_source_id", "leadsource_id"),
];

/// The property of the write model that carries a field; `None` for what is not written through the contact.
#[must_use]
pub fn wire_property(field: &str) -> Option<&'static str> {
    match field {
        "email" | "emails" => Some("email_addresses"),
        "phone" | "phones" => Some("phone_numbers"),
        "addresses" => Some("addresses"),
        "custom_fields" => Some("custom_fields"),
        other => RENAMED.iter().find(|(name, _)| *name == other).map(|(_, wire)| *wire),
    }
}

/// Reads a contact. The error names the property that has another shape than the contract says.
pub fn contact_from_wire(
    keap_id: String,
    mut wire: WireObject<'_>,
    link_field_id: Option<&str>,
    observed_at: Timestamp,
) -> Result<RemoteRecord, String> {
    wire.remove("id");
    let updated_at = time_at(&wire, "update_time");
    let created_at = time_at(&wire, "create_time");
    sort_lists(&mut wire);
    let times = [updated_at.map(|_| "update_time"), created_at.map(|_| "create_time")];
    let content_hash = wire.content_hash_without(&times);

    let mut record = Record::empty(EntityType::Contact);
    let mut extra = WireObject::default();
    let mut row_id = None;
    for (key, value) in wire {
        match key.as_ref() {
            "update_time" if updated_at.is_some() => {}
            "create_time" if created_at.is_some() => {}
            "company" => {
                let mut company = object_of(value, "company")?;
                if let Some(name) = company.remove("company_name") {
                    record.set_by_name("company", text_of(name, "company.company_name")?.into());
                }
                extra.insert_filled("company", company);
            }
            "email_addresses" => {
                let (first, others) = split_slot(value, "EMAIL1", "email_addresses")?;
                if let Some(mut first) = first {
                    if let Some(value) = first.remove("email") {
                        record.set_by_name("email", text_of(value, "email_addresses.email")?.into());
                    }
                    if let Some(value) = first.remove("email_opt_status") {
                        let status = text_of(value, "email_addresses.email_opt_status")?;
                        record.set_by_name("opt_in_status", status.into());
                    }
                    extra.insert_filled("email1", first);
                }
                set_list(&mut record, "emails", others);
            }
            "phone_numbers" => {
                let (first, others) = split_slot(value, "PHONE1", "phone_numbers")?;
                if let Some(mut first) = first {
                    if let Some(value) = first.remove("number") {
                        record.set_by_name("phone", text_of(value, "phone_numbers.number")?.into());
                    }
                    extra.insert_filled("phone1", first);
                }
                set_list(&mut record, "phones", others);
            }
            "addresses" => set_list(&mut record, "addresses", items_of(value, "addresses")?),
            "custom_fields" => {
                let (values, linked_row) = custom_fields::read(value, link_field_id)?;
                if !values.is_empty() {
                    record.set_by_name("custom_fields", Value::Object(values));
                }
                row_id = linked_row;
            }
            "tag_ids" => match value {
                WireValue::Null => {}
                WireValue::List(tags) => {
                    let tags = tags.into_iter().map(WireValue::into_value).collect();
                    record.set_by_name("tags", set_of(tags));
                }
                _ => return Err("tag_ids is not a list".to_owned()),
            },
            property => {
                if let Some(name) = name_of(&RENAMED, property) {
                    let text = text_of(value, property)?;
                    match text {
                        // A date that Postgres can't hold stays as Keap has it, beside the columns.
                        Some(text) if name == "birth_date" && !is_date(&text) => {
                            extra.insert(key, WireValue::Text(text.into()));
                        }
                        text => record.set_by_name(name, text.into()),
                    }
                } else if !value.is_null() {
                    extra.insert(key, value);
                }
            }
        }
    }
    let extra = extra.to_extra()?;
    Ok(RemoteRecord { keap_id, record, extra, row_id, content_hash, created_at, updated_at, observed_at })
}

/// A set of ids, each once and in order. Keap's list is that already once it is sorted, as a rule.
fn set_of(ids: Vec<Value>) -> Value {
    let is_plain = |id: &Value| {
        id.as_str().is_some_and(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()))
    };
    if ids.iter().all(is_plain) && ids.is_sorted_by(|left, right| left.as_str() < right.as_str()) {
        return Value::Array(ids);
    }
    set_elements(&Value::Array(ids)).into_iter().map(Value::String).collect()
}

/// The contact as Keap would send it (without id and times): the inverse of [`contact_from_wire`].
#[must_use]
pub fn contact_to_wire(record: &Record, extra: &Map<String, Value>) -> Map<String, Value> {
    let mut wire: Map<String, Value> = extra
        .iter()
        .filter(|(key, _)| !matches!(key.as_str(), "email1" | "phone1" | "company"))
        .map(pair)
        .collect();
    for (name, property) in RENAMED {
        insert_present(&mut wire, property, record.get_by_name(name));
    }
    let mut company = extra_object(extra, "company");
    insert_present(&mut company, "company_name", record.get_by_name("company"));
    insert_filled(&mut wire, "company", company);
    let mut first = extra_object(extra, "email1");
    insert_present(&mut first, "email", record.get_by_name("email"));
    insert_present(&mut first, "email_opt_status", record.get_by_name("opt_in_status"));
    insert_list(&mut wire, "email_addresses", "EMAIL1", first, record.get_by_name("emails"));
    let mut first = extra_object(extra, "phone1");
    insert_present(&mut first, "number", record.get_by_name("phone"));
    insert_list(&mut wire, "phone_numbers", "PHONE1", first, record.get_by_name("phones"));
    insert_present(&mut wire, "addresses", record.get_by_name("addresses"));
    insert_present(&mut wire, "tag_ids", record.get_by_name("tags"));
    custom_fields::write(&mut wire, record.get_by_name("custom_fields"));
    wire
}

/// The properties of the write model named in `properties`, as the wanted record is to be in Keap. Lists are whole,
/// because Keap replaces them: what is not listed would be removed. Cleared texts are sent as `""`.
#[must_use]
pub fn write_body(states: &States<'_>, properties: &[&str], link: Option<Link<'_>>) -> Map<String, Value> {
    let mut body = Map::new();
    for property in properties {
        let value = match *property {
            "email_addresses" => slots::emails(states),
            "phone_numbers" => slots::phones(states),
            "addresses" => slots::addresses(states),
            "custom_fields" => custom_fields::with_link(states.wanted.get_by_name("custom_fields"), link),
            property => {
                let name = name_of(&RENAMED, property).unwrap_or(property);
                let text = plain_text(states.wanted.get_by_name(name)).unwrap_or_default();
                match name {
                    // The day is what counts.
                    "birth_date" => text.split_once('T').map_or(text.as_str(), |(day, _)| day).into(),
                    _ => text.into(),
                }
            }
        };
        body.insert((*property).to_owned(), value);
    }
    body
}

/// The write model of a new contact: every property that has a value.
#[must_use]
pub fn create_body(record: &Record, link: Option<Link<'_>>) -> Map<String, Value> {
    let mut properties: Vec<&str> = fields(EntityType::Contact)
        .iter()
        .enumerate()
        .filter(|(position, field)| field.access == WriteAccess::Writable && !is_blank(record.get(*position)))
        .filter_map(|(_, field)| wire_property(field.name))
        .collect();
    if link.is_some() {
        properties.push("custom_fields");
    }
    properties.sort_unstable();
    properties.dedup();
    let nothing = Record::empty(EntityType::Contact);
    let states = States { base: &nothing, wanted: record, held: &nothing, extra: &Map::new() };
    write_body(&states, &properties, link)
}

/// Puts lists that have no order of their own into one.
fn sort_lists(wire: &mut WireObject<'_>) {
    for property in ["email_addresses", "phone_numbers", "addresses"] {
        wire.sort_list(property, Some("field"), false);
    }
    wire.sort_list("custom_fields", Some("id"), false);
    wire.sort_list("tag_ids", None, false);
}

/// A slot's object without its name, and the other items.
type Slots<'a> = (Option<WireObject<'a>>, Vec<WireObject<'a>>);

/// Takes the slot of that name out of a list.
fn split_slot<'a>(value: WireValue<'a>, name: &str, property: &str) -> Result<Slots<'a>, String> {
    let mut first = None;
    let mut others = Vec::new();
    for mut item in items_of(value, property)? {
        if first.is_none() && item.get("field").and_then(WireValue::as_str) == Some(name) {
            item.remove("field");
            first = Some(item);
        } else {
            others.push(item);
        }
    }
    Ok((first, others))
}

fn set_list(record: &mut Record, name: &str, items: Vec<WireObject<'_>>) {
    if !items.is_empty() {
        let items = items.into_iter().map(|item| Value::Object(item.into_map()));
        record.set_by_name(name, items.collect());
    }
}

fn insert_list(
    wire: &mut Map<String, Value>,
    property: &str,
    name: &str,
    first: Map<String, Value>,
    others: &Value,
) {
    let mut items = Vec::new();
    if !first.is_empty() {
        let mut first = first;
        first.insert("field".to_owned(), name.into());
        items.push(Value::Object(first));
    }
    items.extend(others.as_array().into_iter().flatten().cloned());
    insert_present(wire, property, &Value::Array(items));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_set_taken_as_it_is_is_the_set(ids in prop::collection::vec("[0-9]{0,2}|[ a]?[0-9]", 0..5), sorted: bool) {
            let mut ids: Vec<Value> = ids.into_iter().map(Value::from).collect();
            if sorted {
                ids.sort_by(|left, right| left.as_str().cmp(&right.as_str()));
            }
            let plainly: Value =
                set_elements(&Value::Array(ids.clone())).into_iter().map(Value::String).collect();
            prop_assert_eq!(set_of(ids), plainly);
        }
    }
}
