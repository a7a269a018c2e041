//! Subscriptions: creation, change and end, lists, and what the API does not let a client do.

use reqwest::Method;
use serde_json::{Value, json};

use crate::contract::check;
use crate::stage::{Answer, Stage, person};

/// A plan of a new product, at 12.50 a month.
async fn plan(stage: &Stage) -> (String, String) {
    let product_id = stage.product("Care", 5000).await;
    let body = json!({ "cycle_type": "MONTHLY", "plan_price": 1250, "total_cycles": 12 });
    let answer = stage.post(&format!("/v2/products/{product_id}/subscriptions"), &body).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    check("SubscriptionPlan", &answer.json());
    assert_eq!(answer.json()["subscription_plan_name"], "Care Monthly");
    (product_id, answer.json()["id"].as_str().unwrap().to_owned())
}

async fn subscribe(stage: &Stage, body: &Value) -> Value {
    let answer = stage.post("/v2/subscriptions", body).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    check("Subscription", &answer.json());
    answer.json()
}

fn path_of(subscription: &Value) -> String {
    format!("/v2/subscriptions/{}", subscription["id"].as_str().unwrap())
}

async fn find(stage: &Stage, filter: &str) -> Answer {
    let query = [("filter", filter), ("page_size", "1000")];
    Answer::read(stage.call(Method::GET, "/v2/subscriptions").query(&query)).await
}

async fn found(stage: &Stage, filter: &str) -> Vec<String> {
    let answer = find(stage, filter).await;
    assert_eq!(answer.status, 200, "{filter}: {}", answer.text);
    check("ListSubscriptionsResponse", &answer.json());
    let rows = answer.json()["subscriptions"].as_array().unwrap().clone();
    rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_subscription_begins_with_its_plans_terms() {
    let stage = Stage::empty().await;
    let ann = stage.create(&person("Ann")).await;
    let (product_id, plan_id) = plan(&stage).await;
    let body = json!({ "contact_id": ann, "subscription_plan_id": plan_id, "start_date": "2099-01-31" });
    let made = subscribe(&stage, &body).await;
    for (name, expected) in [
        ("contact_id", json!(ann)),
        ("product_id", json!(product_id)),
        ("active", json!(true)),
        ("quantity", json!(1)),
        ("billing_amount", json!(12.5)),
        ("billing_cycle", json!("MONTH")),
        ("billing_frequency", json!(1)),
        ("auto_charge", json!(true)),
        ("start_date", json!("2099-01-31")),
        ("next_bill_date", json!("2099-01-31")),
    ] {
        assert_eq!(made[name], expected, "{name}");
    }
    assert_eq!(stage.get(&path_of(&made)).await.json(), made);
    // The same plan once more is a duplicate, unless asked for.
    let again = stage.post("/v2/subscriptions", &body).await;
    assert_eq!(again.status, 409, "{}", again.text);
    check("Error", &again.json());
    let wanted = json!({ "contact_id": ann, "subscription_plan_id": plan_id, "allow_duplicate": true });
    subscribe(&stage, &wanted).await;
    for (name, value) in [
        ("contact_id", json!(null)),
        ("contact_id", json!("999")),
        ("subscription_plan_id", json!(null)),
        ("subscription_plan_id", json!("999")),
        ("start_date", json!("2020-01-01")),
        ("start_date", json!("01/01/2099")),
        ("quantity", json!(0)),
        ("billing_amount", json!(-1)),
        ("max_charge_attempts", json!(0)),
        ("billing_cycle", json!("MONTH")),
        ("end_date", json!("2099-01-01")),
        ("product_id", json!(product_id)),
        ("custom_fields", json!([{ "id": "2", "content": "a contact's field" }])),
    ] {
        let mut body = wanted.clone();
        body[name] = value;
        let refused = stage.post("/v2/subscriptions", &body).await;
        assert_eq!(refused.status, 400, "{body}");
    }
}

#[tokio::test]
async fn an_update_changes_what_its_mask_names() {
    let stage = Stage::empty().await;
    let ann = stage.create(&person("Ann")).await;
    let (_, plan_id) = plan(&stage).await;
    let made = subscribe(&stage, &json!({ "contact_id": ann, "subscription_plan_id": plan_id })).await;
    let field = stage
        .post("/v2/subscriptions/model/customFields", &json!({ "label": "Ref", "field_type": "TEXT" }))
        .await
        .json();
    let body = json!({
        "quantity": 3, "billing_amount": 99.5, "billing_cycle": "WEEK", "billing_frequency": 2,
        "next_bill_date": "2099-02-01", "end_date": "2099-12-31", "active": false, "reason_stopped": "not named",
        "shipping_address": { "line1": "1 Main St", "region_code": "US-AZ", "country_code": "USA" },
        "custom_fields": [{ "id": field["id"], "content": "row-9" }],
    });
    let names = "quantity billing_amount billing_cycle billing_frequency next_bill_date end_date active shipping_address custom_fields";
    let mask: Vec<String> = names.split(' ').map(|name| format!("update_mask={name}")).collect();
    let changed = stage.patch(&format!("{}?{}", path_of(&made), mask.join("&")), &body).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    let changed = changed.json();
    check("Subscription", &changed);
    assert_eq!((&changed["quantity"], &changed["billing_amount"]), (&json!(3), &json!(99.5)));
    assert_eq!((&changed["billing_cycle"], &changed["billing_frequency"]), (&json!("WEEK"), &json!(2)));
    assert_eq!((&changed["active"], changed.get("reason_stopped")), (&json!(false), None));
    assert_eq!(changed["shipping_address"]["region"], "Arizona");
    assert_eq!(changed["custom_fields"], json!([{ "id": field["id"], "content": "row-9" }]));
    assert!(changed["modification_time"].as_str() > made["modification_time"].as_str());
    let filter = format!("{}==row-9", field["field_name"].as_str().unwrap());
    assert_eq!(found(&stage, &filter).await, [changed["id"].as_str().unwrap()]);
    // Another plan brings its own terms.
    let (other_product, other_plan) = plan(&stage).await;
    let moved = stage.patch(&path_of(&made), &json!({ "subscription_plan_id": other_plan })).await.json();
    assert_eq!((&moved["product_id"], &moved["billing_cycle"]), (&json!(other_product), &json!("MONTH")));
    for (mask, body) in [
        ("", json!({ "next_bill_date": "2020-01-01" })),
        ("", json!({ "end_date": "2020-01-01" })),
        ("", json!({ "start_date": "2099-01-01" })),
        ("", json!({ "billing_cycle": "MONTHLY" })),
        ("", json!({ "last_bill_date": "2099-01-01" })),
        ("?update_mask=start_date", json!({})),
        ("?update_mask=quantity", json!({})),
    ] {
        assert_eq!(
            stage.patch(&format!("{}{mask}", path_of(&made)), &body).await.status,
            400,
            "{mask} {body}"
        );
    }
}

#[tokio::test]
async fn a_client_can_end_a_subscription_and_nothing_worse() {
    let stage = Stage::empty().await;
    let ann = stage.create(&person("Ann")).await;
    let (_, plan_id) = plan(&stage).await;
    let made = subscribe(&stage, &json!({ "contact_id": ann, "subscription_plan_id": plan_id })).await;
    let path = path_of(&made);
    let ended = stage.post(&format!("{path}:deactivate"), &json!({ "reason": "Moved away" })).await;
    assert_eq!((ended.status, ended.text.as_str()), (200, ""));
    let after = stage.get(&path).await.json();
    check("Subscription", &after);
    assert_eq!((&after["active"], &after["reason_stopped"]), (&json!(false), &json!("Moved away")));
    assert!(after["end_date"].is_string());
    assert_eq!(after.get("next_bill_date"), None);
    assert!(after["modification_time"].as_str() > made["modification_time"].as_str());
    // No longer in the way of another.
    subscribe(&stage, &json!({ "contact_id": ann, "subscription_plan_id": plan_id })).await;
    assert_eq!(stage.delete(&path).await.status, 405);
    assert_eq!(stage.post(&path, &json!({})).await.status, 405);
    assert_eq!(stage.post(&format!("{path}:invoice"), &json!({})).await.status, 404);
    assert_eq!(stage.post("/v2/subscriptions/999:deactivate", &json!({})).await.status, 404);
    assert_eq!(stage.post(&format!("{path}:deactivate"), &json!({ "why": "" })).await.status, 400);
    let report = stage.report().await;
    assert_eq!(report["calls"]["by_operation"]["deactivate_subscription"], 3);
    // Two subscriptions, a product, a plan and a contact were made, and one subscription ended.
    assert_eq!(report["calls"]["writes"], 6);
    assert_eq!(report["subscriptions"], 2);
    stage.sim(Method::DELETE, &path.replace("/v2", ""), &Value::Null).await;
    assert_eq!(stage.get(&path).await.status, 404);
}

#[tokio::test]
async fn filters_and_orders_are_those_of_the_contract() {
    let stage = Stage::with_contacts(100).await;
    let ann = stage.create(&person("Ann")).await;
    let (_, plan_id) = plan(&stage).await;
    let made = subscribe(&stage, &json!({ "contact_id": ann, "subscription_plan_id": plan_id })).await;
    let id = made["id"].as_str().unwrap();
    for filter in [
        format!("id=={id}"),
        format!("ids=={id}"),
        format!("contact_id=={ann}"),
        format!("subscription_plan_id=={plan_id}"),
        format!("subscription_plan_ids=={plan_id},1"),
        "billing_amount==12.5".to_owned(),
        format!("status==Active;contact_id=={ann}"),
    ] {
        assert_eq!(found(&stage, &filter).await, [id], "{filter}");
    }
    let all = found(&stage, "").await.len();
    assert_eq!(all, 41);
    assert_eq!(found(&stage, &format!("id!={id}")).await.len(), 40);
    let (active, inactive) =
        (found(&stage, "status==Active").await.len(), found(&stage, "status==Inactive").await.len());
    assert_eq!(active + inactive, all);
    assert!(active > 5 && inactive > 5, "{active} active, {inactive} not");
    // There is no filter on the time of change, under no name.
    for filter in ["modified_since_time", "start_update_time", "modification_time"] {
        let filter = format!("{filter}==2020-01-01T00:00:00.000Z");
        assert_eq!(find(&stage, &filter).await.status, 400, "{filter}");
    }
    for order in ["id", "contact_id", "subscription_plan_id", "modification_time"] {
        let (mut seen, mut token) = (Vec::new(), String::new());
        loop {
            let path = format!("/v2/subscriptions?order_by={order}%20desc&page_size=9&page_token={token}");
            let page = stage.get(&path).await.json();
            check("ListSubscriptionsResponse", &page);
            seen.extend(
                page["subscriptions"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|row| row[order].as_str().unwrap().to_owned()),
            );
            match page.get("next_page_token") {
                Some(next) => next.as_str().unwrap().clone_into(&mut token),
                None => break,
            }
        }
        assert_eq!(seen.len(), all, "{order}");
        let keys: Vec<(usize, &String)> = seen.iter().map(|key| (key.len(), key)).collect();
        assert!(keys.is_sorted_by(|left, right| left >= right), "{order}: {seen:?}");
    }
}
