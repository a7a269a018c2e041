//! What fails comes back: Keap's faults, lost answers, Postgres away, a worker killed.

use anyhow::{Context as _, Result, ensure};
use keapsync_e2e::account::Account;
use keapsync_e2e::stage::Stage;
use keapsync_e2e::wait::until;
use serde_json::{Value, json};

fn person(name: &str) -> Value {
    json!({"given_name": name, "email_addresses": [{"field": "EMAIL1", "email": "p@x.example"}]})
}

pub async fn keap_faults_are_retried_and_end_in_success(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "faults").await?;
    let id = account.keap.add(&person("Ann")).await?;
    account.wait_for_row(&id, "the row", |row| row["first_name"] == "Ann").await?;
    account.wait_for_quiet().await?;
    account
        .keap
        .faults(&json!([
            {"kind": "status", "operation": "patch_contact", "status": 429, "retry_after_s": 1, "times": 1},
            {"kind": "status", "operation": "patch_contact", "status": 503, "times": 1},
            {"kind": "status", "operation": "list_contacts", "status": 500, "times": 2},
            {"kind": "invalid_json", "operation": "list_contacts", "times": 1},
        ]))
        .await?;
    let edit = "update sync_contacts set first_name = 'Anna' where account_id = $1 and keap_id = $2";
    account.mirror.execute(edit, &[&id]).await?;
    account
        .wait_for_keap(&id, "the edit after all faults", |contact| contact["given_name"] == "Anna")
        .await?;

    account
        .keap
        .faults(&json!([{"kind": "status", "operation": "list_contacts", "status": 429, "times": 2}]))
        .await?;
    account.keap.edit(&id, &json!({"family_name": "Lee"})).await?;
    account.wait_for_row(&id, "the hook after 429", |row| row["last_name"] == "Lee").await?;

    account
        .keap
        .faults(&json!([{"kind": "status", "operation": "list_contacts", "status": 502, "times": 2}]))
        .await?;
    let run_id = account.start("contacts").await?;
    let run = account.wait_for_run(&run_id).await?;
    ensure!(run["counts"]["read"] == 1, "{run}");
    Ok(())
}

pub async fn a_lost_answer_makes_no_second_contact(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "lost").await?;
    account.wait_for_quiet().await?;
    account
        .keap
        .faults(&json!([{"kind": "timeout_after", "operation": "create_contact", "times": 1, "ms": 50}]))
        .await?;
    let insert =
        "insert into sync_contacts (account_id, first_name, email) values ($1, 'Once', 'once@x.example')";
    account.mirror.execute(insert, &[]).await?;
    until("the row's link", async || {
        let row =
            account.mirror.one("select sync_status from sync_contacts where account_id = $1", &[]).await?;
        Ok((row["sync_status"] == "completed").then_some(()))
    })
    .await?;
    account.wait_for_quiet().await?;
    ensure!(account.keap.counts().await?["contacts"] == 1, "the create was sent twice");
    ensure!(account.mirror.count().await? == 1, "one contact has two rows");
    Ok(())
}

pub async fn a_hook_while_postgres_is_down_is_kept_and_applied(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "postgres").await?;
    let id = account.keap.add(&person("Ann")).await?;
    account.wait_for_row(&id, "the row", |row| row["first_name"] == "Ann").await?;
    account.wait_for_quiet().await?;
    stage.system.lock().await.stop_postgres().await?;
    account.keap.edit(&id, &json!({"given_name": "Kept"})).await?;
    let answer = account.deliver("contact.edit", &[&id]).await?;
    ensure!(answer.status == 200, "a delivery without Postgres was answered with {}", answer.status);
    until("the waiting event in status", async || {
        let status = account.status().await?;
        Ok((status["events"]["open"].as_u64() >= Some(1)).then_some(()))
    })
    .await?;
    stage.system.lock().await.start_postgres().await?;
    let mirror = keapsync_e2e::database::Mirror {
        client: keapsync_e2e::database::connect(&stage.access.database).await?,
        account: account.name.clone(),
    };
    until("the kept event in the row", async || {
        Ok((mirror.contact(&id).await?["first_name"] == "Kept").then_some(()))
    })
    .await
}

pub async fn a_run_survives_the_death_of_the_sync_worker(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "death").await?;
    account.keap.seed(6_000).await?;
    account.keap.faults(&json!([{"kind": "latency", "operation": "list_contacts", "ms": 200}])).await?;
    let run_id = account.start("full").await?;
    until("the first rows", async || Ok((account.mirror.count().await? > 0).then_some(()))).await?;
    stage.system.lock().await.restart_worker("sync").await?;
    account.keap.clear_faults().await?;
    let run = account.wait_for_run_that_was_interrupted(&run_id).await?;
    ensure!(run["state"] == "completed", "{run}");
    let expected = account.keap.counts().await?["contacts"].as_i64().context("no count")?;
    ensure!(account.mirror.count().await? == expected, "rows are missing");
    Ok(())
}
