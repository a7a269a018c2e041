//! The sync worker, as the coordinator calls it.

use crate::health::SELF_PATH;
use crate::service::Service;
use keapsync_domain::failure::Failure;
use keapsync_domain::secret::Rotating;
use keapsync_domain::wire::UnitOrder;
use worker::Env;

/// Name of the service binding.
pub const SYNC_WORKER_BINDING: &str = "SYNC_WORKER";

const ORIGIN: &str = "https://sync.internal";

/// Typed calls to the sync worker.
#[derive(Clone, Debug)]
pub struct SyncClient {
    service: Service,
}

impl SyncClient {
    /// The sync worker behind this worker's binding.
    #[must_use]
    pub fn new(env: &Env, internal_token: &Rotating) -> Self {
        Self { service: Service::new(env, SYNC_WORKER_BINDING, ORIGIN, internal_token) }
    }

    /// Orders a unit of a run. `Ok` says that the sync worker took it; how it ended comes as a report.
    pub async fn order_unit(&self, order: &UnitOrder) -> Result<(), Failure> {
        self.service.post("/units", order).await
    }

    /// Whether the sync worker itself works, whatever the state of what it depends on.
    pub async fn is_healthy(&self) -> bool {
        self.service.get(SELF_PATH).await.is_ok()
    }
}
