//! The account's connection: its token and its leases of quota, as the coordinator keeps them.

use super::object::entropy;
use super::stage::{Event, Stage};
use crate::quota::{Grant, Lease, LeaseRequest, Priority};
use crate::token::{ConnectionState, Decision};
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::secret::Secret;
use keapsync_keap::oauth::TokenResponse;
use std::rc::Rc;

/// How long a lease of live work lives, in milliseconds.
const LIVE_LEASE_MS: i64 = 60_000;

/// Seconds that an access token of the simulated Keap lives: short, so that stories see refreshes.
const TOKEN_LIFE_S: i64 = 900;

/// How long it takes a person to connect an account again, in milliseconds.
const RECONNECT_MS: i64 = 60_000;

/// A credential at hand.
pub(super) struct Live {
    /// The access token.
    pub token: Secret,
    /// Its number.
    pub generation: u64,
}

/// Whether somebody is at a refresh.
pub(super) type Refreshing = Rc<std::cell::Cell<bool>>;

/// The story's connection of the account.
pub(super) fn connect(stage: &Stage) {
    let (access, refresh) = stage.keap.borrow_mut().grant();
    let now = stage.object_now();
    let mut storage = stage.storage.borrow_mut();
    storage.token = storage.token.connected(grant_of(access, refresh), now);
}

fn grant_of(access: String, refresh: String) -> TokenResponse {
    TokenResponse {
        access_token: Secret::new(access),
        refresh_token: Secret::new(refresh),
        expires_in: TOKEN_LIFE_S,
        scope: None,
    }
}

/// Heeds what a failure says of the token.
pub(super) fn heed<T>(stage: &Stage, live: &Live, failure: Failure) -> Result<T, Failure> {
    if failure.class == FailureClass::Unauthorized {
        note_rejection(stage, live.generation);
    }
    Err(failure)
}

pub(super) fn note_rejection(stage: &Stage, generation: u64) {
    let now = stage.object_now();
    let mut storage = stage.storage.borrow_mut();
    storage.token = storage.token.access_token_rejected(generation, now);
}

/// A credential that is valid now, refreshed when that is due, by one at a time.
pub(super) async fn credential(stage: &Rc<Stage>, refreshing: &Refreshing) -> Result<Live, Failure> {
    while refreshing.get() {
        stage.schedule.sleep(25).await;
    }
    let decision = stage.storage.borrow().token.decide(stage.object_now());
    if let Decision::Refuse(failure) = decision {
        return Err(failure);
    }
    if decision == Decision::Refresh {
        refreshing.set(true);
        refresh(stage).await;
        refreshing.set(false);
    }
    let storage = stage.storage.borrow();
    match &storage.token.access_token {
        Some(token) if storage.token.is_usable(stage.object_now()) => {
            Ok(Live { token: token.clone(), generation: storage.token.generation })
        }
        _ => Err(Failure::new(FailureClass::Unauthorized, "there is no usable token")),
    }
}

async fn refresh(stage: &Rc<Stage>) {
    let (generation, refresh_token) = {
        let mut storage = stage.storage.borrow_mut();
        storage.token = storage.token.refresh_begun();
        (storage.token.generation, storage.token.refresh_token.clone())
    };
    stage.pause().await;
    stage.step(10, generation);
    let is_down = stage.faults.borrow().keap_down.is_some_and(|(_, until)| until > stage.schedule.now_ms());
    let is_good = refresh_token.is_some_and(|token| token.reveal() == stage.keap.borrow().refresh_token);
    let answer = if is_down {
        Err(Failure::new(FailureClass::Unavailable, "Keap is down"))
    } else if is_good {
        let (access, refresh) = stage.keap.borrow_mut().grant();
        Ok(grant_of(access, refresh))
    } else {
        Err(Failure::new(FailureClass::Unauthorized, "invalid_grant"))
    };
    stage.pause().await;
    stage.coverage.borrow_mut().count("token refreshed");
    stage.tell(|| format!("token: refreshed {:?}", answer.is_ok()));
    let (now, entropy) = (stage.object_now(), entropy(stage));
    let mut storage = stage.storage.borrow_mut();
    storage.token = storage.token.settle_refresh(generation, answer, now, entropy);
    if storage.token.state == ConnectionState::NeedsReauthorization {
        stage.coverage.borrow_mut().count("account connected again");
        stage.schedule.after(RECONNECT_MS, Event::Reconnect);
    }
}

pub(super) async fn live_token(stage: &Rc<Stage>, refreshing: &Refreshing) -> Result<(Secret, u64), Failure> {
    credential(stage, refreshing).await.map(|live| (live.token, live.generation))
}

pub(super) async fn take_lease(
    stage: &Stage,
    priority: Priority,
    permits_max: u32,
    calls_per_second_max: u32,
    id: Option<String>,
) -> Result<Lease, Failure> {
    let id = id.unwrap_or_else(|| format!("lease-{}", entropy(stage)));
    let account = stage.account.to_string();
    let request =
        LeaseRequest { id, account, priority, permits_max, calls_per_second_max, ttl_ms: LIVE_LEASE_MS };
    stage.pause().await;
    stage.step(11, u64::from(permits_max));
    let grant = stage.quota.borrow_mut().request(&stage.limits, &request, stage.object_now());
    stage.pause().await;
    match grant {
        Grant::Granted(lease) => Ok(lease),
        Grant::Refused { retry_after_ms } => {
            stage.coverage.borrow_mut().count("lease refused");
            Err(Failure::new(FailureClass::RateLimited, "the quota is taken")
                .with_retry_after_ms(Some(retry_after_ms)))
        }
    }
}

pub(super) async fn release(stage: &Stage, lease: &Lease, calls: u32) {
    stage.pause().await;
    stage.step(12, u64::from(calls));
    stage.quota.borrow_mut().release(&lease.id, calls, stage.object_now());
}
