//! A row's values as they are bound, checked before they are: what Postgres would refuse is refused here, with a reason
//! that names the field. So one bad record costs its page nothing.
//!
//! Bisection in `write.rs` is the net below: it catches what an owner's own constraints and triggers refuse.
//!
//! | what | refused |
//! |---|---|
//! | any text, JSON strings and keys included | NUL characters |
//! | text | more than [`TEXT_BYTES_MAX`]; indexed: more than [`INDEXED_BYTES_MAX`] |
//! | dates and times | what does not exist, years before 1 and after 9999 |
//! | amounts | what is no plain decimal, more than 11 digits before the point or 3 behind it: they are not rounded |
//! | numbers | beyond `integer` |
//! | JSON | more than [`JSON_BYTES_MAX`], nesting beyond [`JSON_DEPTH_MAX`], another shape than the column's |

use super::table::{Column, Form, Table};
use keapsync_domain::extra::Extra;
use keapsync_domain::ids::is_keap_id;
use keapsync_domain::json_text;
#[cfg(doc)]
use keapsync_domain::json_text::JSON_DEPTH_MAX;
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::ports::{ConflictRecord, RowWrite};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// Longest text that an index takes, in bytes. An entry of a B-tree has at most 2704 bytes; the widest index holds the account's
/// name (64) and two such texts in lower case, which may have half as many bytes again: 64 + 2 * 1200 = 2464.
pub(crate) const INDEXED_BYTES_MAX: usize = 800;

/// Longest other text, in bytes: sixteen times what Keap takes for its longest notes.
pub(crate) const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// Longest JSON of one column, in bytes.
pub(crate) const JSON_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Room for the JSON of most columns, in bytes, so that it need not grow.
const JSON_BYTES_USUAL: usize = 256;

/// Digits before the point of a `numeric(14, 3)`.
const AMOUNT_DIGITS_MAX: usize = 11;

/// Digits behind it.
const AMOUNT_DECIMALS_MAX: usize = 3;

/// The text of a column, `None` where it is absent.
pub(crate) type Text<'a> = Option<Cow<'a, str>>;

/// A row whose values Postgres can take, as texts.
#[derive(Debug)]
pub(crate) struct BoundRow<'a> {
    /// What was asked for.
    pub(crate) write: &'a RowWrite,
    /// The table's columns, in their order; all absent where the record is left alone.
    pub(crate) columns: Vec<Text<'a>>,
    /// JSON of `extra`; absent where the record is left alone.
    pub(crate) extra: Text<'a>,
    /// JSON of the base delta; absent when it is empty.
    pub(crate) base: Text<'a>,
    /// JSON of the old values; absent when there are none.
    pub(crate) audit_old: Text<'a>,
    /// Their columns, separated by commas.
    pub(crate) audit_fields: Text<'a>,
    /// JSON of what was overridden; absent when nothing was.
    pub(crate) audit_lost: Text<'a>,
    /// The conflicts; of several on one field only the last, because an open one exists once.
    pub(crate) conflicts: Vec<Value>,
}

impl<'a> BoundRow<'a> {
    /// Turns a row into what is bound, or says what is wrong with it and what to do. No message holds a value.
    pub(crate) fn new(table: &Table, write: &'a RowWrite) -> Result<Self, String> {
        Self::checked(table, write)
            .map_err(|fault| format!("{fault}. Correct the record in Keap; it is read again then."))
    }

    fn checked(table: &Table, write: &'a RowWrite) -> Result<Self, String> {
        if !is_keap_id(&write.keap_id) {
            return Err("the record's id is no Keap id, which has 1 to 19 digits".to_owned());
        }
        let columns = match &write.record {
            None => table.columns.iter().map(|_| None).collect(),
            Some(record) => {
                let mut columns = Vec::with_capacity(table.columns.len());
                for (position, column) in table.columns.iter().enumerate() {
                    let text = column_text(column, record.get(position));
                    columns.push(text.map_err(|fault| format!("{} {fault}", column.name))?);
                }
                columns
            }
        };
        let audit_fields: Vec<&str> = write.audit_old.keys().map(String::as_str).collect();
        Ok(Self {
            columns,
            extra: if write.record.is_some() { Some(extra_text(&write.extra)?) } else { None },
            base: filled_text("base", &write.base_delta)?,
            audit_old: filled_text("the audit entry", &write.audit_old)?,
            audit_fields: (!audit_fields.is_empty()).then(|| Cow::Owned(audit_fields.join(","))),
            audit_lost: filled_text("the audit entry", &write.audit_lost)?,
            conflicts: conflict_objects(write)?,
            write,
        })
    }
}

/// A value as its column takes it.
fn column_text<'a>(column: &Column, value: &'a Value) -> Result<Text<'a>, String> {
    if value.is_null() {
        return Ok(None);
    }
    let text = match column.form {
        Form::JsonArray => {
            require(value.is_array(), "is not a list")?;
            return json_text(value).map(Some);
        }
        Form::JsonObject => {
            require(value.is_object(), "is not an object")?;
            return json_text(value).map(Some);
        }
        _ => scalar_text(value)?,
    };
    match column.form {
        Form::IndexedText => {
            require_length(&text, INDEXED_BYTES_MAX)?;
        }
        Form::KeapId => {
            require(text.is_empty() || is_keap_id(&text), "is no Keap id, which has 1 to 19 digits")?;
            return Ok(filled(text));
        }
        Form::Currency => require(text.chars().count() <= 3, "is no currency of three letters")?,
        Form::Date => return date_text(text),
        Form::Instant => return instant_text(text),
        Form::Money => return amount_text(text),
        Form::Integer => {
            require(text.is_empty() || text.parse::<i32>().is_ok(), "is no whole number within 32 bits")?;
            return Ok(filled(text));
        }
        Form::Boolean => {
            require(
                text.is_empty() || text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false"),
                "is neither true nor false",
            )?;
            return Ok(filled(text));
        }
        Form::Text | Form::JsonArray | Form::JsonObject => require_length(&text, TEXT_BYTES_MAX)?,
    }
    Ok(Some(text))
}

fn require(holds: bool, fault: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(fault.to_owned()) }
}

fn require_length(text: &str, bytes_max: usize) -> Result<(), String> {
    if text.len() > bytes_max {
        return Err(format!("is longer than {bytes_max} bytes"));
    }
    Ok(())
}

fn filled(text: Cow<'_, str>) -> Text<'_> {
    Some(text).filter(|text| !text.is_empty())
}

fn scalar_text(value: &Value) -> Result<Cow<'_, str>, String> {
    match value {
        Value::String(text) => {
            require(!text.contains('\0'), "holds a NUL character, which Postgres cannot store")?;
            Ok(Cow::Borrowed(text))
        }
        Value::Array(_) | Value::Object(_) => Err("is not a single value".to_owned()),
        other => Ok(Cow::Owned(other.to_string())),
    }
}

/// A day, of a text that may go on with a time, as Keap writes days that are midnights.
fn date_text(text: Cow<'_, str>) -> Result<Text<'_>, String> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let day = part_of(text, |text| text.trim().split('T').next().unwrap_or_default());
    require(is_day(&day), "is no date between 0001-01-01 and 9999-12-31")?;
    Ok(Some(day))
}

/// A part of a text, without a copy where the text was not one itself.
fn part_of(text: Cow<'_, str>, part: impl Fn(&str) -> &str) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(part(text)),
        Cow::Owned(text) => Cow::Owned(part(&text).to_owned()),
    }
}

/// Whether `text` is a date that exists, written `YYYY-MM-DD`.
fn is_day(text: &str) -> bool {
    let mut parts = text.split('-');
    let (Some(year), Some(month), Some(day), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    if (year.len(), month.len(), day.len()) != (4, 2, 2)
        || ![year, month, day].iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit()))
    {
        return false;
    }
    let (Ok(year), Ok(month), Ok(day)) = (year.parse::<u32>(), month.parse::<u32>(), day.parse::<u32>())
    else {
        return false;
    };
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        1..=12 => 31,
        _ => 0,
    };
    year >= 1 && (1..=days).contains(&day)
}

/// A moment in UTC; a bare day is its first, as in the canonical form.
fn instant_text(text: Cow<'_, str>) -> Result<Text<'_>, String> {
    if is_plain_instant(&text) {
        return Ok(Some(text));
    }
    rewritten_instant(&text)
}

fn rewritten_instant(text: &str) -> Result<Text<'static>, String> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let moment = Timestamp::parse_rfc3339(text)
        .or_else(|| Timestamp::parse_rfc3339(&format!("{}T00:00:00Z", text.trim())))
        .map(Timestamp::to_rfc3339)
        .filter(|written| written.split('T').next().is_some_and(is_day));
    moment
        .map(|written| Some(Cow::Owned(written)))
        .ok_or_else(|| "is no time between the years 1 and 9999".to_owned())
}

/// Whether a text is a moment as we write it, such as `2026-01-01T00:00:00.000Z`, which is how Keap writes nearly all of them.
fn is_plain_instant(text: &str) -> bool {
    let Some((day, time)) = text.split_once('T') else { return false };
    let pair = |tens: u8, ones: u8, tens_max: u8| (b'0'..=tens_max).contains(&tens) && ones.is_ascii_digit();
    let is_time = match time.as_bytes() {
        [h1, h2, b':', m1, m2, b':', s1, s2, b'.', fraction @ .., b'Z'] => {
            pair(*h1, *h2, b'2')
                && (*h1, *h2) < (b'2', b'4')
                && pair(*m1, *m2, b'5')
                && pair(*s1, *s2, b'5')
                && fraction.len() == 3
                && fraction.iter().all(u8::is_ascii_digit)
        }
        _ => false,
    };
    // The last year is left to the calendar, which ends before it does.
    is_time && is_day(day) && !day.starts_with("9999")
}

fn amount_text(text: Cow<'_, str>) -> Result<Text<'_>, String> {
    let plain = part_of(text, str::trim);
    if plain.is_empty() {
        return Ok(None);
    }
    let digits = plain.strip_prefix(['-', '+']).unwrap_or(&plain);
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    require(
        !(whole.is_empty() && decimals.is_empty())
            && whole.bytes().chain(decimals.bytes()).all(|byte| byte.is_ascii_digit()),
        "is no plain decimal",
    )?;
    require(
        whole.trim_start_matches('0').len() <= AMOUNT_DIGITS_MAX,
        "has more than 11 digits before the point",
    )?;
    require(
        decimals.trim_end_matches('0').len() <= AMOUNT_DECIMALS_MAX,
        "has more than 3 digits behind the point",
    )?;
    Ok(Some(plain))
}

fn json_text(value: &Value) -> Result<Cow<'static, str>, String> {
    let mut text = String::with_capacity(JSON_BYTES_USUAL);
    json_text::put(&mut text, value, 1)?;
    require_length(&text, JSON_BYTES_MAX)?;
    Ok(Cow::Owned(text))
}

fn extra_text(extra: &Extra) -> Result<Cow<'_, str>, String> {
    let text = extra.as_str();
    require_length(text, JSON_BYTES_MAX).map_err(|fault| format!("extra {fault}"))?;
    Ok(Cow::Borrowed(text))
}

fn object_text(what: &str, object: &Map<String, Value>) -> Result<Cow<'static, str>, String> {
    if object.is_empty() {
        return Ok(Cow::Borrowed("{}"));
    }
    let mut text = String::with_capacity(JSON_BYTES_USUAL);
    json_text::put_object::<Value>(&mut text, object, 1)
        .and_then(|()| require_length(&text, JSON_BYTES_MAX))
        .map_err(|fault| format!("{what} {fault}"))?;
    Ok(Cow::Owned(text))
}

/// An object as JSON, nothing for an empty one.
fn filled_text(what: &str, object: &Map<String, Value>) -> Result<Text<'static>, String> {
    if object.is_empty() { Ok(None) } else { object_text(what, object).map(Some) }
}

fn conflict_objects(write: &RowWrite) -> Result<Vec<Value>, String> {
    let is_last = |position: usize, conflict: &ConflictRecord| {
        !write.conflicts.iter().skip(position + 1).any(|later| later.field == conflict.field)
    };
    write
        .conflicts
        .iter()
        .enumerate()
        .filter(|(position, conflict)| is_last(*position, conflict))
        .map(|(_, conflict)| {
            // The path ends in a key that somebody chose, and is a key of an index.
            if conflict.field.len() > INDEXED_BYTES_MAX {
                return Err(format!("a key in conflict is longer than {INDEXED_BYTES_MAX} bytes"));
            }
            let object = serde_json::json!({
                "keap_id": write.keap_id, "field": conflict.field, "base": conflict.base, "keap": conflict.keap,
                "supabase": conflict.supabase, "policy": conflict.policy.as_str(), "winner": conflict.winner,
            });
            json_text::put(&mut String::new(), &object, 0).map_err(|fault| format!("a value in conflict {fault}"))?;
            Ok(object)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use keapsync_domain::json_text::JSON_DEPTH_MAX;
    use serde_json::json;

    fn text_of(form: Form, value: &Value) -> Result<Option<String>, String> {
        column_text(&Column::new("field", form), value).map(|text| text.map(Cow::into_owned))
    }

    fn nested(depth: usize) -> Value {
        (1..depth).fold(json!([]), |inner, _| json!([inner]))
    }

    #[test]
    fn good_values_are_bound_in_one_form() {
        let cases = [
            (Form::Text, json!("Ann"), Some("Ann")),
            (Form::Text, json!(7), Some("7")),
            (Form::Text, json!(""), Some("")),
            (Form::Text, Value::Null, None),
            (Form::KeapId, json!("12"), Some("12")),
            (Form::KeapId, json!(""), None),
            (Form::Currency, json!("USD"), Some("USD")),
            (Form::Date, json!("0001-01-01"), Some("0001-01-01")),
            (Form::Date, json!("9999-12-31"), Some("9999-12-31")),
            (Form::Date, json!("2000-02-29T00:00:00.000Z"), Some("2000-02-29")),
            (Form::Date, json!(" "), None),
            (Form::Instant, json!("2026-03-01T10:00:00+02:00"), Some("2026-03-01T08:00:00.000Z")),
            (Form::Instant, json!("2026-03-01"), Some("2026-03-01T00:00:00.000Z")),
            (Form::Money, json!("99999999999.999"), Some("99999999999.999")),
            (Form::Money, json!("-0012.50000"), Some("-0012.50000")),
            (Form::Money, json!(12.5), Some("12.5")),
            (Form::Integer, json!(-2_147_483_648_i64), Some("-2147483648")),
            (Form::Boolean, json!(true), Some("true")),
            (Form::JsonArray, json!(["1"]), Some("[\"1\"]")),
            (Form::JsonArray, nested(2), Some("[[]]")),
            (Form::JsonObject, json!({"a": 1}), Some("{\"a\":1}")),
        ];
        for (form, value, expected) in cases {
            assert_eq!(
                text_of(form, &value).as_ref().map(Option::as_deref),
                Ok(expected),
                "{form:?} {value}"
            );
        }
        assert!(text_of(Form::JsonArray, &nested(JSON_DEPTH_MAX)).is_ok());
    }

    #[test]
    fn a_moment_as_we_write_it_is_bound_as_it_is() {
        let days = [
            "0001-01-01",
            "0000-12-31",
            "2024-02-29",
            "2023-02-29",
            "9999-12-31",
            "10000-01-01",
            "2024-1-01",
            "",
        ];
        let times = [
            "00:00:00.000Z",
            "23:59:59.999Z",
            "24:00:00.000Z",
            "19:60:00.000Z",
            "09:05:60.000Z",
            "2x:00:00.000Z",
            "10:00:00Z",
            "10:00:00.1234Z",
            "10:00:00.000z",
            "10:00:00.000",
            "10:00:00.000+00:00",
            "é0:00:00.000Z",
        ];
        let mut taken = 0;
        for (day, time) in days.iter().flat_map(|day| times.map(|time| (day, time))) {
            for text in [
                format!("{day}T{time}"),
                format!("{day}t{time}"),
                format!(" {day}T{time}"),
                format!("{day}T{time} "),
            ] {
                taken += usize::from(is_plain_instant(&text));
                assert_eq!(instant_text(Cow::Borrowed(&text)), rewritten_instant(&text), "{text}");
            }
        }
        assert_eq!(taken, 2 * 2);
    }

    #[test]
    fn bad_values_are_refused_for_what_is_wrong() {
        let cases = [
            (Form::Text, json!("a\u{0}"), "NUL"),
            (Form::Text, json!({"a": 1}), "single value"),
            (Form::Text, json!("x".repeat(TEXT_BYTES_MAX + 1)), "longer than 1048576 bytes"),
            (Form::IndexedText, json!("x".repeat(10_240)), "longer than 800 bytes"),
            (Form::KeapId, json!("7a"), "no Keap id"),
            (Form::Currency, json!("EURO"), "currency"),
            (Form::Date, json!("0000-12-31"), "no date"),
            (Form::Date, json!("10000-01-01"), "no date"),
            (Form::Date, json!("1999-02-29"), "no date"),
            (Form::Date, json!("2026-13-01"), "no date"),
            (Form::Date, json!("infinity"), "no date"),
            (Form::Instant, json!("-0001-01-01T00:00:00Z"), "no time"),
            (Form::Instant, json!("now"), "no time"),
            (Form::Money, json!("100000000000"), "11 digits"),
            (Form::Money, json!("0.0001"), "3 digits"),
            (Form::Money, json!("NaN"), "plain decimal"),
            (Form::Money, json!(1e20), "plain decimal"),
            (Form::Money, json!("."), "plain decimal"),
            (Form::Integer, json!(2_147_483_648_i64), "whole number"),
            (Form::Integer, json!(1.5), "whole number"),
            (Form::Boolean, json!("yes"), "neither"),
            (Form::JsonArray, json!({}), "list"),
            (Form::JsonObject, json!([]), "object"),
            (Form::JsonObject, json!({"a": {"b\u{0}": 1}}), "key"),
            (Form::JsonArray, json!([["a\u{0}"]]), "NUL"),
            (Form::JsonArray, nested(JSON_DEPTH_MAX + 1), "levels deep"),
        ];
        for (form, value, expected) in cases {
            let fault = text_of(form, &value).unwrap_err();
            assert!(fault.contains(expected), "{form:?}: {fault}");
        }
    }
}
