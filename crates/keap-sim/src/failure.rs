//! The error bodies of Keap, one constructor for each.
//!
//! Keap answers errors in four shapes: the `Error` schema of v2, the bare `message` of v1, the gateway's `fault` and
//! OAuth's `error`. A client must read all four, so each failure here carries the shape its place would send.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// A refused request: the status and the JSON body to send.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    status: StatusCode,
    body: Value,
}

impl Failure {
    /// The v2 `Error` schema.
    pub(crate) fn rest(status: StatusCode, message: impl Into<String>, resource: &str) -> Self {
        let reason = status.canonical_reason().unwrap_or("Error");
        let details =
            if resource.is_empty() { json!([]) } else { json!([{ "domain": "crm", "resource": resource }]) };
        let body = json!({ "code": status.as_u16(), "message": message.into(), "status": reason, "details": details });
        Self { status, body }
    }

    /// 400 with the v2 `Error` schema.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::rest(StatusCode::BAD_REQUEST, message, "")
    }

    /// 404 with the v2 `Error` schema, naming what is missing.
    pub(crate) fn not_found(resource: &str, id: &str) -> Self {
        Self::rest(StatusCode::NOT_FOUND, format!("{resource} {id} was not found"), resource)
    }

    /// 409 with the v2 `Error` schema.
    pub(crate) fn conflict(message: impl Into<String>, resource: &str) -> Self {
        Self::rest(StatusCode::CONFLICT, message, resource)
    }

    /// The bare body of v1.
    pub(crate) fn v1(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, body: json!({ "message": message.into() }) }
    }

    /// The gateway's `fault`, which is how a 401 and most 429 arrive.
    pub(crate) fn gateway(status: StatusCode, message: impl Into<String>, code: &str) -> Self {
        Self {
            status,
            body: json!({ "fault": { "faultstring": message.into(), "detail": { "errorcode": code } } }),
        }
    }

    /// 401 of the gateway for a missing, unknown, revoked or expired credential.
    pub(crate) fn unauthorized() -> Self {
        Self::gateway(StatusCode::UNAUTHORIZED, "Invalid access token", "oauth.v2.InvalidAccessToken")
    }

    /// OAuth's error body.
    pub(crate) fn oauth(status: StatusCode, error: &str, description: &str) -> Self {
        Self { status, body: json!({ "error": error, "error_description": description }) }
    }

    /// 429 as Keap's own throttle sends it: the code is a string and the details are null.
    pub(crate) fn throttled() -> Self {
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            body: json!({ "code": "429", "message": "Quota Exceeded", "status": "Request Throttled", "details": null }),
        }
    }

    /// The body that fits a status demanded by a fault.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::unauthorized(),
            StatusCode::TOO_MANY_REQUESTS => Self::throttled(),
            _ => Self::rest(status, "Simulated failure", ""),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}
