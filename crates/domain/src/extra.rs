//! What Keap sent of a record and no field holds.

use crate::json::Json;
use crate::json_text;
use serde_json::{Map, Value};

/// Room for the text of most records' rest, in bytes, so that it need not grow.
const USUAL_BYTES: usize = 512;

/// What Keap sent of a record and no field holds: the text of a JSON object. It stays a text because all of it is stored and compared,
/// and hardly ever looked into.
///
/// Invariant: it is the text of a JSON object of which the keys stand in their order; nothing is the empty text. So two that say the
/// same mostly are the same text, and only where texts differ, as `-0.0` and the `0.0` that Postgres makes of it, are the objects compared.
#[derive(Clone, Debug, Default)]
pub struct Extra(String);

impl PartialEq for Extra {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 || self.to_object() == other.to_object()
    }
}

impl Extra {
    /// Writes an object, or says why Postgres would not take it.
    pub fn new(object: &Map<String, Value>) -> Result<Self, String> {
        Self::of::<Value>(object)
    }

    /// [`new`](Self::new) for an object of another holder.
    pub fn of<T: Json>(object: &T::Entries) -> Result<Self, String> {
        if T::entries(object).next().is_none() {
            return Ok(Self::default());
        }
        let mut text = String::with_capacity(USUAL_BYTES);
        json_text::put_object::<T>(&mut text, object, 1)?;
        Ok(Self(text))
    }

    /// What Postgres holds, which was refused by nothing: it may nest deeper than what is written today.
    #[must_use]
    pub fn of_stored(object: &Map<String, Value>) -> Self {
        if object.is_empty() {
            Self::default()
        } else {
            Self(serde_json::to_string(object).unwrap_or_default())
        }
    }

    /// The text of the object.
    #[must_use]
    pub fn as_str(&self) -> &str {
        if self.0.is_empty() { "{}" } else { &self.0 }
    }

    /// The object.
    #[must_use]
    pub fn to_object(&self) -> Map<String, Value> {
        // What was written here can be read.
        serde_json::from_str(self.as_str()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_is_read_again() {
        for value in [json!({}), json!({"b": [1, 1.0, null, {"x": "é\"\n"}], "a": {}})] {
            let object = value.as_object().unwrap();
            let extra = Extra::new(object).unwrap();
            assert_eq!(&extra.to_object(), object);
            assert_eq!(extra.as_str(), value.to_string());
        }
        assert_eq!(Extra::new(&Map::new()), Ok(Extra::default()));
    }

    #[test]
    fn what_says_the_same_is_equal_however_it_is_written() {
        let extra = |value: Value| Extra::new(value.as_object().unwrap()).unwrap();
        assert_eq!(extra(json!({"a": -0.0})), extra(json!({"a": 0.0})));
        assert_ne!(extra(json!({"a": 1.0})), extra(json!({"a": 1})));
        assert_ne!(extra(json!({"a": 1})), Extra::default());
    }

    #[test]
    fn what_is_stored_is_read_however_deep_it_nests() {
        let deep = (0..json_text::JSON_DEPTH_MAX + 20).fold(json!(1), |inner, _| json!({"a": inner}));
        let object = deep.as_object().unwrap();
        assert_eq!(&Extra::of_stored(object).to_object(), object);
        assert_eq!(Extra::of_stored(&Map::new()).as_str(), "{}");
    }

    #[test]
    fn what_postgres_does_not_take_is_refused() {
        let deep = (0..json_text::JSON_DEPTH_MAX).fold(json!(1), |inner, _| json!({"a": inner}));
        assert!(Extra::new(deep.as_object().unwrap()).is_ok());
        assert!(Extra::new(json!({"a": deep}).as_object().unwrap()).unwrap_err().contains("levels deep"));
        assert!(Extra::new(json!({"a": "\u{0}"}).as_object().unwrap()).unwrap_err().contains("NUL"));
    }
}
