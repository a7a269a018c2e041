//! What Keap sent of a record and no field holds.

use crate::json_text;
use serde_json::{Map, Value};

/// What Keap sent of a record and no field holds: the text of a JSON object. It stays a text because all of it is stored and compared,
/// and hardly ever looked into.
///
/// Invariant: Postgres takes it as `jsonb`, and two that say the same are the same text, for keys stand in their order and numbers and
/// texts are written in one way. Nothing is the empty text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extra(String);

impl Extra {
    /// Writes an object, or says why Postgres would not take it.
    pub fn new(object: &Map<String, Value>) -> Result<Self, String> {
        if object.is_empty() {
            return Ok(Self::default());
        }
        let mut text = String::new();
        json_text::put_object(&mut text, object, 1)?;
        Ok(Self(text))
    }

    /// Takes the text of an object of which the keys stand in their order, as [`json_text`] writes it.
    #[must_use]
    pub fn of_written(text: String) -> Self {
        Self(text)
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
    fn what_postgres_does_not_take_is_refused() {
        let deep = (0..json_text::JSON_DEPTH_MAX).fold(json!(1), |inner, _| json!({"a": inner}));
        assert!(Extra::new(deep.as_object().unwrap()).is_ok());
        assert!(Extra::new(json!({"a": deep}).as_object().unwrap()).unwrap_err().contains("levels deep"));
        assert!(Extra::new(json!({"a": "\u{0}"}).as_object().unwrap()).unwrap_err().contains("NUL"));
    }
}
