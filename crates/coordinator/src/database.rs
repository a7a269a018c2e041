//! The Postgres client of one invocation: connected when first needed, dropped at its end.

use futures_util::lock::Mutex;
use keapsync_domain::failure::Failure;
use keapsync_platform::hyperdrive::{HYPERDRIVE_BINDING, connect};
use std::rc::Rc;
use tokio_postgres::Client;
use worker::Env;

/// One invocation's connection, shared by what it does side by side.
pub struct Database {
    env: Env,
    client: Mutex<Option<Rc<Client>>>,
}

impl Database {
    /// Connects to nothing yet.
    #[must_use]
    pub fn new(env: &Env) -> Self {
        Self { env: env.clone(), client: Mutex::new(None) }
    }

    /// The client; made now when there is none or the last one's connection is gone.
    pub async fn client(&self) -> Result<Rc<Client>, Failure> {
        let mut slot = self.client.lock().await;
        if let Some(client) = slot.as_ref().filter(|client| !client.is_closed()) {
            return Ok(Rc::clone(client));
        }
        let client = Rc::new(connect(&self.env, HYPERDRIVE_BINDING).await?);
        *slot = Some(Rc::clone(&client));
        Ok(client)
    }
}
