//! The system under test, and the ways into it.

use anyhow::{Context as _, Result, ensure};
use keapsync_xtask::system::{System, SystemOptions};
use reqwest::{Client, Method, StatusCode, redirect::Policy};
use serde_json::Value;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::{Mutex, RwLock};

/// A running system.
pub struct Stage {
    /// The processes.
    pub system: Mutex<System>,
    /// Held for writing by a test that takes a part of the system down, for reading by all others.
    pub turn: RwLock<()>,
    /// No redirects, no cookies: what a test sends is what is sent.
    pub http: Client,
    /// Addresses and secrets.
    pub access: Access,
    next: AtomicU32,
    paused: Mutex<HashSet<String>>,
}

/// Addresses and secrets of a running system.
#[derive(Clone, Debug)]
pub struct Access {
    /// `http://127.0.0.1:…` of the coordinator.
    pub coordinator: String,
    /// Of the sync worker.
    pub sync: String,
    /// Of the webhook handler.
    pub webhook: String,
    /// Of the simulator, without `/crm`.
    pub keap: String,
    /// The database, as its owner: a person, to the capture trigger.
    pub database: String,
    /// `ADMIN_API_TOKEN`.
    pub admin_token: String,
    /// `INTERNAL_TOKEN`.
    pub internal_token: String,
    /// `WAKE_TOKEN`.
    pub wake_token: String,
    /// `KEAP_WEBHOOK_SECRET`.
    pub webhook_secret: String,
    /// Where the processes log, for a person who looks for the cause of a failure.
    pub logs: String,
}

impl Access {
    /// Of a running system.
    #[must_use]
    pub fn of(system: &System) -> Self {
        let (urls, secrets) = (system.urls(), system.secrets());
        Self {
            coordinator: urls.coordinator.clone(),
            sync: urls.sync.clone(),
            webhook: urls.webhook.clone(),
            keap: urls.keap.clone(),
            database: urls.database.clone(),
            admin_token: secrets.admin_api_token.clone(),
            internal_token: secrets.internal_token.clone(),
            wake_token: secrets.wake_token.clone(),
            webhook_secret: secrets.keap_webhook_secret.clone(),
            logs: system.logs_dir().display().to_string(),
        }
    }
}

/// An answer with its body.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// Headers.
    pub headers: reqwest::header::HeaderMap,
    /// Body as text.
    pub text: String,
}

impl Answer {
    /// Body as JSON; `Null` when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }
}

impl Stage {
    /// Wraps a running system.
    pub fn new(system: System, access: Access) -> Result<Self> {
        let http = Client::builder().redirect(Policy::none()).timeout(crate::wait::PATIENCE).build()?;
        Ok(Self {
            system: Mutex::new(system),
            turn: RwLock::new(()),
            http,
            access,
            next: AtomicU32::new(1),
            paused: Mutex::default(),
        })
    }

    /// Starts a system, and stops it again whatever came of what was done with it.
    pub async fn with_its_own<T>(
        options: SystemOptions,
        act: impl AsyncFnOnce(&Self) -> Result<T>,
    ) -> Result<T> {
        let system = System::start(options).await?;
        let access = Access::of(&system);
        let stage = Self::new(system, access)?;
        let outcome = act(&stage).await;
        stage.system.lock().await.stop().await?;
        outcome.with_context(|| format!("logs of the system: {}", stage.access.logs))
    }

    /// A name that no other test has.
    pub fn fresh_name(&self, about: &str) -> String {
        format!("{about}-{}", self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Pauses the accounts of the tests before: each looks for edits every second, and when a worker or Postgres comes back all
    /// of them want it at once.
    pub async fn pause_the_others(&self) -> Result<()> {
        let listed = self.admin(Method::GET, &format!("{}/accounts", self.access.coordinator), None).await?;
        let listed = listed.json();
        let connected = listed["accounts"].as_array().into_iter().flatten();
        let connected = connected.filter(|account| account["state"] == "connected");
        let mut paused = self.paused.lock().await;
        for account in connected.filter_map(|account| account["account_id"].as_str()) {
            if paused.insert(account.to_owned()) {
                let url = format!("{}/coordinator/{account}/pause", self.access.coordinator);
                let answer = self.admin(Method::POST, &url, None).await?;
                ensure!(answer.status == 200, "{account} was not paused: {} {}", answer.status, answer.text);
            }
        }
        Ok(())
    }

    /// Sends a request with the admin's token.
    pub async fn admin(&self, method: Method, url: &str, body: Option<&Value>) -> Result<Answer> {
        let mut request = self.http.request(method, url).bearer_auth(&self.access.admin_token);
        if let Some(body) = body {
            request = request.json(body);
        }
        read(request).await.with_context(|| url.to_owned())
    }

    /// Sends a request without any token.
    pub async fn anonymous(&self, method: Method, url: &str) -> Result<Answer> {
        read(self.http.request(method, url)).await
    }
}

/// Sends a request and reads its answer.
pub async fn read(request: reqwest::RequestBuilder) -> Result<Answer> {
    let response = request.send().await?;
    Ok(Answer {
        status: response.status(),
        headers: response.headers().clone(),
        text: response.text().await?,
    })
}
