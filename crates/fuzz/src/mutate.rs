//! A case from a seed: a good example with a few random edits.

use serde_json::{Number, Value};

/// Longest case, in bytes: long enough for every form, short enough for a million cases.
const LENGTH_MAX: usize = 16 * 1024;

/// Most edits of one case.
const EDITS_MAX: u64 = 6;

/// Deepest nesting that is put in: past where a parser has to stop.
const NESTING_MAX: u64 = 300;

/// What parsers trip over.
const TOKENS: [&str; 44] = [
    "null",
    "true",
    "{}",
    "[]",
    "\"\"",
    "0",
    "-0",
    "-1",
    "1e400",
    "-1e-400",
    "0.1e1",
    "00",
    "1.",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551616",
    "340282366920938463463374607431768211456",
    "NaN",
    "\\u0000",
    "\\ud800",
    "\\udc00\\ud800",
    "\u{0}",
    "\u{feff}",
    "\u{202e}",
    "\u{2028}",
    "\u{1f600}",
    "ﬀ",
    "İ",
    "\r\n",
    "\u{1b}[0m",
    "%00",
    "%2f",
    "%2e%2e/",
    "../",
    "//",
    "~",
    "|",
    "; ",
    ", ",
    "=",
    "&",
    "@",
    "'--",
];

/// Bytes that are no UTF-8.
const BROKEN: [&[u8]; 5] =
    [&[0xff], &[0xc0, 0x80], &[0xed, 0xa0, 0x80], &[0xf4, 0x90, 0x80, 0x80], &[0xe2, 0x82]];

/// A stream of random numbers that a seed determines (`SplitMix64`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`; zero when that is zero.
    fn below(&mut self, limit: u64) -> u64 {
        self.next().checked_rem(limit).unwrap_or(0)
    }

    /// A place in something of that length, its end included.
    fn place(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64 + 1)).unwrap_or(0)
    }

    fn one_of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> Option<&'a T> {
        choices.get(usize::try_from(self.below(choices.len() as u64)).unwrap_or(0)).copied()
    }
}

/// The case of a seed.
pub(crate) fn case(examples: &[Vec<u8>], seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let choices: Vec<&[u8]> = examples.iter().map(Vec::as_slice).collect();
    let mut case = random.one_of(&choices).unwrap_or_default().to_vec();
    // One in sixteen is left as it is: what is good must go through as well.
    if random.below(16) == 0 {
        return case;
    }
    // The structure of half of them stays whole, so that more than the first check is reached.
    if random.below(2) == 0
        && let Ok(mut value) = serde_json::from_slice::<Value>(&case)
    {
        for _ in 0..=random.below(3) {
            change_node(&mut value, &mut random);
        }
        case = value.to_string().into_bytes();
        if random.below(4) != 0 {
            return case;
        }
    }
    for _ in 0..=random.below(EDITS_MAX) {
        edit(&mut case, &choices, &mut random);
        case.truncate(LENGTH_MAX);
    }
    case
}

fn edit(case: &mut Vec<u8>, choices: &[&[u8]], random: &mut Random) {
    let (one, other) = (random.place(case.len()), random.place(case.len()));
    let (from, to) = (one.min(other), one.max(other));
    let short = to.min(from + 64);
    match random.below(11) {
        0 => {
            if let Some(byte) = case.get_mut(from) {
                *byte ^= 1 << random.below(8);
            }
        }
        1 => case.insert(from, random.next().to_le_bytes()[0]),
        2 => drop(case.drain(from..short)),
        3 => {
            let piece = case.get(from..short).unwrap_or_default().to_vec();
            insert(case, from, &piece);
        }
        4 => insert(case, from, random.one_of(&TOKENS).unwrap_or_default().as_bytes()),
        5 => {
            drop(case.drain(from..short));
            insert(case, from, random.one_of(&TOKENS).unwrap_or_default().as_bytes());
        }
        6 => insert(case, from, random.one_of(&BROKEN).unwrap_or_default()),
        7 => {
            let donor = random.one_of(choices).unwrap_or_default();
            let start = random.place(donor.len());
            let piece = donor.get(start..).unwrap_or_default();
            insert(case, from, piece.get(..piece.len().min(256)).unwrap_or_default());
        }
        8 => case.truncate(from),
        9 => {
            let depth = usize::try_from(random.below(NESTING_MAX)).unwrap_or(0);
            let opening: &[u8] = if random.below(2) == 0 { b"[" } else { b"{\"a\":" };
            insert(case, from, &opening.repeat(depth));
        }
        _ => {
            let length = usize::try_from(random.below(4_096)).unwrap_or(0);
            let byte = random.one_of(&[&b'9', &b'a', &b' ', &b'0', &b'-']).copied().unwrap_or(b'a');
            insert(case, from, &vec![byte; length]);
        }
    }
}

fn insert(case: &mut Vec<u8>, place: usize, piece: &[u8]) {
    case.splice(place..place, piece.iter().copied());
}

/// Changes one node of the value, chosen by going down at random.
fn change_node(value: &mut Value, random: &mut Random) {
    let goes_down = random.below(4) != 0;
    match value {
        Value::Array(items) if goes_down && !items.is_empty() => {
            let place = usize::try_from(random.below(items.len() as u64)).unwrap_or(0);
            if random.below(8) == 0 {
                let copy = items.get(place).cloned().unwrap_or_default();
                items.push(copy);
            } else if let Some(item) = items.get_mut(place) {
                change_node(item, random);
            }
        }
        Value::Object(fields) if goes_down && !fields.is_empty() => {
            let place = usize::try_from(random.below(fields.len() as u64)).unwrap_or(0);
            let Some(name) = fields.keys().nth(place).cloned() else { return };
            match random.below(10) {
                0 => drop(fields.remove(&name)),
                1 => {
                    let moved = fields.remove(&name).unwrap_or_default();
                    fields.insert(odd_text(random), moved);
                }
                _ => {
                    if let Some(field) = fields.get_mut(&name) {
                        change_node(field, random);
                    }
                }
            }
        }
        _ => *value = odd_value(random),
    }
}

fn odd_text(random: &mut Random) -> String {
    let mut text = String::new();
    for _ in 0..=random.below(3) {
        text.push_str(random.one_of(&TOKENS).unwrap_or_default());
        if let Some(character) = char::from_u32(u32::try_from(random.below(0x11_0000)).unwrap_or(0)) {
            text.push(character);
        }
    }
    text
}

fn odd_value(random: &mut Random) -> Value {
    match random.below(12) {
        0 => Value::Null,
        1 => Value::Bool(random.below(2) == 0),
        2 => i64::from_ne_bytes(random.next().to_ne_bytes()).into(),
        3 => random.next().into(),
        4 => Number::from_f64(f64::from_bits(random.next())).map_or(Value::Null, Value::Number),
        5 => Number::from_f64(-0.0).map_or(Value::Null, Value::Number),
        6 => Value::Array(Vec::new()),
        7 => Value::Object(serde_json::Map::new()),
        8 => Value::Array((0..random.below(40)).map(Value::from).collect()),
        9 => "9".repeat(usize::try_from(random.below(400)).unwrap_or(0)).into(),
        10 => (0..random.below(60)).fold(Value::from("x"), |inner, _| Value::Array(vec![inner])),
        _ => odd_text(random).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_seed_is_a_case_and_few_are_alike() {
        let examples =
            vec![br#"{"id":"12","tags":[1,2,{"a":null}],"text":"Zo\u00eb"}"#.to_vec(), b"GET /".to_vec()];
        let cases: Vec<Vec<u8>> = (0..2_000).map(|seed| case(&examples, seed)).collect();
        assert_eq!(cases, (0..2_000).map(|seed| case(&examples, seed)).collect::<Vec<_>>());
        assert!(cases.iter().collect::<HashSet<_>>().len() > 1_500);
        assert!(cases.iter().all(|case| case.len() <= LENGTH_MAX));
        let whole = cases.iter().filter(|case| serde_json::from_slice::<Value>(case).is_ok()).count();
        let broken = cases.iter().filter(|case| std::str::from_utf8(case).is_err()).count();
        let nested = cases
            .iter()
            .filter(|case| case.windows(100).any(|part| part.iter().all(|byte| *byte == b'[')))
            .count();
        assert!(whole > 400 && broken > 100 && nested > 20, "{whole} {broken} {nested}");
        // Without an example there is still something.
        assert!((0..100).any(|seed| !case(&[], seed).is_empty()));
    }
}
