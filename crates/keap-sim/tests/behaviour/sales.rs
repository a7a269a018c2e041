//! Generated orders and subscriptions, what a person does to them, their hooks and their faults.

use keapsync_keap_sim::Options;
use reqwest::Method;
use serde_json::{Value, json};

use crate::contract::check;
use crate::receiver::Receiver;
use crate::stage::{Answer, Stage, expect_pages_as_fast, options, order_for, person};

/// Every record of a list, each page of it checked.
async fn all(stage: &Stage, path: &str, name: &str, schema: &str) -> Vec<Value> {
    all_by_pages(stage, path, name, schema).await.1
}

/// The paths of a list's pages and every record on them, each page of it checked.
async fn all_by_pages(stage: &Stage, path: &str, name: &str, schema: &str) -> (Vec<String>, Vec<Value>) {
    let (mut pages, mut seen, mut token) = (Vec::new(), Vec::new(), String::new());
    loop {
        pages.push(format!("{path}?page_size=1000&page_token={token}"));
        let page = stage.get(&pages[pages.len() - 1]).await;
        assert_eq!(page.status, 200, "{}", page.text);
        check(schema, &page.json());
        seen.extend(page.json()[name].as_array().unwrap().iter().cloned());
        match page.json().get("next_page_token") {
            Some(next) => next.as_str().unwrap().clone_into(&mut token),
            None => return (pages, seen),
        }
    }
}

#[tokio::test]
async fn every_generated_record_is_valid_in_every_currency() {
    for currency in ["USD", "JPY", "KWD"] {
        let sizes = Options { contacts: 500, orders: Some(1500), subscriptions: Some(400), ..options() };
        let stage = Stage::with(Options { currency: currency.to_owned(), ..sizes }, "demo").await;
        let orders = all(&stage, "/v2/orders", "orders", "ListOrders").await;
        let subscriptions =
            all(&stage, "/v2/subscriptions", "subscriptions", "ListSubscriptionsResponse").await;
        let products = all(&stage, "/v2/products", "products", "ListProductsResponse_List").await;
        assert_eq!((orders.len(), subscriptions.len()), (1500, 400));
        for order in &orders {
            assert_eq!(order["total"]["currency_code"], currency);
            assert!(!order["order_items"].as_array().unwrap().is_empty(), "{order}");
            let amount = |name: &str| order[name]["amount"].as_i64().unwrap();
            let sum: i64 = order["order_items"].as_array().unwrap().iter().map(item_amount).sum();
            assert_eq!(amount("total"), sum.max(0), "{order}");
            assert_eq!(amount("total_due"), (amount("total") - amount("total_paid")).max(0), "{order}");
        }
        for id in orders.iter().take(40).map(|order| order["id"].as_str().unwrap()) {
            check("ListOrderPaymentsResponse", &stage.get(&format!("/v2/orders/{id}/payments")).await.json());
        }
        for product in &products {
            let id = product["id"].as_str().unwrap();
            let plans = stage.get(&format!("/v2/products/{id}/subscriptions")).await.json();
            check("ListSubscriptionPlansResponse", &plans);
            check("RestV2Product_Detail", &stage.get(&format!("/v2/products/{id}")).await.json());
        }
    }
    let stage = Stage::empty().await;
    for path in ["/v2/orders/model", "/v2/subscriptions/model"] {
        let model = stage.get(path).await.json();
        check("ObjectModel", &model);
        assert!(!model["custom_fields"].as_array().unwrap().is_empty());
    }
}

fn item_amount(item: &Value) -> i64 {
    let amount = item["price_per_unit"]["amount"].as_i64().unwrap() * item["quantity"].as_i64().unwrap();
    if item["item_type"] == "DISCOUNT" { -amount.abs() } else { amount }
}

#[tokio::test]
async fn generated_sales_look_like_those_of_a_business() {
    let options = Options { contacts: 500, orders: Some(2000), subscriptions: Some(500), ..options() };
    let stage = Stage::with(options, "demo").await;
    let orders = all(&stage, "/v2/orders", "orders", "ListOrders").await;
    let count = |test: &dyn Fn(&Value) -> bool| orders.iter().filter(|order| test(order)).count();
    for (what, least, counted) in [
        ("drafts", 50, count(&|order| order["status"] == "DRAFT")),
        ("paid", 1200, count(&|order| order["status"] == "PAID")),
        ("refunded", 20, count(&|order| order["refund_total"]["amount"] != 0)),
        (
            "paid in part",
            50,
            count(&|order| order["total_paid"]["amount"] != 0 && order["total_due"]["amount"] != 0),
        ),
        ("for a subscription", 100, count(&|order| order["order_items"][0]["subscription_id"].is_string())),
        ("with several items", 500, count(&|order| order["order_items"].as_array().unwrap().len() > 2)),
        ("with custom fields", 500, count(&|order| order["custom_fields"].is_array())),
        ("shipped", 200, count(&|order| order["shipping_information"].is_object())),
    ] {
        assert!(counted >= least, "{counted} {what}");
    }
    let subscriptions = all(&stage, "/v2/subscriptions", "subscriptions", "ListSubscriptionsResponse").await;
    let cycles: std::collections::BTreeSet<_> =
        subscriptions.iter().map(|row| row["billing_cycle"].as_str().unwrap()).collect();
    assert_eq!(cycles.len(), 4, "{cycles:?}");
    let churned = subscriptions.iter().filter(|row| row["reason_stopped"].is_string()).count();
    assert!((80..250).contains(&churned), "{churned} with a reason");
    for row in &subscriptions {
        assert_eq!(row["active"] == true, row["next_bill_date"].is_string(), "{row}");
        assert!(row["start_date"].as_str() <= row["last_bill_date"].as_str(), "{row}");
    }
}

#[tokio::test]
async fn a_seed_repeats_itself_and_its_contacts_do_not_depend_on_what_was_sold() {
    let stage = Stage::empty().await;
    let text = async |path: &str| stage.sim(Method::GET, path, &Value::Null).await.text;
    let seeded = stage.sim(Method::POST, "/seed", &json!({ "contacts": 200, "seed": 3 })).await.json();
    let tags = stage.report().await["tags"].clone();
    assert_eq!(
        seeded,
        json!({ "contacts": 200, "orders": 400, "subscriptions": 80, "tags": tags, "currency": "USD", "seed": 3 })
    );
    let contacts = text("/contacts?limit=1000").await;
    let (orders, subscriptions) = (text("/orders").await, text("/subscriptions").await);
    let body = json!({ "contacts": 200, "seed": 3, "orders": 0, "subscriptions": 7, "currency": "JPY" });
    stage.sim(Method::POST, "/seed", &body).await;
    let report = stage.report().await;
    assert_eq!((&report["orders"], &report["subscriptions"]), (&json!(0), &json!(7)));
    assert_eq!(report["currency"], "JPY");
    assert_eq!(text("/contacts?limit=1000").await, contacts);
    stage.sim(Method::POST, "/seed", &json!({ "contacts": 200, "seed": 3 })).await;
    assert_eq!((text("/orders").await, text("/subscriptions").await), (orders, subscriptions));
    for body in [
        json!({ "contacts": 1, "orders": 400_001 }),
        json!({ "contacts": 1, "subscriptions": 200_001 }),
        json!({ "contacts": 1, "tags": 10_001 }),
        json!({ "contacts": 1, "currency": "XXX" }),
    ] {
        let url = format!("{}/sim/tenants/demo/seed", stage.server.url());
        assert_eq!(Answer::read(stage.http.post(url).json(&body)).await.status, 400, "{body}");
    }
}

#[tokio::test]
async fn a_persons_changes_are_seen_by_the_api_and_fire_hooks() {
    let (stage, receiver) =
        (Stage::with(Options { time_scale: 0.01, ..options() }, "demo").await, Receiver::start().await);
    let keys = stage.get("/v1/hooks/event_keys").await.json();
    for object in ["order", "subscription", "product", "contactGroup"] {
        for action in ["add", "edit", "delete"] {
            let key = json!(format!("{object}.{action}"));
            assert!(keys.as_array().unwrap().contains(&key), "no {key}");
        }
    }
    for key in [
        "order.add",
        "order.edit",
        "order.delete",
        "subscription.add",
        "subscription.edit",
        "subscription.delete",
        "product.add",
    ] {
        let body = json!({ "eventKey": key, "hookUrl": receiver.url() });
        assert_eq!(stage.post("/v1/hooks", &body).await.json()["status"], "Verified", "{key}");
    }
    let ann = stage.create(&person("Ann")).await;
    let product_id = stage.product("Care", 5000).await;
    let plan = stage
        .post(
            &format!("/v2/products/{product_id}/subscriptions"),
            &json!({ "cycle_type": "WEEKLY", "plan_price": 5 }),
        )
        .await
        .json();
    let calls = stage.report().await["calls"]["total"].clone();
    let items = json!([{ "quantity": 1, "product_id": product_id }]);
    let order = stage.sim(Method::POST, "/orders", &order_for(&ann, &items)).await.json();
    check("OrderV2", &order);
    assert_eq!((&order["source_type"], &order["total"]["amount"]), (&json!("INVOICE"), &json!(5000)));
    let order_path = format!("/orders/{}", order["id"].as_str().unwrap());
    let changed =
        stage.sim(Method::PATCH, &order_path, &json!({ "notes": "Call first", "terms": null })).await.json();
    assert_eq!(changed["notes"], "Call first");
    let fee = json!({ "quantity": 1, "item_type": "FEE", "price_per_unit": 1.5 });
    let item = stage.sim(Method::POST, &format!("{order_path}/items"), &fee).await.json();
    let item_path = format!("{order_path}/items/{}", item["id"].as_str().unwrap());
    stage.sim(Method::PATCH, &item_path, &json!({ "quantity": 4 })).await;
    let by_person = stage.sim(Method::GET, &order_path, &Value::Null).await.json();
    assert_eq!(by_person["total"]["amount"], 5600);
    stage.sim(Method::DELETE, &item_path, &Value::Null).await;
    let body = json!({ "contact_id": ann, "subscription_plan_id": plan["id"] });
    let subscription = stage.sim(Method::POST, "/subscriptions", &body).await.json();
    check("Subscription", &subscription);
    let subscription_path = format!("/subscriptions/{}", subscription["id"].as_str().unwrap());
    let stopped = json!({ "active": false, "reason_stopped": "Moved" });
    stage.sim(Method::PATCH, &subscription_path, &stopped).await;
    let by_person = stage.sim(Method::GET, &subscription_path, &Value::Null).await.json();
    assert_eq!(stage.report().await["calls"]["total"], calls);
    assert_eq!(stage.get(&format!("/v2{subscription_path}")).await.json(), by_person);
    let listed = stage.sim(Method::GET, "/orders?limit=1", &Value::Null).await.json();
    assert_eq!(listed["orders"], json!([stage.get(&format!("/v2{order_path}")).await.json()]));
    stage.sim(Method::DELETE, &subscription_path, &Value::Null).await;
    stage.sim(Method::DELETE, &order_path, &Value::Null).await;
    stage.sim(Method::POST, "/hooks/flush", &Value::Null).await;
    let mut delivered: Vec<(String, usize, String)> = receiver
        .deliveries()
        .iter()
        .map(|(_, body)| {
            let keys = body["object_keys"].as_array().unwrap();
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&body["event_key"]), keys.len(), text(&keys[0]["apiUrl"]))
        })
        .collect();
    delivered.sort();
    let expected: Vec<(String, usize, String)> = [
        ("order.add", 1, &order_path),
        ("order.delete", 1, &order_path),
        ("order.edit", 4, &order_path),
        ("product.add", 1, &format!("/products/{product_id}")),
        ("subscription.add", 1, &subscription_path),
        ("subscription.delete", 1, &subscription_path),
        ("subscription.edit", 1, &subscription_path),
    ]
    .into_iter()
    .map(|(key, count, path)| (key.to_owned(), count, format!("{}/crm/rest/v1{path}", stage.server.url())))
    .collect();
    assert_eq!(delivered, expected);
}

#[tokio::test]
async fn faults_reach_the_routes_of_sales() {
    let stage = Stage::with_contacts(30).await;
    for (path, name, key) in
        [("/v2/orders", "orders", "order_id"), ("/v2/subscriptions", "subscriptions", "subscription_id")]
    {
        let good = stage.get(path).await.json();
        let id = good[name][3]["id"].as_str().unwrap().to_owned();
        stage.fault(json!({ "kind": "broken_record", key: id.parse::<u64>().unwrap(), "times": 1 })).await;
        let bad = stage.get(path).await.json();
        assert_eq!(bad[name][3]["id"], json!(id));
        assert_eq!(bad[name][3]["modification_time"], 17);
        assert_eq!(bad[name][4], good[name][4]);
        assert_eq!(stage.get(path).await.json(), good, "it happens once");
    }
    let order = stage.get("/v2/orders").await.json()["orders"][0].clone();
    let path = format!("/v2/orders/{}", order["id"].as_str().unwrap());
    for operation in ["create_order_item", "patch_order", "deactivate_subscription", "list_subscriptions"] {
        stage.fault(json!({ "kind": "status", "status": 503, "operation": operation, "times": 1 })).await;
    }
    assert_eq!(stage.post(&format!("{path}/items"), &json!({})).await.status, 503);
    assert_eq!(stage.patch(&path, &json!({})).await.status, 503);
    assert_eq!(stage.get("/v2/subscriptions").await.status, 503);
    assert_eq!(stage.post("/v2/subscriptions/1:deactivate", &json!({})).await.status, 503);
    // The item lands, the answer does not.
    stage
        .fault(json!({ "kind": "timeout_after", "ms": 10, "operation": "create_order_item", "times": 1 }))
        .await;
    let fee = json!({ "quantity": 1, "item_type": "FEE", "price_per_unit": 1 });
    let lost = Answer::try_read(stage.call(Method::POST, &format!("{path}/items")).json(&fee)).await;
    assert!(lost.is_err(), "{lost:?}");
    let items = |order: &Value| order["order_items"].as_array().unwrap().len();
    assert_eq!(items(&stage.get(&path).await.json()), items(&order) + 1);
}

#[tokio::test]
async fn many_orders_are_paged_at_speed() {
    let options = Options { contacts: 5000, orders: Some(20_000), ..options() };
    let stage = Stage::with(options, "demo").await;
    let (pages, orders) = all_by_pages(&stage, "/v2/orders", "orders", "ListOrders").await;
    assert_eq!((pages.len(), orders.len()), (20, 20_000));
    let small = Stage::with(Options { contacts: 250, orders: Some(1_000), ..self::options() }, "demo").await;
    expect_pages_as_fast((&stage, &pages), (&small, "/v2/orders?page_size=1000")).await;
}
