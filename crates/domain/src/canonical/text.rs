//! The canonical form of texts, by the kind of their field. A text that has it already is not copied.

use crate::schema::FieldKind;
use crate::timestamp::Timestamp;
use serde_json::Number;
use std::borrow::Cow;

/// The canonical form of a trimmed text. Kinds that are no texts leave it as it is.
pub(super) fn text_form(kind: FieldKind, text: &str) -> Cow<'_, str> {
    match kind {
        FieldKind::Email => email(text),
        FieldKind::Phone => phone(text),
        FieldKind::Date => Cow::Borrowed(date(text)),
        FieldKind::Instant => instant(text),
        FieldKind::Integer | FieldKind::Money => decimal(text),
        FieldKind::Boolean => lower(text),
        FieldKind::Text | FieldKind::Address | FieldKind::Set | FieldKind::Slots(_) | FieldKind::Map => {
            Cow::Borrowed(text)
        }
    }
}

/// The text without white space at its ends, Unicode's included.
pub(super) fn trimmed(text: &str) -> &str {
    // Most texts begin and end with a printed character of ASCII, which a look at two bytes tells.
    match (text.as_bytes().first(), text.as_bytes().last()) {
        (Some(b'!'..=b'~'), Some(b'!'..=b'~')) => text,
        _ => text.trim(),
    }
}

/// A number as a plain decimal: `1.0`, `1` and `1e0` are one number, and Postgres hands back another spelling than it was given.
#[must_use]
pub fn number_text(number: &Number) -> String {
    match number.as_f64() {
        Some(0.0) => "0".to_owned(),
        // As JSON spells it: of two shortest spellings that lie half-way, Rust's own `Display` may take the other one.
        Some(_) if number.is_f64() => plain_decimal(&number.to_string()),
        _ => number.to_string(),
    }
}

/// A number of JSON without an exponent and without needless zeros.
fn plain_decimal(text: &str) -> String {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let point = i64::try_from(whole.len()).unwrap_or_default() + exponent.parse::<i64>().unwrap_or_default();
    let digits: String = [whole, fraction].concat();
    let length = i64::try_from(digits.len()).unwrap_or_default();
    let zeros = |count: i64| "0".repeat(usize::try_from(count).unwrap_or_default());
    let padded = format!("{}{digits}{}", zeros(1 - point), zeros(point - length));
    let (whole, fraction) =
        padded.split_at(usize::try_from(point.max(1)).unwrap_or(padded.len()).min(padded.len()));
    let whole = Some(whole.trim_start_matches('0')).filter(|whole| !whole.is_empty()).unwrap_or("0");
    match fraction.trim_end_matches('0') {
        "" => format!("{sign}{whole}"),
        fraction => format!("{sign}{whole}.{fraction}"),
    }
}

/// In upper case.
pub(super) fn upper(text: &str) -> Cow<'_, str> {
    let is_upper = text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_lowercase());
    if is_upper { Cow::Borrowed(text) } else { Cow::Owned(text.to_uppercase()) }
}

fn lower(text: &str) -> Cow<'_, str> {
    let is_lower = text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase());
    if is_lower { Cow::Borrowed(text) } else { Cow::Owned(text.to_lowercase()) }
}

pub(super) fn email(text: &str) -> Cow<'_, str> {
    match text.rsplit_once('@') {
        Some((mailbox, domain)) => match lower(domain) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(domain) => Cow::Owned(format!("{mailbox}@{domain}")),
        },
        None => Cow::Borrowed(text),
    }
}

pub(super) fn phone(text: &str) -> Cow<'_, str> {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    if digits.is_empty() || digits.len() == text.len() {
        return Cow::Borrowed(text);
    }
    // A number with letters (an extension, a vanity number) means more than its digits say.
    if text.chars().any(char::is_alphabetic) {
        return Cow::Owned(text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase());
    }
    Cow::Owned(if text.starts_with('+') { format!("+{digits}") } else { digits })
}

fn date(text: &str) -> &str {
    // Keap sends dates bare or as midnight UTC; the day is what counts.
    text.split_once('T').map_or(text, |(day, _)| day)
}

fn instant(text: &str) -> Cow<'_, str> {
    // A bare day is its first moment in UTC, which is how Keap sends times that are days.
    Timestamp::parse_rfc3339(text)
        .or_else(|| Timestamp::parse_rfc3339(&format!("{text}T00:00:00Z")))
        .map_or(Cow::Borrowed(text), |moment| Cow::Owned(moment.to_rfc3339()))
}

/// A plain decimal without needless zeros and signs; anything else stays as it is.
fn decimal(text: &str) -> Cow<'_, str> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_plain = !(whole.is_empty() && fraction.is_empty())
        && whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    if !is_plain {
        return Cow::Borrowed(text);
    }
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    let whole = if whole.is_empty() { "0" } else { whole };
    let sign = if negative && (whole != "0" || !fraction.is_empty()) { "-" } else { "" };
    Cow::Owned(if fraction.is_empty() {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{fraction}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_plain_decimals_as_json_spells_them() {
        for (json, plain) in [
            ("2133955896878748.25", "2133955896878748.2"),
            ("5.5852e21", "5585200000000000000000"),
            ("1.50", "1.5"),
            ("-0.0", "0"),
            ("1e2", "100"),
            ("12.5e-3", "0.0125"),
            ("-1.5e-7", "-0.00000015"),
            ("1.25e1", "12.5"),
            ("7", "7"),
            ("18446744073709551615", "18446744073709551615"),
        ] {
            assert_eq!(number_text(&serde_json::from_str(json).unwrap()), plain, "{json}");
        }
    }
}
