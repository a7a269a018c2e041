//! The life of tokens.

use anyhow::{Result, ensure};
use futures_util::future::join_all;
use keapsync_e2e::account::{Account, journey};
use keapsync_e2e::stage::Stage;
use keapsync_e2e::wait::until;
use keapsync_xtask::worker_build::Worker;
use reqwest::Method;
use serde_json::json;
use std::collections::BTreeSet;

/// How long Keap takes over the refresh that a crowd asks for, in milliseconds: until the whole crowd has asked.
const CROWD_GATHERS_MS: u64 = 5_000;

pub async fn a_crowd_around_expiry_refreshes_once(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "token").await?;
    account.wait_for_quiet().await?;
    grow_old(&account).await?;
    let before = account.refreshes().await?;
    // Keap takes its time over the first refresh, so that the last of the crowd, too, comes while that is under way.
    let slow = json!([{"kind": "latency", "operation": "token", "ms": CROWD_GATHERS_MS, "times": 1}]);
    account.keap.faults(&slow).await?;
    let answers = {
        let refresh = json!({"keap_account_id": account.name});
        let url = format!("{}/oauth/refresh", stage.access.coordinator);
        let crowd = (0..200).map(|_| stage.admin(Method::POST, &url, Some(&refresh)));
        join_all(crowd).await
    };
    for answer in answers {
        let answer = answer?;
        ensure!(answer.status == 200, "a refresh answered {}: {}", answer.status, answer.text);
    }
    let refreshes = account.refreshes().await? - before;
    ensure!(refreshes == 1, "200 requests at once led to {refreshes} refreshes");

    // And when the token grows old while others ask for one: the crowd waits for one refresh.
    let before = let_grow_old(&account).await?;
    let mut tokens = BTreeSet::new();
    let mut asked = 0;
    until("a token that was replaced", async || {
        let crowd = join_all((0..50).map(|_| account.token())).await;
        for token in crowd {
            tokens.insert(token?);
            asked += 1;
        }
        Ok((tokens.len() > 1 && asked >= 200).then_some(()))
    })
    .await?;
    let refreshes = account.refreshes().await? - before;
    ensure!(refreshes == 1, "{asked} requests around expiry led to {refreshes} refreshes");
    ensure!(tokens.len() == 2, "{} different tokens were handed out", tokens.len());
    Ok(())
}

pub async fn a_revoked_account_says_so_and_keeps_everything(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "revoked").await?;
    let made = json!({"given_name": "Ann", "email_addresses": [{"field": "EMAIL1", "email": "a@x.example"}]});
    let id = account.keap.add(&made).await?;
    account.wait_for_row(&id, "the row", |row| row["first_name"] == "Ann").await?;
    account.wait_for_quiet().await?;
    account.keap.revoke().await?;
    let edit = "update sync_contacts set first_name = 'Anna' where account_id = $1 and keap_id = $2";
    account.mirror.execute(edit, &[&id]).await?;
    calls_for_a_person(&account, "withdrawn").await?;
    let again = journey(stage, &account.name, &account.name).await?;
    ensure!(again.answer.status == 200, "{}", again.answer.status);
    account.wait_for_keap(&id, "the edit that waited", |contact| contact["given_name"] == "Anna").await?;
    Ok(())
}

/// How long Keap's token endpoint holds back an answer that never comes, in milliseconds: longer than the test waits for it.
const HOLD_MS: u64 = 60_000;

/// How long the token lives that is to be renewed soon, in seconds.
const SHORT_LIFE_S: u64 = 12;

/// Waits until the account's status says that it must be connected again, and why.
async fn calls_for_a_person(account: &Account<'_>, because: &str) -> Result<()> {
    until("the call for a person", async || {
        let token = account.status().await?["token"].clone();
        ensure!(token["state"] == "needs_reauthorization" && token["because"] == because, "{token}");
        Ok(Some(()))
    })
    .await
}

/// Gives the account a token that is due by itself before long; the one after it lives as long as Keap's. Tells how often Keap had
/// replaced the account's token by then.
async fn let_grow_old(account: &Account<'_>) -> Result<u64> {
    account.keap.token_ttl(SHORT_LIFE_S).await?;
    let answer = account.refresh().await?;
    ensure!(answer.status == 200, "a refresh answered {}: {}", answer.status, answer.text);
    let refreshes = account.refreshes().await?;
    account.keap.token_ttl(86_400).await?;
    Ok(refreshes)
}

/// Keap's token endpoint is asked by two accounts at once and holds its answers back; meanwhile the coordinator is killed.
/// Whose token was not used up is connected afterwards; whose was says why it is not, and nothing of it is lost. A third,
/// which Keap had refused before, still says that access was withdrawn.
pub async fn the_coordinator_dies_while_it_refreshes(stage: &Stage) -> Result<()> {
    let unheard = Account::connect(stage, "unheard").await?;
    let lost = Account::connect(stage, "lost-token").await?;
    let refused = Account::connect(stage, "refused").await?;
    let made = json!({"given_name": "Ann", "email_addresses": [{"field": "EMAIL1", "email": "a@x.example"}]});
    let id = lost.keap.add(&made).await?;
    lost.wait_for_row(&id, "the row", |row| row["first_name"] == "Ann").await?;
    for account in [&unheard, &lost, &refused] {
        account.wait_for_quiet().await?;
    }
    // The refusal has come before anything is killed: a refresh that dies on its way would rightly be told as an answer lost.
    let_grow_old(&refused).await?;
    refused.keap.revoke().await?;
    calls_for_a_person(&refused, "withdrawn").await?;
    let before = [json!({"kind": "timeout_before", "operation": "token", "ms": HOLD_MS, "times": 1})];
    let after = [json!({"kind": "token_refresh_lost", "ms": HOLD_MS, "times": 1})];
    for (account, fault) in [(&unheard, &before), (&lost, &after)] {
        let_grow_old(account).await?;
        account.keap.faults(&json!(fault)).await?;
    }
    let generation = unheard.status().await?["token"]["generation"].as_u64();
    for account in [&unheard, &lost] {
        until("a refresh that waits for its answer", async || {
            Ok((account.keap.faults_happened().await? == 1).then_some(()))
        })
        .await?;
    }
    stage.system.lock().await.crash_worker(Worker::Coordinator).await?;
    until("a refresh in place of the one that was never heard", async || {
        let token = unheard.status().await?["token"].clone();
        Ok((token["state"] == "connected" && token["generation"].as_u64() > generation).then_some(()))
    })
    .await?;
    for (account, because) in [(&lost, "answer_lost"), (&refused, "withdrawn")] {
        calls_for_a_person(account, because).await?;
        let listed = format!("{}/accounts", stage.access.coordinator);
        until("the registry's word for it", async || {
            let listed = stage.admin(Method::GET, &listed, None).await?.json();
            let all = listed["accounts"].as_array().cloned().unwrap_or_default();
            let entry = all.iter().find(|entry| entry["account_id"] == account.name.as_str());
            Ok(entry.filter(|entry| entry["state"] == "needs_reauthorization").map(drop))
        })
        .await?;
    }
    // What the status says to do is what helps; what was edited meanwhile was kept.
    let edit = "update sync_contacts set first_name = 'Anna' where account_id = $1 and keap_id = $2";
    lost.mirror.execute(edit, &[&id]).await?;
    let way = lost.status().await?["token"]["connect"].clone();
    ensure!(way["url"] == format!("{}/oauth/initiate", stage.access.coordinator), "{way}");
    let again = journey(stage, &lost.name, &lost.name).await?;
    ensure!(again.answer.status == 200, "{}", again.answer.status);
    lost.wait_for_keap(&id, "the edit that waited", |contact| contact["given_name"] == "Anna").await?;
    Ok(())
}

/// A service key is a credential like another, until Keap refuses it.
pub async fn a_service_key_that_keap_withdraws_calls_for_a_person(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "key").await?;
    account.wait_for_quiet().await?;
    account.use_service_key().await?;
    let status = account.status().await?;
    ensure!(status["token"]["kind"] == "service_key", "{status}");
    account.wait_for_quiet().await?;
    account.keap.revoke().await?;
    let made = json!({"given_name": "Ann", "email_addresses": [{"field": "EMAIL1", "email": "k@x.example"}]});
    let id = account.keap.add(&made).await?;
    calls_for_a_person(&account, "key_refused").await?;
    let again = journey(stage, &account.name, &account.name).await?;
    ensure!(again.answer.status == 200, "{}", again.answer.status);
    account.wait_for_row(&id, "the contact that waited", |row| row["first_name"] == "Ann").await?;
    Ok(())
}

/// Waits until the token is old enough that a refresh on request is not taken for a part of the last one.
async fn grow_old(account: &Account<'_>) -> Result<()> {
    let seen = account.status().await?["token"]["generation"].clone();
    let started = tokio::time::Instant::now();
    until("a token of some age", async || {
        ensure!(account.status().await?["token"]["generation"] == seen, "the token was replaced meanwhile");
        Ok((started.elapsed() > std::time::Duration::from_secs(6)).then_some(()))
    })
    .await
}
