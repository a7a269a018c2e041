//! Calls to Keap under a lease of the quota.

use super::Account;
use super::credential::Live;
use crate::quota::{LeaseEnd, QuotaClient};
use keapsync_domain::application::KeapApplication;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::quota::{QuotaReading, ThrottleKind};
use keapsync_engine::feed::quota_throttled;
use keapsync_engine::metered::MeteredTransport;
use keapsync_engine::paced::PacedTransport;
use keapsync_engine::quota::{Grant, Lease, LeaseRequest, Priority};
use keapsync_platform::clock::WorkerClock;
use keapsync_platform::entropy::random_uuid;
use keapsync_platform::keap_transport::KeapTransport;

/// How long a live lease lives unless released, in milliseconds: the alarm works 20 s at most, and its last call may wait
/// as long as Keap's timeout.
const LIVE_LEASE_MS: i64 = 60_000;

/// The transport that live work uses.
pub(super) type LeasedTransport<'a> = PacedTransport<'a, MeteredTransport<KeapTransport>, WorkerClock>;

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
            account: self.id.to_string(),
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

    /// Does `work` under a lease and gives back what it did not use. An answer of another Keap application than the account's is not used,
    /// and gives the credential up; what is new of the account's is noted.
    pub(super) async fn leased<R>(
        &self,
        credential: &Live,
        want: Want,
        work: impl AsyncFnOnce(&LeasedTransport<'_>) -> R,
    ) -> Result<R, Failure> {
        let known = self.known_application()?;
        let (outcome, application) = self.leased_by(credential, known, want, work).await?;
        self.note_application(credential.generation, &application)?;
        Ok(outcome)
    }

    /// [`Account::leased`] for a credential that is not the account's yet: tells which application answered, and leaves what to do
    /// about it to the caller.
    pub(super) async fn leased_unchecked<R>(
        &self,
        credential: &Live,
        want: Want,
        work: impl AsyncFnOnce(&LeasedTransport<'_>) -> R,
    ) -> Result<(R, KeapApplication), Failure> {
        self.leased_by(credential, KeapApplication::default(), want, work).await
    }

    async fn leased_by<R>(
        &self,
        credential: &Live,
        known: KeapApplication,
        want: Want,
        work: impl AsyncFnOnce(&LeasedTransport<'_>) -> R,
    ) -> Result<(R, KeapApplication), Failure> {
        let lease = self.take_lease(credential, &random_uuid()?, want).await?;
        let (metered, clock) = (MeteredTransport::new(KeapTransport, known), WorkerClock);
        let paced = PacedTransport::new(&metered, &clock, lease.permits, lease.calls_per_second_max)
            .until(lease.expires_at);
        let outcome = work(&paced).await;
        self.release_lease(credential, &lease.id, paced.calls(), metered.told()).await;
        Ok((outcome, metered.application()))
    }

    /// Gives a lease back and tells what Keap said about its quotas under it.
    pub(super) async fn release_lease(&self, credential: &Live, id: &str, calls: u32, told: QuotaReading) {
        if let Some(throttle) = told.throttle {
            let line =
                self.log().warn("keap_throttled").account(self.id).word("kind", throttle_word(throttle.kind));
            line.count("retry_after_ms", throttle.retry_after_ms.unwrap_or(0).unsigned_abs()).emit();
        }
        let ended = LeaseEnd { id: id.to_owned(), account: self.id.to_string(), used: calls, reading: told };
        // A release that is lost costs only time: the lease ends by itself.
        if let Err(failure) = self.quota(credential).release(ended).await {
            self.log().warn("lease_not_released").account(self.id).failure(&failure).emit();
        }
    }
}

fn throttle_word(kind: ThrottleKind) -> &'static str {
    match kind {
        ThrottleKind::Spike => "spike",
        ThrottleKind::Quota => "quota",
        ThrottleKind::Tenant => "tenant",
    }
}
