//! Keap's quota, shared by leases: one set of rolling windows (second, minute, day) per credential.
//!
//! A lease allows `permits` calls, at most `calls_per_second_max` of them in any one second, until it expires. While it
//! lives, and for a second after, its rate counts against the second's window; its permits count against minute and day
//! from the moment of the grant. A release gives back what was not used; what was used counts as if used at the release, a
//! lease that expires unreleased counts in full as if used at its end. So whatever holders do within their leases, in any
//! order, no window ever exceeds its limit.
//!
//! Lower priorities must leave part of each window to higher ones. Keap's own figures only ever lower what is left.

use keapsync_domain::timestamp::Timestamp;
use keapsync_keap::quota::QuotaReading;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Length of the shortest window, in milliseconds.
pub const SECOND_MS: i64 = 1_000;
/// Length of the middle window, in milliseconds.
pub const MINUTE_MS: i64 = 60_000;
/// Length of the longest window, in milliseconds. It rolls: stricter than a day that ends at midnight.
pub const DAY_MS: i64 = 86_400_000;

/// Calls of the minute are kept by the second: at most 61 sums.
const MINUTE_GRAIN_MS: i64 = 1_000;
/// Calls of the day are kept by five minutes: at most 289 sums.
const DAY_GRAIN_MS: i64 = 300_000;

/// Waits that are told to a refused asker, in milliseconds: a release may free the second's window at any moment, the
/// minute's soon, the day's not before long.
const RETRY_SECOND_MS: (i64, i64) = (20, 1_000);
const RETRY_MINUTE_MS: (i64, i64) = (250, 10_000);
const RETRY_DAY_MS: i64 = 60_000;

/// Who asks, from the most to the least urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// A person waits for the answer.
    Person,
    /// A change in Keap on its way to the mirror.
    Hook,
    /// A change in the mirror on its way to Keap.
    Outbox,
    /// An incremental run.
    Poll,
    /// A full run.
    Backfill,
}

impl Priority {
    /// Per cent of the second's and the minute's window that may be taken, all leases together, by a grant of this priority.
    #[must_use]
    pub fn share_percent(self) -> i64 {
        match self {
            Self::Person => 100,
            Self::Hook => 95,
            Self::Outbox => 90,
            Self::Poll => 80,
            Self::Backfill => 70,
        }
    }

    /// Per cent of the day's window that a grant of this priority leaves to more urgent work.
    #[must_use]
    pub fn day_reserve_percent(self) -> i64 {
        match self {
            Self::Person => 0,
            Self::Hook => 2,
            Self::Outbox => 5,
            Self::Poll => 10,
            Self::Backfill => 25,
        }
    }
}

/// The credential's limits, in calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaLimits {
    /// In any second.
    pub per_second: u32,
    /// In any minute.
    pub per_minute: u32,
    /// In any 24 hours.
    pub per_day: u32,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRequest {
    /// Name of the lease, chosen by the asker; asking again under the same name gives the same lease.
    pub id: String,
    /// How urgent it is.
    pub priority: Priority,
    /// The most calls that are of use.
    pub permits_max: u32,
    /// The most calls per second that are of use.
    pub calls_per_second_max: u32,
    /// How long the lease lives unless it is released, in milliseconds.
    pub ttl_ms: i64,
}

/// What was granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its name.
    pub id: String,
    /// Calls it allows.
    pub permits: u32,
    /// In any one second.
    pub calls_per_second_max: u32,
    /// No call is made after this moment.
    pub expires_at: Timestamp,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grant {
    /// At least one call is allowed.
    Granted(Lease),
    /// None is now; asking again makes sense after this many milliseconds.
    Refused {
        /// The wait.
        retry_after_ms: i64,
    },
}

/// How much is left of each window, for status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaLeft {
    /// This second.
    pub second: i64,
    /// This minute.
    pub minute: i64,
    /// Today.
    pub day: i64,
    /// Leases that live.
    pub leases: usize,
}

/// The windows of one credential.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QuotaState {
    leases: Vec<Lease>,
    /// Rates of ended leases, each counting until its moment.
    tails: Vec<(Timestamp, u32)>,
    /// Calls by the end of the grain in which they were counted.
    minute: BTreeMap<i64, i64>,
    /// The same, coarser.
    day: BTreeMap<i64, i64>,
}

impl QuotaState {
    /// Moves the windows on to `now`: ends expired leases and forgets what has passed.
    pub fn advance(&mut self, now: Timestamp) {
        let expired: Vec<Lease> = self.leases.extract_if(.., |lease| lease.expires_at <= now).collect();
        for lease in expired {
            self.settle(lease.calls_per_second_max, lease.permits, lease.expires_at);
        }
        self.tails.retain(|(until, _)| *until > now);
        self.minute.retain(|end, _| end + MINUTE_MS > now.0);
        self.day.retain(|end, _| end + DAY_MS > now.0);
    }

    /// Grants what can be granted, at most what was asked for.
    pub fn request(&mut self, limits: &QuotaLimits, request: &LeaseRequest, now: Timestamp) -> Grant {
        self.advance(now);
        if let Some(lease) = self.leases.iter().find(|lease| lease.id == request.id) {
            return Grant::Granted(lease.clone());
        }
        let share = |limit: u32| (i64::from(limit) * request.priority.share_percent() / 100).max(1);
        let day_reserve = i64::from(limits.per_day) * request.priority.day_reserve_percent() / 100;
        let second = share(limits.per_second) - self.second_taken();
        let minute = share(limits.per_minute) - self.minute_taken();
        let day = i64::from(limits.per_day) - day_reserve - self.day_taken();
        if day < 1 {
            return Grant::Refused { retry_after_ms: RETRY_DAY_MS };
        }
        if minute < 1 {
            let wait_ms = self.minute.first_key_value().map_or(0, |(end, _)| end + MINUTE_MS - now.0);
            return Grant::Refused { retry_after_ms: wait_ms.clamp(RETRY_MINUTE_MS.0, RETRY_MINUTE_MS.1) };
        }
        if second < 1 {
            let wait_ms = self.tails.iter().map(|(until, _)| until.since_ms(now)).min().unwrap_or(SECOND_MS);
            return Grant::Refused { retry_after_ms: wait_ms.clamp(RETRY_SECOND_MS.0, RETRY_SECOND_MS.1) };
        }
        let lease = Lease {
            id: request.id.clone(),
            permits: bounded(minute.min(day), request.permits_max),
            calls_per_second_max: bounded(second, request.calls_per_second_max),
            expires_at: now.plus_ms(request.ttl_ms.clamp(1, MINUTE_MS * 5)),
        };
        self.leases.push(lease.clone());
        Grant::Granted(lease)
    }

    /// Ends a lease of which `used` calls were made. A lease that has expired already counts in full, and stays so.
    pub fn release(&mut self, lease_id: &str, used: u32, now: Timestamp) {
        self.advance(now);
        let Some(position) = self.leases.iter().position(|lease| lease.id == lease_id) else { return };
        let lease = self.leases.swap_remove(position);
        let used = used.min(lease.permits);
        self.settle(lease.calls_per_second_max.min(used), used, now);
    }

    /// Takes in what Keap says is left. Where that is less than we think, somebody else uses the credential too: the
    /// difference counts as used now.
    pub fn observe(&mut self, limits: &QuotaLimits, reading: &QuotaReading, now: Timestamp) {
        self.advance(now);
        if let Some(available) = reading.minute_available {
            let foreign = i64::from(limits.per_minute) - self.minute_taken() - available.max(0);
            if foreign > 0 {
                count(&mut self.minute, MINUTE_GRAIN_MS, now, foreign);
            }
        }
        if let Some(available) = reading.day_available {
            let foreign = i64::from(limits.per_day) - self.day_taken() - available.max(0);
            if foreign > 0 {
                count(&mut self.day, DAY_GRAIN_MS, now, foreign);
            }
        }
    }

    /// What is left of each window.
    #[must_use]
    pub fn left(&self, limits: &QuotaLimits) -> QuotaLeft {
        QuotaLeft {
            second: (i64::from(limits.per_second) - self.second_taken()).max(0),
            minute: (i64::from(limits.per_minute) - self.minute_taken()).max(0),
            day: (i64::from(limits.per_day) - self.day_taken()).max(0),
            leases: self.leases.len(),
        }
    }

    fn settle(&mut self, rate: u32, used: u32, at: Timestamp) {
        if used == 0 {
            return;
        }
        self.tails.push((at.plus_ms(SECOND_MS), rate));
        count(&mut self.minute, MINUTE_GRAIN_MS, at, i64::from(used));
        count(&mut self.day, DAY_GRAIN_MS, at, i64::from(used));
    }

    fn second_taken(&self) -> i64 {
        let alive: i64 = self.leases.iter().map(|lease| i64::from(lease.calls_per_second_max)).sum();
        alive + self.tails.iter().map(|(_, rate)| i64::from(*rate)).sum::<i64>()
    }

    fn permits_out(&self) -> i64 {
        self.leases.iter().map(|lease| i64::from(lease.permits)).sum()
    }

    fn minute_taken(&self) -> i64 {
        self.permits_out() + self.minute.values().sum::<i64>()
    }

    fn day_taken(&self) -> i64 {
        self.permits_out() + self.day.values().sum::<i64>()
    }
}

/// Counts calls at the end of the grain that holds `at`: never earlier than they were made.
fn count(window: &mut BTreeMap<i64, i64>, grain_ms: i64, at: Timestamp, calls: i64) {
    let end = at.0.div_euclid(grain_ms).saturating_add(1).saturating_mul(grain_ms);
    *window.entry(end).or_default() += calls;
}

fn bounded(available: i64, wanted: u32) -> u32 {
    u32::try_from(available.clamp(1, i64::from(u32::MAX))).unwrap_or(u32::MAX).min(wanted.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: QuotaLimits = QuotaLimits { per_second: 20, per_minute: 1_400, per_day: 140_000 };

    fn request(id: &str, priority: Priority, permits_max: u32, calls_per_second_max: u32) -> LeaseRequest {
        LeaseRequest { id: id.to_owned(), priority, permits_max, calls_per_second_max, ttl_ms: 30_000 }
    }

    fn granted(grant: Grant) -> Lease {
        match grant {
            Grant::Granted(lease) => lease,
            Grant::Refused { retry_after_ms } => panic!("refused for {retry_after_ms} ms"),
        }
    }

    #[test]
    fn a_backfill_leaves_room_for_live_changes() {
        let mut quota = QuotaState::default();
        let backfill =
            granted(quota.request(&LIMITS, &request("b", Priority::Backfill, 9_999, 99), Timestamp(0)));
        assert_eq!((backfill.calls_per_second_max, backfill.permits), (14, 980));
        assert!(matches!(
            quota.request(&LIMITS, &request("c", Priority::Backfill, 1, 1), Timestamp(0)),
            Grant::Refused { .. }
        ));
        let hook = granted(quota.request(&LIMITS, &request("h", Priority::Hook, 50, 4), Timestamp(0)));
        assert_eq!((hook.calls_per_second_max, hook.permits), (4, 50));
        assert_eq!(
            granted(quota.request(&LIMITS, &request("p", Priority::Person, 1, 9), Timestamp(0)))
                .calls_per_second_max,
            2
        );
    }

    #[test]
    fn a_release_gives_back_what_was_not_used() {
        let mut quota = QuotaState::default();
        granted(quota.request(&LIMITS, &request("a", Priority::Hook, 50, 10), Timestamp(0)));
        quota.release("a", 2, Timestamp(100));
        let left = quota.left(&LIMITS);
        assert_eq!((left.second, left.minute, left.day), (18, 1_398, 139_998));
        quota.advance(Timestamp(1_100));
        assert_eq!(quota.left(&LIMITS).second, 20);
        quota.advance(Timestamp(62_000));
        assert_eq!(quota.left(&LIMITS).minute, 1_400);
        quota.advance(Timestamp(DAY_MS + DAY_GRAIN_MS));
        assert_eq!(quota.left(&LIMITS).day, 140_000);
    }

    #[test]
    fn an_expired_lease_counts_in_full_and_a_late_release_gives_nothing_back() {
        let mut quota = QuotaState::default();
        granted(quota.request(&LIMITS, &request("a", Priority::Hook, 50, 10), Timestamp(0)));
        quota.release("a", 0, Timestamp(30_000));
        assert_eq!(quota.left(&LIMITS).minute, 1_350);
    }

    #[test]
    fn asking_again_under_the_same_name_takes_nothing_more() {
        let mut quota = QuotaState::default();
        let ask = request("a", Priority::Hook, 50, 10);
        let first = granted(quota.request(&LIMITS, &ask, Timestamp(0)));
        assert_eq!(granted(quota.request(&LIMITS, &ask, Timestamp(5))), first);
        assert_eq!(quota.left(&LIMITS).minute, 1_350);
    }

    #[test]
    fn keaps_figures_lower_what_is_left_and_never_raise_it() {
        let mut quota = QuotaState::default();
        let reading = |minute, day| QuotaReading { minute_available: minute, day_available: day };
        quota.observe(&LIMITS, &reading(Some(1_499), Some(149_999)), Timestamp(0));
        assert_eq!(quota.left(&LIMITS).day, 140_000);
        quota.observe(&LIMITS, &reading(Some(0), Some(500)), Timestamp(0));
        let left = quota.left(&LIMITS);
        assert_eq!((left.minute, left.day), (0, 500));
        assert!(matches!(
            quota.request(&LIMITS, &request("b", Priority::Backfill, 1, 1), Timestamp(1)),
            Grant::Refused { retry_after_ms: RETRY_DAY_MS }
        ));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Ask { priority: u8, permits: u32, rate: u32, ttl_ms: i64 },
        Call(prop::sample::Index),
        Release(prop::sample::Index),
        Wait(i64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0_u8..5, 1_u32..40, 1_u32..10, 1_i64..20_000)
                .prop_map(|(priority, permits, rate, ttl_ms)| Step::Ask { priority, permits, rate, ttl_ms }),
            10 => any::<prop::sample::Index>().prop_map(Step::Call),
            1 => any::<prop::sample::Index>().prop_map(Step::Release),
            4 => prop_oneof![4 => 0_i64..300, 2 => 300_i64..3_000, 1 => 3_000_i64..90_000, 1 => 600_000_i64..50_000_000]
                .prop_map(Step::Wait),
        ]
    }

    fn holds(calls: &[i64], window_ms: i64, limit: u32) -> bool {
        calls.iter().enumerate().all(|(first, start)| {
            calls[first..].iter().take_while(|at| **at < start + window_ms).count() <= limit as usize
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        /// Holders that call as fast as their leases allow, release, or vanish, in any order: no window exceeds its limit.
        #[test]
        fn no_window_ever_exceeds_its_limit(steps in prop::collection::vec(step(), 1..250), per_second in 1_u32..12, per_minute in 5_u32..60, per_day in 20_u32..200) {
            let limits = QuotaLimits { per_second, per_minute, per_day };
            let priorities = [Priority::Person, Priority::Hook, Priority::Outbox, Priority::Poll, Priority::Backfill];
            let (mut quota, mut now, mut calls, mut held) = (QuotaState::default(), Timestamp(0), Vec::<i64>::new(), Vec::<(Lease, Vec<i64>)>::new());
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Wait(wait_ms) => now = now.plus_ms(wait_ms),
                    Step::Ask { priority, permits, rate, ttl_ms } => {
                        let ask = LeaseRequest { ttl_ms, ..request(&number.to_string(), priorities[usize::from(priority)], permits, rate) };
                        match quota.request(&limits, &ask, now) {
                            Grant::Granted(lease) => {
                                prop_assert!(lease.permits >= 1 && lease.permits <= permits);
                                prop_assert!(lease.calls_per_second_max >= 1 && lease.calls_per_second_max <= rate);
                                held.push((lease, Vec::new()));
                            }
                            Grant::Refused { retry_after_ms } => prop_assert!(retry_after_ms > 0),
                        }
                    }
                    Step::Call(which) => {
                        if held.is_empty() { continue; }
                        let position = which.index(held.len());
                        let (lease, made) = &mut held[position];
                        // A burst of all that the lease allows at this moment.
                        while now < lease.expires_at
                            && made.len() < lease.permits as usize
                            && made.iter().filter(|at| now.0 - **at < SECOND_MS).count() < lease.calls_per_second_max as usize
                        {
                            made.push(now.0);
                            calls.push(now.0);
                        }
                    }
                    Step::Release(which) => {
                        if held.is_empty() { continue; }
                        let position = which.index(held.len());
                        let (lease, made) = held.swap_remove(position);
                        quota.release(&lease.id, u32::try_from(made.len()).unwrap(), now);
                    }
                }
            }
            prop_assert!(holds(&calls, SECOND_MS, per_second), "a second holds too many calls");
            prop_assert!(holds(&calls, MINUTE_MS, per_minute), "a minute holds too many calls");
            prop_assert!(holds(&calls, DAY_MS, per_day), "a day holds too many calls");
        }

        /// What is idle long enough is free again: nothing leaks.
        #[test]
        fn everything_comes_back(asks in prop::collection::vec((1_u32..40, 1_u32..10, any::<bool>()), 1..50)) {
            let mut quota = QuotaState::default();
            for (number, (permits, rate, released)) in asks.into_iter().enumerate() {
                let id = number.to_string();
                quota.request(&LIMITS, &request(&id, Priority::Person, permits, rate), Timestamp(0));
                if released { quota.release(&id, permits, Timestamp(1)); }
            }
            quota.advance(Timestamp(2 * DAY_MS));
            prop_assert_eq!(&quota, &QuotaState::default());
        }
    }
}
