//! `cargo xtask smoke`: proves that a deployed system works where no test on one machine can: through the proxy before Postgres, with
//! real KV and real objects. It changes nothing.
//!
//! The proofs themselves are routes of the sync worker (`GET /smoke/…`), asked for in small portions, so that none comes near an
//! invocation's limits. What comes back is compared there; here the durations are added up and shown.

use std::fmt::Write as _;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::{Client, Method};
use serde::Serialize;
use serde_json::Value;

use crate::admin_api::AdminApi;
use crate::database::ENGINE;
use crate::deployment::{Deployment, DeploymentArguments, Environment};
use crate::doctor::workers::{self, Known};
use crate::http;
use crate::progress::show;
use crate::workspace::Workspace;

/// Rows of the results that are asked for.
const ROWS: [u32; 3] = [1, 50, 500];

/// Statements in one request to the worker.
const PORTION: u32 = 50;

/// Requests under way at once.
const AT_ONCE: usize = 4;

/// Bytes of the parameters: more than one write, than one packet of the proxy, and four times what it takes in one write.
const PARAMETER_BYTES: u32 = 256 * 1024;

/// How many such parameters.
const PARAMETERS: u32 = 20;

/// Connections that are opened.
const CONNECTIONS: u32 = 40;

/// What `smoke` is told on the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct SmokeArguments {
    /// The system.
    #[command(flatten)]
    pub deployment: DeploymentArguments,
    /// Statements for each size of result (1, 50 and 500 rows).
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub queries: u32,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// What one proof found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Proof {
    /// What was proved.
    pub name: String,
    /// Whether it holds.
    pub ok: bool,
    /// The figures, or what went wrong and what to do.
    pub says: String,
    /// Durations of the single steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durations_ms: Option<Spread>,
}

/// How durations are spread, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// Half took no longer.
    pub p50: i64,
    /// Nineteen of twenty took no longer.
    pub p95: i64,
    /// The longest.
    pub max: i64,
}

impl Spread {
    /// Of some durations; `None` of none.
    #[must_use]
    pub fn of(mut durations_ms: Vec<i64>) -> Option<Self> {
        durations_ms.sort_unstable();
        let at = |percent: usize| {
            durations_ms
                .get((durations_ms.len() * percent / 100).min(durations_ms.len().saturating_sub(1)))
                .copied()
        };
        Some(Self { p50: at(50)?, p95: at(95)?, max: *durations_ms.last()? })
    }
}

/// Proves, prints, and gives whether everything holds.
pub async fn run(workspace: &Workspace, arguments: &SmokeArguments) -> Result<bool> {
    let variables = arguments.deployment.variables(workspace)?;
    let deployment = arguments.deployment.deployment(&workspace.dev_state_dir(), &variables)?;
    let mut proofs = Vec::new();
    prove(&deployment, arguments.queries, |proof| {
        if !arguments.json {
            show(line_of(&proof));
        }
        proofs.push(proof);
    })
    .await?;
    let holds = proofs.iter().all(|proof| proof.ok);
    if arguments.json {
        show(serde_json::to_string_pretty(&serde_json::json!({"ok": holds, "proofs": proofs}))?);
    }
    Ok(holds)
}

/// A proof on one line.
#[must_use]
pub fn line_of(proof: &Proof) -> String {
    let mut line =
        format!("{} {:<28} {}", if proof.ok { "ok     " } else { "problem" }, proof.name, proof.says);
    if let Some(Spread { p50, p95, max }) = proof.durations_ms {
        // Writing to a string cannot fail.
        let _ = write!(line, "; {p50} ms in the middle, {p95} ms at 95 %, {max} ms at most");
    }
    line
}

/// Does every proof, one after the other, and tells each as it ends. An error means that they could not be begun.
pub async fn prove(deployment: &Deployment, queries: u32, mut tell: impl FnMut(Proof)) -> Result<()> {
    let client = http::client()?;
    let api = AdminApi::new(&deployment.coordinator, &deployment.sync, &deployment.admin_token)?;
    let workers = [
        (workers::COORDINATOR, &deployment.coordinator),
        (workers::SYNC, &deployment.sync),
        (workers::WEBHOOK, &deployment.webhook),
    ];
    for (worker, url) in workers {
        let said = healthy(&client, &worker, url, deployment.environment).await;
        tell(proof(format!("{}'s health", worker.name), said.map(|said| (said, None))));
    }
    if let Some(refusal) = workers::refused_token(&client, deployment).await {
        // Everything else would be refused for the same reason.
        tell(proof("admin token".to_owned(), Err(anyhow::anyhow!(refusal))));
        return Ok(());
    }
    let sync = Sync { api: &api, url: &deployment.sync };
    tell(proof("login and cache".to_owned(), sync.database().await.map(|said| (said, None))));
    for rows in ROWS {
        let name = format!("{queries} queries of {rows} {}", if rows == 1 { "row" } else { "rows" });
        tell(proof(name, sync.repeated("queries", queries, &format!("rows={rows}")).await));
    }
    let name = format!("{PARAMETERS} parameters of 256 KiB");
    tell(proof(name, sync.repeated("parameters", PARAMETERS, &format!("bytes={PARAMETER_BYTES}")).await));
    tell(proof(format!("{CONNECTIONS} connections"), sync.repeated("connections", CONNECTIONS, "").await));
    let (kv, object) = match sync.ask("bindings", "").await {
        Ok(answer) => (round_trip(&answer, "kv"), round_trip(&answer, "object")),
        Err(error) => {
            let again = anyhow::anyhow!("{error:#}");
            (Err(error), Err(again))
        }
    };
    tell(proof("KV there and back".to_owned(), kv));
    tell(proof("an object there and back".to_owned(), object));
    Ok(())
}

type Figures = (String, Option<Spread>);

fn proof(name: String, outcome: Result<Figures>) -> Proof {
    match outcome {
        Ok((says, durations_ms)) => Proof { name, ok: true, says, durations_ms },
        Err(error) => Proof { name, ok: false, says: format!("{error:#}"), durations_ms: None },
    }
}

/// Asks a worker how it is, judged as doctor does; gives how long it took.
async fn healthy(client: &Client, worker: &Known, url: &str, environment: Environment) -> Result<String> {
    let begun_at = Instant::now();
    let (status, body) = workers::health(client, url, environment).await?;
    let said = workers::judge(worker, environment, status, &body)?;
    Ok(format!("{said}, answered in {} ms", begun_at.elapsed().as_millis()))
}

struct Sync<'a> {
    api: &'a AdminApi,
    url: &'a str,
}

impl Sync<'_> {
    async fn ask(&self, part: &str, query: &str) -> Result<Value> {
        let separator = if query.is_empty() { "" } else { "?" };
        self.api.call(Method::GET, &format!("{}/smoke/{part}{separator}{query}", self.url), None).await
    }

    /// Who the worker is to its database, and that no cache answers in its place.
    async fn database(&self) -> Result<String> {
        judge_database(&self.ask("database", "").await?)
    }

    /// Asks for a number of steps in portions, several at once, and adds up what they took.
    async fn repeated(&self, part: &str, count: u32, query: &str) -> Result<Figures> {
        let portions = (0..count.div_ceil(PORTION)).map(|nth| PORTION.min(count - nth * PORTION));
        let begun_at = Instant::now();
        let answers: Vec<Value> = stream::iter(portions)
            .map(|portion| async move { self.ask(part, &format!("count={portion}&{query}")).await })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let seconds = begun_at.elapsed().as_secs_f64();
        let wrong: u64 =
            answers.iter().filter_map(|answer| answer.get("wrong").and_then(Value::as_u64)).sum();
        ensure!(
            wrong == 0,
            "{wrong} of {count} answers differ from what was asked for: something between the worker and Postgres changes or mixes them"
        );
        let durations_ms = answers.iter().filter_map(|answer| answer.get("durations_ms")?.as_array());
        let durations_ms: Vec<i64> = durations_ms.flatten().filter_map(Value::as_i64).collect();
        ensure!(durations_ms.len() == count as usize, "{} of {count} were done", durations_ms.len());
        let mut backends: Vec<i64> = answers
            .iter()
            .filter_map(|answer| answer.get("backends")?.as_array())
            .flatten()
            .filter_map(Value::as_i64)
            .collect();
        backends.sort_unstable();
        backends.dedup();
        let says = if backends.is_empty() {
            format!("all right in {seconds:.1} s")
        } else {
            format!("over {} of the server's own", backends.len())
        };
        Ok((says, Spread::of(durations_ms)))
    }
}

/// What the worker said of its database, judged.
pub fn judge_database(answer: &Value) -> Result<String> {
    let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default();
    let is = |name: &str| answer.get(name).and_then(Value::as_bool);
    let role = text("role");
    ensure!(
        role == ENGINE,
        "the workers log in as {role}: give Hyperdrive the login of {ENGINE} (`wrangler hyperdrive update`), because what any other role \
         writes is taken for a person's edit and sent to Keap"
    );
    ensure!(
        is("is_cached") == Some(false),
        "a cache answers in place of Postgres: `wrangler hyperdrive update <id> --caching-disabled true`, because a cursor or lease that is \
         a minute old loses changes"
    );
    ensure!(
        is("is_migrated") == Some(true),
        "the database {} has none of keapsync's tables: run `cargo xtask migrate up` with DATABASE_URL set to the database behind Hyperdrive",
        text("database")
    );
    Ok(format!("{role}, Postgres {}, no cache", text("server_version")))
}

fn round_trip(answer: &Value, name: &str) -> Result<Figures> {
    let found = answer
        .get(name)
        .context("the sync worker's answer is of another version: deploy all workers at one")?;
    ensure!(
        found.get("is_right").and_then(Value::as_bool) == Some(true),
        "what came back is not what was sent: see the binding in wrangler-sync.toml"
    );
    let duration_ms = found.get("duration_ms").and_then(Value::as_i64).unwrap_or_default();
    Ok((format!("right, in {duration_ms} ms"), None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn durations_are_spread() {
        assert_eq!(Spread::of(Vec::new()), None);
        assert_eq!(Spread::of(vec![7]), Some(Spread { p50: 7, p95: 7, max: 7 }));
        let spread = Spread::of((1..=100).rev().collect()).unwrap();
        assert_eq!((spread.p50, spread.p95, spread.max), (51, 96, 100));
    }

    #[test]
    fn a_wrong_login_a_cache_and_an_empty_database_are_problems() {
        let well = json!({"role": "keapsync_engine", "is_cached": false, "is_migrated": true, "server_version": "17.1"});
        assert_eq!(judge_database(&well).unwrap(), "keapsync_engine, Postgres 17.1, no cache");
        for (name, value, fix) in [
            ("role", json!("postgres"), "wrangler hyperdrive update"),
            ("is_cached", json!(true), "--caching-disabled"),
            ("is_migrated", json!(false), "migrate up"),
        ] {
            let mut ill = well.clone();
            ill[name] = value;
            let said = judge_database(&ill).unwrap_err().to_string();
            assert!(said.contains(fix), "{said}");
        }
    }
}
