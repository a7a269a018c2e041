//! One tenant of the simulated Keap: what a person in Keap does, what Keap holds, and what it was asked.

use anyhow::{Context as _, Result, ensure};
use reqwest::{Client, Method};
use serde_json::{Value, json};

/// A tenant of the simulator, by its control API.
#[derive(Clone, Debug)]
pub struct Tenant {
    http: Client,
    base: String,
}

impl Tenant {
    /// The tenant called `name` at the simulator at `origin`.
    #[must_use]
    pub fn new(http: Client, origin: &str, name: &str) -> Self {
        Self { http, base: format!("{origin}/sim/tenants/{name}") }
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let status = response.status();
        let text = response.text().await?;
        ensure!(status.is_success(), "the simulator answered {status} to {method} {path}: {text}");
        if text.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_str(&text)?) }
    }

    /// Fills the tenant with generated contacts.
    pub async fn seed(&self, contacts: u32) -> Result<()> {
        self.call(Method::POST, "/seed", Some(&json!({"contacts": contacts, "seed": 7}))).await.map(drop)
    }

    /// Makes a contact as a person in Keap does, and tells its id.
    pub async fn add(&self, fields: &Value) -> Result<String> {
        let made = self.call(Method::POST, "/contacts", Some(fields)).await?;
        made["id"].as_str().map(str::to_owned).context("the simulator told no id")
    }

    /// Changes a contact as a person in Keap does.
    pub async fn edit(&self, id: &str, fields: &Value) -> Result<()> {
        self.call(Method::PATCH, &format!("/contacts/{id}"), Some(fields)).await.map(drop)
    }

    /// Deletes a contact as a person in Keap does.
    pub async fn delete(&self, id: &str) -> Result<()> {
        self.call(Method::DELETE, &format!("/contacts/{id}"), None).await.map(drop)
    }

    /// The whole contact; `None` when there is none.
    pub async fn contact(&self, id: &str) -> Result<Option<Value>> {
        let response = self.http.get(format!("{}/contacts/{id}", self.base)).send().await?;
        if response.status() == 404 {
            return Ok(None);
        }
        Ok(Some(response.error_for_status()?.json().await?))
    }

    /// Counts: contacts, tags, hooks, calls, refreshes, deliveries.
    pub async fn counts(&self) -> Result<Value> {
        self.call(Method::GET, "", None).await
    }

    /// How many calls changed something.
    pub async fn writes(&self) -> Result<u64> {
        self.counts()
            .await?
            .pointer("/calls/writes")
            .and_then(Value::as_u64)
            .context("the simulator counts no writes")
    }

    /// Sets faults.
    pub async fn faults(&self, faults: &Value) -> Result<()> {
        self.call(Method::POST, "/faults", Some(faults)).await.map(drop)
    }

    /// Clears all faults.
    pub async fn clear_faults(&self) -> Result<()> {
        self.call(Method::DELETE, "/faults", None).await.map(drop)
    }

    /// Changes how long access tokens live, also of those that were granted before.
    pub async fn token_ttl(&self, seconds: u64) -> Result<()> {
        self.call(Method::POST, "/token-ttl", Some(&json!({"seconds": seconds}))).await.map(drop)
    }

    /// Kills all tokens.
    pub async fn revoke(&self) -> Result<()> {
        self.call(Method::POST, "/revoke", Some(&json!({}))).await.map(drop)
    }
}

/// The address in a slot (`EMAIL1`) of a contact as Keap holds it.
#[must_use]
pub fn email(contact: &Value, slot: &str) -> Option<String> {
    let items = contact["email_addresses"].as_array()?;
    let item = items.iter().find(|item| item["field"] == slot)?;
    item["email"].as_str().map(str::to_owned)
}
