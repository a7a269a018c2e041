//! OAuth 2: the approving page, and the token endpoint with rotating refresh tokens.
//!
//! There is one OAuth client, named by the options. Who approves is not asked; the page stands in for Keap's sign-in
//! and names the tenant that will be connected.

use std::sync::Arc;

use axum::Form;
use axum::Json;
use axum::extract::rejection::FormRejection;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::clock;
use crate::credentials::TokenResponse;
use crate::failure::Failure;
use crate::faults::{Fault, FaultKind};
use crate::gate;
use crate::listener::Connection;
use crate::meter::CallEntry;
use crate::operation::Operation;
use crate::simulator::{DEFAULT_TENANT, Simulator};
use crate::tenant::Tenant;

/// What the authorize address is asked with.
#[derive(Debug, Deserialize)]
pub(crate) struct AuthorizeQuery {
    client_id: Option<String>,
    redirect_uri: Option<String>,
    response_type: Option<String>,
    scope: Option<String>,
    state: Option<String>,
    /// The Keap app to connect; not part of Keap's own address.
    tenant: Option<String>,
    /// `1` approves at once.
    auto: Option<String>,
}

/// `GET /app/oauth/authorize`
pub(crate) async fn authorize(
    State(simulator): State<Simulator>,
    Query(query): Query<AuthorizeQuery>,
) -> Response {
    let refuse = |message: &str| {
        (StatusCode::BAD_REQUEST, Html(page("Request refused", &format!("<p>{}</p>", escape(message)))))
            .into_response()
    };
    if query.client_id.as_deref() != Some(&simulator.options().client_id) {
        return refuse("The client_id is not known. Give the one the simulator was started with.");
    }
    if query.response_type.as_deref() != Some("code") {
        return refuse("response_type must be code.");
    }
    if query.scope.as_deref().is_some_and(|scope| scope != "full") {
        return refuse("scope must be full.");
    }
    let redirect_uri = query.redirect_uri.as_deref().unwrap_or_default();
    let Some(target) = redirect_target(redirect_uri) else {
        return refuse("redirect_uri must be an absolute http or https address without a fragment.");
    };
    let name = query.tenant.as_deref().unwrap_or(DEFAULT_TENANT);
    let Some(tenant) = simulator.tenant(name) else {
        return refuse("tenant must be 1 to 64 of a-z, 0-9 and -.");
    };
    if query.auto.as_deref() != Some("1") {
        return Html(approval_page(&query, tenant.name())).into_response();
    }
    let code = simulator.credentials().issue_code(tenant, redirect_uri);
    redirect(target, &code, query.state.as_deref())
}

fn redirect_target(redirect_uri: &str) -> Option<reqwest::Url> {
    let url = reqwest::Url::parse(redirect_uri).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.fragment().is_none()).then_some(url)
}

fn redirect(mut target: reqwest::Url, code: &str, state: Option<&str>) -> Response {
    target.query_pairs_mut().append_pair("code", code);
    if let Some(state) = state {
        target.query_pairs_mut().append_pair("state", state);
    }
    match HeaderValue::from_str(target.as_str()) {
        Ok(location) => (StatusCode::FOUND, [(LOCATION, location)]).into_response(),
        Err(_) => Failure::bad_request("redirect_uri cannot be sent as a header").into_response(),
    }
}

fn approval_page(query: &AuthorizeQuery, tenant: &str) -> String {
    let mut fields = String::new();
    let values = [
        ("client_id", query.client_id.as_deref()),
        ("redirect_uri", query.redirect_uri.as_deref()),
        ("response_type", query.response_type.as_deref()),
        ("scope", query.scope.as_deref()),
        ("state", query.state.as_deref()),
        ("tenant", Some(tenant)),
        ("auto", Some("1")),
    ];
    for (name, value) in values {
        if let Some(value) = value {
            let input = format!("<input type=\"hidden\" name=\"{name}\" value=\"{}\">", escape(value));
            fields.push_str(&input);
        }
    }
    let client = escape(query.client_id.as_deref().unwrap_or_default());
    page(
        "Allow access",
        &format!(
            "<p><strong>{client}</strong> asks for full access to the Keap app <strong>{}</strong>.</p>\
             <form method=\"get\" action=\"/app/oauth/authorize\">{fields}<button type=\"submit\">Allow</button></form>",
            escape(tenant)
        ),
    )
}

fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <style>body{{font:16px/1.5 system-ui;max-width:32rem;margin:4rem auto;padding:0 1rem}}\
         button{{font:inherit;padding:.5rem 1.5rem}}</style></head>\
         <body><h1>{title}</h1>{body}<p><small>Keap simulator: no real account is involved.</small></p></body></html>"
    )
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The form of the token endpoint.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct TokenForm {
    grant_type: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    code: Option<String>,
    redirect_uri: Option<String>,
    refresh_token: Option<String>,
}

/// `POST /token`
pub(crate) async fn token(
    State(simulator): State<Simulator>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    headers: HeaderMap,
    form: Result<Form<TokenForm>, FormRejection>,
) -> Response {
    let Ok(Form(form)) = form else {
        return refuse("invalid_request", "Send the parameters as a form body");
    };
    if !is_known_client(&simulator, &headers, &form) {
        return Failure::oauth(StatusCode::UNAUTHORIZED, "invalid_client", "Client credentials are invalid")
            .into_response();
    }
    let answer = match form.grant_type.as_deref() {
        Some("authorization_code") => exchange(&simulator, &form).await,
        Some("refresh_token") => refresh(&simulator, &form).await,
        _ => Some(refuse("unsupported_grant_type", "grant_type must be authorization_code or refresh_token")),
    };
    answer.unwrap_or_else(|| {
        connection.sever();
        StatusCode::GATEWAY_TIMEOUT.into_response()
    })
}

async fn exchange(simulator: &Simulator, form: &TokenForm) -> Option<Response> {
    let code = form.code.as_deref().unwrap_or_default();
    let redirect_uri = form.redirect_uri.as_deref().unwrap_or_default();
    let tenant = simulator.credentials().redeem_code(code, redirect_uri);
    let Some(tenant) = tenant else {
        return Some(refuse("invalid_grant", "Invalid authorization code"));
    };
    let faults = tenant.faults().of_call(Operation::EXCHANGE);
    if let Some(answer) = before(simulator, &faults).await {
        note(&tenant, Operation::EXCHANGE, answer.as_ref());
        return answer;
    }
    let tokens = simulator.credentials().issue_tokens(&tenant, simulator.options().access_token_ttl_s);
    let answer = after(simulator, &faults, tokens).await;
    note(&tenant, Operation::EXCHANGE, answer.as_ref());
    answer
}

async fn refresh(simulator: &Simulator, form: &TokenForm) -> Option<Response> {
    let token = form.refresh_token.as_deref().unwrap_or_default();
    let invalid = || Some(refuse("invalid_grant", "Invalid refresh token"));
    let owner = simulator.credentials().tenant_of_refresh_token(token);
    let Some(owner) = owner else {
        return invalid();
    };
    let faults = owner.faults().of_call(Operation::REFRESH);
    if let Some(answer) = before(simulator, &faults).await {
        note(&owner, Operation::REFRESH, answer.as_ref());
        return answer;
    }
    // The check above and this step are apart: the rotation alone decides who of two refreshers wins.
    let rotated = simulator.credentials().rotate(token, simulator.options().access_token_ttl_s);
    let Some((tenant, tokens)) = rotated else {
        let answer = invalid();
        note(&owner, Operation::REFRESH, answer.as_ref());
        return answer;
    };
    tenant.meter().refreshes += 1;
    let answer = after(simulator, &faults, tokens).await;
    note(&tenant, Operation::REFRESH, answer.as_ref());
    answer
}

/// Faults that keep the endpoint from doing anything: the answer in its place, which may be none.
async fn before(simulator: &Simulator, faults: &[Fault]) -> Option<Option<Response>> {
    for fault in faults.iter().filter(|fault| fault.kind == FaultKind::Latency) {
        gate::pause(simulator, fault.ms.unwrap_or(0)).await;
    }
    if let Some(fault) = gate::find(faults, FaultKind::TimeoutBefore) {
        gate::pause(simulator, fault.ms.unwrap_or(0)).await;
        return Some(None);
    }
    gate::find(faults, FaultKind::Status).map(|fault| Some(gate::status_answer(fault)))
}

/// The tokens, unless the answer gets lost.
async fn after(simulator: &Simulator, faults: &[Fault], tokens: TokenResponse) -> Option<Response> {
    let lost = gate::find(faults, FaultKind::TokenRefreshLost);
    if let Some(fault) = lost.or_else(|| gate::find(faults, FaultKind::TimeoutAfter)) {
        gate::pause(simulator, fault.ms.unwrap_or(0)).await;
        return None;
    }
    if gate::find(faults, FaultKind::InvalidJson).is_some() {
        return Some("{\"access_token\":".into_response());
    }
    Some(([(CACHE_CONTROL, "no-store")], Json(tokens)).into_response())
}

fn note(tenant: &Arc<Tenant>, operation: Operation, answer: Option<&Response>) {
    let entry = CallEntry {
        seq: 0,
        at_ms: clock::now_ms(),
        method: "POST".to_owned(),
        path: "/token".to_owned(),
        operation: operation.name(),
        status: answer.map_or(0, |response| response.status().as_u16()),
        duration_ms: 0,
    };
    let mut meter = tenant.meter();
    meter.begin_token_call(operation);
    meter.end(entry);
}

fn refuse(error: &str, description: &str) -> Response {
    Failure::oauth(StatusCode::BAD_REQUEST, error, description).into_response()
}

/// Whether the request proves to be the client's, by Basic credentials or by the form.
fn is_known_client(simulator: &Simulator, headers: &HeaderMap, form: &TokenForm) -> bool {
    let options = simulator.options();
    if let Some(header) = headers.get(AUTHORIZATION) {
        let credentials = header
            .to_str()
            .ok()
            .and_then(|text| text.strip_prefix("Basic "))
            .and_then(|encoded| STANDARD.decode(encoded.trim()).ok())
            .and_then(|bytes| String::from_utf8(bytes).ok());
        return credentials
            .as_deref()
            .and_then(|text| text.split_once(':'))
            .is_some_and(|(id, secret)| id == options.client_id && secret == options.client_secret);
    }
    form.client_id.as_deref() == Some(&options.client_id)
        && form.client_secret.as_deref() == Some(&options.client_secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_escaped() {
        assert_eq!(escape("<b a='\"&'>"), "&lt;b a=&#39;&quot;&amp;&#39;&gt;");
    }

    #[test]
    fn only_absolute_web_addresses_are_redirected_to() {
        assert!(redirect_target("http://127.0.0.1:8787/oauth/callback").is_some());
        for text in ["", "/callback", "javascript:alert(1)", "https://a.example/#part"] {
            assert!(redirect_target(text).is_none(), "{text}");
        }
    }
}
