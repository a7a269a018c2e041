//! Money: whole numbers of a currency's smallest unit, and the two forms it takes on the wire.
//!
//! Reads give an object with minor units; writes of items take a JSON number in major units. The number is converted
//! by its digits, never through floating point, so that 29.99 is 2999 and nothing else.

use serde::Serialize;
use serde_json::Number;

/// The largest amount taken, in minor units: far above any order, and far below where sums could overflow.
const MINOR_MAX: i64 = 100_000_000_000_000;

/// A currency an app can be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Currency {
    pub(crate) code: &'static str,
    /// Digits after the decimal point.
    pub(crate) decimals: usize,
    prefix: &'static str,
}

/// The currencies the simulator knows, the default first. They cover none, two and three decimals.
const CURRENCIES: &[Currency] = &[
    Currency { code: "USD", decimals: 2, prefix: "$" },
    Currency { code: "EUR", decimals: 2, prefix: "€" },
    Currency { code: "GBP", decimals: 2, prefix: "£" },
    Currency { code: "CAD", decimals: 2, prefix: "CA$" },
    Currency { code: "AUD", decimals: 2, prefix: "A$" },
    Currency { code: "JPY", decimals: 0, prefix: "¥" },
    Currency { code: "KWD", decimals: 3, prefix: "KWD " },
];

impl Default for Currency {
    fn default() -> Self {
        Self { code: "USD", decimals: 2, prefix: "$" }
    }
}

/// An amount as answers show it (`CurrencyValue`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct CurrencyValue {
    amount: i64,
    currency_code: &'static str,
    formatted_amount: String,
}

impl Currency {
    /// The currency of that code.
    pub(crate) fn parse(code: &str) -> Option<Self> {
        CURRENCIES.iter().copied().find(|currency| currency.code == code)
    }

    /// The codes known, for messages.
    pub(crate) fn codes() -> String {
        CURRENCIES.iter().map(|currency| currency.code).collect::<Vec<_>>().join(", ")
    }

    /// An amount of minor units, as answers show it.
    pub(crate) fn shown(self, minor: i64) -> CurrencyValue {
        let sign = if minor < 0 { "-" } else { "" };
        let (whole, part) = self.split(minor);
        let mut grouped = String::with_capacity(whole.len() + 6);
        for (place, digit) in whole.chars().enumerate() {
            if place > 0 && (whole.len() - place) % 3 == 0 {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        let point = if part.is_empty() { "" } else { "." };
        CurrencyValue {
            amount: minor,
            currency_code: self.code,
            formatted_amount: format!("{sign}{}{grouped}{point}{part}", self.prefix),
        }
    }

    /// The minor units of a JSON number in major units, rounded half away from zero; `None` when it is out of range.
    pub(crate) fn minor_of(self, major: &Number) -> Option<i64> {
        digits_to_minor(&major.to_string(), self.decimals)
    }

    /// Minor units as a number in major units.
    pub(crate) fn major_of(self, minor: i64) -> f64 {
        let sign = if minor < 0 { "-" } else { "" };
        let (whole, part) = self.split(minor);
        // Digits around a point always parse.
        format!("{sign}{whole}.{part}0").parse().unwrap_or_default()
    }

    /// The digits before and after the point, without a sign.
    fn split(self, minor: i64) -> (String, String) {
        let width = self.decimals + 1;
        let mut whole = format!("{:0width$}", minor.unsigned_abs());
        let part = whole.split_off(whole.len().saturating_sub(self.decimals));
        (whole, part)
    }
}

/// Reads a whole number of minor units from a JSON number, which may be written as `1250` or `1250.0`.
pub(crate) fn whole_minor(number: &Number) -> Option<i64> {
    let text = number.to_string();
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    if part.bytes().any(|digit| digit != b'0') {
        return None;
    }
    digits_to_minor(whole, 0)
}

fn digits_to_minor(text: &str, decimals: usize) -> Option<i64> {
    let (is_negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    // Only numbers beyond 16 digits or below a ten-thousandth are written with an exponent; the small ones round to 0.
    if let Some((_, exponent)) = text.split_once(['e', 'E']) {
        return exponent.starts_with('-').then_some(0);
    }
    let kept: String = part.chars().chain(std::iter::repeat('0')).take(decimals).collect();
    let rounds_up = part.as_bytes().get(decimals).is_some_and(|digit| *digit >= b'5');
    let minor = format!("{whole}{kept}").parse::<i64>().ok()?.checked_add(i64::from(rounds_up))?;
    (minor <= MINOR_MAX).then_some(if is_negative { -minor } else { minor })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minor(code: &str, text: &str) -> Option<i64> {
        Currency::parse(code).unwrap().minor_of(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn major_units_become_minor_units_by_their_digits() {
        for (code, text, expected) in [
            ("USD", "29.99", Some(2999)),
            ("USD", "0.1", Some(10)),
            ("USD", "7", Some(700)),
            ("USD", "1.005", Some(101)),
            ("USD", "-4.5", Some(-450)),
            ("USD", "0.00001", Some(0)),
            ("JPY", "4900", Some(4900)),
            ("JPY", "4900.5", Some(4901)),
            ("KWD", "14.7", Some(14_700)),
            ("USD", "1e30", None),
            ("USD", "99999999999999", None),
        ] {
            assert_eq!(minor(code, text), expected, "{code} {text}");
        }
    }

    #[test]
    fn amounts_are_formatted_with_the_currencys_decimals() {
        for (code, minor, expected) in [
            ("USD", 123_450_099, "$1,234,500.99"),
            ("USD", -5, "-$0.05"),
            ("JPY", 4900, "¥4,900"),
            ("KWD", 14_700, "KWD 14.700"),
        ] {
            assert_eq!(Currency::parse(code).unwrap().shown(minor).formatted_amount, expected);
        }
        assert_eq!(Currency::parse("XYZ"), None);
    }

    #[test]
    fn minor_units_become_major_units() {
        let major = |code: &str, minor| Currency::parse(code).unwrap().major_of(minor).to_string();
        assert_eq!(major("USD", 2999), "29.99");
        assert_eq!(major("JPY", 4900), "4900");
        assert_eq!(major("KWD", -14_705), "-14.705");
        assert_eq!(whole_minor(&serde_json::from_str("1250.0").unwrap()), Some(1250));
        assert_eq!(whole_minor(&serde_json::from_str("12.5").unwrap()), None);
    }
}
