//! Pieces of Keap's JSON, read and written with the same rules for every entity.
//!
//! Absent, `null`, `""`, `[]` and `{}` mean the same to Keap, so blank values are neither kept nor sent, except where a
//! write clears something. Errors name the property and hold no value of the record.

mod value;

use keapsync_domain::canonical::{canonical, number_text};
use keapsync_domain::schema::FieldKind;
use keapsync_domain::timestamp::Timestamp;
use serde_json::{Map, Value};

pub use value::{WireObject, WireValue};

/// A time of a record, when it can be read.
pub(crate) fn time_at(wire: &WireObject<'_>, property: &str) -> Option<Timestamp> {
    wire.get(property).and_then(WireValue::as_str).and_then(Timestamp::parse_rfc3339)
}

/// The field that a property fills, in a table of fields and properties.
pub(crate) fn name_of(table: &[(&'static str, &str)], property: &str) -> Option<&'static str> {
    table.iter().find(|(_, wire)| *wire == property).map(|(name, _)| *name)
}

/// The text at a key of an object; empty when there is none.
pub(crate) fn text_at<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// A text, or a number as text.
pub(crate) fn text_of(value: WireValue<'_>, property: &str) -> Result<Option<String>, String> {
    match value {
        WireValue::Null => Ok(None),
        WireValue::Text(text) if text.is_empty() => Ok(None),
        WireValue::Text(text) => Ok(Some(text.into_owned())),
        WireValue::Number(number) => Ok(Some(number.to_string())),
        _ => Err(format!("{property} is not a text")),
    }
}

/// A whole number.
pub(crate) fn integer_of(value: &WireValue<'_>, property: &str) -> Result<Option<i64>, String> {
    match value {
        WireValue::Null => Ok(None),
        WireValue::Number(number) => {
            number.as_i64().map(Some).ok_or_else(|| format!("{property} is not a whole number"))
        }
        _ => Err(format!("{property} is not a number")),
    }
}

/// True or false.
pub(crate) fn boolean_of(value: &WireValue<'_>, property: &str) -> Result<Option<bool>, String> {
    match value {
        WireValue::Null => Ok(None),
        WireValue::Bool(truth) => Ok(Some(*truth)),
        _ => Err(format!("{property} is neither true nor false")),
    }
}

/// An object; an absent one is empty.
pub(crate) fn object_of<'a>(value: WireValue<'a>, property: &str) -> Result<WireObject<'a>, String> {
    match value {
        WireValue::Null => Ok(WireObject::default()),
        WireValue::Object(object) => Ok(object),
        _ => Err(format!("{property} is not an object")),
    }
}

/// A list of objects; an absent one is empty.
pub(crate) fn items_of<'a>(value: WireValue<'a>, property: &str) -> Result<Vec<WireObject<'a>>, String> {
    let fault = || format!("{property} is not a list of objects");
    match value {
        WireValue::Null => Ok(Vec::new()),
        WireValue::List(items) => items
            .into_iter()
            .map(|item| match item {
                WireValue::Object(object) => Ok(object),
                _ => Err(fault()),
            })
            .collect(),
        _ => Err(fault()),
    }
}

/// Keeps an object that holds something.
pub(crate) fn insert_filled(target: &mut Map<String, Value>, key: &str, object: Map<String, Value>) {
    if !object.is_empty() {
        target.insert(key.to_owned(), Value::Object(object));
    }
}

/// Keeps a value that is not blank.
pub(crate) fn insert_present(target: &mut Map<String, Value>, key: &str, value: &Value) {
    if !is_blank(value) {
        target.insert(key.to_owned(), value.clone());
    }
}

/// A copy of an object within `extra`; empty when there is none.
pub(crate) fn extra_object(extra: &Map<String, Value>, key: &str) -> Map<String, Value> {
    extra.get(key).and_then(Value::as_object).cloned().unwrap_or_default()
}

/// A copy of an object's entry.
pub(crate) fn pair((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

/// Whether a value says nothing.
pub(crate) fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(object) => object.is_empty(),
        _ => false,
    }
}

/// Whether a text is a calendar day, with or without a time behind it, that Postgres can hold.
pub(crate) fn is_date(text: &str) -> bool {
    let day = text.split_once('T').map_or(text, |(day, _)| day);
    day.len() == 10
        && Timestamp::parse_rfc3339(&format!("{day}T00:00:00Z")).is_some()
        && !day.starts_with("0000")
}

/// A whole number of 32 bits, however a person spelled it: `2`, `"2"` and `"2.0"` are one.
pub(crate) fn whole_number(value: &Value) -> Option<i32> {
    match canonical(FieldKind::Integer, value) {
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// A value of a record as text, however a person spelled it: `"7"`, `7` and `7.0` are one id.
pub(crate) fn plain_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number_text(number)),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}
