//! The coordinator, as the webhook handler and the sync worker call it.

use crate::health::SELF_PATH;
use crate::service::Service;
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::AccountId;
use keapsync_domain::secret::Rotating;
use keapsync_domain::wire::{
    AccessEntry, ConflictResolvedRequest, EventsRequest, EventsResponse, StartRunsRequest, StartRunsResponse,
    UnitReport,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use worker::Env;

/// Name of the service binding.
pub const COORDINATOR_BINDING: &str = "COORDINATOR";

/// Where the coordinator takes and shows the record of access.
pub const ACCESS_LOG_PATH: &str = "/access-log";

const ORIGIN: &str = "https://coordinator.internal";

/// Typed calls to the coordinator.
#[derive(Clone, Debug)]
pub struct CoordinatorClient {
    service: Service,
}

impl CoordinatorClient {
    /// The coordinator behind this worker's binding.
    #[must_use]
    pub fn new(env: &Env, internal_token: &Rotating) -> Self {
        Self { service: Service::new(env, COORDINATOR_BINDING, ORIGIN, internal_token) }
    }

    /// Hands over a delivery; durable when this returns `Ok`.
    pub async fn push_events(
        &self,
        account: &AccountId,
        request: &EventsRequest,
    ) -> Result<EventsResponse, Failure> {
        self.service.post_json(&account_path(account, "events"), request).await
    }

    /// Starts a run, or joins the one of its kind that is under way.
    pub async fn start_runs(
        &self,
        account: &AccountId,
        request: &StartRunsRequest,
    ) -> Result<StartRunsResponse, Failure> {
        self.service.post_json(&account_path(account, "runs"), request).await
    }

    /// Reports how a unit ended.
    pub async fn report_unit(&self, account: &AccountId, report: &UnitReport) -> Result<(), Failure> {
        self.service.post(&account_path(account, "units"), report).await
    }

    /// Lets those who watch the account know that a person settled a conflict.
    pub async fn tell_resolved(
        &self,
        account: &AccountId,
        resolved: &ConflictResolvedRequest,
    ) -> Result<(), Failure> {
        self.service.post(&account_path(account, "tell"), resolved).await
    }

    /// Adds to the record of access; durable when this returns `Ok`.
    pub async fn record_access(&self, entry: &AccessEntry) -> Result<(), Failure> {
        self.service.post(ACCESS_LOG_PATH, entry).await
    }

    /// Makes the account look for work at once.
    pub async fn wake(&self, account: &AccountId) -> Result<(), Failure> {
        self.service.post(&account_path(account, "wake"), &serde_json::json!({})).await
    }

    /// Reads a path of an account: `status`, `settings`, `runs`, `runs/{id}`, `dead-letters`; query included.
    pub async fn get_account_json<T: DeserializeOwned>(
        &self,
        account: &AccountId,
        path: &str,
    ) -> Result<T, Failure> {
        self.service.get_json(&account_path(account, path)).await
    }

    /// Reads any other path, such as `/accounts`.
    pub async fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.service.get_json(path).await
    }

    /// Posts to any path.
    pub async fn post_json<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, Failure> {
        self.service.post_json(path, body).await
    }

    /// Whether the coordinator itself works, whatever the state of what it depends on.
    pub async fn is_healthy(&self) -> bool {
        self.service.get(SELF_PATH).await.is_ok()
    }
}

/// The path of an account's resource on the coordinator.
#[must_use]
pub fn account_path(account: &AccountId, resource: &str) -> String {
    format!("/coordinator/{account}/{resource}")
}
