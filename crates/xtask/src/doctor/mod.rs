//! `cargo xtask doctor`: looks at a set-up, a local or a deployed one, and names a fix for each thing that is wrong.
//!
//! It looks and changes nothing. What it sees is judged by functions of what was seen, apart from the seeing, so that every fault that
//! it knows is a test. A part that cannot be looked at is a finding of its own, and the others are looked at nevertheless.

mod accounts;
mod database;
mod settings;
mod tools;
pub(crate) mod workers;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::{Value, json};

use crate::deployment::{Deployment, DeploymentArguments, Variables};
use crate::progress::show;
use crate::status;
use crate::system::SystemRecord;
use crate::workspace::Workspace;

pub use accounts::judge as judge_account;
pub use database::{DatabaseFacts, EngineRole, judge as judge_database};
pub use settings::judge as judge_settings;

/// How far two clocks may be apart before signatures, tokens and cursors suffer, in seconds.
const CLOCK_SKEW_SECONDS_MAX: i64 = 5;

/// What `doctor` is told on the command line.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct DoctorArguments {
    /// The system.
    #[command(flatten)]
    pub deployment: DeploymentArguments,
    /// Look at this account only, not at all of them.
    #[arg(long)]
    pub account: Option<String>,
    /// The database to look at, directly or through a session pooler; by default `DATABASE_URL` of the environment file, where there is
    /// none of the shell, or the local system's.
    #[arg(long)]
    pub database_url: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at; the same for the same thing, so that scripts can rely on it.
    pub check: String,
    /// Whether it is well.
    pub ok: bool,
    /// What was found; of a problem also the fix.
    pub says: String,
}

impl Finding {
    /// From what a look gave.
    pub fn new(check: impl Into<String>, outcome: Result<String>) -> Self {
        match outcome {
            Ok(says) => Self { check: check.into(), ok: true, says },
            Err(error) => Self { check: check.into(), ok: false, says: format!("{error:#}") },
        }
    }

    /// A problem, with its fix.
    fn problem(check: impl Into<String>, says: impl Into<String>) -> Self {
        Self { check: check.into(), ok: false, says: says.into() }
    }
}

/// Looks at everything, prints what it finds, and gives whether all is well.
pub async fn run(workspace: &Workspace, arguments: &DoctorArguments) -> Result<bool> {
    let state_dir = workspace.dev_state_dir();
    let record = SystemRecord::read(&state_dir)?;
    let is_remote = arguments.deployment.is_remote();
    // A machine that only watches a deployment needs nothing to build or run one with.
    let mut findings = if is_remote { Vec::new() } else { tools::findings(workspace) };
    let nothing_runs = !is_remote && record.is_none();
    if nothing_runs {
        findings.push(Finding::new("ports", tools::free_ports()));
    } else {
        if !is_remote {
            findings.extend(local_parts(&state_dir).await?);
        }
        let variables = arguments.deployment.variables(workspace);
        let database_url = match (&arguments.database_url, &variables, record.filter(|_| !is_remote)) {
            (_, _, Some(record)) => Some(record.urls.database),
            (Some(url), _, None) => Some(url.clone()),
            (None, Ok(variables), None) => variables.get("DATABASE_URL").cloned(),
            (None, Err(_), None) => None,
        };
        match variables {
            Err(error) => findings.push(Finding::new("environment file", Err(error))),
            Ok(variables) => {
                // With addresses alone, what the workers are set to is theirs to say.
                if is_remote && variables.contains_key("KEAP_REDIRECT_URI") {
                    findings.extend(judge_settings(&variables));
                }
                match deployment(arguments, &state_dir, &variables) {
                    Ok(deployment) => {
                        let account = arguments.account.as_deref();
                        findings
                            .extend(look_at(workspace, &deployment, database_url.as_deref(), account).await);
                    }
                    Err(error) => findings.push(Finding::new("deployment", Err(error))),
                }
            }
        }
    }
    let all_well = findings.iter().all(|finding| finding.ok);
    if arguments.json {
        show(serde_json::to_string_pretty(&json!({"ok": all_well, "findings": findings}))?);
        return Ok(all_well);
    }
    for Finding { check, ok, says } in &findings {
        show(format!("{} {check:<26} {says}", if *ok { "ok     " } else { "problem" }));
    }
    if nothing_runs {
        show(
            "No local system is running; `cargo xtask dev` starts one and `doctor` then looks at it too. `--env staging` or \
             `--env production` looks at a deployed one.",
        );
    }
    Ok(all_well)
}

fn deployment(
    arguments: &DoctorArguments,
    state_dir: &std::path::Path,
    variables: &Variables,
) -> Result<Deployment> {
    arguments.deployment.deployment(state_dir, variables)
}

/// Looks at a running system: its workers, its database and its accounts.
pub async fn look_at(
    workspace: &Workspace,
    deployment: &Deployment,
    database_url: Option<&str>,
    account: Option<&str>,
) -> Vec<Finding> {
    let (mut findings, seen) = look_at_workers(deployment, account).await;
    findings.extend(database::findings(workspace, database_url, seen.as_ref()).await);
    findings
}

/// Looks at what the workers tell of themselves, their accounts and their database; gives the last as they said it, too.
pub async fn look_at_workers(
    deployment: &Deployment,
    account: Option<&str>,
) -> (Vec<Finding>, Option<Value>) {
    let mut findings = workers::findings(deployment).await;
    let seen = workers::database_of(deployment).await;
    let (outcome, seen) = match seen {
        Ok(seen) => (crate::smoke::judge_database(&seen), Some(seen)),
        Err(error) => (Err(error), None),
    };
    findings.push(Finding::new("workers' database", outcome));
    findings.extend(accounts::findings(deployment, account).await);
    (findings, seen)
}

/// The processes of the local system.
async fn local_parts(state_dir: &std::path::Path) -> Result<Vec<Finding>> {
    let parts = status::of(state_dir).await?.parts;
    Ok(parts
        .into_iter()
        .map(|(name, part)| {
            let log = state_dir.join("logs").join(format!("{name}.log"));
            let outcome = if part.up {
                Ok("up".to_owned())
            } else {
                Err(anyhow::anyhow!(
                    "{}; see {}, then `cargo xtask down` and `cargo xtask dev`",
                    part.problem.unwrap_or_default(),
                    log.display()
                ))
            };
            Finding::new(format!("process {name}"), outcome)
        })
        .collect())
}

/// Whether another clock agrees with this machine's; both in seconds since 1970.
fn clock_skew(other_seconds: i64, own_seconds: i64) -> Result<String> {
    let skew = other_seconds - own_seconds;
    if skew.abs() > CLOCK_SKEW_SECONDS_MAX {
        bail!(
            "{skew} s away from this machine's clock: switch on time synchronisation (`timedatectl set-ntp true`)"
        );
    }
    Ok("agrees".to_owned())
}

/// This machine's clock, in seconds since 1970.
fn own_clock() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// A moment of an answer, in seconds since 1970.
fn seconds_of(text: &str) -> Result<i64> {
    let time: jiff::Timestamp =
        text.parse().context("a time is not of RFC 3339: deploy all workers at one version")?;
    Ok(time.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_minutes_away_is_a_problem() {
        assert!(clock_skew(1_000, 1_004).is_ok());
        let ahead = clock_skew(1_120, 1_000).unwrap_err().to_string();
        assert!(ahead.contains("120 s") && ahead.contains("timedatectl"), "{ahead}");
        assert!(clock_skew(880, 1_000).is_err());
    }
}
