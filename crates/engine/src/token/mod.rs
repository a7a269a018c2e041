//! The life of an account's credential: when it is usable, when to refresh it, and what a refresh's answer means.
//!
//! Invariants. A grant makes a new generation; an answer to a question asked in an older generation changes nothing. A
//! refresh token is used once: the caller persists that an attempt begins before it asks Keap, and the state that
//! [`TokenState::settle_refresh`] returns before it does anything else with it; [`refresh::refresh`] is that order of things.
//! An outage never disconnects an account, nor does a wrong client secret: only Keap's refusal of the refresh token does.
//!
//! Nothing in this file asks Keap or stores anything.

pub mod refresh;
#[cfg(test)]
mod tests;
mod warning;

pub use warning::TokenWarning;

use keapsync_domain::application::KeapApplication;
use keapsync_domain::backoff::delay_ms;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::secret::Secret;
use keapsync_domain::timestamp::Timestamp;
use keapsync_keap::oauth::TokenResponse;
use serde::{Deserialize, Serialize};

/// The part of its granted life after which an access token is replaced, in eighths: Keap's live 24 hours and are replaced
/// after 21, so three hours are left to get through an outage.
pub const REFRESH_AFTER_EIGHTHS: i64 = 7;

/// Shortest age at which an access token is replaced because of its age, in milliseconds: one that Keap grants for next to no
/// time must not lead to one refresh after the other.
const REFRESH_AGE_MIN_MS: i64 = 1_000;

/// How long a refresh token lives that nobody uses, in milliseconds: 45 days, says Keap.
pub const REFRESH_TOKEN_LIFE_MS: i64 = 45 * 86_400_000;

/// Longest wait between two attempts to refresh, in milliseconds: the end of an outage should be noticed soon.
const REFRESH_RETRY_MAX_MS: i64 = 60_000;

/// Shortest age at which an access token that Keap refuses is replaced early, in milliseconds. A refusal that a fresh token
/// does not cure has another cause, so each such replacement makes the next wait four times as long, up to an hour.
const REJECTION_INTERVAL_MS: i64 = 2_000;
const REJECTION_INTERVAL_MAX_MS: i64 = 3_600_000;

/// Where an account's connection stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionState {
    /// There is a credential.
    Connected,
    /// Keap refused to refresh it: somebody must connect again.
    NeedsReauthorization,
    /// It was given up on purpose.
    Revoked,
    /// There never was one.
    #[default]
    Disconnected,
}

/// What kind of credential it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialKind {
    /// OAuth: an access token and the refresh token for the next one.
    #[default]
    OAuth,
    /// A personal access token or service account key: valid until it is withdrawn in Keap.
    ServiceKey,
}

/// Why somebody must connect the account again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Keap refused the refresh token, and nothing explains it but that access was withdrawn there.
    Withdrawn,
    /// Keap refused the refresh token after an attempt whose answer never came: that attempt used the token up, and the new
    /// one got lost with the answer.
    AnswerLost,
    /// The refresh token was not used for as long as it lives.
    Unused,
    /// Keap refused the service key.
    KeyRefused,
    /// The credential turned out to be of another Keap application than the account's records.
    OtherApplication,
}

impl Cause {
    /// The name in status and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Withdrawn => "withdrawn",
            Self::AnswerLost => "answer_lost",
            Self::Unused => "unused",
            Self::KeyRefused => "key_refused",
            Self::OtherApplication => "other_application",
        }
    }

    /// What happened and what to do.
    fn advice(self) -> &'static str {
        match self {
            Self::Withdrawn => {
                "Keap refused to renew the account's access, as it does when the access was withdrawn there: connect the account again"
            }
            Self::AnswerLost => {
                "Keap's answer to an earlier renewal of the account's access got lost, and with it the new token: connect the account again"
            }
            Self::Unused => {
                "the account's access was not renewed for 45 days, which ended it: connect the account again"
            }
            Self::KeyRefused => {
                "Keap no longer accepts the account's service key: connect the account again, with a new key or by OAuth"
            }
            Self::OtherApplication => {
                "Keap's access is now of another Keap application than this account's records, so it was given up: connect the account again to its own application, and the other one under another account name"
            }
        }
    }
}

/// An account's credential and what is known of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenState {
    /// Where the connection stands.
    pub state: ConnectionState,
    /// What kind of credential it is.
    pub kind: CredentialKind,
    /// For calls; absent while not connected.
    pub access_token: Option<Secret>,
    /// For the next refresh, once; absent for service keys.
    pub refresh_token: Option<Secret>,
    /// When the access token dies; absent for service keys.
    pub expires_at: Option<Timestamp>,
    /// When the credential was granted last.
    pub refreshed_at: Option<Timestamp>,
    /// Raised by every grant, connection and revocation.
    pub generation: u64,
    /// Keap's scope, which names the Keap application (`full|app.infusionsoft.com`).
    pub scope: Option<String>,
    /// Refreshes that failed since the last grant.
    pub attempts: u32,
    /// No refresh before this moment.
    pub retry_at: Option<Timestamp>,
    /// When Keap refused the access token although it should be valid; cleared by a grant.
    pub rejected_at: Option<Timestamp>,
    /// Early replacements, one after the other, that such refusals led to.
    pub rejections: u32,
    /// What went wrong last; cleared by a grant.
    pub error: Option<Failure>,
    /// Attempts with the refresh token at hand of which nobody knows whether Keap carried them out, the one under way among
    /// them. Written before an attempt, so that it outlives the death of whoever made it.
    pub unanswered: u32,
    /// Why somebody must connect again, while somebody must.
    pub cause: Option<Cause>,
}

/// What to do about the credential now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Use it as it is.
    Use,
    /// Refresh it first; when that fails for an outage, it may still be usable.
    Refresh,
    /// It cannot be used now.
    Refuse(Failure),
}

impl TokenState {
    /// The state after a person connected the account by OAuth.
    #[must_use]
    pub fn connected(&self, grant: TokenResponse, now: Timestamp) -> Self {
        Self {
            state: ConnectionState::Connected,
            kind: CredentialKind::OAuth,
            access_token: Some(grant.access_token),
            refresh_token: Some(grant.refresh_token),
            expires_at: Some(now.plus_ms(grant.expires_in.max(0).saturating_mul(1000))),
            refreshed_at: Some(now),
            generation: self.generation + 1,
            scope: grant.scope,
            ..Self::default()
        }
    }

    /// The state after the account was connected with a service key.
    #[must_use]
    pub fn connected_by_key(&self, key: Secret, now: Timestamp) -> Self {
        Self {
            state: ConnectionState::Connected,
            kind: CredentialKind::ServiceKey,
            access_token: Some(key),
            refreshed_at: Some(now),
            generation: self.generation + 1,
            scope: self.scope.clone(),
            ..Self::default()
        }
    }

    /// The state after the connection was given up: no secret is kept, but which Keap application it was, so that the rows of
    /// one are never mixed with another's.
    #[must_use]
    pub fn revoked(&self) -> Self {
        Self {
            state: ConnectionState::Revoked,
            kind: self.kind,
            generation: self.generation + 1,
            scope: self.scope.clone(),
            ..Self::default()
        }
    }

    /// Whether a call may be made with the access token.
    #[must_use]
    pub fn is_usable(&self, now: Timestamp) -> bool {
        self.state == ConnectionState::Connected
            && self.access_token.is_some()
            && self.expires_at.is_none_or(|expires_at| now < expires_at)
    }

    /// When the next refresh is to be made, waits after failures included; `None` when there is nothing to refresh.
    #[must_use]
    pub fn next_refresh_at(&self) -> Option<Timestamp> {
        if self.state != ConnectionState::Connected || self.refresh_token.is_none() {
            return None;
        }
        let (refreshed_at, expires_at) = (self.refreshed_at?, self.expires_at?);
        let age_ms = expires_at.since_ms(refreshed_at) / 8 * REFRESH_AFTER_EIGHTHS;
        let due_at = refreshed_at.plus_ms(age_ms.max(REFRESH_AGE_MIN_MS));
        let due_at = self.rejected_at.map_or(due_at, |rejected_at| due_at.min(rejected_at));
        Some(self.retry_at.map_or(due_at, |retry_at| due_at.max(retry_at)))
    }

    /// Whether the next refresh is to be made now.
    #[must_use]
    pub fn is_refresh_due(&self, now: Timestamp) -> bool {
        self.next_refresh_at().is_some_and(|due_at| due_at <= now)
    }

    /// What to do before a call.
    #[must_use]
    pub fn decide(&self, now: Timestamp) -> Decision {
        match self.state {
            ConnectionState::Connected => {}
            ConnectionState::NeedsReauthorization => {
                return refuse(self.cause.unwrap_or(Cause::Withdrawn).advice());
            }
            ConnectionState::Revoked | ConnectionState::Disconnected => {
                return refuse("the account is not connected to Keap: connect it with POST /oauth/initiate");
            }
        }
        if self.is_refresh_due(now) {
            return Decision::Refresh;
        }
        if self.is_usable(now) {
            return Decision::Use;
        }
        let wait_ms = self.next_refresh_at().map_or(0, |due_at| due_at.since_ms(now).max(0));
        Decision::Refuse(
            Failure::new(
                FailureClass::Unavailable,
                "the access token has expired and Keap's token endpoint does not answer; it is asked again soon",
            )
            .with_retry_after_ms(Some(wait_ms)),
        )
    }

    /// When the refresh token dies unless it is used before.
    #[must_use]
    pub fn refresh_token_expires_at(&self) -> Option<Timestamp> {
        self.refresh_token.as_ref()?;
        self.refreshed_at.map(|at| at.plus_ms(REFRESH_TOKEN_LIFE_MS))
    }

    /// The state to be written before Keap is asked to refresh.
    #[must_use]
    pub fn refresh_begun(&self) -> Self {
        Self { unanswered: self.unanswered.saturating_add(1), ..self.clone() }
    }

    /// The state after a refresh that was begun in `generation`. An answer that comes too late changes nothing.
    #[must_use]
    pub fn settle_refresh(
        &self,
        generation: u64,
        answer: Result<TokenResponse, Failure>,
        now: Timestamp,
        entropy: u32,
    ) -> Self {
        if generation != self.generation || self.state != ConnectionState::Connected {
            return self.clone();
        }
        match answer {
            Ok(grant) if is_of_another(self.scope.as_deref(), grant.scope.as_deref()) => {
                self.given_up(Cause::OtherApplication)
            }
            Ok(grant) => {
                let scope = grant.scope.clone().or_else(|| self.scope.clone());
                let rejections = if self.rejected_at.is_some() { self.rejections } else { 0 };
                Self { scope, rejections, ..self.connected(grant, now) }
            }
            Err(failure) if failure.class == FailureClass::Unauthorized => {
                let is_past_life = self.refresh_token_expires_at().is_some_and(|end| end <= now);
                self.given_up(match self.unanswered {
                    _ if is_past_life => Cause::Unused,
                    0 | 1 => Cause::Withdrawn,
                    _ => Cause::AnswerLost,
                })
            }
            Err(failure) => {
                let attempts = self.attempts.saturating_add(1);
                let wait_ms = delay_ms(attempts, entropy, REFRESH_RETRY_MAX_MS, failure.retry_after_ms);
                // These answers say that nothing was done; after any other the token may have been used up.
                let is_known = matches!(failure.class, FailureClass::RateLimited | FailureClass::Invalid);
                Self {
                    attempts,
                    retry_at: Some(now.plus_ms(wait_ms)),
                    error: Some(failure),
                    unanswered: self.unanswered.saturating_sub(u32::from(is_known)),
                    ..self.clone()
                }
            }
        }
    }

    /// When the service key is to be tried, because Keap refused a call with it; `None` when nothing is in doubt.
    #[must_use]
    pub fn key_check_at(&self) -> Option<Timestamp> {
        let is_key = self.state == ConnectionState::Connected && self.kind == CredentialKind::ServiceKey;
        if is_key { self.rejected_at } else { None }
    }

    /// The state after Keap was asked about nothing but the service key of `generation`.
    #[must_use]
    pub fn service_key_checked(&self, generation: u64, answer: &Result<(), Failure>) -> Self {
        if generation != self.generation || self.key_check_at().is_none() {
            return self.clone();
        }
        match answer {
            Ok(()) => Self { rejected_at: None, ..self.clone() },
            Err(failure) if failure.class == FailureClass::Unauthorized => self.given_up(Cause::KeyRefused),
            Err(_) => self.clone(),
        }
    }

    /// The state after an answer to a call in `generation` came from another Keap application than the account's.
    #[must_use]
    pub fn other_application_met(&self, generation: u64) -> Self {
        let is_current = generation == self.generation && self.state == ConnectionState::Connected;
        if is_current { self.given_up(Cause::OtherApplication) } else { self.clone() }
    }

    /// Only a person can go on from here. No secret is kept.
    fn given_up(&self, cause: Cause) -> Self {
        Self {
            state: ConnectionState::NeedsReauthorization,
            access_token: None,
            refresh_token: None,
            cause: Some(cause),
            error: Some(Failure::new(FailureClass::Unauthorized, cause.advice())),
            retry_at: None,
            rejected_at: None,
            ..self.clone()
        }
    }

    /// The state after Keap refused the access token in `generation`: it is refreshed at once, or the service key tried,
    /// unless it is fresh.
    #[must_use]
    pub fn access_token_rejected(&self, generation: u64, now: Timestamp) -> Self {
        let interval_ms =
            (REJECTION_INTERVAL_MS << (2 * self.rejections.min(8))).min(REJECTION_INTERVAL_MAX_MS);
        let is_fresh = self.refreshed_at.is_some_and(|at| now.since_ms(at) < interval_ms);
        let is_noted = self.rejected_at.is_some() || generation != self.generation;
        // One that was given up already is not tried again.
        if is_noted || is_fresh || self.state != ConnectionState::Connected {
            return self.clone();
        }
        Self { rejected_at: Some(now), rejections: self.rejections.saturating_add(1), ..self.clone() }
    }
}

/// Whether two scopes name different applications.
fn is_of_another(known: Option<&str>, granted: Option<&str>) -> bool {
    KeapApplication::of_scope(known).is_same(&KeapApplication::of_scope(granted)) == Some(false)
}

fn refuse(message: &str) -> Decision {
    Decision::Refuse(Failure::new(FailureClass::Unauthorized, message))
}
