//! What becomes of work whose attempt failed: the one rule of the outbox, of hook events and of the units of runs.
//!
//! An outage is no fault of the work: it waits, however long it takes, and the attempt does not count. A record that was refused
//! stays refused until somebody changes it. What fails otherwise is tried [`ATTEMPTS_MAX`] times in all, and then a person
//! looks.

use crate::backoff::{DELAY_MAX_MS, delay_ms};
use crate::failure::Failure;
use crate::limits::ATTEMPTS_MAX;

/// Longest wait after a failure that is no fault of the work, in milliseconds: the end of an outage should be noticed soon.
pub const OUTAGE_DELAY_MAX_MS: i64 = 30_000;

/// What an attempt is made at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// One record: when it is refused, trying again is of no use.
    Record,
    /// A page of records: that it is refused says nothing of any of them, so it is tried as often as a senseless answer.
    Page,
}

/// The attempts before the one that failed now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Earlier {
    /// Attempts that failed and counted.
    pub counted: i32,
    /// Attempts that failed for any reason: what the wait grows by.
    pub failures: u32,
}

/// What becomes of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is tried again.
    Retry {
        /// Attempts that failed and counted, this one included.
        counted: i32,
        /// Attempts that failed for any reason, this one included.
        failures: u32,
        /// Not before so many milliseconds have passed.
        delay_ms: i64,
    },
    /// It is given up, and a person looks.
    GiveUp {
        /// Attempts that failed and counted, this one included.
        counted: i32,
    },
}

/// Decides about work whose attempt failed with `failure`, after `earlier` attempts. `entropy` spreads the waits.
#[must_use]
pub fn after(failure: &Failure, work: Work, earlier: Earlier, entropy: u32) -> Next {
    let counts = failure.class.counts_against_item();
    let counted = earlier.counted.saturating_add(i32::from(counts));
    let is_refused = work == Work::Record && !failure.class.is_transient();
    if is_refused || (counts && counted >= ATTEMPTS_MAX) {
        return Next::GiveUp { counted };
    }
    let failures = earlier.failures.saturating_add(1);
    let delay_max_ms = if counts { DELAY_MAX_MS } else { OUTAGE_DELAY_MAX_MS };
    Next::Retry {
        counted,
        failures,
        delay_ms: delay_ms(failures, entropy, delay_max_ms, failure.retry_after_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureClass;

    const EVERY: [FailureClass; 7] = [
        FailureClass::Unavailable,
        FailureClass::RateLimited,
        FailureClass::Unauthorized,
        FailureClass::Conflict,
        FailureClass::Invalid,
        FailureClass::NotFound,
        FailureClass::Unexpected,
    ];

    /// Attempts until it is given up; `None` where a hundred do not suffice.
    fn attempts_until_given_up(class: FailureClass, work: Work) -> Option<u32> {
        let mut earlier = Earlier::default();
        for attempt in 1..=100 {
            match after(&Failure::new(class, "x"), work, earlier, 7) {
                Next::Retry { counted, failures, .. } => earlier = Earlier { counted, failures },
                Next::GiveUp { .. } => return Some(attempt),
            }
        }
        None
    }

    #[test]
    fn three_attempts_are_three_whatever_is_tried() {
        for class in EVERY {
            let (of_record, of_page) = match class {
                FailureClass::Invalid | FailureClass::NotFound => (Some(1), Some(3)),
                FailureClass::Unexpected => (Some(3), Some(3)),
                _ => (None, None),
            };
            assert_eq!(attempts_until_given_up(class, Work::Record), of_record, "{class:?}");
            assert_eq!(attempts_until_given_up(class, Work::Page), of_page, "{class:?}");
        }
    }

    #[test]
    fn an_outage_neither_counts_nor_ends_what_has_failed_otherwise() {
        let earlier = Earlier { counted: ATTEMPTS_MAX - 1, failures: 9 };
        let outage = Failure::new(FailureClass::Unavailable, "x");
        let Next::Retry { counted, failures, delay_ms } = after(&outage, Work::Record, earlier, 1023) else {
            panic!("given up for an outage");
        };
        assert_eq!((counted, failures, delay_ms), (ATTEMPTS_MAX - 1, 10, OUTAGE_DELAY_MAX_MS));
    }

    #[test]
    fn an_outage_is_waited_for_and_never_counted() {
        for class in EVERY.into_iter().filter(|class| class.is_outage()) {
            assert!(class.is_transient() && !class.counts_against_item(), "{class:?}");
        }
    }

    #[test]
    fn a_wait_that_was_asked_for_is_honoured() {
        let failure = Failure::new(FailureClass::RateLimited, "x").with_retry_after_ms(Some(90_000));
        let next = after(&failure, Work::Record, Earlier::default(), 0);
        assert_eq!(next, Next::Retry { counted: 0, failures: 1, delay_ms: 90_000 });
    }
}
