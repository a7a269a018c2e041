//! How long to wait before the next attempt.

/// Shortest wait, in milliseconds.
pub const DELAY_MIN_MS: i64 = 1_000;

/// Longest wait, in milliseconds.
pub const DELAY_MAX_MS: i64 = 3_600_000;

/// The wait before the attempt after the `attempts`-th: exponential from 1 s to `delay_max_ms`, between half of it and
/// the whole by `entropy`, so that what failed together does not return together. A wait that the other side asked for
/// is honoured when it is longer.
#[must_use]
pub fn delay_ms(attempts: u32, entropy: u32, delay_max_ms: i64, retry_after_ms: Option<i64>) -> i64 {
    let exponent = attempts.saturating_sub(1).min(22);
    let full = DELAY_MIN_MS.saturating_mul(1 << exponent).min(delay_max_ms.clamp(DELAY_MIN_MS, DELAY_MAX_MS));
    let jittered = full / 2 + (full / 2) * i64::from(entropy % 1024) / 1023;
    jittered.max(retry_after_ms.unwrap_or(0).clamp(0, DELAY_MAX_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_bound_and_honours_the_other_side() {
        assert_eq!(delay_ms(1, 1023, DELAY_MAX_MS, None), 1_000);
        assert_eq!(delay_ms(1, 0, DELAY_MAX_MS, None), 500);
        assert_eq!(delay_ms(4, 1023, DELAY_MAX_MS, None), 8_000);
        assert_eq!(delay_ms(4, 1023, 2_000, None), 2_000);
        assert_eq!(delay_ms(u32::MAX, 1023, DELAY_MAX_MS, None), DELAY_MAX_MS);
        assert_eq!(delay_ms(1, 0, DELAY_MAX_MS, Some(7_000)), 7_000);
        assert_eq!(delay_ms(1, 0, DELAY_MAX_MS, Some(i64::MAX)), DELAY_MAX_MS);
    }
}
