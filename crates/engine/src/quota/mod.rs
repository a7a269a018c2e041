//! Keap's quota, shared by leases: one set of rolling windows (second, minute, day) per credential.
//!
//! A lease allows `permits` calls, at most `calls_per_second_max` of them in any one second, until it expires. While it
//! lives, and for a second after, its rate counts against the second's window; its permits count against minute and day
//! from the moment of the grant. A release gives back what was not used; what was used counts as if used at the release, a
//! lease that expires unreleased counts in full as if used at its end. So whatever holders do within their leases, in any
//! order, no window ever exceeds its limit.
//!
//! Lower priorities must leave part of each window to higher ones. Keap's own figures only ever lower what is left: see
//! `observed`. What status shows is made in `view`.

mod observed;
#[cfg(test)]
mod tests;
mod view;

pub use view::{Forecast, QuotaView, WindowView};

use keapsync_domain::quota::QuotaReading;
use keapsync_domain::timestamp::Timestamp;
use observed::Observed;
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
    /// Every priority, the most urgent first.
    pub const ALL: [Self; 5] = [Self::Person, Self::Hook, Self::Outbox, Self::Poll, Self::Backfill];

    /// The name in status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Hook => "hook",
            Self::Outbox => "outbox",
            Self::Poll => "poll",
            Self::Backfill => "backfill",
        }
    }

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
    /// The account that it is for: Keap also counts by the application that is asked.
    pub account: String,
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

/// A lease that lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    lease: Lease,
    priority: Priority,
    account: String,
}

/// Calls of one grain, by priority, the most urgent first.
type Calls = [i64; Priority::ALL.len()];

/// Calls by the end of the grain in which they were counted.
type Window = BTreeMap<i64, Calls>;

/// The windows of one credential.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QuotaState {
    leases: Vec<Held>,
    /// Rates of ended leases, each counting until its moment.
    tails: Vec<(Timestamp, u32)>,
    minute: Window,
    /// The same, coarser.
    day: Window,
    /// What Keap said.
    observed: Observed,
}

impl QuotaState {
    /// Moves the windows on to `now`: ends expired leases and forgets what has passed.
    pub fn advance(&mut self, now: Timestamp) {
        let expired: Vec<Held> = self.leases.extract_if(.., |held| held.lease.expires_at <= now).collect();
        for held in expired {
            let Lease { calls_per_second_max, permits, expires_at, .. } = held.lease;
            self.settle(held.priority, calls_per_second_max, permits, expires_at);
        }
        self.tails.retain(|(until, _)| *until > now);
        self.minute.retain(|end, _| end + MINUTE_MS > now.0);
        self.day.retain(|end, _| end + DAY_MS > now.0);
        self.observed.advance(now);
    }

    /// Grants what can be granted, at most what was asked for.
    pub fn request(&mut self, limits: &QuotaLimits, request: &LeaseRequest, now: Timestamp) -> Grant {
        self.advance(now);
        if let Some(held) = self.leases.iter().find(|held| held.lease.id == request.id) {
            return Grant::Granted(held.lease.clone());
        }
        if let Some(wait_ms) = self.observed.wait_ms(&request.account, now) {
            return Grant::Refused { retry_after_ms: wait_ms };
        }
        let limits = &self.observed.lowered(limits);
        let share = |limit: u32| (i64::from(limit) * request.priority.share_percent() / 100).max(1);
        let second = share(limits.per_second) - self.second_taken();
        let minute = share(limits.per_minute) - self.minute_taken();
        let day = i64::from(limits.per_day) - day_reserve(limits, request.priority) - self.day_taken();
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
        let left = minute.min(day).min(self.observed.left_of_tenant(&request.account));
        let lease = Lease {
            id: request.id.clone(),
            permits: bounded(left, request.permits_max),
            calls_per_second_max: bounded(second, request.calls_per_second_max),
            expires_at: now.plus_ms(request.ttl_ms.clamp(1, MINUTE_MS * 5)),
        };
        self.observed.take(&request.account, lease.permits);
        let account = request.account.clone();
        self.leases.push(Held { lease: lease.clone(), priority: request.priority, account });
        Grant::Granted(lease)
    }

    /// Ends a lease of which `used` calls were made. A lease that has expired already counts in full, and stays so.
    pub fn release(&mut self, lease_id: &str, used: u32, now: Timestamp) {
        self.advance(now);
        let Some(position) = self.leases.iter().position(|held| held.lease.id == lease_id) else { return };
        let Held { lease, priority, account } = self.leases.swap_remove(position);
        let used = used.min(lease.permits);
        self.observed.give_back(&account, lease.permits - used);
        self.settle(priority, lease.calls_per_second_max.min(used), used, now);
    }

    /// Takes in what Keap said to `account`. Where less is left than we think, somebody else uses the credential too; where
    /// a limit is lower than the configured one, the lower one counts; where Keap refused a call, everybody waits.
    pub fn observe(&mut self, limits: &QuotaLimits, account: &str, reading: &QuotaReading, now: Timestamp) {
        self.advance(now);
        let own = (self.own_taken(&self.minute), self.own_taken(&self.day));
        self.observed.take_in(limits, own, account, reading, now);
    }

    /// What is left of each window.
    #[must_use]
    pub fn left(&self, limits: &QuotaLimits) -> QuotaLeft {
        let limits = self.observed.lowered(limits);
        QuotaLeft {
            second: (i64::from(limits.per_second) - self.second_taken()).max(0),
            minute: (i64::from(limits.per_minute) - self.minute_taken()).max(0),
            day: (i64::from(limits.per_day) - self.day_taken()).max(0),
            leases: self.leases.len(),
        }
    }

    fn settle(&mut self, priority: Priority, rate: u32, used: u32, at: Timestamp) {
        if used == 0 {
            return;
        }
        self.tails.push((at.plus_ms(SECOND_MS), rate));
        count(&mut self.minute, MINUTE_GRAIN_MS, at, priority, i64::from(used));
        count(&mut self.day, DAY_GRAIN_MS, at, priority, i64::from(used));
    }

    fn second_taken(&self) -> i64 {
        let alive: i64 = self.leases.iter().map(|held| i64::from(held.lease.calls_per_second_max)).sum();
        alive + self.tails.iter().map(|(_, rate)| i64::from(*rate)).sum::<i64>()
    }

    fn own_taken(&self, window: &Window) -> i64 {
        let out: i64 = self.leases.iter().map(|held| i64::from(held.lease.permits)).sum();
        out + window.values().flatten().sum::<i64>()
    }

    fn minute_taken(&self) -> i64 {
        self.own_taken(&self.minute) + self.observed.foreign_minute()
    }

    fn day_taken(&self) -> i64 {
        self.own_taken(&self.day) + self.observed.foreign_day()
    }
}

/// Calls of the day that a grant of this priority leaves to more urgent work.
fn day_reserve(limits: &QuotaLimits, priority: Priority) -> i64 {
    i64::from(limits.per_day) * priority.day_reserve_percent() / 100
}

/// Counts calls at the end of the grain that holds `at`: never earlier than they were made.
fn count(window: &mut Window, grain_ms: i64, at: Timestamp, priority: Priority, calls: i64) {
    let end = at.0.div_euclid(grain_ms).saturating_add(1).saturating_mul(grain_ms);
    if let Some(sum) = window.entry(end).or_default().get_mut(priority as usize) {
        *sum += calls;
    }
}

fn bounded(available: i64, wanted: u32) -> u32 {
    u32::try_from(available.clamp(1, i64::from(u32::MAX))).unwrap_or(u32::MAX).min(wanted.max(1))
}
