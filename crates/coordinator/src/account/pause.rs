//! Pause and resume: while an account is paused, nothing is fetched from Keap or written to it, and no row changes.
//!
//! Intake goes on, so that nothing is lost: deliveries are stored, edits are captured, runs that are asked for wait. So does what
//! keeps that possible: the token is refreshed, and the hooks are looked at. What is under way when the pause begins ends within
//! the budget of one unit.

use super::{Account, time_now};
use crate::storage::values;
use keapsync_domain::failure::Failure;
use keapsync_domain::feed::FeedEvent;
use keapsync_domain::run::RunState;
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::catch_up::Reason;
use keapsync_platform::respond::Answer;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Longest name or reason, in characters.
const TEXT_LENGTH_MAX: usize = 200;

/// A pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pause {
    /// When it began.
    pub since: Timestamp,
    /// Who asked for it, in the asker's own words.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
}

/// `POST …/pause`; the body may be empty.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PauseRequest {
    by: Option<String>,
    reason: Option<String>,
}

impl PauseRequest {
    fn parse(body: &[u8]) -> Option<Self> {
        let request: Self =
            if body.trim_ascii().is_empty() { Self::default() } else { serde_json::from_slice(body).ok()? };
        let is_fit = |text: &Option<String>| {
            text.as_ref().is_none_or(|text| {
                text.chars().count() <= TEXT_LENGTH_MAX && !text.chars().any(char::is_control)
            })
        };
        (is_fit(&request.by) && is_fit(&request.reason)).then_some(request)
    }
}

impl Account<'_> {
    /// The pause, while there is one.
    pub(super) fn pause_state(&self) -> Result<Option<Pause>, Failure> {
        Ok(self.sql().get::<Option<Pause>>(values::PAUSE)?.flatten())
    }

    /// Whether the account is paused.
    pub(super) fn is_paused(&self) -> Result<bool, Failure> {
        Ok(self.pause_state()?.is_some())
    }

    /// Pauses. A pause that there is stays as it is.
    pub(super) fn pause(&self, body: &[u8]) -> Result<Answer, Failure> {
        let Some(request) = PauseRequest::parse(body) else {
            return Ok(Answer::bad_request(
                "give nothing, or {\"by\": \"…\", \"reason\": \"…\"} of up to 200 printable characters each",
            ));
        };
        if self.pause_state()?.is_none() {
            let by = request.by.unwrap_or_else(|| "an admin".to_owned());
            self.sql().put(values::PAUSE, &Some(Pause { since: time_now(), by, reason: request.reason }))?;
            self.log().info("account_paused").account(self.id).emit();
            self.tell(FeedEvent::Paused);
        }
        Ok(Answer::json(200, &super::times::shown(&json!({"paused": self.pause_status()?}))))
    }

    /// Resumes: what waits is worked off, and what changed meanwhile is read.
    pub(super) async fn resume(&self) -> Result<Answer, Failure> {
        let now = time_now();
        let pause = self.pause_state()?;
        if let Some(pause) = &pause {
            self.sql().put(values::PAUSE, &None::<Pause>)?;
            self.owe_all(Reason::Pause, pause.since, now)?;
            self.retry_all_parts()?;
            self.retry_runs()?;
            self.wake_outbox();
            let line = self.log().info("account_resumed").account(self.id);
            line.duration_ms(now.since_ms(pause.since)).emit();
            self.tell(FeedEvent::Resumed);
            self.object.arm(now).await;
        }
        let paused_since = pause.map(|pause| pause.since.to_rfc3339());
        Ok(Answer::json(200, &json!({"resumed": paused_since.is_some(), "paused_since": paused_since})))
    }

    /// The pause as status shows it.
    pub(super) fn pause_status(&self) -> Result<Option<Value>, Failure> {
        let Some(pause) = self.pause_state()? else { return Ok(None) };
        let active = self.sql().active_runs()?;
        let now = time_now();
        // Reports take their leases away; one that is lost ends by itself.
        let ending =
            active.iter().filter(|tracked| tracked.run.leased_until.is_some_and(|until| until > now));
        let waiting = active.iter().filter(|tracked| tracked.run.state == RunState::Queued);
        Ok(Some(json!({
            "since": pause.since,
            "by": pause.by,
            "reason": pause.reason,
            "units_ending": ending.count(),
            "runs_waiting": waiting.count(),
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_needs_no_reason_but_takes_one() {
        assert!(PauseRequest::parse(b"").is_some() && PauseRequest::parse(b" {} ").is_some());
        let request = PauseRequest::parse(br#"{"by":"Ann","reason":"moving tags"}"#).unwrap();
        assert_eq!((request.by.as_deref(), request.reason.as_deref()), (Some("Ann"), Some("moving tags")));
        for odd in [
            r#"{"who":"Ann"}"#.to_owned(),
            "\"paused\"".to_owned(),
            r#"{"by":"a\nb"}"#.to_owned(),
            format!(r#"{{"reason":"{}"}}"#, "x".repeat(201)),
        ] {
            assert!(PauseRequest::parse(odd.as_bytes()).is_none(), "{odd}");
        }
    }
}
