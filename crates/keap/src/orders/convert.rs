//! An order on Keap's wire (v2 schema `OrderV2`) and as a record, both ways.
//!
//! | field | wire |
//! |---|---|
//! | `keap_contact_id` | `contact.id`; the rest is `extra.contact`. Written as `contact_id` |
//! | `title` | `title`; written as `order_title`, because `title` in a write is the invoice's |
//! | `order_number` | `invoice_number` |
//! | `order_date` | `order_time` |
//! | `total_amount`, `paid_amount`, `due_amount`, `refund_amount` | `total`, `total_paid`, `total_due`, `refund_total`: whole numbers of the smallest unit as decimals; the rest of each is in `extra` |
//! | `currency` | the code that the amounts agree on; one that differs stays in `extra` beside its amount |
//! | `line_items` | `order_items`, of which the keys are those of `OrderItem`, flattened |
//! | `shipping_address` | `shipping_information`, its keys flattened |
//! | `custom_fields` | the array as an object keyed by id, without the field that carries our row's id |
//!
//! Nothing is stored twice and nothing is dropped: [`order_to_wire`] gives back what [`order_from_wire`] read. An amount
//! without a currency counts as one of two places.

use super::{line_steps, lines, shipping};
use crate::custom_fields::{self, Link};
use crate::money::{decimal_of_minor, exponent, minor_of_decimal};
use crate::wire::{
    WireObject, WireValue, extra_object, insert_filled, insert_present, integer_of, is_blank, items_of,
    name_of, object_of, pair, plain_text, text_of, time_at,
};
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::EntityType;
use keapsync_domain::record::Record;
use keapsync_domain::remote::RemoteRecord;
use keapsync_domain::timestamp::Timestamp;
use serde_json::{Map, Value};

/// Texts that only have another name on the wire, as it is read.
const RENAMED: [(&str, &str); 5] = [
    ("order_number", "invoice_number"),
    ("title", "title"),
    ("status", "status"),
    ("order_type", "order_type"),
    ("notes", "notes"),
];

/// The order's amounts.
const AMOUNTS: [(&str, &str); 4] = [
    ("total_amount", "total"),
    ("paid_amount", "total_paid"),
    ("due_amount", "total_due"),
    ("refund_amount", "refund_total"),
];

/// Reads an order without its id. The error names the property that has another shape than the contract says.
pub fn order_from_wire(
    keap_id: String,
    mut wire: WireObject<'_>,
    link_field_id: Option<&str>,
    observed_at: Timestamp,
) -> Result<RemoteRecord, String> {
    let updated_at = time_at(&wire, "modification_time");
    let created_at = time_at(&wire, "creation_time");
    for property in ["order_items", "custom_fields"] {
        wire.sort_list(property, Some("id"), true);
    }
    let currency = currency_of(&wire);
    let times = [updated_at.map(|_| "modification_time"), created_at.map(|_| "creation_time")];
    let content_hash = wire.content_hash_without(&times);

    let mut record = Record::empty(EntityType::Order);
    let mut extra = WireObject::default();
    let mut row_id = None;
    for (key, value) in wire {
        match key.as_ref() {
            "modification_time" if updated_at.is_some() => {}
            "creation_time" if created_at.is_some() => {}
            "order_time" => match text_of(value, "order_time")? {
                // A time that Postgres can't hold stays as Keap has it, beside the columns.
                Some(text) if Timestamp::parse_rfc3339(&text).is_none() => {
                    extra.insert(key, WireValue::Text(text.into()));
                }
                text => record.set_by_name("order_date", text.into()),
            },
            "contact" => {
                let mut contact = object_of(value, "contact")?;
                if let Some(id) = contact.remove("id") {
                    record.set_by_name("keap_contact_id", text_of(id, "contact.id")?.into());
                }
                extra.insert_filled("contact", contact);
            }
            "order_items" => {
                let (lines, rest) = lines::read(items_of(value, "order_items")?, currency.as_deref())?;
                if !lines.is_empty() {
                    record.set_by_name("line_items", Value::Array(lines));
                }
                extra.insert_filled("order_items", rest);
            }
            "shipping_information" => {
                let (address, rest) = shipping::read(object_of(value, "shipping_information")?)?;
                if !address.is_empty() {
                    record.set_by_name("shipping_address", Value::Object(address));
                }
                extra.insert_filled("shipping_information", rest);
            }
            "custom_fields" => {
                let (values, linked_row) = custom_fields::read(value, link_field_id)?;
                if !values.is_empty() {
                    record.set_by_name("custom_fields", Value::Object(values));
                }
                row_id = linked_row;
            }
            property => {
                if let Some(name) = name_of(&RENAMED, property) {
                    record.set_by_name(name, text_of(value, property)?.into());
                } else if let Some(name) = name_of(&AMOUNTS, property) {
                    let (decimal, rest) = read_amount(value, property, currency.as_deref())?;
                    record.set_by_name(name, decimal);
                    extra.insert_filled(key, rest);
                } else if !value.is_null() {
                    extra.insert(key, value);
                }
            }
        }
    }
    record.set_by_name("currency", currency.into());
    let extra = extra.to_extra()?;
    Ok(RemoteRecord { keap_id, record, extra, row_id, content_hash, created_at, updated_at, observed_at })
}

/// The order as Keap would send it (without id and times): the inverse of [`order_from_wire`].
#[must_use]
pub fn order_to_wire(record: &Record, extra: &Map<String, Value>) -> Map<String, Value> {
    let mut wire: Map<String, Value> = extra.iter().map(pair).collect();
    for (name, property) in RENAMED {
        insert_present(&mut wire, property, record.get_by_name(name));
    }
    insert_present(&mut wire, "order_time", record.get_by_name("order_date"));
    let mut contact = extra_object(extra, "contact");
    insert_present(&mut contact, "id", record.get_by_name("keap_contact_id"));
    insert_filled(&mut wire, "contact", contact);
    let currency = record.get_by_name("currency").as_str();
    for (name, property) in AMOUNTS {
        let amount = write_amount(record.get_by_name(name), extra_object(extra, property), currency);
        insert_filled(&mut wire, property, amount);
    }
    let mut rest = extra_object(extra, "order_items");
    wire.remove("order_items");
    let items = lines::write(record.get_by_name("line_items"), &mut rest, currency);
    insert_present(&mut wire, "order_items", &Value::Array(items));
    let rest = extra_object(extra, "shipping_information");
    let information = shipping::write(record.get_by_name("shipping_address"), rest);
    insert_filled(&mut wire, "shipping_information", information);
    custom_fields::write(&mut wire, record.get_by_name("custom_fields"));
    wire
}

/// The properties of `UpdateOrderRequest` named in `properties`, as `wanted` is to be in Keap.
pub fn write_body(
    wanted: &Record,
    remote: &Record,
    properties: &[&str],
    link: Option<Link<'_>>,
) -> Result<Map<String, Value>, Failure> {
    let mut body = Map::new();
    for property in properties {
        let value = match *property {
            "contact_id" => needed(wanted, "keap_contact_id")?,
            "order_title" => needed(wanted, "title")?,
            "order_type" => needed(wanted, "order_type")?,
            "order_time" => order_time(wanted)?,
            "shipping_address" => Value::Object(shipping::request(
                wanted.get_by_name("shipping_address"),
                remote.get_by_name("shipping_address"),
            )),
            "custom_fields" => custom_fields::replacing(
                wanted.get_by_name("custom_fields"),
                remote.get_by_name("custom_fields"),
                link,
            ),
            "invoice_number" => text_or_blank(wanted, "order_number"),
            "notes" => text_or_blank(wanted, "notes"),
            _ => continue,
        };
        body.insert((*property).to_owned(), value);
    }
    Ok(body)
}

/// `RestCreateOrderRequest` of a new order: every property that has a value, the lines among them.
pub fn create_body(record: &Record, link: Option<Link<'_>>) -> Result<Map<String, Value>, Failure> {
    let mut properties = vec!["contact_id", "order_title", "order_type", "order_time"];
    for (name, property) in [
        ("order_number", "invoice_number"),
        ("notes", "notes"),
        ("shipping_address", "shipping_address"),
        ("custom_fields", "custom_fields"),
    ] {
        let links = property == "custom_fields" && link.is_some();
        if links || !is_blank(record.get_by_name(name)) {
            properties.push(property);
        }
    }
    let mut body = write_body(record, &Record::empty(EntityType::Order), &properties, link)?;
    let items =
        line_steps::create_bodies(record.get_by_name("line_items"), record.get_by_name("currency").as_str())?;
    insert_present(&mut body, "order_items", &Value::Array(items));
    Ok(body)
}

/// Reads a `CurrencyValue`: its amount as a decimal, and what else it says.
pub(super) fn read_amount<'a>(
    value: WireValue<'a>,
    property: &str,
    order_currency: Option<&str>,
) -> Result<(Value, WireObject<'a>), String> {
    let mut rest = object_of(value, property)?;
    let amount = rest.remove("amount").unwrap_or_default();
    let amount = integer_of(&amount, "amount").map_err(|fault| format!("{property}.{fault}"))?;
    let Some(amount) = amount else {
        return Ok((Value::Null, rest));
    };
    let own = rest.get("currency_code").and_then(WireValue::as_str);
    let places = own.or(order_currency).map_or(2, exponent);
    match (own, order_currency) {
        (Some(own), Some(order_currency)) if own == order_currency => drop(rest.remove("currency_code")),
        (None, Some(_)) => rest.insert("currency_code", WireValue::Null),
        _ => {}
    }
    Ok((decimal_of_minor(amount, places).into(), rest))
}

/// The inverse of [`read_amount`].
pub(super) fn write_amount(
    decimal: &Value,
    mut rest: Map<String, Value>,
    order_currency: Option<&str>,
) -> Map<String, Value> {
    let Some(text) = plain_text(decimal) else { return rest };
    let own = match rest.get("currency_code") {
        Some(code) => code.as_str().map(str::to_owned),
        None => order_currency.map(str::to_owned),
    };
    let places = own.as_deref().or(order_currency).map_or(2, exponent);
    if let Some(amount) = minor_of_decimal(&text, places) {
        rest.insert("amount".to_owned(), amount.into());
    }
    match own {
        Some(code) => drop(rest.insert("currency_code".to_owned(), code.into())),
        None => drop(rest.remove("currency_code")),
    }
    rest
}

/// The first currency that an amount of the order names.
fn currency_of(wire: &WireObject<'_>) -> Option<String> {
    let own = AMOUNTS.iter().filter_map(|(_, property)| wire.get(property));
    let items = match wire.get("order_items") {
        Some(WireValue::List(items)) => items.as_slice(),
        _ => &[],
    };
    let of_items = items.iter().flat_map(|item| {
        let item = if let WireValue::Object(item) = item { Some(item) } else { None };
        lines::AMOUNTS.iter().filter_map(move |property| item?.get(property))
    });
    own.chain(of_items)
        .map(|amount| amount.text_at("currency_code"))
        .find(|code| !code.is_empty())
        .map(str::to_owned)
}

fn text_or_blank(record: &Record, name: &str) -> Value {
    plain_text(record.get_by_name(name)).unwrap_or_default().into()
}

fn needed(record: &Record, name: &str) -> Result<Value, Failure> {
    plain_text(record.get_by_name(name)).map(Value::String).ok_or_else(|| {
        Failure::new(FailureClass::Invalid, format!("Keap takes no order without {name}: give the row one"))
    })
}

fn order_time(record: &Record) -> Result<Value, Failure> {
    let text = plain_text(&needed(record, "order_date")?).unwrap_or_default();
    Timestamp::parse_rfc3339(&text)
        .or_else(|| Timestamp::parse_rfc3339(&format!("{text}T00:00:00Z")))
        .map(|moment| moment.to_rfc3339().into())
        .ok_or_else(|| {
            Failure::new(FailureClass::Invalid, "order_date is no time that can be read: correct it")
        })
}
