//! Quotas, their headers and their errors.

use keapsync_keap_sim::Options;
use reqwest::Method;
use serde_json::{Value, json};

use crate::stage::{Answer, Stage, options, within_a_day};

fn limited(calls_per_second: u32, calls_per_minute: u32, calls_per_day: u32) -> Options {
    Options { no_quota: false, calls_per_second, calls_per_minute, calls_per_day, ..options() }
}

fn code(answer: &Answer) -> Value {
    answer.json()["fault"]["detail"]["errorcode"].clone()
}

#[tokio::test]
async fn a_burst_trips_the_spike_arrest() {
    within_a_day(burst).await;
}

async fn burst() {
    let stage = Stage::with(limited(3, 1000, 1000), "demo").await;
    let mut statuses = Vec::new();
    for _ in 0..20 {
        statuses.push(stage.get("/v2/contacts").await);
    }
    let refused =
        statuses.iter().find(|answer| answer.status == 429).expect("no call of a burst was refused");
    assert_eq!(code(refused), "policies.ratelimit.SpikeArrestViolation");
    assert_eq!(refused.header("x-keap-product-spike-limit"), "3");
    // What was let through never exceeds the limit, but the report tells what the client tried.
    let report = stage.report().await;
    assert_eq!(report["calls"]["total"], 20);
    assert!(report["max_calls_in_1s"].as_u64().unwrap() > 3, "{report}");
    assert_eq!(report["max_calls_in_60s"], 20);
    let client = stage.sim_at("/sim/quota").await;
    assert_eq!(client["limits"]["second"], 3);
    assert_eq!(client["max_calls"]["day"], 20);
    assert!(client["refused"].as_u64().unwrap() > 0, "{client}");
}

#[tokio::test]
async fn the_minutes_quota_and_the_days_quota_end() {
    within_a_day(use_up).await;
}

async fn use_up() {
    for options in [limited(1000, 5, 1000), limited(1000, 1000, 5)] {
        let stage = Stage::with(options, "demo").await;
        for used in 1..=5 {
            let answer = stage.get("/v2/contacts").await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            assert_eq!(answer.header("x-keap-product-throttle-used"), used.to_string());
            assert_eq!(answer.header("x-keap-product-quota-used"), used.to_string());
        }
        let refused = stage.get("/v2/contacts").await;
        assert_eq!((refused.status, code(&refused)), (429, json!("policies.ratelimit.QuotaViolation")));
    }
}

#[tokio::test]
async fn the_clients_quota_is_shared_by_tenants_and_the_tenants_by_credentials() {
    let stage = Stage::with(limited(1000, 3, 1000), "one").await;
    let other = stage.exchange(&stage.approve("two").await).await.json();
    let url = format!("{}/crm/rest/v2/contacts", stage.server.url());
    let as_other = || Answer::read(stage.http.get(&url).bearer_auth(other["access_token"].as_str().unwrap()));
    assert_eq!(stage.get("/v2/contacts").await.status, 200);
    assert_eq!(as_other().await.status, 200);
    assert_eq!(as_other().await.status, 200);
    assert_eq!(stage.get("/v2/contacts").await.status, 429);

    let stage = Stage::with(Options { tenant_calls_per_minute: 2, ..limited(1000, 1000, 1000) }, "one").await;
    let key = stage.sim(Method::POST, "/service-keys", &Value::Null).await.json()["key"]
        .as_str()
        .unwrap()
        .to_owned();
    let url = format!("{}/crm/rest/v2/contacts", stage.server.url());
    assert_eq!(stage.get("/v2/contacts").await.status, 200);
    assert_eq!(Answer::read(stage.http.get(&url).bearer_auth(&key)).await.status, 200);
    let refused = stage.get("/v2/contacts").await;
    assert_eq!(refused.status, 429);
    assert_eq!(
        refused.json(),
        json!({ "code": "429", "message": "Quota Exceeded", "status": "Request Throttled", "details": null })
    );
    assert_eq!(refused.header("x-keap-tenant-throttle-limit"), "2|250000");
    assert_eq!(refused.header("x-keap-tenant-throttle-time-unit"), "minute|day");
    assert_eq!(refused.header("x-keap-tenant-id"), "one");
}

#[tokio::test]
async fn a_tenant_can_have_limits_of_its_own() {
    let stage = Stage::empty().await;
    let limits = json!({ "calls_per_second": 1000, "calls_per_minute": 2, "calls_per_day": 1000 });
    stage.sim(Method::POST, "/quota", &limits).await;
    assert_eq!(stage.get("/v2/contacts").await.status, 200);
    assert_eq!(stage.get("/v2/contacts").await.status, 200);
    assert_eq!(stage.get("/v2/contacts").await.status, 429);
    stage.sim(Method::DELETE, "/quota", &Value::Null).await;
    assert_eq!(stage.get("/v2/contacts").await.status, 200);
}

#[tokio::test]
async fn without_quota_nothing_is_refused_but_all_is_counted() {
    let stage = Stage::with(Options { no_quota: true, ..limited(1, 1, 1) }, "demo").await;
    for _ in 0..10 {
        assert_eq!(stage.get("/v2/contacts").await.status, 200);
    }
    assert_eq!(stage.report().await["max_calls_in_60s"], 10);
}
