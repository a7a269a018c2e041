//! Starting and stopping the server.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::listener::{Connection, SeverableListener};
use crate::options::Options;
use crate::simulator::Simulator;
use crate::{control, oauth, routes};

/// How long open requests may take to end once the server is told to stop.
const DRAIN_MS: u64 = 2_000;

/// Why the simulator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken or not this machine's.
    #[error("cannot listen on {address}; stop what listens there or give another --listen address")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The client that delivers hooks could not be made.
    #[error("cannot prepare the client that delivers hooks")]
    Client(#[source] reqwest::Error),
}

/// A running simulator. Dropping the handle stops it without waiting.
#[derive(Debug)]
pub struct Handle {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Handle {
    /// The address it listens on, with the port that was taken.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The root of all routes, such as `http://127.0.0.1:8900`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops: no new connection is taken, open requests get a moment to end, waiting deliveries are dropped.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        let ended = tokio::time::timeout(Duration::from_millis(DRAIN_MS), &mut self.server).await;
        if ended.is_err() {
            self.server.abort();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// Starts a simulator on the current runtime; it answers once this returns.
pub async fn start(options: Options) -> Result<Handle, StartError> {
    let address = options.listen;
    let refused = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let client = reqwest::Client::builder()
        // A receiver that redirects has answered; Keap's text names no status under 400 a failure.
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(StartError::Client)?;
    let (stop, stopped) = watch::channel(false);
    let simulator = Simulator::new(options, address, client, stopped.clone());
    let service = router(&simulator).into_make_service_with_connect_info::<Connection>();
    let mut until = stopped;
    let server = tokio::spawn(async move {
        axum::serve(SeverableListener::new(listener), service)
            .with_graceful_shutdown(async move {
                // An error means the handle is gone, which is a reason to stop as well.
                until.wait_for(|is_stopped| *is_stopped).await.ok();
            })
            .await
    });
    tracing::info!(event = "started", %address);
    Ok(Handle { address, stop, server })
}

pub(crate) fn router(simulator: &Simulator) -> Router {
    Router::new()
        .route("/app/oauth/authorize", get(oauth::authorize))
        .route("/token", post(oauth::token))
        .merge(control::routes())
        .merge(routes::api(simulator))
        .fallback(routes::not_found)
        .with_state(simulator.clone())
}
