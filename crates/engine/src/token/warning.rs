//! What may end a connection soon, foreseen while there is time to do something.

use super::{ConnectionState, CredentialKind, TokenState};
use keapsync_domain::timestamp::Timestamp;
use serde::Serialize;

/// How long before the end of an unused refresh token it is warned of, in milliseconds: 15 days.
const REFRESH_TOKEN_WARNING_MS: i64 = 15 * 86_400_000;

/// Failed attempts in a row from which on a refresh is more than late: about a minute.
const REFRESH_ATTEMPTS_MAX: u32 = 5;

/// Refused calls of one service key from which on they are no accident.
const KEY_REJECTIONS_MAX: u32 = 3;

/// Something that ends the connection unless somebody does something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenWarning {
    /// What it is, for programs: `refresh_failing`, `refresh_token_unused` or `service_key_refused`.
    pub code: &'static str,
    /// What it is and what to do, for people.
    pub message: &'static str,
    /// When it comes to pass, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

impl TokenState {
    /// What may end the connection, the most urgent last.
    #[must_use]
    pub fn warnings(&self, now: Timestamp) -> Vec<TokenWarning> {
        let mut warnings = Vec::new();
        if self.state != ConnectionState::Connected {
            return warnings;
        }
        if self.attempts >= REFRESH_ATTEMPTS_MAX {
            warnings.push(TokenWarning {
                code: "refresh_failing",
                message: "Keap's token endpoint does not renew the access, which ends at this time: see the error beside this; nothing is lost meanwhile",
                at: self.expires_at,
            });
        }
        if self.kind == CredentialKind::ServiceKey && self.rejections >= KEY_REJECTIONS_MAX {
            warnings.push(TokenWarning {
                code: "service_key_refused",
                message: "Keap refuses calls with the service key although it accepts the key: see in Keap that the key's owner may read and write contacts, orders, tags, subscriptions and hooks, then connect the account again",
                at: None,
            });
        }
        let end = self.refresh_token_expires_at();
        if let Some(end) = end.filter(|end| end.since_ms(now) <= REFRESH_TOKEN_WARNING_MS) {
            warnings.push(TokenWarning {
                code: "refresh_token_unused",
                message: "the connection was not renewed for a month, and Keap ends it at this time: see why the renewals fail, or connect the account again before",
                at: Some(end),
            });
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keapsync_domain::failure::{Failure, FailureClass};
    use keapsync_domain::secret::Secret;
    use keapsync_keap::oauth::TokenResponse;

    const DAY_MS: i64 = 86_400_000;

    fn codes(state: &TokenState, now_ms: i64) -> Vec<&'static str> {
        state.warnings(Timestamp(now_ms)).iter().map(|warning| warning.code).collect()
    }

    #[test]
    fn the_end_of_an_unused_refresh_token_is_foreseen_15_days_before() {
        let grant = TokenResponse {
            access_token: Secret::new("a"),
            refresh_token: Secret::new("r"),
            expires_in: 86_400,
            scope: None,
        };
        let mut state = TokenState::default().connected(grant, Timestamp(0));
        assert!(codes(&state, 30 * DAY_MS - 1).is_empty());
        assert_eq!(codes(&state, 30 * DAY_MS), ["refresh_token_unused"]);
        assert_eq!(state.warnings(Timestamp(44 * DAY_MS))[0].at, Some(Timestamp(45 * DAY_MS)));
        for _ in 0..REFRESH_ATTEMPTS_MAX {
            assert!(codes(&state, DAY_MS).is_empty());
            let away = Failure::new(FailureClass::Unavailable, "away");
            state = state.settle_refresh(1, Err(away), Timestamp(DAY_MS), 0);
        }
        assert_eq!(codes(&state, DAY_MS), ["refresh_failing"]);
        assert_eq!(codes(&state, 40 * DAY_MS), ["refresh_failing", "refresh_token_unused"]);
        assert!(codes(&state.revoked(), 40 * DAY_MS).is_empty());
    }

    #[test]
    fn a_service_key_is_warned_of_when_keap_refuses_calls_but_not_the_key() {
        let mut state = TokenState::default().connected_by_key(Secret::new("k"), Timestamp(0));
        assert!(codes(&state, 400 * DAY_MS).is_empty());
        for day in 1..=3 {
            assert!(codes(&state, DAY_MS).is_empty());
            state = state.access_token_rejected(1, Timestamp(day * DAY_MS)).service_key_checked(1, &Ok(()));
        }
        assert_eq!(codes(&state, DAY_MS), ["service_key_refused"]);
    }
}
