//! What the worker and the account's object say to each other about connecting.

use keapsync_domain::ids::AccountId;
use keapsync_domain::secret::Secret;
use keapsync_domain::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

/// `POST /oauth/initiate`: which account to connect. The same names the account in other OAuth calls.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AccountRequest {
    /// The account.
    pub keap_account_id: AccountId,
}

/// `POST /oauth/service-key`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServiceKeyRequest {
    /// The account.
    pub keap_account_id: AccountId,
    /// Keap's personal access token or service account key.
    pub service_key: Secret,
}

/// How to connect.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InitiateResponse {
    /// Keap's page; reached through `connect_url`.
    pub auth_url: String,
    /// What a person opens.
    pub connect_url: String,
    /// The account.
    pub keap_account_id: AccountId,
}

/// A ticket was presented.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OpenRequest {
    /// The ticket's secret part.
    pub ticket: String,
}

/// The ticket was good.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OpenResponse {
    /// Where to send the browser.
    pub auth_url: String,
    /// What its cookie is to hold.
    pub cookie: String,
}

/// Keap sent a browser back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CompleteRequest {
    /// The attempt.
    pub nonce: String,
    /// The browser's cookie.
    pub cookie: String,
    /// Keap's code.
    pub code: Secret,
}

/// `POST /coordinator/{account}/token`, between workers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenAnswer {
    /// The bearer token.
    pub access_token: Secret,
    /// When it dies; absent for service keys.
    pub expires_at: Option<Timestamp>,
    /// Its generation.
    pub generation: u64,
}

/// Which dead letters are meant.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LettersRequest {
    /// These.
    pub ids: Option<Vec<String>>,
    /// Those of one error class.
    pub cause: Option<String>,
    /// Those of one group: `inbound:invalid`.
    pub group: Option<String>,
    /// All.
    pub all: bool,
}
