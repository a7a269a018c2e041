use super::convert::{create_body, subscription_to_wire, write_body};
use super::*;
use crate::recorded::{Recorded, at_once};
use keapsync_domain::failure::FailureClass;
use proptest::prelude::*;
use serde_json::json;

const NOW: Timestamp = Timestamp(1_767_225_600_000);

fn wire() -> Value {
    json!({
        "id": "70", "quantity": 2, "active": true, "contact_id": "12", "product_id": "3",
        "subscription_plan_id": "4", "billing_amount": 29.99, "auto_charge": false, "billing_frequency": 1,
        "billing_cycle": "MONTH", "start_date": "2024-05-21", "last_bill_date": "2024-05-21",
        "next_bill_date": "2024-06-21", "end_date": "2025-05-21", "merchant_account_id": "1", "allow_tax": false,
        "shipping_address": {"line1": "1 Main St", "country_code": "USA"}, "promo_code": "SPRING",
        "modification_time": "2025-06-15T10:30:00Z",
        "custom_fields": [{"id": "5", "content": "a"}],
    })
}

fn products() -> Value {
    json!({"products": [{"id": "3", "name": "Tea club", "price": {"amount": 1, "currency_code": "EUR"},
        "subscription_plans": [{"id": "4", "plan_price": {"amount": 2999, "currency_code": "USD"}}]}]})
}

fn read(value: &Value) -> Result<RemoteRecord, String> {
    let sent = value.to_string();
    let mut wire: WireObject<'_> = serde_json::from_str(&sent).unwrap();
    wire.remove("id");
    subscription_from_wire("70".to_owned(), wire, NOW)
}

#[test]
fn a_subscription_becomes_a_record_with_the_name_of_its_product() {
    let transport = Recorded::answering([(200, wire()), (200, products())]);
    let names = NameCache::default();
    let api = SubscriptionsApi { caller: transport.caller(), names: &names };
    let subscription = at_once(api.get("70", NOW)).unwrap().unwrap();
    assert_eq!(subscription.updated_at, Timestamp::parse_rfc3339("2025-06-15T10:30:00Z"));
    insta::assert_json_snapshot!(
        "subscription_as_record",
        json!({"record": subscription.record.to_object(), "extra": subscription.extra.to_object()})
    );
    assert_ne!(subscription.content_hash, read(&wire()).unwrap().content_hash);
}

#[test]
fn record_and_extra_rebuild_what_keap_sent() {
    for (key, value) in [
        ("notes", json!(null)),
        ("billing_amount", json!(33.333_333_333)),
        ("billing_amount", json!(1e-7)),
        ("active", json!(false)),
        ("end_date", json!("0000-00-00")),
    ] {
        let mut sent = wire();
        sent[key] = value;
        let subscription = read(&sent).unwrap();
        let mut expected = sent.as_object().unwrap().clone();
        expected.retain(|key, value| key != "id" && key != "modification_time" && !value.is_null());
        assert_eq!(subscription_to_wire(&subscription.record, &subscription.extra.to_object()), expected);
    }
}

#[test]
fn shapes_that_the_contract_does_not_know_are_named() {
    for (key, value, said) in [
        ("quantity", json!(1.5), "quantity is not a whole number"),
        ("active", json!("yes"), "active is neither true nor false"),
        ("billing_amount", json!("29.99"), "billing_amount is not a number"),
        ("contact_id", json!({"id": "1"}), "contact_id is not a text"),
    ] {
        let mut sent = wire();
        sent[key] = value;
        assert_eq!(read(&sent).unwrap_err(), said);
    }
}

#[test]
fn changes_are_read_from_the_newest_on_and_only_theirs_cost_a_lookup() {
    let at = |id: &str, time: &str, product: &str| json!({"id": id, "modification_time": time, "product_id": product});
    let page = json!({"subscriptions": [at("3", "2026-01-01T00:00:01Z", "1"), at("2", "2026-01-01T00:00:00Z", "1"),
        {"id": "9"}, at("1", "2025-12-31T23:59:59Z", "2")], "next_page_token": "p2"});
    let transport = Recorded::answering([(200, page.clone()), (200, json!({"products": []})), (200, page)]);
    let names = NameCache::default();
    let api = SubscriptionsApi { caller: transport.caller(), names: &names };
    for _ in 0..2 {
        let page = at_once(api.list_changed(NOW, NOW)).unwrap();
        assert_eq!(page.records.iter().map(|s| s.keap_id.as_str()).collect::<Vec<_>>(), ["3", "2", "9"]);
        assert_eq!((page.length, page.next_page_token), (4, None));
    }
    insta::assert_json_snapshot!("subscription_polls", transport.asked());
}

#[test]
fn requests_are_what_the_contract_says() {
    let empty = || (200, json!({"subscriptions": []}));
    let one = || (200, json!({"id": "70"}));
    let transport = Recorded::answering([empty(), empty(), empty(), one(), one(), (200, json!(null))]);
    let names = NameCache::default();
    let api = SubscriptionsApi { caller: transport.caller(), names: &names };
    let mut record = read(&wire()).unwrap().record;
    at_once(async {
        api.list_after(Range { after_id: Some("41"), since: Some(NOW) }, NOW).await.unwrap();
        api.list_ids(&["1".to_owned(), "2".to_owned()], NOW).await.unwrap();
        api.list_of_contact("12", "4", NOW).await.unwrap();
        record.set_by_name("auto_charge", Value::Null);
        record.set_by_name("cancel_reason", json!("too dear"));
        api.create(create_body(&record).unwrap(), NOW).await.unwrap();
        let held = read(&wire()).unwrap().record;
        record.set_by_name("auto_charge", json!(true));
        record.set_by_name("status", json!("inactive"));
        record.set_by_name("amount", json!("1200"));
        record.set_by_name("currency", json!("JPY"));
        record.set_by_name("end_date", json!("2026-06-01T00:00:00Z"));
        record.set_by_name("cancel_reason", Value::Null);
        record.set_by_name("custom_fields", Value::Null);
        let mask = [
            "contact_id",
            "subscription_plan_id",
            "quantity",
            "billing_amount",
            "auto_charge",
            "active",
            "billing_frequency",
            "billing_cycle",
            "next_bill_date",
            "end_date",
            "reason_stopped",
            "custom_fields",
        ];
        api.update("70", &mask, write_body(&record, &held, &mask).unwrap(), NOW).await.unwrap();
        api.deactivate("70", Some("too dear")).await.unwrap();
    });
    insta::assert_json_snapshot!("subscription_requests", transport.asked());
}

#[test]
fn a_second_subscription_to_a_plan_is_the_records_fault() {
    let transport = Recorded::answering([(409, json!({"message": "duplicate"})), (400, json!({}))]);
    let names = NameCache::default();
    let api = SubscriptionsApi { caller: transport.caller(), names: &names };
    for said in ["end the other one in Keap", "Keap answered 400"] {
        let failure = at_once(api.create(Map::new(), NOW)).unwrap_err();
        assert_eq!(failure.class, FailureClass::Invalid);
        assert!(failure.message.contains(said), "{}", failure.message);
    }
}

#[test]
fn values_that_keap_refuses_are_named_before_any_call() {
    let held = read(&wire()).unwrap().record;
    for (field, property, value, said) in [
        ("quantity", "quantity", json!(0), "1 or more"),
        ("billing_frequency", "billing_frequency", json!("often"), "1 or more"),
        ("amount", "billing_amount", json!("9.999"), "at most 2 places"),
        ("amount", "billing_amount", Value::Null, "can't clear it"),
        ("status", "active", json!("paused"), "neither active nor inactive"),
        ("billing_cycle", "billing_cycle", json!("MONTHLY"), "YEAR, MONTH, WEEK and DAY"),
        ("end_date", "end_date", json!("soon"), "no day"),
        ("end_date", "end_date", Value::Null, "can't clear it"),
        ("auto_charge", "auto_charge", json!("perhaps"), "neither true nor false"),
        ("plan_id", "subscription_plan_id", Value::Null, "can't clear it"),
    ] {
        let mut wanted = held.clone();
        wanted.set_by_name(field, value);
        let failure = write_body(&wanted, &held, &[property]).unwrap_err();
        assert_eq!(failure.class, FailureClass::Invalid);
        assert!(failure.message.starts_with(field) && failure.message.contains(said), "{}", failure.message);
    }
}

proptest! {
    #[test]
    fn any_subscription_is_rebuilt(
        amount in any::<f64>().prop_filter("JSON has no others", |amount| amount.is_finite()),
        active: bool, quantity: i32, reason in r"[^\x00]{1,8}",
    ) {
        let sent = json!({"billing_amount": amount, "active": active, "quantity": quantity, "reason_stopped": reason});
        let text = sent.to_string();
        let wire = serde_json::from_str(&text).unwrap();
        let subscription = subscription_from_wire("1".to_owned(), wire, NOW).unwrap();
        let rebuilt = Value::Object(subscription_to_wire(&subscription.record, &subscription.extra.to_object()));
        let amount_of = |value: &Value| value["billing_amount"].as_f64();
        // An amount beyond what can be an amount of money is a column's refusal; here it only must break nothing.
        if amount.abs() < 1e11 {
            prop_assert_eq!(amount_of(&rebuilt), amount_of(&sent));
        }
        prop_assert_eq!(&rebuilt["quantity"], &sent["quantity"]);
        prop_assert_eq!(&rebuilt["reason_stopped"], &sent["reason_stopped"]);
        prop_assert_eq!(&rebuilt["active"], &sent["active"]);
    }
}
