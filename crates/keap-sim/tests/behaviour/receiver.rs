//! A receiver of hooks that answers as it is told and keeps what it got.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::Value;
use tokio::net::TcpListener;

/// How the receiver behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manners {
    /// Answers a handshake with the secret it was sent.
    pub(crate) echoes: bool,
    /// What it answers to a delivery.
    pub(crate) status: u16,
    /// How long it takes over a delivery.
    pub(crate) delay_ms: u64,
}

#[derive(Debug)]
struct Inner {
    manners: Manners,
    deliveries: Vec<(Instant, Value)>,
    secrets: Vec<String>,
}

/// A listening receiver.
#[derive(Debug, Clone)]
pub(crate) struct Receiver {
    inner: Arc<Mutex<Inner>>,
    address: SocketAddr,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let manners = Manners { echoes: true, status: 200, delay_ms: 0 };
        let inner = Arc::new(Mutex::new(Inner { manners, deliveries: Vec::new(), secrets: Vec::new() }));
        let receiver = Self { inner, address };
        let service = Router::new().route("/hook", post(receive)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, service).await });
        receiver
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub(crate) fn behave(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.inner.lock().unwrap().manners);
    }

    /// The deliveries so far, each with the time it came.
    pub(crate) fn deliveries(&self) -> Vec<(Instant, Value)> {
        self.inner.lock().unwrap().deliveries.clone()
    }

    /// The objects' ids of all deliveries so far.
    pub(crate) fn ids(&self) -> Vec<u64> {
        let ids = |body: &Value| -> Vec<u64> {
            body["object_keys"]
                .as_array()
                .unwrap()
                .iter()
                .map(|object| object["id"].as_u64().unwrap())
                .collect()
        };
        self.deliveries().iter().flat_map(|(_, body)| ids(body)).collect()
    }

    /// The secrets of the handshakes so far.
    pub(crate) fn secrets(&self) -> Vec<String> {
        self.inner.lock().unwrap().secrets.clone()
    }
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> Response {
    let manners = receiver.inner.lock().unwrap().manners;
    if let Some(secret) = headers.get("x-hook-secret") {
        receiver.inner.lock().unwrap().secrets.push(secret.to_str().unwrap().to_owned());
        return if manners.echoes {
            (StatusCode::OK, [("x-hook-secret", secret.clone())]).into_response()
        } else {
            StatusCode::OK.into_response()
        };
    }
    let body: Value = serde_json::from_slice(&body).unwrap();
    receiver.inner.lock().unwrap().deliveries.push((Instant::now(), body));
    tokio::time::sleep(Duration::from_millis(manners.delay_ms)).await;
    StatusCode::from_u16(manners.status).unwrap().into_response()
}
