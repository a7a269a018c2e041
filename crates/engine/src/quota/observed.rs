//! What Keap itself says about a credential's quota: limits that are lower than ours, calls that others made with the
//! credential, a Keap application that has had enough, and refusals.
//!
//! All of it only ever lowers what is granted, and all of it is forgotten after a time, so that a figure that was wrong, late
//! or absurd stops nobody for long: what still holds is said again by Keap's next answer.

use super::{DAY_MS, MINUTE_MS, QuotaLimits};
use keapsync_domain::quota::{QuotaReading, Throttle, ThrottleKind, WindowReading};
use keapsync_domain::timestamp::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Part of a limit of Keap's that is used at most, in per cent: its clock and ours do not cut windows at the same moment.
const LIMIT_PERCENT: u64 = 95;

/// How long what Keap says of a day is believed, in milliseconds.
const DAY_BELIEF_MS: i64 = 3_600_000;

/// How long a burst that Keap refused slows the credential down, in milliseconds, and to which part of its rate, in per cent.
const SLOW_MS: i64 = 10 * MINUTE_MS;
const SLOW_PERCENT: u64 = 75;

/// Waits after refusals that name none, in milliseconds: the first, which doubles with each refusal in a row, and the longest.
const SPIKE_WAIT_MS: (i64, i64) = (1_000, 30_000);
const QUOTA_WAIT_MS: (i64, i64) = (5_000, 60_000);

/// Longest wait that is taken over from Keap, in milliseconds.
const RETRY_AFTER_MAX_MS: i64 = 3_600_000;

/// A figure, and until when it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Figure {
    pub calls: i64,
    pub until: Timestamp,
}

/// What Keap said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Observed {
    /// Keap's limits per second, minute and day, where it named them.
    pub limits: Option<[Option<u32>; 3]>,
    pub limits_until: Timestamp,
    /// Calls that others made with the credential.
    pub foreign_minute: Option<Figure>,
    pub foreign_day: Option<Figure>,
    /// What is left for each account's Keap application, where that is less than for the credential.
    pub tenants: BTreeMap<String, Figure>,
    /// Nobody calls before this moment.
    pub throttled_until: Option<Timestamp>,
    /// These do not call before that moment.
    pub throttled_accounts: BTreeMap<String, Timestamp>,
    /// Refusals in a row.
    pub throttles: u32,
    /// At most so many calls per second, for a time.
    pub slowed: Option<Figure>,
    /// The last reading.
    pub reading: QuotaReading,
    pub read_at: Option<Timestamp>,
}

impl Observed {
    /// Forgets what no longer counts.
    pub(super) fn advance(&mut self, now: Timestamp) {
        let counts = |figure: &mut Figure| figure.until > now;
        self.foreign_minute.take_if(|figure| !counts(figure));
        self.foreign_day.take_if(|figure| !counts(figure));
        self.slowed.take_if(|figure| !counts(figure));
        self.throttled_until.take_if(|until| *until <= now);
        self.limits.take_if(|_| self.limits_until <= now);
        self.tenants.retain(|_, figure| figure.until > now);
        self.throttled_accounts.retain(|_, until| *until > now);
        if self.read_at.is_some_and(|at| now.since_ms(at) >= DAY_MS) {
            *self = Self::default();
        }
    }

    /// How long an account has to wait because Keap refused calls.
    pub(super) fn wait_ms(&self, account: &str, now: Timestamp) -> Option<i64> {
        let own = self.throttled_accounts.get(account).copied();
        let empty = self.tenants.get(account).filter(|figure| figure.calls < 1).map(|figure| figure.until);
        [self.throttled_until, own, empty].into_iter().flatten().map(|until| until.since_ms(now).max(1)).max()
    }

    /// Calls that the account's Keap application still takes.
    pub(super) fn left_of_tenant(&self, account: &str) -> i64 {
        self.tenants.get(account).map_or(i64::MAX, |figure| figure.calls)
    }

    /// Counts a grant against the account's Keap application.
    pub(super) fn take(&mut self, account: &str, permits: u32) {
        if let Some(figure) = self.tenants.get_mut(account) {
            figure.calls -= i64::from(permits);
        }
    }

    /// Counts back what was not used.
    pub(super) fn give_back(&mut self, account: &str, permits: u32) {
        if let Some(figure) = self.tenants.get_mut(account) {
            figure.calls += i64::from(permits);
        }
    }

    pub(super) fn foreign_minute(&self) -> i64 {
        self.foreign_minute.map_or(0, |figure| figure.calls)
    }

    pub(super) fn foreign_day(&self) -> i64 {
        self.foreign_day.map_or(0, |figure| figure.calls)
    }

    /// The limits that count: the configured ones, or what Keap says where that is lower.
    pub(super) fn lowered(&self, limits: &QuotaLimits) -> QuotaLimits {
        let [second, minute, day] = self.limits.unwrap_or_default();
        let lower = |configured: u32, keaps: Option<u32>| {
            configured.min(keaps.map_or(u32::MAX, |limit| part_of(limit, LIMIT_PERCENT)))
        };
        let per_second = lower(limits.per_second, second);
        let slowed = self.slowed.map_or(u32::MAX, |figure| u32::try_from(figure.calls).unwrap_or(u32::MAX));
        QuotaLimits {
            per_second: per_second.min(slowed),
            per_minute: lower(limits.per_minute, minute),
            per_day: lower(limits.per_day, day),
        }
    }

    /// Takes in a reading; `own` are our calls of the minute and of the day.
    pub(super) fn take_in(
        &mut self,
        limits: &QuotaLimits,
        own: (i64, i64),
        account: &str,
        reading: &QuotaReading,
        now: Timestamp,
    ) {
        if *reading == QuotaReading::default() {
            return;
        }
        self.reading = *reading;
        self.read_at = Some(now);
        let told = [reading.spike_limit, reading.minute.limit, reading.day.limit];
        if told.iter().any(Option::is_some) {
            let [second, minute, day] = self.limits.unwrap_or_default();
            let [told_second, told_minute, told_day] = told;
            self.limits = Some([told_second.or(second), told_minute.or(minute), told_day.or(day)]);
            self.limits_until = now.plus_ms(DAY_MS);
        }
        let lowered = self.lowered(limits);
        let foreign = |limit: u32, own: i64, window: WindowReading| {
            window.available.map_or(0, |available| i64::from(limit) - own - i64::from(available))
        };
        let calls = foreign(lowered.per_minute, own.0, reading.minute);
        raise(&mut self.foreign_minute, calls, now.plus_ms(MINUTE_MS));
        // A reading of a day that is over says nothing about the next one.
        let resets_at = reading.day_resets_at;
        if resets_at.is_none_or(|at| at > now) {
            let calls = foreign(lowered.per_day, own.1, reading.day);
            let belief = now.plus_ms(DAY_BELIEF_MS);
            raise(&mut self.foreign_day, calls, resets_at.map_or(belief, |at| at.min(belief)));
        }
        self.take_in_tenant(&lowered, account, reading, now);
        match reading.throttle {
            Some(throttle) => self.slow_down(&lowered, account, throttle, now),
            None => self.throttles = 0,
        }
    }

    fn take_in_tenant(
        &mut self,
        limits: &QuotaLimits,
        account: &str,
        reading: &QuotaReading,
        now: Timestamp,
    ) {
        let windows = [
            (reading.tenant_minute.available, limits.per_minute, MINUTE_MS),
            (reading.tenant_day.available, limits.per_day, DAY_BELIEF_MS),
        ];
        for (available, limit, belief_ms) in windows {
            let Some(available) = available.filter(|available| *available < limit) else { continue };
            let told = Figure { calls: i64::from(available), until: now.plus_ms(belief_ms) };
            let known = self.tenants.entry(account.to_owned()).or_insert(told);
            if told.calls <= known.calls {
                *known = told;
            }
        }
    }

    fn slow_down(&mut self, limits: &QuotaLimits, account: &str, throttle: Throttle, now: Timestamp) {
        let (first_ms, longest_ms) = match throttle.kind {
            ThrottleKind::Spike => SPIKE_WAIT_MS,
            ThrottleKind::Quota | ThrottleKind::Tenant => QUOTA_WAIT_MS,
        };
        let wait_ms = throttle.retry_after_ms.map_or_else(
            || (first_ms << self.throttles.min(10)).min(longest_ms),
            |ms| ms.min(RETRY_AFTER_MAX_MS),
        );
        self.throttles = self.throttles.saturating_add(1);
        let until = now.plus_ms(wait_ms.max(1));
        if throttle.kind == ThrottleKind::Tenant {
            let known = self.throttled_accounts.entry(account.to_owned()).or_insert(until);
            *known = until.max(*known);
            return;
        }
        self.throttled_until = self.throttled_until.max(Some(until));
        if throttle.kind == ThrottleKind::Spike {
            let calls = i64::from(part_of(limits.per_second, SLOW_PERCENT));
            self.slowed = Some(Figure { calls, until: now.plus_ms(SLOW_MS) });
        }
    }
}

/// Raises a figure, or keeps the higher one that still counts.
fn raise(known: &mut Option<Figure>, calls: i64, until: Timestamp) {
    if calls > 0 && known.is_none_or(|known| calls >= known.calls) {
        *known = Some(Figure { calls, until });
    }
}

fn part_of(limit: u32, percent: u64) -> u32 {
    u32::try_from(u64::from(limit) * percent / 100).unwrap_or(u32::MAX).max(1)
}
