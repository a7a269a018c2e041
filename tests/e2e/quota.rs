//! What is known and shown of Keap's quota.

use anyhow::{Result, ensure};
use keapsync_e2e::account::{Account, journey};
use keapsync_e2e::stage::Stage;
use keapsync_e2e::wait::until;
use reqwest::Method;
use serde_json::{Value, json};

pub async fn status_shows_who_used_what(stage: &Stage) -> Result<()> {
    let account = Account::connect_filled(stage, "quota", 50).await?;
    // It has a quota object of its own: what that shows is this account's doing.
    account.use_service_key().await?;
    account.full_sync().await?;
    // Leases are settled after the reports that ended the run.
    let quota = until("the run's calls in status", async || {
        let quota = account.status().await?["quota"].clone();
        Ok((quota["day"]["by_priority"]["backfill"].as_u64() >= Some(1)).then_some(quota))
    })
    .await?;
    ensure!(quota["keap"]["day"]["available"].as_u64() > Some(0), "Keap's figures are missing: {quota}");
    ensure!(quota["keap_read_at"].is_string() && quota["keap"]["day_resets_at"].is_string(), "{quota}");
    ensure!(quota["forecast"]["calls_per_hour"].as_u64() > Some(0), "{quota}");
    ensure!(quota["day"]["left"].as_u64() < quota["day"]["limit"].as_u64(), "{quota}");
    Ok(())
}

/// A service key has a quota object of its own, with lower limits; where Keap's are lower still, those count.
pub async fn keaps_lower_limits_count(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "lowered").await?;
    account.wait_for_quiet().await?;
    account.use_service_key().await?;
    let limit = async || Ok::<_, anyhow::Error>(account.status().await?["quota"]["minute"]["limit"].as_u64());
    ensure!(limit().await? == Some(220), "a service key has limits of its own");
    account.keap.limit_calls(10, 200, 30_000).await?;
    let made = json!({"given_name": "Ann", "email_addresses": [{"field": "EMAIL1", "email": "q@x.example"}]});
    let id = account.keap.add(&made).await?;
    until("a limit below Keap's", async || Ok((limit().await? == Some(190)).then_some(()))).await?;
    account.wait_for_row(&id, "the row", |row| row["first_name"] == "Ann").await?;
    Ok(())
}

pub async fn one_keap_application_under_two_names_is_warned_of(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "twin").await?;
    ensure!(warned_of(&account.status().await?).is_empty(), "a warning without a cause");
    let other = format!("{}-b", account.name);
    let second = journey(stage, &other, &account.name).await?;
    ensure!(second.answer.status == 200, "{}", second.answer.status);
    until(
        "the warning",
        async || Ok((warned_of(&account.status().await?) == [other.as_str()]).then_some(())),
    )
    .await?;
    let revoke = format!("{}/oauth/revoke", stage.access.coordinator);
    stage.admin(Method::POST, &revoke, Some(&json!({"keap_account_id": other}))).await?;
    until("the end of the warning", async || Ok(warned_of(&account.status().await?).is_empty().then_some(())))
        .await
}

fn warned_of(status: &Value) -> Vec<String> {
    let warnings = status["warnings"].as_array().cloned().unwrap_or_default();
    let twins = warnings.iter().filter(|warning| warning["code"] == "keap_application_connected_twice");
    let names = twins.flat_map(|warning| warning["accounts"].as_array().cloned().unwrap_or_default());
    names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
}
