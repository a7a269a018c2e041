//! What a credential goes through, case by case.

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

#[test]
fn a_refresh_that_answers_another_application_gives_the_credential_up() {
    let begun = connected().refresh_begun();
    let theirs = TokenResponse { scope: Some("full|zz9.infusionsoft.com".to_owned()), ..grant("2", 86_400) };
    let state = begun.settle_refresh(1, Ok(theirs), Timestamp(21 * HOUR_MS), 0);
    assert_eq!(
        (state.state, state.cause),
        (ConnectionState::NeedsReauthorization, Some(Cause::OtherApplication))
    );
    assert!(state.access_token.is_none() && state.refresh_token.is_none());
    assert_eq!(state.scope.as_deref(), Some("full|app.infusionsoft.com"), "whose records these are");
    for scope in [Some("full|APP.infusionsoft.com".to_owned()), Some("full".to_owned()), None] {
        let ours = TokenResponse { scope, ..grant("2", 86_400) };
        let state = connected().refresh_begun().settle_refresh(1, Ok(ours), Timestamp(21 * HOUR_MS), 0);
        assert_eq!((state.state, state.generation), (ConnectionState::Connected, 2));
    }
}

#[test]
fn an_answer_of_another_application_ends_only_the_credential_that_was_asked_with() {
    let state = connected();
    assert_eq!(state.other_application_met(0), state);
    let ended = state.other_application_met(1);
    assert_eq!(ended.cause, Some(Cause::OtherApplication));
    assert!(ended.access_token.is_none() && ended.refresh_token.is_none());
}
