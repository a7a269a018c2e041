//! Numbered values, and how they look: as texts, numbers, amounts, days and Keap's ids.

use serde_json::Value;

/// A numbered value; 0 is absent.
type Number = u32;

/// A numbered value; 0 is absent.
pub(in crate::simulation) type ValueNumber = Number;

/// Values that the mirror cannot store are among those that nobody counts to: each line of a story has twenty of its own.
const POISON: (Number, Number) = (20, 15);

/// The value of a line of a story that the mirror cannot store.
pub(in crate::simulation) fn poisonous(value: Number) -> Number {
    value + POISON.1
}

/// Whether the mirror cannot store a value.
pub(super) fn is_poisonous(value: Number) -> bool {
    value % POISON.0 == POISON.1
}

/// What amounts begin from: seven digits before the point, as nothing else has.
const AMOUNTS_FROM: u32 = 7_000_000;

/// What whole numbers begin from.
const INTEGERS_FROM: u32 = 8_000_000;

/// What ids begin from: eight digits, as nothing else has.
const IDS_FROM: u32 = 90_000_000;

/// Days are in years that nothing else is in.
const YEARS_FROM: u32 = 3_000;

/// An amount in major units.
pub(super) fn amount(value: Number) -> u32 {
    AMOUNTS_FROM + value
}

/// A whole number.
pub(super) fn integer(value: Number) -> u32 {
    INTEGERS_FROM + value
}

/// An id of Keap's.
pub(super) fn id_text(value: Number) -> String {
    (IDS_FROM + value).to_string()
}

/// A day.
pub(super) fn day(value: Number) -> String {
    format!("{}-{:02}-{:02}", YEARS_FROM + value / 336, 1 + value / 28 % 12, 1 + value % 28)
}

/// The number of a value by its look.
fn number_of(text: &str) -> Number {
    match text.as_bytes() {
        [b'v', ..] => text.get(1..).and_then(|rest| rest.split('@').next()).map_or(0, parsed),
        [b'4', b'8', b'0', rest @ ..] if rest.len() == 7 => text.get(3..).map_or(0, parsed),
        [_, _, _, _, b'-', _, _, b'-', _, _] => day_number(text).unwrap_or(0),
        [b'7', ..] => plain_number(text.split('.').next().map_or(0, parsed)),
        [b'8' | b'9', ..] => plain_number(parsed(text)),
        _ => 0,
    }
}

fn parsed(text: &str) -> u32 {
    text.parse().unwrap_or(0)
}

fn day_number(text: &str) -> Option<Number> {
    let part = |range: std::ops::Range<usize>| text.get(range)?.parse::<u32>().ok();
    let (years, months, days) =
        (part(0..4)?.checked_sub(YEARS_FROM)?, part(5..7)?.checked_sub(1)?, part(8..10)?.checked_sub(1)?);
    Some(years * 336 + months * 28 + days)
}

fn plain_number(number: u32) -> Number {
    match number {
        AMOUNTS_FROM..INTEGERS_FROM => number - AMOUNTS_FROM,
        INTEGERS_FROM..9_000_000 => number - INTEGERS_FROM,
        IDS_FROM..100_000_000 => number - IDS_FROM,
        _ => 0,
    }
}

/// The number of a value.
pub(super) fn text_number(value: Option<&Value>) -> Number {
    match value {
        Some(Value::String(text)) => number_of(text),
        Some(Value::Number(number)) => {
            let whole = number.as_u64().or_else(|| {
                let double = number.as_f64()?;
                // Amounts of whole units, and far below what a double cannot hold.
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a saturating cast"
                )]
                Some(double as u64)
            });
            plain_number(whole.and_then(|whole| u32::try_from(whole).ok()).unwrap_or(0))
        }
        _ => 0,
    }
}

/// Every numbered value anywhere in some JSON.
pub(in crate::simulation) fn numbers_in(value: &Value, found: &mut Vec<Number>) {
    match value {
        Value::String(_) | Value::Number(_) => match text_number(Some(value)) {
            0 => {}
            number => found.push(number),
        },
        Value::Array(items) => items.iter().for_each(|item| numbers_in(item, found)),
        Value::Object(object) => object.values().for_each(|item| numbers_in(item, found)),
        _ => {}
    }
}
