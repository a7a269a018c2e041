//! The smoke test of a deployment, against this system: its workers reach Postgres through a pooler as deployed ones do.

use anyhow::{Context as _, Result, ensure};
use keapsync_e2e::stage::Stage;
use keapsync_e2e::wait::until;
use keapsync_xtask::deployment::{Deployment, Environment};
use keapsync_xtask::pooler::SERVER_CONNECTIONS;
use keapsync_xtask::smoke::{Proof, line_of, prove};
use reqwest::Method;

/// The system under test as a deployment.
pub fn deployment(stage: &Stage) -> Deployment {
    Deployment {
        environment: Environment::Staging,
        coordinator: stage.access.coordinator.clone(),
        sync: stage.access.sync.clone(),
        webhook: stage.access.webhook.clone(),
        admin_token: stage.access.admin_token.clone(),
    }
}

pub async fn a_thousand_queries_of_each_size_come_back_right(stage: &Stage) -> Result<()> {
    // The health alone is looked at again: a busy machine may keep it waiting once, but answers that differ may not come at all.
    let proofs = until("the health of all workers", async || {
        let mut proofs = Vec::new();
        prove(&deployment(stage), 1_000, |proof| proofs.push(proof)).await?;
        let is_of_health = |proof: &Proof| proof.name.ends_with("'s health");
        let others_are_well = proofs.iter().filter(|proof| !is_of_health(proof)).all(|proof| proof.ok);
        let is_well = proofs.iter().all(|proof| proof.ok);
        ensure!(is_well || !others_are_well, "{}", proofs.iter().map(line_of).collect::<Vec<_>>().join("\n"));
        Ok(Some(proofs))
    })
    .await?;
    let lines: Vec<String> = proofs.iter().map(line_of).collect();
    ensure!(proofs.iter().all(|proof| proof.ok), "{}", lines.join("\n"));
    ensure!(proofs.len() == 11, "{}", lines.join("\n"));
    let timed = proofs.iter().filter(|proof| proof.durations_ms.is_some()).count();
    ensure!(timed == 5, "three sizes, parameters and connections are timed:\n{}", lines.join("\n"));
    // Forty connections of the worker are few of the server's: the pooler is between them.
    let connections = proofs.iter().find(|proof| proof.name == "40 connections").context("no connections")?;
    let backends =
        connections.says.split(' ').find_map(|word| word.parse::<u32>().ok()).context("no figure")?;
    ensure!((1..=SERVER_CONNECTIONS).contains(&backends), "{}", connections.says);
    Ok(())
}

pub async fn the_smoke_test_is_the_admins_alone_and_bounded(stage: &Stage) -> Result<()> {
    let route = |rest: &str| format!("{}/smoke/{rest}", stage.access.sync);
    ensure!(stage.anonymous(Method::GET, &route("queries")).await?.status == 401, "anybody may ask");
    for beyond in
        ["queries?count=100000", "queries?rows=0", "parameters?bytes=999999999", "connections?count=x"]
    {
        let answer = stage.admin(Method::GET, &route(beyond), None).await?;
        ensure!(answer.status == 400, "{beyond} was answered with {}", answer.status);
    }
    ensure!(stage.admin(Method::GET, &route("fire"), None).await?.status == 404, "a part that there is not");
    ensure!(stage.admin(Method::POST, &route("queries"), None).await?.status == 405, "another method");
    Ok(())
}
