//! A signal within one object: who has nothing to do waits for it instead of looking again and again.
//!
//! Nothing is promised by a signal: who is woken looks for work in storage. All events of one object share one thread and
//! one context of I/O, so one of them may wake another.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};

/// Wakes whoever waits.
#[derive(Debug, Default)]
pub(super) struct Signal {
    raised: Cell<u64>,
    waiting: RefCell<Vec<Waker>>,
}

impl Signal {
    /// How often it was raised: what a later [`Signal::raised_since`] compares with, so that nothing in between is missed.
    pub(super) fn count(&self) -> u64 {
        self.raised.get()
    }

    /// Wakes all who wait.
    pub(super) fn raise(&self) {
        self.raised.set(self.raised.get().wrapping_add(1));
        // Taken out first: who is woken may wait again at once.
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Waits until it has been raised since `count` was read.
    pub(super) async fn raised_since(&self, count: u64) {
        poll_fn(|context| {
            if self.raised.get() == count {
                self.waiting.borrow_mut().push(context.waker().clone());
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn wakes_who_waits_and_forgets_nothing() {
        let signal = Signal::default();
        let before = signal.count();
        assert!(signal.raised_since(before).now_or_never().is_none());
        signal.raise();
        assert!(signal.raised_since(before).now_or_never().is_some());
        assert!(signal.raised_since(signal.count()).now_or_never().is_none());
    }

    #[test]
    fn everybody_who_waits_is_woken_once() {
        let signal = Signal::default();
        let mut waits: Vec<_> = (0..3).map(|_| Box::pin(signal.raised_since(signal.count()))).collect();
        for wait in &mut waits {
            assert!(wait.now_or_never().is_none());
        }
        assert_eq!(signal.waiting.borrow().len(), 3);
        signal.raise();
        assert!(signal.waiting.borrow().is_empty());
    }
}
