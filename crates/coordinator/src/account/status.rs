//! What the account's object says of itself. No secrets, no personal data.

use super::setup::{Step, connection_word};
use super::times::shown;
use super::{Account, time_now};
use crate::registry;
use crate::storage::values;
use keapsync_domain::failure::Failure;
use keapsync_domain::run::RunKind;
use keapsync_engine::token::{Cause, ConnectionState, CredentialKind};
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
        let mut runs: Vec<_> =
            self.sql().list_runs(RUNS_SHOWN_MAX)?.into_iter().map(|tracked| tracked.run).collect();
        let watermarks: serde_json::Map<String, Value> = self
            .watermarks()?
            .into_iter()
            .map(|(entity, at)| (entity.as_str().to_owned(), at.to_rfc3339().into()))
            .collect();
        let quota = match self.credential_at_hand() {
            Ok(credential) => self.quota(&credential).view().await.ok().flatten(),
            Err(_) => None,
        };
        if let Some(quota) = &quota {
            // A run's own word for its end knows nothing of a day's calls that run out before.
            let full = runs.iter_mut().filter(|run| run.kind == RunKind::Full && run.finished_at.is_none());
            for progress in full.filter_map(|run| run.progress.as_mut()) {
                progress.done_at = progress.done_at.map(|at| quota.forecast.backfill_done_at(at));
            }
        }
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
                    "held": events.held,
                    "dead": events.dead,
                    "oldest_at": events.oldest_at,
                    "not_synced": self.sql().not_synced_counts()?,
                },
                "outbox": outbox,
                "runs": runs,
                "watermarks": watermarks,
                "paused": self.pause_status()?,
                "stalled": self.stalls()?,
                "guard": self.guard_status()?,
                "hooks": self.hooks_status()?,
                "hook_watch": self.hook_watch_status()?,
                "link_fields": self.link_fields()?,
                "setup_open": self.setup()?.open,
                "warnings": self.warnings().await,
                "quota": quota,
                "errors": self.parts()?,
                "feed": self.object.feed.extent()?,
                "settings": self.settings()?,
            })),
        ))
    }

    /// What is amiss with the account as a whole.
    async fn warnings(&self) -> Vec<Value> {
        let mut warnings = self.twins().await;
        for held in self.guard_status().unwrap_or_default() {
            let mut warning = json!({"code": "blast_guard"});
            if let (Some(warning), Value::Object(held)) = (warning.as_object_mut(), held) {
                warning.extend(held);
            }
            warnings.push(warning);
        }
        warnings
    }

    /// Other accounts of the same Keap application.
    async fn twins(&self) -> Vec<Value> {
        let Ok(Some(application)) = self.application_name() else { return Vec::new() };
        let Ok(accounts) = registry::list(&self.object.env).await else { return Vec::new() };
        let twins = registry::twins(&accounts, self.id, &application);
        if twins.is_empty() {
            return Vec::new();
        }
        vec![json!({
            "code": "keap_application_connected_twice",
            "message": "the same Keap application is connected under other names too: they share its quota, and a change made through one comes to the others as one made in Keap. Keep one, and revoke the others with POST /oauth/revoke",
            "accounts": twins,
        })]
    }

    /// The credential's state, without the credential.
    pub(super) fn token_status(&self) -> Value {
        let (key, is_present) = self.sealing_key().ok().flatten().unzip();
        match self.load_token() {
            Ok(token) => shown(&json!({
                "keap_account_id": self.id,
                "state": connection_word(token.state),
                "because": token.cause.map(Cause::as_str),
                "connect": (token.state != ConnectionState::Connected).then(|| self.way_to_connect()),
                "warnings": token.warnings(time_now()),
                "kind": match token.kind { CredentialKind::OAuth => "oauth", CredentialKind::ServiceKey => "service_key" },
                "application": self.application_name().ok().flatten(),
                "generation": token.generation,
                "expires_at": token.expires_at,
                "refreshed_at": token.refreshed_at,
                "next_refresh_at": token.next_refresh_at(),
                "refresh_token_expires_at": token.refresh_token_expires_at(),
                "sealed_with": key,
                "sealed_with_present_key": is_present,
                "error": token.error,
            })),
            Err(failure) => json!({
                "keap_account_id": self.id,
                "state": "needs_reauthorization",
                "because": "unreadable",
                "application": self.application_name().ok().flatten(),
                "connect": self.way_to_connect(),
                "sealed_with": key,
                "sealed_with_present_key": is_present,
                "error": failure,
            }),
        }
    }

    /// What to do about an account that is not connected. Events and edits wait meanwhile.
    fn way_to_connect(&self) -> Value {
        json!({
            "message": "send this request with the admin token and open the connect_url that it answers with; events and edits wait meanwhile, and nothing is lost",
            "method": "POST",
            "url": format!("{}/oauth/initiate", self.own_origin()),
            "body": {"keap_account_id": self.id},
        })
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
