//! Orders: what is written and what is read back, totals and status, lists, deletion and the model.

use reqwest::Method;
use serde_json::{Value, json};

use crate::contract::check;
use crate::stage::{Answer, Stage, options, order_for, person};

/// Creates an order of one product at 29.99 and gives it whole.
async fn ordered(stage: &Stage, contact_id: &str) -> Value {
    let product_id = stage.product("Widget", 1250).await;
    let items =
        json!([{ "quantity": 2, "product_id": product_id, "price_per_unit": 29.99, "cost_per_unit": 15 }]);
    let answer = stage.post("/v2/orders", &order_for(contact_id, &items)).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    check("OrderV2", &answer.json());
    answer.json()
}

fn path_of(order: &Value) -> String {
    format!("/v2/orders/{}", order["id"].as_str().unwrap())
}

/// The ids of the orders that a filter finds.
async fn found(stage: &Stage, filter: &str) -> Vec<String> {
    let answer = find(stage, filter).await;
    assert_eq!(answer.status, 200, "{filter}: {}", answer.text);
    check("ListOrders", &answer.json());
    let orders = answer.json()["orders"].as_array().unwrap().clone();
    orders.iter().map(|order| order["id"].as_str().unwrap().to_owned()).collect()
}

async fn find(stage: &Stage, filter: &str) -> Answer {
    let query = [("filter", filter), ("page_size", "1000")];
    Answer::read(stage.call(Method::GET, "/v2/orders").query(&query)).await
}

#[tokio::test]
async fn an_order_is_written_in_major_units_and_read_in_minor_ones() {
    let stage = Stage::empty().await;
    let ann = stage.create(&person("Ann")).await;
    let order = ordered(&stage, &ann).await;
    assert_eq!(order["title"], "Online Purchase");
    assert_eq!(order.get("order_title"), None);
    assert_eq!(order.get("contact_id"), None);
    assert_eq!(order["contact"], json!({ "id": ann, "given_name": "Ann", "email": "ann@x.example" }));
    assert_eq!(order["order_time"], "2026-03-01T10:00:00.000Z");
    let item = &order["order_items"][0];
    let money = |amount: i64, text: &str| json!({ "amount": amount, "currency_code": "USD", "formatted_amount": text });
    assert_eq!(item["price_per_unit"], money(2999, "$29.99"));
    assert_eq!(item["cost_per_unit"], money(1500, "$15.00"));
    assert_eq!((&item["name"], &item["item_type"]), (&json!("Widget"), &json!("PRODUCT")));
    assert_eq!(item["product"]["sku"], "SKU-Widget");
    assert_eq!(order["total"], money(5998, "$59.98"));
    assert_eq!(order["total_due"], order["total"]);
    assert_eq!((&order["total_paid"], &order["refund_total"]), (&money(0, "$0.00"), &money(0, "$0.00")));
    assert_eq!((&order["status"], &order["source_type"]), (&json!("DRAFT"), &json!("API")));
    assert_eq!(stage.get(&path_of(&order)).await.json(), order);
}

#[tokio::test]
async fn a_currencys_decimals_count() {
    for (currency, price, amount, text) in
        [("JPY", json!(4900), 4900, "¥4,900"), ("KWD", json!(14.705), 14_705, "KWD 14.705")]
    {
        let options = keapsync_keap_sim::Options { currency: currency.to_owned(), ..options() };
        let stage = Stage::with(options, "demo").await;
        let ann = stage.create(&person("Ann")).await;
        let items = json!([{ "quantity": 1, "item_type": "FEE", "price_per_unit": price }]);
        let order = stage.post("/v2/orders", &order_for(&ann, &items)).await.json();
        let expected = json!({ "amount": amount, "currency_code": currency, "formatted_amount": text });
        assert_eq!(order["total"], expected);
    }
}

#[tokio::test]
async fn what_an_order_needs_and_what_it_does_not_take_is_refused() {
    let stage = Stage::empty().await;
    let ann = stage.create(&person("Ann")).await;
    let good = order_for(&ann, &json!([]));
    assert_eq!(stage.post("/v2/orders", &good).await.status, 201);
    for name in ["contact_id", "order_time", "order_title", "order_type"] {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(name);
        assert_eq!(stage.post("/v2/orders", &body).await.status, 400, "without {name}");
    }
    for (name, value) in [
        ("contact_id", json!("999")),
        ("contact_id", json!(1)),
        ("order_type", json!("WEB")),
        ("order_time", json!("2026-03-01")),
        ("status", json!("PAID")),
        ("total", json!(5)),
        ("custom_fields", json!([{ "id": "2", "content": "a contact's field" }])),
        ("lead_affiliate_id", json!("none")),
        ("shipping_address", json!({ "region": "US-AZ" })),
        ("order_items", json!([{}])),
        ("order_items", json!([{ "quantity": 0, "item_type": "FEE", "price_per_unit": 1 }])),
        ("order_items", json!([{ "quantity": 1 }])),
        ("order_items", json!([{ "quantity": 1, "product_id": "999" }])),
        ("order_items", json!([{ "quantity": 1, "item_type": "TIP", "price_per_unit": 1 }])),
        ("order_items", json!([{ "quantity": 1, "item_type": "FEE" }])),
    ] {
        let mut body = good.clone();
        body[name] = value;
        let refused = stage.post("/v2/orders", &body).await;
        assert_eq!(refused.status, 400, "{body}");
        check("Error", &refused.json());
    }
    assert_eq!(stage.report().await["orders"], 1);
}

#[tokio::test]
async fn an_update_changes_what_its_mask_names() {
    let stage = Stage::empty().await;
    let (ann, bob) = (stage.create(&person("Ann")).await, stage.create(&person("Bob")).await);
    let order = ordered(&stage, &ann).await;
    let body = json!({
        "order_title": "Renamed", "title": "the invoice's", "notes": "not named", "contact_id": bob,
        "sent_time": "2026-03-02T08:00:00Z",
        "shipping_address": { "line1": "1 Main St", "region": "US-AZ", "country_code": "USA", "zip_code": "85001",
            "first_name": "Bob", "phone": "555-0100" },
        "payment_plan": { "plan_start_date": "2026-04-01", "number_of_payments": 3, "days_between_payments": 30,
            "initial_payment_amount": 10.5 },
        "external_update_time": "2026-03-02T08:00:00+02:00",
        "promo_codes": ["SPRING", "VIP"],
    });
    let mask = "update_mask=order_title&update_mask=contact_id&update_mask=sent_time&update_mask=shipping_address\
        &update_mask=payment_plan&update_mask=promo_codes&update_mask=external_update_time&update_mask=order_items";
    let changed = stage.patch(&format!("{}?{mask}", path_of(&order)), &body).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    let changed = changed.json();
    check("OrderV2", &changed);
    assert_eq!((&changed["title"], &changed["contact"]["id"]), (&json!("Renamed"), &json!(bob)));
    assert_eq!(changed.get("notes"), None);
    assert_eq!(changed["status"], "SENT");
    assert_eq!(changed["shipping_information"]["address"]["region"], "Arizona");
    assert_eq!(changed["shipping_information"]["address"]["postal_code"], "85001");
    assert_eq!(changed["shipping_information"]["given_name"], "Bob");
    assert_eq!(changed["payment_plan"]["initial_payment_amount"]["amount"], 1050);
    assert_eq!(changed["promo_code"], "SPRING,VIP");
    assert_eq!(changed["external_update_time"], "2026-03-02T06:00:00.000Z");
    assert_eq!(changed["order_items"], order["order_items"]);
    assert!(changed["modification_time"].as_str() > order["modification_time"].as_str());
    assert_eq!(found(&stage, &format!("contact_id=={bob}")).await.len(), 1);
    assert_eq!(found(&stage, &format!("contact_id=={ann}")).await.len(), 0);
    // Named in the mask and not in the body: emptied, where an order can be without it.
    let emptied = stage.patch(&format!("{}?update_mask=sent_time", path_of(&order)), &json!({})).await.json();
    assert_eq!((emptied.get("sent_time"), &emptied["status"]), (None, &json!("DRAFT")));
    for (mask, body) in [
        ("update_mask=order_title", json!({})),
        ("update_mask=contact_id", json!({})),
        ("update_mask=status", json!({})),
        ("update_mask=order_title,notes", json!({ "order_title": "A" })),
        ("", json!({ "order_items": [] })),
        ("", json!({ "status": "PAID" })),
        ("", json!({ "payment_plan": { "number_of_payments": 3 } })),
    ] {
        let refused = stage.patch(&format!("{}?{mask}", path_of(&order)), &body).await;
        assert_eq!(refused.status, 400, "{mask} {body}");
    }
    assert_eq!(stage.patch("/v2/orders/999", &json!({})).await.status, 404);
}

#[tokio::test]
async fn items_change_one_by_one_and_move_the_order() {
    let stage = Stage::empty().await;
    let ann = stage.create(&person("Ann")).await;
    let order = ordered(&stage, &ann).await;
    let items = format!("{}/items", path_of(&order));
    let mut times = vec![order["modification_time"].as_str().unwrap().to_owned()];
    let note_time = async |times: &mut Vec<String>| {
        let now = stage.get(&path_of(&order)).await.json();
        times.push(now["modification_time"].as_str().unwrap().to_owned());
        now
    };
    let off = json!({ "quantity": 1, "item_type": "DISCOUNT", "name": "Off", "price_per_unit": 9.98 });
    let made = stage.post(&items, &off).await;
    assert_eq!(made.status, 201, "{}", made.text);
    check("OrderItem", &made.json());
    assert_eq!(made.json()["discount"]["amount"], 998);
    assert_eq!(made.json()["special"], json!({ "amount": 9.98, "discount_method": "AMOUNT" }));
    assert_eq!(note_time(&mut times).await["total"]["amount"], 5000);
    let item = format!("{items}/{}", order["order_items"][0]["id"].as_str().unwrap());
    assert_eq!(stage.get(&item).await.json(), order["order_items"][0]);
    let path = format!("{item}?update_mask=price_per_unit&update_mask=notes");
    let body = json!({ "price_per_unit": 10.005, "notes": "Blue", "name": "not named" });
    let changed = stage.patch(&path, &body).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    check("OrderItem", &changed.json());
    assert_eq!(changed.json()["price_per_unit"]["amount"], 1001);
    assert_eq!((&changed.json()["notes"], &changed.json()["name"]), (&json!("Blue"), &json!("Widget")));
    assert_eq!(note_time(&mut times).await["total"]["amount"], 2002 - 998);
    let removed = stage.delete(&item).await;
    assert_eq!((removed.status, removed.text.as_str()), (204, ""));
    assert_eq!(note_time(&mut times).await["total"]["amount"], 0);
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
    assert_eq!(stage.get(&item).await.status, 404);
    assert_eq!(stage.delete(&item).await.status, 404);
    assert_eq!(stage.patch(&item, &json!({ "name": "A" })).await.status, 404);
    let left = format!("{items}/{}", made.json()["id"].as_str().unwrap());
    for (query, body) in [
        ("", json!({ "name": "  " })),
        ("", json!({ "item_type": "FEE" })),
        ("", json!({ "quantity": 0 })),
        ("?update_mask=item_type", json!({})),
        ("?update_mask=price_per_unit", json!({})),
    ] {
        assert_eq!(stage.patch(&format!("{left}{query}"), &body).await.status, 400, "{query} {body}");
    }
    let seen = stage.sim(Method::GET, "/changes", &Value::Null).await.json()["changes"].clone();
    let edits = seen.as_array().unwrap().iter().filter(|change| change["event_key"] == "order.edit").count();
    assert_eq!(edits, 3);
}

#[tokio::test]
async fn an_order_with_money_on_it_cannot_be_deleted() {
    let stage = Stage::empty().await;
    let ann = stage.create(&person("Ann")).await;
    let order = ordered(&stage, &ann).await;
    let other = ordered(&stage, &ann).await;
    let payments = format!("/orders/{}/payments", order["id"].as_str().unwrap());
    let partly = stage.sim(Method::POST, &payments, &json!({ "amount": 20.0 })).await.json();
    assert_eq!((&partly["total_paid"]["amount"], &partly["status"]), (&json!(2000), &json!("DRAFT")));
    assert_eq!(partly["total_due"]["amount"], 3998);
    let paid = stage.sim(Method::POST, &payments, &json!({})).await.json();
    assert_eq!((&paid["status"], &paid["total_due"]["amount"]), (&json!("PAID"), &json!(0)));
    let listed = stage.get(&format!("{}/payments?order_by=amount%20desc", path_of(&order))).await.json();
    check("ListOrderPaymentsResponse", &listed);
    let amounts: Vec<_> = listed["invoice_order_payments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["amount"].clone())
        .collect();
    assert_eq!(amounts, [json!(39.98), json!(20.0)]);
    let refused = stage.delete(&path_of(&order)).await;
    assert_eq!(refused.status, 409, "{}", refused.text);
    check("Error", &refused.json());
    // Nobody may take money by the API.
    assert_eq!(stage.post(&format!("{}/payments", path_of(&order)), &json!({})).await.status, 405);
    let deleted = stage.delete(&path_of(&other)).await;
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    for answer in [stage.get(&path_of(&other)).await, stage.delete(&path_of(&other)).await] {
        assert_eq!(answer.status, 404);
        check("Error", &answer.json());
    }
}

#[tokio::test]
async fn filters_find_what_they_say() {
    let stage = Stage::with_contacts(60).await;
    let ann = stage.create(&person("Ann")).await;
    let mut order = ordered(&stage, &ann).await;
    let field =
        stage.post("/v2/orders/model/customFields", &json!({ "label": "Ref", "field_type": "TEXT" })).await;
    assert_eq!(field.status, 201, "{}", field.text);
    check("CustomFieldMetaData", &field.json());
    let body = json!({
        "custom_fields": [{ "id": field.json()["id"], "content": "row-17" }],
        "shipping_address": { "locality": "Phoenix", "region": "US-AZ", "country_code": "USA", "zip_code": "85999" },
        "order_title": "Unheard of",
    });
    order = stage.patch(&path_of(&order), &body).await.json();
    let id = order["id"].as_str().unwrap();
    let product_id = order["order_items"][0]["product"]["id"].as_str().unwrap();
    let at = |name: &str| order[name].as_str().unwrap();
    for filter in [
        format!("id=={id}"),
        format!("id>={id}"),
        format!("ids=={id},999"),
        format!("contact_id=={ann}"),
        format!("product_id=={product_id}"),
        format!("invoice_id=={}", at("invoice_id")),
        format!("created_since_time=={}", at("creation_time")),
        format!("modified_since_time=={};modified_until_time=={0}", at("modification_time")),
        "title==unheard*".to_owned(),
        "shipping_postal_code==85999;shipping_locality==phoenix;shipping_region_code==US-AZ;shipping_country_code==USA"
            .to_owned(),
        format!("{}==row-*", field.json()["field_name"].as_str().unwrap()),
        format!("order_type==ONLINE;paid==false;id>={id}"),
    ] {
        assert_eq!(found(&stage, &filter).await, [id], "{filter}");
    }
    let all = found(&stage, "").await;
    assert_eq!(all.len(), 121);
    for filter in [
        format!("id!={id}"),
        format!("id<{id}"),
        format!("created_until_time=={}", "2025-12-31T23:59:59.000Z"),
        "modified_until_time==2026-01-01T00:00:00.000Z".to_owned(),
    ] {
        assert_eq!(found(&stage, &filter).await.len(), 120, "{filter}");
    }
    for filter in [
        "invoice_xid==1",
        "title==nothing like it",
        "ids==7",
        "modified_since_time==2040-01-01T00:00:00.000Z",
    ] {
        assert_eq!(found(&stage, filter).await.len(), 0, "{filter}");
    }
    for filter in [
        "status==PAID",
        "paid==yes",
        "title==*of",
        "modified_since_time==2026-01-01",
        "contact_id>1",
        "order_type==WEB",
        "ExternalId9==a",
    ] {
        assert_eq!(find(&stage, filter).await.status, 400, "{filter}");
    }
}

#[tokio::test]
async fn pages_join_without_gap_in_every_order() {
    let stage = Stage::with_contacts(100).await;
    let keys = [("id", "id"), ("order_time", "order_time"), ("modification_time", "modification_time")];
    let since = "modified_since_time==2020-01-01T00:00:00.000Z";
    for filter in ["", since] {
        let expected = found(&stage, filter).await.len();
        for (order, key) in keys {
            for direction in ["asc", "desc"] {
                let (mut seen, mut token) = (Vec::new(), String::new());
                loop {
                    let order_by = format!("{order} {direction}");
                    let query = [
                        ("order_by", order_by.as_str()),
                        ("page_size", "30"),
                        ("filter", filter),
                        ("page_token", &token),
                    ];
                    let page = Answer::read(stage.call(Method::GET, "/v2/orders").query(&query)).await.json();
                    check("ListOrders", &page);
                    seen.extend(page["orders"].as_array().unwrap().iter().map(|row| {
                        (row[key].as_str().unwrap().to_owned(), row["id"].as_str().unwrap().to_owned())
                    }));
                    match page.get("next_page_token") {
                        Some(next) => next.as_str().unwrap().clone_into(&mut token),
                        None => break,
                    }
                }
                assert_eq!(seen.len(), expected, "{order} {direction} {filter}");
                if direction == "desc" {
                    seen.reverse();
                }
                assert!(seen.is_sorted(), "{order} {direction} {filter}");
                seen.dedup();
                assert_eq!(seen.len(), expected, "{order} {direction} {filter}");
            }
        }
    }
    assert_eq!(stage.get("/v2/orders?order_by=title").await.status, 400);
}

#[tokio::test]
async fn a_contact_or_product_that_is_gone_leaves_its_id() {
    let stage = Stage::empty().await;
    let ann = stage.create(&person("Ann")).await;
    let order = ordered(&stage, &ann).await;
    let product_id = order["order_items"][0]["product"]["id"].as_str().unwrap();
    assert_eq!(stage.delete(&format!("/v2/products/{product_id}")).await.status, 204);
    assert_eq!(stage.delete(&format!("/v2/contacts/{ann}")).await.status, 204);
    let after = stage.get(&path_of(&order)).await.json();
    check("OrderV2", &after);
    assert_eq!(after["contact"], json!({ "id": ann }));
    assert_eq!(after["order_items"][0]["product"], json!({ "id": product_id }));
    assert_eq!(after["modification_time"], order["modification_time"]);
}
