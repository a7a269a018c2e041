//! The live feed: who may watch, what is told, and that nothing is told twice or left out.

use crate::watcher::{Proof, Watcher, page, ticket};
use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use futures_util::stream::{StreamExt as _, TryStreamExt as _, iter};
use keapsync_domain::timestamp::Timestamp;
use keapsync_e2e::account::Account;
use keapsync_e2e::stage::{Stage, read};
use keapsync_e2e::wait::{PATIENCE, until, until_within};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long events are gathered before they are told to those who watch, in milliseconds.
const WATCHED_WINDOW_MS: u128 = 250;

/// Rows of the ring, each of at least one event.
const FLUSHES_KEPT: u64 = 512;

fn person(name: &str, email: &str) -> Value {
    json!({"given_name": name, "email_addresses": [{"field": "EMAIL1", "email": email}]})
}

fn is(event: &Value, of_type: &str) -> bool {
    event["type"] == of_type
}

/// Makes the account tell something, as another worker does.
async fn tell(account: &Account<'_>, conflict_id: &str) -> Result<()> {
    let body = json!({"conflict_id": conflict_id, "strategy": "manual"});
    let request = account.stage.http.post(account.route("tell")).json(&body);
    let answer = read(request.header("x-internal-token", &account.stage.access.internal_token)).await?;
    ensure!(answer.status == 202, "{}: {}", answer.status, answer.text);
    Ok(())
}

pub async fn only_with_a_token_or_a_ticket(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "who").await?;
    let other = Account::connect(stage, "other").await?;
    let status = async |account: &Account<'_>, proof: Proof<'_>| {
        anyhow::Ok(Watcher::try_open(account, None, proof).await?.err())
    };
    ensure!(status(&account, Proof::None).await? == Some(401), "without anything");
    ensure!(status(&account, Proof::Ticket("", None)).await? == Some(401), "an empty ticket");
    let made_up = "0".repeat(64);
    ensure!(status(&account, Proof::Ticket(&made_up, None)).await? == Some(401), "a made-up ticket");
    ensure!(stage.anonymous(Method::GET, &account.route("live")).await?.status == 401, "plain, without");
    ensure!(stage.anonymous(Method::POST, &account.route("live-ticket")).await?.status == 401, "a ticket");
    for hidden in ["live/authorized", "live/ticketed", "live/page"] {
        let answer = stage.admin(Method::GET, &account.route(hidden), None).await?;
        ensure!(answer.status == 404, "{hidden} answered {}", answer.status);
    }
    ensure!(
        stage.admin(Method::POST, &account.route("tell"), Some(&json!({}))).await?.status == 401,
        "only workers tell"
    );

    let issued = ticket(&account).await?;
    let issued = issued["ticket"].as_str().context("no ticket")?;
    ensure!(status(&other, Proof::Ticket(issued, None)).await? == Some(401), "another account's ticket");
    ensure!(status(&account, Proof::Ticket(issued, None)).await?.is_none(), "a good ticket");
    ensure!(status(&account, Proof::Ticket(issued, None)).await? == Some(401), "a ticket used twice");

    let nobody = Account { name: stage.fresh_name("nobody"), ..other };
    ensure!(status(&nobody, Proof::Admin).await? == Some(404), "an account that there is not");
    ensure!(status(&nobody, Proof::Ticket(issued, None)).await? == Some(401), "nor is it told to strangers");
    Ok(())
}

pub async fn a_ticket_dies_unused(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "late").await?;
    let issued = ticket(&account).await?;
    let expires_at = issued["expires_at"].as_str().and_then(Timestamp::parse_rfc3339).context("no end")?;
    until_within(PATIENCE + Duration::from_secs(30), "the ticket's end", async || {
        let now_ms = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
        Ok((now_ms > expires_at.0).then_some(()))
    })
    .await?;
    let proof = Proof::Ticket(issued["ticket"].as_str().context("no ticket")?, None);
    ensure!(Watcher::try_open(&account, None, proof).await?.err() == Some(401), "a ticket of a minute ago");
    Ok(())
}

pub async fn what_happens_is_told(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "told").await?;
    account.wait_for_quiet().await?;
    let newest = account.status().await?["feed"]["newest"].as_u64();
    let mut watcher = Watcher::open(&account, newest).await?;
    ensure!(watcher.greeting["type"] == "hello" && watcher.greeting["version"] == 1, "{}", watcher.greeting);
    let id = account.keap.add(&person("Zebulon", "zebulon@secret.example")).await?;
    let created = watcher.until("the new row", |event| is(event, "records_applied")).await?;
    ensure!(
        created["entity"] == "contact"
            && created["change"] == "created"
            && created["direction"] == "keap_to_supabase"
            && created["records"][0]["keap_id"] == id.as_str(),
        "{created}"
    );
    ensure!(watcher.seen.iter().any(|text| text.contains("delivery_received")), "{:?}", watcher.seen);
    account.wait_for_quiet().await?;
    let edit = "update sync_contacts set first_name = 'Zacharias' where account_id = $1 and keap_id = $2";
    account.mirror.execute(edit, &[&id]).await?;
    let carried = watcher
        .until("the edit in Keap", |event| {
            is(event, "records_applied") && event["direction"] == "supabase_to_keap"
        })
        .await?;
    ensure!(
        carried["change"] == "updated"
            && carried["count"] == 1
            && carried["records"][0]["keap_id"] == id.as_str()
            && carried["records"][0]["fields"] == json!(["first_name"]),
        "{carried}"
    );
    account.keap.edit(&id, &json!({"family_name": "Quackenbush"})).await?;
    let changed = watcher
        .until("the change in Keap", |event| {
            is(event, "records_applied")
                && event["change"] == "updated"
                && event["direction"] == "keap_to_supabase"
        })
        .await?;
    let fields = changed["records"][0]["fields"].as_array().cloned().unwrap_or_default();
    ensure!(fields.contains(&json!("last_name")) && changed["records"][0]["id"].is_string(), "{changed}");
    account.keap.delete(&id).await?;
    watcher.until("the delete", |event| event["change"] == "deleted").await?;
    for value in ["Zebulon", "Zacharias", "Quackenbush", "secret.example"] {
        ensure!(
            !watcher.seen.iter().any(|text| text.contains(value)),
            "{value} was told: {:#?}",
            watcher.seen
        );
    }
    Ok(())
}

pub async fn conflicts_runs_and_the_connection_are_told(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "story").await?;
    account.change_settings(&json!({"policies": {"default": "manual"}})).await?;
    let id = account.keap.add(&person("Ann", "one@x.example")).await?;
    account.wait_for_row(&id, "the row", |row| row["first_name"] == "Ann").await?;
    account.wait_for_quiet().await?;
    let mut watcher = Watcher::open(&account, None).await?;

    account.keap.faults(&json!([{"kind": "hook_lost"}])).await?;
    account.keap.edit(&id, &json!({"given_name": "Theirs"})).await?;
    let edit = "update sync_contacts set first_name = 'Ours' where account_id = $1 and keap_id = $2";
    account.mirror.execute(edit, &[&id]).await?;
    let opened = watcher.until("the conflict", |event| is(event, "conflict_opened")).await?;
    ensure!(
        opened["entity"] == "contact"
            && opened["record"]["fields"] == json!(["first_name"])
            && opened["record"]["keap_id"] == id.as_str(),
        "{opened}"
    );
    account.keap.clear_faults().await?;
    let list = format!("{}/conflicts?account={}", stage.access.sync, account.name);
    let conflict_id = until("the conflict in the list", async || {
        let listed = stage.admin(Method::GET, &list, None).await?.json();
        Ok(listed["conflicts"][0]["id"].as_str().map(str::to_owned))
    })
    .await?;
    let resolve = format!("{}/conflicts/{conflict_id}/resolve?account={}", stage.access.sync, account.name);
    let answer = stage.admin(Method::POST, &resolve, Some(&json!({"strategy": "keap_wins"}))).await?;
    ensure!(answer.status == 200, "{}", answer.text);
    let resolved = watcher.until("its end", |event| is(event, "conflict_resolved")).await?;
    ensure!(
        resolved["conflict_id"] == conflict_id.as_str() && resolved["strategy"] == "keap_wins",
        "{resolved}"
    );

    let run_id = account.start("contacts").await?;
    let of_run = |event: &Value, of_type: &str| is(event, of_type) && event["run_id"] == run_id.as_str();
    watcher.until("the run's start", |event| of_run(event, "run_started")).await?;
    let ended = watcher.until("the run's end", |event| of_run(event, "run_ended")).await?;
    ensure!(ended["state"] == "completed" && ended["counts"]["read"] == 1, "{ended}");

    let revoke = format!("{}/oauth/revoke", stage.access.coordinator);
    let answer = stage.admin(Method::POST, &revoke, Some(&json!({"keap_account_id": account.name}))).await?;
    ensure!(answer.status == 200, "{}", answer.text);
    let changed = watcher.until("the revocation", |event| is(event, "connection_changed")).await?;
    ensure!(changed["state"] == "revoked", "{changed}");
    Ok(())
}

pub async fn a_client_that_comes_back_misses_nothing(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "back").await?;
    account.wait_for_quiet().await?;
    let mut always = Watcher::open(&account, None).await?;
    let mut last = always.last;
    for round in 0..5 {
        let mut watcher = Watcher::open(&account, Some(last)).await?;
        ensure!(watcher.greeting["type"] == "hello", "{}", watcher.greeting);
        let here = format!("here-{round}");
        tell(&account, &here).await?;
        watcher.until("what is told while it listens", |event| event["conflict_id"] == here.as_str()).await?;
        last = watcher.last;
        watcher.leave().await?;
        tell(&account, &format!("away-{round}")).await?;
    }
    let mut watcher = Watcher::open(&account, Some(last)).await?;
    watcher.until("what was told meanwhile", |event| event["conflict_id"] == "away-4").await?;
    always.until("the same", |event| event["conflict_id"] == "away-4").await?;
    let kept = page(&account, &format!("?since={}", always.last - 2)).await?;
    ensure!(kept["events"].as_array().is_some_and(|events| events.len() >= 2), "{kept}");
    ensure!(kept["events"][1]["conflict_id"] == "away-4" && kept["reset"] == false, "{kept}");
    let first = page(&account, "?limit=1").await?;
    ensure!(first["events"][0]["sequence"] == 1 && first["events"][1].is_null(), "{first}");
    let odd = stage.admin(Method::GET, &account.route("live?since=x"), None).await?;
    ensure!(odd.status == 422, "{}: {}", odd.status, odd.text);
    Ok(())
}

pub async fn one_that_was_away_too_long_begins_anew(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "away").await?;
    account.wait_for_quiet().await?;
    iter(0..FLUSHES_KEPT + 10)
        .map(|number| {
            let (account, id) = (&account, format!("n{number}"));
            async move { tell(account, &id).await }
        })
        .buffer_unordered(8)
        .try_collect::<Vec<()>>()
        .await?;
    let mut watcher = Watcher::open(&account, Some(1)).await?;
    ensure!(watcher.greeting["type"] == "reset", "{}", watcher.greeting);
    let (first_kept, newest) = (watcher.greeting["first_kept"].as_u64(), watcher.greeting["newest"].as_u64());
    ensure!(first_kept > Some(10) && newest >= Some(FLUSHES_KEPT + 10), "{}", watcher.greeting);
    while Some(watcher.last) < newest {
        watcher.next().await?;
    }
    ensure!(watcher.seen.len() as u64 >= FLUSHES_KEPT, "{} events are kept", watcher.seen.len());
    let future = Watcher::open(&account, Some(1_000_000)).await?;
    ensure!(future.greeting["type"] == "reset", "{}", future.greeting);
    ensure!(page(&account, "?since=1&limit=1").await?["reset"] == true, "the page says so, too");
    Ok(())
}

pub async fn a_hundred_watch_and_no_more(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "crowd").await?;
    account.wait_for_quiet().await?;
    let since = page(&account, "").await?["newest"].as_u64().context("no newest")?;
    let mut crowd = try_join_all((0..100).map(|_| Watcher::open(&account, Some(since)))).await?;
    let one_more = Watcher::try_open(&account, None, Proof::Admin).await?.err();
    ensure!(one_more == Some(429), "{one_more:?}");
    for number in 0..20 {
        tell(&account, &format!("n{number}")).await?;
    }
    for watcher in &mut crowd {
        watcher.until("the last event", |event| event["conflict_id"] == "n19").await?;
    }
    let told = crowd[0].seen.clone();
    ensure!(crowd.iter().all(|watcher| watcher.seen == told), "not all were told the same");
    crowd.pop().context("nobody")?.leave().await?;
    until("a free place", async || Ok(Watcher::try_open(&account, None, Proof::Admin).await?.ok().map(drop)))
        .await
}

pub async fn clients_say_little(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "talk").await?;
    account.wait_for_quiet().await?;
    let mut watcher = Watcher::open(&account, None).await?;
    watcher.say("ping").await?;
    until_pong(&mut watcher).await?;
    // Both at once: what comes later than some seconds after the last is not too often.
    watcher.say(r#"{"since":0}"#).await?;
    watcher.say(r#"{"since":0}"#).await?;
    let greeting: Value = serde_json::from_str(&until_other(&mut watcher).await?)?;
    ensure!(greeting["type"] == "hello", "{greeting}");
    watcher.last = 0;
    watcher.next().await?;
    ensure!(watcher.closed().await? == 1008, "asking too often");
    for odd in ["hello", r#"{"since":-1}"#, "[]", &"x".repeat(100_000)] {
        let mut watcher = Watcher::open(&account, None).await?;
        watcher.say(odd).await?;
        ensure!(watcher.closed().await? == 1008, "{}", odd.chars().take(20).collect::<String>());
    }
    let mut watcher = Watcher::open(&account, None).await?;
    watcher.say(vec![1_u8, 2, 3]).await?;
    ensure!(watcher.closed().await? == 1008, "bytes");
    Ok(())
}

/// Events may come between the question and the answer.
async fn until_pong(watcher: &mut Watcher) -> Result<()> {
    while watcher.text().await? != "pong" {}
    Ok(())
}

/// The next message that is no event.
async fn until_other(watcher: &mut Watcher) -> Result<String> {
    loop {
        let text = watcher.text().await?;
        if !text.contains("\"sequence\"") {
            return Ok(text);
        }
    }
}

pub async fn a_flood_is_told_as_a_few(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "flood").await?;
    account.wait_for_quiet().await?;
    let mut watcher = Watcher::open(&account, None).await?;
    let began = Instant::now();
    iter(0..1_000)
        .map(|_| {
            let account = &account;
            async move {
                let answer = account.deliver("task.edit", &["1", "2"]).await?;
                ensure!(answer.status == 200, "{}: {}", answer.status, answer.text);
                Ok(())
            }
        })
        .buffer_unordered(32)
        .try_collect::<Vec<()>>()
        .await?;
    let (mut deliveries, mut objects, mut events) = (0, 0, 0);
    while deliveries < 1_000 {
        let event = watcher.until("deliveries", |event| is(event, "delivery_received")).await?;
        ensure!(event["event_key"] == "task.edit" && event["synced"] == false, "{event}");
        deliveries += event["deliveries"].as_u64().context("no number")?;
        objects += event["objects"].as_u64().context("no number")?;
        events += 1;
    }
    ensure!(
        (deliveries, objects) == (1_000, 2_000),
        "{deliveries} deliveries of {objects} objects were told"
    );
    // One for each window in which deliveries came, and a few besides: the longer they take, the more windows there are.
    let allowed = began.elapsed().as_millis() / WATCHED_WINDOW_MS + 30;
    ensure!(events <= allowed, "{events} events for 1,000 deliveries, where {allowed} are enough");
    Ok(())
}

pub async fn a_restart_leaves_neither_gap_nor_double(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "restart").await?;
    account.wait_for_quiet().await?;
    let mut watcher = Watcher::open(&account, None).await?;
    tell(&account, "before").await?;
    watcher.until("the event before", |event| event["conflict_id"] == "before").await?;
    stage.system.lock().await.restart_worker("coordinator").await?;
    until("the account after the restart", async || tell(&account, "between").await.map(Some)).await?;
    let mut back = Watcher::open(&account, Some(watcher.last)).await?;
    ensure!(back.greeting["type"] == "hello", "{}", back.greeting);
    back.until("what was told between", |event| event["conflict_id"] == "between").await?;
    tell(&account, "after").await?;
    back.until("what is told after", |event| event["conflict_id"] == "after").await?;
    let told: Vec<&String> = watcher.seen.iter().chain(&back.seen).collect();
    let first = back.last - told.len() as u64;
    let kept = page(&account, &format!("?since={first}")).await?;
    let kept: Vec<Value> = kept["events"].as_array().cloned().unwrap_or_default();
    for (sent, kept) in told.iter().zip(&kept) {
        ensure!(serde_json::from_str::<Value>(sent)? == *kept, "{sent} was told, {kept} is kept");
    }
    ensure!(kept.len() >= told.len(), "{} told, {} kept", told.len(), kept.len());
    Ok(())
}
