//! What Keap's answers say about its quotas, as workers pass it on to each other.

use crate::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

/// What Keap says of one window. Anything may be missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WindowReading {
    /// Calls that it allows; never 0.
    pub limit: Option<u32>,
    /// Calls that are left of it.
    pub available: Option<u32>,
}

/// Whom Keap slowed down, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThrottleKind {
    /// The credential, for a burst.
    Spike,
    /// The credential, for its minute or its day.
    Quota,
    /// The Keap application that was asked, whoever asks it.
    Tenant,
}

/// Keap refused a call for its quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttle {
    /// Whom and for what.
    pub kind: ThrottleKind,
    /// The wait that Keap asked for, in milliseconds.
    pub retry_after_ms: Option<i64>,
}

/// What one or several answers of Keap say about its quotas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QuotaReading {
    /// Calls in any one second.
    pub spike_limit: Option<u32>,
    /// The credential's minute.
    pub minute: WindowReading,
    /// The credential's day.
    pub day: WindowReading,
    /// When the credential's day begins anew.
    pub day_resets_at: Option<Timestamp>,
    /// The Keap application's minute, over all credentials.
    pub tenant_minute: WindowReading,
    /// Its day.
    pub tenant_day: WindowReading,
    /// The refusal for quota, where there was one.
    pub throttle: Option<Throttle>,
}

impl WindowReading {
    fn joined(self, newer: Self) -> Self {
        let available = match (self.available, newer.available) {
            (Some(older), Some(newer)) => Some(older.min(newer)),
            (older, newer) => newer.or(older),
        };
        Self { limit: newer.limit.or(self.limit), available }
    }
}

impl QuotaReading {
    /// This reading and a newer one: the newest limits, the lowest of what is left, and the last refusal.
    #[must_use]
    pub fn joined(self, newer: Self) -> Self {
        Self {
            spike_limit: newer.spike_limit.or(self.spike_limit),
            minute: self.minute.joined(newer.minute),
            day: self.day.joined(newer.day),
            day_resets_at: newer.day_resets_at.or(self.day_resets_at),
            tenant_minute: self.tenant_minute.joined(newer.tenant_minute),
            tenant_day: self.tenant_day.joined(newer.tenant_day),
            throttle: newer.throttle.or(self.throttle),
        }
    }
}
