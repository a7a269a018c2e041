//! The life of tokens.

use anyhow::{Result, ensure};
use futures_util::future::join_all;
use keapsync_e2e::account::Account;
use keapsync_e2e::stage::{Stage, read};
use keapsync_e2e::wait::until;
use reqwest::Method;
use serde_json::json;

pub async fn a_crowd_around_expiry_refreshes_once(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "token").await?;
    account.wait_for_quiet().await?;
    grow_old(&account).await?;
    let before = account.keap.counts().await?["refreshes"].as_u64().unwrap_or_default();
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
    let after = account.keap.counts().await?["refreshes"].as_u64().unwrap_or_default();
    ensure!(after == before + 1, "200 requests at once led to {} refreshes", after - before);

    // And when the token is about to die: the crowd that needs one waits for one refresh.
    account.keap.token_ttl(2).await?;
    grow_old(&account).await?;
    stage
        .admin(
            Method::POST,
            &format!("{}/oauth/refresh", stage.access.coordinator),
            Some(&json!({"keap_account_id": account.name})),
        )
        .await?;
    let before = account.keap.counts().await?["refreshes"].as_u64().unwrap_or_default();
    account.keap.token_ttl(86_400).await?;
    let url = account.route("token");
    let crowd = (0..200).map(|_| {
        read(stage.http.post(&url).header("x-internal-token", &stage.access.internal_token).json(&json!({})))
    });
    let mut tokens = std::collections::BTreeSet::new();
    for answer in join_all(crowd).await {
        let answer = answer?;
        ensure!(answer.status == 200, "a token request answered {}: {}", answer.status, answer.text);
        tokens.insert(answer.json()["access_token"].as_str().unwrap_or_default().to_owned());
    }
    let after = account.keap.counts().await?["refreshes"].as_u64().unwrap_or_default();
    ensure!(after == before + 1, "200 requests around expiry led to {} refreshes", after - before);
    ensure!(tokens.len() == 1, "{} different tokens were handed out", tokens.len());
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
