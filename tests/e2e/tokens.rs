//! The life of tokens.

use anyhow::{Result, ensure};
use futures_util::future::join_all;
use keapsync_e2e::account::Account;
use keapsync_e2e::stage::Stage;
use keapsync_e2e::wait::until;
use reqwest::Method;
use serde_json::json;
use std::collections::BTreeSet;

pub async fn a_crowd_around_expiry_refreshes_once(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "token").await?;
    account.wait_for_quiet().await?;
    grow_old(&account).await?;
    let before = account.refreshes().await?;
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
    account.keap.token_ttl(4).await?;
    account.refresh().await?;
    account.keap.token_ttl(86_400).await?;
    let before = account.refreshes().await?;
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
    until("the call for a person", async || {
        let status = account.status().await?;
        Ok((status["token"]["state"] == "needs_reauthorization").then_some(()))
    })
    .await?;
    let again = keapsync_e2e::account::journey(stage, &account.name, &account.name).await?;
    ensure!(again.answer.status == 200, "{}", again.answer.status);
    account.wait_for_keap(&id, "the edit that waited", |contact| contact["given_name"] == "Anna").await?;
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
