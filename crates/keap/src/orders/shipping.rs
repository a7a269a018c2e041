//! Where an order goes: `ShippingInformation` as it is read, `AddressInformation` as it is written.
//!
//! The column holds one object: the keys of Keap's `Address`, and beside them who receives it (`company`, `given_name`,
//! `family_name`, `phone_number`, `invoice_to_company`). What else Keap says stays in `extra.shipping_information`, and so
//! does what Keap says of every address whether or not anybody asked: that it is the shipping one (`field`), and that the
//! company is not who pays. A person who clears or writes an address says neither, and has not changed it by that.
//!
//! A write names no codes: `region` and `zip_code` take what the address has, the code before the long name, because the
//! code is what people edit and what decides whether two addresses are the same.

use crate::wire::{WireObject, WireValue, insert_filled, is_blank, object_of, pair};
use serde_json::{Map, Value};

/// Who receives it, as read.
const RECIPIENT: [&str; 5] = ["company", "given_name", "family_name", "phone_number", "invoice_to_company"];

/// Each property of a write, and the column's keys that fill it: the first that is not blank counts.
const WRITTEN: [(&str, &[&str]); 12] = [
    ("line1", &["line1"]),
    ("line2", &["line2"]),
    ("locality", &["locality"]),
    ("region", &["region_code", "region"]),
    ("country_code", &["country_code"]),
    ("zip_code", &["postal_code", "zip_code"]),
    ("zip_four", &["zip_four"]),
    ("company", &["company"]),
    ("first_name", &["given_name"]),
    ("last_name", &["family_name"]),
    ("phone", &["phone_number"]),
    ("is_invoice_to_company", &["invoice_to_company"]),
];

/// Divides `ShippingInformation`: the column's object, and the rest.
pub(super) fn read(information: WireObject<'_>) -> Result<(Map<String, Value>, WireObject<'_>), String> {
    let (mut column, mut rest) = (Map::new(), WireObject::default());
    for (key, value) in information {
        if key == "address" {
            let mut apart = WireObject::default();
            for (key, value) in object_of(value, "shipping_information.address")? {
                // No key of an address is one of the recipient's today; should Keap add one, both are kept.
                if key == "field" || RECIPIENT.contains(&key.as_ref()) {
                    apart.insert(key, value);
                } else if !value.is_blank() {
                    column.insert(key.into_owned(), value.into_value());
                }
            }
            rest.insert_filled("address", apart);
        } else if RECIPIENT.contains(&key.as_ref()) && !matches!(value, WireValue::Bool(false)) {
            if !value.is_blank() {
                column.insert(key.into_owned(), value.into_value());
            }
        } else {
            rest.insert(key, value);
        }
    }
    Ok((column, rest))
}

/// The inverse of [`read`].
pub(super) fn write(column: &Value, mut rest: Map<String, Value>) -> Map<String, Value> {
    let mut address = match rest.remove("address") {
        Some(Value::Object(address)) => address,
        _ => Map::new(),
    };
    for (key, value) in column.as_object().into_iter().flatten().map(pair) {
        if RECIPIENT.contains(&key.as_str()) {
            rest.insert(key, value);
        } else {
            address.insert(key, value);
        }
    }
    insert_filled(&mut rest, "address", address);
    rest
}

/// The `AddressInformation` that turns `remote` into `wanted`: what is gone is sent blank.
pub(super) fn request(wanted: &Value, remote: &Value) -> Map<String, Value> {
    let mut body = Map::new();
    for (property, keys) in WRITTEN {
        if property == "zip_four" && holds_plus_four(wanted) {
            continue;
        }
        let blank = if property == "is_invoice_to_company" { Value::Bool(false) } else { "".into() };
        if let Some(value) = first(wanted, keys) {
            body.insert(property.to_owned(), spelled(property, value));
        } else if first(remote, keys).is_some() {
            body.insert(property.to_owned(), blank);
        }
    }
    body
}

/// A text as Keap takes it: what merging ignores must not decide whether an address is refused.
fn spelled(property: &str, value: &Value) -> Value {
    match value.as_str().map(str::trim) {
        Some(code) if property == "country_code" => code.to_uppercase().into(),
        Some(text) => text.into(),
        None => value.clone(),
    }
}

/// Whether the postal code says the last four digits already, so that sending them again would double them.
fn holds_plus_four(address: &Value) -> bool {
    first(address, &["postal_code"]).and_then(Value::as_str).is_some_and(|code| code.contains('-'))
}

fn first<'a>(address: &'a Value, keys: &[&str]) -> Option<&'a Value> {
    keys.iter().filter_map(|key| address.get(*key)).find(|value| !is_blank(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_cleared_is_sent_blank_and_codes_go_before_names() {
        let remote = json!({"line1": "1 Main", "line2": "Suite 1", "region": "Arizona", "region_code": "US-AZ",
            "postal_code": "85001", "given_name": "Ann", "invoice_to_company": true});
        let wanted = json!({"line1": "1 Main", "region": "Arizona", "region_code": "US-CA", "country": "United States",
            "country_code": "USA", "postal_code": "90001-1234", "zip_four": "1234", "given_name": "Ann"});
        assert_eq!(
            Value::Object(request(&wanted, &remote)),
            json!({"line1": "1 Main", "line2": "", "region": "US-CA", "country_code": "USA", "zip_code": "90001-1234",
                "first_name": "Ann", "is_invoice_to_company": false})
        );
        assert_eq!(Value::Object(request(&Value::Null, &json!({"line1": "x"}))), json!({"line1": ""}));
    }
}
