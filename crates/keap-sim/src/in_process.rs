//! The simulator without a network: the same routes behind the same gate, called one request at a time by the caller's thread.
//!
//! The caller tells the time, so that one seed is one history. Nothing is delivered: who wants to know what changed asks for it.

use std::future::poll_fn;
use std::net::SocketAddr;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::http::header::AUTHORIZATION;
use tokio::sync::watch;
use tower_service::Service;

use crate::clock;
use crate::listener::Connection;
use crate::options::Options;
use crate::server::{StartError, router};
use crate::simulator::{DEFAULT_TENANT, Simulator};

/// Largest answer that is read: a page of 1000 contacts is about 1.5 MB.
const ANSWER_SIZE_MAX: usize = 256 * 1024 * 1024;

/// An answer with its whole body.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers, names in lower case; those that are no text are left out.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

/// A simulator that its caller runs.
#[derive(Debug)]
pub struct InProcess {
    router: Router,
    service_key: String,
    // Dropped with the simulator, which counts as its end.
    _stop: watch::Sender<bool>,
}

impl InProcess {
    /// A simulator with the tenant `demo`, whose time is `now_ms`.
    pub fn new(options: Options, now_ms: i64) -> Result<Self, StartError> {
        clock::tell(now_ms);
        let (stop, stopped) = watch::channel(false);
        let client = reqwest::Client::builder().build().map_err(StartError::Client)?;
        let simulator = Simulator::new(options, SocketAddr::from(([127, 0, 0, 1], 0)), client, stopped);
        let tenant = simulator.tenant(DEFAULT_TENANT);
        let service_key =
            tenant.map(|tenant| simulator.credentials().issue_service_key(tenant)).unwrap_or_default();
        Ok(Self { router: router(&simulator), service_key, _stop: stop })
    }

    /// Sets the simulator's time, in milliseconds since 1970. It stands still until it is set again.
    pub fn tell_time(&self, now_ms: i64) {
        clock::tell(now_ms);
    }

    /// A service key of the tenant `demo`.
    #[must_use]
    pub fn service_key(&self) -> &str {
        &self.service_key
    }

    /// Answers one request. `path` begins with a slash and has the query behind it; `body` is JSON. `None` where the simulator closes the
    /// connection without an answer, or the request is none.
    pub async fn send(&self, method: &str, path: &str, bearer: &str, body: Option<String>) -> Option<Answer> {
        let mut request = Request::builder().method(method).uri(path);
        if !bearer.is_empty() {
            request = request.header(AUTHORIZATION, format!("Bearer {bearer}"));
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let connection = Connection::default();
        let mut request = request.body(body.map_or_else(Body::empty, Body::from)).ok()?;
        request.extensions_mut().insert(ConnectInfo(connection.clone()));
        let mut service = self.router.clone();
        let _ = poll_fn(|context| Service::<Request<Body>>::poll_ready(&mut service, context)).await;
        let response = service.call(request).await.ok()?;
        if connection.is_severed() {
            return None;
        }
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, ANSWER_SIZE_MAX).await.ok()?.to_vec();
        let headers = parts
            .headers
            .iter()
            .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())));
        Some(Answer { status: parts.status.as_u16(), headers: headers.collect(), body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_same_routes_answer_at_the_time_that_was_told() {
        let options = Options { contacts: 2, ..Options::default() };
        let keap = InProcess::new(options, 1_772_000_000_000).unwrap();
        let path = "/crm/rest/v2/contacts?fields=id,update_time";
        assert_eq!(keap.send("GET", path, "nobody", None).await.unwrap().status, 401);
        let key = keap.service_key().to_owned();
        let listed = keap.send("GET", path, &key, None).await.unwrap();
        assert_eq!(listed.status, 200);
        keap.tell_time(1_772_000_060_000);
        let body = Some(r#"{"given_name": "Ann"}"#.to_owned());
        let listed: serde_json::Value = serde_json::from_slice(&listed.body).unwrap();
        let id = listed["contacts"][0]["id"].as_str().unwrap();
        let path = format!("/crm/rest/v2/contacts/{id}?update_mask=given_name&fields=update_time");
        let changed = keap.send("PATCH", &path, &key, body).await.unwrap();
        let changed: serde_json::Value = serde_json::from_slice(&changed.body).unwrap();
        assert_eq!(changed["update_time"], "2026-02-25T06:14:20.000Z");
    }
}
