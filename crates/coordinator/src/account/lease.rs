//! Calls to Keap under a lease of the quota.

use super::Account;
use super::credential::Live;
use crate::metered::MeteredTransport;
use crate::quota::QuotaClient;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_engine::feed::quota_throttled;
use keapsync_engine::paced::PacedTransport;
use keapsync_engine::quota::{Grant, Lease, LeaseRequest, Priority};
use keapsync_platform::clock::WorkerClock;
use keapsync_platform::entropy::random_uuid;

/// How long a live lease lives unless released, in milliseconds: the alarm works 20 s at most, and its last call may wait
/// as long as Keap's timeout.
const LIVE_LEASE_MS: i64 = 60_000;

/// The transport that live work uses.
pub(super) type LeasedTransport<'a> = PacedTransport<'a, MeteredTransport, WorkerClock>;

/// How much live work asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want {
    /// How urgent it is.
    pub priority: Priority,
    /// The most calls that are of use.
    pub calls_max: u32,
    /// The most calls per second that are of use.
    pub calls_per_second_max: u32,
}

impl Account<'_> {
    /// The quota of the credential.
    pub(super) fn quota(&self, credential: &Live) -> QuotaClient {
        let (name, limits) = self.quota_of(credential);
        QuotaClient::new(&self.object.env, name, limits)
    }

    /// Takes a lease; the failure of a refusal names the wait.
    pub(super) async fn take_lease(&self, credential: &Live, id: &str, want: Want) -> Result<Lease, Failure> {
        let request = LeaseRequest {
            id: id.to_owned(),
            priority: want.priority,
            permits_max: want.calls_max,
            calls_per_second_max: want.calls_per_second_max,
            ttl_ms: LIVE_LEASE_MS,
        };
        match self.quota(credential).lease(request).await? {
            Grant::Granted(lease) => Ok(lease),
            Grant::Refused { retry_after_ms } => {
                self.tell(quota_throttled(want.priority, retry_after_ms));
                Err(Failure::new(
                    FailureClass::RateLimited,
                    "the quota of calls to Keap is taken; the work goes on when some is free",
                )
                .with_retry_after_ms(Some(retry_after_ms)))
            }
        }
    }

    /// Does `work` under a lease and gives back what it did not use.
    pub(super) async fn leased<R>(
        &self,
        credential: &Live,
        want: Want,
        work: impl AsyncFnOnce(&LeasedTransport<'_>) -> R,
    ) -> Result<R, Failure> {
        let lease = self.take_lease(credential, &random_uuid()?, want).await?;
        let (metered, clock) = (MeteredTransport::default(), WorkerClock);
        let paced = PacedTransport::new(&metered, &clock, lease.permits, lease.calls_per_second_max)
            .until(lease.expires_at);
        let outcome = work(&paced).await;
        // A release that is lost costs only time: the lease ends by itself.
        if let Err(failure) = self.quota(credential).release(&lease.id, paced.calls(), metered.lowest()).await
        {
            self.log().warn("lease_not_released").account(self.id).failure(&failure).emit();
        }
        Ok(outcome)
    }
}
