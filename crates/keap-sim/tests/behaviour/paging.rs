//! Pages: every contact once in every order, also while contacts change underneath.

use std::collections::BTreeSet;

use keapsync_keap_sim::Options;
use reqwest::Method;
use serde_json::{Value, json};

use crate::stage::{Answer, Stage, options, person};

async fn page(stage: &Stage, order: &str, size: &str, token: &str) -> Value {
    let query = [
        ("order_by", order),
        ("page_size", size),
        ("page_token", token),
        ("fields", "id,create_time,update_time,email_addresses"),
    ];
    let answer = Answer::read(stage.call(Method::GET, "/v2/contacts").query(&query)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    crate::contract::check("ListContactsResponse", &answer.json());
    answer.json()
}

fn ids(page: &Value) -> Vec<u64> {
    page["contacts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["id"].as_str().unwrap().parse().unwrap())
        .collect()
}

#[tokio::test]
async fn every_order_gives_every_contact_once_and_in_order() {
    let stage = Stage::with_contacts(1234).await;
    let key = |row: &Value, order: &str| match order {
        "id" => format!("{:>9}", row["id"].as_str().unwrap()),
        "email" => row["email_addresses"][0]["email"].as_str().unwrap_or_default().to_lowercase(),
        time => row[time].as_str().unwrap().to_owned(),
    };
    for order in ["id", "create_time", "update_time", "email"] {
        for direction in ["asc", "desc"] {
            let (mut keys, mut seen, mut token) = (Vec::new(), BTreeSet::new(), String::new());
            loop {
                let page = page(&stage, &format!("{order} {direction}"), "250", &token).await;
                keys.extend(page["contacts"].as_array().unwrap().iter().map(|row| key(row, order)));
                seen.extend(ids(&page));
                match page.get("next_page_token") {
                    Some(next) => next.as_str().unwrap().clone_into(&mut token),
                    None => break,
                }
            }
            assert_eq!((keys.len(), seen.len()), (1234, 1234), "{order} {direction}");
            if direction == "desc" {
                keys.reverse();
            }
            assert!(keys.is_sorted(), "{order} {direction}");
        }
    }
}

#[tokio::test]
async fn the_last_page_has_no_token_even_when_it_is_full() {
    let stage = Stage::with_contacts(20).await;
    let first = page(&stage, "id", "10", "").await;
    let last = page(&stage, "id", "10", first["next_page_token"].as_str().unwrap()).await;
    assert_eq!(ids(&last), (11..=20).collect::<Vec<u64>>());
    assert_eq!(last.get("next_page_token"), None);
}

#[tokio::test]
async fn page_sizes_have_keaps_bounds_and_a_default() {
    let stage = Stage::with_contacts(150).await;
    assert_eq!(ids(&stage.get("/v2/contacts").await.json()).len(), 100);
    assert_eq!(ids(&page(&stage, "id", "0", "").await).len(), 100);
    for query in ["page_size=1001", "page_size=-1", "page_size=x", "order_by=given_name", "page_token=x"] {
        assert_eq!(stage.get(&format!("/v2/contacts?{query}")).await.status, 400, "{query}");
    }
}

/// The contacts that page after page gives and those that there are, while some change between the pages.
async fn paged_while_contacts_change(options: Options) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let stage = Stage::with(Options { contacts: 60, ..options }, "demo").await;
    let (mut seen, mut token, mut rounds) = (BTreeSet::new(), String::new(), 0);
    loop {
        let page = page(&stage, "update_time asc", "10", &token).await;
        seen.extend(ids(&page));
        let Some(next) = page.get("next_page_token") else { break };
        next.as_str().unwrap().clone_into(&mut token);
        rounds += 1;
        // One that was seen moves to the end, one at the page's edge goes, a new one comes.
        if rounds <= 3 {
            let shown = ids(&page);
            stage.sim(Method::PATCH, &format!("/contacts/{}", shown[0]), &json!({ "prefix": "Dr." })).await;
            stage.sim(Method::DELETE, &format!("/contacts/{}", shown[9]), &Value::Null).await;
            stage.sim(Method::POST, "/contacts", &person("New")).await;
        }
    }
    let all: BTreeSet<u64> =
        ids(&stage.sim(Method::GET, "/contacts?limit=1000", &Value::Null).await.json()).into_iter().collect();
    (seen, all)
}

#[tokio::test]
async fn stable_tokens_skip_nothing_while_contacts_change() {
    let (seen, all) = paged_while_contacts_change(Options { stable_page_tokens: true, ..options() }).await;
    let missed: Vec<_> = all.difference(&seen).collect();
    assert!(missed.is_empty(), "skipped {missed:?}");
}

#[tokio::test]
async fn positions_skip_what_slides_over_the_border_of_a_page() {
    let (seen, all) = paged_while_contacts_change(options()).await;
    // One that moved to the end and one that was deleted leave two places on each of three pages.
    assert_eq!(all.difference(&seen).count(), 6);
}

#[tokio::test]
async fn filtered_pages_follow_on_as_well() {
    let stage = Stage::with_contacts(6000).await;
    // Few enough to be collected, and too many for that: both ways of finding a page.
    for since in ["2025-08-01T00:00:00.000Z", "2018-01-01T00:00:00.000Z"] {
        for order in ["id asc", "update_time desc"] {
            let (mut seen, mut count, mut token) = (BTreeSet::new(), 0, String::new());
            loop {
                let filter = format!("start_update_time=={since}");
                let query = [
                    ("filter", filter.as_str()),
                    ("order_by", order),
                    ("page_size", "400"),
                    ("page_token", token.as_str()),
                ];
                let page = Answer::read(stage.call(Method::GET, "/v2/contacts").query(&query)).await.json();
                count += ids(&page).len();
                seen.extend(ids(&page));
                match page.get("next_page_token") {
                    Some(next) => next.as_str().unwrap().clone_into(&mut token),
                    None => break,
                }
            }
            let full = stage.sim(Method::GET, "/contacts?limit=10000", &Value::Null).await.json();
            let expected = full["contacts"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|row| row["update_time"].as_str().unwrap() >= since)
                .count();
            assert!(expected > 400, "{expected} are too few to page");
            assert_eq!((count, seen.len()), (expected, expected), "{since} {order}");
        }
    }
}
