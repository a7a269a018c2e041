//! Keap's refusals, classified by what to do about them.
//!
//! Bodies come in four forms: the v2 `Error` object, a throttling object whose code is a string, the gateway's `fault`,
//! and v1's bare `message`. Only Keap's own message is taken over, cut short; bodies are never logged whole, because they
//! may repeat what was sent.

use crate::transport::Response;
use keapsync_domain::failure::{Failure, FailureClass};
use serde_json::Value;

/// Longest part of Keap's message that is passed on, in characters.
const MESSAGE_LENGTH_MAX: usize = 200;

/// Wait after a 429 that names none, in milliseconds: the per-second limit is over by then, the per-minute one may be.
const RATE_LIMIT_WAIT_MS: i64 = 2_000;

/// Returns the response when its status says success, else the failure that it means.
pub fn check(response: Response, what: &str) -> Result<Response, Failure> {
    if (200..300).contains(&response.status) { Ok(response) } else { Err(failure_of(&response, what)) }
}

/// What a response of an unsuccessful status means.
#[must_use]
pub fn failure_of(response: &Response, what: &str) -> Failure {
    let class = match response.status {
        401 | 403 => FailureClass::Unauthorized,
        404 | 410 => FailureClass::NotFound,
        408 | 500 | 502 | 503 | 504 => FailureClass::Unavailable,
        409 => FailureClass::Conflict,
        429 => FailureClass::RateLimited,
        400 | 405 | 406 | 412 | 413 | 415 | 422 | 501 => FailureClass::Invalid,
        _ => FailureClass::Unexpected,
    };
    let wait =
        retry_after_ms(response).or((class == FailureClass::RateLimited).then_some(RATE_LIMIT_WAIT_MS));
    let said = keap_message(&response.body).map(|text| format!(": {text}")).unwrap_or_default();
    Failure::new(class, format!("Keap answered {} to {what}{said}", response.status))
        .with_retry_after_ms(wait)
}

/// A refusal of which we know what it is about: nothing helps until somebody does what `advice` says. Keap answers such
/// a call with 400 or with 409, so both count as the record's fault here; other failures stay as they are.
#[must_use]
pub fn clarified(failure: Failure, advice: &str) -> Failure {
    match failure.class {
        FailureClass::Invalid | FailureClass::Conflict => {
            Failure::new(FailureClass::Invalid, format!("{advice} ({})", failure.message))
        }
        _ => failure,
    }
}

/// A write that Keap answers with 409 although nothing changed meanwhile: another record stands in its way, and reading
/// again would not help. Other failures stay as they are.
#[must_use]
pub fn taken(failure: Failure, advice: &str) -> Failure {
    if failure.class == FailureClass::Conflict { clarified(failure, advice) } else { failure }
}

/// A body that is not what the contract says.
#[must_use]
pub fn malformed(what: &str, reason: &serde_json::Error) -> Failure {
    // serde's message may quote the value; its place is enough to find the fault.
    Failure::new(
        FailureClass::Unexpected,
        format!(
            "Keap's answer to {what} has an unexpected shape (line {}, column {})",
            reason.line(),
            reason.column()
        ),
    )
}

pub(crate) fn retry_after_ms(response: &Response) -> Option<i64> {
    let seconds: f64 = response.header("retry-after")?.trim().parse().ok()?;
    // Dates are allowed by HTTP but not sent by Keap; absurd values are cut by the backoff.
    #[expect(clippy::cast_possible_truncation, reason = "the value is clamped to an hour before the cast")]
    seconds.is_finite().then(|| (seconds.clamp(0.0, 3600.0) * 1000.0) as i64)
}

fn keap_message(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    let text = value
        .get("message")
        .or_else(|| value.pointer("/fault/faultstring"))
        .or_else(|| value.get("error_description"))
        .or_else(|| value.get("error"))?
        .as_str()?;
    let clean: String = text.chars().filter(|c| !c.is_control()).take(MESSAGE_LENGTH_MAX).collect();
    (!clean.trim().is_empty()).then_some(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, headers: &[(&str, &str)], body: &str) -> Response {
        Response {
            status,
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn reads_every_form_of_refusal() {
        for (status, body, class, said) in [
            (
                404,
                r#"{"code":404,"message":"gone","status":"NOT_FOUND","details":[]}"#,
                FailureClass::NotFound,
                "gone",
            ),
            (
                429,
                r#"{"code":"429","message":"Quota Exceeded","details":null}"#,
                FailureClass::RateLimited,
                "Quota",
            ),
            (
                401,
                r#"{"fault":{"faultstring":"Invalid access token","detail":{}}}"#,
                FailureClass::Unauthorized,
                "Invalid",
            ),
            (400, r#"{"message":"Input could not be converted"}"#, FailureClass::Invalid, "Input"),
            (
                400,
                r#"{"error":"invalid_grant","error_description":"Invalid refresh token"}"#,
                FailureClass::Invalid,
                "refresh",
            ),
            (502, "<html>Bad gateway</html>", FailureClass::Unavailable, "502"),
            (418, "", FailureClass::Unexpected, "418"),
        ] {
            let failure = failure_of(&response(status, &[], body), "a list of contacts");
            assert_eq!(failure.class, class, "{body}");
            assert!(failure.message.contains(said), "{}", failure.message);
        }
    }

    #[test]
    fn honours_retry_after() {
        assert_eq!(failure_of(&response(429, &[("retry-after", "7")], ""), "x").retry_after_ms, Some(7_000));
        assert_eq!(failure_of(&response(503, &[("retry-after", "soon")], ""), "x").retry_after_ms, None);
        assert_eq!(failure_of(&response(429, &[], ""), "x").retry_after_ms, Some(RATE_LIMIT_WAIT_MS));
        assert_eq!(
            failure_of(&response(429, &[("retry-after", "1e99")], ""), "x").retry_after_ms,
            Some(3_600_000)
        );
    }
}
