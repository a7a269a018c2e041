//! Health, access and the way through OAuth.

use anyhow::{Result, ensure};
use keapsync_e2e::account::{Account, journey};
use keapsync_e2e::keap::Tenant;
use keapsync_e2e::stage::{Stage, read};
use keapsync_e2e::wait::until;
use reqwest::Method;
use serde_json::json;

pub async fn health_tells_of_every_binding(stage: &Stage) -> Result<()> {
    for (origin, bindings) in [
        (&stage.access.coordinator, ["HYPERDRIVE", "SYNC_WORKER"]),
        (&stage.access.sync, ["HYPERDRIVE", "COORDINATOR"]),
        (&stage.access.webhook, ["COORDINATOR", "SYNC_CACHE"]),
    ] {
        // What a worker is bound to has a limited time to answer it, which a busy machine may exceed once.
        until("a healthy worker", async || {
            let health = stage.anonymous(Method::GET, &format!("{origin}/health")).await?;
            ensure!(health.status == 200, "{origin}: {}", health.text);
            let health = health.json();
            ensure!(health["status"] == "healthy" && health["timestamp"].is_string(), "{health}");
            for binding in bindings {
                ensure!(health["services"][binding] == true, "{origin} lacks {binding}: {health}");
            }
            Ok(Some(()))
        })
        .await?;
    }
    until("the sync worker's database and cache", async || {
        let sync = stage.anonymous(Method::GET, &format!("{}/health", stage.access.sync)).await?.json();
        ensure!(sync["hyperdrive"] == "connected" && sync["kv"] == "accessible", "{sync}");
        Ok(Some(()))
    })
    .await
}

pub async fn a_person_connects_an_account(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "connect").await?;
    let url = format!("{}/oauth/status?keap_account_id={}", stage.access.coordinator, account.name);
    let status = stage.admin(Method::GET, &url, None).await?;
    ensure!(status.status == 200, "{}", status.text);
    ensure!(status.json()["state"] == "connected", "{}", status.text);
    let listed =
        stage.admin(Method::GET, &format!("{}/accounts", stage.access.coordinator), None).await?.json();
    let names = listed["accounts"].as_array().cloned().unwrap_or_default();
    ensure!(names.iter().any(|entry| entry["account_id"] == account.name.as_str()), "{listed}");
    let hooks = account.keap.counts().await?["hooks"].clone();
    for hook in hooks.as_array().into_iter().flatten() {
        ensure!(hook["hookUrl"] == account.hook_url().as_str(), "a hook leads elsewhere: {hook}");
    }
    Ok(())
}

pub async fn a_callback_counts_once_and_only_for_its_browser(stage: &Stage) -> Result<()> {
    let name = stage.fresh_name("callback");
    let journey = journey(stage, &name, &name).await?;
    ensure!(journey.answer.status == 200, "{}", journey.answer.status);
    let again = read(stage.http.get(&journey.callback).header("cookie", &journey.cookie)).await?;
    ensure!(again.status.is_client_error(), "a state was taken twice: {}", again.status);

    // Another person's browser has no cookie of ours, and a state of their own making has no signature of ours.
    let url = format!("{}/oauth/initiate", stage.access.coordinator);
    let begun = stage.admin(Method::POST, &url, Some(&json!({"keap_account_id": name}))).await?.json();
    let opened = stage.anonymous(Method::GET, begun["connect_url"].as_str().unwrap_or_default()).await?;
    let location = opened.headers["location"].to_str()?.to_owned();
    let approved = stage.anonymous(Method::GET, &format!("{location}&auto=1&tenant={name}")).await?;
    let callback = approved.headers["location"].to_str()?.to_owned();
    let stranger = stage.anonymous(Method::GET, &callback).await?;
    ensure!(
        stranger.status.is_client_error(),
        "a browser without the cookie was let in: {}",
        stranger.status
    );
    let forged = format!("{}/oauth/callback?code=x&state=forged", stage.access.coordinator);
    let forged = read(stage.http.get(forged).header("cookie", &journey.cookie)).await?;
    ensure!(forged.status.is_client_error(), "a forged state was let in: {}", forged.status);
    let reopened = stage.anonymous(Method::GET, begun["connect_url"].as_str().unwrap_or_default()).await?;
    ensure!(reopened.status.is_client_error(), "a ticket was taken twice: {}", reopened.status);
    Ok(())
}

pub async fn a_credential_of_another_application_changes_nothing(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "own").await?;
    account.wait_for_quiet().await?;
    let name = stage.fresh_name("theirs");
    let theirs = Tenant::new(stage.http.clone(), &stage.access.keap, &name);
    theirs.seed(2).await?;
    let url = format!("{}/oauth/service-key", stage.access.coordinator);
    let key_of_theirs = async || -> Result<()> {
        let request = json!({"keap_account_id": account.name, "service_key": theirs.service_key().await?});
        let answer = stage.admin(Method::POST, &url, Some(&request)).await?;
        ensure!(answer.status.is_client_error(), "a stranger's key was taken: {}", answer.status);
        ensure!(answer.text.contains("another account name"), "{}", answer.text);
        Ok(())
    };
    let grant_of_theirs = async || -> Result<()> {
        let answer = journey(stage, &account.name, &name).await?.answer;
        ensure!(answer.status.is_client_error(), "a stranger's grant was taken: {}", answer.status);
        Ok(())
    };
    let token = account.status().await?["token"].clone();
    key_of_theirs().await?;
    grant_of_theirs().await?;
    let after = account.status().await?["token"].clone();
    ensure!(after["state"] == "connected" && after["generation"] == token["generation"], "{token} {after}");
    // By key after OAuth, and back.
    account.use_service_key().await?;
    key_of_theirs().await?;
    grant_of_theirs().await?;
    ensure!(account.status().await?["token"]["kind"] == "service_key");
    let back = journey(stage, &account.name, &account.name).await?;
    ensure!(back.answer.status == 200, "{}", back.answer.status);
    // A revoke forgets the credential, not whose records these are.
    let revoke = json!({"keap_account_id": account.name});
    let url = format!("{}/oauth/revoke", stage.access.coordinator);
    let revoked = stage.admin(Method::POST, &url, Some(&revoke)).await?;
    ensure!(revoked.status == 200, "{}", revoked.text);
    key_of_theirs().await?;
    grant_of_theirs().await?;
    ensure!(account.mirror.count().await? == 0, "a stranger's contacts were read");
    Ok(())
}

pub async fn admin_routes_need_the_token(stage: &Stage) -> Result<()> {
    let access = &stage.access;
    for (method, url) in [
        (Method::POST, format!("{}/oauth/initiate", access.coordinator)),
        (Method::GET, format!("{}/oauth/status?keap_account_id=demo", access.coordinator)),
        (Method::GET, format!("{}/accounts", access.coordinator)),
        (Method::GET, format!("{}/coordinator/demo/status", access.coordinator)),
        (Method::GET, format!("{}/coordinator/demo/dead-letters", access.coordinator)),
        (Method::POST, format!("{}/coordinator/demo/token", access.coordinator)),
        (Method::GET, format!("{}/metrics", access.coordinator)),
        (Method::POST, format!("{}/sync/full", access.sync)),
        (Method::GET, format!("{}/sync/status", access.sync)),
        (Method::POST, format!("{}/units", access.sync)),
    ] {
        let answer = stage.anonymous(method.clone(), &url).await?;
        ensure!(answer.status == 401, "{method} {url} answered {} without a token", answer.status);
        let wrong = read(stage.http.request(method.clone(), &url).bearer_auth("wrong")).await?;
        ensure!(wrong.status == 401, "{method} {url} answered {} to a wrong token", wrong.status);
        ensure!(wrong.json()["error"]["code"].is_string(), "{}", wrong.text);
    }
    Ok(())
}
