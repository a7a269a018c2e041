//! The admin endpoints of a running system, as the commands call them.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::{Client, Method, Url};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http;

/// How long one call may take.
const CALL_LIMIT: Duration = Duration::from_mins(1);

/// Redirects between a connect link and the page that says it worked: the ticket, Keap, the callback, the page.
const REDIRECTS_MAX: usize = 8;

/// The admin endpoints of one system.
#[derive(Debug, Clone)]
pub struct AdminApi {
    client: Client,
    coordinator_url: String,
    sync_url: String,
    token: String,
}

/// A sync run as the sync worker reports it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Run {
    /// `queued`, `running`, `completed`, `failed` or `stopped`.
    pub state: String,
    /// What it did so far.
    pub counts: RunCounts,
    /// When it started, RFC 3339.
    pub started_at: Option<String>,
    /// When it ended, RFC 3339.
    pub finished_at: Option<String>,
    /// Why it failed or was stopped.
    pub error: Option<Value>,
}

/// What a run did to records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RunCounts {
    /// Records read from Keap.
    pub read: u64,
    /// Rows made.
    pub created: u64,
    /// Rows changed.
    pub updated: u64,
    /// Rows that agreed already.
    pub unchanged: u64,
    /// Rows marked as deleted.
    pub deleted: u64,
    /// Records that changed on both sides in a way that needs a decision.
    pub conflicts: u64,
    /// Records that could not be applied.
    pub rejected: u64,
}

impl Run {
    /// True once nothing more will happen.
    #[must_use]
    pub fn is_over(&self) -> bool {
        !matches!(self.state.as_str(), "queued" | "running")
    }
}

impl AdminApi {
    /// The admin endpoints at these addresses.
    pub fn new(coordinator_url: &str, sync_url: &str, token: &str) -> Result<Self> {
        Ok(Self {
            client: http::client()?,
            coordinator_url: coordinator_url.to_owned(),
            sync_url: sync_url.to_owned(),
            token: token.to_owned(),
        })
    }

    /// Begins to connect an account; gives the link that a person opens in a browser.
    pub async fn connect_link(&self, account: &str) -> Result<String> {
        let url = format!("{}/oauth/initiate", self.coordinator_url);
        let body = self.call(Method::POST, &url, Some(&json!({"keap_account_id": account}))).await?;
        let link = body.get("connect_url").and_then(Value::as_str);
        Ok(link.context("the coordinator's answer holds no connect_url")?.to_owned())
    }

    /// Connects an account as a person would in a browser, with the simulator approving at once.
    pub async fn connect_through_simulator(&self, account: &str) -> Result<()> {
        let browser = http::stepping_browser()?;
        let mut url: Url = self.connect_link(account).await?.parse().context("the connect link is no URL")?;
        for _ in 0..REDIRECTS_MAX {
            if url.path().ends_with("/oauth/authorize") {
                url.query_pairs_mut().append_pair("auto", "1");
            }
            let response = browser.get(url.clone()).timeout(CALL_LIMIT).send().await;
            let response = response.with_context(|| format!("no answer from {}", url.path()))?;
            let status = response.status();
            if status.is_redirection() {
                let location =
                    response.headers().get(reqwest::header::LOCATION).and_then(|value| value.to_str().ok());
                let location = location.context("a redirect names no place")?;
                url = url.join(location).context("a redirect's place is no URL")?;
            } else if status.is_success() {
                return Ok(());
            } else {
                bail!("{} answered {status}: {}", url.path(), response.text().await.unwrap_or_default());
            }
        }
        bail!("connecting went through more than {REDIRECTS_MAX} redirects without an end")
    }

    /// Whether an account holds working tokens.
    pub async fn is_connected(&self, account: &str) -> Result<bool> {
        let url = format!("{}/oauth/status?keap_account_id={account}", self.coordinator_url);
        let body = self.call(Method::GET, &url, None).await?;
        Ok(body.get("state").and_then(Value::as_str) == Some("connected"))
    }

    /// Starts a full sync; gives the run's id.
    pub async fn start_full_sync(&self, account: &str) -> Result<String> {
        let url = format!("{}/sync/full?account={account}", self.sync_url);
        let body = self.call(Method::POST, &url, None).await?;
        let run_id = body.get("run_id").and_then(Value::as_str);
        Ok(run_id.context("the sync worker's answer holds no run_id")?.to_owned())
    }

    /// Where a run stands.
    pub async fn run(&self, account: &str, run_id: &str) -> Result<Run> {
        let url = format!("{}/sync/runs/{run_id}?account={account}", self.sync_url);
        let body = self.call(Method::GET, &url, None).await?;
        serde_json::from_value(body).context("the sync worker's answer is no run")
    }

    /// What the account's object says of itself.
    pub async fn account_status(&self, account: &str) -> Result<Value> {
        self.call(Method::GET, &format!("{}/coordinator/{account}/status", self.coordinator_url), None).await
    }

    /// A page of the account's live feed: what follows `since`, or the oldest that is kept.
    pub async fn live_page(&self, account: &str, since: Option<u64>, limit: u32) -> Result<Value> {
        let since = since.map(|since| format!("&since={since}")).unwrap_or_default();
        let url = format!("{}/coordinator/{account}/live?limit={limit}{since}", self.coordinator_url);
        self.call(Method::GET, &url, None).await
    }

    /// Calls an endpoint and reads its JSON.
    pub async fn call(&self, method: Method, url: &str, body: Option<&Value>) -> Result<Value> {
        let mut request = self.client.request(method, url).bearer_auth(&self.token).timeout(CALL_LIMIT);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.with_context(|| format!("{url} does not answer"))?;
        let status = response.status();
        let text = response.text().await.with_context(|| format!("{url} broke off its answer"))?;
        if !status.is_success() {
            bail!("{url} answered {status}: {text}");
        }
        serde_json::from_str(&text).with_context(|| format!("{url} answered with something that is no JSON"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_read_with_the_counts_it_has() {
        let run: Run = serde_json::from_value(json!({
            "id": "r", "kind": "full", "state": "running", "counts": {"read": 7, "created": 5}, "started_at": "2026-01-01T00:00:00Z"
        }))
        .unwrap();
        assert_eq!((run.counts.read, run.counts.created, run.counts.rejected), (7, 5, 0));
        assert!(!run.is_over());
        assert!(Run { state: "stopped".to_owned(), ..run }.is_over());
    }
}
