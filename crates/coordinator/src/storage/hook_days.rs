//! `hook_days`: what was delivered on each day, by event, for people to see.
//!
//! These are statistics: they are added up in memory and written about once a minute (see `account::tally`), because a row for each
//! delivery would cost more than the delivery.

use super::{Sql, to_json};
use keapsync_domain::failure::Failure;
use keapsync_domain::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// Days that are kept, today included.
const DAYS_KEPT: i64 = 31;

/// What happened to deliveries of one event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookCounts {
    /// Deliveries that were stored.
    pub deliveries: i64,
    /// Objects that they named.
    pub objects: i64,
    /// Deliveries that were answered with 503.
    pub refused: i64,
    /// Objects that became dead letters.
    pub given_up: i64,
    /// When one was stored last.
    pub last_at: Option<i64>,
}

/// The same of one event on one day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookDay {
    /// Which event.
    pub event_key: String,
    /// How much.
    #[serde(flatten)]
    pub counts: HookCounts,
}

impl HookCounts {
    /// Adds what happened besides.
    pub fn add(&mut self, other: &Self) {
        self.deliveries += other.deliveries;
        self.objects += other.objects;
        self.refused += other.refused;
        self.given_up += other.given_up;
        self.last_at = self.last_at.max(other.last_at);
    }
}

/// The day of a moment, in UTC, counted from 1970.
fn day_of(moment: Timestamp) -> i64 {
    moment.0.div_euclid(DAY_MS)
}

impl Sql {
    /// Adds to the counts of today, and forgets days long past.
    pub fn add_hook_counts(&self, counted: &[HookDay], now: Timestamp) -> Result<(), Failure> {
        let today = day_of(now);
        self.exec("DELETE FROM hook_days WHERE day <= ?", vec![(today - DAYS_KEPT).into()])?;
        self.exec(
            "INSERT INTO hook_days (day, event_key, deliveries, objects, refused, given_up, last_at)
             SELECT ?, value ->> 'event_key', value ->> 'deliveries', value ->> 'objects', value ->> 'refused',
                 value ->> 'given_up', value ->> 'last_at' FROM json_each(?) WHERE true
             ON CONFLICT (day, event_key) DO UPDATE SET deliveries = deliveries + excluded.deliveries,
                 objects = objects + excluded.objects, refused = refused + excluded.refused,
                 given_up = given_up + excluded.given_up, last_at = coalesce(excluded.last_at, last_at)",
            vec![today.into(), to_json(&counted)?.into()],
        )
    }

    /// The counts of today, by event; `last_at` reaches back as far as days are kept.
    pub fn hook_counts(&self, now: Timestamp) -> Result<Vec<HookDay>, Failure> {
        self.rows(
            "SELECT event_key, sum(deliveries * (day = ?1)) AS deliveries, sum(objects * (day = ?1)) AS objects,
                 sum(refused * (day = ?1)) AS refused, sum(given_up * (day = ?1)) AS given_up, max(last_at) AS last_at
             FROM hook_days GROUP BY event_key ORDER BY event_key",
            vec![day_of(now).into()],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_begin_at_midnight_in_utc() {
        assert_eq!(day_of(Timestamp(DAY_MS - 1)), 0);
        assert_eq!(day_of(Timestamp(DAY_MS)), 1);
        assert_eq!(day_of(Timestamp(-1)), -1);
    }
}
