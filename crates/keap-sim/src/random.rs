//! Randomness: a seeded generator for data and hook delays, and unguessable secrets for tokens.
//!
//! The seeded generator is `SplitMix64`: the same seed gives the same data on every machine and in every release,
//! which a library generator does not promise across versions.

/// A small deterministic generator.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// A generator that always yields the same sequence for the same seed.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 up to but not including `bound`; 0 when the bound is 0.
    pub(crate) const fn below(&mut self, bound: u64) -> u64 {
        // The bias of the remainder is under 2^-40 for every bound used here.
        if bound == 0 { 0 } else { self.next() % bound }
    }

    /// True in `percent` of a hundred draws.
    pub(crate) const fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of the items; `None` only when there are none.
    pub(crate) fn pick<'items, T>(&mut self, items: &'items [T]) -> Option<&'items T> {
        let index = self.below(items.len().try_into().unwrap_or(u64::MAX));
        items.get(usize::try_from(index).unwrap_or(0))
    }

    /// One of the words; empty only when there are none.
    pub(crate) fn word<'words>(&mut self, words: &[&'words str]) -> &'words str {
        self.pick(words).copied().unwrap_or_default()
    }
}

/// 160 random bits in hex, for tokens, codes and hook secrets.
pub(crate) fn secret() -> String {
    let mut bytes = [0_u8; 20];
    // The system's source fails only on a broken machine; the clock then still keeps secrets distinct, and nothing
    // here guards real data.
    if getrandom::fill(&mut bytes).is_err() {
        let mut random = Random::new(crate::clock::now_ms().unsigned_abs());
        for byte in &mut bytes {
            *byte = u8::try_from(random.below(256)).unwrap_or(0);
        }
    }
    hex::encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_sequence() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..8).map(|_| random.next()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        // The published first output for seed 0 pins the algorithm itself.
        assert_eq!(Random::new(0).next(), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn bounds_hold() {
        let mut random = Random::new(1);
        assert!((0..1000).all(|_| random.below(7) < 7));
        assert_eq!(random.below(0), 0);
        assert_eq!(random.pick::<u8>(&[]), None);
    }
}
