//! One record as both sides tell it, flat: a text by path. Written anew for this proof, beside what the engine compares by.
//!
//! Formatting is no difference: blanks around a text, the case of an e-mail's domain, punctuation of a telephone number, zeros
//! behind an amount, the spelling of a moment, the order of lists. What one side cannot have is left out of both.

use keapsync_domain::ids::{EntityType, is_uuid};
use keapsync_domain::timestamp::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;

/// A record by path; what is absent or empty is not in it.
pub type View = BTreeMap<String, String>;

/// Plain fields: the column, and where Keap's record has it.
fn plain(entity: EntityType) -> &'static [(&'static str, &'static str)] {
    match entity {
        EntityType::Contact => &[
            ("first_name", "/given_name"),
            ("last_name", "/family_name"),
            ("middle_name", "/middle_name"),
            ("job_title", "/job_title"),
            ("website", "/website"),
            ("birth_date", "/birth_date"),
            ("owner_id", "/owner_id"),
            ("lead_source_id", "/leadsource_id"),
            ("company", "/company/company_name"),
        ],
        EntityType::Order => &[
            ("keap_contact_id", "/contact/id"),
            ("order_number", "/invoice_number"),
            ("title", "/title"),
            ("order_date", "/order_time"),
            ("status", "/status"),
            ("order_type", "/order_type"),
            ("notes", "/notes"),
            ("currency", "/total/currency_code"),
        ],
        EntityType::Tag => {
            &[("name", "/name"), ("description", "/description"), ("category_id", "/category/id")]
        }
        EntityType::Subscription => &[
            ("keap_contact_id", "/contact_id"),
            ("product_id", "/product_id"),
            ("plan_id", "/subscription_plan_id"),
            ("start_date", "/start_date"),
            ("end_date", "/end_date"),
            ("next_bill_date", "/next_bill_date"),
            ("billing_cycle", "/billing_cycle"),
            ("billing_frequency", "/billing_frequency"),
            ("amount", "/billing_amount"),
            ("quantity", "/quantity"),
            ("auto_charge", "/auto_charge"),
            ("cancel_reason", "/reason_stopped"),
        ],
    }
}

/// What of an address counts: names of places follow from their codes.
const ADDRESS: [&str; 6] = ["line1", "line2", "locality", "region_code", "country_code", "postal_code"];

/// A row.
#[must_use]
pub fn of_row(entity: EntityType, row: &Value) -> View {
    let mut view = View::new();
    for (column, _) in plain(entity) {
        put(&mut view, (*column).to_owned(), &row[*column]);
    }
    for (id, content) in row["custom_fields"].as_object().into_iter().flatten() {
        put(&mut view, format!("custom_fields.{id}"), content);
    }
    match entity {
        EntityType::Contact => {
            put_with(&mut view, "email".to_owned(), &row["email"], email);
            put_with(&mut view, "phone".to_owned(), &row["phone"], phone);
            put(&mut view, "opt_in_status".to_owned(), &row["opt_in_status"]);
            slots(&mut view, &row["emails"], &row["phones"], &row["addresses"]);
            put_set(&mut view, &row["tags"]);
        }
        EntityType::Order => {
            for amount in ["total_amount", "paid_amount", "due_amount", "refund_amount"] {
                put_with(&mut view, amount.to_owned(), &row[amount], decimal);
            }
            for line in items(&row["line_items"]) {
                let path = format!("line_items.{}", line["id"].as_str().unwrap_or("without an id"));
                for name in ["name", "notes", "item_type", "product_id", "quantity"] {
                    put(&mut view, format!("{path}.{name}"), &line[name]);
                }
                put_with(&mut view, format!("{path}.price_per_unit"), &line["price_per_unit"], decimal);
            }
            address(&mut view, "shipping_address", &row["shipping_address"]);
        }
        EntityType::Tag => {}
        EntityType::Subscription => put(&mut view, "status".to_owned(), &row["status"]),
    }
    view
}

/// A record of Keap.
#[must_use]
pub fn of_keap(entity: EntityType, record: &Value) -> View {
    let mut view = View::new();
    for (column, pointer) in plain(entity) {
        put(&mut view, (*column).to_owned(), record.pointer(pointer).unwrap_or(&Value::Null));
    }
    for field in items(&record["custom_fields"]) {
        // The field that links a record to its row is no value of either side.
        if !field["content"].as_str().is_some_and(is_uuid) {
            put(
                &mut view,
                format!("custom_fields.{}", field["id"].as_str().unwrap_or_default()),
                &field["content"],
            );
        }
    }
    match entity {
        EntityType::Contact => {
            let first = |list: &Value, name: &str| {
                items(list).find(|item| item["field"] == name).cloned().unwrap_or(Value::Null)
            };
            let main = first(&record["email_addresses"], "EMAIL1");
            put_with(&mut view, "email".to_owned(), &main["email"], email);
            put(&mut view, "opt_in_status".to_owned(), &main["email_opt_status"]);
            put_with(
                &mut view,
                "phone".to_owned(),
                &first(&record["phone_numbers"], "PHONE1")["number"],
                phone,
            );
            slots(&mut view, &record["email_addresses"], &record["phone_numbers"], &record["addresses"]);
            put_set(&mut view, &record["tag_ids"]);
        }
        EntityType::Order => {
            let places = record.pointer("/total/currency_code").and_then(Value::as_str).map_or(2, places);
            for (column, property) in [
                ("total_amount", "total"),
                ("paid_amount", "total_paid"),
                ("due_amount", "total_due"),
                ("refund_amount", "refund_total"),
            ] {
                minor(&mut view, column.to_owned(), &record[property], places);
            }
            for item in items(&record["order_items"]) {
                let path = format!("line_items.{}", item["id"].as_str().unwrap_or_default());
                for name in ["name", "notes", "item_type", "quantity"] {
                    put(&mut view, format!("{path}.{name}"), &item[name]);
                }
                put(&mut view, format!("{path}.product_id"), &item["product"]["id"]);
                minor(&mut view, format!("{path}.price_per_unit"), &item["price_per_unit"], places);
            }
            address(&mut view, "shipping_address", &record["shipping_information"]["address"]);
        }
        EntityType::Tag => {}
        EntityType::Subscription => {
            let status = record["active"].as_bool().map(|active| if active { "active" } else { "inactive" });
            put(&mut view, "status".to_owned(), &status.into());
        }
    }
    view
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn slots(view: &mut View, emails: &Value, phones: &Value, addresses: &Value) {
    let name = |item: &Value| item["field"].as_str().unwrap_or_default().to_owned();
    for item in items(emails).filter(|item| item["field"] != "EMAIL1") {
        put_with(view, format!("emails.{}", name(item)), &item["email"], email);
    }
    for item in items(phones).filter(|item| item["field"] != "PHONE1") {
        put_with(view, format!("phones.{}", name(item)), &item["number"], phone);
    }
    for item in items(addresses) {
        address(view, &format!("addresses.{}", name(item)), item);
    }
}

fn address(view: &mut View, path: &str, address: &Value) {
    for name in ADDRESS {
        put(view, format!("{path}.{name}"), &address[name]);
    }
}

fn put_set(view: &mut View, set: &Value) {
    for element in items(set) {
        put(view, format!("tags.{}", element.as_str().unwrap_or_default()), &Value::from("is there"));
    }
}

fn minor(view: &mut View, path: String, amount: &Value, places: u32) {
    if let Some(amount) = amount["amount"].as_i64() {
        let scale = 10_i64.pow(places);
        let sign = if amount < 0 { "-" } else { "" };
        let (whole, rest) =
            (amount.unsigned_abs() / scale.unsigned_abs(), amount.unsigned_abs() % scale.unsigned_abs());
        let width = usize::try_from(places).unwrap_or(0);
        view.insert(path, decimal(&format!("{sign}{whole}.{rest:0width$}")));
    }
}

/// Decimal places of the simulator's currencies.
fn places(currency: &str) -> u32 {
    match currency {
        "JPY" => 0,
        "KWD" => 3,
        _ => 2,
    }
}

fn put(view: &mut View, path: String, value: &Value) {
    put_with(view, path, value, |text| {
        if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') && text.contains('.') {
            return decimal(text);
        }
        Timestamp::parse_rfc3339(text).map_or_else(|| text.to_owned(), |moment| moment.0.to_string())
    });
}

fn put_with(view: &mut View, path: String, value: &Value, form: impl Fn(&str) -> String) {
    let text = match value {
        Value::Null => return,
        Value::String(text) => text.trim().to_owned(),
        other => other.to_string(),
    };
    if !matches!(text.as_str(), "" | "[]" | "{}") {
        view.insert(path, form(&text));
    }
}

fn email(text: &str) -> String {
    text.rsplit_once('@')
        .map_or_else(|| text.to_owned(), |(name, domain)| format!("{name}@{}", domain.to_lowercase()))
}

fn phone(text: &str) -> String {
    if text.chars().any(char::is_alphabetic) {
        return text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    }
    text.chars().filter(char::is_ascii_digit).collect()
}

fn decimal(text: &str) -> String {
    match text.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|byte| byte == b'0') => whole.to_owned(),
        Some((whole, fraction)) => format!("{whole}.{}", fraction.trim_end_matches('0')),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_contact_looks_the_same_from_both_sides() {
        let keap = json!({
            "id": "7", "given_name": "Ann ", "company": {"id": "1", "company_name": "Acme"},
            "email_addresses": [{"field": "EMAIL2", "email": "b@X.example"},
                {"field": "EMAIL1", "email": "a@x.example", "email_opt_status": "CONFIRMED"}],
            "phone_numbers": [{"field": "PHONE1", "number": "(480) 555-0100"}, {"field": "PHONE2", "number": "1"}],
            "addresses": [{"field": "BILLING", "line1": "1 Main", "country_code": "USA", "country": "United States"}],
            "custom_fields": [{"id": "9", "content": "0b8f7a1c-3f52-4d1e-9a53-1c2d3e4f5a6b"}, {"id": "5", "content": "x"}],
            "tag_ids": ["2", "1"],
        });
        let row = json!({
            "id": "r", "first_name": "Ann", "company": "Acme", "email": "a@X.example", "opt_in_status": "CONFIRMED",
            "emails": [{"field": "EMAIL2", "email": "b@x.example"}], "phone": "480 555 0100",
            "phones": [{"field": "PHONE2", "number": "1"}], "addresses": [{"field": "BILLING", "line1": "1 Main", "country_code": "USA"}],
            "custom_fields": {"5": "x"}, "tags": ["1", "2"],
        });
        let (keap, row) = (of_keap(EntityType::Contact, &keap), of_row(EntityType::Contact, &row));
        assert_eq!(keap, row);
        assert_eq!(keap.len(), 12);
    }

    #[test]
    fn one_order_looks_the_same_from_both_sides() {
        let keap = json!({
            "title": "Tea", "order_time": "2026-01-02T03:04:05Z", "contact": {"id": "7"},
            "total": {"amount": 1998, "currency_code": "USD"}, "total_paid": {"amount": 0},
            "order_items": [{"id": "3", "name": "Tea", "quantity": 2, "price_per_unit": {"amount": 999}, "product": {"id": "4"}}],
        });
        let row = json!({
            "title": "Tea", "order_date": "2026-01-02T03:04:05+00:00", "keap_contact_id": "7", "total_amount": 19.980,
            "paid_amount": 0.000, "currency": "USD",
            "line_items": [{"id": "3", "name": "Tea", "quantity": 2, "price_per_unit": "9.99", "product_id": "4"}],
        });
        assert_eq!(of_keap(EntityType::Order, &keap), of_row(EntityType::Order, &row));
    }

    #[test]
    fn a_difference_shows() {
        let view =
            |name: &str, tags: Value| of_row(EntityType::Contact, &json!({"first_name": name, "tags": tags}));
        assert_ne!(view("Ann", json!(["1"])), view("Anna", json!(["1"])));
        assert_ne!(view("Ann", json!(["1"])), view("Ann", json!(["1", "2"])));
        assert_eq!(view("Ann", json!([])), view("Ann", Value::Null));
    }
}
