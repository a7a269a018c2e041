//! The account's credential: decrypted, refreshed when due, by one at a time.
//!
//! A refresh token is single-use: what is written when is [`refresh`]'s to say; here are its ports. What the previous key
//! sealed is sealed anew, with the present one, as soon as it is read.

use super::setup::{Step, connection_word};
use super::{Account, time_now};
use crate::seal::{key_id, open, seal, sealed_with};
use crate::storage::values;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::feed::FeedEvent;
use keapsync_domain::secret::Secret;
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::quota::QuotaLimits;
use keapsync_engine::token::refresh::{RefreshPorts, refresh};
use keapsync_engine::token::{Cause, ConnectionState, CredentialKind, Decision, TokenState};
use keapsync_keap::oauth::{TokenResponse, parse_token};
use keapsync_keap::transport::Transport as _;
use keapsync_platform::clock::sleep_ms;
use keapsync_platform::config::EncryptionKey;
use keapsync_platform::entropy::{random_bytes, random_u32};
use keapsync_platform::keap_transport::KeapTransport;
use sha2::{Digest as _, Sha256};
use std::cell::Cell;

/// How long a request for a refresh counts as under way after its answer is known, in milliseconds: others that come
/// meanwhile belong to the same crowd.
const REFRESH_LINGER_MS: i64 = 250;

/// Keap's limits for service keys (10/s, 240/min, 30,000/day), less a margin.
const SERVICE_KEY_LIMITS: QuotaLimits = QuotaLimits { per_second: 8, per_minute: 220, per_day: 28_000 };

/// What calls to Keap need.
#[derive(Clone, Debug)]
pub(super) struct Live {
    /// The bearer token.
    pub token: Secret,
    /// When it dies.
    pub expires_at: Option<Timestamp>,
    /// Its generation.
    pub generation: u64,
    /// Its kind.
    pub kind: CredentialKind,
}

impl Account<'_> {
    /// The stored credential. One that the previous key sealed is sealed anew.
    pub(super) fn load_token(&self) -> Result<TokenState, Failure> {
        let Some(sealed) = self.sql().get::<String>(values::TOKEN)? else { return Ok(TokenState::default()) };
        let state = self.unsealed(&sealed)?;
        if sealed_with(&sealed) != Some(key_id(self.config.encryption_key.bytes()).as_str()) {
            self.seal_anew(&state);
        }
        Ok(state)
    }

    fn unsealed(&self, sealed: &str) -> Result<TokenState, Failure> {
        let mut keys = vec![self.config.encryption_key.bytes()];
        keys.extend(self.config.encryption_key_previous.as_ref().map(EncryptionKey::bytes));
        let text = open(&keys, self.id, sealed)?;
        serde_json::from_str(&text).map_err(|_| {
            Failure::new(
                FailureClass::Unauthorized,
                "the stored credential has an unexpected shape: connect the account again",
            )
        })
    }

    /// Writes the credential once more, with the present key. A failure costs nothing: whoever reads it next tries again.
    fn seal_anew(&self, state: &TokenState) {
        match self.save_token(state).and_then(|()| self.reopen(&[Step::Registry])) {
            Ok(()) => self.log().info("credential_sealed_anew").account(self.id).emit(),
            Err(failure) => {
                self.log().warn("credential_not_sealed_anew").account(self.id).failure(&failure).emit();
            }
        }
    }

    /// The name of the key that the stored credential is sealed with, and whether it is the present one.
    pub(super) fn sealing_key(&self) -> Result<Option<(String, bool)>, Failure> {
        let sealed = self.sql().get::<String>(values::TOKEN)?;
        let name = sealed.as_deref().and_then(sealed_with).map(str::to_owned);
        Ok(name.map(|name| {
            let is_present = name == key_id(self.config.encryption_key.bytes());
            (name, is_present)
        }))
    }

    /// Stores the credential, encrypted.
    pub(super) fn save_token(&self, state: &TokenState) -> Result<(), Failure> {
        let text = crate::storage::to_json(state)?;
        let sealed = seal(self.config.encryption_key.bytes(), self.id, random_bytes()?, &text)?;
        // Read as it is: loading it would write it, when the key has changed.
        let before = self.sql().get::<String>(values::TOKEN)?.and_then(|known| self.unsealed(&known).ok());
        self.sql().put(values::TOKEN, &sealed)?;
        if before.map(|known| known.state) != Some(state.state) {
            self.tell(FeedEvent::ConnectionChanged { state: connection_word(state.state).to_owned() });
        }
        Ok(())
    }

    /// A credential that is valid now, refreshed when that is due.
    pub(super) async fn credential(&self) -> Result<Live, Failure> {
        let state = self.load_token()?;
        match state.decide(time_now()) {
            Decision::Use => live(&state),
            Decision::Refuse(failure) => Err(failure),
            Decision::Refresh => {
                let state = self.refresh_unless(|state, now| state.decide(now) != Decision::Refresh).await?;
                if state.is_usable(time_now()) { live(&state) } else { Err(why_unusable(&state, time_now())) }
            }
        }
    }

    /// The stored credential as it is, dead or alive: enough to know whose quota it uses.
    pub(super) fn credential_at_hand(&self) -> Result<Live, Failure> {
        live(&self.load_token()?)
    }

    /// Refreshes because somebody asks. Requests that overlap are one crowd: the first refreshes, the others wait for it.
    pub(super) async fn refresh_on_request(&self) -> Result<TokenState, Failure> {
        let is_first = self.object.refresh_requests.get() == 0;
        let _request = Counted::new(&self.object.refresh_requests);
        let state = self.refresh_unless(|state, _| !is_first || state.refresh_token.is_none()).await?;
        sleep_ms(REFRESH_LINGER_MS).await;
        match (state.decide(time_now()), &state.error) {
            (Decision::Refuse(failure), _) => Err(failure),
            (Decision::Use | Decision::Refresh, Some(failure)) => Err(failure.clone()),
            (Decision::Use | Decision::Refresh, None) => Ok(state),
        }
    }

    /// Notes that Keap refused the token that was used.
    pub(super) fn note_rejection(&self, generation: u64) -> Result<(), Failure> {
        let state = self.load_token()?;
        let next = state.access_token_rejected(generation, time_now());
        if next == state { Ok(()) } else { self.save_token(&next) }
    }

    /// Name of the quota object, and the limits that hold there.
    pub(super) fn quota_of(&self, credential: &Live) -> (String, QuotaLimits) {
        let configured = self.config.call_limits;
        let configured = QuotaLimits {
            per_second: configured.per_second,
            per_minute: configured.per_minute,
            per_day: configured.per_day,
        };
        match credential.kind {
            CredentialKind::OAuth => {
                (format!("oauth-{}", short_hash(&self.config.application.client_id)), configured)
            }
            CredentialKind::ServiceKey => {
                let limits = QuotaLimits {
                    per_second: configured.per_second.min(SERVICE_KEY_LIMITS.per_second),
                    per_minute: configured.per_minute.min(SERVICE_KEY_LIMITS.per_minute),
                    per_day: configured.per_day.min(SERVICE_KEY_LIMITS.per_day),
                };
                (format!("key-{}", short_hash(credential.token.reveal())), limits)
            }
        }
    }

    /// Tries the service key when calls with it were refused.
    pub(super) async fn check_key(&self) -> Result<(), Failure> {
        let state = self.load_token()?;
        let credential = live(&state)?;
        let answer = self.application_of(&credential.token, &credential).await.map(drop);
        self.settle_token(&self.load_token()?.service_key_checked(state.generation, &answer))?;
        answer
    }

    /// Waits for its turn, looks again, and refreshes unless `is_done` says that nothing is left to do.
    async fn refresh_unless(
        &self,
        is_done: impl Fn(&TokenState, Timestamp) -> bool,
    ) -> Result<TokenState, Failure> {
        refresh(self, &self.object.refresh_lock, random_u32()?, is_done).await
    }

    /// Writes what became of the credential. When a person is needed, everybody is told by the same step.
    pub(super) fn settle_token(&self, next: &TokenState) -> Result<(), Failure> {
        let before = self.load_token()?;
        self.save_token(next)?;
        if next.state == ConnectionState::NeedsReauthorization && before.state != next.state {
            self.reopen(&[Step::Registry, Step::AccountRow])?;
            let because = next.cause.map_or("unknown", Cause::as_str);
            self.log().error("needs_reauthorization").account(self.id).word("because", because).emit();
        }
        Ok(())
    }
}

impl RefreshPorts for Account<'_> {
    fn load(&self) -> Result<TokenState, Failure> {
        self.load_token()
    }

    fn save(&self, state: &TokenState) -> Result<(), Failure> {
        self.settle_token(state)
    }

    async fn confirm(&self) -> Result<(), Failure> {
        self.object.storage.sync().await.map_err(|_| {
            Failure::new(
                FailureClass::Unavailable,
                "the account's storage did not confirm a write; it is tried again",
            )
        })
    }

    async fn ask(&self, refresh_token: &Secret) -> Result<TokenResponse, Failure> {
        let answer = KeapTransport.send(self.config.application.refresh(refresh_token)).await;
        answer.and_then(|response| parse_token(&response))
    }

    fn report(&self, next: &TokenState) {
        match &next.error {
            None => {
                let line = self.log().info("token_refreshed").account(self.id);
                line.count("generation", next.generation).emit();
            }
            Some(failure) => {
                self.log().warn("token_refresh_failed").account(self.id).failure(failure).emit();
            }
        }
        for warning in next.warnings(time_now()) {
            self.log().warn("connection_at_risk").account(self.id).word("because", warning.code).emit();
        }
    }

    fn now(&self) -> Timestamp {
        time_now()
    }
}

/// One of several that are under way; ends also when its request is dropped.
struct Counted<'a>(&'a Cell<u32>);

impl<'a> Counted<'a> {
    fn new(count: &'a Cell<u32>) -> Self {
        count.set(count.get().saturating_add(1));
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

fn live(state: &TokenState) -> Result<Live, Failure> {
    let Some(token) = state.access_token.clone() else {
        return Err(Failure::new(
            FailureClass::Unauthorized,
            "the account has no access token: connect it again",
        ));
    };
    Ok(Live { token, expires_at: state.expires_at, generation: state.generation, kind: state.kind })
}

fn why_unusable(state: &TokenState, now: Timestamp) -> Failure {
    match state.decide(now) {
        Decision::Refuse(failure) => failure,
        Decision::Use | Decision::Refresh => Failure::new(
            FailureClass::Unavailable,
            "Keap granted an access token that is already dead; it is asked again",
        ),
    }
}

pub(super) fn short_hash(text: &str) -> String {
    hex::encode(Sha256::digest(text)).chars().take(32).collect()
}
