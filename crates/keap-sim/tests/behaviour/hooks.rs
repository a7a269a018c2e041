//! Hooks: subscriptions, handshake, batching, retries, going Inactive, and their faults.

use std::time::Duration;

use keapsync_keap_sim::Options;
use reqwest::Method;
use serde_json::{Value, json};

use crate::contract::check;
use crate::receiver::Receiver;
use crate::stage::{Answer, Stage, options, person, until};

async fn subscribe(stage: &Stage, receiver: &Receiver, event_key: &str) -> Value {
    let answer = stage.post("/v1/hooks", &json!({ "eventKey": event_key, "hookUrl": receiver.url() })).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    check("RestHook", &answer.json());
    answer.json()
}

async fn flush(stage: &Stage) -> u64 {
    stage.sim(Method::POST, "/hooks/flush", &Value::Null).await.json()["batches"].as_u64().unwrap()
}

async fn status_of(stage: &Stage, hook: &Value) -> String {
    let answer = stage.get(&format!("/v1/hooks/{}", hook["key"].as_str().unwrap())).await;
    answer.json()["status"].as_str().unwrap().to_owned()
}

/// Hooks that wait a hundred times as long as Keap's, so that only a flush delivers however long the test takes.
fn slow() -> Options {
    Options { time_scale: 0.01, ..options() }
}

#[tokio::test]
async fn a_subscription_is_made_verified_changed_and_deleted() {
    let (stage, receiver) = (Stage::empty().await, Receiver::start().await);
    let keys = stage.get("/v1/hooks/event_keys").await.json();
    assert!(keys.as_array().unwrap().contains(&json!("contact.edit")));
    let hook = subscribe(&stage, &receiver, "contact.add").await;
    assert_eq!(hook["status"], "Verified");
    assert_eq!(stage.get("/v1/hooks").await.json(), json!([hook]));
    assert_eq!(stage.report().await["hooks"], json!([hook]));
    let path = format!("/v1/hooks/{}", hook["key"].as_str().unwrap());
    let body = json!({ "eventKey": "contact.edit", "hookUrl": receiver.url() });
    let changed = Answer::read(stage.call(Method::PUT, &path).json(&body)).await.json();
    assert_eq!((&changed["eventKey"], &changed["status"]), (&json!("contact.edit"), &json!("Verified")));
    assert_eq!(receiver.secrets().len(), 2);
    assert_eq!(stage.delete(&path).await.status, 204);
    assert_eq!(stage.get(&path).await.status, 404);
    for body in [
        json!({ "eventKey": "contact.sneeze", "hookUrl": receiver.url() }),
        json!({ "eventKey": "contact.add", "hookUrl": "/hook" }),
        json!({ "eventKey": "contact.add" }),
    ] {
        let refused = stage.post("/v1/hooks", &body).await;
        assert_eq!(refused.status, 400, "{body}");
        assert!(refused.json()["message"].is_string());
    }
}

#[tokio::test]
async fn a_receiver_that_does_not_echo_stays_unverified_and_gets_nothing() {
    let (stage, receiver) = (Stage::with(slow(), "demo").await, Receiver::start().await);
    receiver.behave(|manners| manners.echoes = false);
    let hook = subscribe(&stage, &receiver, "contact.add").await;
    assert_eq!(hook["status"], "Unverified");
    stage.create(&person("Ann")).await;
    assert_eq!(flush(&stage).await, 0);
    let path = format!("/v1/hooks/{}", hook["key"].as_str().unwrap());
    let verify = |name: &str| stage.call(Method::POST, &format!("{path}/{name}"));
    assert_eq!(Answer::read(verify("verify")).await.json()["status"], "Unverified");
    let guess = Answer::read(verify("delayedVerify").header("X-Hook-Secret", "guess")).await;
    assert_eq!(guess.status, 400);
    let secret = receiver.secrets().pop().unwrap();
    let proven = Answer::read(verify("delayedVerify").header("X-Hook-Secret", secret)).await;
    assert_eq!(proven.json()["status"], "Verified");
    stage.create(&person("Bob")).await;
    assert_eq!(flush(&stage).await, 1);
    assert_eq!(receiver.ids(), [2], "what happened before is not made up for");
}

#[tokio::test]
async fn subscriptions_are_made_inactive_or_forgotten_on_demand() {
    let (stage, receiver) = (Stage::with(slow(), "demo").await, Receiver::start().await);
    let added = subscribe(&stage, &receiver, "contact.add").await;
    let edited = subscribe(&stage, &receiver, "contact.edit").await;
    let one = json!({ "event_key": "contact.add" });
    assert_eq!(stage.sim(Method::POST, "/hooks/deactivate", &one).await.json()["hooks"], 1);
    assert_eq!(status_of(&stage, &added).await, "Inactive");
    assert_eq!(status_of(&stage, &edited).await, "Verified");
    stage.create(&person("Ann")).await;
    assert_eq!(flush(&stage).await, 0);
    let all = json!({ "forget": true });
    assert_eq!(stage.sim(Method::POST, "/hooks/deactivate", &all).await.json()["hooks"], 2);
    assert_eq!(stage.get("/v1/hooks").await.json(), json!([]));
}

#[tokio::test]
async fn a_receiver_that_is_not_there_leaves_it_unverified() {
    let stage = Stage::empty().await;
    let body = json!({ "eventKey": "contact.add", "hookUrl": "http://127.0.0.1:1/hook" });
    assert_eq!(stage.post("/v1/hooks", &body).await.json()["status"], "Unverified");
}

#[tokio::test]
async fn every_kind_of_change_arrives_in_keaps_form() {
    let (stage, receiver) = (Stage::with(slow(), "demo").await, Receiver::start().await);
    for event in [
        "contact.add",
        "contact.edit",
        "contact.delete",
        "contactGroup.add",
        "contactGroup.applied",
        "contactGroup.removed",
    ] {
        subscribe(&stage, &receiver, event).await;
    }
    let id = stage.create(&person("Ann")).await;
    stage.patch(&format!("/v2/contacts/{id}"), &json!({ "given_name": "Anna" })).await;
    let tag =
        stage.post("/v2/tags", &json!({ "name": "A tag" })).await.json()["id"].as_str().unwrap().to_owned();
    for operation in ["applyTags", "removeTags"] {
        stage.post(&format!("/v2/tags/{tag}/contacts:{operation}"), &json!({ "contact_ids": [id] })).await;
    }
    stage.sim(Method::DELETE, &format!("/contacts/{id}"), &Value::Null).await;
    assert_eq!(flush(&stage).await, 6);
    let mut deliveries: Vec<Value> = receiver.deliveries().into_iter().map(|(_, body)| body).collect();
    deliveries.sort_by_key(|body| body["event_key"].as_str().unwrap().to_owned());
    let of: Vec<(&str, &str, String)> = deliveries
        .iter()
        .map(|body| {
            let objects = body["object_keys"].as_array().unwrap();
            assert_eq!(objects.len(), 1);
            (
                body["event_key"].as_str().unwrap(),
                body["object_type"].as_str().unwrap(),
                objects[0]["id"].to_string(),
            )
        })
        .collect();
    assert_eq!(
        of,
        [
            ("contact.add", "contact", id.clone()),
            ("contact.delete", "contact", id.clone()),
            ("contact.edit", "contact", id.clone()),
            ("contactGroup.add", "contactGroup", tag.clone()),
            ("contactGroup.applied", "contactGroup", tag.clone()),
            ("contactGroup.removed", "contactGroup", tag),
        ]
    );
    let object = &deliveries[0]["object_keys"][0];
    assert_eq!(object["apiUrl"], format!("{}/crm/rest/v1/contacts/{id}", stage.server.url()));
    assert!(object["timestamp"].as_str().unwrap().ends_with('Z'));
    assert_eq!(object.as_object().unwrap().len(), 3);
}

#[tokio::test]
async fn tag_hooks_name_the_contacts_when_told_to() {
    let options = Options { tag_hooks_name_contacts: true, ..slow() };
    let (stage, receiver) = (Stage::with(options, "demo").await, Receiver::start().await);
    subscribe(&stage, &receiver, "contactGroup.applied").await;
    let id = stage.create(&person("Ann")).await;
    let tag =
        stage.post("/v2/tags", &json!({ "name": "A tag" })).await.json()["id"].as_str().unwrap().to_owned();
    stage.post(&format!("/v2/tags/{tag}/contacts:applyTags"), &json!({ "contact_ids": [id] })).await;
    flush(&stage).await;
    let details = &receiver.deliveries()[0].1["object_keys"][0]["contact_details"];
    assert_eq!(details[0]["id"].to_string(), id);
}

#[tokio::test]
async fn events_are_batched_up_to_a_thousand() {
    let (stage, receiver) = (Stage::with(slow(), "demo").await, Receiver::start().await);
    stage.sim(Method::POST, "/seed", &json!({ "contacts": 1 })).await;
    subscribe(&stage, &receiver, "contact.edit").await;
    for _ in 0..1005 {
        stage.sim(Method::PATCH, "/contacts/1", &json!({ "prefix": "Dr." })).await;
    }
    assert_eq!(stage.report().await["deliveries"]["pending"], 1005);
    assert_eq!(flush(&stage).await, 2);
    let mut sizes: Vec<usize> =
        receiver.deliveries().iter().map(|(_, body)| body["object_keys"].as_array().unwrap().len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [5, 1000]);
    let deliveries = stage.report().await["deliveries"].clone();
    assert_eq!(
        deliveries,
        json!({ "attempted": 2, "ok": 2, "failed": 0, "lost": 0, "objects": 1005, "pending": 0 })
    );
}

#[tokio::test]
async fn a_delivery_comes_by_itself_after_the_scaled_delay() {
    // 30 to 60 s at a scale of 20 is 1.5 to 3 s.
    const DELAY_MIN: Duration = Duration::from_millis(1_500);
    let options = Options { time_scale: 20.0, ..options() };
    let (stage, receiver) = (Stage::with(options, "demo").await, Receiver::start().await);
    subscribe(&stage, &receiver, "contact.add").await;
    let started = std::time::Instant::now();
    stage.create(&person("Ann")).await;
    stage.create(&person("Bob")).await;
    let both_made_after = started.elapsed();
    until("both contacts", || async { (receiver.ids().len() == 2).then_some(()) }).await;
    let waited = receiver.deliveries()[0].0.duration_since(started);
    assert!(waited >= DELAY_MIN, "{waited:?}");
    assert_eq!(receiver.ids(), [1, 2]);
    // A machine that stalls between the two makes the second when the first is gone already.
    assert!(receiver.deliveries().len() == 1 || both_made_after >= DELAY_MIN, "both came in one batch");
}

#[tokio::test]
async fn after_four_failures_a_subscription_is_inactive_until_verified() {
    let (stage, receiver) = (Stage::empty().await, Receiver::start().await);
    let hook = subscribe(&stage, &receiver, "contact.add").await;
    receiver.behave(|manners| manners.status = 500);
    stage.create(&person("Ann")).await;
    until("inactive hook", || async { (status_of(&stage, &hook).await == "Inactive").then_some(()) }).await;
    assert_eq!(receiver.deliveries().len(), 4);
    // 30 s, 5 min and 30 min at a scale of 1000.
    let times: Vec<_> = receiver.deliveries().into_iter().map(|(at, _)| at).collect();
    for (place, least_ms) in [(1, 30), (2, 300), (3, 1800)] {
        let waited = times[place].duration_since(times[place - 1]);
        assert!(waited >= Duration::from_millis(least_ms - 5), "attempt {place} came after {waited:?}");
    }
    receiver.behave(|manners| manners.status = 200);
    stage.create(&person("Lost")).await;
    let path = format!("/v1/hooks/{}/verify", hook["key"].as_str().unwrap());
    assert_eq!(stage.post(&path, &json!({})).await.json()["status"], "Verified");
    stage.create(&person("Seen")).await;
    until("delivery", || async { (receiver.deliveries().len() == 5).then_some(()) }).await;
    assert_eq!(receiver.ids().last(), Some(&3), "what happened while Inactive is not delivered");
    // The receiver has it before the simulator has read the answer.
    until("end of the delivery", || async {
        (stage.report().await["deliveries"]["pending"] == 0).then_some(())
    })
    .await;
    let deliveries = stage.report().await["deliveries"].clone();
    assert_eq!((&deliveries["failed"], &deliveries["ok"]), (&json!(4), &json!(1)));
}

#[tokio::test]
async fn a_retry_that_succeeds_keeps_the_subscription() {
    let (stage, receiver) = (Stage::empty().await, Receiver::start().await);
    let hook = subscribe(&stage, &receiver, "contact.add").await;
    receiver.behave(|manners| manners.status = 404);
    stage.create(&person("Ann")).await;
    until("first attempt", || async { (receiver.deliveries().len() == 1).then_some(()) }).await;
    receiver.behave(|manners| manners.status = 302);
    until("success", || async { (stage.report().await["deliveries"]["ok"] == 1).then_some(()) }).await;
    assert_eq!(status_of(&stage, &hook).await, "Verified");
}

#[tokio::test]
async fn a_receiver_that_is_gone_ends_the_subscription_at_once() {
    let (stage, receiver) = (Stage::with(slow(), "demo").await, Receiver::start().await);
    let hook = subscribe(&stage, &receiver, "contact.add").await;
    receiver.behave(|manners| manners.status = 410);
    stage.create(&person("Ann")).await;
    flush(&stage).await;
    assert_eq!(status_of(&stage, &hook).await, "Inactive");
    assert_eq!(receiver.deliveries().len(), 1);
}

#[tokio::test]
async fn no_answer_in_time_is_a_failure() {
    // The handshake has this time, too, and is answered in it by a machine that stalls; the delivery is not.
    let options = Options { hook_answer_timeout_ms: 2_000, ..slow() };
    let (stage, receiver) = (Stage::with(options, "demo").await, Receiver::start().await);
    let hook = subscribe(&stage, &receiver, "contact.add").await;
    assert_eq!(hook["status"], "Verified");
    receiver.behave(|manners| manners.delay_ms = 5_000);
    stage.create(&person("Ann")).await;
    flush(&stage).await;
    assert_eq!(stage.report().await["deliveries"]["failed"], 1);
    receiver.behave(|manners| manners.delay_ms = 0);
    // A flush wakes the waiting retry; it does not wait for it, so the counters are asked until they agree.
    until("retry", || async {
        flush(&stage).await;
        (stage.report().await["deliveries"]["ok"] == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn hook_faults_lose_double_turn_and_delay() {
    let (stage, receiver) = (Stage::with(slow(), "demo").await, Receiver::start().await);
    subscribe(&stage, &receiver, "contact.add").await;
    let add = async |names: &[&str]| {
        for name in names {
            stage.create(&person(name)).await;
        }
        flush(&stage).await;
    };
    stage.fault(json!({ "kind": "hook_lost", "times": 1 })).await;
    add(&["A"]).await;
    assert!(receiver.ids().is_empty());
    assert_eq!(stage.report().await["deliveries"]["lost"], 1);
    stage.fault(json!({ "kind": "hook_duplicate", "times": 1 })).await;
    add(&["B"]).await;
    assert_eq!(receiver.ids(), [2, 2]);
    // Seconds late, so that what comes meanwhile overtakes it on a machine that stalls, too.
    stage.fault(json!({ "kind": "hook_reorder", "ms": 3_000, "times": 1, "operation": "contact.add" })).await;
    add(&["C", "D"]).await;
    add(&["E"]).await;
    until("late batch", || async { (receiver.ids().len() == 5).then_some(()) }).await;
    assert_eq!(receiver.ids()[2..], [5, 4, 3], "the later batch overtook, and the batch itself was turned");
    stage.fault(json!({ "kind": "hook_delay", "ms": 3_000, "times": 1 })).await;
    add(&["F"]).await;
    assert_eq!(receiver.ids().len(), 5);
    until("late delivery", || async { (receiver.ids().last() == Some(&6)).then_some(()) }).await;
}
