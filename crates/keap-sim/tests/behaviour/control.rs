//! The control API: what a person in Keap does, what was seen, and seeding.

use reqwest::Method;
use serde_json::{Value, json};

use crate::contract::{ALL_FIELDS, check};
use crate::stage::{Answer, Stage, expect_pages_as_fast, person};

#[tokio::test]
async fn a_persons_changes_are_seen_by_the_api_and_count_as_no_call() {
    let stage = Stage::empty().await;
    let made = stage.sim(Method::POST, "/contacts", &person("Ann")).await;
    check("Contact", &made.json());
    let id = made.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(made.json()["source_type"], "MANUAL");
    let changed = stage
        .sim(Method::PATCH, &format!("/contacts/{id}"), &json!({ "given_name": null, "suffix": "II" }))
        .await;
    assert_eq!(changed.json().get("given_name"), None);
    assert_eq!(stage.report().await["calls"]["total"], 0);
    assert_eq!(stage.contact(&id).await, changed.json());
    let listed = stage.sim(Method::GET, "/contacts", &Value::Null).await.json();
    assert_eq!(listed, json!({ "contacts": [changed.json()] }));
    stage.sim(Method::DELETE, &format!("/contacts/{id}"), &Value::Null).await;
    assert_eq!(stage.get(&format!("/v2/contacts/{id}")).await.status, 404);
    let seen = stage.sim(Method::GET, "/changes", &Value::Null).await.json()["changes"].clone();
    let events: Vec<_> = seen.as_array().unwrap().iter().map(|change| change["event_key"].clone()).collect();
    assert_eq!(events, ["contact.add", "contact.edit", "contact.delete"]);
    assert!(seen.as_array().unwrap().iter().all(|change| change["author"] == "person"));
}

#[tokio::test]
async fn calls_are_counted_and_logged() {
    let stage = Stage::empty().await;
    let id = stage.create(&person("Ann")).await;
    stage.get("/v2/contacts").await;
    stage.get("/v2/contacts/999").await;
    let middle =
        stage.sim(Method::GET, "/log", &Value::Null).await.json()["calls"][2]["at_ms"].as_i64().unwrap();
    stage.patch(&format!("/v2/contacts/{id}"), &json!({ "suffix": "II" })).await;
    let report = stage.report().await;
    assert_eq!(report["calls"]["total"], 4);
    assert_eq!(report["calls"]["writes"], 2);
    let by_operation = &report["calls"]["by_operation"];
    for operation in ["create_contact", "list_contacts", "get_contact", "patch_contact", "exchange_code"] {
        assert_eq!(by_operation[operation], 1, "{operation}");
    }
    assert_eq!(report["calls"]["by_status"]["404"], 1);
    let log = stage.sim(Method::GET, &format!("/log?since={middle}"), &Value::Null).await.json();
    let last = log["calls"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(
        (&last["operation"], &last["method"], &last["status"]),
        (&json!("patch_contact"), &json!("PATCH"), &json!(200))
    );
    stage.sim(Method::POST, "/reset-counters", &Value::Null).await;
    assert_eq!(stage.report().await["calls"]["total"], 0);
}

#[tokio::test]
async fn writes_are_kept_with_what_they_sent_from_when_they_are_asked_for() {
    let stage = Stage::empty().await;
    let id = stage.create(&person("Ann")).await;
    stage.sim(Method::POST, "/writes", &Value::Null).await;
    stage.patch(&format!("/v2/contacts/{id}"), &json!({ "suffix": "II" })).await;
    stage.patch("/v2/contacts/999", &json!({ "suffix": "III" })).await;
    stage.get("/v2/contacts").await;
    let kept = stage.sim(Method::GET, "/writes", &Value::Null).await.json()["writes"].clone();
    assert_eq!(kept.as_array().unwrap().len(), 1, "only what took effect is kept: {kept}");
    assert_eq!(
        (&kept[0]["operation"], &kept[0]["body"]),
        (&json!("patch_contact"), &json!({ "suffix": "II" }))
    );
    assert_eq!(kept[0]["path"], format!("/crm/rest/v2/contacts/{id}"));
    let after = format!("/writes?after_seq={}", kept[0]["seq"]);
    assert_eq!(stage.sim(Method::GET, &after, &Value::Null).await.json(), json!({ "writes": [] }));
}

#[tokio::test]
async fn a_person_can_change_one_item_of_a_list_and_leave_the_others() {
    let stage = Stage::empty().await;
    let contact = json!({ "given_name": "Ann", "email_addresses": [
        { "field": "EMAIL1", "email": "one@x.example" }, { "field": "EMAIL2", "email": "two@x.example" } ] });
    let id = stage.create(&contact).await;
    let change = async |items: Value, query: &str| {
        let body = json!({ "email_addresses": items });
        let changed = stage.sim(Method::PATCH, &format!("/contacts/{id}{query}"), &body).await.json();
        let mut emails: Vec<String> = changed["email_addresses"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| format!("{} {}", item["field"].as_str().unwrap(), item["email"].as_str().unwrap()))
            .collect();
        emails.sort();
        emails
    };
    let third = json!([{ "field": "EMAIL3", "email": "three@x.example" }]);
    let all = ["EMAIL1 one@x.example", "EMAIL2 two@x.example", "EMAIL3 three@x.example"];
    assert_eq!(change(third.clone(), "?keep_others=true").await, all);
    assert_eq!(change(json!([{ "field": "EMAIL2" }]), "?keep_others=true").await, [all[0], all[2]]);
    assert_eq!(change(third, "").await, [all[2]]);
}

#[tokio::test]
async fn a_person_can_make_change_apply_and_delete_tags() {
    let stage = Stage::empty().await;
    let contact = stage.create(&person("Ann")).await;
    let made = stage.sim(Method::POST, "/tags", &json!({ "name": "Gold", "description": "x" })).await.json();
    let tag = made["id"].as_str().unwrap().to_owned();
    let changed = stage
        .sim(Method::PATCH, &format!("/tags/{tag}"), &json!({ "name": "Silver", "description": null }))
        .await;
    assert_eq!((&changed.json()["name"], changed.json().get("description")), (&json!("Silver"), None));
    let application = format!("/contacts/{contact}/tags/{tag}");
    stage.sim(Method::PUT, &application, &Value::Null).await;
    assert_eq!(stage.contact(&contact).await["tag_ids"], json!([tag]));
    stage.sim(Method::DELETE, &application, &Value::Null).await;
    assert_eq!(stage.contact(&contact).await["tag_ids"], json!([]));
    stage.sim(Method::DELETE, &format!("/tags/{tag}"), &Value::Null).await;
    assert_eq!(stage.get(&format!("/v2/tags/{tag}")).await.status, 404);
    let seen = stage.sim(Method::GET, "/changes", &Value::Null).await.json()["changes"].clone();
    let events: Vec<_> =
        seen.as_array().unwrap().iter().skip(1).map(|change| change["event_key"].clone()).collect();
    assert_eq!(
        events,
        [
            "contactGroup.add",
            "contactGroup.edit",
            "contactGroup.applied",
            "contactGroup.removed",
            "contactGroup.delete"
        ]
    );
    assert_eq!(stage.report().await["calls"]["writes"], 1, "only the contact was made by the API");
}

#[tokio::test]
async fn seeding_replaces_the_data_and_repeats_itself() {
    let stage = Stage::empty().await;
    let seeded = async |seed: u64| {
        stage.sim(Method::POST, "/seed", &json!({ "contacts": 300, "seed": seed })).await;
        stage.sim(Method::GET, "/contacts?limit=300", &Value::Null).await.text
    };
    let first = seeded(3).await;
    assert_ne!(first, seeded(4).await);
    assert_eq!(first, seeded(3).await);
    assert_eq!(stage.report().await["contacts"], 300);
    let url = format!("{}/sim/tenants/demo/seed", stage.server.url());
    let refused = Answer::read(stage.http.post(url).json(&json!({ "contacts": 200_001 }))).await;
    assert_eq!(refused.status, 400);
}

#[tokio::test]
async fn full_records_are_paged_by_id() {
    let stage = Stage::with_contacts(25).await;
    let first = stage.sim(Method::GET, "/contacts?limit=10", &Value::Null).await.json();
    assert_eq!((first["contacts"].as_array().unwrap().len(), &first["next_after_id"]), (10, &json!(10)));
    let last = stage.sim(Method::GET, "/contacts?limit=15&after_id=10", &Value::Null).await.json();
    assert_eq!(last["contacts"].as_array().unwrap().len(), 15);
    assert_eq!(last.get("next_after_id"), None);
}

#[tokio::test]
async fn health_names_the_api_and_a_bad_tenant_is_refused() {
    let stage = Stage::empty().await;
    let health = Answer::read(stage.http.get(format!("{}/sim/health", stage.server.url()))).await.json();
    assert_eq!(health["api_url"], format!("{}/crm", stage.server.url()));
    let bad = Answer::read(stage.http.get(format!("{}/sim/tenants/No_Such", stage.server.url()))).await;
    assert_eq!(bad.status, 400);
}

#[tokio::test]
async fn a_large_app_is_paged_at_speed() {
    let stage = Stage::with_contacts(20_000).await;
    let list = format!("/v2/contacts?page_size=1000&order_by=update_time%20asc&fields={ALL_FIELDS}");
    let (mut pages, mut seen, mut token) = (Vec::new(), 0, String::new());
    loop {
        let path = format!("{list}&page_token={token}");
        let page = stage.get(&path).await.json();
        pages.push(path);
        seen += page["contacts"].as_array().unwrap().len();
        match page.get("next_page_token") {
            Some(next) => next.as_str().unwrap().clone_into(&mut token),
            None => break,
        }
    }
    assert_eq!((pages.len(), seen), (20, 20_000));
    expect_pages_as_fast((&stage, &pages), (&Stage::with_contacts(1_000).await, &list)).await;
}

#[tokio::test]
async fn a_stopped_server_is_gone() {
    let stage = Stage::empty().await;
    let url = format!("{}/sim/health", stage.server.url());
    stage.server.shutdown().await;
    assert!(reqwest::get(url).await.is_err());
}
