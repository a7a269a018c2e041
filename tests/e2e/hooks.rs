//! The life of hooks: looked at, mended, made up for, ended.

use anyhow::{Context as _, Result, ensure};
use keapsync_e2e::account::{Account, journey};
use keapsync_e2e::stage::Stage;
use keapsync_e2e::wait::{until, within_a_day};
use reqwest::Method;
use serde_json::{Value, json};

/// Events of the kinds that are synced.
const WANTED: usize = 14;

fn person(name: &str) -> Value {
    json!({"given_name": name, "email_addresses": [{"field": "EMAIL1", "email": format!("{name}@x.example")}]})
}

/// Three contacts, synced.
async fn with_three(account: &Account<'_>) -> Result<[String; 3]> {
    let ids = [
        account.keap.add(&person("edited")).await?,
        account.keap.add(&person("deleted")).await?,
        account.keap.add(&person("kept")).await?,
    ];
    account.full_sync().await?;
    account.wait_for_quiet().await?;
    Ok(ids)
}

async fn check(account: &Account<'_>) -> Result<()> {
    let answer = account.stage.admin(Method::POST, &account.route("hooks/check"), None).await?;
    ensure!(answer.status == 202, "hooks/check answered {}: {}", answer.status, answer.text);
    Ok(())
}

/// Waits until the rows are as Keap's contacts after the changes of [`miss_changes`].
async fn wait_for_missed(
    account: &Account<'_>,
    [edited, deleted, kept]: &[String; 3],
    added: &str,
) -> Result<()> {
    account.wait_for_row(edited, "the missed edit", |row| row["first_name"] == "Missed").await?;
    account.wait_for_row(deleted, "the missed delete", |row| row["deleted_at"].is_string()).await?;
    account.wait_for_row(added, "the missed contact", |row| row["first_name"] == "added").await?;
    account.wait_for_row(kept, "the contact nobody touched", |row| row["deleted_at"].is_null()).await?;
    Ok(())
}

/// An edit, a delete and a new contact that no hook tells of.
async fn miss_changes(account: &Account<'_>, [edited, deleted, _]: &[String; 3]) -> Result<String> {
    account.keap.edit(edited, &json!({"given_name": "Missed"})).await?;
    account.keap.delete(deleted).await?;
    account.keap.add(&person("added")).await
}

pub async fn what_keap_did_not_deliver_is_read_once_it_does_again(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "gap").await?;
    let ids = with_three(&account).await?;
    ensure!(account.keap.deactivate_hooks(None).await? == WANTED as u64);
    let added = miss_changes(&account, &ids).await?;
    check(&account).await?;
    wait_for_missed(&account, &ids, &added).await?;
    let status = until("verified hooks and nothing left to catch up on", async || {
        let status = account.status().await?;
        let is_caught_up = status["hook_watch"]["catching_up"].as_array().is_some_and(Vec::is_empty);
        Ok(is_caught_up.then_some(status))
    })
    .await?;
    let hooks = status["hooks"].as_array().context("no hooks in status")?;
    ensure!(hooks.len() == WANTED && hooks.iter().all(|hook| hook["status"] == "Verified"), "{hooks:?}");
    ensure!(hooks.iter().all(|hook| hook["gap_since"].is_null()), "{hooks:?}");
    // Delivered again from here on.
    account.keap.edit(&ids[2], &json!({"given_name": "Told"})).await?;
    account.wait_for_row(&ids[2], "the edit told by hook", |row| row["first_name"] == "Told").await?;
    Ok(())
}

pub async fn lost_doubled_and_old_subscriptions_are_put_in_order(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "order").await?;
    let ours = account.hook_url();
    let before_secret = format!("{}/webhook/{}/of-an-earlier-secret", stage.access.webhook, account.name);
    let of_others = format!("{}/webhook/somebody-else/token", stage.access.webhook);
    ensure!(account.keap.forget_hooks(Some("contact.edit")).await? == 1);
    ensure!(account.keap.subscribe("contact.add", &ours).await?["status"] == "Verified");
    account.keap.subscribe("contact.add", &before_secret).await?;
    account.keap.subscribe("order.add", &of_others).await?;
    check(&account).await?;
    until("one verified subscription for each event", async || {
        let hooks = account.keap.hooks().await?;
        let of = |url: &str| hooks.iter().filter(|hook| hook["hookUrl"] == url).count();
        let all_verified = hooks
            .iter()
            .filter(|hook| hook["hookUrl"] == ours.as_str())
            .all(|hook| hook["status"] == "Verified");
        let in_order = of(&ours) == WANTED && of(&before_secret) == 0 && of(&of_others) == 1;
        Ok((in_order && all_verified).then_some(()))
    })
    .await
}

pub async fn status_tells_what_each_hook_delivered_today(stage: &Stage) -> Result<()> {
    within_a_day(async || deliveries_are_told(stage).await).await
}

async fn deliveries_are_told(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "counts").await?;
    for _ in 0..3 {
        ensure!(account.deliver("contact.edit", &["901", "902"]).await?.status == 200);
    }
    ensure!(account.deliver("task.add", &["7"]).await?.status == 200);
    let status = account.status().await?;
    let hooks = status["hooks"].as_array().context("no hooks in status")?;
    let of = |event_key: &str| hooks.iter().find(|hook| hook["event_key"] == event_key);
    let edits = of("contact.edit").context("contact.edit is not shown")?;
    ensure!(edits["today"]["deliveries"] == 3 && edits["today"]["objects"] == 6, "{edits}");
    ensure!(edits["last_delivery_at"].is_string() && edits["since"].is_string(), "{edits}");
    let adds = of("order.add").context("order.add is not shown")?;
    ensure!(adds["today"]["deliveries"] == 0 && adds["last_delivery_at"].is_null(), "{adds}");
    ensure!(status["events"]["not_synced"]["task.add"] == 1, "{status}");
    let not_synced = status["hook_watch"]["not_synced_keys"].as_array().context("no keys")?;
    ensure!(
        not_synced.contains(&json!("task.add")) && !not_synced.contains(&json!("contact.add")),
        "{not_synced:?}"
    );
    ensure!(status["hook_watch"]["next_check_at"].is_string(), "{status}");
    Ok(())
}

/// Accounts that are revoked in turn until one's subscriptions were ended within the time that a revoke gives them.
const REVOKES_MAX: usize = 3;

/// A new account with three contacts, and what came of its revoke.
async fn revoked(stage: &Stage) -> Result<(Account<'_>, [String; 3], Value)> {
    let account = Account::connect(stage, "leave").await?;
    let ids = with_three(&account).await?;
    let url = format!("{}/oauth/revoke", stage.access.coordinator);
    let body = json!({"keap_account_id": account.name});
    let revoked = stage.admin(Method::POST, &url, Some(&body)).await?;
    ensure!(revoked.status == 200, "revoke answered {}: {}", revoked.status, revoked.text);
    Ok((account, ids, revoked.json()))
}

pub async fn a_revoke_ends_the_hooks_and_a_new_connection_reads_what_was_missed(stage: &Stage) -> Result<()> {
    let (mut account, mut ids, mut revoked) = self::revoked(stage).await?;
    for _ in 1..REVOKES_MAX {
        // A revoke does not wait for a slow Keap, and on a busy machine this one is slow.
        let problem = revoked["hooks"]["problem"].as_str().unwrap_or_default();
        if !problem.contains("took too long") {
            break;
        }
        (account, ids, revoked) = self::revoked(stage).await?;
    }
    ensure!(revoked["state"] == "revoked" && revoked["hooks"]["ended"] == WANTED, "{revoked}");
    ensure!(revoked["hooks"]["left"] == 0 && revoked["hooks"]["problem"].is_null(), "{revoked}");
    ensure!(account.keap.hooks().await?.is_empty(), "subscriptions were left at Keap");
    let added = miss_changes(&account, &ids).await?;
    let journey = journey(stage, &account.name, &account.name).await?;
    ensure!(journey.answer.status == 200, "the callback answered {}", journey.answer.status);
    account.wait_for_hooks().await?;
    wait_for_missed(&account, &ids, &added).await
}
