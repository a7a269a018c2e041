//! What status shows of a credential's quota, and when it will be used up.

use super::{DAY_MS, MINUTE_MS, Priority, QuotaLimits, QuotaState, Window, day_reserve};
use keapsync_domain::quota::QuotaReading;
use keapsync_domain::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The past by which the rate of calls is judged, in milliseconds.
const RATE_MS: i64 = 3_600_000;

/// One window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowView {
    /// Calls that may be made in it: the configured limit, or Keap's where that is lower.
    pub limit: i64,
    /// Calls that were made in it or are granted, ours and others'.
    pub used: i64,
    /// Calls that were made in it and how urgent they were; those of live leases are not among them.
    pub by_priority: BTreeMap<String, i64>,
    /// Calls that others made with the same credential, as far as Keap's figures tell.
    pub by_others: i64,
    /// Calls that are left of it.
    pub left: i64,
}

/// When the day's calls will be used up, at the rate of the last hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// Calls of the last hour.
    pub calls_per_hour: i64,
    /// When nothing is left of the day; absent when it lasts.
    pub used_up_at: Option<Timestamp>,
    /// When nothing is left of it for full runs, which leave a part to live changes; absent when it lasts.
    pub used_up_for_backfill_at: Option<Timestamp>,
    /// When the first calls of the day come back: a day after they were made.
    pub comes_back_at: Option<Timestamp>,
}

/// The quota of one credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaView {
    /// Any second.
    pub second: WindowView,
    /// Any minute.
    pub minute: WindowView,
    /// Any 24 hours.
    pub day: WindowView,
    /// Leases that live.
    pub leases: usize,
    /// Nobody calls before this moment, because Keap refused a call.
    pub throttled_until: Option<Timestamp>,
    /// The rate is lowered until this moment, because Keap refused a burst.
    pub slowed_until: Option<Timestamp>,
    /// What Keap said last.
    pub keap: QuotaReading,
    /// When it said so.
    pub keap_read_at: Option<Timestamp>,
    /// When the day will be used up.
    pub forecast: Forecast,
}

impl QuotaState {
    /// What status shows. The windows must have been moved on to `now`.
    #[must_use]
    pub fn view(&self, limits: &QuotaLimits, now: Timestamp) -> QuotaView {
        let lowered = self.observed.lowered(limits);
        let window = |limit: u32, used: i64, calls: &Window, by_others: i64| WindowView {
            limit: i64::from(limit),
            used,
            by_priority: by_priority(calls),
            by_others,
            left: (i64::from(limit) - used).max(0),
        };
        let (minute, day) = (self.observed.foreign_minute(), self.observed.foreign_day());
        QuotaView {
            second: window(lowered.per_second, self.second_taken(), &Window::default(), 0),
            minute: window(lowered.per_minute, self.minute_taken(), &self.minute, minute),
            day: window(lowered.per_day, self.day_taken(), &self.day, day),
            leases: self.leases.len(),
            throttled_until: self.observed.throttled_until,
            slowed_until: self.observed.slowed.map(|figure| figure.until),
            keap: self.observed.reading,
            keap_read_at: self.observed.read_at,
            forecast: self.forecast(&lowered, now),
        }
    }

    fn forecast(&self, limits: &QuotaLimits, now: Timestamp) -> Forecast {
        let recent = self.day.iter().filter(|(end, _)| **end > now.0 - RATE_MS);
        let calls_per_hour: i64 = recent.flat_map(|(_, calls)| calls).sum();
        let comes_back_at = self.day.first_key_value().map(|(end, _)| Timestamp(end.saturating_add(DAY_MS)));
        let left = i64::from(limits.per_day) - self.day_taken();
        let used_up_at = |left: i64| {
            let lasts_ms = left.max(0).saturating_mul(RATE_MS).checked_div(calls_per_hour)?;
            let at = now.plus_ms(lasts_ms);
            comes_back_at.is_none_or(|back| at < back).then_some(at)
        };
        Forecast {
            calls_per_hour,
            used_up_at: used_up_at(left),
            used_up_for_backfill_at: used_up_at(left - day_reserve(limits, Priority::Backfill)),
            comes_back_at,
        }
    }
}

impl Forecast {
    /// When a full run ends that would end at `done_at` if calls never ran out. Where they do, it rests until the first of
    /// them come back, and then goes on as fast as they come: as fast as it went before.
    #[must_use]
    pub fn backfill_done_at(&self, done_at: Timestamp) -> Timestamp {
        match (self.used_up_for_backfill_at, self.comes_back_at) {
            (Some(used_up_at), Some(comes_back_at)) if used_up_at < done_at => {
                let rest_ms = comes_back_at.since_ms(used_up_at).max(0);
                // Each day holds as much work as lies between the first calls of a day and their end.
                let work_ms = (DAY_MS - rest_ms).max(MINUTE_MS);
                let days = done_at.since_ms(used_up_at) / work_ms;
                done_at.plus_ms(rest_ms.saturating_mul(days.saturating_add(1)))
            }
            _ => done_at,
        }
    }
}

fn by_priority(calls: &Window) -> BTreeMap<String, i64> {
    let mut sums = BTreeMap::new();
    for grain in calls.values() {
        for (priority, calls) in Priority::ALL.iter().zip(grain).filter(|(_, calls)| **calls > 0) {
            *sums.entry(priority.as_str().to_owned()).or_default() += calls;
        }
    }
    sums
}
