//! Each fault does what it says, as often as it says.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::stage::{Answer, Stage, person};

#[tokio::test]
async fn latency_delays_and_then_all_goes_well() {
    let stage = Stage::empty().await;
    stage.fault(json!({ "kind": "latency", "ms": 300, "times": 1, "operation": "list_contacts" })).await;
    let started = Instant::now();
    assert_eq!(stage.get("/v2/contacts").await.status, 200);
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert_eq!(stage.sim(Method::GET, "/faults", &Value::Null).await.json()["faults"][0]["happened"], 1);
}

#[tokio::test]
async fn a_status_keeps_the_operation_from_running() {
    let stage = Stage::empty().await;
    stage
        .fault(json!([
            { "kind": "status", "status": 503, "operation": "create_contact", "times": 1 },
            { "kind": "status", "status": 429, "retry_after_s": 7, "operation": "create_contact", "times": 1 },
        ]))
        .await;
    let unavailable = stage.post("/v2/contacts", &person("Ann")).await;
    assert_eq!(unavailable.status, 503);
    crate::contract::check("Error", &unavailable.json());
    let throttled = stage.post("/v2/contacts", &person("Ann")).await;
    assert_eq!((throttled.status, throttled.header("retry-after")), (429, "7"));
    assert_eq!(stage.report().await["contacts"], 0);
    assert_eq!(stage.post("/v2/contacts", &person("Ann")).await.status, 201);
    assert_eq!(stage.get("/v2/contacts").await.status, 200);
}

#[tokio::test]
async fn timeouts_close_the_connection_before_or_after_the_write() {
    let stage = Stage::empty().await;
    for (kind, contacts) in [("timeout_before", 0), ("timeout_after", 1)] {
        stage.fault(json!({ "kind": kind, "ms": 100, "times": 1, "operation": "create_contact" })).await;
        let started = Instant::now();
        let sent = Answer::try_read(stage.call(Method::POST, "/v2/contacts").json(&person("Ann"))).await;
        assert!(sent.is_err(), "{kind} was answered: {sent:?}");
        assert!(started.elapsed() >= Duration::from_millis(100));
        assert_eq!(stage.report().await["contacts"], contacts, "{kind}");
    }
    let log = stage.sim(Method::GET, "/log", &Value::Null).await.json();
    assert_eq!(log["calls"].as_array().unwrap().iter().filter(|call| call["status"] == 0).count(), 2);
    assert_eq!(stage.report().await["calls"]["writes"], 1);
}

#[tokio::test]
async fn a_body_is_cut_off_after_the_write() {
    let stage = Stage::empty().await;
    stage.fault(json!({ "kind": "invalid_json", "times": 1 })).await;
    let answer = stage.post("/v2/contacts", &person("Ann")).await;
    assert_eq!(answer.status, 201);
    assert!(serde_json::from_str::<Value>(&answer.text).is_err(), "{}", answer.text);
    assert_eq!(stage.report().await["contacts"], 1);
}

#[tokio::test]
async fn one_record_of_a_page_is_broken() {
    let stage = Stage::empty().await;
    let (ann, bob) = (stage.create(&person("Ann")).await, stage.create(&person("Bob")).await);
    let contact_id: u64 = bob.parse().unwrap();
    stage.fault(json!({ "kind": "broken_record", "contact_id": contact_id, "times": 1 })).await;
    let query = format!("/v2/contacts?fields=id,given_name&filter=ids%3D%3D{ann}");
    assert_eq!(
        stage.get(&query).await.json()["contacts"][0]["given_name"],
        "Ann",
        "a page without it uses nothing up"
    );
    let rows = stage.get("/v2/contacts?fields=id,given_name").await.json()["contacts"].clone();
    assert_eq!(rows[0]["given_name"], "Ann");
    assert!(rows[1]["given_name"].is_array() && rows[1]["id"] == json!(bob), "{rows}");
    let rows = stage.get("/v2/contacts?fields=id,given_name").await.json()["contacts"].clone();
    assert_eq!(rows[1]["given_name"], "Bob");
}

#[tokio::test]
async fn a_refresh_can_rotate_and_lose_its_answer() {
    let stage = Stage::empty().await;
    let token = stage.tokens["refresh_token"].as_str().unwrap();
    stage.fault(json!({ "kind": "token_refresh_lost", "times": 1 })).await;
    let form = [("grant_type", "refresh_token"), ("refresh_token", token)];
    let url = format!("{}/token", stage.server.url());
    let lost =
        Answer::try_read(stage.http.post(&url).basic_auth("demo-client", Some("demo-secret")).form(&form))
            .await;
    assert!(lost.is_err(), "{lost:?}");
    assert_eq!(stage.report().await["refreshes"], 1);
    assert_eq!(stage.refresh(token).await.status, 400, "the token was rotated all the same");
}

#[tokio::test]
async fn the_token_endpoint_fails_when_named() {
    let stage = Stage::empty().await;
    let token = stage.tokens["refresh_token"].as_str().unwrap();
    stage.fault(json!({ "kind": "status", "status": 502, "operation": "token", "times": 1 })).await;
    assert_eq!(stage.refresh(token).await.status, 502);
    assert_eq!(stage.refresh(token).await.status, 200, "a fault before the work does not rotate");
}

#[tokio::test]
async fn faults_end_when_cleared_and_nonsense_is_refused() {
    let stage = Stage::empty().await;
    stage.fault(json!({ "kind": "status", "status": 500 })).await;
    assert_eq!(stage.get("/v2/contacts").await.status, 500);
    assert_eq!(stage.get("/v2/tags").await.status, 500);
    stage.clear_faults().await;
    assert_eq!(stage.get("/v2/contacts").await.status, 200);
    let url = format!("{}/sim/tenants/demo/faults", stage.server.url());
    for fault in [
        json!({ "kind": "nonsense" }),
        json!({ "kind": "status" }),
        json!({ "kind": "latency", "ms": 1, "operation": "list_contact" }),
        json!({ "kind": "latency", "ms": 1, "tmes": 1 }),
    ] {
        assert_eq!(Answer::read(stage.http.post(&url).json(&fault)).await.status, 400, "{fault}");
    }
}
