//! OAuth codes, tokens and service keys of all tenants.
//!
//! A code works once, a refresh token works once and names the tenant, an access token works until it expires. Whether
//! a refresh ends the access token before it is unverified; here it lives on until it expires. One lock covers each
//! step, so of two refreshes with the same token exactly one succeeds.

use std::collections::HashMap;
use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use serde::Serialize;

use crate::clock;
use crate::random;
use crate::tenant::Tenant;

/// A code is exchanged at once; 10 minutes is OAuth's upper bound.
const CODE_TTL_MS: i64 = 600_000;

/// 45 days.
const REFRESH_TOKEN_TTL_MS: i64 = 45 * 86_400_000;

/// What kind of credential made a call: quotas differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    /// A token of the one OAuth client.
    OauthClient,
    /// A personal access token or service account key, by its text.
    ServiceKey(String),
}

#[derive(Debug)]
struct Code {
    tenant: Arc<Tenant>,
    redirect_uri: String,
    expires_ms: i64,
}

#[derive(Debug)]
struct Token {
    tenant: Arc<Tenant>,
    issued_ms: i64,
    expires_ms: i64,
}

/// What the token endpoint answers.
#[derive(Debug, Serialize)]
pub(crate) struct TokenResponse {
    pub(crate) access_token: String,
    pub(crate) refresh_token: String,
    pub(crate) token_type: &'static str,
    pub(crate) expires_in: u64,
    pub(crate) scope: String,
}

/// All credentials that are alive.
#[derive(Debug, Default)]
pub(crate) struct Credentials {
    codes: HashMap<String, Code>,
    access: HashMap<String, Token>,
    refresh: HashMap<String, Token>,
    service_keys: HashMap<String, Arc<Tenant>>,
}

impl Credentials {
    /// A new code for a tenant and a redirect address.
    pub(crate) fn issue_code(&mut self, tenant: Arc<Tenant>, redirect_uri: &str) -> String {
        let code = random::secret();
        let expires_ms = clock::now_ms() + CODE_TTL_MS;
        self.codes.insert(code.clone(), Code { tenant, redirect_uri: redirect_uri.to_owned(), expires_ms });
        code
    }

    /// Takes a code; `None` when it is unknown, used, expired or for another redirect address.
    pub(crate) fn redeem_code(&mut self, code: &str, redirect_uri: &str) -> Option<Arc<Tenant>> {
        let code = self.codes.remove(code)?;
        (code.redirect_uri == redirect_uri && code.expires_ms > clock::now_ms()).then_some(code.tenant)
    }

    /// The tenant of a refresh token that is alive, without using the token.
    pub(crate) fn tenant_of_refresh_token(&self, token: &str) -> Option<Arc<Tenant>> {
        let token = self.refresh.get(token)?;
        (token.expires_ms > clock::now_ms()).then(|| Arc::clone(&token.tenant))
    }

    /// Takes a refresh token and gives new tokens; `None` when it is not alive.
    pub(crate) fn rotate(&mut self, token: &str, default_ttl_s: u64) -> Option<(Arc<Tenant>, TokenResponse)> {
        let tenant = self.tenant_of_refresh_token(token)?;
        self.refresh.remove(token);
        let response = self.issue_tokens(&tenant, default_ttl_s);
        Some((tenant, response))
    }

    /// New tokens for a tenant.
    pub(crate) fn issue_tokens(&mut self, tenant: &Arc<Tenant>, default_ttl_s: u64) -> TokenResponse {
        let now_ms = clock::now_ms();
        let expires_in = tenant.access_token_ttl_s().unwrap_or(default_ttl_s);
        let (access_token, refresh_token) = (random::secret(), random::secret());
        let token = |ttl_ms: i64| Token {
            tenant: Arc::clone(tenant),
            issued_ms: now_ms,
            expires_ms: now_ms.saturating_add(ttl_ms),
        };
        self.access.insert(access_token.clone(), token(milliseconds(expires_in)));
        self.refresh.insert(refresh_token.clone(), token(REFRESH_TOKEN_TTL_MS));
        TokenResponse {
            access_token,
            refresh_token,
            token_type: "bearer",
            expires_in,
            scope: format!("full|{}.infusionsoft.com", tenant.name()),
        }
    }

    /// A new service key for a tenant.
    pub(crate) fn issue_service_key(&mut self, tenant: Arc<Tenant>) -> String {
        let key = format!("KeapAK-{}", random::secret());
        self.service_keys.insert(key.clone(), tenant);
        key
    }

    /// Ends every credential of a tenant, as when its owner withdraws consent.
    pub(crate) fn revoke(&mut self, tenant: &Tenant) {
        let is_other = |other: &Arc<Tenant>| other.name() != tenant.name();
        self.codes.retain(|_, code| is_other(&code.tenant));
        self.access.retain(|_, token| is_other(&token.tenant));
        self.refresh.retain(|_, token| is_other(&token.tenant));
        self.service_keys.retain(|_, tenant| is_other(tenant));
    }

    /// Ends a tenant's access tokens; its refresh tokens get new ones.
    pub(crate) fn revoke_access_tokens(&mut self, tenant: &Tenant) {
        self.access.retain(|_, token| token.tenant.name() != tenant.name());
    }

    /// Gives a tenant's access tokens another lifetime, counted from when each was issued. One that has expired can
    /// live again by it. Refresh tokens are not touched.
    pub(crate) fn set_access_token_ttl(&mut self, tenant: &Tenant, ttl_s: u64) {
        for token in self.access.values_mut().filter(|token| token.tenant.name() == tenant.name()) {
            token.expires_ms = token.issued_ms.saturating_add(milliseconds(ttl_s));
        }
    }

    /// Who makes a request: a bearer token, or a service key in either of the two headers in use.
    pub(crate) fn authenticate(&self, headers: &HeaderMap) -> Option<(Arc<Tenant>, Credential)> {
        let key = headers.get("x-keap-api-key").and_then(|value| value.to_str().ok());
        let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(bearer);
        let presented = key.or(bearer)?;
        if let Some(tenant) = self.service_keys.get(presented) {
            return Some((Arc::clone(tenant), Credential::ServiceKey(presented.to_owned())));
        }
        let token = self.access.get(bearer?)?;
        (token.expires_ms > clock::now_ms()).then(|| (Arc::clone(&token.tenant), Credential::OauthClient))
    }
}

fn milliseconds(seconds: u64) -> i64 {
    i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX)
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
