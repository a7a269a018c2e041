//! JSON as it is hashed: like its text, but nothing in it has to be escaped, so that texts are copied as they are.
//!
//! Invariant: no two values have one form. Marks are bytes that UTF-8 never uses; each text ends with one, numbers have one
//! length, and lists and objects are closed.

use crate::json::{Json, Node};
use serde_json::Number;
use siphasher::sip128::SipHasher24;

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

/// Room for the form of most records, in bytes, so that it need not grow.
const USUAL_BYTES: usize = 2048;

/// The hash of an object's entries, which come in the order of their keys: 32 hexadecimal digits.
pub(super) fn hash_of_entries<'v, T: Json + 'v>(entries: impl Iterator<Item = (&'v str, &'v T)>) -> String {
    let mut form = Vec::with_capacity(USUAL_BYTES);
    put_entries(&mut form, entries);
    hash_of(&form)
}

/// The hash of a value.
pub(super) fn hash_of_value<T: Json>(value: &T) -> String {
    let mut form = Vec::with_capacity(USUAL_BYTES);
    put(&mut form, value);
    hash_of(&form)
}

/// It tells apart what is not made to meet: whoever can write a record in Keap could make two contents of it meet with some effort, and
/// gain that the second one is not noticed before the next.
fn hash_of(form: &[u8]) -> String {
    hex::encode(SipHasher24::new().hash(form).as_bytes())
}

/// Appends the form of a value.
fn put<T: Json>(form: &mut Vec<u8>, value: &T) {
    match value.node() {
        Node::Null => form.push(NULL),
        Node::Bool(truth) => form.push(if truth { TRUE } else { FALSE }),
        Node::Number(number) => put_number(form, number),
        Node::Text(text) => put_text(form, text),
        Node::List(items) => {
            form.push(LIST);
            for item in items {
                put(form, item);
            }
            form.push(CLOSED);
        }
        Node::Object(object) => put_entries(form, T::entries(object)),
    }
}

fn put_entries<'v, T: Json + 'v>(form: &mut Vec<u8>, entries: impl Iterator<Item = (&'v str, &'v T)>) {
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
    use serde_json::{Map, Value, json};

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
