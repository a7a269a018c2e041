//! The three workers, asked over HTTP: that each answers at its own address, reaches what it is bound to, knows the time, and takes the
//! admin token.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;

use super::{Finding, clock_skew, own_clock, seconds_of};
use crate::admin_api::AdminApi;
use crate::deployment::Deployment;
use crate::http;
use crate::smoke::broken_services;

/// Longest wait for an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// A worker, and by which of its services its health tells it from the others: one that it has, one that it has not.
struct Known {
    name: &'static str,
    has: &'static str,
    lacks: &'static str,
    config: &'static str,
}

const COORDINATOR: Known = Known {
    name: "coordinator",
    has: "SYNC_WORKER",
    lacks: "COORDINATOR",
    config: "wrangler-coordinator.toml",
};
const SYNC: Known =
    Known { name: "sync worker", has: "HYPERDRIVE", lacks: "SYNC_WORKER", config: "wrangler-sync.toml" };
const WEBHOOK: Known = Known {
    name: "webhook handler",
    has: "COORDINATOR",
    lacks: "HYPERDRIVE",
    config: "wrangler-webhook.toml",
};

/// Looks at all three.
pub(super) async fn findings(deployment: &Deployment) -> Vec<Finding> {
    let client = match http::client() {
        Ok(client) => client,
        Err(error) => return vec![Finding::new("workers", Err(error))],
    };
    let mut findings = Vec::new();
    for (worker, url) in
        [(COORDINATOR, &deployment.coordinator), (SYNC, &deployment.sync), (WEBHOOK, &deployment.webhook)]
    {
        let health = health(&client, url).await;
        let skew = health.as_ref().ok().map(|(_, body)| clock(body));
        findings
            .push(Finding::new(worker.name, health.and_then(|(status, body)| judge(&worker, status, &body))));
        if let Some(skew) = skew {
            findings.push(Finding::new(format!("{}'s clock", worker.name), skew));
        }
    }
    for (check, url) in [
        ("admin token (coordinator)", format!("{}/accounts", deployment.coordinator)),
        ("admin token (sync worker)", format!("{}/metrics", deployment.sync)),
    ] {
        findings.push(Finding::new(check, admin_token(&client, &url, &deployment.admin_token).await));
    }
    findings
}

/// What the workers see of their database.
pub(super) async fn database_of(deployment: &Deployment) -> Result<Value> {
    let api = AdminApi::new(&deployment.coordinator, &deployment.sync, &deployment.admin_token)?;
    api.call(Method::GET, &format!("{}/smoke/database", deployment.sync), None).await.context(
        "the sync worker cannot say who it is to its database: mend what is said of it and of the admin token above, then look again",
    )
}

async fn health(client: &Client, url: &str) -> Result<(StatusCode, Value)> {
    let response = client.get(format!("{url}/health")).timeout(ANSWER_LIMIT).send().await.with_context(|| {
        format!("{url} does not answer: see that the worker is deployed (`./deploy.sh validate`) and that the address is its own")
    })?;
    let status = response.status();
    let body = response.json().await.with_context(|| {
        format!("{url}/health answers with no JSON: the address is not one of keapsync's workers; correct it")
    })?;
    Ok((status, body))
}

fn judge(worker: &Known, status: StatusCode, body: &Value) -> Result<String> {
    if let Some(problem) = body.get("problem").and_then(Value::as_str) {
        bail!("is misconfigured: {problem}");
    }
    let services = body
        .get("services")
        .and_then(Value::as_object)
        .context("/health tells of no services: the address is not one of keapsync's workers; correct it")?;
    ensure!(
        services.contains_key(worker.has) && !services.contains_key(worker.lacks),
        "another worker answers at this address: give the {}'s own",
        worker.name
    );
    let broken = broken_services(body);
    ensure!(
        broken.is_empty(),
        "cannot reach {}: {}",
        broken.join(", "),
        broken.iter().map(|service| fix_of(service, worker.config)).collect::<Vec<_>>().join("; ")
    );
    ensure!(
        status.is_success(),
        "/health answers {status}: see the worker's log with `wrangler tail --config {}`",
        worker.config
    );
    Ok("healthy".to_owned())
}

fn fix_of(service: &str, config: &str) -> String {
    match service {
        "HYPERDRIVE" => "see that the database is up and that Hyperdrive has its login (`wrangler hyperdrive get`, `… update`)".to_owned(),
        "SYNC_CACHE" => format!("see the KV namespace in {config} (`wrangler kv namespace list`)"),
        "COORDINATOR" | "SYNC_WORKER" => {
            format!("deploy that worker, see [[services]] in {config}, and that both have one INTERNAL_TOKEN")
        }
        _ => format!("see the Durable Object bindings and migrations in {config}, and deploy again"),
    }
}

fn clock(body: &Value) -> Result<String> {
    let text = body
        .get("timestamp")
        .and_then(Value::as_str)
        .context("/health tells no time: deploy the worker anew")?;
    clock_skew(seconds_of(text)?, own_clock())
}

async fn admin_token(client: &Client, url: &str, token: &str) -> Result<String> {
    let response = client.get(url).bearer_auth(token).timeout(ANSWER_LIMIT).send().await;
    let response = response.context("no answer: see the worker's own finding")?;
    match response.status() {
        status if status.is_success() => Ok("taken".to_owned()),
        StatusCode::UNAUTHORIZED => bail!(
            "is refused: the worker has another ADMIN_API_TOKEN; give this one (`wrangler secret put ADMIN_API_TOKEN`) or use that one"
        ),
        StatusCode::TOO_MANY_REQUESTS => {
            bail!(
                "was refused too often from this address: wait a minute, then look again with the right ADMIN_API_TOKEN"
            )
        }
        status => bail!("{url} answers {status}: see the worker's log with `wrangler tail`"),
    }
}
