use super::*;
use crate::ids::EntityType;
use serde_json::json;

#[test]
fn formatting_is_never_a_change() {
    let cases = [
        (FieldKind::Text, json!("  Ann "), json!("Ann")),
        (FieldKind::Text, json!(""), Value::Null),
        (FieldKind::Email, json!("Ann@EXAMPLE.com"), json!("Ann@example.COM ")),
        (FieldKind::Phone, json!("(480) 555-0100"), json!("480.555.0100")),
        (FieldKind::Phone, json!("+1 480 555 0100"), json!("+14805550100")),
        (FieldKind::Date, json!("1985-03-15T00:00:00.000Z"), json!("1985-03-15")),
        (FieldKind::Instant, json!("2026-03-01T10:00:00+02:00"), json!("2026-03-01T08:00:00.000Z")),
        (FieldKind::Instant, json!("2026-03-01"), json!("2026-03-01T00:00:00Z")),
        (FieldKind::Integer, json!(3), json!("3")),
        (FieldKind::Money, json!("12.50"), json!(12.5)),
        (FieldKind::Money, json!("-0.000"), json!(0)),
        (FieldKind::Money, json!(".5"), json!("0.500")),
        (FieldKind::Boolean, json!(true), json!("TRUE")),
        (
            FieldKind::Address,
            json!({"line1": " 1 Main", "country_code": "usa", "line2": ""}),
            json!({"line1": "1 Main", "country_code": "USA"}),
        ),
        (
            FieldKind::Slots(SlotKind::Item),
            json!([{"id": "7", "name": "Tea", "quantity": 2}, {"id": "8"}]),
            json!([{"id": "7", "quantity": 2, "name": "Tea "}]),
        ),
        (
            FieldKind::Slots(SlotKind::Item),
            json!([{"id": 7, "product_id": 3, "quantity": "2", "price_per_unit": 12.5, "cost_per_unit": "1.0",
                    "discount": "0"}]),
            json!([{"id": "7", "product_id": "3", "quantity": 2.0, "price_per_unit": "12.50", "cost_per_unit": 1,
                    "discount": -0.0}]),
        ),
        (FieldKind::Set, json!(["2", "1"]), json!([1, 2, "2"])),
        (FieldKind::Set, json!([]), Value::Null),
        (FieldKind::Set, json!([1.0]), json!(["1"])),
        (FieldKind::Text, json!([]), json!({})),
        (FieldKind::Map, json!({"7": 2.0, "8": [1, {"n": -0.0}]}), json!({"7": 2, "8": [1.0, {"n": 0}]})),
        (FieldKind::Map, json!({"7": "", "8": "x"}), json!({"8": " x "})),
        (
            FieldKind::Slots(SlotKind::Address),
            json!([{"field": "BILLING", "line1": "1 Main", "country_code": "usa", "region_code": "US-AZ"}]),
            json!([{"field": "BILLING", "line1": "1 Main ", "country_code": "USA", "region_code": "US-AZ", "region": ""}]),
        ),
        (
            FieldKind::Slots(SlotKind::Phone),
            json!([{"field": "PHONE2", "number": "1"}, {"field": "PHONE2", "number": ""}]),
            Value::Null,
        ),
        (
            FieldKind::Slots(SlotKind::Phone),
            json!([{"field": "PHONE2", "number": "480 5550100"}, {"field": "PHONE3", "number": ""}]),
            json!([{"field": "PHONE2", "number": "4805550100"}]),
        ),
    ];
    for (kind, left, right) in cases {
        assert!(same(kind, &left, &right), "{kind:?}: {left} and {right}");
    }
}

#[test]
fn what_keap_derives_is_a_difference_all_the_same() {
    // A certificate that called these equal would hide an edit of the name that Keap does not hold.
    for (kind, left, right) in [
        (
            SlotKind::Address,
            json!({"region_code": "US-AZ", "region": "Arizona"}),
            json!({"region_code": "US-AZ", "region": "Sonora"}),
        ),
        (
            SlotKind::Address,
            json!({"country_code": "USA"}),
            json!({"country_code": "USA", "country": "Germany"}),
        ),
        (
            SlotKind::Address,
            json!({"postal_code": "1", "zip_four": "2"}),
            json!({"postal_code": "1", "zip_four": "3"}),
        ),
        (
            SlotKind::Phone,
            json!({"number": "1", "number_e164": "2"}),
            json!({"number": "1", "number_e164": "3"}),
        ),
    ] {
        let [left, right] = [left, right].map(|slot| json!([slot]));
        assert!(!same(FieldKind::Slots(kind), &left, &right), "{left} and {right}");
    }
}

#[test]
fn meaning_is_a_change() {
    let cases = [
        (FieldKind::Text, json!("Ann"), json!("ann")),
        (FieldKind::Email, json!("ann@example.com"), json!("Ann@example.com")),
        (FieldKind::Phone, json!("480 555 0100 x1"), json!("480 555 0100 x2")),
        (FieldKind::Instant, json!("2026-03-01T10:00:00.001Z"), json!("2026-03-01T10:00:00Z")),
        (FieldKind::Money, json!("12.5"), json!("-12.5")),
        (FieldKind::Money, json!("100"), json!("1")),
        (FieldKind::Money, json!("1e2"), json!("100.")),
        (FieldKind::Boolean, json!(false), Value::Null),
        (
            FieldKind::Slots(SlotKind::Item),
            json!([{"id": "7", "discount": 0}]),
            json!([{"id": "7", "discount": ""}]),
        ),
        (
            FieldKind::Slots(SlotKind::Item),
            json!([{"id": "7", "product_id": "3"}]),
            json!([{"id": "7", "product_id": "3.0"}]),
        ),
        (FieldKind::Set, json!(["1"]), json!(["1", "2"])),
        (FieldKind::Map, json!({"7": "a"}), json!({"8": "a"})),
    ];
    for (kind, left, right) in cases {
        assert!(!same(kind, &left, &right), "{kind:?}: {left} and {right}");
    }
}

#[test]
fn the_hash_sees_meaning_only() {
    let mut left = Record::empty(EntityType::Contact);
    left.set_by_name("email", json!("a@EXAMPLE.com"));
    left.set_by_name("tags", json!(["2", "1"]));
    let mut right = Record::empty(EntityType::Contact);
    right.set_by_name("email", json!("a@example.com"));
    right.set_by_name("tags", json!(["1", "2"]));
    right.set_by_name("first_name", json!(""));
    assert_eq!(record_hash(&left), record_hash(&right));
    right.set_by_name("first_name", json!("A"));
    assert_ne!(record_hash(&left), record_hash(&right));
    // Fields must not run into each other.
    let mut first = Record::empty(EntityType::Contact);
    first.set_by_name("first_name", json!("x"));
    let mut last = Record::empty(EntityType::Contact);
    last.set_by_name("last_name", json!("x"));
    assert_ne!(record_hash(&first), record_hash(&last));
}

#[test]
fn what_stands_apart_is_not_hashed() {
    let Value::Object(object) = json!({"a": {"time": 1}, "time": 2, "z": [3]}) else { unreachable!() };
    let whole = content_hash(&json!({"a": {"time": 1}, "time": 2, "z": [3]}));
    assert_eq!(content_hash_without::<Value>(&object, &[]), whole);
    assert_eq!(content_hash_without::<Value>(&object, &[None, Some("other")]), whole);
    let rest = content_hash(&json!({"a": {"time": 1}, "z": [3]}));
    assert_eq!(content_hash_without::<Value>(&object, &[None, Some("time")]), rest);
    assert_ne!(whole, rest);
}
