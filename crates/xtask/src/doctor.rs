//! `cargo xtask doctor`: looks at the local set-up and names a fix for each thing that is wrong.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio_postgres::Client;

use crate::admin_api::AdminApi;
use crate::node_tools;
use crate::ports::{PortNumbers, is_free};
use crate::rust_tools::{self, WORKER_BUILD_VERSION, locked_version};
use crate::secrets::Secrets;
use crate::status;
use crate::subprocess::{find_program, output_of};
use crate::system::SystemRecord;
use crate::workspace::Workspace;
use crate::{database, http, migrate};

/// Free space below which builds and data get into trouble, in bytes.
const FREE_DISK_BYTES_MIN: u64 = 5_000_000_000;

/// The oldest Node whose npm installs the pinned one.
const NODE_MAJOR_MIN: u32 = 20;

/// Longest wait for a worker's health.
const HEALTH_LIMIT: Duration = Duration::from_secs(10);

/// How far two clocks may be apart before signatures, tokens and cursors suffer, in seconds.
const CLOCK_SKEW_SECONDS_MAX: i64 = 5;

/// The Postgres versions that the migrations are made for.
const POSTGRES_MAJORS: std::ops::RangeInclusive<i32> = 15..=17;

/// One thing that was looked at.
#[derive(Debug)]
struct Finding {
    subject: &'static str,
    outcome: Result<String>,
}

/// Looks at everything, prints what it finds, and gives whether all is well.
pub async fn run(workspace: &Workspace) -> Result<bool> {
    let state_dir = workspace.dev_state_dir();
    let record = SystemRecord::read(&state_dir)?;
    let mut findings = tool_findings(workspace);
    findings.push(Finding { subject: "free disk", outcome: free_disk(workspace) });
    match &record {
        None => findings.push(Finding { subject: "ports", outcome: free_ports() }),
        Some(record) => findings.extend(system_findings(workspace, &state_dir, record).await?),
    }
    let mut all_well = true;
    for Finding { subject, outcome } in findings {
        match outcome {
            Ok(found) => println!("ok       {subject:<16} {found}"),
            Err(error) => {
                all_well = false;
                println!("problem  {subject:<16} {error:#}");
            }
        }
    }
    if record.is_none() {
        println!(
            "No local system is running; `cargo xtask dev` starts one and `doctor` then looks at it too."
        );
    }
    Ok(all_well)
}

fn tool_findings(workspace: &Workspace) -> Vec<Finding> {
    vec![
        Finding { subject: "rust", outcome: rust(workspace) },
        Finding { subject: "node and npm", outcome: node() },
        Finding { subject: "pinned tools", outcome: javascript_tools(workspace) },
        Finding { subject: "worker-build", outcome: rust_tool(workspace, "worker-build", "worker-build") },
        Finding {
            subject: "wasm-bindgen",
            outcome: rust_tool(workspace, "wasm-bindgen-cli", "wasm-bindgen"),
        },
    ]
}

fn rust(workspace: &Workspace) -> Result<String> {
    let version = output_of(Command::new("rustc").arg("--version").current_dir(workspace.root()))
        .context("install Rust from https://rustup.rs")?;
    let pinned = std::fs::read_to_string(workspace.root().join("rust-toolchain.toml"))?;
    let number = version.split(' ').nth(1).unwrap_or_default();
    ensure!(
        pinned.contains(&format!("\"{number}\"")),
        "{} is not the pinned one: run `rustup show` in the checkout, which installs it",
        version.trim()
    );
    Ok(version.trim().to_owned())
}

fn node() -> Result<String> {
    let fix = "install Node 20 or later with npm (https://nodejs.org)";
    let version = output_of(Command::new("node").arg("--version")).context(fix)?;
    ensure!(find_program("npm").is_some(), "npm is missing: {fix}");
    let major: u32 = version.trim().trim_start_matches('v').split('.').next().unwrap_or_default().parse()?;
    ensure!(major >= NODE_MAJOR_MIN, "Node {} is too old: {fix}", version.trim());
    Ok(version.trim().to_owned())
}

fn javascript_tools(workspace: &Workspace) -> Result<String> {
    let tools = node_tools::installed(workspace)?
        .context("not installed for this lock file: run `cargo xtask setup`")?;
    Ok(format!("wrangler {}, Node {}", tools.wrangler_version()?, tools.node_version()?))
}

fn rust_tool(workspace: &Workspace, package: &str, program: &str) -> Result<String> {
    let lock = std::fs::read_to_string(workspace.root().join("Cargo.lock"))?;
    let version = if package == "worker-build" {
        WORKER_BUILD_VERSION.to_owned()
    } else {
        locked_version(&lock, program)
            .context("Cargo.lock does not name it: run `cargo generate-lockfile`")?
    };
    let path = rust_tools::tool_path(workspace.cache_dir(), package, program, &version);
    ensure!(path.is_file(), "{version} is not installed: run `cargo xtask setup`");
    Ok(version)
}

fn free_disk(workspace: &Workspace) -> Result<String> {
    let mut least = u64::MAX;
    for place in [workspace.root(), workspace.cache_dir()] {
        let existing = place.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
        let space = rustix::fs::statvfs(existing)
            .with_context(|| format!("{} cannot be asked", existing.display()))?;
        least = least.min(space.f_bavail.saturating_mul(space.f_frsize));
    }
    let gigabytes = least / 1_000_000_000;
    ensure!(least >= FREE_DISK_BYTES_MIN, "only {gigabytes} GB are free: `cargo clean` frees the most");
    Ok(format!("{gigabytes} GB"))
}

fn free_ports() -> Result<String> {
    let taken: Vec<String> = PortNumbers::FIXED
        .named()
        .into_iter()
        .filter(|(_, port)| !is_free(*port))
        .map(|(name, port)| format!("{port} ({name})"))
        .collect();
    ensure!(taken.is_empty(), "taken by other programs: {}. `ss -ltnp` names them", taken.join(", "));
    Ok("free".to_owned())
}

async fn system_findings(
    workspace: &Workspace,
    state_dir: &Path,
    record: &SystemRecord,
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (name, part) in status::of(state_dir).await?.parts {
        let outcome = if part.up {
            Ok("up".to_owned())
        } else {
            let log = state_dir.join("logs").join(format!("{name}.log"));
            Err(anyhow::anyhow!(
                "{}; see {}, then `cargo xtask down` and `cargo xtask dev`",
                part.problem.unwrap_or_default(),
                log.display()
            ))
        };
        findings.push(Finding { subject: subject_of(&name), outcome });
    }
    let url = &record.urls.database;
    findings.push(Finding { subject: "schema", outcome: schema(workspace, url).await });
    match database::connect(url).await {
        Ok(client) => {
            findings.push(Finding { subject: "postgres version", outcome: postgres_version(&client).await });
            findings.push(Finding { subject: "postgres clock", outcome: postgres_clock(&client).await });
        }
        Err(error) => findings.push(Finding { subject: "postgres version", outcome: Err(error) }),
    }
    findings.push(Finding { subject: "accounts", outcome: accounts(state_dir, record).await });
    let worker_clock = worker_clock(&record.urls.coordinator).await;
    findings.push(Finding { subject: "workers' clock", outcome: worker_clock });
    Ok(findings)
}

fn subject_of(part: &str) -> &'static str {
    match part {
        "coordinator" => "coordinator",
        "sync" => "sync worker",
        "webhook" => "webhook handler",
        "postgres" => "postgres",
        "pooler" => "pooler",
        _ => "keap simulator",
    }
}

async fn schema(workspace: &Workspace, url: &str) -> Result<String> {
    let migrations = migrate::status(workspace, url).await?;
    let missing: Vec<i64> = migrations.iter().filter(|one| !one.applied).map(|one| one.version).collect();
    ensure!(missing.is_empty(), "migrations {missing:?} are missing: run `cargo xtask migrate up`");
    let changed: Vec<i64> =
        migrations.iter().filter(|one| one.changed_since).map(|one| one.version).collect();
    ensure!(
        changed.is_empty(),
        "migrations {changed:?} were applied with another content: restore their files, and put changes into a new one"
    );
    Ok(format!("version {}", migrations.last().map_or(0, |one| one.version)))
}

async fn postgres_version(client: &Client) -> Result<String> {
    let version: String = client.query_one("show server_version", &[]).await?.get(0);
    let major: i32 = version.split(['.', ' ']).next().unwrap_or_default().parse()?;
    ensure!(POSTGRES_MAJORS.contains(&major), "{version} is not supported: use Postgres 15 to 17");
    Ok(version)
}

async fn postgres_clock(client: &Client) -> Result<String> {
    let seconds: i64 =
        client.query_one("select floor(extract(epoch from clock_timestamp()))::bigint", &[]).await?.get(0);
    clock_skew(seconds)
}

async fn accounts(state_dir: &Path, record: &SystemRecord) -> Result<String> {
    let secrets = Secrets::of(state_dir)?;
    let api = AdminApi::new(&record.urls.coordinator, &record.urls.sync, &secrets.admin_api_token)?;
    let url = format!("{}/accounts", record.urls.coordinator);
    let listed = api.call(reqwest::Method::GET, &url, None).await?;
    account_problems(listed.get("accounts").and_then(Value::as_array).context("/accounts lists nothing")?)
}

/// What is wrong with the connections, of all accounts as the coordinator lists them.
fn account_problems(accounts: &[Value]) -> Result<String> {
    let word = |account: &Value, name: &str| account.get(name).and_then(Value::as_str).map(str::to_owned);
    let with_state = |state: &str| -> Vec<String> {
        let with_it = accounts.iter().filter(|account| word(account, "state").as_deref() == Some(state));
        with_it.filter_map(|account| word(account, "account_id")).collect()
    };
    let lost = with_state("needs_reauthorization");
    ensure!(
        lost.is_empty(),
        "to be connected again: {}. `GET /oauth/status?keap_account_id=…` says why and how",
        lost.join(", ")
    );
    let connected = with_state("connected");
    let keys: BTreeSet<String> = accounts.iter().filter_map(|account| word(account, "sealed_with")).collect();
    let keys: Vec<String> = keys.into_iter().collect();
    Ok(match keys.as_slice() {
        [] => format!("{} connected", connected.len()),
        [key] => format!("{} connected, sealed with key {key}", connected.len()),
        _ => format!(
            "{} connected, sealed with keys {}: keep TOKEN_ENCRYPTION_KEY_PREVIOUS until one is left",
            connected.len(),
            keys.join(", ")
        ),
    })
}

async fn worker_clock(coordinator_url: &str) -> Result<String> {
    let response =
        http::client()?.get(format!("{coordinator_url}/health")).timeout(HEALTH_LIMIT).send().await.context(
            "it does not answer: see its log, and restart it with `cargo xtask down` and `cargo xtask dev`",
        )?;
    let body: serde_json::Value = response.json().await.context("the answer of /health is no JSON")?;
    let text = body.get("timestamp").and_then(serde_json::Value::as_str).context("/health gives no time")?;
    let time: jiff::Timestamp = text.parse().context("/health gives no RFC 3339 time")?;
    clock_skew(time.as_second())
}

fn clock_skew(other_seconds: i64) -> Result<String> {
    let skew = other_seconds - jiff::Timestamp::now().as_second();
    if skew.abs() > CLOCK_SKEW_SECONDS_MAX {
        bail!(
            "{skew} s away from this machine's clock: switch on time synchronisation (`timedatectl set-ntp true`)"
        );
    }
    Ok("agrees".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn accounts_that_lost_their_connection_are_a_problem() {
        let account = |name: &str, state: &str, key: &str| json!({"account_id": name, "state": state, "sealed_with": key});
        let well = [account("a", "connected", "k1"), account("b", "revoked", "k1")];
        assert_eq!(account_problems(&well).unwrap(), "1 connected, sealed with key k1");
        let changing = [account("a", "connected", "k1"), account("b", "connected", "k2")];
        assert!(account_problems(&changing).unwrap().contains("TOKEN_ENCRYPTION_KEY_PREVIOUS"));
        let lost = [account("a", "connected", "k1"), account("c", "needs_reauthorization", "k1")];
        assert!(account_problems(&lost).unwrap_err().to_string().contains("connected again: c"));
    }

    #[test]
    fn a_clock_that_is_minutes_away_is_a_problem() {
        let now = jiff::Timestamp::now().as_second();
        assert!(clock_skew(now).is_ok());
        assert!(clock_skew(now + 120).is_err());
        assert!(clock_skew(now - 120).is_err());
    }
}
