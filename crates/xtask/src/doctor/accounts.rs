//! Each account as its object describes it: the connection, the hooks, what waits and for how long, what was given up, and the quota.

use anyhow::{Context, Result};
use reqwest::Method;
use serde_json::Value;

use super::{Finding, own_clock, seconds_of};
use crate::admin_api::AdminApi;
use crate::deployment::Deployment;

/// How long the oldest event or edit may wait, in seconds: as long as the watchdog lets anything stand.
const LAG_SECONDS_MAX: i64 = 300;

/// Failures in a row of a part of the work that are more than a passing trouble.
const FAILURES_MAX: u64 = 3;

/// Share of the day's calls below which the end of them is near, in percent.
const QUOTA_LEFT_PERCENT_MIN: i64 = 10;

/// Looks at one account, or at all of them.
pub(super) async fn findings(deployment: &Deployment, only: Option<&str>) -> Vec<Finding> {
    match statuses(deployment, only).await {
        Ok(statuses) if statuses.is_empty() => {
            vec![Finding::new("accounts", Ok("none is connected yet: POST /oauth/initiate connects one".to_owned()))]
        }
        Ok(statuses) => {
            let now = own_clock();
            statuses
                .into_iter()
                .flat_map(|(account, status)| match status {
                    Ok(status) => judge(&account, &status, now),
                    Err(error) => vec![Finding::new(format!("account {account}"), Err(error))],
                })
                .collect()
        }
        Err(error) => vec![Finding::new(
            "accounts",
            Err(error.context("the accounts cannot be listed: mend what is said of the coordinator and of the admin token first")),
        )],
    }
}

async fn statuses(deployment: &Deployment, only: Option<&str>) -> Result<Vec<(String, Result<Value>)>> {
    let api = AdminApi::new(&deployment.coordinator, &deployment.sync, &deployment.admin_token)?;
    let names = if let Some(account) = only {
        vec![account.to_owned()]
    } else {
        let listed = api.call(Method::GET, &format!("{}/accounts", deployment.coordinator), None).await?;
        let listed = listed.get("accounts").and_then(Value::as_array).context("/accounts lists nothing")?;
        // A revoked account was given up on purpose.
        let kept = listed.iter().filter(|entry| text(entry, "/state") != "revoked");
        kept.filter_map(|entry| Some(entry.get("account_id")?.as_str()?.to_owned())).collect()
    };
    let mut statuses = Vec::new();
    for name in names {
        let status = api.account_status(&name).await;
        statuses.push((name, status));
    }
    Ok(statuses)
}

/// Judges an account's status at a moment, in seconds since 1970. One finding for each thing that is wrong, or a single good one.
#[must_use]
pub fn judge(account: &str, status: &Value, now: i64) -> Vec<Finding> {
    let mut problems: Vec<(&str, String)> = Vec::new();
    connection(status, &mut problems);
    work(account, status, &mut problems);
    hooks(account, status, &mut problems);
    queues(account, status, now, &mut problems);
    quota(status, &mut problems);
    if problems.is_empty() {
        let open = number(status, "/events/open").unwrap_or(0) + number(status, "/outbox/open").unwrap_or(0);
        return vec![Finding::new(format!("account {account}"), Ok(format!("connected, {open} waiting")))];
    }
    problems
        .into_iter()
        .map(|(what, says)| Finding::problem(format!("account {account}: {what}"), says))
        .collect()
}

fn connection(status: &Value, problems: &mut Vec<(&str, String)>) {
    let state = text(status, "/token/state");
    if state != "connected" {
        let because = text(status, "/token/because");
        problems.push((
            "connection",
            format!(
                "is {state}{}{because}: connect it again (POST /oauth/initiate, then open its connect_url); what waits is kept",
                if because.is_empty() { "" } else { ", because " }
            ),
        ));
    }
    for warning in list(status, "/token/warnings") {
        problems.push(("token", text(warning, "/message").to_owned()));
    }
    if status.pointer("/token/sealed_with_present_key").and_then(Value::as_bool) == Some(false) {
        problems.push((
            "token",
            "is still sealed with the key before: keep TOKEN_ENCRYPTION_KEY_PREVIOUS for a day, until it has been stored anew".to_owned(),
        ));
    }
    for warning in list(status, "/warnings") {
        problems.push(("warning", text(warning, "/message").to_owned()));
    }
}

fn work(account: &str, status: &Value, problems: &mut Vec<(&str, String)>) {
    if status.get("paused").is_some_and(Value::is_object) {
        problems.push((
            "paused",
            format!(
                "somebody paused it at {}: POST /coordinator/{account}/resume lets it go on",
                text(status, "/paused/since")
            ),
        ));
    }
    for stall in list(status, "/stalled") {
        problems.push((
            "stalled",
            format!(
                "{} has stood still since {}: {}. `docs/operations.md` says what to do about a stuck account",
                text(stall, "/what"),
                text(stall, "/since"),
                text(stall, "/why")
            ),
        ));
    }
    let open: Vec<&str> = list(status, "/setup_open").iter().filter_map(Value::as_str).collect();
    if !open.is_empty() {
        problems.push((
            "set-up",
            format!("is not finished ({}): see the error of `setup` in status; POST /coordinator/{account}/wake tries again", open.join(", ")),
        ));
    }
    let parts = status.get("errors").and_then(Value::as_object);
    for (part, state) in parts.into_iter().flatten() {
        let failures = number(state, "/failures").unwrap_or(0).unsigned_abs();
        if failures >= FAILURES_MAX {
            let class = text(state, "/error/class");
            problems.push((
                "failing",
                format!(
                    "{part} failed {failures} times in a row ({class}: {}): {}",
                    text(state, "/error/message"),
                    advice(class)
                ),
            ));
        }
    }
    let stopped = list(status, "/runs").iter().filter(|run| text(run, "/state") == "awaiting_approval");
    for run in stopped {
        let id = text(run, "/id");
        problems.push((
            "run",
            format!(
                "{id} was stopped by the guard: look at GET /sync/runs/{id}/plan, then POST /sync/runs/{id}/approve or …/cancel"
            ),
        ));
    }
}

/// What to do about a class of errors.
fn advice(class: &str) -> &'static str {
    match class {
        "unauthorized" => "connect the account again",
        "rate_limited" => "wait for the quota, or lower other uses of the Keap application",
        "unavailable" => "see that Keap and the database are up; it is tried again by itself",
        _ => "look for the event part_failed in the coordinator's log, as docs/events.md says",
    }
}

fn hooks(account: &str, status: &Value, problems: &mut Vec<(&str, String)>) {
    if text(status, "/token/state") != "connected" {
        return;
    }
    let hooks = list(status, "/hooks");
    let ill: Vec<&str> = hooks
        .iter()
        .filter(|hook| text(hook, "/status") != "Verified")
        .map(|hook| text(hook, "/event_key"))
        .collect();
    if !ill.is_empty() {
        problems.push((
            "hooks",
            format!(
                "{} of {} are not verified ({}): see that WEBHOOK_PUBLIC_URL is the webhook handler's address, then POST \
                 /coordinator/{account}/hooks/check",
                ill.len(),
                hooks.len(),
                ill.join(", ")
            ),
        ));
    } else if hooks.is_empty() && list(status, "/setup_open").is_empty() {
        problems
            .push(("hooks", format!("there are none: POST /coordinator/{account}/hooks/check makes them")));
    }
}

fn queues(account: &str, status: &Value, now: i64, problems: &mut Vec<(&str, String)>) {
    let dead = number(status, "/events/dead").unwrap_or(0) + number(status, "/outbox/failed").unwrap_or(0);
    if dead > 0 {
        problems.push((
            "dead letters",
            format!(
                "{dead} were given up: GET /coordinator/{account}/dead-letters groups them with a fix for each; then POST …/dead-letters/replay"
            ),
        ));
    }
    if status.get("paused").is_some_and(Value::is_object) {
        // Waiting is what a pause is for.
        return;
    }
    for (what, oldest, fix) in [
        ("events' lag", "/events/oldest_at", "see the account's stalls and errors"),
        ("edits' lag", "/outbox/oldest_at", "see the account's stalls and errors, and its dead letters"),
    ] {
        let waited = seconds_of(text(status, oldest)).map(|since| now - since);
        if let Ok(waited) = waited
            && waited > LAG_SECONDS_MAX
        {
            problems.push((
                if what.starts_with("events") { "events' lag" } else { "edits' lag" },
                format!(
                    "the oldest has waited for {waited} s: {fix}, and docs/operations.md on a stuck account"
                ),
            ));
        }
    }
}

fn quota(status: &Value, problems: &mut Vec<(&str, String)>) {
    let (left, limit) = (number(status, "/quota/day/left"), number(status, "/quota/day/limit"));
    if let (Some(left), Some(limit)) = (left, limit)
        && left.saturating_mul(100) < limit.saturating_mul(QUOTA_LEFT_PERCENT_MIN)
    {
        problems.push((
            "quota",
            format!(
                "{left} of the day's {limit} calls are left: wait until they come back ({}), cancel full runs, or see what else uses this \
                 Keap application (docs/tokens.md)",
                text(status, "/quota/forecast/comes_back_at")
            ),
        ));
    }
    let throttled = text(status, "/quota/throttled_until");
    if !throttled.is_empty() {
        problems.push((
            "quota",
            format!(
                "Keap refuses calls until {throttled}: wait, and see what else uses this Keap application"
            ),
        ));
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, pointer: &str) -> Option<i64> {
    value.pointer(pointer).and_then(Value::as_i64)
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}
