//! Texts that must never reach a log or an error message, and how they are compared.
//!
//! Every comparison with a secret goes through [`Secret::is`]: both sides are hashed, then the hashes are compared in constant
//! time, so that neither the place of the first difference nor the length of the secret can be measured. `==` is the same
//! comparison, so that no derived one can slip in.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// A token, key or password. `Debug` hides it; [`reveal`](Secret::reveal) is the one way to its text.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the place that sends or encrypts it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether `given` is this secret, in a time that tells nothing about it.
    #[must_use]
    pub fn is(&self, given: &str) -> bool {
        Sha256::digest(&self.0).ct_eq(&Sha256::digest(given)).into()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.is(&other.0)
    }
}

impl Eq for Secret {}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

/// Which of two secrets was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// The one in force.
    Current,
    /// The one before, which a change of secrets still accepts.
    Previous,
}

/// A secret in force, and during a change also the one before: both are accepted, the first is what we send.
#[derive(Clone, Debug)]
pub struct Rotating {
    current: Secret,
    previous: Option<Secret>,
}

impl Rotating {
    /// A secret and the one before, if that still counts.
    #[must_use]
    pub fn new(current: Secret, previous: Option<Secret>) -> Self {
        Self { current, previous }
    }

    /// The secret in force.
    #[must_use]
    pub fn current(&self) -> &Secret {
        &self.current
    }

    /// The secret before, if it still counts.
    #[must_use]
    pub fn previous(&self) -> Option<&Secret> {
        self.previous.as_ref()
    }

    /// Those that count, the one in force first.
    pub fn accepted(&self) -> impl Iterator<Item = (Generation, &Secret)> {
        let previous = self.previous.iter().map(|secret| (Generation::Previous, secret));
        std::iter::once((Generation::Current, &self.current)).chain(previous)
    }

    /// Which secret `given` is, if any.
    #[must_use]
    pub fn which(&self, given: &str) -> Option<Generation> {
        // All are compared, whichever fits: the time tells neither which one it was nor how many there are to a stranger.
        self.accepted().fold(
            None,
            |found, (generation, secret)| {
                if secret.is(given) { found.or(Some(generation)) } else { found }
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;
    use std::time::Instant;

    #[test]
    fn only_the_very_text_is_the_secret() {
        let secret = Secret::new("correct horse battery");
        assert!(secret.is("correct horse battery") && secret == secret.clone());
        for wrong in ["", "correct horse", "correct horse battery staple", "Correct horse battery"] {
            assert!(!secret.is(wrong) && secret != Secret::new(wrong), "{wrong}");
        }
        assert!(!format!("{secret:?}").contains("horse"));
    }

    #[test]
    fn two_secrets_count_during_a_change() {
        let (old, new) = (Secret::new("the old one"), Secret::new("the new one"));
        let both = Rotating::new(new.clone(), Some(old));
        assert_eq!(both.which("the new one"), Some(Generation::Current));
        assert_eq!(both.which("the old one"), Some(Generation::Previous));
        assert_eq!(both.which("the"), None);
        let one = Rotating::new(new, None);
        assert_eq!((one.which("the old one"), one.accepted().count()), (None, 1));
        assert!(!format!("{both:?}").contains("one\""));
    }

    /// Length of the secrets that are timed: long, so that a comparison that stops early is told from one that does not.
    const TIMED_LENGTH: usize = 16 * 1024;
    /// Length of the texts of the control, which are compared at tens of bytes in a nanosecond: so long that reading a slow clock,
    /// which is in every measurement, takes little beside it.
    const CONTROL_LENGTH: usize = 1024 * 1024;
    const ROUNDS: usize = 150;
    /// A comparison that stops at the first difference takes a hundredth of the time or less; noise stays far from this.
    const LEAK_RATIO: f64 = 2.0;

    /// How much longer `compare` takes, by the medians, when the first difference comes last than when it comes first.
    fn leak_ratio(compare: impl Fn(&str) -> bool, early: &str, late: &str) -> f64 {
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..2 * ROUNDS {
            // In turns, so that whatever else the machine does falls on both.
            let given = if round % 2 == 0 { early } else { late };
            let started = Instant::now();
            assert!(!black_box(compare(black_box(given))));
            times[round % 2].push(started.elapsed().as_nanos());
        }
        let [early, late] = times.map(|mut times| {
            times.sort_unstable();
            times[times.len() / 2].max(1)
        });
        #[expect(clippy::cast_precision_loss, reason = "medians of nanoseconds are far below 2^52")]
        let ratio = late as f64 / early as f64;
        ratio
    }

    #[test]
    fn comparing_takes_as_long_wherever_the_difference_is() {
        let of_length = |length: usize| {
            let secret = "s".repeat(length);
            let (early, late) = (format!("x{}", &secret[1..]), format!("{}x", &secret[1..]));
            (secret, early, late)
        };
        // The measurement sees a comparison that stops early,
        let (secret, early, late) = of_length(CONTROL_LENGTH);
        assert!(leak_ratio(|given| given == secret, &early, &late) > LEAK_RATIO);
        // and nothing of the kind in ours.
        let (secret, early, late) = of_length(TIMED_LENGTH);
        let guarded = Secret::new(secret.as_str());
        let ratio = leak_ratio(|given| guarded.is(given), &early, &late);
        assert!((1.0 / LEAK_RATIO..LEAK_RATIO).contains(&ratio), "{ratio}");
    }
}
