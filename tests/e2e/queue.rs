//! The queue of hook events: fair, coalesced, answered at once; and what was given up.

use anyhow::{Context as _, Result, ensure};
use keapsync_e2e::account::Account;
use keapsync_e2e::stage::Stage;
use keapsync_e2e::wait::{until, within_a_day};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Objects of one delivery, at most.
const BATCH: usize = 1_000;

/// How long the largest delivery may take: Keap waits 30 s. Far above what is normal, because test machines are busy.
const ANSWER_LIMIT: Duration = Duration::from_secs(25);

fn numbers(from: usize, count: usize) -> Vec<String> {
    (from..from + count).map(|number| number.to_string()).collect()
}

async fn deliver(account: &Account<'_>, event_key: &str, ids: &[String]) -> Result<Duration> {
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let begun = Instant::now();
    let answer = account.deliver(event_key, &ids).await?;
    ensure!(answer.status == 200, "a delivery was answered with {}: {}", answer.status, answer.text);
    Ok(begun.elapsed())
}

async fn post(account: &Account<'_>, what: &str, body: &Value) -> Result<Value> {
    let answer = account.stage.admin(Method::POST, &account.route(what), Some(body)).await?;
    ensure!(answer.status == 200, "{what} answered {}: {}", answer.status, answer.text);
    Ok(answer.json())
}

pub async fn the_largest_delivery_is_answered_at_once_and_coalesced(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "batch").await?;
    post(&account, "pause", &json!({})).await?;
    for _ in 0..3 {
        let taken = deliver(&account, "contact.edit", &numbers(1, BATCH)).await?;
        ensure!(taken < ANSWER_LIMIT, "{BATCH} objects took {taken:?}");
    }
    deliver(&account, "contact.delete", &numbers(BATCH, 2)).await?;
    let status = account.status().await?;
    ensure!(status["events"]["open"] == BATCH + 1, "{}", status["events"]);
    Ok(())
}

pub async fn an_order_is_not_held_up_by_a_burst_of_contacts(stage: &Stage) -> Result<()> {
    let account = Account::connect_filled(stage, "fair", 4_000).await?;
    let contacts = account.keap.all("contacts").await?;
    let contacts: Vec<String> =
        contacts.iter().filter_map(|contact| contact["id"].as_str()).map(str::to_owned).collect();
    let orders = account.keap.all("orders").await?;
    let order =
        orders.first().and_then(|order| order["id"].as_str()).context("there is no order")?.to_owned();
    // A burst that takes Keap ten seconds and more.
    account.keap.faults(&json!([{"kind": "latency", "operation": "list_contacts", "ms": 500}])).await?;
    for batch in contacts.chunks(BATCH) {
        deliver(&account, "contact.edit", batch).await?;
    }
    deliver(&account, "order.edit", std::slice::from_ref(&order)).await?;
    until("the order's row", async || {
        let row = account
            .mirror
            .one("select count(*) as n from sync_orders where account_id = $1 and keap_id = $2", &[&order])
            .await?;
        Ok((row["n"] == 1).then_some(()))
    })
    .await?;
    account.keap.clear_faults().await?;
    account.wait_for_quiet().await?;
    ensure!(account.mirror.count().await? == i64::try_from(contacts.len())?, "contacts are missing");
    // The audit log keeps the order in which rows were made, however late this test looks.
    let behind = "select count(*) as n from sync_audit_log
        where account_id = $1 and entity_type = 'contact' and operation = 'create' and id > (
            select max(made.id) from sync_audit_log made join sync_orders orders on orders.id = made.entity_id
            where orders.account_id = $1 and orders.keap_id = $2 and made.operation = 'create'
        )";
    let behind = account.mirror.one(behind, &[&order]).await?["n"].as_u64().context("no number")?;
    ensure!(behind >= 1_000, "the order came when only {behind} of {} contacts were left", contacts.len());
    Ok(())
}

pub async fn dead_letters_are_grouped_replayed_and_discarded(stage: &Stage) -> Result<()> {
    within_a_day(async || dead_letters_are_settled(stage).await).await
}

async fn dead_letters_are_settled(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "letters").await?;
    account.wait_for_quiet().await?;
    account
        .keap
        .faults(&json!([{"kind": "status", "operation": "get_contact", "status": 400, "times": 5}]))
        .await?;
    deliver(&account, "contact.edit", &numbers(5_000_001, 5)).await?;
    let list = async || -> Result<Value> {
        let answer = stage.admin(Method::GET, &account.route("dead-letters"), None).await?;
        ensure!(answer.status == 200, "{}", answer.text);
        Ok(answer.json())
    };
    let listed = until("five dead letters", async || {
        let listed = list().await?;
        Ok((listed["groups"][0]["count"] == 5).then_some(listed))
    })
    .await?;
    let group = &listed["groups"][0];
    ensure!(group["group"] == "inbound:invalid" && group["cause"] == "invalid", "{group}");
    ensure!(group["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{group}");
    ensure!(group["oldest_at"].is_string() && group["newest_at"].is_string(), "{group}");
    ensure!(group["example"]["message"].as_str().is_some_and(|message| message.contains("400")), "{group}");
    let hooks = account.status().await?;
    let given_up =
        hooks["hooks"].as_array().into_iter().flatten().find(|hook| hook["event_key"] == "contact.edit");
    ensure!(given_up.is_some_and(|hook| hook["today"]["given_up"] == 5), "{}", hooks["hooks"]);

    let one = json!({"ids": [listed["dead_letters"][0]["id"]]});
    ensure!(post(&account, "dead-letters/replay", &one).await?["replayed"] == 1);
    let other = json!({"ids": [listed["dead_letters"][1]["id"]]});
    ensure!(post(&account, "dead-letters/discard", &other).await?["discarded"] == 1);
    until("three that are left", async || Ok((list().await?["groups"][0]["count"] == 3).then_some(())))
        .await?;
    let edits = json!({"group": "outbound:invalid"});
    ensure!(
        post(&account, "dead-letters/replay", &edits).await?["replayed"] == 0,
        "another group was replayed"
    );
    ensure!(
        post(&account, "dead-letters/replay", &json!({"group": "inbound:invalid"})).await?["replayed"] == 3
    );
    until("no dead letter", async || {
        Ok(list().await?["groups"].as_array().is_some_and(Vec::is_empty).then_some(()))
    })
    .await?;
    account.wait_for_quiet().await?;
    for odd in [json!({}), json!({"all": true, "cause": "invalid"}), json!({"group": "inbound"})] {
        let answer = stage.admin(Method::POST, &account.route("dead-letters/discard"), Some(&odd)).await?;
        ensure!(answer.status == 400, "{odd} was answered with {}", answer.status);
    }
    Ok(())
}

pub async fn an_edit_given_up_is_kept_when_dead_letters_are_discarded(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "keep").await?;
    account.keap.faults(&json!([{"kind": "status", "operation": "create_contact", "status": 400}])).await?;
    let insert =
        "insert into sync_contacts (account_id, email, first_name) values ($1, 'a@x.example', 'Refused')";
    account.mirror.execute(insert, &[]).await?;
    let listed = until("the refused row", async || {
        let listed = stage.admin(Method::GET, &account.route("dead-letters"), None).await?.json();
        Ok((listed["groups"][0]["group"] == "outbound:invalid").then_some(listed))
    })
    .await?;
    ensure!(listed["groups"][0]["fix"].as_str().is_some_and(|fix| fix.contains("audit")), "{listed}");
    let answer = post(&account, "dead-letters/discard", &json!({"all": true})).await?;
    ensure!(answer["discarded"] == 0 && answer["edits_kept"] == 1, "{answer}");
    account.keap.clear_faults().await?;
    ensure!(post(&account, "dead-letters/replay", &json!({"all": true})).await?["replayed"] == 1);
    until("the row in Keap", async || Ok((account.keap.counts().await?["contacts"] == 1).then_some(()))).await
}
