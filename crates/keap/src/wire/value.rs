//! Keap's JSON while it is read: texts are borrowed from the answer, and an object is a list of its entries.
//!
//! Most of what a page says is looked at once, and then is a column's text or dropped. Taken apart this way, a record costs a few
//! allocations where a tree of maps costs one for each of its texts and keys.
//!
//! Invariant: the entries of an object stand in the order of their keys, each key once. Of several alike the last counts, as it does in
//! [`serde_json::Map`].

use keapsync_domain::canonical::content_hash_without;
use keapsync_domain::extra::Extra;
use keapsync_domain::json::{Json, Node};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::borrow::Cow;
use std::fmt;

/// A value of Keap's JSON.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum WireValue<'a> {
    /// `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as it is spelled.
    Number(Number),
    /// A text; copied only where it was escaped.
    Text(Cow<'a, str>),
    /// A list.
    List(Vec<Self>),
    /// An object.
    Object(WireObject<'a>),
}

/// An object of Keap's JSON.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WireObject<'a> {
    entries: Vec<Entry<'a>>,
}

type Entry<'a> = (Cow<'a, str>, WireValue<'a>);

impl WireValue<'_> {
    /// The text, of what is one.
    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The text at a key of an object; empty when there is none.
    pub(crate) fn text_at(&self, key: &str) -> &str {
        match self {
            Self::Object(object) => object.get(key).and_then(WireValue::as_str).unwrap_or_default(),
            _ => "",
        }
    }

    /// Whether it is `null`.
    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Whether it says nothing.
    pub(crate) fn is_blank(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Text(text) => text.is_empty(),
            Self::List(items) => items.is_empty(),
            Self::Object(object) => object.is_empty(),
            Self::Bool(_) | Self::Number(_) => false,
        }
    }

    /// Whether a text or a key within it holds a NUL character.
    pub(crate) fn holds_nul(&self) -> bool {
        match self {
            Self::Text(text) => text.contains('\0'),
            Self::List(items) => items.iter().any(WireValue::holds_nul),
            Self::Object(object) => {
                object.entries.iter().any(|(key, value)| key.contains('\0') || value.holds_nul())
            }
            Self::Null | Self::Bool(_) | Self::Number(_) => false,
        }
    }

    /// The same, to be kept.
    pub(crate) fn into_value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(truth) => truth.into(),
            Self::Number(number) => number.into(),
            Self::Text(text) => Value::String(text.into_owned()),
            Self::List(items) => items.into_iter().map(WireValue::into_value).collect(),
            Self::Object(object) => Value::Object(object.into_map()),
        }
    }
}

impl<'a> Json for WireValue<'a> {
    type Entries = WireObject<'a>;

    fn node(&self) -> Node<'_, Self> {
        match self {
            Self::Null => Node::Null,
            Self::Bool(truth) => Node::Bool(*truth),
            Self::Number(number) => Node::Number(number),
            Self::Text(text) => Node::Text(text),
            Self::List(items) => Node::List(items),
            Self::Object(object) => Node::Object(object),
        }
    }

    fn entries<'v>(object: &'v Self::Entries) -> impl Iterator<Item = (&'v str, &'v Self)>
    where
        Self: 'v,
    {
        object.entries.iter().map(|(key, value)| (key.as_ref(), value))
    }
}

impl<'a> WireObject<'a> {
    /// Whether it has no entry.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value at a key.
    pub(crate) fn get(&self, key: &str) -> Option<&WireValue<'a>> {
        let place = self.place(key).ok()?;
        self.entries.get(place).map(|(_, value)| value)
    }

    /// The value at a key, to be changed in place.
    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut WireValue<'a>> {
        let place = self.place(key).ok()?;
        self.entries.get_mut(place).map(|(_, value)| value)
    }

    /// Puts a list that has no order of its own into that of its items' texts: of the one at `key` in each, or of the items themselves.
    /// So a content hash does not depend on Keap's order. Texts that spell numbers are put in the numbers' order by their length.
    pub(crate) fn sort_list(&mut self, property: &str, key: Option<&str>, by_length: bool) {
        // One order for all lists, because each would bring its own sort into the workers.
        if let Some(WireValue::List(items)) = self.get_mut(property) {
            items.sort_by(|left, right| {
                let text = |item| key.map_or_else(|| WireValue::as_str(item), |key| Some(item.text_at(key)));
                let (left, right) = (text(left), text(right));
                let length = |text: Option<&str>| if by_length { text.map_or(0, str::len) } else { 0 };
                (length(left), left).cmp(&(length(right), right))
            });
        }
    }

    /// Takes the value at a key out.
    pub(crate) fn remove(&mut self, key: &str) -> Option<WireValue<'a>> {
        let place = self.place(key).ok()?;
        Some(self.entries.remove(place).1)
    }

    /// Puts a value at a key, in place of the one that is there.
    pub(crate) fn insert(&mut self, key: impl Into<Cow<'a, str>>, value: WireValue<'a>) {
        let key = key.into();
        match self.place(&key) {
            Ok(place) => {
                if let Some(entry) = self.entries.get_mut(place) {
                    entry.1 = value;
                }
            }
            Err(place) => self.entries.insert(place, (key, value)),
        }
    }

    /// Keeps an object that holds something.
    pub(crate) fn insert_filled(&mut self, key: impl Into<Cow<'a, str>>, object: Self) {
        if !object.is_empty() {
            self.insert(key, WireValue::Object(object));
        }
    }

    /// The same, to be kept.
    pub(crate) fn into_map(self) -> Map<String, Value> {
        self.into_iter().map(|(key, value)| (key.into_owned(), value.into_value())).collect()
    }

    /// The same as the text that is kept of what no field holds; the error says why Postgres would not take it.
    pub(crate) fn to_extra(&self) -> Result<Extra, String> {
        Extra::of::<WireValue<'_>>(self).map_err(|fault| format!("what no column holds {fault}"))
    }

    /// [`content_hash_without`] of this object.
    pub(crate) fn content_hash_without(&self, apart: &[Option<&str>]) -> String {
        content_hash_without::<WireValue<'_>>(self, apart)
    }

    /// Where a key stands, or would stand.
    fn place(&self, key: &str) -> Result<usize, usize> {
        // Entries mostly come in their order.
        match self.entries.last() {
            Some((last, _)) if last.as_ref() >= key => {
                self.entries.binary_search_by(|(other, _)| other.as_ref().cmp(key))
            }
            _ => Err(self.entries.len()),
        }
    }
}

impl<'a> IntoIterator for WireObject<'a> {
    type Item = Entry<'a>;
    type IntoIter = std::vec::IntoIter<Entry<'a>>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for WireValue<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for WireObject<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match WireValue::deserialize(deserializer)? {
            WireValue::Object(object) => Ok(object),
            _ => Err(D::Error::custom("this is no object")),
        }
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = WireValue<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any valid JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(WireValue::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Self::Value, E> {
        Ok(WireValue::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(WireValue::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(WireValue::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Number::from_f64(number).map_or(WireValue::Null, WireValue::Number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(WireValue::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(WireValue::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(WireValue::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut entries: Vec<Entry<'de>> = Vec::new();
        while let Some(Key(key)) = object.next_key()? {
            entries.push((key, object.next_value()?));
        }
        entries.sort_by(|(left, _), (right, _)| left.cmp(right));
        entries.dedup_by(|later, earlier| {
            let is_same = later.0 == earlier.0;
            if is_same {
                std::mem::swap(later, earlier);
            }
            is_same
        });
        Ok(WireValue::Object(WireObject { entries }))
    }
}

/// A key, borrowed where it is not escaped.
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(Key(Cow::Borrowed(key)))
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Key(Cow::Owned(key.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keapsync_domain::canonical::content_hash;
    use proptest::prelude::*;
    use serde_json::json;

    /// JSON texts with escapes and with keys that come twice.
    fn texts() -> impl Strategy<Value = String> {
        let text = || {
            prop_oneof!["\"[ab]{0,2}\"", Just("\"\\u0061\"".to_owned()), Just("\"\\n\\u00e9太\"".to_owned())]
        };
        let number =
            || prop::sample::select(vec!["0", "-1", "1.0", "-0.0", "18446744073709551615", "1e2", "0.1"]);
        let leaf = prop_oneof![
            prop::sample::select(vec!["null", "true", "false"]).prop_map(str::to_owned),
            number().prop_map(str::to_owned),
            text(),
        ];
        leaf.prop_recursive(4, 32, 6, move |inner| {
            let entry = (text(), inner.clone()).prop_map(|(key, value)| format!("{key} : {value}"));
            prop_oneof![
                prop::collection::vec(inner, 0..6).prop_map(|items| format!("[{}]", items.join(" ,"))),
                prop::collection::vec(entry, 0..8).prop_map(|entries| format!("{{{}}}", entries.join(","))),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_serde_json_reads(text in texts()) {
            let value: Value = serde_json::from_str(&text).unwrap();
            let read: WireValue<'_> = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(read.clone().into_value(), value.clone());
            if let WireValue::Object(object) = read.clone() {
                let (extra, plainly) = (object.to_extra().unwrap(), Extra::new(value.as_object().unwrap()).unwrap());
                prop_assert_eq!(extra.as_str(), plainly.as_str());
            }
            prop_assert_eq!(content_hash(&read), content_hash(&value));
        }

        #[test]
        fn an_object_is_changed_as_a_map_is(
            steps in prop::collection::vec(("[a-e]", prop::option::of(0_u64..9)), 0..20)
        ) {
            let (mut object, mut map) = (WireObject::default(), Map::new());
            for (key, value) in steps {
                if let Some(number) = value {
                    object.insert(key.clone(), WireValue::Number(number.into()));
                    map.insert(key.clone(), number.into());
                } else {
                    let removed = object.remove(&key).map(WireValue::into_value);
                    prop_assert_eq!(removed, map.remove(&key));
                }
                let found = object.get(&key).cloned().map(WireValue::into_value);
                prop_assert_eq!(found.as_ref(), map.get(&key));
            }
            prop_assert_eq!(object.into_map(), map);
        }
    }

    #[test]
    fn texts_are_borrowed_where_they_are_not_escaped() {
        let text = r#"{"plain": "a", "escaped\n": "b\n"}"#;
        let read: WireObject<'_> = serde_json::from_str(text).unwrap();
        let is_borrowed: Vec<bool> = read
            .into_iter()
            .flat_map(|(key, value)| {
                let WireValue::Text(text) = value else { panic!("{value:?}") };
                [key, text].map(|text| matches!(text, Cow::Borrowed(_)))
            })
            .collect();
        assert_eq!(is_borrowed, [false, false, true, true]);
    }

    #[test]
    fn what_stands_apart_is_not_hashed() {
        let read: WireObject<'_> =
            serde_json::from_str(r#"{"z": [3], "time": 2, "a": {"time": 1}}"#).unwrap();
        let whole = content_hash(&json!({"a": {"time": 1}, "time": 2, "z": [3]}));
        assert_eq!(read.content_hash_without(&[]), whole);
        assert_eq!(read.content_hash_without(&[None, Some("other")]), whole);
        let rest = content_hash(&json!({"a": {"time": 1}, "z": [3]}));
        assert_eq!(read.content_hash_without(&[None, Some("time")]), rest);
        assert_ne!(whole, rest);
    }

    #[test]
    fn what_serde_json_refuses_is_refused() {
        let deep = format!("{}{}", "[".repeat(130), "]".repeat(130));
        for text in ["{", "[1,]", "{\"a\":}", "\"\\ud800\"", "1e999", "nul", "{1:2}", deep.as_str()] {
            assert!(serde_json::from_str::<Value>(text).is_err(), "{text}");
            assert!(serde_json::from_str::<WireValue<'_>>(text).is_err(), "{text}");
        }
    }
}
