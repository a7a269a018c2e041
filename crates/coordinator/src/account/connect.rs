//! Connecting, and giving the connection up.

use super::credential::Live;
use super::setup::{Setup, Step, connection_word};
use super::times::shown;
use super::wire::{
    CompleteRequest, InitiateResponse, OpenRequest, OpenResponse, ServiceKeyRequest, TokenAnswer,
};
use super::{Account, time_now};
use crate::oauth::state::{STATE_TTL_MS, State};
use crate::storage::values;
use keapsync_domain::application::KeapApplication;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::token::{CredentialKind, TokenState};
use keapsync_keap::oauth::{TokenResponse, parse_token};
use keapsync_keap::transport::Transport as _;
use keapsync_platform::config::{CoordinatorConfig, EncryptionKey};
use keapsync_platform::derived_key::derived_key;
use keapsync_platform::entropy::random_token;
use keapsync_platform::keap_transport::KeapTransport;
use keapsync_platform::respond::Answer;
use serde::de::DeserializeOwned;
use serde_json::json;

/// What the key that signs states is derived for.
const STATE_KEY_PURPOSE: &str = "keapsync-oauth-state-key";

/// The keys that states are verified with: the one that signs, and while the encryption key is being changed the one before.
#[must_use]
pub fn state_keys(config: &CoordinatorConfig) -> Vec<[u8; 32]> {
    std::iter::once(&config.encryption_key).chain(&config.encryption_key_previous).map(state_key).collect()
}

fn state_key(key: &EncryptionKey) -> [u8; 32] {
    derived_key(key.bytes(), STATE_KEY_PURPOSE)
}

impl Account<'_> {
    /// Begins an attempt.
    pub(super) fn begin(&self) -> Result<Answer, Failure> {
        self.sql().migrate()?;
        let now = time_now();
        let (nonce, ticket) = (random_token()?, random_token()?);
        let expires_at = now.plus_ms(STATE_TTL_MS);
        self.sql().begin_attempt(&nonce, &ticket, expires_at, now)?;
        let connect_url = format!("{}/oauth/initiate?ticket={}~{ticket}", self.own_origin(), self.id);
        let auth_url = self.auth_url(nonce, expires_at);
        Ok(Answer::json(200, &InitiateResponse { auth_url, connect_url, keap_account_id: self.id.clone() }))
    }

    /// Takes a ticket and ties its attempt to a browser.
    pub(super) fn open(&self, body: &[u8]) -> Result<Answer, Failure> {
        let request: OpenRequest = parsed(body)?;
        let cookie = random_token()?;
        if !self.sql().exists()? {
            return Err(ticket_used());
        }
        let Some((nonce, expires_at)) = self.sql().open_attempt(&request.ticket, &cookie, time_now())? else {
            return Err(ticket_used());
        };
        Ok(Answer::json(200, &OpenResponse { auth_url: self.auth_url(nonce, expires_at), cookie }))
    }

    /// Ends an attempt: exchanges the code and stores the tokens. A failure changes nothing but that the attempt is over.
    pub(super) async fn complete(&self, body: &[u8]) -> Result<Answer, Failure> {
        let request: CompleteRequest = parsed(body)?;
        let is_ours =
            self.sql().exists()? && self.sql().redeem_attempt(&request.nonce, &request.cookie, time_now())?;
        if !is_ours {
            return Err(Failure::new(
                FailureClass::Invalid,
                "this attempt was begun in another browser, or it is over already: begin again with a new link",
            ));
        }
        let answer = KeapTransport.send(self.config.application.exchange_code(request.code.reveal())).await?;
        let grant = parse_token(&answer).map_err(|failure| match failure.class {
            FailureClass::Unauthorized => Failure::new(
                FailureClass::Invalid,
                "Keap did not accept the code: begin again with a new link",
            ),
            _ => failure,
        })?;
        let granted = self.application_of_grant(&grant).await?;
        // What was remembered is read after the last answer: another attempt may have ended meanwhile.
        let application = self.known_application()?.met(&granted)?;
        let next = self.load_token().unwrap_or_default().connected(grant, time_now());
        self.connected(&next, &application).await?;
        Ok(Answer::json(200, &json!({"keap_account_id": self.id, "state": connection_word(next.state)})))
    }

    /// Connects with a service key, after Keap has accepted it.
    pub(super) async fn connect_by_key(&self, body: &[u8]) -> Result<Answer, Failure> {
        let request: ServiceKeyRequest = parsed(body)?;
        let key = request.service_key;
        let credential =
            Live { token: key.clone(), expires_at: None, generation: 0, kind: CredentialKind::ServiceKey };
        let granted =
            self.application_of(&key, &credential).await.map_err(|failure| match failure.class {
                FailureClass::Unauthorized => {
                    Failure::new(FailureClass::Invalid, "Keap does not accept this service key")
                }
                _ => failure,
            })?;
        let application = self.known_application()?.met(&granted)?;
        self.sql().migrate()?;
        let before = self.load_token().unwrap_or_default();
        let next = before.connected_by_key(key, time_now());
        self.connected(&next, &application).await?;
        Ok(Answer::json(200, &json!({"keap_account_id": self.id, "state": connection_word(next.state)})))
    }

    /// The application that a grant is of: by its scope, or where that doesn't decide, by the answer to a call.
    async fn application_of_grant(&self, grant: &TokenResponse) -> Result<KeapApplication, Failure> {
        let named = KeapApplication::of_scope(grant.scope.as_deref());
        let known = self.known_application()?;
        if known.is_unknown() || known.is_same(&named).is_some() {
            return Ok(named);
        }
        let token = grant.access_token.clone();
        let credential =
            Live { token: token.clone(), expires_at: None, generation: 0, kind: CredentialKind::OAuth };
        let answered = self.application_of(&token, &credential).await?;
        Ok(KeapApplication { tenant: answered.tenant, ..named })
    }

    /// The application whose records the account holds, as far as it is known. It doesn't rest on the credential, which may be
    /// unreadable.
    pub(super) fn known_application(&self) -> Result<KeapApplication, Failure> {
        if !self.sql().exists()? {
            return Ok(KeapApplication::default());
        }
        Ok(self.sql().get(values::APPLICATION)?.unwrap_or_default())
    }

    /// What that application is called; `None` while Keap has not named it.
    pub(super) fn application_name(&self) -> Result<Option<String>, Failure> {
        let known = self.known_application()?;
        Ok((!known.is_unknown()).then(|| known.name().to_owned()))
    }

    /// Compares the application that answered a call with the account's. What is new of its name is kept; a credential that turned
    /// out to be another application's is given up before anything else is done with it.
    pub(super) fn note_application(
        &self,
        generation: u64,
        answered: &KeapApplication,
    ) -> Result<(), Failure> {
        // A call before the first connection is stored compares for itself.
        if answered.is_unknown() || !self.is_known()? {
            return Ok(());
        }
        let known = self.known_application()?;
        match known.is_same(answered) {
            Some(false) => {
                let state = self.load_token()?;
                let next = state.other_application_met(generation);
                if next == state { Ok(()) } else { self.settle_token(&next) }
            }
            Some(true) | None if known.tenant.is_none() => {
                let learned = KeapApplication { tenant: answered.tenant.clone(), ..known };
                self.sql().put(values::APPLICATION, &learned)
            }
            Some(true) | None => Ok(()),
        }
    }

    /// Stores the credential first, then what follows from it, all in one step; then wakes the alarm.
    async fn connected(&self, token: &TokenState, application: &KeapApplication) -> Result<(), Failure> {
        self.save_token(token)?;
        self.sql().put(values::APPLICATION, application)?;
        self.sql().put(values::ACCOUNT, &self.id)?;
        self.sql().put(values::SETUP, &Setup::all())?;
        self.look_at_hooks_soon()?;
        self.retry_all_parts()?;
        self.retry_runs()?;
        self.wake_outbox();
        self.log().info("account_connected").account(self.id).count("generation", token.generation).emit();
        self.object.arm(time_now()).await;
        Ok(())
    }

    /// Ends the hooks and forgets the credential. Events and edits are kept; they wait.
    pub(super) async fn revoke(&self) -> Result<Answer, Failure> {
        if !self.is_known()? {
            return Err(self.unknown());
        }
        // While the credential still serves for it.
        let hooks = self.unsubscribe().await;
        let next = self.load_token().unwrap_or_default().revoked();
        self.save_token(&next)?;
        self.sql().put(values::HOOK_BOOK, &self.hook_book()?.given_up(time_now()))?;
        self.reopen(&[Step::Registry, Step::AccountRow])?;
        self.log().info("account_revoked").account(self.id).emit();
        self.object.arm(time_now()).await;
        let mut answer = self.token_status();
        if let Some(answer) = answer.as_object_mut() {
            answer.insert("hooks".to_owned(), shown(&hooks));
        }
        Ok(Answer::json(200, &answer))
    }

    /// Refreshes because somebody asks.
    pub(super) async fn refresh(&self) -> Result<Answer, Failure> {
        if !self.is_known()? {
            return Err(self.unknown());
        }
        self.refresh_on_request().await?;
        Ok(Answer::json(200, &self.token_status()))
    }

    /// A token that is valid now, for another worker.
    pub(super) async fn hand_out_token(&self) -> Result<Answer, Failure> {
        if !self.is_known()? {
            return Err(self.unknown());
        }
        let live = self.credential().await?;
        let answer = TokenAnswer {
            access_token: live.token,
            expires_at: live.expires_at,
            generation: live.generation,
        };
        Ok(Answer::json(200, &answer))
    }

    fn auth_url(&self, nonce: String, expires_at: Timestamp) -> String {
        let state = State { account: self.id.clone(), nonce, expires_at };
        let signed = state.sign(&state_key(&self.config.encryption_key));
        self.config.application.authorize_address(&signed)
    }

    /// Our own address, as Keap and browsers know it.
    pub(super) fn own_origin(&self) -> &str {
        let redirect = self.config.application.redirect_uri.as_str();
        let host = redirect.find("://").map_or(0, |position| position + 3);
        let end = redirect
            .get(host..)
            .and_then(|rest| rest.find('/'))
            .map_or(redirect.len(), |length| host + length);
        redirect.get(..end).unwrap_or(redirect)
    }
}

fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|_| Failure::new(FailureClass::Invalid, "the request has an unexpected shape"))
}

fn ticket_used() -> Failure {
    Failure::new(
        FailureClass::Invalid,
        "this link was used already or is older than ten minutes: begin again with a new one",
    )
}
