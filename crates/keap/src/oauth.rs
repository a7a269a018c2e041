//! Keap's OAuth 2: the authorize address and the token endpoint.
//!
//! Refresh tokens are single-use: every refresh returns a new one and the old one dies at once. An access token lives
//! 24 hours, a refresh token 45 days.

use crate::failure::{clarified, failure_of, malformed};
use crate::query::{Url, form};
use crate::transport::{Body, Credential, Method, Request, Response};
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::secret::Secret;
use serde::Deserialize;
use serde_json::Value;

/// The OAuth application and its addresses.
#[derive(Clone, Debug)]
pub struct Application {
    /// `client_id`.
    pub client_id: String,
    /// `client_secret`.
    pub client_secret: Secret,
    /// Where Keap sends the browser back; must be exactly what is registered.
    pub redirect_uri: String,
    /// `https://accounts.infusionsoft.com/app/oauth/authorize`, or the simulator's.
    pub authorize_url: String,
    /// `https://api.infusionsoft.com/token`, or the simulator's.
    pub token_url: String,
}

/// What the token endpoint grants.
#[derive(Clone, Debug, Deserialize)]
pub struct TokenResponse {
    /// For calls.
    pub access_token: Secret,
    /// For the next refresh, once.
    pub refresh_token: Secret,
    /// Seconds until the access token dies.
    pub expires_in: i64,
    /// `full|<app>.infusionsoft.com`: names the Keap application that was connected.
    #[serde(default)]
    pub scope: Option<String>,
}

impl Application {
    /// The address that the person's browser is sent to.
    #[must_use]
    pub fn authorize_address(&self, state: &str) -> String {
        let (base, path) = (self.authorize_url.as_str(), "");
        Url::new(base, path)
            .with("client_id", &self.client_id)
            .with("redirect_uri", &self.redirect_uri)
            .with("response_type", "code")
            .with("scope", "full")
            .with("state", state)
            .build()
    }

    /// The request that turns a code into tokens.
    #[must_use]
    pub fn exchange_code(&self, code: &str) -> Request {
        let body = form(&[
            ("client_id", &self.client_id),
            ("client_secret", self.client_secret.reveal()),
            ("code", code),
            ("grant_type", "authorization_code"),
            ("redirect_uri", &self.redirect_uri),
        ]);
        self.token_request(body)
    }

    /// The request that turns a refresh token into new tokens.
    #[must_use]
    pub fn refresh(&self, refresh_token: &Secret) -> Request {
        self.token_request(form(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token.reveal()),
        ]))
    }

    fn token_request(&self, body: String) -> Request {
        use base64::Engine as _;
        let pair = format!("{}:{}", self.client_id, self.client_secret.reveal());
        let basic = base64::engine::general_purpose::STANDARD.encode(pair);
        Request {
            method: Method::Post,
            url: self.token_url.clone(),
            credential: Credential::Basic(Secret::new(basic)),
            body: Body::Form(Secret::new(body)),
        }
    }
}

/// Reads the token endpoint's answer. A refusal of the grant itself is [`FailureClass::Unauthorized`]: only a person can
/// connect again. Anything else may pass, and must not cost the grant: least of all a wrong client secret, which would
/// disconnect every account at once.
pub fn parse_token(response: &Response) -> Result<TokenResponse, Failure> {
    if response.status == 200 {
        return serde_json::from_slice(&response.body).map_err(|error| malformed("a token request", &error));
    }
    let failure = failure_of(response, "a token request");
    if !matches!(response.status, 400 | 401 | 403) {
        return Err(failure);
    }
    Err(match refused_part(&response.body) {
        Some(Part::Grant) => Failure { class: FailureClass::Unauthorized, ..failure },
        Some(Part::Client) => clarified(
            Failure { class: FailureClass::Invalid, ..failure },
            "Keap does not accept KEAP_CLIENT_ID with KEAP_CLIENT_SECRET: set both as the Keap application has them",
        ),
        None => Failure { class: FailureClass::Invalid, ..failure },
    })
}

/// What the token endpoint refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The code or refresh token.
    Grant,
    /// The application's id or secret.
    Client,
}

/// Reads OAuth's `error`, its description, and the gateway's `fault`: `invalid_grant`; `invalid_request` with "Invalid
/// Refresh Token"; `invalid_client`; and the gateway's words for the same.
fn refused_part(body: &[u8]) -> Option<Part> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let said: Vec<String> =
        ["/error", "/error_description", "/fault/faultstring", "/fault/detail/errorcode", "/message"]
            .iter()
            .filter_map(|place| value.pointer(place).and_then(Value::as_str))
            .map(|text| text.to_lowercase().replace(['_', ' ', '-'], ""))
            .collect();
    let says = |words: &[&str]| said.iter().any(|text| words.iter().any(|word| text.contains(word)));
    if says(&["invalidgrant", "refreshtoken", "authorizationcode", "invalidcode"]) {
        Some(Part::Grant)
    } else if says(&["client"]) {
        Some(Part::Client)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn application() -> Application {
        Application {
            client_id: "id".to_owned(),
            client_secret: Secret::new("s&cret"),
            redirect_uri: "https://x.example/oauth/callback".to_owned(),
            authorize_url: "https://accounts.example/app/oauth/authorize".to_owned(),
            token_url: "https://api.example/token".to_owned(),
        }
    }

    #[test]
    fn the_authorize_address_carries_everything() {
        assert_eq!(
            application().authorize_address("st.ate"),
            "https://accounts.example/app/oauth/authorize?client_id=id&redirect_uri=https%3A%2F%2Fx.example%2Foauth%2F\
             callback&response_type=code&scope=full&state=st.ate"
        );
    }

    #[test]
    fn secrets_do_not_show_in_debug() {
        let shown = format!("{:?} {:?}", application(), application().refresh(&Secret::new("rt-1")));
        assert!(!shown.contains("cret&") && !shown.contains("s&cret") && !shown.contains("rt-1"), "{shown}");
    }

    #[test]
    fn a_dead_refresh_token_needs_a_person_an_outage_does_not() {
        let answer = |status: u16, body: &str| {
            parse_token(&Response { status, headers: Vec::new(), body: body.as_bytes().to_vec() })
                .unwrap_err()
                .class
        };
        for refusal in [
            r#"{"error":"invalid_grant"}"#,
            r#"{"error":"invalid_grant","error_description":"Invalid refresh token"}"#,
            r#"{"error":"invalid_request","error_description":"Invalid Refresh Token"}"#,
            r#"{"fault":{"faultstring":"Invalid Refresh Token","detail":{"errorcode":"oauth.v2.InvalidRefreshToken"}}}"#,
        ] {
            assert_eq!(answer(400, refusal), FailureClass::Unauthorized, "{refusal}");
            assert_eq!(answer(401, refusal), FailureClass::Unauthorized, "{refusal}");
        }
        assert_eq!(answer(503, ""), FailureClass::Unavailable);
        assert_eq!(answer(429, ""), FailureClass::RateLimited);
    }

    #[test]
    fn a_refusal_of_anything_but_the_grant_does_not_cost_the_grant() {
        let answer = |status: u16, body: &str| {
            parse_token(&Response { status, headers: Vec::new(), body: body.as_bytes().to_vec() })
                .unwrap_err()
        };
        for (status, body) in [
            (401, r#"{"error":"invalid_client","error_description":"Client credentials are invalid"}"#),
            (
                400,
                r#"{"fault":{"faultstring":"x","detail":{"errorcode":"oauth.v2.InvalidClientIdentifier"}}}"#,
            ),
        ] {
            let failure = answer(status, body);
            assert_eq!(failure.class, FailureClass::Invalid);
            assert!(failure.message.contains("KEAP_CLIENT_SECRET"), "{failure}");
        }
        for (status, body) in
            [(400, "<html>"), (401, ""), (403, "{}"), (400, r#"{"error":"unsupported_grant_type"}"#)]
        {
            assert_eq!(answer(status, body).class, FailureClass::Invalid, "{status} {body}");
        }
    }
}
