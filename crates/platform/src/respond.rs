//! Answers, as plain data until they leave the worker, with the headers that every answer carries.
//!
//! Errors have one form: `{"error":{"code","message"}}`. Messages are for the caller: no internals, no tokens.

use crate::plain_object::header_object;
use keapsync_domain::failure::{Failure, FailureClass};
use serde::Serialize;
use serde_json::json;
use worker::js_sys::Uint8Array;
use worker::web_sys;

const JSON: &str = "application/json; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// What pages may load: their own inline style and nothing else; nobody may frame them.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What everything else may load, should a browser take it for a page: nothing.
const DATA_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

/// A year of nothing but HTTPS, in seconds; browsers ignore it where the address is not HTTPS.
const HTTPS_ONLY: &str = "max-age=31536000";

/// When to come back to a worker that lacks a setting, in milliseconds: somebody must change it first.
const MISCONFIGURED_RETRY_MS: i64 = 60_000;

/// An answer, not yet sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: Vec<(&'static str, String)>,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// An answer of any type that must not be kept by caches.
    #[must_use]
    pub fn new(status: u16, content_type: &'static str, body: Vec<u8>) -> Self {
        let headers = vec![
            ("content-type", content_type.to_owned()),
            ("cache-control", "no-store".to_owned()),
            ("x-content-type-options", "nosniff".to_owned()),
            ("referrer-policy", "no-referrer".to_owned()),
            ("content-security-policy", DATA_POLICY.to_owned()),
            ("strict-transport-security", HTTPS_ONLY.to_owned()),
            ("cross-origin-resource-policy", "same-origin".to_owned()),
        ];
        Self { status, headers, body }
    }

    /// A JSON answer.
    #[must_use]
    pub fn json(status: u16, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self::new(status, JSON, body),
            Err(_) => Self::error(
                500,
                "internal",
                "the answer could not be written as JSON; this is a fault of keapsync",
            ),
        }
    }

    /// A plain text.
    #[must_use]
    pub fn text(status: u16, text: &str) -> Self {
        Self::new(status, TEXT, text.as_bytes().to_vec())
    }

    /// A page without scripts. The caller escapes what it puts in.
    #[must_use]
    pub fn html(status: u16, html: &str) -> Self {
        Self::new(status, HTML, html.as_bytes().to_vec())
            .with_header("content-security-policy", PAGE_POLICY)
            .with_header("x-frame-options", "DENY")
    }

    /// Sends the browser on with 302. `location` must come from configuration or be checked.
    #[must_use]
    pub fn redirect(location: &str) -> Self {
        Self::new(302, TEXT, Vec::new()).with_header("location", location)
    }

    /// An error.
    #[must_use]
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        Self::new(status, JSON, json!({"error": {"code": code, "message": message}}).to_string().into_bytes())
    }

    /// 400.
    #[must_use]
    pub fn bad_request(message: &str) -> Self {
        Self::error(400, "bad_request", message)
    }

    /// 401; `message` says which credential is expected.
    #[must_use]
    pub fn unauthorized(message: &str) -> Self {
        Self::error(401, "unauthorized", message).with_header("www-authenticate", "Bearer")
    }

    /// 404.
    #[must_use]
    pub fn not_found(message: &str) -> Self {
        Self::error(404, "not_found", message)
    }

    /// 405; `allowed` lists the methods of this path.
    #[must_use]
    pub fn method_not_allowed(allowed: &str) -> Self {
        Self::error(405, "method_not_allowed", &format!("this path takes {allowed}"))
            .with_header("allow", allowed)
    }

    /// 413.
    #[must_use]
    pub fn too_large(message: &str) -> Self {
        Self::error(413, "too_large", message)
    }

    /// 429: this address has asked too often without a good credential.
    #[must_use]
    pub fn too_many_requests(wait_ms: i64) -> Self {
        Self::error(
            429,
            "too_many_requests",
            "too many requests without a valid credential: wait, then try again",
        )
        .with_retry_after_ms(wait_ms)
    }

    /// 503: a setting is missing or wrong. The log and `GET /health` say which; other callers need not know.
    #[must_use]
    pub fn misconfigured() -> Self {
        Self::error(
            503,
            "misconfigured",
            "this worker is not configured: its log and GET /health name the setting",
        )
        .with_retry_after_ms(MISCONFIGURED_RETRY_MS)
    }

    /// What a failure is to the caller of an API.
    #[must_use]
    pub fn failure(failure: &Failure) -> Self {
        let status = match failure.class {
            FailureClass::Invalid => 422,
            FailureClass::NotFound => 404,
            FailureClass::Conflict => 409,
            FailureClass::RateLimited => 429,
            // Keap's refusal of the account, not the caller's of ours.
            FailureClass::Unauthorized | FailureClass::Unexpected => 502,
            FailureClass::Unavailable => 503,
        };
        let answer = Self::error(status, failure.class.as_str(), &failure.message);
        match failure.retry_after_ms {
            Some(wait_ms) => answer.with_retry_after_ms(wait_ms),
            None => answer,
        }
    }

    /// Names the wait before another try; `Retry-After` counts whole seconds, so it is rounded up.
    #[must_use]
    pub fn with_retry_after_ms(self, wait_ms: i64) -> Self {
        let seconds = wait_ms.max(0).saturating_add(999) / 1000;
        self.with_header("retry-after", &seconds.to_string())
    }

    /// Sets a header.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Lets pages of `allowed_origin` read the answer. `request_origin` is the request's `Origin` header.
    #[must_use]
    pub fn with_cors(self, allowed_origin: Option<&str>, request_origin: Option<&str>) -> Self {
        match (allowed_origin, request_origin) {
            (Some(allowed), Some(origin)) if allowed == origin => self
                .with_header("access-control-allow-origin", allowed)
                .with_header("access-control-expose-headers", "retry-after")
                .with_header("vary", "origin"),
            (Some(_), _) => self.with_header("vary", "origin"),
            (None, _) => self,
        }
    }

    /// The answer to a browser's preflight question (`OPTIONS`).
    #[must_use]
    pub fn preflight(allowed_origin: Option<&str>, request_origin: Option<&str>) -> Self {
        let answer = Self::new(204, TEXT, Vec::new()).with_cors(allowed_origin, request_origin);
        if allowed_origin.is_some() && allowed_origin == request_origin {
            answer
                .with_header("access-control-allow-methods", "GET, POST, PUT, PATCH, DELETE")
                .with_header("access-control-allow-headers", "authorization, content-type")
                .with_header("access-control-max-age", "600")
        } else {
            answer
        }
    }

    /// The first header of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// Hands the answer to the runtime.
    pub fn into_response(self) -> worker::Result<worker::Response> {
        let init = web_sys::ResponseInit::new();
        init.set_status(self.status);
        init.set_headers(&header_object(self.headers.iter().map(|(name, value)| (*name, value.as_str())))?);
        // A body, even an empty one, is refused by the runtime for these.
        let response = if matches!(self.status, 101 | 204 | 304) {
            web_sys::Response::new_with_opt_str_and_init(None, &init)
        } else if let Ok(text) = std::str::from_utf8(&self.body) {
            web_sys::Response::new_with_opt_str_and_init(Some(text), &init)
        } else {
            let bytes = Uint8Array::from(self.body.as_slice());
            web_sys::Response::new_with_opt_js_u8_array_and_init(Some(&bytes), &init)
        };
        Ok(response?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_safe_to_show() {
        for answer in [
            Answer::json(200, &json!({})),
            Answer::error(500, "x", "y"),
            Answer::text(200, "OK"),
            Answer::html(200, "<p>ok</p>"),
            Answer::redirect("https://example.com"),
            Answer::too_many_requests(1),
        ] {
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
            assert_eq!(answer.header("cross-origin-resource-policy"), Some("same-origin"));
            assert!(answer.header("strict-transport-security").unwrap().starts_with("max-age="));
            let policy = answer.header("content-security-policy").unwrap();
            assert!(
                policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
                "{policy}"
            );
        }
    }

    #[test]
    fn errors_have_one_form() {
        let answer = Answer::method_not_allowed("POST");
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body, json!({"error": {"code": "method_not_allowed", "message": "this path takes POST"}}));
    }

    #[test]
    fn failures_name_the_wait_in_whole_seconds() {
        let failure = Failure::new(FailureClass::Unavailable, "busy").with_retry_after_ms(Some(1_001));
        let answer = Answer::failure(&failure);
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("2")));
        assert_eq!(Answer::failure(&Failure::new(FailureClass::Unauthorized, "x")).status, 502);
        assert_eq!(Answer::text(503, "").with_retry_after_ms(-5).header("retry-after"), Some("0"));
    }

    #[test]
    fn only_the_allowed_origin_may_read() {
        let origin = "https://app.example";
        let answer = |allowed, asked| Answer::text(200, "OK").with_cors(allowed, asked);
        assert_eq!(answer(Some(origin), Some(origin)).header("access-control-allow-origin"), Some(origin));
        for (allowed, asked) in
            [(None, Some(origin)), (Some(origin), None), (Some(origin), Some("https://evil.example"))]
        {
            assert_eq!(answer(allowed, asked).header("access-control-allow-origin"), None);
            assert_eq!(Answer::preflight(allowed, asked).header("access-control-allow-methods"), None);
        }
        assert!(
            Answer::preflight(Some(origin), Some(origin)).header("access-control-allow-methods").is_some()
        );
    }
}
