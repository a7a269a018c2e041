//! What the account's object says of itself. No secrets, no personal data.

use super::setup::{Step, connection_word};
use super::times::shown;
use super::{Account, time_now};
use crate::storage::values;
use keapsync_domain::failure::Failure;
use keapsync_engine::token::CredentialKind;
use keapsync_platform::respond::Answer;
use serde_json::{Value, json};

/// Runs shown in status.
const RUNS_SHOWN_MAX: i64 = 10;

impl Account<'_> {
    /// The whole status.
    pub(super) async fn status(&self) -> Result<Answer, Failure> {
        if !self.is_known()? {
            return Err(self.unknown());
        }
        let now = time_now();
        let events = self.sql().event_depth()?;
        let seen = self.object.outbox.get();
        let runs: Vec<_> =
            self.sql().list_runs(RUNS_SHOWN_MAX)?.into_iter().map(|tracked| tracked.run).collect();
        let watermarks: serde_json::Map<String, Value> = self
            .watermarks()?
            .into_iter()
            .map(|(entity, at)| (entity.as_str().to_owned(), at.to_rfc3339().into()))
            .collect();
        let quota = match self.credential_at_hand() {
            Ok(credential) => self.quota(&credential).left().await.ok(),
            Err(_) => None,
        };
        let outbox = seen.depth.map(|depth| {
            json!({"open": depth.open, "failed": depth.failed, "oldest_at": depth.oldest_at, "looked_at": seen.looked_at})
        });
        Ok(Answer::json(
            200,
            &shown(&json!({
                "account_id": self.id,
                "at": now,
                "token": self.token_status(),
                "events": {
                    "open": events.open,
                    "dead": events.dead,
                    "oldest_at": events.oldest_at,
                    "not_synced": self.sql().not_synced_counts()?,
                },
                "outbox": outbox,
                "runs": runs,
                "watermarks": watermarks,
                "paused": self.pause_status()?,
                "stalled": self.stalls()?,
                "hooks": self.hooks_status()?,
                "hook_watch": self.hook_watch_status()?,
                "link_fields": self.link_fields()?,
                "setup_open": self.setup()?.open,
                "quota_left": quota,
                "errors": self.parts()?,
                "feed": self.object.feed.extent()?,
                "settings": self.settings()?,
            })),
        ))
    }

    /// The credential's state, without the credential.
    pub(super) fn token_status(&self) -> Value {
        match self.load_token() {
            Ok(token) => shown(&json!({
                "keap_account_id": self.id,
                "state": connection_word(token.state),
                "kind": match token.kind { CredentialKind::OAuth => "oauth", CredentialKind::ServiceKey => "service_key" },
                "application": token.scope.as_deref().map(application_of),
                "generation": token.generation,
                "expires_at": token.expires_at,
                "refreshed_at": token.refreshed_at,
                "next_refresh_at": token.next_refresh_at(),
                "error": token.error,
            })),
            Err(failure) => {
                json!({"keap_account_id": self.id, "state": "needs_reauthorization", "error": failure})
            }
        }
    }

    /// The credential's state, for `GET /oauth/status`.
    pub(super) fn oauth_status(&self) -> Result<Answer, Failure> {
        if self.is_known()? { Ok(Answer::json(200, &self.token_status())) } else { Err(self.unknown()) }
    }

    /// The settings.
    pub(super) fn show_settings(&self) -> Result<Answer, Failure> {
        Ok(Answer::json(200, &self.settings()?))
    }

    /// Changes the settings that are given; the others stay.
    pub(super) async fn change_settings(&self, body: &[u8]) -> Result<Answer, Failure> {
        let settings = match self.settings()?.changed(body) {
            Ok(settings) => settings,
            Err(error) => return Ok(Answer::bad_request(&error.to_string())),
        };
        self.sql().put(values::SETTINGS, &settings)?;
        self.reopen(&[Step::Registry, Step::AccountRow])?;
        self.object.arm(time_now()).await;
        Ok(Answer::json(200, &settings))
    }
}

/// `full|app.infusionsoft.com` names the application after the bar.
fn application_of(scope: &str) -> &str {
    scope.split_once('|').map_or(scope, |(_, application)| application)
}
