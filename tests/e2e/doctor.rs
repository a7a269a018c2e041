//! `cargo xtask doctor` against a real system: nothing is wrong with a healthy account, and what is planted in one is found.

use crate::smoke::deployment;
use anyhow::{Context as _, Result, ensure};
use keapsync_e2e::account::Account;
use keapsync_e2e::stage::Stage;
use keapsync_e2e::wait::until;
use keapsync_xtask::database;
use keapsync_xtask::doctor::{Finding, look_at};
use keapsync_xtask::migrate;
use keapsync_xtask::workspace::Workspace;
use reqwest::Method;

fn problems(findings: &[Finding]) -> Vec<&Finding> {
    findings.iter().filter(|finding| !finding.ok).collect()
}

pub async fn a_healthy_system_has_no_problem_and_a_planted_one_is_found(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "doctor").await?;
    account.wait_for_quiet().await?;
    let (workspace, deployment) = (Workspace::discover()?, deployment(stage));
    let url = stage.access.database.as_str();
    // A run may have begun by itself, and a part may have failed once while the system was busy: a moment later nothing is left of it.
    let findings = until("a system without problems", async || {
        let findings = look_at(&workspace, &deployment, Some(url), Some(&account.name)).await;
        Ok(problems(&findings).is_empty().then_some(findings))
    })
    .await?;
    ensure!(findings.len() >= 13, "few things were looked at: {findings:?}");

    let pause = stage.admin(Method::POST, &account.route("pause"), None).await?;
    ensure!(pause.status == 200, "the account was not paused: {}", pause.text);
    until("the pause as the only problem", async || {
        let findings = look_at(&workspace, &deployment, Some(url), Some(&account.name)).await;
        let checks: Vec<&str> = problems(&findings).iter().map(|finding| finding.check.as_str()).collect();
        ensure!(checks == [format!("account {}: paused", account.name)], "{:?}", problems(&findings));
        Ok(Some(()))
    })
    .await
}

pub async fn a_database_without_migrations_and_a_stranger_are_told_apart(stage: &Stage) -> Result<()> {
    let superuser_url =
        stage.system.lock().await.superuser_database_url().context("the system has a server of its own")?;
    let superuser = database::connect(&superuser_url).await?;
    // A try that failed halfway left its own. Each statement is sent alone, as neither runs in a transaction.
    for statement in ["drop database if exists doctor_empty with (force)", "create database doctor_empty"] {
        superuser.batch_execute(statement).await?;
    }
    let empty_url = database::in_database(&superuser_url, "doctor_empty")?;
    let (workspace, deployment) = (Workspace::discover()?, deployment(stage));
    let says = async |url: &str, check: &str| -> Result<String> {
        let findings = look_at(&workspace, &deployment, Some(url), Some("nobody")).await;
        let problems = problems(&findings);
        let found = problems.iter().find(|finding| finding.check == check);
        Ok(found.with_context(|| format!("{check} is no problem: {problems:?}"))?.says.clone())
    };
    ensure!(says(&empty_url, "schema").await?.contains("cargo xtask migrate up"), "the missing migrations");
    ensure!(says(&empty_url, "one database").await?.contains("wrangler hyperdrive get"), "another database");
    ensure!(says(&empty_url, "account nobody").await?.contains("connect"), "an account that there is not");
    let stranger = database::url_as(&empty_url, "postgres", "wrong")?;
    ensure!(says(&stranger, "database").await?.contains("refuses user or password"), "a wrong password");
    let migrations = migrate::status(&workspace, &empty_url).await?;
    ensure!(!migrations.is_empty() && migrations.iter().all(|one| !one.applied), "{migrations:?}");
    // Looking made nothing.
    let client = database::connect(&empty_url).await?;
    let made = client.query("select 1 from pg_namespace where nspname = 'keapsync_migrations'", &[]).await?;
    ensure!(made.is_empty(), "looking made the record of migrations");
    drop(client);
    superuser.batch_execute("drop database doctor_empty with (force)").await?;
    Ok(())
}
