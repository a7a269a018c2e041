//! The worker's side of connecting: reads what browsers and admins send, asks the account's object, writes pages.

use crate::account::connect::state_keys;
use crate::account::wire::{AccountRequest, CompleteRequest, OpenRequest, OpenResponse, ServiceKeyRequest};
use crate::account::{ACCOUNT_BINDING, object_path};
use crate::entry::Surroundings;
use crate::oauth::browser::{clear_cookie, cookie_of, page, set_cookie};
use crate::oauth::state::{InvalidState, State};
use crate::object_call::{ObjectAnswer, ObjectRequest};
use crate::route::value_of;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::AccountId;
use keapsync_domain::secret::Secret;
use keapsync_engine::ports::Clock as _;
use keapsync_platform::clock::WorkerClock;
use keapsync_platform::respond::Answer;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use worker::Method;

/// Longest text of a query parameter that is looked at, in characters.
const PARAMETER_LENGTH_MAX: usize = 2048;

/// `POST /oauth/initiate`.
pub async fn initiate(around: &Surroundings<'_>, body: &[u8]) -> Answer {
    match named_account(body) {
        Ok(account) => ask(around, &account, "oauth/begin", b"{}").await,
        Err(answer) => answer,
    }
}

/// `GET /oauth/initiate?ticket=`: a person's browser.
pub async fn open(around: &Surroundings<'_>, query: &[(String, String)]) -> Answer {
    let parts = parameter(query, "ticket").and_then(|text| text.split_once('~'));
    let Some((account, ticket)) = parts else { return refused(&broken_link()) };
    let Ok(account) = AccountId::parse(account) else { return refused(&broken_link()) };
    let request = OpenRequest { ticket: ticket.to_owned() };
    match call::<_, OpenResponse>(around, &account, "oauth/open", &request).await {
        Ok(opened) => Answer::redirect(&opened.auth_url)
            .with_header("set-cookie", &set_cookie(&opened.cookie, is_https(around))),
        Err(failure) => refused(&failure),
    }
}

/// `GET /oauth/callback`: Keap sent the browser back. Also tells the account, when the state is one of ours.
pub async fn callback(
    around: &Surroundings<'_>,
    query: &[(String, String)],
    cookies: Option<&str>,
) -> (Answer, Option<AccountId>) {
    let signed = parameter(query, "state").unwrap_or_default();
    let state = match State::verify_any(&state_keys(around.config), signed, WorkerClock.now()) {
        Ok(state) => state,
        Err(InvalidState::Forged) => {
            return (
                refused(&invalid("this address was not made by keapsync: begin again with a new link")),
                None,
            );
        }
        Err(InvalidState::Expired) => {
            return (
                refused(&invalid("connecting took longer than ten minutes: begin again with a new link")),
                None,
            );
        }
    };
    let account = state.account.clone();
    let answer = match finish(around, query, state, cookies).await {
        Ok(()) => Answer::html(
            200,
            &page(
                "Connected",
                &format!(
                    "keapsync is now connected to Keap for the account {account}. You can close this page."
                ),
            ),
        )
        .with_header("set-cookie", &clear_cookie(is_https(around))),
        Err(failure) => refused(&failure),
    };
    (answer, Some(account))
}

async fn finish(
    around: &Surroundings<'_>,
    query: &[(String, String)],
    state: State,
    cookies: Option<&str>,
) -> Result<(), Failure> {
    if let Some(error) = parameter(query, "error") {
        return Err(match error {
            "access_denied" => invalid("access was not granted in Keap: nothing was changed"),
            _ => invalid("Keap did not grant access: nothing was changed; begin again with a new link"),
        });
    }
    let code = parameter(query, "code").filter(|code| !code.is_empty());
    let code = code.ok_or_else(|| invalid("Keap sent no code: begin again with a new link"))?;
    let cookie = cookies.and_then(|header| cookie_of(header, is_https(around))).ok_or_else(|| {
        invalid("this browser did not begin the attempt: open the link from keapsync in the browser you use for Keap")
    })?;
    let request = CompleteRequest { nonce: state.nonce, cookie: cookie.to_owned(), code: Secret::new(code) };
    let _: Value = call(around, &state.account, "oauth/complete", &request).await?;
    Ok(())
}

/// `GET /oauth/status?keap_account_id=`.
pub async fn status(around: &Surroundings<'_>, query: &[(String, String)]) -> Answer {
    match parameter(query, "keap_account_id").map(AccountId::parse) {
        Some(Ok(account)) => ask(around, &account, "oauth/status", b"{}").await,
        Some(Err(error)) => Answer::bad_request(&error.to_string()),
        None => Answer::bad_request("name the account by ?keap_account_id="),
    }
}

/// `POST /oauth/refresh` and `POST /oauth/revoke`.
pub async fn on_account(around: &Surroundings<'_>, body: &[u8], path: &'static str) -> Answer {
    match named_account(body) {
        Ok(account) => ask(around, &account, path, b"{}").await,
        Err(answer) => answer,
    }
}

/// `POST /oauth/service-key`.
pub async fn service_key(around: &Surroundings<'_>, body: &[u8]) -> Answer {
    // serde's message could quote the key.
    match serde_json::from_slice::<ServiceKeyRequest>(body) {
        Ok(request) => ask(around, &request.keap_account_id, "oauth/service-key", body).await,
        Err(_) => Answer::bad_request("give keap_account_id (a-z, 0-9 and '-') and service_key"),
    }
}

fn named_account(body: &[u8]) -> Result<AccountId, Answer> {
    serde_json::from_slice::<AccountRequest>(body).map(|request| request.keap_account_id).map_err(|_| {
        Answer::bad_request("give {\"keap_account_id\": \"…\"}: 1 to 64 characters of a-z, 0-9 and '-'")
    })
}

async fn ask(around: &Surroundings<'_>, account: &AccountId, path: &str, body: &[u8]) -> Answer {
    match send(around, account, path, body).await {
        Ok(answer) => around.pass_on(answer),
        Err(failure) => Answer::failure(&failure),
    }
}

async fn call<B: Serialize, T: DeserializeOwned>(
    around: &Surroundings<'_>,
    account: &AccountId,
    path: &str,
    body: &B,
) -> Result<T, Failure> {
    let body = serde_json::to_vec(body).map_err(|_| unreadable())?;
    let answer = send(around, account, path, &body).await?;
    if answer.status == 200 {
        return serde_json::from_slice(&answer.body).map_err(|_| unreadable());
    }
    let said = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
    let message = said
        .pointer("/error/message")
        .and_then(Value::as_str)
        .unwrap_or("keapsync could not go on: try again");
    let class = if answer.status < 500 { FailureClass::Invalid } else { FailureClass::Unavailable };
    Err(Failure::new(class, message))
}

async fn send(
    around: &Surroundings<'_>,
    account: &AccountId,
    path: &str,
    body: &[u8],
) -> Result<ObjectAnswer, Failure> {
    let (object_name, path) = (account.object_name(), object_path(account, path));
    ObjectRequest {
        binding: ACCOUNT_BINDING,
        object_name: &object_name,
        method: Method::Post,
        path: &path,
        body,
    }
    .send(around.env)
    .await
}

fn parameter<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    value_of(query, name).filter(|text| text.len() <= PARAMETER_LENGTH_MAX)
}

fn refused(failure: &Failure) -> Answer {
    let status = if failure.class == FailureClass::Invalid { 400 } else { 503 };
    Answer::html(status, &page("Not connected", &failure.message))
}

fn is_https(around: &Surroundings<'_>) -> bool {
    around.config.application.redirect_uri.starts_with("https://")
}

fn invalid(message: &str) -> Failure {
    Failure::new(FailureClass::Invalid, message)
}

fn broken_link() -> Failure {
    invalid("this link is not complete: begin again with a new one")
}

fn unreadable() -> Failure {
    Failure::new(FailureClass::Unexpected, "the account's object answered in an unexpected shape")
}
