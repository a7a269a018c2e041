//! How many deliveries are taken at once, so that neither memory nor patience runs out: what would be too much is answered with 503 at
//! once, and Keap sends it again.
//!
//! Two bounds: one of the bytes of bodies, and one of their number, which [`Pace`] keeps where the account's object still answers
//! promptly. Without that, a storm would be taken at the object's pace, and each delivery would wait behind all earlier ones.
//!
//! A request that the runtime drops in the middle may never say that it is over, so a share ends by itself.

use crate::pace::Pace;
use keapsync_domain::limits::WEBHOOK_BODY_BYTES_MAX;
use keapsync_domain::timestamp::Timestamp;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Bytes of bodies that are held at once: with what reading one takes besides, far under the 128 MB that an isolate has.
const HELD_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Of these, bytes of bodies by which the sender has yet to prove itself: strangers must not be able to hold up Keap's.
const UNPROVEN_BYTES_MAX: usize = HELD_BYTES_MAX / 2;

/// Longest time that a request plausibly takes, in milliseconds: Keap waits for as long.
const SHARE_MS: i64 = 30_000;

/// Least share, in bytes: what a request takes besides its body.
const SHARE_BYTES_MIN: usize = 4 * 1024;

/// Least time between two times that refusals are told of, in milliseconds.
const TOLD_INTERVAL_MS: i64 = 1_000;

/// What is held, by the number of its share.
#[derive(Debug, Default)]
pub struct Intake {
    shares: RefCell<Shares>,
}

#[derive(Debug, Default)]
struct Shares {
    last: u64,
    held: BTreeMap<u64, (Timestamp, usize)>,
    bytes: usize,
    pace: Pace,
    /// Not admitted since that was last told, and when that was.
    refused: u64,
    told_at: Timestamp,
}

/// A body's share; gives it back when it is dropped.
#[derive(Debug)]
pub struct Share {
    intake: Rc<Intake>,
    number: u64,
}

impl Intake {
    /// A share for a body of a length that the request declares, or of the largest where it declares none; `None` when that is too
    /// much now. `is_proven` says whether the sender has shown who it is.
    #[must_use]
    pub fn admit(
        self: &Rc<Self>,
        declared_bytes: Option<usize>,
        is_proven: bool,
        now: Timestamp,
    ) -> Option<Share> {
        let held_max = if is_proven { HELD_BYTES_MAX } else { UNPROVEN_BYTES_MAX };
        let mut shares = self.shares.borrow_mut();
        let bytes =
            declared_bytes.unwrap_or(WEBHOOK_BODY_BYTES_MAX).clamp(SHARE_BYTES_MIN, WEBHOOK_BODY_BYTES_MAX);
        let is_too_much = |shares: &Shares| {
            shares.bytes.saturating_add(bytes) > held_max || shares.held.len() >= shares.pace.at_once_max()
        };
        if is_too_much(&shares) {
            shares.end_old(now);
            if is_too_much(&shares) {
                shares.refused += 1;
                return None;
            }
        }
        shares.last += 1;
        shares.bytes += bytes;
        let number = shares.last;
        shares.held.insert(number, (now, bytes));
        drop(shares);
        Some(Share { intake: Rc::clone(self), number })
    }

    /// How many were not admitted since this was last told; `None` when that is less than a second ago.
    pub fn refused_of_late(&self, now: Timestamp) -> Option<u64> {
        let mut shares = self.shares.borrow_mut();
        if now.since_ms(shares.told_at) < TOLD_INTERVAL_MS {
            return None;
        }
        shares.told_at = now;
        Some(std::mem::take(&mut shares.refused))
    }
}

impl Shares {
    fn end(&mut self, number: u64) {
        if let Some((_, bytes)) = self.held.remove(&number) {
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }

    fn end_old(&mut self, now: Timestamp) {
        let old = self.held.iter().filter(|(_, (since, _))| now.since_ms(*since) >= SHARE_MS);
        let old: Vec<u64> = old.map(|(number, _)| *number).collect();
        for number in old {
            self.end(number);
        }
    }
}

impl Share {
    /// The delivery was stored: how long that took tells how many may come at once.
    pub fn stored(&self, now: Timestamp) {
        let mut shares = self.intake.shares.borrow_mut();
        if let Some((since, _)) = shares.held.get(&self.number) {
            let (took_ms, on_their_way) = (now.since_ms(*since), shares.held.len());
            shares.pace.note(took_ms, on_their_way, now);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.intake.shares.borrow_mut().end(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn as_many_as_memory_holds_are_let_in() {
        let intake = Rc::new(Intake::default());
        let largest = HELD_BYTES_MAX / WEBHOOK_BODY_BYTES_MAX;
        let mut held: Vec<Share> =
            (0..largest).filter_map(|_| intake.admit(None, true, Timestamp(0))).collect();
        assert_eq!(held.len(), largest);
        assert!(intake.admit(Some(1), true, Timestamp(1)).is_none());
        held.pop();
        assert!(intake.admit(Some(500), true, Timestamp(1)).is_some());
        drop(held);
        assert_eq!(intake.shares.borrow().bytes, 0);
    }

    #[test]
    fn what_never_says_that_it_is_over_ends_by_itself() {
        let intake = Rc::new(Intake::default());
        while let Some(share) = intake.admit(None, true, Timestamp(0)) {
            std::mem::forget(share);
        }
        assert!(intake.admit(Some(500), true, Timestamp(SHARE_MS - 1)).is_none());
        assert!(intake.admit(Some(500), true, Timestamp(SHARE_MS)).is_some());
    }

    #[test]
    fn refusals_are_told_of_together() {
        let intake = Rc::new(Intake::default());
        let mut held = Vec::new();
        while let Some(share) = intake.admit(Some(1), true, Timestamp(5_000)) {
            held.push(share);
        }
        assert_eq!(held.len(), 128);
        assert_eq!(intake.refused_of_late(Timestamp(5_000)), Some(1));
        assert!(intake.admit(Some(1), true, Timestamp(5_001)).is_none());
        assert!(intake.admit(Some(1), true, Timestamp(5_002)).is_none());
        assert_eq!(intake.refused_of_late(Timestamp(5_999)), None);
        assert_eq!(intake.refused_of_late(Timestamp(6_000)), Some(2));
    }

    #[test]
    fn strangers_do_not_hold_up_who_has_shown_its_token() {
        let intake = Rc::new(Intake::default());
        let mut held: Vec<Share> = Vec::new();
        while let Some(share) = intake.admit(None, false, Timestamp(0)) {
            held.push(share);
        }
        assert_eq!(held.len(), UNPROVEN_BYTES_MAX / WEBHOOK_BODY_BYTES_MAX);
        assert!(intake.admit(None, true, Timestamp(0)).is_some());
    }

    proptest! {
        #[test]
        fn never_more_than_the_limit(steps in prop::collection::vec((any::<bool>(), 0_usize..3_000_000, 0_i64..20_000), 0..200)) {
            let intake = Rc::new(Intake::default());
            let mut held = Vec::new();
            let mut now = Timestamp(0);
            for (comes, bytes, pause_ms) in steps {
                now = now.plus_ms(pause_ms);
                if comes {
                    held.extend(intake.admit(Some(bytes), true, now));
                } else if !held.is_empty() {
                    drop(held.remove(0));
                }
                let shares = intake.shares.borrow();
                prop_assert!(shares.bytes <= HELD_BYTES_MAX);
                prop_assert_eq!(shares.bytes, shares.held.values().map(|(_, bytes)| bytes).sum::<usize>());
            }
        }
    }
}
