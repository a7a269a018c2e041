//! `cargo xtask status`: where a local system answers, and which of its parts are up.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

use crate::database;
use crate::http;
use crate::pooler;
use crate::secrets::Secrets;
use crate::system::{DEV_ACCOUNT, KEAP_PART, POOLER_PART, POSTGRES_PART, SystemRecord};
use crate::worker_build::Worker;

/// How long a part may take to answer before it counts as down.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// What `status --json` prints; scripts rely on its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SystemStatus {
    /// The database as a person: its edits are captured and flow to Keap.
    pub database_url: Option<String>,
    /// The base of Keap's API, ending in `/crm`.
    pub keap_url: Option<String>,
    /// A key for that API, apart from the one that the workers use.
    pub keap_access_token: Option<String>,
    /// The coordinator worker.
    pub coordinator_url: Option<String>,
    /// The sync worker.
    pub sync_url: Option<String>,
    /// The webhook handler.
    pub webhook_url: Option<String>,
    /// What admin endpoints want as a bearer token.
    pub admin_api_token: Option<String>,
    /// The connected account.
    pub account_id: Option<String>,
    /// Whether each part is up.
    pub parts: BTreeMap<String, PartStatus>,
    /// Whether all parts are up.
    pub up: bool,
}

/// One part of the system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartStatus {
    /// Whether it answers, and says that it is well.
    pub up: bool,
    /// What it said otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl PartStatus {
    fn of(outcome: Result<()>) -> Self {
        match outcome {
            Ok(()) => Self { up: true, problem: None },
            Err(error) => Self { up: false, problem: Some(format!("{error:#}")) },
        }
    }
}

/// Asks every part of the system that a state directory records.
pub async fn of(state_dir: &Path) -> Result<SystemStatus> {
    let Some(record) = SystemRecord::read(state_dir)? else { return Ok(SystemStatus::nothing_runs()) };
    let secrets = Secrets::of(state_dir)?;
    let parts = part_statuses(&record).await;
    let urls = record.urls;
    let keap_access_token = if record.keap_is_simulated { keap_key(&urls.keap).await.ok() } else { None };
    Ok(SystemStatus {
        database_url: Some(urls.database),
        keap_url: Some(urls.keap_api),
        keap_access_token,
        coordinator_url: Some(urls.coordinator),
        sync_url: Some(urls.sync),
        webhook_url: Some(urls.webhook),
        admin_api_token: Some(secrets.admin_api_token),
        account_id: Some(DEV_ACCOUNT.to_owned()),
        up: parts.values().all(|part| part.up),
        parts,
    })
}

impl SystemStatus {
    fn nothing_runs() -> Self {
        let down = PartStatus { up: false, problem: None };
        let names = Worker::ALL.map(Worker::name).into_iter().chain([POSTGRES_PART, KEAP_PART]);
        Self {
            database_url: None,
            keap_url: None,
            keap_access_token: None,
            coordinator_url: None,
            sync_url: None,
            webhook_url: None,
            admin_api_token: None,
            account_id: None,
            parts: names.map(|name| (name.to_owned(), down.clone())).collect(),
            up: false,
        }
    }

    /// The status for people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut lines: Vec<String> = self
            .parts
            .iter()
            .map(|(name, part)| {
                let state = if part.up { "up" } else { "down" };
                format!("{name:<16}{state:<6}{}", part.problem.as_deref().unwrap_or_default())
                    .trim_end()
                    .to_owned()
            })
            .collect();
        let named = [
            ("coordinator", &self.coordinator_url),
            ("sync", &self.sync_url),
            ("webhook", &self.webhook_url),
            ("keap", &self.keap_url),
            ("database", &self.database_url),
            ("admin token", &self.admin_api_token),
            ("account", &self.account_id),
        ];
        lines.push(String::new());
        lines.extend(
            named.iter().filter_map(|(name, value)| value.as_ref().map(|value| format!("{name:<16}{value}"))),
        );
        if !self.up {
            lines.push("\nStart it with `cargo xtask dev`.".to_owned());
        }
        lines.join("\n")
    }
}

async fn part_statuses(record: &SystemRecord) -> BTreeMap<String, PartStatus> {
    let mut parts = BTreeMap::new();
    let urls = &record.urls;
    for (worker, url) in [
        (Worker::Coordinator, &urls.coordinator),
        (Worker::Webhook, &urls.webhook),
        (Worker::Sync, &urls.sync),
    ] {
        let outcome = answers(&format!("{url}/health")).await;
        parts.insert(worker.name().to_owned(), PartStatus::of(outcome));
    }
    let database = tokio::time::timeout(ANSWER_LIMIT, database::connect(&urls.database)).await;
    let database = database.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer"))).map(drop);
    parts.insert(POSTGRES_PART.to_owned(), PartStatus::of(database));
    if let Some(console) = &urls.pooler_console {
        let answer = tokio::time::timeout(ANSWER_LIMIT, pooler::console(console)).await;
        let answer = answer.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer"))).map(drop);
        parts.insert(POOLER_PART.to_owned(), PartStatus::of(answer));
    }
    if record.keap_is_simulated {
        let outcome = answers(&format!("{}/sim/health", urls.keap)).await;
        parts.insert(KEAP_PART.to_owned(), PartStatus::of(outcome));
    }
    parts
}

async fn answers(url: &str) -> Result<()> {
    let response = http::client()?.get(url).timeout(ANSWER_LIMIT).send().await?;
    let status = response.status();
    anyhow::ensure!(status.is_success(), "{status}: {}", response.text().await.unwrap_or_default());
    Ok(())
}

/// A service key of the simulator's demo tenant.
pub async fn keap_key(keap_url: &str) -> Result<String> {
    let response = http::client()?
        .post(format!("{keap_url}/sim/tenants/{DEV_ACCOUNT}/service-keys"))
        .timeout(ANSWER_LIMIT)
        .json(&serde_json::json!({}))
        .send()
        .await?
        .error_for_status()?;
    let body: Value = response.json().await?;
    let key = body.get("key").and_then(Value::as_str).context("the simulator's answer holds no key")?;
    Ok(key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_has_the_names_that_scripts_rely_on() {
        let status = serde_json::to_value(SystemStatus::nothing_runs()).unwrap();
        let names: Vec<&str> = status.as_object().unwrap().keys().map(String::as_str).collect();
        for name in [
            "database_url",
            "keap_url",
            "keap_access_token",
            "coordinator_url",
            "sync_url",
            "webhook_url",
            "admin_api_token",
            "account_id",
        ] {
            assert!(names.contains(&name), "{name} is missing");
        }
        for part in ["coordinator", "webhook", "sync", POSTGRES_PART, KEAP_PART] {
            assert_eq!(status["parts"][part]["up"], false, "{part}");
        }
    }

    #[test]
    fn the_table_shows_what_is_wrong_with_a_part() {
        let mut status = SystemStatus::nothing_runs();
        status.parts.insert(
            "sync".to_owned(),
            PartStatus { up: false, problem: Some("connection refused".to_owned()) },
        );
        assert!(status.table().contains("connection refused"));
    }
}
