//! A transport that notes what Keap's answers say about the quotas.

use keapsync_domain::failure::Failure;
use keapsync_domain::quota::QuotaReading;
use keapsync_keap::quota::reading;
use keapsync_keap::transport::{Request, Response, Transport};
use std::cell::Cell;

/// Sends requests by another transport and keeps what came back about the quotas.
#[derive(Debug, Default)]
pub struct MeteredTransport<T> {
    inner: T,
    told: Cell<QuotaReading>,
}

impl<T> MeteredTransport<T> {
    /// Wraps `inner`.
    pub fn new(inner: T) -> Self {
        Self { inner, told: Cell::default() }
    }

    /// What was told so far, all answers together.
    #[must_use]
    pub fn told(&self) -> QuotaReading {
        self.told.get()
    }
}

impl<T: Transport> Transport for MeteredTransport<T> {
    async fn send(&self, request: Request) -> Result<Response, Failure> {
        let response = self.inner.send(request).await?;
        self.told.set(self.told.get().joined(reading(&response)));
        Ok(response)
    }
}
