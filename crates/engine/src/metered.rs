//! A transport that notes what Keap's answers say about the quotas, and lets none pass that is of another Keap application than the
//! account's.
//!
//! Keap names the application with each answer. It is compared before anybody sees the answer, so that nothing of another application's
//! is stored, merged, or answered by a write, whoever works under the credential: the coordinator and the units of runs alike.

use keapsync_domain::application::KeapApplication;
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
    /// The account's application, as far as it is known.
    known: KeapApplication,
    answered: RefCell<KeapApplication>,
}

impl<T> MeteredTransport<T> {
    /// Wraps `inner` for calls of an account whose records are of the application `known`; an unknown one lets every answer pass.
    pub fn new(inner: T, known: KeapApplication) -> Self {
        Self { inner, told: Cell::default(), known, answered: RefCell::default() }
    }

    /// What was told so far, all answers together.
    #[must_use]
    pub fn told(&self) -> QuotaReading {
        self.told.get()
    }

    /// The Keap application that answered last, where an answer named it.
    #[must_use]
    pub fn application(&self) -> KeapApplication {
        self.answered.borrow().clone()
    }
}

impl<T: Transport> Transport for MeteredTransport<T> {
    async fn send(&self, request: Request) -> Result<Response, Failure> {
        let response = self.inner.send(request).await?;
        self.told.set(self.told.get().joined(reading(&response)));
        let answered = KeapApplication::of_tenant(tenant(&response));
        if !answered.is_unknown() {
            let checked = self.known.check_answer(&answered);
            self.answered.replace(answered);
            checked?;
        }
        Ok(response)
    }
}
