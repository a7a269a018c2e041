//! Keap's quotas: calls per second and minute over rolling windows, and per UTC day.
//!
//! A window remembers the time of each call in it, so the limits hold for every window of that length and not only
//! for aligned ones. Refused calls do not count against the quota; whether they do at Keap is unverified.

use std::collections::VecDeque;

use crate::options::Options;

const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;

/// How many calls are allowed in any second, any minute and a UTC day; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) second: Option<u32>,
    pub(crate) minute: u32,
    pub(crate) day: u32,
}

impl Limits {
    /// Those of the OAuth client, over all tenants.
    pub(crate) const fn of_client(options: &Options) -> Self {
        Self {
            second: Some(options.calls_per_second),
            minute: options.calls_per_minute,
            day: options.calls_per_day,
        }
    }

    /// Those of one service key.
    pub(crate) const fn of_service_key() -> Self {
        Self { second: Some(10), minute: 240, day: 30_000 }
    }

    /// Those of one tenant, over all credentials.
    pub(crate) const fn of_tenant(options: &Options) -> Self {
        Self { second: None, minute: options.tenant_calls_per_minute, day: options.tenant_calls_per_day }
    }
}

/// Which limit refused a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exceeded {
    Second,
    Minute,
    Day,
}

/// The calls of one credential or tenant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Usage {
    /// The accepted calls of the last minute, oldest first.
    recent_ms: VecDeque<i64>,
    day: i64,
    day_count: u32,
}

impl Usage {
    /// Which limit the next call would break.
    pub(crate) fn check(&mut self, limits: &Limits, now_ms: i64) -> Result<(), Exceeded> {
        self.forget_old(now_ms);
        if limits.second.is_some_and(|limit| self.within(SECOND_MS, now_ms) >= limit) {
            return Err(Exceeded::Second);
        }
        if self.within(MINUTE_MS, now_ms) >= limits.minute {
            return Err(Exceeded::Minute);
        }
        if self.day_count >= limits.day {
            return Err(Exceeded::Day);
        }
        Ok(())
    }

    /// Counts an accepted call.
    pub(crate) fn count(&mut self, now_ms: i64) {
        self.forget_old(now_ms);
        self.recent_ms.push_back(now_ms);
        self.day_count = self.day_count.saturating_add(1);
    }

    /// Calls in the last minute.
    pub(crate) fn used_in_minute(&self) -> u32 {
        u32::try_from(self.recent_ms.len()).unwrap_or(u32::MAX)
    }

    /// Calls in this UTC day.
    pub(crate) const fn used_in_day(&self) -> u32 {
        self.day_count
    }

    fn within(&self, window_ms: i64, now_ms: i64) -> u32 {
        let fresh = self.recent_ms.iter().rev().take_while(|at_ms| now_ms - **at_ms < window_ms).count();
        u32::try_from(fresh).unwrap_or(u32::MAX)
    }

    fn forget_old(&mut self, now_ms: i64) {
        while self.recent_ms.front().is_some_and(|at_ms| now_ms - at_ms >= MINUTE_MS) {
            self.recent_ms.pop_front();
        }
        let day = now_ms.div_euclid(DAY_MS);
        if day != self.day {
            self.day = day;
            self.day_count = 0;
        }
    }
}

/// When the day's quota begins anew, in milliseconds since the Unix epoch.
pub(crate) const fn next_day_ms(now_ms: i64) -> i64 {
    (now_ms.div_euclid(DAY_MS) + 1) * DAY_MS
}

/// The most calls seen in any window, accepted or not: what a test proves a client's pace by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Peaks {
    recent_ms: VecDeque<i64>,
    day: i64,
    today: usize,
    pub(crate) in_1s: usize,
    pub(crate) in_60s: usize,
    pub(crate) in_day: usize,
}

impl Peaks {
    /// Notes a call.
    pub(crate) fn note(&mut self, now_ms: i64) {
        while self.recent_ms.front().is_some_and(|at_ms| now_ms - at_ms >= MINUTE_MS) {
            self.recent_ms.pop_front();
        }
        self.recent_ms.push_back(now_ms);
        let in_second = self.recent_ms.iter().rev().take_while(|at_ms| now_ms - **at_ms < SECOND_MS).count();
        self.in_1s = self.in_1s.max(in_second);
        self.in_60s = self.in_60s.max(self.recent_ms.len());
        let day = now_ms.div_euclid(DAY_MS);
        self.today = if day == self.day { self.today + 1 } else { 1 };
        self.day = day;
        self.in_day = self.in_day.max(self.today);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { second: Some(2), minute: 4, day: 6 };

    fn call(usage: &mut Usage, now_ms: i64) -> Result<(), Exceeded> {
        usage.check(&LIMITS, now_ms)?;
        usage.count(now_ms);
        Ok(())
    }

    #[test]
    fn windows_roll() {
        let mut usage = Usage::default();
        assert_eq!(call(&mut usage, 0), Ok(()));
        assert_eq!(call(&mut usage, 900), Ok(()));
        assert_eq!(call(&mut usage, 999), Err(Exceeded::Second));
        assert_eq!(call(&mut usage, 1000), Ok(()));
        assert_eq!(call(&mut usage, 1899), Err(Exceeded::Second));
        assert_eq!(call(&mut usage, 3000), Ok(()));
        assert_eq!(call(&mut usage, 59_999), Err(Exceeded::Minute));
        assert_eq!(call(&mut usage, 60_000), Ok(()));
        assert_eq!(call(&mut usage, 130_000), Ok(()));
        assert_eq!(call(&mut usage, 200_000), Err(Exceeded::Day));
        assert_eq!(call(&mut usage, DAY_MS), Ok(()));
    }

    #[test]
    fn peaks_keep_the_most_of_any_window() {
        let mut peaks = Peaks::default();
        for at_ms in [0, 100, 999, 1000, 5000, 61_000, DAY_MS] {
            peaks.note(at_ms);
        }
        assert_eq!((peaks.in_1s, peaks.in_60s, peaks.in_day), (3, 5, 6));
    }
}
