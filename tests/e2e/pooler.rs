//! The workers reach Postgres through a pooler in transaction mode, the nearest stand-in for Hyperdrive.

use anyhow::{Context as _, Result, ensure};
use keapsync_e2e::account::Account;
use keapsync_e2e::database::connect;
use keapsync_e2e::stage::Stage;
use keapsync_e2e::wait::until;
use keapsync_xtask::pooler::{SERVER_CONNECTIONS, console, figures};
use reqwest::Method;
use serde_json::json;
use std::collections::BTreeSet;

pub async fn workers_share_few_connections_of_the_pooler(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "pooler").await?;
    account.keap.seed(3_000).await?;
    account.full_sync().await?;

    let (urls, superuser_url) = {
        let system = stage.system.lock().await;
        (
            system.urls().clone(),
            system.superuser_database_url().context("the system has a server of its own")?,
        )
    };
    // Nobody else sees where other roles' connections come from.
    let superuser = connect(&superuser_url).await?;
    let console = console(urls.pooler_console.as_deref().context("the system has no pooler")?).await?;
    ensure!(
        figures(&console, "pools", "pool_mode").await?.contains(&"transaction".to_owned()),
        "another mode"
    );
    let backends = "select client_port from pg_stat_activity
        where usename = 'keapsync_engine' and datname = current_database() and backend_type = 'client backend'";
    // Both lists change while they are read, so they are read until they agree.
    until("every connection of the engine to be one of the pooler's", async || {
        let rows = superuser.query(backends, &[]).await?;
        let engine: BTreeSet<String> = rows.iter().map(|row| row.get::<_, i32>(0).to_string()).collect();
        let pooled: BTreeSet<String> =
            figures(&console, "servers", "local_port").await?.into_iter().collect();
        ensure!(engine.len() <= SERVER_CONNECTIONS as usize, "{} connections of the engine", engine.len());
        ensure!(engine.is_subset(&pooled), "{engine:?} of the engine, {pooled:?} of the pooler");
        Ok((!engine.is_empty()).then_some(()))
    })
    .await?;

    let counts = |column: &'static str| figures(&console, "stats", column);
    let sum = |values: Vec<String>| values.iter().filter_map(|value| value.parse::<u64>().ok()).sum::<u64>();
    let before = sum(counts("total_query_count").await?);
    account.full_sync().await?;
    ensure!(sum(counts("total_query_count").await?) > before, "the run sent nothing through the pooler");
    Ok(())
}

pub async fn the_pooler_keeps_no_session(stage: &Stage) -> Result<()> {
    let url = stage.system.lock().await.urls().engine_database.clone();
    let mut clients = Vec::new();
    for _ in 0..=SERVER_CONNECTIONS {
        clients.push(connect(&url).await?);
    }
    // More clients than server connections, all in the middle of nothing: each still gets its answer.
    for client in &clients {
        ensure!(client.query_typed("select 1", &[]).await?.len() == 1, "no answer");
    }
    // Each statement gets whichever server connection is free: two clients meet on one, which no session of their own would allow.
    let backend = async |client: &tokio_postgres::Client| {
        let rows = client.query_typed("select pg_backend_pid()", &[]).await?;
        anyhow::Ok(rows.first().context("no row")?.get::<_, i32>(0))
    };
    let (first, others) = clients.split_first().context("no client")?;
    let other = others.first().context("no second client")?;
    until("two clients to share a server connection", async || {
        Ok((backend(first).await? == backend(other).await?).then_some(()))
    })
    .await?;
    Ok(())
}

pub async fn a_pooler_that_restarts_loses_nothing(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "pooler").await?;
    account.keap.seed(6_000).await?;
    let id = account
        .keap
        .add(&json!({"given_name": "Bea", "email_addresses": [{"field": "EMAIL1", "email": "b@x.example"}]}))
        .await?;
    account.wait_for_row(&id, "the row", |row| row["first_name"] == "Bea").await?;
    account.keap.faults(&json!([{"kind": "latency", "operation": "list_contacts", "ms": 200}])).await?;
    let run_id = account.start("full").await?;
    until("rows of the run", async || Ok((account.mirror.count().await? > 10).then_some(()))).await?;

    stage.system.lock().await.stop_pooler().await?;
    account.keap.edit(&id, &json!({"family_name": "Kept"})).await?;
    let answer = account.deliver("contact.edit", &[&id]).await?;
    ensure!(answer.status == 200, "a delivery without the pooler was answered with {}", answer.status);
    // Postgres itself is up, and people reach it: only the workers' way is cut.
    let edit = "update sync_contacts set job_title = 'Dean' where account_id = $1 and keap_id = $2";
    ensure!(account.mirror.execute(edit, &[&id]).await? == 1, "the edit was not written");
    let health = format!("{}/health", stage.access.sync);
    until("a worker that is not well", async || {
        Ok((stage.anonymous(Method::GET, &health).await?.status == 503).then_some(()))
    })
    .await?;
    until("the waiting event in status", async || {
        Ok((account.status().await?["events"]["open"].as_u64() >= Some(1)).then_some(()))
    })
    .await?;
    stage.system.lock().await.start_pooler().await?;

    account.keap.clear_faults().await?;
    account.wait_for_row(&id, "the kept event in the row", |row| row["last_name"] == "Kept").await?;
    account.wait_for_keap(&id, "the edit in Keap", |contact| contact["job_title"] == "Dean").await?;
    let run = account.wait_for_run_that_was_interrupted(&run_id).await?;
    ensure!(run["state"] == "completed", "{run}");
    let expected = account.keap.counts().await?["contacts"].as_i64().context("no count")?;
    until("all rows", async || Ok((account.mirror.count().await? >= expected).then_some(()))).await?;
    until("a worker that is well", async || {
        Ok(stage.anonymous(Method::GET, &health).await?.status.is_success().then_some(()))
    })
    .await
}
