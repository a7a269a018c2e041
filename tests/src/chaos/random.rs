//! Numbers that a seed determines: `SplitMix64`, of which every edit gets a stream of its own, so that what an edit is does
//! not depend on which task makes it.

/// A stream of numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of one edit, fault or death of a run.
    #[must_use]
    pub fn of(seed: u64, about: &str, number: u64) -> Self {
        let mut state = seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for byte in about.bytes() {
            state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let mut random = Self(state);
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 when that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    /// One of the list; `None` when it is empty.
    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        list.get(usize::try_from(self.below(list.len() as u64)).unwrap_or(0))
    }

    /// One of the choices, as often as its weight says.
    pub fn weighted<T: Copy>(&mut self, choices: &[(u64, T)]) -> Option<T> {
        let total = choices.iter().map(|(weight, _)| weight).sum();
        let mut drawn = self.below(total);
        choices.iter().find_map(|(weight, choice)| {
            let is_it = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            is_it.then_some(*choice)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_repeats_itself_and_differs_from_its_neighbours() {
        let drawn = |seed, about, number| {
            let mut random = Random::of(seed, about, number);
            [random.below(1 << 40), random.below(1 << 40)]
        };
        assert_eq!(drawn(1, "edit", 7), drawn(1, "edit", 7));
        for other in [drawn(2, "edit", 7), drawn(1, "fault", 7), drawn(1, "edit", 8)] {
            assert_ne!(drawn(1, "edit", 7), other);
        }
    }

    #[test]
    fn weights_are_met_in_the_long_run() {
        let mut random = Random::of(3, "weights", 0);
        let drawn: Vec<char> =
            (0..1000).filter_map(|_| random.weighted(&[(3, 'a'), (0, 'b'), (1, 'c')])).collect();
        let count = |letter| drawn.iter().filter(|drawn| **drawn == letter).count();
        assert!((700..800).contains(&count('a')) && count('b') == 0 && count('c') == 1000 - count('a'));
        assert_eq!(random.weighted::<char>(&[]), None);
    }
}
