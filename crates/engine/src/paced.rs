//! A transport that keeps within a quota lease: never more calls than granted, never more in any one second, none after its end.
//!
//! A call that Keap refuses for its quota ends it too: the quota has to hear of that before anybody calls again.
//!
//! Counting happens before a call is sent, so that a call whose answer is lost counts too.

use crate::ports::Clock;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::timestamp::Timestamp;
use keapsync_keap::transport::{Request, Response, Transport};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

/// The window of the per-second limit, in milliseconds.
const WINDOW_MS: i64 = 1_000;

/// Keap's refusal for quota.
const TOO_MANY_REQUESTS: u16 = 429;

/// A transport within a lease.
pub struct PacedTransport<'a, T, C> {
    inner: &'a T,
    clock: &'a C,
    calls_max: u32,
    calls_per_second_max: usize,
    /// When the lease ends; `None` for as long as the transport lives.
    expires_at: Option<Timestamp>,
    calls: Cell<u32>,
    is_refused: Cell<bool>,
    recent: RefCell<VecDeque<Timestamp>>,
}

impl<'a, T: Transport, C: Clock> PacedTransport<'a, T, C> {
    /// Wraps `inner` for a lease of `calls_max` calls, at most `calls_per_second_max` of them in any one second.
    pub fn new(inner: &'a T, clock: &'a C, calls_max: u32, calls_per_second_max: u32) -> Self {
        Self {
            inner,
            clock,
            calls_max,
            calls_per_second_max: calls_per_second_max.max(1) as usize,
            expires_at: None,
            calls: Cell::new(0),
            is_refused: Cell::new(false),
            recent: RefCell::new(VecDeque::new()),
        }
    }

    /// No call is sent from this moment on: the lease has ended, and its share of the quota is somebody else's.
    #[must_use]
    pub fn until(self, expires_at: Timestamp) -> Self {
        Self { expires_at: Some(expires_at), ..self }
    }

    fn is_expired(&self) -> bool {
        self.expires_at.is_some_and(|expires_at| self.clock.now() >= expires_at)
    }

    /// Calls made so far.
    pub fn calls(&self) -> u32 {
        self.calls.get()
    }

    /// Calls that the lease still holds.
    pub fn calls_left(&self) -> u32 {
        if self.is_refused.get() || self.is_expired() {
            return 0;
        }
        self.calls_max.saturating_sub(self.calls.get())
    }

    /// Takes a place in the current second, or says how long until one is free.
    fn take_place(&self, now: Timestamp) -> Result<(), i64> {
        let mut recent = self.recent.borrow_mut();
        while recent.front().is_some_and(|sent| now.since_ms(*sent) >= WINDOW_MS) {
            recent.pop_front();
        }
        match recent.front() {
            Some(oldest) if recent.len() >= self.calls_per_second_max => {
                Err(WINDOW_MS - now.since_ms(*oldest))
            }
            _ => {
                recent.push_back(now);
                Ok(())
            }
        }
    }
}

impl<T: Transport, C: Clock> Transport for PacedTransport<'_, T, C> {
    async fn send(&self, request: Request) -> Result<Response, Failure> {
        if self.calls_left() == 0 {
            return Err(used_up());
        }
        self.calls.set(self.calls.get() + 1);
        while let Err(wait_ms) = self.take_place(self.clock.now()) {
            self.clock.sleep_ms(wait_ms.max(1)).await;
            if self.is_expired() {
                return Err(used_up());
            }
        }
        let response = self.inner.send(request).await?;
        if response.status == TOO_MANY_REQUESTS {
            self.is_refused.set(true);
        }
        Ok(response)
    }
}

fn used_up() -> Failure {
    Failure::new(FailureClass::RateLimited, "the quota lease is used up; the work goes on with the next one")
        .with_retry_after_ms(Some(WINDOW_MS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use keapsync_domain::secret::Secret;
    use keapsync_keap::transport::{Body, Credential, Method};

    struct ManualClock(Cell<i64>);

    impl Clock for ManualClock {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.get())
        }
        async fn sleep_ms(&self, delay_ms: i64) {
            self.0.set(self.0.get() + delay_ms);
        }
    }

    /// Refuses whatever it is asked.
    struct Refuser(Cell<u32>);

    impl Transport for Refuser {
        async fn send(&self, _: Request) -> Result<Response, Failure> {
            self.0.set(self.0.get() + 1);
            Ok(Response { status: TOO_MANY_REQUESTS, headers: Vec::new(), body: Vec::new() })
        }
    }

    #[test]
    fn a_refusal_for_quota_ends_the_lease() {
        let (clock, refuser) = (ManualClock(Cell::new(0)), Refuser(Cell::new(0)));
        let paced = PacedTransport::new(&refuser, &clock, 12, 5);
        let request = Request {
            method: Method::Get,
            url: String::new(),
            credential: Credential::Bearer(Secret::new("t")),
            body: Body::Empty,
        };
        let send = || futures_util::FutureExt::now_or_never(paced.send(request.clone())).unwrap();
        assert_eq!(send().unwrap().status, TOO_MANY_REQUESTS);
        assert_eq!(send().unwrap_err().class, FailureClass::RateLimited);
        assert_eq!((refuser.0.get(), paced.calls(), paced.calls_left()), (1, 1, 0));
    }

    struct Recorder<'a>(&'a ManualClock, RefCell<Vec<i64>>);

    impl Transport for Recorder<'_> {
        async fn send(&self, _: Request) -> Result<Response, Failure> {
            self.1.borrow_mut().push(self.0.now().0);
            self.0.sleep_ms(10).await;
            Ok(Response { status: 200, headers: Vec::new(), body: Vec::new() })
        }
    }

    #[test]
    fn no_second_holds_more_than_granted_and_the_lease_ends() {
        let clock = ManualClock(Cell::new(0));
        let recorder = Recorder(&clock, RefCell::new(Vec::new()));
        let paced = PacedTransport::new(&recorder, &clock, 12, 5);
        let request = Request {
            method: Method::Get,
            url: String::new(),
            credential: Credential::Bearer(Secret::new("t")),
            body: Body::Empty,
        };
        let outcomes: Vec<bool> = (0..13)
            .map(|_| futures_util::FutureExt::now_or_never(paced.send(request.clone())).unwrap().is_ok())
            .collect();
        assert_eq!(outcomes.iter().filter(|ok| **ok).count(), 12);
        assert_eq!(paced.calls_left(), 0);
        let sent = recorder.1.borrow();
        for window in sent.windows(6) {
            assert!(window[5] - window[0] >= WINDOW_MS, "six calls within a second: {window:?}");
        }
    }

    #[test]
    fn a_lease_that_has_ended_allows_no_call() {
        let clock = ManualClock(Cell::new(0));
        let recorder = Recorder(&clock, RefCell::new(Vec::new()));
        let paced = PacedTransport::new(&recorder, &clock, 12, 1).until(Timestamp(1_500));
        let request = Request {
            method: Method::Get,
            url: String::new(),
            credential: Credential::Bearer(Secret::new("t")),
            body: Body::Empty,
        };
        let send = || futures_util::FutureExt::now_or_never(paced.send(request.clone())).unwrap();
        assert!(send().is_ok() && send().is_ok());
        // The third waits for its second, and by then the lease has ended.
        assert_eq!(send().unwrap_err().class, FailureClass::RateLimited);
        assert_eq!(paced.calls_left(), 0);
        assert_eq!(recorder.1.borrow().len(), 2);
    }
}
