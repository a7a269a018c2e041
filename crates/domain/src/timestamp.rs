//! Moments, as milliseconds since the Unix epoch: what crosses JSON, SQL and Durable Object storage without loss.

use serde::{Deserialize, Serialize};

/// The first second of year 1, since 1970.
const FIRST_SECOND: i64 = -62_135_596_800;

/// A moment in UTC, milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Reads an RFC 3339 time with any offset and any precision, of the years from 1 on; finer than a millisecond is
    /// cut off.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let text = text.trim();
        // The clock's library counts years before the first, which no column holds.
        if text.starts_with("0000") || text.starts_with("+000000") {
            return None;
        }
        let moment: jiff::Timestamp = text.parse().ok()?;
        (moment.as_second() >= FIRST_SECOND).then(|| Self(moment.as_millisecond()))
    }

    /// Writes the form Keap's filters want: `2026-01-01T00:00:00.000Z`.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        jiff::Timestamp::from_millisecond(self.0).map_or_else(
            |_| "1970-01-01T00:00:00.000Z".to_owned(),
            |moment| moment.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        )
    }

    /// This moment moved by `delta_ms`, which may be negative.
    #[must_use]
    pub fn plus_ms(self, delta_ms: i64) -> Self {
        Self(self.0.saturating_add(delta_ms))
    }

    /// Milliseconds from `earlier` to this moment; negative when it lies before.
    #[must_use]
    pub fn since_ms(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_offsets_and_writes_milliseconds() {
        let moment = Timestamp::parse_rfc3339("2026-03-01T10:00:00.123456+02:00").unwrap();
        assert_eq!(moment.to_rfc3339(), "2026-03-01T08:00:00.123Z");
        assert_eq!(
            Timestamp::parse_rfc3339("2026-01-01T00:00:00Z").unwrap().to_rfc3339(),
            "2026-01-01T00:00:00.000Z"
        );
        for none in
            ["yesterday", "0000-06-28T18:55:36Z", "+000000-01-01T00:00:00Z", "0001-01-01T00:00:00+01:00"]
        {
            assert_eq!(Timestamp::parse_rfc3339(none), None, "{none}");
        }
    }
}
