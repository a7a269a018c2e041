//! A transport that notes what Keap's answers say about the quotas, and which Keap application they are of.

use crate::token::application::KeapApplication;
use keapsync_domain::failure::Failure;
use keapsync_domain::quota::QuotaReading;
use keapsync_keap::quota::{reading, tenant};
use keapsync_keap::transport::{Request, Response, Transport};
use std::cell::{Cell, RefCell};

/// Sends requests by another transport and keeps what came back about the quotas.
#[derive(Debug, Default)]
pub struct MeteredTransport<T> {
    inner: T,
    told: Cell<QuotaReading>,
    tenant: RefCell<Option<String>>,
}

impl<T> MeteredTransport<T> {
    /// Wraps `inner`.
    pub fn new(inner: T) -> Self {
        Self { inner, told: Cell::default(), tenant: RefCell::default() }
    }

    /// What was told so far, all answers together.
    #[must_use]
    pub fn told(&self) -> QuotaReading {
        self.told.get()
    }

    /// The Keap application that answered last, where an answer named it.
    #[must_use]
    pub fn application(&self) -> KeapApplication {
        KeapApplication::of_tenant(self.tenant.borrow().as_deref())
    }
}

impl<T: Transport> Transport for MeteredTransport<T> {
    async fn send(&self, request: Request) -> Result<Response, Failure> {
        let response = self.inner.send(request).await?;
        self.told.set(self.told.get().joined(reading(&response)));
        if let Some(tenant) = tenant(&response) {
            self.tenant.replace(Some(tenant.to_owned()));
        }
        Ok(response)
    }
}
