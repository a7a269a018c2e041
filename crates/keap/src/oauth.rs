//! Keap's OAuth 2: the authorize address and the token endpoint.
//!
//! Refresh tokens are single-use: every refresh returns a new one and the old one dies at once. An access token lives
//! 24 hours, a refresh token 45 days.

use crate::failure::{failure_of, malformed};
use crate::query::{Url, form};
use crate::transport::{Body, Credential, Method, Request, Response};
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::secret::Secret;
use serde::Deserialize;

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
/// connect again; anything else may pass.
pub fn parse_token(response: &Response) -> Result<TokenResponse, Failure> {
    if response.status == 200 {
        return serde_json::from_slice(&response.body).map_err(|error| malformed("a token request", &error));
    }
    let mut failure = failure_of(response, "a token request");
    if response.status == 400 {
        // `invalid_grant`, and `invalid_request` for the same cause, both with 400.
        failure.class = FailureClass::Unauthorized;
    }
    Err(failure)
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
        assert_eq!(answer(400, r#"{"error":"invalid_grant"}"#), FailureClass::Unauthorized);
        assert_eq!(answer(503, ""), FailureClass::Unavailable);
        assert_eq!(answer(429, ""), FailureClass::RateLimited);
    }
}
