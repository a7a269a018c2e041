//! REST hook subscriptions (API v1; v2 has none).
//!
//! Creating or verifying one makes Keap call the hook's address while our request is still in flight, so the webhook
//! handler must be up before.

use crate::failure::{check, malformed};
use crate::query::Url;
use crate::transport::{Body, Credential, Method, Request, Response, Transport};
use keapsync_domain::failure::Failure;
use keapsync_domain::secret::Secret;
use serde::{Deserialize, Serialize};

/// A subscription to one event key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestHook {
    /// Keap's id of the subscription.
    pub key: String,
    /// `contact.edit` and the like.
    #[serde(rename = "eventKey")]
    pub event_key: String,
    /// Where deliveries go.
    #[serde(rename = "hookUrl")]
    pub hook_url: String,
    /// `Unverified`, `Verified` or `Inactive`.
    pub status: String,
}

/// Calls to the hooks API.
pub struct HooksApi<'a, T: Transport> {
    /// Carries the requests.
    pub transport: &'a T,
    /// `https://api.infusionsoft.com/crm`, or the simulator's.
    pub base_url: &'a str,
    /// Bearer token.
    pub access_token: &'a Secret,
}

impl<T: Transport> HooksApi<'_, T> {
    async fn call(&self, method: Method, path: &str, body: Body, what: &str) -> Result<Response, Failure> {
        let request = Request {
            method,
            url: Url::new(self.base_url, path).build(),
            credential: Credential::Bearer(self.access_token.clone()),
            body,
        };
        check(self.transport.send(request).await?, what)
    }

    /// Event keys that Keap offers.
    pub async fn event_keys(&self) -> Result<Vec<String>, Failure> {
        let what = "a list of event keys";
        let response = self.call(Method::Get, "/rest/v1/hooks/event_keys", Body::Empty, what).await?;
        serde_json::from_slice(&response.body).map_err(|error| malformed(what, &error))
    }

    /// Subscriptions that exist.
    pub async fn list(&self) -> Result<Vec<RestHook>, Failure> {
        let what = "a list of hooks";
        let response = self.call(Method::Get, "/rest/v1/hooks", Body::Empty, what).await?;
        serde_json::from_slice(&response.body).map_err(|error| malformed(what, &error))
    }

    /// Subscribes `hook_url` to an event key.
    pub async fn create(&self, event_key: &str, hook_url: &str) -> Result<RestHook, Failure> {
        let what = "a new hook";
        let body = serde_json::json!({"eventKey": event_key, "hookUrl": hook_url}).to_string();
        let response = self.call(Method::Post, "/rest/v1/hooks", Body::Json(body), what).await?;
        serde_json::from_slice(&response.body).map_err(|error| malformed(what, &error))
    }

    /// Asks Keap to verify a subscription again, which also wakes an inactive one.
    pub async fn verify(&self, key: &str) -> Result<RestHook, Failure> {
        let what = "the verification of a hook";
        let path = format!("/rest/v1/hooks/{key}/verify");
        let response = self.call(Method::Post, &path, Body::Empty, what).await?;
        serde_json::from_slice(&response.body).map_err(|error| malformed(what, &error))
    }

    /// Ends a subscription.
    pub async fn delete(&self, key: &str) -> Result<(), Failure> {
        let path = format!("/rest/v1/hooks/{key}");
        self.call(Method::Delete, &path, Body::Empty, "the end of a hook").await.map(|_| ())
    }
}
