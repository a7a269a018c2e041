//! JSON as it is hashed: like its text, but nothing in it has to be escaped, so that texts are copied as they are.
//!
//! Invariant: no two values have one form. Marks are bytes that UTF-8 never uses; each text ends with one, numbers have one
//! length, and lists and objects are closed.

use serde_json::{Number, Value};

const TEXT_END: u8 = 0xff;
const CLOSED: u8 = 0xfe;
const OBJECT: u8 = 0xfd;
const LIST: u8 = 0xfc;
const FLOAT: u8 = 0xfb;
const NEGATIVE: u8 = 0xfa;
const WHOLE: u8 = 0xf9;
const TRUE: u8 = 0xf8;
const FALSE: u8 = 0xf7;
const NULL: u8 = 0xf6;

/// Appends the form of a value.
pub(super) fn put(form: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => form.push(NULL),
        Value::Bool(truth) => form.push(if *truth { TRUE } else { FALSE }),
        Value::Number(number) => put_number(form, number),
        Value::String(text) => put_text(form, text),
        Value::Array(items) => {
            form.push(LIST);
            for item in items {
                put(form, item);
            }
            form.push(CLOSED);
        }
        Value::Object(object) => put_object(form, object.iter()),
    }
}

/// Appends the form of an object with these entries, which come in the order of their keys.
pub(super) fn put_object<'a>(form: &mut Vec<u8>, entries: impl Iterator<Item = (&'a String, &'a Value)>) {
    form.push(OBJECT);
    for (key, value) in entries {
        put_text(form, key);
        put(form, value);
    }
    form.push(CLOSED);
}

fn put_text(form: &mut Vec<u8>, text: &str) {
    form.extend_from_slice(text.as_bytes());
    form.push(TEXT_END);
}

/// A number is told from another as its spelling in JSON is: `1` is not `1.0`.
fn put_number(form: &mut Vec<u8>, number: &Number) {
    let (mark, bytes) = match (number.as_u64(), number.as_i64()) {
        (Some(whole), _) => (WHOLE, whole.to_le_bytes()),
        (None, Some(negative)) => (NEGATIVE, negative.to_le_bytes()),
        (None, None) => (FLOAT, number.as_f64().unwrap_or_default().to_le_bytes()),
    };
    form.push(mark);
    form.extend_from_slice(&bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, json};

    fn form_of(value: &Value) -> Vec<u8> {
        let mut form = Vec::new();
        put(&mut form, value);
        form
    }

    /// Values that are often alike, so that pairs of them nearly meet.
    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-2_i64..3).prop_map(Value::from),
            prop::sample::select(vec![-1.0, -0.0, 0.0, 1.0, 1.5]).prop_map(Value::from),
            "[ab\\PC]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::vec(("[ab]{0,2}", inner), 0..3)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    proptest! {
        #[test]
        fn two_values_have_one_form_when_they_have_one_text(left in values(), right in values()) {
            let [left_text, right_text] = [&left, &right].map(ToString::to_string);
            prop_assert_eq!(form_of(&left) == form_of(&right), left_text == right_text);
        }
    }

    #[test]
    fn what_nearly_meets_is_told_apart() {
        let apart = [
            json!(["a", "b"]),
            json!(["ab"]),
            json!([["a"], "b"]),
            json!([["a", "b"]]),
            json!([]),
            json!({}),
            json!(""),
            json!([""]),
            json!({"": ""}),
            json!({"a": "b"}),
            json!({"a": ["b"]}),
            json!(1),
            json!(1.0),
            json!("1"),
            json!(-1),
            json!(0),
            json!(0.0),
            json!(-0.0),
            json!(null),
            json!(false),
            json!(true),
            json!(u64::MAX),
            json!(i64::MIN),
        ];
        for (position, left) in apart.iter().enumerate() {
            for right in apart.iter().skip(position + 1) {
                assert_ne!(form_of(left), form_of(right), "{left} and {right}");
            }
        }
    }
}
