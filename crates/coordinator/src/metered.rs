//! Keap's transport, noting what its answers say about the quota.

use keapsync_domain::failure::Failure;
use keapsync_keap::quota::{QuotaReading, reading};
use keapsync_keap::transport::{Request, Response, Transport};
use keapsync_platform::keap_transport::KeapTransport;
use std::cell::Cell;

/// Sends requests to Keap and keeps the lowest figures that came back.
#[derive(Debug, Default)]
pub struct MeteredTransport {
    inner: KeapTransport,
    lowest: Cell<QuotaReading>,
}

impl MeteredTransport {
    /// The lowest figures so far.
    #[must_use]
    pub fn lowest(&self) -> QuotaReading {
        self.lowest.get()
    }
}

impl Transport for MeteredTransport {
    async fn send(&self, request: Request) -> Result<Response, Failure> {
        let response = self.inner.send(request).await?;
        let (known, told) = (self.lowest.get(), reading(&response));
        self.lowest.set(QuotaReading {
            day_available: lower(known.day_available, told.day_available),
            minute_available: lower(known.minute_available, told.minute_available),
        });
        Ok(response)
    }
}

fn lower(known: Option<i64>, told: Option<i64>) -> Option<i64> {
    match (known, told) {
        (Some(known), Some(told)) => Some(known.min(told)),
        (known, told) => known.or(told),
    }
}
