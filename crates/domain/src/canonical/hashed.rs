//! JSON as it is hashed: like its text, but nothing in it has to be escaped, so that texts are copied as they are.
//!
//! Invariant: no two values have one form. Marks are bytes that UTF-8 never uses; each text ends with one, numbers have one
//! length, and lists and objects are closed.

use serde_json::{Number, Value};
use siphasher::sip128::{Hasher128 as _, SipHasher24};
use std::hash::Hasher as _;

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

/// The form of one value, which its owner writes piece by piece. Keys of an object come in their order, each before its value.
#[derive(Debug)]
pub struct HashedForm {
    bytes: Vec<u8>,
}

impl Default for HashedForm {
    fn default() -> Self {
        Self { bytes: Vec::with_capacity(USUAL_BYTES) }
    }
}

impl HashedForm {
    /// Writes a null.
    pub fn null(&mut self) {
        self.bytes.push(NULL);
    }

    /// Writes a truth value.
    pub fn truth(&mut self, truth: bool) {
        self.bytes.push(if truth { TRUE } else { FALSE });
    }

    /// Writes a number, which is told from another as its spelling in JSON is: `1` is not `1.0`.
    pub fn number(&mut self, number: &Number) {
        let (mark, bytes) = match (number.as_u64(), number.as_i64()) {
            (Some(whole), _) => (WHOLE, whole.to_le_bytes()),
            (None, Some(negative)) => (NEGATIVE, negative.to_le_bytes()),
            (None, None) => (FLOAT, number.as_f64().unwrap_or_default().to_le_bytes()),
        };
        self.bytes.push(mark);
        self.bytes.extend_from_slice(&bytes);
    }

    /// Writes a text, or a key.
    pub fn text(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(TEXT_END);
    }

    /// Begins a list, which [`close`](Self::close) ends.
    pub fn open_list(&mut self) {
        self.bytes.push(LIST);
    }

    /// Begins an object, which [`close`](Self::close) ends.
    pub fn open_object(&mut self) {
        self.bytes.push(OBJECT);
    }

    /// Ends the list or object that was begun last.
    pub fn close(&mut self) {
        self.bytes.push(CLOSED);
    }

    /// The hash: 32 hexadecimal digits. It tells apart what is not made to meet: whoever can write a record in Keap could make two
    /// contents of it meet with some effort, and gain that the second one is not noticed before the next.
    #[must_use]
    pub fn hash(self) -> String {
        let mut hasher = SipHasher24::new();
        hasher.write(&self.bytes);
        hex::encode(hasher.finish128().as_bytes())
    }

    /// Writes a value.
    pub(super) fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.null(),
            Value::Bool(truth) => self.truth(*truth),
            Value::Number(number) => self.number(number),
            Value::String(text) => self.text(text),
            Value::Array(items) => {
                self.open_list();
                for item in items {
                    self.value(item);
                }
                self.close();
            }
            Value::Object(object) => {
                self.open_object();
                for (key, value) in object {
                    self.text(key);
                    self.value(value);
                }
                self.close();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, json};

    fn form_of(value: &Value) -> Vec<u8> {
        let mut form = HashedForm::default();
        form.value(value);
        form.bytes
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
