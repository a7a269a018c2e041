//! The alarm's parts, each with its own wait and last error: a failure in one does not stop the others.

use keapsync_domain::backoff::delay_ms;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::feed::{FeedError, FeedEvent};
use keapsync_domain::retry::OUTAGE_DELAY_MAX_MS;
use keapsync_domain::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the alarm does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Keeps the credential fresh.
    Token,
    /// Does what has to be done once after connecting.
    Setup,
    /// Looks at the subscriptions to hooks.
    Hooks,
    /// Drains hook events.
    Events,
    /// Drains the outbox.
    Outbox,
    /// Orders units of runs.
    Runs,
    /// Mirrors runs to Postgres.
    Mirror,
}

impl Part {
    /// The name in logs and in status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Setup => "setup",
            Self::Hooks => "hooks",
            Self::Events => "events",
            Self::Outbox => "outbox",
            Self::Runs => "runs",
            Self::Mirror => "mirror",
        }
    }
}

/// How a part fares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartState {
    /// Failures since it last succeeded.
    pub failures: u32,
    /// It is not tried before this moment.
    pub retry_at: Option<Timestamp>,
    /// What went wrong last; kept after a success.
    pub error: Option<Failure>,
    /// When.
    pub failed_at: Option<Timestamp>,
}

/// All parts that ever failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Parts(pub BTreeMap<Part, PartState>);

impl Parts {
    /// When the part may run; `None` when at once.
    #[must_use]
    pub fn retry_at(&self, part: Part) -> Option<Timestamp> {
        self.0.get(&part).and_then(|state| state.retry_at)
    }

    /// Whether the part may run now.
    #[must_use]
    pub fn is_due(&self, part: Part, now: Timestamp) -> bool {
        self.retry_at(part).is_none_or(|retry_at| retry_at <= now)
    }

    /// Notes how the part ended. A wait for quota is no failure: only the wait is noted.
    pub fn note(&mut self, part: Part, outcome: &Result<(), Failure>, now: Timestamp, entropy: u32) {
        match outcome {
            Ok(()) => {
                if let Some(state) = self.0.get_mut(&part) {
                    state.failures = 0;
                    state.retry_at = None;
                }
            }
            Err(failure) => {
                let state = self.0.entry(part).or_default();
                if let Some(wait_ms) = wait_ms(failure) {
                    state.retry_at = Some(now.plus_ms(wait_ms));
                    return;
                }
                state.failures = state.failures.saturating_add(1);
                let delay_ms = delay_ms(state.failures, entropy, OUTAGE_DELAY_MAX_MS, failure.retry_after_ms);
                state.retry_at = Some(now.plus_ms(delay_ms));
                state.error = Some(failure.clone());
                state.failed_at = Some(now);
            }
        }
    }

    /// What is told of a part since it was `before`: that it fails, once per cause, and that it works again.
    #[must_use]
    pub fn told_since(&self, before: &Self, part: Part) -> Vec<FeedEvent> {
        let failing = |parts: &Self| parts.0.get(&part).filter(|state| state.failures > 0).cloned();
        let class = |state: &PartState| state.error.as_ref().map(|error| error.class);
        let (was, is) = (failing(before), failing(self));
        let event = match (was, is) {
            (Some(_), None) => Some(FeedEvent::PartRecovered { part: part.as_str().to_owned() }),
            (was, Some(is)) if was.as_ref().and_then(class) != class(&is) => {
                is.error.map(|failure| FeedEvent::PartFailed {
                    part: part.as_str().to_owned(),
                    error: FeedError { class: failure.class, message: failure.message },
                    retry_at: is.retry_at,
                })
            }
            _ => None,
        };
        event.into_iter().collect()
    }

    /// Lets every part run at once: something changed that may end its failures.
    pub fn retry_all(&mut self) {
        for state in self.0.values_mut() {
            state.failures = 0;
            state.retry_at = None;
        }
    }
}

/// The wait that a full quota asks for; `None` for a true failure.
#[must_use]
pub fn wait_ms(failure: &Failure) -> Option<i64> {
    failure
        .retry_after_ms
        .filter(|_| failure.class == FailureClass::RateLimited)
        .map(|wait_ms| wait_ms.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_waits_by_itself_and_remembers_its_last_error() {
        let mut parts = Parts::default();
        let now = Timestamp(0);
        parts.note(Part::Events, &Err(Failure::new(FailureClass::Unavailable, "away")), now, 1023);
        assert!(!parts.is_due(Part::Events, Timestamp(999)) && parts.is_due(Part::Events, Timestamp(1_000)));
        assert!(parts.is_due(Part::Outbox, now));
        for _ in 0..40 {
            parts.note(Part::Events, &Err(Failure::new(FailureClass::Unavailable, "away")), now, 1023);
        }
        assert_eq!(parts.retry_at(Part::Events), Some(Timestamp(OUTAGE_DELAY_MAX_MS)));
        parts.note(Part::Events, &Ok(()), now, 0);
        assert!(parts.is_due(Part::Events, now));
        assert!(parts.0[&Part::Events].error.is_some());
    }

    #[test]
    fn a_wait_for_quota_is_as_long_as_told() {
        let mut parts = Parts::default();
        let wait = Failure::new(FailureClass::RateLimited, "quota").with_retry_after_ms(Some(40));
        for _ in 0..10 {
            parts.note(Part::Runs, &Err(wait.clone()), Timestamp(0), 1023);
        }
        assert_eq!(parts.retry_at(Part::Runs), Some(Timestamp(40)));
        assert_eq!(parts.0[&Part::Runs].failures, 0);
        assert!(parts.0[&Part::Runs].error.is_none());
    }

    #[test]
    fn a_failure_is_told_once_per_cause_and_so_is_its_end() {
        let (mut parts, mut told) = (Parts::default(), Vec::new());
        let away = || Err(Failure::new(FailureClass::Unavailable, "away"));
        let refused = || Err(Failure::new(FailureClass::Unauthorized, "refused"));
        for outcome in [Ok(()), away(), away(), refused(), refused(), Ok(()), Ok(()), away()] {
            let before = parts.clone();
            parts.note(Part::Events, &outcome, Timestamp(0), 0);
            told.extend(parts.told_since(&before, Part::Events));
        }
        let words: Vec<&str> = told
            .iter()
            .map(|event| match event {
                FeedEvent::PartFailed { error, .. } => error.message.as_str(),
                FeedEvent::PartRecovered { .. } => "recovered",
                _ => "other",
            })
            .collect();
        assert_eq!(words, ["away", "refused", "recovered", "away"]);
    }

    #[test]
    fn names_survive_json() {
        let mut parts = Parts::default();
        parts.note(Part::Setup, &Err(Failure::new(FailureClass::Invalid, "x")), Timestamp(0), 0);
        let text = serde_json::to_string(&parts).unwrap();
        assert!(text.contains("\"setup\""));
        assert_eq!(serde_json::from_str::<Parts>(&text).unwrap(), parts);
    }
}
