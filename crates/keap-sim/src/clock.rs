//! The wall clock and the two forms of time Keap uses on the wire.
//!
//! Times are kept as milliseconds since the Unix epoch and written as `2026-01-01T00:00:00.000Z`.
//! Where the simulator runs in process its caller tells the time. Waiting is not done here: `hooks::delivery` and `gate` wait by tokio's timer.

use std::cell::Cell;

use jiff::Timestamp;

thread_local! {
    /// The time that the simulator was told, where it runs in process: the wall clock would make no two runs alike.
    static TOLD_MS: Cell<Option<i64>> = const { Cell::new(None) };
}

/// Sets the time of this thread, in milliseconds since the Unix epoch; it stands until it is set again.
pub(crate) fn tell(now_ms: i64) {
    TOLD_MS.set(Some(now_ms));
}

/// Now, in milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> i64 {
    TOLD_MS.get().unwrap_or_else(|| Timestamp::now().as_millisecond())
}

/// Keap's ISO-8601 form with milliseconds; a time outside the calendar is written as the epoch.
pub(crate) fn format_ms(time_ms: i64) -> String {
    let timestamp = Timestamp::from_millisecond(time_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{timestamp:.3}")
}

/// Reads a time of a filter. Keap asks for a full ISO-8601 date-time with milliseconds and a zone; anything less is
/// refused, because a client that sends less works here and fails there.
pub(crate) fn parse_filter_time(text: &str) -> Option<i64> {
    if !text.contains('T') || !text.contains('.') {
        return None;
    }
    text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

/// Reads a time of a body: ISO-8601 with a zone, with or without a fraction.
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

/// Today in UTC, such as `2026-01-01`. Dates in this form sort as text.
pub(crate) fn today() -> String {
    date_of(now_ms())
}

/// The UTC date of a time.
pub(crate) fn date_of(time_ms: i64) -> String {
    format_ms(time_ms).chars().take(10).collect()
}

/// Whether the text is a calendar date such as `1985-03-15`.
pub(crate) fn is_date(text: &str) -> bool {
    text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_round_trip_with_milliseconds() {
        assert_eq!(format_ms(1_767_225_600_007), "2026-01-01T00:00:00.007Z");
        assert_eq!(parse_filter_time("2026-01-01T00:00:00.007Z"), Some(1_767_225_600_007));
        assert_eq!(parse_filter_time("2026-01-01T01:00:00.007+01:00"), Some(1_767_225_600_007));
    }

    #[test]
    fn incomplete_times_are_refused() {
        for text in ["2026-01-01", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000", "yesterday", ""] {
            assert_eq!(parse_filter_time(text), None, "{text}");
        }
    }

    #[test]
    fn dates_are_told_from_other_text() {
        assert!(is_date("1985-03-15"));
        assert!(!is_date("1985-02-30"));
        assert!(!is_date("15/03/1985"));
    }
}
