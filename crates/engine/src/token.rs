//! The life of an account's credential: when it is usable, when to refresh it, and what a refresh's answer means.
//!
//! Invariants. A grant makes a new generation; an answer to a question asked in an older generation changes nothing. A
//! refresh token is used once: the caller persists the state that [`TokenState::settle_refresh`] returns before it does
//! anything else with it. An outage never disconnects an account: only Keap's refusal of the refresh token does.
//!
//! Nothing here asks Keap or stores anything; the caller holds the lock that makes a refresh single.

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
            ..Self::default()
        }
    }

    /// The state after the connection was given up: no secret is kept.
    #[must_use]
    pub fn revoked(&self) -> Self {
        Self {
            state: ConnectionState::Revoked,
            kind: self.kind,
            generation: self.generation + 1,
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
                return refuse("Keap refused to renew the account's access: connect the account again");
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
            Ok(grant) => {
                let scope = grant.scope.clone().or_else(|| self.scope.clone());
                let rejections = if self.rejected_at.is_some() { self.rejections } else { 0 };
                Self { scope, rejections, ..self.connected(grant, now) }
            }
            Err(failure) if failure.class == FailureClass::Unauthorized => Self {
                state: ConnectionState::NeedsReauthorization,
                access_token: None,
                refresh_token: None,
                error: Some(failure),
                ..self.clone()
            },
            Err(failure) => {
                let attempts = self.attempts.saturating_add(1);
                let wait_ms = delay_ms(attempts, entropy, REFRESH_RETRY_MAX_MS, failure.retry_after_ms);
                Self { attempts, retry_at: Some(now.plus_ms(wait_ms)), error: Some(failure), ..self.clone() }
            }
        }
    }

    /// The state after Keap refused the access token in `generation`: it is refreshed at once, unless it is fresh.
    #[must_use]
    pub fn access_token_rejected(&self, generation: u64, now: Timestamp) -> Self {
        let interval_ms =
            (REJECTION_INTERVAL_MS << (2 * self.rejections.min(8))).min(REJECTION_INTERVAL_MAX_MS);
        let is_fresh = self.refreshed_at.is_some_and(|at| now.since_ms(at) < interval_ms);
        let is_noted = self.rejected_at.is_some() || generation != self.generation;
        if is_noted || is_fresh || self.kind == CredentialKind::ServiceKey {
            return self.clone();
        }
        Self { rejected_at: Some(now), rejections: self.rejections + 1, ..self.clone() }
    }
}

fn refuse(message: &str) -> Decision {
    Decision::Refuse(Failure::new(FailureClass::Unauthorized, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR_MS: i64 = 3_600_000;

    fn grant(name: &str, expires_in: i64) -> TokenResponse {
        TokenResponse {
            access_token: Secret::new(format!("a-{name}")),
            refresh_token: Secret::new(format!("r-{name}")),
            expires_in,
            scope: Some("full|app.infusionsoft.com".to_owned()),
        }
    }

    fn connected() -> TokenState {
        TokenState::default().connected(grant("1", 86_400), Timestamp(0))
    }

    #[test]
    fn refreshes_after_seven_eighths_of_the_granted_life() {
        let state = connected();
        assert_eq!(state.decide(Timestamp(21 * HOUR_MS - 1)), Decision::Use);
        assert_eq!(state.decide(Timestamp(21 * HOUR_MS)), Decision::Refresh);
        for (life_s, due_ms) in [(7_200, 6_300_000), (60, 52_500), (24, 21_000), (2, 1_750)] {
            let state = TokenState::default().connected(grant("1", life_s), Timestamp(0));
            assert_eq!(state.decide(Timestamp(due_ms - 1)), Decision::Use, "{life_s} s");
            assert_eq!(state.decide(Timestamp(due_ms)), Decision::Refresh, "{life_s} s");
        }
    }

    #[test]
    fn a_token_granted_for_next_to_no_time_is_not_refreshed_over_and_over() {
        for life_s in [i64::MIN, -1, 0, 1] {
            let state = TokenState::default().connected(grant("1", life_s), Timestamp(0));
            assert_eq!(state.next_refresh_at(), Some(Timestamp(1_000)), "{life_s} s");
            match state.decide(Timestamp(0)) {
                Decision::Refuse(failure) => assert_eq!(failure.retry_after_ms, Some(1_000)),
                decision => assert_eq!((decision, life_s), (Decision::Use, 1)),
            }
        }
        let endless = TokenState::default().connected(grant("1", i64::MAX), Timestamp(0));
        assert_eq!(endless.decide(Timestamp(0)), Decision::Use);
    }

    #[test]
    fn an_outage_leaves_the_old_token_usable_until_it_expires() {
        let now = Timestamp(21 * HOUR_MS);
        let outage = Failure::new(FailureClass::Unavailable, "away");
        let state = connected().settle_refresh(1, Err(outage), now, 1023);
        assert_eq!(state.decide(now), Decision::Use);
        assert_eq!(state.next_refresh_at(), Some(now.plus_ms(1_000)));
        assert_eq!(state.decide(now.plus_ms(1_000)), Decision::Refresh);
        let dead = TokenState { retry_at: Some(Timestamp(24 * HOUR_MS + 5_000)), ..state };
        match dead.decide(Timestamp(24 * HOUR_MS)) {
            Decision::Refuse(failure) => {
                assert_eq!(failure.class, FailureClass::Unavailable);
                assert_eq!(failure.retry_after_ms, Some(5_000));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_refusal_needs_a_person_and_keeps_no_secret() {
        let refusal = Failure::new(FailureClass::Unauthorized, "invalid_grant");
        let state = connected().settle_refresh(1, Err(refusal), Timestamp(5), 0);
        assert_eq!(state.state, ConnectionState::NeedsReauthorization);
        assert!(state.access_token.is_none() && state.refresh_token.is_none());
        assert!(matches!(state.decide(Timestamp(6)), Decision::Refuse(_)));
        assert_eq!(state.next_refresh_at(), None);
        let again = state.connected(grant("2", 86_400), Timestamp(7));
        assert_eq!((again.decide(Timestamp(7)), again.generation), (Decision::Use, 2));
    }

    #[test]
    fn a_late_answer_changes_nothing() {
        let newer = connected().connected(grant("2", 86_400), Timestamp(1));
        assert_eq!(newer.settle_refresh(1, Ok(grant("x", 86_400)), Timestamp(2), 0), newer);
        let refusal = Failure::new(FailureClass::Unauthorized, "invalid_grant");
        assert_eq!(newer.settle_refresh(1, Err(refusal), Timestamp(2), 0), newer);
        let gone = newer.revoked();
        assert_eq!(gone.settle_refresh(2, Ok(grant("x", 86_400)), Timestamp(2), 0), gone);
        assert!(gone.access_token.is_none() && gone.refresh_token.is_none());
    }

    #[test]
    fn a_refused_access_token_is_refreshed_once_not_in_a_loop() {
        let later = Timestamp(HOUR_MS);
        let state = connected().access_token_rejected(1, later);
        assert_eq!(state.decide(later), Decision::Refresh);
        let fresh = state.settle_refresh(1, Ok(grant("2", 86_400)), later, 0);
        let refused_again = fresh.access_token_rejected(2, later.plus_ms(1_000));
        assert_eq!(refused_again.decide(later.plus_ms(1_000)), Decision::Use);
        let (mut state, mut refreshes) = (fresh, 0);
        for second in 0..3_600 {
            let now = later.plus_ms(second * 1_000);
            state = state.access_token_rejected(state.generation, now);
            if state.decide(now) == Decision::Refresh {
                refreshes += 1;
                state = state.settle_refresh(state.generation, Ok(grant("n", 86_400)), now, 0);
            }
        }
        assert!((1..=6).contains(&refreshes), "{refreshes} refreshes in an hour of refusals");
        let by_key = TokenState::default().connected_by_key(Secret::new("k"), Timestamp(0));
        assert_eq!(by_key.access_token_rejected(1, later).decide(later), Decision::Use);
        assert_eq!(by_key.next_refresh_at(), None);
    }

    proptest! {
        /// Whatever Keap answers and when: a state never says `Use` for a token that is dead or absent, and a generation
        /// never goes back.
        #[test]
        fn never_uses_a_dead_token(steps in prop::collection::vec((0_i64..30 * HOUR_MS, 0_u8..5, any::<u32>(), 0_i64..100_000), 1..40)) {
            let mut now = Timestamp(0);
            let mut state = connected();
            for (wait_ms, what, entropy, expires_in) in steps {
                now = now.plus_ms(wait_ms);
                let generation = state.generation;
                state = match what {
                    0 => state.settle_refresh(generation, Ok(grant("n", expires_in)), now, entropy),
                    1 => state.settle_refresh(generation, Err(Failure::new(FailureClass::Unavailable, "x")), now, entropy),
                    2 => state.settle_refresh(generation, Err(Failure::new(FailureClass::Unauthorized, "x")), now, entropy),
                    3 => state.access_token_rejected(generation, now),
                    _ => state.connected(grant("m", expires_in), now),
                };
                prop_assert!(state.generation >= generation);
                if state.decide(now) == Decision::Use {
                    prop_assert!(state.access_token.is_some());
                    prop_assert!(state.expires_at.is_none_or(|end| end > now));
                }
                if let Some(due_at) = state.next_refresh_at() {
                    let latest = state.expires_at.unwrap().max(state.refreshed_at.unwrap().plus_ms(REFRESH_AGE_MIN_MS));
                    prop_assert!(due_at <= latest.max(state.retry_at.unwrap_or_default()));
                }
            }
        }
    }
}
