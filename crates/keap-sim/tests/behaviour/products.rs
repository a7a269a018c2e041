//! Products and their plans.

use reqwest::Method;
use serde_json::{Value, json};

use crate::contract::check;
use crate::stage::Stage;

#[tokio::test]
async fn products_are_made_changed_found_and_deleted() {
    let stage = Stage::empty().await;
    let generated = stage.report().await["products"].as_u64().unwrap();
    assert!(generated >= 20);
    let body = json!({ "name": "Zebra grass", "price": 1250, "short_description": "In a pot", "sku": "Z-1", "taxable": true });
    let made = stage.post("/v2/products", &body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let made = made.json();
    check("RestV2Product_Detail", &made);
    assert_eq!(
        made["price"],
        json!({ "amount": 1250, "currency_code": "USD", "formatted_amount": "$12.50" })
    );
    let id = made["id"].as_str().unwrap();
    let path = format!("/v2/products/{id}");
    assert_eq!(stage.get(&path).await.json(), made);
    let changed = stage
        .patch(
            &format!("{path}?update_mask=name&update_mask=price"),
            &json!({ "name": "Zebra", "price": 990, "sku": "x" }),
        )
        .await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    let changed = changed.json();
    assert_eq!((&changed["name"], &changed["sku"]), (&json!("Zebra"), &json!("Z-1")));
    assert_eq!(changed["price"]["amount"], 990);
    assert!(changed["update_time"].as_str() > made["update_time"].as_str());
    for filter in [
        "name%3D%3Dzeb*".to_owned(),
        "sku%3D%3DZ-1".to_owned(),
        format!("product_id%3E%3D{id}"),
        format!("product_ids%3D%3D{id},1"),
    ] {
        let listed = stage
            .get(&format!("/v2/products?filter={filter}&order_by=last_updated_time%20desc"))
            .await
            .json();
        check("ListProductsResponse_List", &listed);
        assert_eq!(listed["products"].as_array().unwrap().len(), 1, "{filter}");
        assert_eq!(listed["products"][0]["id"], json!(id));
    }
    assert_eq!(stage.get("/v2/products?filter=price%3D%3D5").await.status, 400);
    for body in [
        json!({ "name": "A", "price": 1 }),
        json!({ "name": "A", "short_description": "a" }),
        json!({ "name": "A", "short_description": "a", "price": 12.5 }),
        json!({ "name": "A", "short_description": "a", "price": -1 }),
        json!({ "name": " ", "short_description": "a", "price": 1 }),
        json!({ "name": "A", "short_description": "a", "price": 1, "id": "5" }),
    ] {
        assert_eq!(stage.post("/v2/products", &body).await.status, 400, "{body}");
    }
    assert_eq!(stage.delete(&path).await.status, 204);
    assert_eq!(stage.get(&path).await.status, 404);
    let seen = stage.sim(Method::GET, "/changes", &Value::Null).await.json()["changes"].clone();
    let events: Vec<_> = seen.as_array().unwrap().iter().map(|change| change["event_key"].clone()).collect();
    assert_eq!(events, ["product.add", "product.edit", "product.delete"]);
}

#[tokio::test]
async fn plans_belong_to_their_product() {
    let stage = Stage::empty().await;
    let product_id = stage.product("Care", 5000).await;
    let plans = format!("/v2/products/{product_id}/subscriptions");
    for (cycle, active) in [("MONTHLY", true), ("YEARLY", false)] {
        let body = json!({ "cycle_type": cycle, "plan_price": 990, "active": active, "frequency": 2 });
        let made = stage.post(&plans, &body).await;
        assert_eq!(made.status, 201, "{}", made.text);
        check("SubscriptionPlan", &made.json());
        let path = format!("{plans}/{}", made.json()["id"].as_str().unwrap());
        assert_eq!(stage.get(&path).await.json(), made.json());
        assert_eq!(stage.get(&path.replace(&product_id, "31")).await.status, 404);
    }
    for (query, count) in [("", 2), ("?filter=active%3D%3Dtrue", 1), ("?filter=cycle_type%3D%3DYEARLY", 1)] {
        let listed = stage.get(&format!("{plans}{query}")).await.json();
        check("ListSubscriptionPlansResponse", &listed);
        assert_eq!(listed["subscriptions"].as_array().unwrap().len(), count, "{query}");
    }
    // Inside the product the same plan has other names.
    let product = stage.get(&format!("/v2/products/{product_id}")).await.json();
    check("RestV2Product_Detail", &product);
    assert_eq!(product["subscription_plans"][0]["billing_cycle"], "MONTHLY");
    assert_eq!(product["subscription_plans"][0]["billing_frequency"], 2);
    for body in [
        json!({ "plan_price": 1 }),
        json!({ "cycle_type": "MONTH", "plan_price": 1 }),
        json!({ "cycle_type": "MONTHLY", "plan_price": 0.5 }),
        json!({ "cycle_type": "MONTHLY", "plan_price": 1, "frequency": 0 }),
    ] {
        assert_eq!(stage.post(&plans, &body).await.status, 400, "{body}");
    }
    assert_eq!(stage.get("/v2/products/999/subscriptions").await.status, 404);
}
