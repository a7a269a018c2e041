//! How many deliveries may be on their way to the account's object at once.
//!
//! The bound follows how long they take, as TCP Vegas and adaptive limits of concurrency do: as long as none takes much longer than
//! the quickest of late, it grows; when many are on their way and they do, they wait for each other, and it shrinks. So it holds wherever
//! the object lives, one millisecond away or a hundred. It starts at its most: a burst out of silence is taken whole.

use keapsync_domain::timestamp::Timestamp;

/// Deliveries at once, at most and at least.
const AT_ONCE_MAX: f64 = 128.0;
const AT_ONCE_MIN: f64 = 8.0;

/// A delivery is slow when it takes this many times as long as the quickest of late, and the slack besides, in milliseconds: the
/// runtime's pauses and a flush to disk are no crowd.
const SLOW_FACTOR: i64 = 3;
const SLACK_MS: i64 = 10;

/// What the bound grows by with each prompt delivery, and what it is multiplied with when one is slow.
const GROWTH: f64 = 0.1;
const SHRINKAGE: f64 = 0.9;

/// Longest wait between two times that the bound shrinks, in milliseconds; else it is as long as the delivery took.
const SHRINK_INTERVAL_MS_MAX: i64 = 1_000;

/// How long the quickest is remembered, in milliseconds: one period and the one before. Long, because in a storm none is quick, and what
/// the storm leaves as the quickest would raise the bound.
const PERIOD_MS: i64 = 600_000;

/// The bound, and what it is learned from.
#[derive(Debug)]
pub struct Pace {
    at_once: f64,
    /// Shrunk last: those that were on their way then tell nothing new.
    shrunk_at: Timestamp,
    period_since: Timestamp,
    quickest_ms: i64,
    quickest_before_ms: i64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            at_once: AT_ONCE_MAX,
            shrunk_at: Timestamp(0),
            period_since: Timestamp(0),
            quickest_ms: i64::MAX,
            quickest_before_ms: i64::MAX,
        }
    }
}

impl Pace {
    /// How many may be on their way at once.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it lies between 8 and 128")]
    pub fn at_once_max(&self) -> usize {
        self.at_once as usize
    }

    /// A delivery that took so long ended now, and so many were on their way, itself included. A few that are slow are no crowd: an object
    /// wakes up, or its machine is busy.
    pub fn note(&mut self, took_ms: i64, on_their_way: usize, now: Timestamp) {
        if now.since_ms(self.period_since) >= PERIOD_MS {
            self.period_since = now;
            self.quickest_before_ms = std::mem::replace(&mut self.quickest_ms, took_ms);
        }
        self.quickest_ms = self.quickest_ms.min(took_ms);
        let quickest_ms = self.quickest_ms.min(self.quickest_before_ms);
        if took_ms <= quickest_ms.saturating_mul(SLOW_FACTOR).saturating_add(SLACK_MS) {
            self.at_once = (self.at_once + GROWTH).min(AT_ONCE_MAX);
        } else if on_their_way >= self.at_once_max() / 2
            && now.since_ms(self.shrunk_at) >= took_ms.min(SHRINK_INTERVAL_MS_MAX)
        {
            self.shrunk_at = now;
            self.at_once = (self.at_once * SHRINKAGE).max(AT_ONCE_MIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    struct Outcome {
        taken: usize,
        refused: usize,
        /// What the slowest of a hundred took, in milliseconds, without the first second.
        p99_ms: i64,
    }

    /// One object that takes `service_us` for each delivery and is `distance_ms` away, and deliveries at a constant rate.
    fn play(per_second: i64, service_us: i64, distance_ms: i64, seconds: i64) -> Outcome {
        let mut pace = Pace::default();
        let mut flying: VecDeque<(i64, i64)> = VecDeque::new();
        let (mut free_at, mut refused) = (0, 0);
        let mut took = Vec::new();
        for number in 0..per_second * seconds {
            let now = number * 1_000_000 / per_second;
            while let Some((since, ends)) = flying.front().copied().filter(|(_, ends)| *ends <= now) {
                let took_ms = (ends - since) / 1000;
                pace.note(took_ms, flying.len(), Timestamp(ends / 1000));
                flying.pop_front();
                if ends > 1_000_000 {
                    took.push(took_ms);
                }
            }
            if flying.len() >= pace.at_once_max() {
                refused += 1;
                continue;
            }
            free_at = free_at.max(now) + service_us;
            flying.push_back((now, free_at + distance_ms * 1000));
        }
        took.sort_unstable();
        let p99_ms = took[took.len() * 99 / 100];
        Outcome { taken: took.len(), refused, p99_ms }
    }

    #[test]
    fn a_storm_is_taken_as_fast_as_the_object_is_and_the_rest_refused() {
        let storm = play(1_000, 1_400, 1, 60);
        assert!(storm.p99_ms < 50, "{} ms", storm.p99_ms);
        // 714 a second are what the object can do.
        assert!(storm.taken > 59 * 690, "{} taken, {} refused", storm.taken, storm.refused);
    }

    #[test]
    fn what_the_object_can_take_is_never_refused_near_or_far() {
        for distance_ms in [0, 1, 30, 150] {
            let calm = play(500, 1_000, distance_ms, 30);
            assert_eq!(calm.refused, 0, "{distance_ms} ms away");
        }
    }

    #[test]
    fn a_burst_out_of_silence_is_taken_whole() {
        assert_eq!(Pace::default().at_once_max(), 128);
    }

    #[test]
    fn a_few_that_are_slow_are_no_crowd() {
        let mut pace = Pace::default();
        pace.note(2, 1, Timestamp(0));
        for number in 1..1_000 {
            pace.note(500, 40, Timestamp(number * 500));
        }
        assert_eq!(pace.at_once_max(), 128);
    }

    #[test]
    fn the_bound_recovers_from_a_slow_time_and_never_closes() {
        let mut pace = Pace::default();
        pace.note(2, 1, Timestamp(0));
        for number in 0..1000 {
            pace.note(30_000, 128, Timestamp(number * 30_000));
        }
        assert!(pace.at_once_max() >= 8);
        for number in 0..2_000 {
            pace.note(2, 1, Timestamp(40_000_000 + number));
        }
        assert_eq!(pace.at_once_max(), 128);
    }
}
