//! One tenant of the simulated Keap, by its control API: what a person in Keap does, and what Keap holds.

use anyhow::{Context as _, Result, bail};
use reqwest::{Client, Method};
use serde_json::{Value, json};

/// The seed of the generated contacts: every benchmark syncs the same ones.
const SEED: u64 = 7;

/// How much there is in Keap.
#[derive(Debug, Clone, Copy)]
pub struct Volume {
    /// Contacts.
    pub contacts: u32,
    /// Orders.
    pub orders: u32,
    /// Subscriptions.
    pub subscriptions: u32,
    /// Tags; 0 for those that every app has.
    pub tags: u32,
}

impl Volume {
    /// Contacts, and nothing sold to them.
    #[must_use]
    pub fn of_contacts(contacts: u32) -> Self {
        Self { contacts, orders: 0, subscriptions: 0, tags: 0 }
    }
}

/// One tenant.
#[derive(Debug, Clone)]
pub struct SimulatedKeap {
    http: Client,
    base: String,
}

impl SimulatedKeap {
    /// The tenant called `name` of the simulator at `origin`.
    #[must_use]
    pub fn new(http: Client, origin: &str, name: &str) -> Self {
        Self { http, base: format!("{origin}/sim/tenants/{name}") }
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.context("the simulator does not answer")?;
        let status = response.status();
        let text = response.text().await.context("the simulator broke off its answer")?;
        if !status.is_success() {
            bail!("the simulator answered {status} to {method} {path}: {text}");
        }
        if text.is_empty() { Ok(Value::Null) } else { serde_json::from_str(&text).context("no JSON") }
    }

    /// Replaces everything by generated records, without a hook.
    pub async fn seed(&self, volume: &Volume) -> Result<()> {
        let Volume { contacts, orders, subscriptions, tags } = volume;
        let body = json!({
            "contacts": contacts, "orders": orders, "subscriptions": subscriptions, "tags": tags, "seed": SEED,
        });
        self.call(Method::POST, "/seed", Some(&body)).await.map(drop)
    }

    /// How many calls of one operation there were.
    pub async fn calls_of(&self, operation: &str) -> Result<u64> {
        let report = self.report().await?;
        Ok(report.pointer(&format!("/calls/by_operation/{operation}")).and_then(Value::as_u64).unwrap_or(0))
    }

    /// Counts, hooks and calls.
    pub async fn report(&self) -> Result<Value> {
        self.call(Method::GET, "", None).await
    }

    /// How many contacts there are.
    pub async fn contacts(&self) -> Result<u64> {
        let report = self.report().await?;
        report.get("contacts").and_then(Value::as_u64).context("the simulator counts no contacts")
    }

    /// How many calls of the API there were.
    pub async fn calls(&self) -> Result<u64> {
        let report = self.report().await?;
        report.pointer("/calls/total").and_then(Value::as_u64).context("the simulator counts no calls")
    }

    /// Changes a contact as a person in Keap does.
    pub async fn edit(&self, id: &str, fields: &Value) -> Result<()> {
        self.call(Method::PATCH, &format!("/contacts/{id}"), Some(fields)).await.map(drop)
    }

    /// The whole contact.
    pub async fn contact(&self, id: &str) -> Result<Value> {
        self.call(Method::GET, &format!("/contacts/{id}"), None).await
    }

    /// Keap's own hooks get lost from now on: what is measured is delivered by the benchmark alone.
    pub async fn lose_hooks(&self) -> Result<()> {
        self.call(Method::POST, "/faults", Some(&json!({"kind": "hook_lost"}))).await.map(drop)
    }

    /// Every call of the API takes this much longer from now on.
    pub async fn slow_down(&self, milliseconds: u64) -> Result<()> {
        self.call(Method::POST, "/faults", Some(&json!({"kind": "latency", "ms": milliseconds})))
            .await
            .map(drop)
    }

    /// Ends all faults.
    pub async fn clear_faults(&self) -> Result<()> {
        self.call(Method::DELETE, "/faults", None).await.map(drop)
    }
}
