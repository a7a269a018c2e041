//! JSON as a `jsonb` column takes it, written and checked in one pass.
//!
//! Invariant: what is written is what `serde_json` writes. Nearly all texts hold nothing that has to be escaped, which is told eight
//! bytes at a time; the others are left to it.

use crate::json::{Json, Node};
use std::fmt::Write as _;

/// Deepest nesting of JSON: what is read back may nest 127 deep, and what is kept of it in base, conflicts and audit log
/// stands a few levels deeper.
pub const JSON_DEPTH_MAX: usize = 100;

/// Appends a value that stands at `depth`, or says why Postgres would not take it.
pub fn put<T: Json>(written: &mut String, value: &T, depth: usize) -> Result<(), String> {
    match value.node() {
        Node::Null => written.push_str("null"),
        Node::Bool(truth) => written.push_str(if truth { "true" } else { "false" }),
        Node::Number(number) => write!(written, "{number}").map_err(|_| unwritable())?,
        Node::Text(text) => put_text(written, text, "holds a NUL character, which Postgres cannot store")?,
        Node::List(items) => {
            require_depth(depth)?;
            written.push('[');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    written.push(',');
                }
                put(written, item, depth + 1)?;
            }
            written.push(']');
        }
        Node::Object(object) => put_object::<T>(written, object, depth)?,
    }
    Ok(())
}

/// [`put`] for an object.
pub fn put_object<T: Json>(written: &mut String, object: &T::Entries, depth: usize) -> Result<(), String> {
    require_depth(depth)?;
    written.push('{');
    for (position, (key, value)) in T::entries(object).enumerate() {
        if position > 0 {
            written.push(',');
        }
        put_text(written, key, "has a key with a NUL character, which Postgres cannot store")?;
        written.push(':');
        put(written, value, depth + 1)?;
    }
    written.push('}');
    Ok(())
}

fn require_depth(depth: usize) -> Result<(), String> {
    if depth > JSON_DEPTH_MAX {
        return Err(format!("nests more than {JSON_DEPTH_MAX} levels deep"));
    }
    Ok(())
}

fn put_text(written: &mut String, text: &str, nul_fault: &str) -> Result<(), String> {
    if is_plain(text) {
        written.push('"');
        written.push_str(text);
        written.push('"');
        return Ok(());
    }
    if text.contains('\0') {
        return Err(nul_fault.to_owned());
    }
    written.push_str(&serde_json::to_string(text).map_err(|_| unwritable())?);
    Ok(())
}

fn unwritable() -> String {
    "cannot be written as JSON".to_owned()
}

/// Whether a text stands in JSON as it is: no quote, no backslash, no control character.
fn is_plain(text: &str) -> bool {
    let (words, rest) = text.as_bytes().as_chunks::<8>();
    words.iter().all(|word| !has_special(u64::from_le_bytes(*word)))
        && rest.iter().all(|byte| *byte >= b' ' && *byte != b'"' && *byte != b'\\')
}

/// Whether one of a word's eight bytes is special. Each test leaves the highest bit of a byte set that is below what is taken from
/// it; a borrow can only come from a byte that was found already.
fn has_special(word: u64) -> bool {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGHEST: u64 = ONES << 7;
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word;
    let is_byte = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    (below(word, 0x20) | is_byte(b'"') | is_byte(b'\\')) & HIGHEST != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn written(value: &Value) -> Result<String, String> {
        let mut text = String::new();
        put(&mut text, value, 1).map(|()| text)
    }

    fn values() -> impl Strategy<Value = Value> {
        let text = || "[ -~]{0,20}|[\\x01-\\x20\"\\\\a\u{7f}-\u{9f}é\u{2028}太]{0,12}|\\PC{0,12}";
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            text().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((text(), inner), 0..4)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_serde_json_writes(value in values()) {
            prop_assert_eq!(written(&value), Ok(value.to_string()));
        }
    }

    #[test]
    fn every_byte_is_told_at_every_place() {
        for byte in 0_u8..128 {
            let is_special = byte < b' ' || byte == b'"' || byte == b'\\';
            for place in 0..20 {
                let mut text = "é~ ab![]\u{7f}xyzé0123#9".to_owned();
                text.insert(text.floor_char_boundary(place), char::from(byte));
                assert_eq!(is_plain(&text), !is_special, "{text:?}");
            }
        }
    }

    #[test]
    fn nul_is_found_wherever_it_is() {
        for value in
            [json!("\u{0}"), json!(["12345678\u{0}"]), json!({"a": {"\u{0}": 1}}), json!({"a": ["\"\u{0}"]})]
        {
            assert!(written(&value).unwrap_err().contains("NUL"), "{value}");
        }
        assert_eq!(written(&json!("\\u0000")), Ok("\"\\\\u0000\"".to_owned()));
    }
}
