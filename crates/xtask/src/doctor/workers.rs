//! The three workers, asked over HTTP: that each answers at its own address, reaches what it is bound to, knows the time, and takes the
//! admin token.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;

use super::{Finding, clock_skew, own_clock, seconds_of};
use crate::admin_api::AdminApi;
use crate::deployment::{Deployment, Environment};
use crate::http;

/// Longest wait for an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// A worker, and by which of its services its health tells it from the others: one that it has, one that it has not.
pub(crate) struct Known {
    pub(crate) name: &'static str,
    has: &'static str,
    lacks: &'static str,
    config: &'static str,
    /// What it is called at Cloudflare, before the environment's name.
    deployed_as: &'static str,
}

pub(crate) const COORDINATOR: Known = Known {
    name: "coordinator",
    has: "SYNC_WORKER",
    lacks: "COORDINATOR",
    config: "wrangler-coordinator.toml",
    deployed_as: "sync-coordinator",
};
pub(crate) const SYNC: Known = Known {
    name: "sync worker",
    has: "HYPERDRIVE",
    lacks: "SYNC_WORKER",
    config: "wrangler-sync.toml",
    deployed_as: "sync-worker",
};
pub(crate) const WEBHOOK: Known = Known {
    name: "webhook handler",
    has: "COORDINATOR",
    lacks: "HYPERDRIVE",
    config: "wrangler-webhook.toml",
    deployed_as: "webhook-handler",
};

impl Known {
    /// Where its log is read.
    fn log(&self, environment: Environment) -> String {
        match environment {
            Environment::Local => {
                format!(
                    "the {}'s log (.keapsync/dev/logs of a local system, `npx wrangler tail` with the name of a deployed worker)",
                    self.name
                )
            }
            deployed => {
                format!(
                    "the {}'s log with `npx wrangler tail {}-{}`",
                    self.name,
                    self.deployed_as,
                    deployed.name()
                )
            }
        }
    }
}

/// How it is found out whether the workers are there.
fn way_to_validate(environment: Environment) -> String {
    match environment {
        Environment::Local => "`cargo xtask status` shows a local one".to_owned(),
        deployed => format!("`./deploy.sh validate --env {} --health-only`", deployed.name()),
    }
}

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
        let health = health(&client, url, deployment.environment).await;
        let skew = health.as_ref().ok().map(|(_, body)| clock(body));
        let outcome = health.and_then(|(status, body)| judge(&worker, deployment.environment, status, &body));
        findings.push(Finding::new(worker.name, outcome));
        if let Some(skew) = skew {
            findings.push(Finding::new(format!("{}'s clock", worker.name), skew));
        }
    }
    for (check, worker, url) in [
        ("admin token (coordinator)", COORDINATOR, format!("{}/accounts", deployment.coordinator)),
        ("admin token (sync worker)", SYNC, format!("{}/metrics", deployment.sync)),
    ] {
        findings.push(Finding::new(check, admin_token(&client, &worker, &url, deployment).await));
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

/// Asks a worker how it is.
pub(crate) async fn health(
    client: &Client,
    url: &str,
    environment: Environment,
) -> Result<(StatusCode, Value)> {
    let response =
        client.get(format!("{url}/health")).timeout(ANSWER_LIMIT).send().await.with_context(|| {
            format!(
                "{url} does not answer: see that the worker is there ({}) and that the address is its own",
                way_to_validate(environment)
            )
        })?;
    let status = response.status();
    let body = response.json().await.with_context(|| {
        format!("{url}/health answers with no JSON: the address is not one of keapsync's workers; correct it")
    })?;
    Ok((status, body))
}

/// Judges what a worker answered: an answer of any other server is none of a healthy worker.
pub(crate) fn judge(
    worker: &Known,
    environment: Environment,
    status: StatusCode,
    body: &Value,
) -> Result<String> {
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
        status.is_success() && body.get("status").and_then(Value::as_str) == Some("healthy"),
        "/health answers {status} and does not say that it is healthy: see {}",
        worker.log(environment)
    );
    Ok("healthy".to_owned())
}

/// The bindings that a worker does not say to work.
fn broken_services(health: &Value) -> Vec<String> {
    let services = health.get("services").and_then(Value::as_object);
    let broken = services.into_iter().flatten().filter(|(_, works)| **works != Value::Bool(true));
    broken.map(|(name, _)| name.clone()).collect()
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

async fn admin_token(client: &Client, worker: &Known, url: &str, deployment: &Deployment) -> Result<String> {
    let response = client.get(url).bearer_auth(&deployment.admin_token).timeout(ANSWER_LIMIT).send().await;
    let status = response.context("no answer: see the worker's own finding")?.status();
    if let Some(refusal) = refusal(status, deployment.environment) {
        bail!(refusal);
    }
    ensure!(status.is_success(), "{url} answers {status}: see {}", worker.log(deployment.environment));
    Ok("taken".to_owned())
}

/// Why the sync worker refuses the admin token, and the fix; `None` where it takes it, or says nothing of it.
pub(crate) async fn refused_token(client: &Client, deployment: &Deployment) -> Option<String> {
    // Not its metrics: they are open to the token of monitoring, too.
    let asked =
        client.get(format!("{}/smoke/database", deployment.sync)).bearer_auth(&deployment.admin_token);
    let status = asked.timeout(ANSWER_LIMIT).send().await.ok()?.status();
    refusal(status, deployment.environment)
}

/// What an answer's status says about the admin token, if it refuses it.
fn refusal(status: StatusCode, environment: Environment) -> Option<String> {
    match status {
        StatusCode::UNAUTHORIZED => Some(match environment {
            Environment::Local => "is refused: the worker has another ADMIN_API_TOKEN; give that one, with --token or in the variable".to_owned(),
            deployed => format!(
                "is refused: the worker has another ADMIN_API_TOKEN; correct it in .env.{0}, or send the one that stands there with \
                 `./deploy.sh --env {0} --only secrets`",
                deployed.name()
            ),
        }),
        StatusCode::TOO_MANY_REQUESTS => Some(
            "was refused too often from this address: wait a minute, then look again with the right ADMIN_API_TOKEN".to_owned(),
        ),
        _ => None,
    }
}
