//! Numbers that lose digits in the program.
//!
//! A number of JSON and of Postgres has any number of digits; here it is a 64-bit integer or a double. Most are exact. One
//! that is not is never rounded in silence: read from a row it is kept as its digits ([`read`]), so that who carries the row
//! can refuse it by name; told by Keap it makes the record one that can't be mirrored ([`inexact`]).
//!
//! A number is exact where the decimal that is written equals the shortest one of the double it is read as, which is what is
//! written of that double again.

use serde_json::{Number, Value};
use std::borrow::Cow;
use std::ops::Range;

/// What the text of a kept number begins with: no text of a person does.
const MARK: char = '\u{1}';

/// Digits of a number that any double holds.
const DIGITS_EXACT: usize = 15;

/// Digits that tell any double from the next.
const DIGITS_OF_DOUBLE: usize = 17;

/// Distance of the looks at a text: a run of digits that is too long for a double is met by one of them.
const STRIDE: usize = 16;

/// Reads JSON. What is not exact becomes a text that [`digits`] knows.
pub fn read(text: &str) -> Result<Value, serde_json::Error> {
    if !may_hold_long_number(text) {
        return serde_json::from_str(text);
    }
    let mut kept = String::new();
    let mut from = 0;
    for number in numbers(text).filter(|number| !is_exact(text.get(number.clone()).unwrap_or_default())) {
        kept.push_str(text.get(from..number.start).unwrap_or_default());
        kept.push_str("\"\\u0001");
        kept.push_str(text.get(number.clone()).unwrap_or_default());
        kept.push('"');
        from = number.end;
    }
    kept.push_str(text.get(from..).unwrap_or_default());
    serde_json::from_str(&kept)
}

/// The digits of a number that was kept by [`read`].
#[must_use]
pub fn digits(value: &Value) -> Option<&str> {
    value.as_str().and_then(|text| text.strip_prefix(MARK))
}

/// Whether a value is or holds a number that was kept by [`read`].
#[must_use]
pub fn holds_kept(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(holds_kept),
        Value::Object(object) => object.values().any(holds_kept),
        _ => digits(value).is_some(),
    }
}

/// A value with its kept numbers as texts of their digits, to be shown.
#[must_use]
pub fn shown(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(shown).collect(),
        Value::Object(object) => {
            Value::Object(object.iter().map(|(key, value)| (key.clone(), shown(value))).collect())
        }
        _ => digits(value).map_or_else(|| value.clone(), |digits| Value::String(digits.to_owned())),
    }
}

/// Whether Keap's JSON holds a number that would be mirrored as another one. A double in any spelling of its own is none.
#[must_use]
pub fn inexact(text: &str) -> bool {
    may_hold_long_number(text)
        && numbers(text).filter_map(|number| text.get(number)).any(|number| {
            let (_, digits, _) = parts(number);
            let is_double = number.contains(['.', 'e', 'E']) && digits.len() <= DIGITS_OF_DOUBLE;
            !is_double && !is_exact(number)
        })
}

/// Whether a text may hold a number of more digits than any double holds. It looks at few of its bytes. Ids of sixteen digits stand as
/// texts in nearly every record: a run that a quote or a letter comes before is none.
#[must_use]
pub fn may_hold_long_number(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_part = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
    (STRIDE - 1..bytes.len()).step_by(STRIDE).any(|position| {
        let (before, after) = bytes.split_at(position);
        if !after.first().is_some_and(is_part) {
            return false;
        }
        let begun = before.iter().rev().take_while(|byte| is_part(byte)).count();
        let length = begun + after.iter().take_while(|byte| is_part(byte)).count();
        length > DIGITS_EXACT && may_end_before_number(before)
    })
}

/// Whether what comes before the rest of a number is its beginning, or nothing of it, after something that a value may follow.
fn may_end_before_number(before: &[u8]) -> bool {
    let is_of_number = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
    let preceding = before.iter().rev().find(|byte| !is_of_number(byte));
    preceding.is_none_or(|byte| matches!(byte, b':' | b',' | b'[' | b' ' | b'\t' | b'\n' | b'\r'))
}

/// Where the numbers of a JSON text stand.
fn numbers(text: &str) -> impl Iterator<Item = Range<usize>> {
    let bytes = text.as_bytes();
    let mut position = 0;
    std::iter::from_fn(move || {
        let mut in_text = false;
        while let Some(byte) = bytes.get(position) {
            match byte {
                b'\\' if in_text => position += 1,
                b'"' => in_text = !in_text,
                b'-' | b'0'..=b'9' if !in_text => {
                    let start = position;
                    let is_part = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
                    position += bytes.get(start..).unwrap_or_default().iter().take_while(is_part).count();
                    return Some(start..position);
                }
                _ => {}
            }
            position += 1;
        }
        None
    })
}

/// Whether what is read of a number is that number.
fn is_exact(number: &str) -> bool {
    let Ok(read) = serde_json::from_str::<Number>(number) else { return false };
    read.as_i64().is_some() || read.as_u64().is_some() || parts(number) == parts(&read.to_string())
}

/// A decimal's sign, its digits without zeros at either end, and the place of the point among them.
fn parts(number: &str) -> (bool, Cow<'_, str>, i64) {
    let (negative, number) = number.strip_prefix('-').map_or((false, number), |rest| (true, rest));
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits =
        if fraction.is_empty() { Cow::Borrowed(whole) } else { Cow::Owned(format!("{whole}{fraction}")) };
    let leading = digits.len() - digits.trim_start_matches('0').len();
    let kept = digits.trim_matches('0').to_owned();
    if kept.is_empty() {
        return (false, Cow::Borrowed(""), 0);
    }
    let place = i64::try_from(whole.len()).unwrap_or(i64::MAX) - i64::try_from(leading).unwrap_or(i64::MAX);
    let exponent: i64 = exponent.parse().unwrap_or(i64::MAX);
    (negative, Cow::Owned(kept), place.saturating_add(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_number_is_exact_or_kept_by_its_digits() {
        for exact in [
            "0",
            "-7",
            "12.50",
            "18446744073709551615",
            "-9223372036854775808",
            "0.30000000000000004",
            "100000000000000000000",
            "0.00000000000000000001",
            "1e23",
            "9007199254740993",
            "0.000",
            "1234567890.12345",
        ] {
            assert!(is_exact(exact), "{exact}");
            let text = format!("{{\"a\": [{exact}, \"x\"]}}");
            assert_eq!(read(&text).unwrap(), serde_json::from_str::<Value>(&text).unwrap());
            assert!(!inexact(&text), "{exact}");
        }
        let huge = "1".repeat(400);
        for odd in [
            "89014103211118510720",
            "12345678901234567890123",
            "0.1234567890123456789",
            "-18446744073709551617",
            "9007199254740993.5",
            huge.as_str(),
        ] {
            let text = format!(
                "{{\"16\": {odd}, \"17\": \"12345678901234567890123 \\\" 1\", \"18\": [2, {{\"a\": {odd}}}]}}"
            );
            let value = read(&text).unwrap();
            assert_eq!(digits(&value["16"]), Some(odd));
            assert_eq!(digits(&value["18"][1]["a"]), Some(odd));
            assert_eq!((&value["17"], &value["18"][0]), (&json!("12345678901234567890123 \" 1"), &json!(2)));
            assert!(holds_kept(&value) && !holds_kept(&shown(&value)));
            // Of a double, Keap may tell seventeen digits.
            assert_eq!(inexact(&text), odd != "9007199254740993.5");
            assert_eq!(shown(&value)["16"], json!(odd));
        }
    }

    #[test]
    fn a_double_that_keap_spells_in_its_own_way_is_one() {
        assert!(!inexact(r#"{"a": 5.684341886080802E-14}"#));
        assert!(!inexact(r#"{"a": "89014103211118510720", "b": 89014103211.11}"#));
        assert!(inexact(r#"{"a": 5.6843418860808020000001E-14}"#));
    }

    #[test]
    fn long_ids_in_texts_are_no_long_numbers() {
        for shift in 0..STRIDE {
            let id = format!("{}{{\"keapSourceId\":\"6088383224607256\",\"n\":7}}", " ".repeat(shift));
            assert!(!may_hold_long_number(&id), "{shift}");
            let number = format!("{}{{\"keapSourceId\":-6088383224607256.5}}", " ".repeat(shift));
            assert!(may_hold_long_number(&number), "{shift}");
        }
    }

    proptest! {
        #[test]
        fn a_long_number_is_seen_wherever_it_stands(
            number in "-?[1-9][0-9]{0,20}(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,18})?",
            around in prop::sample::select(vec![("[", "]"), ("{\"a\":", "}"), ("{\"a\": ", " }"), ("[1,", ",2]"), ("[\n", "\n]"), ("", "")]),
            shift in 0_usize..20,
        ) {
            let text = format!("{}{}{number}{}", " ".repeat(shift), around.0, around.1);
            let is_long = |run: &str| run.len() > DIGITS_EXACT;
            let has_run = number.split(['-', '+', 'e', 'E']).any(is_long);
            prop_assert_eq!(may_hold_long_number(&text), has_run);
        }

        #[test]
        fn what_is_read_is_what_is_written_or_kept(number in "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,24})?", shift in 0_usize..20) {
            let text = format!("{}[{number}]", " ".repeat(shift));
            let list = read(&text).unwrap();
            let value = &list[0];
            let written = value.to_string();
            if let Some(digits) = digits(value) {
                prop_assert_eq!(digits, &number);
            } else {
                prop_assert_eq!(parts(&written), parts(&number));
            }
        }
    }
}
