//! Durations that were measured, and what is told of them.

use std::time::Duration;

/// Measured durations in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Samples(Vec<Duration>);

impl FromIterator<Duration> for Samples {
    fn from_iter<I: IntoIterator<Item = Duration>>(durations: I) -> Self {
        let mut sorted: Vec<Duration> = durations.into_iter().collect();
        sorted.sort_unstable();
        Self(sorted)
    }
}

impl Samples {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The smallest sample that at least `percent` of a hundred samples do not exceed (nearest rank): always a duration
    /// that was measured, never one between two. Zero without samples.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent.min(100)).div_ceil(100);
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// The median, in milliseconds.
    #[must_use]
    pub fn median_ms(&self) -> f64 {
        milliseconds(self.percentile(50))
    }

    /// The given percentile, in milliseconds.
    #[must_use]
    pub fn percentile_ms(&self, percent: usize) -> f64 {
        milliseconds(self.percentile(percent))
    }

    /// The largest, in milliseconds.
    #[must_use]
    pub fn max_ms(&self) -> f64 {
        milliseconds(self.percentile(100))
    }
}

/// A duration in milliseconds, with fractions.
#[must_use]
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(milliseconds: impl IntoIterator<Item = u64>) -> Samples {
        milliseconds.into_iter().map(Duration::from_millis).collect()
    }

    #[test]
    fn percentiles_are_measured_values_by_nearest_rank() {
        let hundred = samples((1..=100).rev());
        for (percent, expected) in [(0, 1), (1, 1), (50, 50), (95, 95), (99, 99), (100, 100), (200, 100)] {
            assert_eq!(hundred.percentile(percent), Duration::from_millis(expected), "p{percent}");
        }
        let five = samples([50, 15, 40, 20, 35]);
        for (percent, expected) in [(5, 15), (30, 20), (40, 20), (50, 35), (99, 50)] {
            assert_eq!(five.percentile(percent), Duration::from_millis(expected), "p{percent}");
        }
    }

    #[test]
    fn one_slow_sample_in_a_hundred_shows_in_the_maximum_but_not_in_p99() {
        let spike = samples((0..100).map(|index| if index == 7 { 900 } else { 2 }));
        assert!((spike.percentile_ms(99) - 2.0).abs() < f64::EPSILON);
        assert!((spike.max_ms() - 900.0).abs() < f64::EPSILON);
    }

    #[test]
    fn no_samples_are_zero() {
        assert_eq!(samples([]).percentile(99), Duration::ZERO);
    }
}
