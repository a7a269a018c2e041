//! From a request to an answer: who sent it, what it says, and whether it is stored.
//!
//! Invariant: 200 is answered only after the inbox said that it holds the delivery. Checks come in one order, cheap and
//! decisive ones first: account and token, form of the signature, size, signature, form. Nothing of a body is ever logged.
//!
//! A wrong token or signature takes from the bucket of the sender's address; a right one never does, however many deliveries come.

use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::hook::Delivery;
use keapsync_domain::ids::AccountId;
use keapsync_domain::timestamp::Timestamp;
use keapsync_domain::wire::{EventsRequest, EventsResponse};
use keapsync_platform::body::BodyError;
use keapsync_platform::config::WebhookConfig;
use keapsync_platform::hook_auth::{
    HANDSHAKE_HEADER, SIGNATURE_HEADER, is_handshake_secret, is_signature, verify_path_token,
    verify_signature,
};
use keapsync_platform::respond::Answer;

/// Header that names the account of a signed delivery.
const ACCOUNT_HEADER: &str = "X-Keap-Account";

/// Header of the answer that names the delivery as the log does.
const TRACE_HEADER: &str = "x-trace-id";

/// When to send again what could not be stored, in milliseconds. Keap has its own times; proxies and tests heed this.
const STORE_RETRY_MS: i64 = 30_000;

/// The request, as far as it matters.
pub trait Incoming {
    /// A header's value.
    fn header(&self, name: &str) -> Option<String>;

    /// Takes a share of what may be taken at once, for as long as the request lives. False when there is none now.
    /// Who has proven itself is given more.
    fn admit(&mut self, is_proven: bool) -> bool;

    /// How many were not admitted since this was last told; `None` when that was a moment ago, because a storm must not fill the log.
    fn refused_of_late(&self) -> Option<u64>;

    /// What was admitted is stored.
    fn stored(&self);

    /// Takes from the bucket of the sender's address, because its credential was wrong; the answer, when that is empty.
    fn charge_wrong_credential(&self) -> Result<(), Answer>;

    /// The body, up to the limit of deliveries. Asked for at most once.
    async fn body(&mut self) -> Result<Vec<u8>, BodyError>;
}

/// When to send again what came while too many deliveries were being taken, in milliseconds.
const BUSY_RETRY_MS: i64 = 1_000;

/// Where deliveries are kept.
pub trait Inbox {
    /// Keeps a delivery; durable when this returns `Ok`.
    async fn push(&self, account: &AccountId, request: &EventsRequest) -> Result<EventsResponse, Failure>;
}

/// Answers a request at the address registered with Keap.
pub async fn by_token<R: Incoming, I: Inbox>(
    config: &WebhookConfig,
    (account, token): (&str, &str),
    request: &mut R,
    inbox: &I,
    now: Timestamp,
) -> Answer {
    let verified = AccountId::parse(account)
        .ok()
        .filter(|account| verify_path_token(&config.webhook_secret, account, token));
    let Some(account) = verified else {
        let message = "this is not the address of a hook: register the hooks of the account again";
        return unauthorized(config, request, "token", message);
    };
    if let Some(secret) = request.header(HANDSHAKE_HEADER) {
        return handshake(config, &account, &secret);
    }
    if !request.admit(true) {
        return busy(config, request);
    }
    match request.body().await {
        Ok(body) => accept(config, &account, (request, &body), inbox, now).await,
        Err(error) => unread(config, error),
    }
}

/// Answers a signed delivery.
pub async fn signed<R: Incoming, I: Inbox>(
    config: &WebhookConfig,
    request: &mut R,
    inbox: &I,
    now: Timestamp,
) -> Answer {
    let account = match request.header(ACCOUNT_HEADER) {
        Some(name) => AccountId::parse(&name).map_err(|error| format!("{ACCOUNT_HEADER}: {error}")),
        None => config.default_account.clone().ok_or_else(|| {
            format!("the delivery names no account: send {ACCOUNT_HEADER} or configure DEFAULT_ACCOUNT_ID")
        }),
    };
    let account = match account {
        Ok(account) => account,
        Err(message) => return refused(config, "account", Answer::bad_request(&message)),
    };
    let signature = request.header(SIGNATURE_HEADER).unwrap_or_default();
    let message =
        format!("{SIGNATURE_HEADER} must be the HMAC-SHA256 of the raw body with the webhook secret");
    if !is_signature(&signature) {
        return unauthorized(config, request, "signature", &message);
    }
    if !request.admit(false) {
        return busy(config, request);
    }
    let body = match request.body().await {
        Ok(body) => body,
        Err(error) => return unread(config, error),
    };
    if !verify_signature(&config.webhook_secret, &signature, &body) {
        return unauthorized(config, request, "signature", &message);
    }
    accept(config, &account, (request, &body), inbox, now).await
}

/// Keap proves an address by a secret that the answer must repeat.
fn handshake(config: &WebhookConfig, account: &AccountId, secret: &str) -> Answer {
    if !is_handshake_secret(secret) {
        let message = format!("{HANDSHAKE_HEADER} must be 1 to 256 visible ASCII characters");
        return refused(config, "handshake", Answer::bad_request(&message));
    }
    config.common.log.info("hook_verified").account(account).emit();
    Answer::text(200, "OK").with_header(HANDSHAKE_HEADER, secret)
}

async fn accept<R: Incoming, I: Inbox>(
    config: &WebhookConfig,
    account: &AccountId,
    (received, body): (&R, &[u8]),
    inbox: &I,
    now: Timestamp,
) -> Answer {
    let delivery = match Delivery::parse(body) {
        Ok(delivery) => delivery,
        Err(error) => return refused(config, "form", Answer::bad_request(&error.to_string())),
    };
    let request = EventsRequest { delivery, received_at: now };
    match inbox.push(account, &request).await {
        Ok(stored) => {
            received.stored();
            // Not at `info`: a line per delivery would cost more than the delivery.
            let line = config.common.log.debug("hook_stored").account(account);
            let line = line
                .count("queued", stored.queued)
                .count("coalesced", stored.coalesced)
                .count("not_synced", stored.not_synced);
            let answer = Answer::text(200, "OK");
            let Some(trace) = stored.trace else {
                line.emit();
                return answer;
            };
            line.count("trace", trace).emit();
            answer.with_header(TRACE_HEADER, &trace.to_string())
        }
        Err(failure) => not_stored(config, account, &failure),
    }
}

fn not_stored(config: &WebhookConfig, account: &AccountId, failure: &Failure) -> Answer {
    config.common.log.warn("hook_not_stored").account(account).failure(failure).emit();
    if failure.class == FailureClass::NotFound {
        return Answer::error(404, "unknown_account", "there is no such account: connect it first");
    }
    Answer::error(503, "not_stored", "the delivery could not be stored: send it again")
        .with_retry_after_ms(failure.retry_after_ms.unwrap_or(STORE_RETRY_MS))
}

fn unread(config: &WebhookConfig, error: BodyError) -> Answer {
    refused(config, "body", error.answer())
}

/// Too many deliveries are being taken: nothing is lost, because Keap sends again what is not answered with 200.
fn busy<R: Incoming>(config: &WebhookConfig, request: &R) -> Answer {
    if let Some(deliveries) = request.refused_of_late() {
        config.common.log.warn("hook_not_admitted").count("deliveries", deliveries).emit();
    }
    Answer::error(503, "busy", "too many deliveries come at once: send it again")
        .with_retry_after_ms(BUSY_RETRY_MS)
}

/// Refuses a wrong credential. One too many is not logged: the log is not the sender's to fill.
fn unauthorized<R: Incoming>(
    config: &WebhookConfig,
    request: &R,
    reason: &'static str,
    message: &str,
) -> Answer {
    match request.charge_wrong_credential() {
        Ok(()) => refused(config, reason, Answer::error(401, "unauthorized", message)),
        Err(answer) => answer,
    }
}

fn refused(config: &WebhookConfig, reason: &'static str, answer: Answer) -> Answer {
    config.common.log.info("hook_refused").word("reason", reason).count("status", answer.status).emit();
    answer
}

#[cfg(test)]
mod tests;
