//! Pause and resume: everything is taken in, nothing is done, and nothing is lost.

use anyhow::{Context as _, Result, ensure};
use keapsync_e2e::account::Account;
use keapsync_e2e::stage::{Answer, Stage};
use keapsync_e2e::wait::until;
use reqwest::Method;
use serde_json::{Value, json};

fn person(name: &str) -> Value {
    json!({"given_name": name, "email_addresses": [{"field": "EMAIL1", "email": "p@x.example"}]})
}

async fn ask(account: &Account<'_>, what: &str, body: Option<&Value>) -> Result<Answer> {
    let answer = account.stage.admin(Method::POST, &account.route(what), body).await?;
    ensure!(answer.status == 200, "{what} answered {}: {}", answer.status, answer.text);
    Ok(answer)
}

/// Calls that read or write records.
async fn record_calls(account: &Account<'_>) -> Result<u64> {
    let counts = account.keap.counts().await?;
    let calls = counts["calls"]["by_operation"].as_object().context("no calls are counted")?;
    let of_records = calls.iter().filter(|(operation, _)| {
        ["contact", "order", "tag", "subscription"].iter().any(|kind| operation.contains(kind))
    });
    Ok(of_records.filter_map(|(_, count)| count.as_u64()).sum())
}

pub async fn a_paused_account_takes_everything_in_and_does_nothing(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "pause").await?;
    let (told, edited) =
        (account.keap.add(&person("Told")).await?, account.keap.add(&person("Edited")).await?);
    account.full_sync().await?;
    account.wait_for_quiet().await?;

    let why = json!({"by": "Ann", "reason": "the tags are being moved"});
    let paused = ask(&account, "pause", Some(&why)).await?.json();
    ensure!(paused["paused"]["by"] == "Ann" && paused["paused"]["since"].is_string(), "{paused}");
    // A second pause takes nothing over.
    let again = ask(&account, "pause", None).await?.json();
    ensure!(
        again["paused"]["by"] == "Ann" && again["paused"]["since"] == paused["paused"]["since"],
        "{again}"
    );
    let calls = record_calls(&account).await?;

    account.keap.edit(&told, &json!({"given_name": "While"})).await?;
    let edit = "update sync_contacts set first_name = 'Mine' where account_id = $1 and keap_id = $2";
    account.mirror.execute(edit, &[&edited]).await?;
    let url = format!("{}/sync/contacts?kind=incremental&account={}", stage.access.sync, account.name);
    let ordered = stage.admin(Method::POST, &url, None).await?;
    ensure!(ordered.status == 202, "{}", ordered.text);
    ensure!(
        ordered.json()["waits"].as_str().is_some_and(|waits| waits.contains("paused")),
        "{}",
        ordered.text
    );
    let run_id = ordered.json()["run_id"].as_str().context("no run_id")?.to_owned();
    until("what waits in status", async || {
        let status = account.status().await?;
        let waits = status["events"]["open"].as_u64() >= Some(1)
            && status["outbox"]["open"].as_u64() >= Some(1)
            && status["paused"]["runs_waiting"] == 1;
        Ok(waits.then_some(()))
    })
    .await?;
    // The credential is kept alive meanwhile.
    let refresh = format!("{}/oauth/refresh", stage.access.coordinator);
    let refreshed =
        stage.admin(Method::POST, &refresh, Some(&json!({"keap_account_id": account.name}))).await?;
    ensure!(refreshed.status == 200, "{}", refreshed.text);
    // The alarm has looked and let everything lie.
    let looked_at = account.status().await?["outbox"]["looked_at"].clone();
    until("another look", async || {
        Ok((account.status().await?["outbox"]["looked_at"] != looked_at).then_some(()))
    })
    .await?;
    ensure!(record_calls(&account).await? == calls, "Keap was asked for records during the pause");
    ensure!(account.mirror.contact(&told).await?["first_name"] == "Told", "a row changed during the pause");

    let resumed = ask(&account, "resume", None).await?.json();
    ensure!(resumed["resumed"] == true, "{resumed}");
    account.wait_for_row(&told, "the event that waited", |row| row["first_name"] == "While").await?;
    account.wait_for_keap(&edited, "the edit that waited", |contact| contact["given_name"] == "Mine").await?;
    account.wait_for_run(&run_id).await?;
    let status = account.status().await?;
    ensure!(status["paused"].is_null(), "{status}");
    let again = ask(&account, "resume", None).await?.json();
    ensure!(again["resumed"] == false, "{again}");
    Ok(())
}

pub async fn what_no_hook_told_during_a_pause_is_read_at_its_end(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "resume").await?;
    let id = account.keap.add(&person("Before")).await?;
    account.full_sync().await?;
    account.wait_for_quiet().await?;
    ask(&account, "pause", None).await?;
    account.keap.faults(&json!([{"kind": "hook_lost"}])).await?;
    account.keap.edit(&id, &json!({"given_name": "Untold"})).await?;
    ask(&account, "resume", None).await?;
    account.wait_for_row(&id, "the change that no hook told", |row| row["first_name"] == "Untold").await?;
    account.keap.clear_faults().await?;
    let odd = stage.admin(Method::POST, &account.route("pause"), Some(&json!({"who": "Ann"}))).await?;
    ensure!(odd.status == 400, "{}", odd.text);
    Ok(())
}
