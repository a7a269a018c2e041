use super::convert::{create_body, order_to_wire, write_body};
use super::line_steps::{LineStep, adopted, aligned, plan};
use super::*;
use crate::custom_fields::Link;
use crate::page::{parse_page, parse_record};
use crate::transport::{Request, Response};
use keapsync_domain::merge::{Sides, reconcile};
use keapsync_domain::policy::{Policies, Policy};
use keapsync_domain::record::Record;
use keapsync_domain::remote::RejectedRecord;
use keapsync_domain::schema::{FieldKind, SlotKind};
use keapsync_domain::secret::Secret;
use proptest::prelude::*;
use serde_json::json;
use std::cell::RefCell;

const LINK: &str = "77";
const ROW: &str = "0b8f7a1c-3f52-4d1e-9a53-1c2d3e4f5a6b";

fn money(amount: i64) -> Value {
    json!({"amount": amount, "currency_code": "USD", "formatted_amount": "as shown"})
}

fn wire() -> Value {
    json!({
        "id": "900", "title": "Spring order", "status": "PAID", "order_type": "ONLINE", "source_type": "API",
        "contact": {"id": "12", "email": "z@acme.io", "given_name": "Zoë", "family_name": "O’Neil"},
        "creation_time": "2024-05-21T14:30:00Z", "modification_time": "2024-05-22T08:00:00.500Z",
        "order_time": "2024-05-21T00:00:00Z", "due_time": "2024-06-20T14:30:00Z",
        "total": money(5_998), "total_paid": money(5_998), "total_due": money(0),
        "refund_total": {"amount": 1_200, "currency_code": "JPY", "formatted_amount": "¥1200"},
        "notes": "gift wrap", "terms": "Net 30", "invoice_number": "1001", "allow_payment": true,
        "order_items": [
            {"id": "456", "name": "Tea", "description": "Green", "quantity": 2, "item_type": "PRODUCT",
             "price_per_unit": money(2_999), "cost_per_unit": money(1_500),
             "product": {"id": "3", "name": "Tea", "sku": "T-1", "shippable": true}},
            {"id": "99", "name": "Off", "quantity": 1, "item_type": "DISCOUNT", "discount": money(-500),
             "special": {"amount": 10.5, "special_item_id": "7", "discount_method": "PERCENT"}},
            {"id": "457", "quantity": 1, "item_type": "SUBSCRIPTION", "subscription_id": "8",
             "subscription_plan": {"id": "4", "cycle_type": "MONTHLY", "plan_price": money(900)}}],
        "shipping_information": {"id": "55", "company": "Acme", "given_name": "Zoë", "invoice_to_company": false,
            "address": {"field": "SHIPPING", "line1": "1 Main St", "locality": "Phoenix", "region": "Arizona", "region_code": "US-AZ",
                "country_code": "USA", "postal_code": "85001"}},
        "custom_fields": [{"id": "5", "content": ["a", "b"]}, {"id": LINK, "content": ROW}],
        "files": [{"file_id": "1"}],
    })
}

fn link_field() -> LinkField {
    LinkField { id: LINK.to_owned(), field_name: "_KeapsyncRowId".to_owned() }
}

fn parse(value: &Value) -> Result<RemoteRecord, RejectedRecord> {
    let record = |id, wire: WireObject<'_>| order_from_wire(id, wire, Some(LINK), Timestamp(7));
    parse_record(&value.to_string(), &Reading::new(EntityType::Order, &record))
}

/// What conversion is to give back: without id and times, lists in order of id, our own field left out.
fn rebuilt(mut value: Value) -> Value {
    let object = value.as_object_mut().unwrap();
    for key in ["id", "creation_time", "modification_time"] {
        object.remove(key);
    }
    let items = object["order_items"].as_array_mut().unwrap();
    items.sort_by_key(|item| item["id"].as_str().unwrap().parse::<u64>().unwrap());
    object["custom_fields"].as_array_mut().unwrap().retain(|field| field["id"] != LINK);
    value
}

#[test]
fn an_order_becomes_a_record() {
    let order = parse(&wire()).unwrap();
    assert_eq!(order.row_id.as_deref(), Some(ROW));
    assert_eq!(order.updated_at, Timestamp::parse_rfc3339("2024-05-22T08:00:00.5Z"));
    assert_eq!(order.created_at, Timestamp::parse_rfc3339("2024-05-21T14:30:00Z"));
    insta::assert_json_snapshot!(
        "order_as_record",
        json!({"record": order.record.to_object(), "extra": order.extra.to_object()})
    );
}

#[test]
fn record_and_extra_rebuild_what_keap_sent() {
    let order = parse(&wire()).unwrap();
    assert_eq!(Value::Object(order_to_wire(&order.record, &order.extra.to_object())), rebuilt(wire()));
}

#[test]
fn amounts_follow_their_currency() {
    for (currency, total, price) in
        [("JPY", "5998", "2999"), ("KWD", "5.998", "2.999"), ("USD", "59.98", "29.99")]
    {
        let text = wire().to_string().replace("\"USD\"", &format!("\"{currency}\""));
        let sent: Value = serde_json::from_str(&text).unwrap();
        let order = parse(&sent).unwrap();
        assert_eq!(order.record.get_by_name("total_amount"), total);
        assert_eq!(order.record.get_by_name("refund_amount"), "1200");
        assert_eq!(order.record.get_by_name("currency"), currency);
        assert_eq!(order.record.get_by_name("line_items")[1]["price_per_unit"], price);
        assert_eq!(Value::Object(order_to_wire(&order.record, &order.extra.to_object())), rebuilt(sent));
    }
}

#[test]
fn the_content_hash_ignores_order_and_times() {
    let mut other = wire();
    other["order_items"].as_array_mut().unwrap().reverse();
    other["modification_time"] = json!("2025-01-01T00:00:00Z");
    assert_eq!(parse(&wire()).unwrap().content_hash, parse(&other).unwrap().content_hash);
    other["order_items"][0]["quantity"] = json!(3);
    assert_ne!(parse(&wire()).unwrap().content_hash, parse(&other).unwrap().content_hash);
}

#[test]
fn a_broken_order_is_named_and_the_page_passes() {
    let body = json!({"orders": [
        wire(), {"id": "13", "total": {"amount": 1.5}}, {"id": "14", "order_items": {"id": "1"}},
        {"id": "15", "order_items": [{"quantity": "two"}]}, {"id": "16", "contact": "x"}, {"id": "17", "order_time": "soon"},
    ], "next_page_token": "p2"});
    let record = |id, wire: WireObject<'_>| order_from_wire(id, wire, None, Timestamp(0));
    let page = parse_page(body.to_string().as_bytes(), &Reading::new(EntityType::Order, &record)).unwrap();
    assert_eq!(
        (page.length, page.next_page_token.as_deref(), page.last_id.as_deref()),
        (6, Some("p2"), Some("900"))
    );
    let read: Vec<&str> = page.records.iter().map(|order| order.keap_id.as_str()).collect();
    assert_eq!(read, ["900", "17"]);
    assert_eq!(page.records[1].extra.to_object().get("order_time"), Some(&json!("soon")));
    let reasons: Vec<&str> = page.rejected.iter().map(|rejected| rejected.reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "total.amount is not a whole number",
            "order_items is not a list of objects",
            "order_items.quantity is not a number",
            "contact is not an object"
        ]
    );
}

#[test]
fn writes_hold_what_the_contract_takes() {
    let order = parse(&wire()).unwrap();
    let mut wanted = order.record.clone();
    wanted.set_by_name("notes", Value::Null);
    wanted.set_by_name("order_date", json!("2024-05-21"));
    wanted.set_by_name("custom_fields", json!({"6": "new"}));
    wanted.set_by_name("shipping_address", json!({"line1": "2 Main St"}));
    let link = Some(Link { field_id: LINK, row_id: ROW });
    let properties = [
        "contact_id",
        "order_title",
        "order_time",
        "order_type",
        "invoice_number",
        "notes",
        "shipping_address",
        "custom_fields",
    ];
    insta::assert_json_snapshot!(
        "order_update_body",
        write_body(&wanted, &order.record, &properties, link).unwrap()
    );
    wanted.set_by_name(
        "line_items",
        json!([
        {"name": "Tea", "product_id": "3", "quantity": 2, "price_per_unit": "29.99", "cost_per_unit": 15},
        {"name": "Off", "item_type": "DISCOUNT", "quantity": 1, "price_per_unit": "-5.00"}]),
    );
    insta::assert_json_snapshot!("order_create_body", create_body(&wanted, link).unwrap());
    wanted.set_by_name("title", json!(" "));
    assert!(create_body(&wanted, link).unwrap_err().message.contains("without title"));
}

fn steps(base: &Value, wanted: &Value, remote: &Value) -> Vec<String> {
    let shown = plan(base, wanted, remote, Some("USD")).steps.into_iter().map(|step| match step {
        LineStep::Create { key, body } => format!("create {key} {}", Value::Object(body)),
        LineStep::Update { id, mask, body } => format!("update {id} {mask:?} {}", Value::Object(body)),
        LineStep::Delete { id } => format!("delete {id}"),
    });
    let names = adopted(base, wanted, remote, Some("USD"));
    shown.chain(names.into_iter().map(|(key, id)| format!("{key} is {id}"))).collect()
}

#[test]
fn lines_are_made_changed_and_deleted_one_by_one() {
    let tea = json!({"id": "1", "name": "Tea", "item_type": "PRODUCT", "product_id": "3", "quantity": 2, "price_per_unit": "29.99"});
    let cup = json!({"id": "2", "name": "Cup", "item_type": "PRODUCT", "product_id": "4", "quantity": 1, "price_per_unit": "5.00"});
    let pot = json!({"name": "Pot", "product_id": "5", "quantity": "1", "price_per_unit": 40});
    let with = |line: &Value, key: &str, value: Value| {
        let mut line = line.clone();
        line[key] = value;
        line
    };
    let both = json!([tea, cup]);
    let pot_body = r#"create #1 {"item_type":"PRODUCT","name":"Pot","price_per_unit":40.0,"product_id":"5","quantity":1}"#;
    let made_pot = json!({"id": "3", "name": "Pot", "item_type": "PRODUCT", "product_id": "5", "quantity": 1, "price_per_unit": "40.00"});
    for (name, wanted, remote, expected) in [
        ("equal", both.clone(), both.clone(), vec![]),
        (
            "spelling is no change",
            json!([with(&tea, "price_per_unit", json!(29.990)), with(&cup, "quantity", json!("1"))]),
            both.clone(),
            vec![],
        ),
        (
            "changed",
            json!([with(&tea, "price_per_unit", json!("30")), cup]),
            both.clone(),
            vec![r#"update 1 ["price_per_unit"] {"price_per_unit":30.0}"#],
        ),
        ("new and gone", json!([tea, pot]), both.clone(), vec![pot_body, "delete 2"]),
        ("made already, the answer lost", json!([tea, pot]), json!([tea, made_pot]), vec!["#1 is 3"]),
        (
            "made already, the rest filled in by Keap",
            json!([tea, {"product_id": "5", "quantity": 1}]),
            json!([tea, made_pot]),
            vec!["#1 is 3"],
        ),
        (
            "two alike, one made",
            json!([tea, pot, pot]),
            json!([tea, made_pot]),
            vec![
                r#"create #2 {"item_type":"PRODUCT","name":"Pot","price_per_unit":40.0,"product_id":"5","quantity":1}"#,
                "#1 is 3",
            ],
        ),
        ("an id spelled as a number", json!([with(&tea, "id", json!(1)), cup]), both.clone(), vec![]),
        (
            "an id with blanks about it",
            json!([with(&tea, "id", json!(" 1 ")), cup]),
            both.clone(),
            vec![" 1  is 1"],
        ),
        (
            "deleted there, wanted here",
            json!([tea]),
            json!([]),
            vec![
                r#"create 1 {"item_type":"PRODUCT","name":"Tea","price_per_unit":29.99,"product_id":"3","quantity":2}"#,
            ],
        ),
    ] {
        assert_eq!(steps(&both, &wanted, &remote), expected, "{name}");
    }
}

#[test]
fn a_line_like_one_that_was_there_before_is_made_all_the_same() {
    let cup = json!({"id": "2", "item_type": "OTHER", "quantity": 1, "price_per_unit": "5.00"});
    let second = json!({"item_type": "OTHER", "quantity": 1, "price_per_unit": "5.00"});
    let before = json!([cup]);
    let made = steps(&before, &json!([cup, second]), &before);
    assert_eq!(made, [r#"create #1 {"item_type":"OTHER","price_per_unit":5.0,"quantity":1}"#]);
}

#[test]
fn lines_that_keap_refuses_are_named_before_any_call() {
    let held = json!([{"id": "1", "name": "Tea", "item_type": "PRODUCT", "product_id": "3", "quantity": 2}]);
    for (line, said) in [
        (json!({"product_id": "3"}), "needs a quantity"),
        (json!({"product_id": "3", "quantity": 0}), "1 or more"),
        (json!({"quantity": 1}), "needs the product_id"),
        (json!({"quantity": 1, "product_id": "3", "item_type": "SUBSCRIPTION"}), "subscription_plan_id"),
        (json!({"quantity": 1, "item_type": "FEE"}), "price_per_unit"),
        (json!({"quantity": 1, "item_type": "TIP", "price_per_unit": "1"}), "item_type"),
        (json!({"quantity": 1, "product_id": "3", "price_per_unit": "1.999"}), "at most 2 places"),
        (json!({"quantity": 1, "product_id": "3", "colour": "red"}), "'colour'"),
        (
            json!({"id": "1", "name": "Tea", "item_type": "FEE", "product_id": "3", "quantity": 2}),
            "another item_type",
        ),
        (json!({"id": "1", "item_type": "PRODUCT", "product_id": "3", "quantity": 2}), "can't clear it"),
    ] {
        let plan = plan(&held, &json!([line]), &held, Some("USD"));
        let is_said = plan.refused.iter().any(|refusal| refusal.reason.contains(said));
        assert!(is_said, "{line}: {:?}", plan.refused);
    }
}

/// The form in which lines are compared.
fn canonical_of(lines: &Value) -> Value {
    keapsync_domain::canonical::canonical(FieldKind::Slots(SlotKind::Item), lines)
}

fn order(lines: &Value) -> Record {
    let mut record = Record::empty(EntityType::Order);
    record.set_by_name("line_items", lines.clone());
    record
}

#[test]
fn what_keap_fills_in_is_its_change_and_no_second_line() {
    let tea = json!({"id": "1", "name": "Tea", "product_id": "3", "quantity": 2});
    let pot = json!({"product_id": "5", "quantity": 1});
    let sent_pot = json!({"id": "2", "product_id": "5", "quantity": 1});
    let held_pot =
        json!({"id": "2", "name": "Pot", "item_type": "PRODUCT", "product_id": "5", "quantity": 1});
    let (base, row) = (order(&json!([tea])), order(&json!([tea, pot])));
    let remote = order(&json!([tea, held_pot]));
    let expected = order(&json!([tea, sent_pot]));
    // Recognised by what it is, or told by the answer; both at once is no third line.
    for sent in [vec![], vec![("#1".to_owned(), "2".to_owned())]] {
        let seen = aligned(&base, &row, &remote, &sent).unwrap();
        assert_eq!((&seen.base, &seen.row), (&expected, &expected));
        let sides = Sides {
            base: &seen.base,
            keap: &remote,
            supabase: &seen.row,
            keap_changed_at: None,
            supabase_changed_at: None,
        };
        let merge = reconcile(&sides, &Policies::default());
        assert!(merge.conflicts.is_empty() && merge.to_keap.is_empty());
        assert_eq!(merge.row_after(&seen.row), remote);
    }
    assert_eq!(aligned(&base, &base, &remote, &[]), None);
    assert_eq!(aligned(&base, &row, &base, &[]), None);
    let contact = Record::empty(EntityType::Contact);
    assert_eq!(aligned(&contact, &contact, &contact, &[]), None);
}

/// The calls that bring an order to the row's lines, when its base holds `sent`; there must be no conflict, and what the row has
/// is kept.
fn steps_to(sent: &Value, row: &Value, held: &Value) -> Vec<LineStep> {
    let held = order(held);
    let seen = aligned(&order(sent), &order(row), &held, &[]).unwrap();
    let sides = Sides {
        base: &seen.base,
        keap: &held,
        supabase: &seen.row,
        keap_changed_at: None,
        supabase_changed_at: None,
    };
    let merge = reconcile(&sides, &Policies { default: Policy::Manual, ..Policies::default() });
    assert!(merge.conflicts.is_empty(), "{row}: {:?}", merge.conflicts);
    let kept = merge.row_after(&seen.row);
    let length = |lines: &Value| lines.as_array().map(Vec::len);
    assert_eq!(length(kept.get_by_name("line_items")), length(row), "{row} became {kept:?}");
    let [base, wanted, remote] =
        [&seen.base, &merge.keap_after(&held), &held].map(|record| record.get_by_name("line_items").clone());
    plan(&base, &wanted, &remote, Some("USD")).steps
}

#[test]
fn lines_that_are_edited_while_their_order_is_made_are_those_lines() {
    let line = |product: &str, quantity: u32| json!({"item_type": "PRODUCT", "product_id": product, "quantity": quantity});
    // Keap says its own of each line.
    let made = |id: &str, product: &str, quantity: u32| {
        json!({"id": id, "item_type": "PRODUCT", "product_id": product, "quantity": quantity,
            "name": format!("Product {product}"), "price_per_unit": "9.50"})
    };
    let update = |id: &str, quantity: u32| LineStep::Update {
        id: id.to_owned(),
        mask: vec!["quantity"],
        body: json!({"quantity": quantity}).as_object().cloned().unwrap(),
    };
    let delete = |id: &str| LineStep::Delete { id: id.to_owned() };
    let sent = json!([line("3", 1), line("4", 2)]);
    let held = json!([made("1", "3", 1), made("2", "4", 2)]);
    for (row, expected) in [
        (json!([line("3", 1), line("4", 2)]), vec![]),
        (json!([line("3", 1), line("4", 5)]), vec![update("2", 5)]),
        (json!([line("3", 7), line("4", 5)]), vec![update("1", 7), update("2", 5)]),
        (json!([line("3", 1)]), vec![delete("2")]),
        (json!([line("4", 2)]), vec![delete("1")]),
        (json!([line("4", 2), line("3", 1)]), vec![]),
        (json!([]), vec![delete("1"), delete("2")]),
    ] {
        let steps = steps_to(&sent, &row, &held);
        assert_eq!(steps, expected, "{row}");
    }
    // New lines before and behind, and one of another kind, which Keap cannot make of the one that was there.
    let wrapping = json!({"item_type": "OTHER", "name": "Wrapping", "price_per_unit": "3", "quantity": 1});
    for (row, gone) in [
        (json!([wrapping, line("3", 1), line("4", 2)]), None),
        (json!([line("3", 1), line("4", 2), wrapping]), None),
        (json!([line("3", 1), wrapping]), Some("2")),
        (json!([line("5", 1), line("3", 1), line("4", 2)]), None),
    ] {
        let steps = steps_to(&sent, &row, &held);
        let created = steps.iter().filter(|step| matches!(step, LineStep::Create { .. })).count();
        let deleted: Vec<LineStep> = gone.into_iter().map(delete).collect();
        assert_eq!(created, 1, "{row}: {steps:?}");
        assert_eq!(steps[1..], deleted, "{row}");
    }
    // Two that are alike, and either is edited.
    let (sent, held) = (json!([line("3", 1), line("3", 1)]), json!([made("1", "3", 1), made("2", "3", 1)]));
    assert_eq!(steps_to(&sent, &json!([line("3", 1), line("3", 4)]), &held), [update("2", 4)]);
    assert_eq!(steps_to(&sent, &json!([line("3", 4), line("3", 1)]), &held), [update("1", 4)]);
}

#[test]
fn a_line_that_keap_has_made_anew_is_not_the_one_that_was_there() {
    let was = json!({"id": "7", "item_type": "PRODUCT", "product_id": "3", "quantity": 1});
    let anew = json!({"id": "9", "item_type": "PRODUCT", "product_id": "3", "quantity": 1});
    let (base, row, held) = (order(&json!([was])), order(&json!([])), order(&json!([anew])));
    assert_eq!(aligned(&base, &row, &held, &[]), None, "its removal here would remove the new one there");
}

/// Answers as told, with the next status each time, and keeps what was asked.
struct Canned {
    status: u16,
    body: &'static str,
    asked: RefCell<Vec<String>>,
}

impl Canned {
    fn new(status: u16, body: &'static str) -> Self {
        Self { status, body, asked: RefCell::default() }
    }
}

impl Transport for Canned {
    async fn send(&self, request: Request) -> Result<Response, Failure> {
        self.asked.borrow_mut().push(format!("{} {}", request.method.as_str(), request.url));
        Ok(Response { status: self.status, headers: Vec::new(), body: self.body.as_bytes().to_vec() })
    }
}

fn at_once<F: Future>(future: F) -> F::Output {
    futures_util::FutureExt::now_or_never(future).unwrap()
}

#[test]
fn requests_are_what_the_contract_says() {
    let transport = Canned::new(200, r#"{"orders":[],"id":"1"}"#);
    let secret = Secret::new("t");
    let link_field = link_field();
    let api = OrdersApi {
        caller: Caller { transport: &transport, base_url: "http://k/crm", access_token: &secret },
        link_field: Some(&link_field),
    };
    let now = Timestamp(1_767_225_600_000);
    at_once(async {
        api.list_after(Range::default(), now).await.unwrap();
        api.list_after(Range { after_id: Some("41"), since: None }, now).await.unwrap();
        api.list_after(Range { after_id: Some("41"), since: Some(now) }, now).await.unwrap();
        api.list_newest(now).await.unwrap();
        api.list_ids(&["1".to_owned(), "2".to_owned()], now).await.unwrap();
        api.list_by_row_id(ROW, now).await.unwrap();
        api.get("5", now).await.unwrap();
        api.create(Map::new(), now).await.unwrap();
        api.update("5", &["order_title", "notes"], Map::new(), now).await.unwrap();
        api.delete("5").await.unwrap();
        api.create_item("5", Map::new()).await.unwrap();
        api.update_item("5", "6", &["quantity"], Map::new()).await.unwrap();
        api.delete_item("5", "6").await.unwrap();
    });
    insta::assert_json_snapshot!("order_requests", *transport.asked.borrow());
}

#[test]
fn an_order_with_payments_is_the_records_fault_and_a_missing_one_is_gone() {
    let secret = Secret::new("t");
    for (status, class) in [
        (400, Some(FailureClass::Invalid)),
        (409, Some(FailureClass::Invalid)),
        (404, None),
        (503, Some(FailureClass::Unavailable)),
    ] {
        let transport = Canned::new(status, r#"{"code":400,"message":"Order has transactions"}"#);
        let api = OrdersApi {
            caller: Caller { transport: &transport, base_url: "http://k", access_token: &secret },
            link_field: None,
        };
        let failure = at_once(api.delete("5")).err();
        assert_eq!(failure.as_ref().map(|failure| failure.class), class);
        if let Some(failure) = failure.filter(|failure| failure.class == FailureClass::Invalid) {
            assert!(failure.message.contains("delete its payments in Keap first"), "{}", failure.message);
        }
        if status == 404 {
            assert_eq!(at_once(api.get("5", Timestamp(0))), Ok(None));
        }
    }
}

fn any_amount() -> impl Strategy<Value = Value> {
    (proptest::option::of(any::<i64>()), proptest::option::of("[A-Z]{3}")).prop_map(|(amount, currency)| {
        let mut object = Map::new();
        amount.map(|amount| object.insert("amount".to_owned(), amount.into()));
        currency.map(|code| object.insert("currency_code".to_owned(), code.into()));
        Value::Object(object)
    })
}

fn any_item() -> impl Strategy<Value = Value> {
    (1_u32..50, any_amount(), any_amount(), proptest::option::of(any::<i32>()), r"[^\x00]{0,8}").prop_map(
        |(id, price, discount, quantity, name)| {
            json!({"id": id.to_string(), "name": name, "quantity": quantity, "price_per_unit": price,
                "discount": discount, "product": {"id": id.to_string(), "sku": name}, "odd": {"x": name}})
        },
    )
}

/// The same JSON without what means nothing.
fn pruned(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(pruned).collect(),
        Value::Object(object) => object
            .into_iter()
            .map(|(key, value)| (key, pruned(value)))
            .filter(|(_, value)| !crate::wire::is_blank(value))
            .collect(),
        other => other,
    }
}

proptest! {
    #[test]
    fn any_order_is_rebuilt(
        items in proptest::collection::vec(any_item(), 0..5),
        total in any_amount(), paid in any_amount(), title in r"[^\x00]{0,8}", region in r"[^\x00]{0,4}", company in r"[^\x00]{0,4}",
    ) {
        let sent = json!({"id": "1", "title": title, "total": total, "total_paid": paid, "order_items": items,
            "shipping_information": {"id": "9", "company": company, "address": {"region": region, "line1": title}},
            "unknown": [title]});
        let order = parse(&sent).unwrap();
        let mut expected = sent;
        expected.as_object_mut().unwrap().remove("id");
        expected["order_items"].as_array_mut().unwrap().sort_by_key(|item| item["id"].as_str().unwrap().parse::<u64>().unwrap());
        let rebuilt = Value::Object(order_to_wire(&order.record, &order.extra.to_object()));
        prop_assert_eq!(pruned(rebuilt), pruned(expected));
    }

    #[test]
    fn planning_is_total_and_settles(
        base in proptest::collection::vec(any_item(), 0..4),
        wanted in proptest::collection::vec(any_item(), 0..4),
    ) {
        let lines = |items: &[Value]| parse(&json!({"id": "1", "order_items": items})).unwrap().record.get_by_name("line_items").clone();
        let (base, wanted) = (lines(&base), lines(&wanted));
        prop_assert_eq!(plan(&base, &wanted, &wanted, Some("USD")).steps, vec![]);
        // Whatever was asked for, the answer is steps or a reason.
        let planned = plan(&base, &wanted, &base, Some("USD"));
        let is_settled = canonical_of(&base) == canonical_of(&wanted);
        prop_assert!(is_settled || !planned.steps.is_empty() || !planned.refused.is_empty());
    }
}
