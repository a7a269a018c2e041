//! Amounts of money between Keap's two spellings and ours.
//!
//! Keap sends an order's amounts as whole numbers of the currency's smallest unit, takes an item's price as a `double` of
//! the main unit, and has a subscription's amount as a `double` both ways (v2 schemas `CurrencyValue`,
//! `CreateOrderItemRequest`, `Subscription`). Between the two stands a decimal text, the only spelling that loses nothing.

use serde_json::{Number, Value};
use std::borrow::Cow;

/// Decimal places of amounts in the mirror: enough for every currency in use.
const PLACES_MAX: usize = 3;

/// Decimal places of an ISO 4217 currency: 2 unless listed.
#[must_use]
pub fn exponent(currency: &str) -> u32 {
    let is_upper = !currency.bytes().any(|byte| byte.is_ascii_lowercase());
    let code = if is_upper { Cow::Borrowed(currency) } else { Cow::Owned(currency.to_ascii_uppercase()) };
    match code.as_ref() {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI"
        | "VND" | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        _ => 2,
    }
}

/// `2999` with two places is `29.99`.
#[must_use]
pub fn decimal_of_minor(amount: i64, exponent: u32) -> String {
    let places = exponent as usize;
    let mut decimal = amount.unsigned_abs().to_string();
    while decimal.len() <= places {
        decimal.insert(0, '0');
    }
    if places > 0 {
        decimal.insert(decimal.len() - places, '.');
    }
    if amount < 0 {
        decimal.insert(0, '-');
    }
    decimal
}

/// The inverse of [`decimal_of_minor`], for any spelling of the same number; `None` when the text is no plain decimal, has
/// more places than the currency, or does not fit.
#[must_use]
pub fn minor_of_decimal(text: &str, exponent: u32) -> Option<i64> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = fraction.trim_end_matches('0');
    let places = exponent as usize;
    let is_plain = digits.bytes().any(|byte| byte.is_ascii_digit())
        && whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    if !is_plain || fraction.len() > places {
        return None;
    }
    let sign = if negative { "-" } else { "" };
    format!("{sign}0{whole}{fraction:0<places$}").parse().ok()
}

/// The amount as a JSON `double`; the error says what a person is to change.
pub fn double_of_decimal(value: &Value, exponent: u32) -> Result<Value, String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => plain(number),
        _ => return Err("is not an amount: write it as a decimal, such as \"29.99\"".to_owned()),
    };
    let minor = minor_of_decimal(&text, exponent)
        .ok_or_else(|| format!("is not a decimal with at most {exponent} places: correct it"))?;
    let exact = decimal_of_minor(minor, exponent);
    let double = exact
        .parse::<f64>()
        .ok()
        .filter(|double| minor_of_decimal(&double.to_string(), exponent) == Some(minor));
    double
        .and_then(Number::from_f64)
        .map(Value::Number)
        .ok_or_else(|| "is too large for Keap to take exactly: correct it".to_owned())
}

/// A `double` as a decimal text, and whether it is the same number: what has more than three places is rounded, because
/// the mirror holds no more.
#[must_use]
pub fn decimal_of_double(number: &Number) -> (String, bool) {
    let exact = plain(number);
    match exact.split_once('.') {
        Some((_, fraction)) if fraction.len() > PLACES_MAX => {
            let rounded = number.as_f64().map(|double| format!("{double:.PLACES_MAX$}"));
            (rounded.unwrap_or(exact), false)
        }
        _ => (exact, true),
    }
}

/// A number without an exponent: `1e3` is `1000`, and so is `1000.0`.
fn plain(number: &Number) -> String {
    match number.as_f64() {
        Some(double) if number.is_f64() => double.to_string(),
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn places_follow_the_currency() {
        for (amount, currency, decimal) in [
            (2_999, "USD", "29.99"),
            (5, "eur", "0.05"),
            (-5, "USD", "-0.05"),
            (1_200, "JPY", "1200"),
            (0, "JPY", "0"),
            (0, "USD", "0.00"),
            (12_345, "KWD", "12.345"),
            (i64::MIN, "KWD", "-9223372036854775.808"),
        ] {
            assert_eq!(decimal_of_minor(amount, exponent(currency)), decimal);
            assert_eq!(minor_of_decimal(decimal, exponent(currency)), Some(amount));
        }
    }

    #[test]
    fn any_spelling_of_a_number_is_read_and_nothing_else() {
        for (text, minor) in [("29.990", 2_999), (" +7", 700), (".5", 50), ("5.", 500), ("-0", 0)] {
            assert_eq!(minor_of_decimal(text, 2), Some(minor), "{text}");
        }
        for text in ["", ".", "-", "1,5", "1e3", "0x1", "29.999", "--1", "NaN", "92233720368547758.08"] {
            assert_eq!(minor_of_decimal(text, 2), None, "{text}");
        }
    }

    #[test]
    fn writes_are_doubles_and_refuse_what_a_double_cannot_hold() {
        assert_eq!(double_of_decimal(&json!("29.99"), 2), Ok(json!(29.99)));
        assert_eq!(double_of_decimal(&json!(12.5), 2), Ok(json!(12.5)));
        assert_eq!(double_of_decimal(&json!("1200"), 0), Ok(json!(1200.0)));
        assert!(double_of_decimal(&json!("12.345"), 2).unwrap_err().contains("at most 2 places"));
        assert_eq!(double_of_decimal(&json!("9999999999999.99"), 2), Ok(json!(9_999_999_999_999.99)));
        assert!(double_of_decimal(&json!("9007199254740993.1"), 2).unwrap_err().contains("too large"));
        assert!(double_of_decimal(&json!(true), 2).is_err());
    }

    #[test]
    fn doubles_become_plain_decimals() {
        for (number, decimal) in [
            (json!(10_000), ("10000", true)),
            (json!(10_000.0), ("10000", true)),
            (json!(1e3), ("1000", true)),
            (json!(0.1), ("0.1", true)),
            (json!(33.333_333_333), ("33.333", false)),
        ] {
            let (text, exact) = decimal_of_double(number.as_number().unwrap());
            assert_eq!((text.as_str(), exact), decimal);
        }
    }

    proptest! {
        #[test]
        fn minor_units_survive_the_way_there_and_back(amount: i64, places in 0_u32..=3) {
            prop_assert_eq!(minor_of_decimal(&decimal_of_minor(amount, places), places), Some(amount));
        }

        #[test]
        fn what_is_sent_as_a_double_is_the_same_amount(amount in -99_999_999_999_999_i64..=99_999_999_999_999, places in 0_u32..=3) {
            let double = double_of_decimal(&json!(decimal_of_minor(amount, places)), places).unwrap();
            let (text, _) = decimal_of_double(double.as_number().unwrap());
            prop_assert_eq!(minor_of_decimal(&text, places), Some(amount));
        }

        #[test]
        fn no_text_breaks_the_parser(text: String, places in 0_u32..=3) {
            if let Some(amount) = minor_of_decimal(&text, places) {
                prop_assert_eq!(minor_of_decimal(&decimal_of_minor(amount, places), places), Some(amount));
            }
        }
    }
}
