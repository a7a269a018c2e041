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

    /// Does what a person in Keap does at a path of the tenant; `None` when what the path names is not there (any more).
    pub async fn person(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Option<Value>> {
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let status = response.status();
        let text = response.text().await?;
        if status == 404 {
            return Ok(None);
        }
        ensure!(status.is_success(), "the simulator answered {status} to {method} {path}: {text}");
        Ok(Some(if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? }))
    }

    /// Keeps every write of the API from now on.
    pub async fn keep_writes(&self) -> Result<()> {
        self.call(Method::POST, "/writes", None).await.map(drop)
    }

    /// The writes that were kept, in the order in which they took effect.
    pub async fn kept_writes(&self) -> Result<Vec<Value>> {
        let mut all: Vec<Value> = Vec::new();
        loop {
            let after = all.last().and_then(|write| write["seq"].as_u64()).unwrap_or_default();
            let listed = self.call(Method::GET, &format!("/writes?after_seq={after}"), None).await?;
            let Some(page) = listed["writes"].as_array().filter(|page| !page.is_empty()) else {
                return Ok(all);
            };
            all.extend(page.iter().cloned());
        }
    }

    /// Every record of a kind (`contacts`, `orders`…) as Keap holds it, whole.
    pub async fn all(&self, kind: &str) -> Result<Vec<Value>> {
        let mut all: Vec<Value> = Vec::new();
        let mut after: u64 = 0;
        loop {
            let page = self.call(Method::GET, &format!("/{kind}?limit=1000&after_id={after}"), None).await?;
            all.extend(page[kind].as_array().cloned().unwrap_or_default());
            match page["next_after_id"].as_u64() {
                Some(next) => after = next,
                None => return Ok(all),
            }
        }
    }

    /// The id of a text field among the tenant's custom fields of a kind (`contacts`, `orders`, `subscriptions`).
    pub async fn text_field(&self, kind: &str) -> Result<String> {
        let key = self.call(Method::POST, "/service-keys", None).await?;
        let key = key["key"].as_str().context("the simulator gave no service key")?;
        let origin = self.base.split("/sim/").next().unwrap_or_default();
        let request = self.http.get(format!("{origin}/crm/rest/v2/{kind}/model")).bearer_auth(key);
        let model: Value = request.send().await?.error_for_status()?.json().await?;
        let fields = model["custom_fields"].as_array().cloned().unwrap_or_default();
        let field = fields.iter().find(|field| {
            field["field_type"] == "TEXT"
                && !field["label"].as_str().unwrap_or_default().starts_with("keapsync")
        });
        field
            .and_then(|field| field["id"].as_str())
            .map(str::to_owned)
            .with_context(|| format!("the model of {kind} has no text field: {model}"))
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

    /// Makes the subscriptions to an event, or all, Inactive, as Keap does after deliveries that failed too often. Says how many.
    pub async fn deactivate_hooks(&self, event_key: Option<&str>) -> Result<u64> {
        self.end_hooks(&json!({"event_key": event_key})).await
    }

    /// Takes the subscriptions to an event, or all, away. Says how many.
    pub async fn forget_hooks(&self, event_key: Option<&str>) -> Result<u64> {
        self.end_hooks(&json!({"event_key": event_key, "forget": true})).await
    }

    async fn end_hooks(&self, which: &Value) -> Result<u64> {
        let ended = self.call(Method::POST, "/hooks/deactivate", Some(which)).await?;
        ended["hooks"].as_u64().context("the simulator told no number")
    }

    /// The subscriptions as Keap lists them.
    pub async fn hooks(&self) -> Result<Vec<Value>> {
        Ok(self.counts().await?["hooks"].as_array().cloned().unwrap_or_default())
    }

    /// Subscribes an address to an event as another client of Keap's API does.
    pub async fn subscribe(&self, event_key: &str, hook_url: &str) -> Result<Value> {
        let key = self.call(Method::POST, "/service-keys", None).await?;
        let key = key["key"].as_str().context("the simulator gave no service key")?;
        let origin = self.base.split("/sim/").next().unwrap_or_default();
        let request = self
            .http
            .post(format!("{origin}/crm/rest/v1/hooks"))
            .bearer_auth(key)
            .json(&json!({"eventKey": event_key, "hookUrl": hook_url}));
        Ok(request.send().await?.error_for_status()?.json().await?)
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
