//! `cargo xtask send-hook`: a delivery as Keap makes it, to any deployment.
//!
//! Keap signs nothing: its deliveries carry their credential in the path. Proxies and tests may sign the body instead; this
//! sends either.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use keapsync_domain::ids::AccountId;
use keapsync_domain::secret::Secret;
use keapsync_platform::hook_auth::{self, SIGNATURE_HEADER};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::http;
use crate::secrets::Secrets;
use crate::system::{DEV_ACCOUNT, SystemRecord};

/// How long the handler may take; Keap itself waits 30 seconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// What `send-hook` is told on the command line.
#[derive(Debug, Clone, clap::Args)]
pub struct SendHookArguments {
    /// The webhook handler's address; that of the running system by default.
    #[arg(long)]
    pub url: Option<String>,
    /// The deployment's `KEAP_WEBHOOK_SECRET`; that of the running system by default.
    #[arg(long, env = "KEAP_WEBHOOK_SECRET", hide_env_values = true)]
    pub secret: Option<String>,
    /// Whose delivery it is.
    #[arg(long, default_value = DEV_ACCOUNT)]
    pub account: String,
    /// What happened.
    #[arg(long, default_value = "contact.edit")]
    pub event: String,
    /// The objects it happened to.
    #[arg(long = "id", required = true)]
    pub ids: Vec<String>,
    /// Sign the body instead of putting a token into the path.
    #[arg(long)]
    pub signed: bool,
}

/// Sends the delivery, prints the answer, and fails unless it was taken.
pub async fn run(state_dir: &Path, arguments: &SendHookArguments) -> Result<()> {
    let (url, secret) = target(state_dir, arguments)?;
    let body = delivery_body(&arguments.event, &arguments.ids).to_string();
    let client = http::client()?;
    let request = if arguments.signed {
        client
            .post(format!("{url}/webhook"))
            .header(SIGNATURE_HEADER, signature(&secret, body.as_bytes()))
            .header("X-Keap-Account", &arguments.account)
    } else {
        client.post(delivery_url(&url, &secret, &arguments.account)?)
    };
    let started = Instant::now();
    let response =
        request.header("Content-Type", "application/json").timeout(ANSWER_LIMIT).body(body).send().await;
    let response =
        response.with_context(|| format!("no answer from {url}: is the webhook handler running there?"))?;
    let status = response.status();
    let text = response.text().await.context("the answer broke off")?;
    println!("{status} in {:.1} ms: {text}", started.elapsed().as_secs_f64() * 1000.0);
    // Keap takes nothing else for success, so neither does this.
    if status != StatusCode::OK {
        bail!("the delivery was not taken: Keap would send it again");
    }
    Ok(())
}

fn target(state_dir: &Path, arguments: &SendHookArguments) -> Result<(String, String)> {
    let record = SystemRecord::read(state_dir)?;
    let url = arguments.url.clone().or_else(|| record.as_ref().map(|record| record.urls.webhook.clone()));
    let url = url.context("give --url, or start a local system with `cargo xtask dev --detach`")?;
    let url = url.trim_end_matches('/').to_owned();
    let is_local = record.is_some_and(|record| record.urls.webhook == url);
    let secret = match &arguments.secret {
        Some(secret) => secret.clone(),
        None if is_local => Secrets::of(state_dir)?.keap_webhook_secret,
        // Another deployment has another secret: a delivery with ours would only be refused.
        None => bail!("give --secret or set KEAP_WEBHOOK_SECRET to the deployment's secret"),
    };
    Ok((url, secret))
}

/// The address that is registered with Keap for an account.
pub fn delivery_url(webhook_url: &str, secret: &str, account: &str) -> Result<String> {
    let account = AccountId::parse(account).context("the account's name is wrong")?;
    Ok(format!("{webhook_url}{}", hook_auth::hook_path(&Secret::new(secret), &account)))
}

/// A body's signature, in hexadecimal.
#[must_use]
pub fn signature(secret: &str, body: &[u8]) -> String {
    hook_auth::signature(&Secret::new(secret), body)
}

/// A delivery in Keap's own form.
#[must_use]
pub fn delivery_body(event: &str, ids: &[String]) -> Value {
    let timestamp = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let keys: Vec<Value> =
        ids.iter().map(|id| json!({"id": id, "apiUrl": "", "timestamp": timestamp})).collect();
    let object_type = event.split_once('.').map_or(event, |(object_type, _)| object_type);
    json!({"event_key": event, "object_type": object_type, "object_keys": keys})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_hmac_sha256() {
        // The well-known example of the algorithm.
        let expected = "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8";
        assert_eq!(signature("key", b"The quick brown fox jumps over the lazy dog"), expected);
    }

    #[test]
    fn the_path_names_the_account_and_a_token_of_it() {
        let url = delivery_url("http://x", "secret", "demo").unwrap();
        let token = url.strip_prefix("http://x/webhook/demo/").unwrap();
        assert_eq!(token.len(), 43);
        assert_ne!(Some(token), delivery_url("http://x", "secret", "other").unwrap().rsplit('/').next());
    }

    #[test]
    fn a_delivery_names_what_happened_to_which_objects() {
        let body = delivery_body("contact.edit", &["1".to_owned(), "2".to_owned()]);
        assert_eq!(body["event_key"], "contact.edit");
        assert_eq!(body["object_type"], "contact");
        assert_eq!(body["object_keys"][1]["id"], "2");
    }
}
