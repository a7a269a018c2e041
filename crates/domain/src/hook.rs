//! Keap's REST hook deliveries: what a body says, in the forms that are accepted.
//!
//! A delivery is a hint that an object changed; nothing in it but the kind of event and the object's id is used. Keap's
//! documentation gives `{"event_key","object_type","object_keys":[{"id","apiUrl","timestamp"}]}`; proxies and tests send
//! the plainer `{"eventType","objectKeys":["123"]}` and `{"event_type","data":{"id"}}`. `apiUrl` is never followed.

use crate::ids::{EntityType, is_keap_id};
use crate::limits::WEBHOOK_OBJECTS_MAX;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Longest event key, in characters.
const EVENT_KEY_LENGTH_MAX: usize = 64;

/// What a delivery says, checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// `contact.edit` and the like, as Keap names it.
    pub event_key: String,
    /// Ids of the objects, in the order of the delivery, without repetition.
    pub object_ids: Vec<String>,
    /// Ids of contacts that the event names beside its objects (tag events).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contact_ids: Vec<String>,
}

/// Why a body is not a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedDelivery {
    /// The body is not JSON.
    #[error("the body is not valid JSON")]
    NotJson,
    /// No event is named.
    #[error(
        "the body names no event: give event_key, eventType or event_type as letters, digits, '.' and '_'"
    )]
    NoEvent,
    /// No object is named.
    #[error("the body names no object: give object_keys, objectKeys or data.id")]
    NoObject,
    /// An id is not a number.
    #[error("an object id is not a number of up to 19 digits")]
    InvalidId,
    /// More objects than one delivery may hold.
    #[error("a delivery names at most {WEBHOOK_OBJECTS_MAX} objects")]
    TooManyObjects,
}

impl Delivery {
    /// Reads a body.
    pub fn parse(body: &[u8]) -> Result<Self, MalformedDelivery> {
        let value: Value = serde_json::from_slice(body).map_err(|_| MalformedDelivery::NotJson)?;
        let event_key = ["event_key", "eventType", "event_type"]
            .into_iter()
            .find_map(|name| value.get(name).and_then(Value::as_str))
            .filter(|text| is_event_key(text))
            .ok_or(MalformedDelivery::NoEvent)?
            .to_owned();
        let keys: Vec<&Value> = match value.get("object_keys").or_else(|| value.get("objectKeys")) {
            Some(Value::Array(keys)) => keys.iter().collect(),
            Some(_) => return Err(MalformedDelivery::NoObject),
            None => value.get("data").into_iter().collect(),
        };
        if keys.is_empty() {
            return Err(MalformedDelivery::NoObject);
        }
        if keys.len() > WEBHOOK_OBJECTS_MAX {
            return Err(MalformedDelivery::TooManyObjects);
        }
        let mut delivery =
            Self { event_key, object_ids: Vec::with_capacity(keys.len()), contact_ids: Vec::new() };
        for key in keys {
            delivery.object_ids.push(id_of(key.get("id").or_else(|| key.get("tagId")).unwrap_or(key))?);
            for name in ["contact_details", "applied", "removed"] {
                for contact in key.get(name).and_then(Value::as_array).into_iter().flatten() {
                    delivery.contact_ids.push(id_of(contact.get("id").unwrap_or(contact))?);
                }
            }
        }
        without_repetition(&mut delivery.object_ids);
        without_repetition(&mut delivery.contact_ids);
        Ok(delivery)
    }

    /// The mirrored records that the event concerns: empty for kinds that are not synced.
    #[must_use]
    pub fn concerned(&self) -> Vec<(EntityType, &str)> {
        let (entity, ids) = match self.event_key.split_once('.') {
            Some(("contact", _)) => (EntityType::Contact, &self.object_ids),
            // A tag was applied to or removed from contacts: their `tags` changed.
            Some(("contactGroup", "applied" | "removed")) => (EntityType::Contact, &self.contact_ids),
            Some(("contactGroup", _)) => (EntityType::Tag, &self.object_ids),
            Some(("order", _)) => (EntityType::Order, &self.object_ids),
            Some(("subscription", _)) => (EntityType::Subscription, &self.object_ids),
            _ => return Vec::new(),
        };
        ids.iter().map(|id| (entity, id.as_str())).collect()
    }
}

impl Delivery {
    /// Whether the tags of contacts changed that the event does not name.
    #[must_use]
    pub fn is_about_unnamed_contacts(&self) -> bool {
        matches!(self.event_key.as_str(), "contactGroup.applied" | "contactGroup.removed")
            && self.contact_ids.is_empty()
    }
}

fn is_event_key(text: &str) -> bool {
    (1..=EVENT_KEY_LENGTH_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'_')
}

fn id_of(value: &Value) -> Result<String, MalformedDelivery> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Null => return Err(MalformedDelivery::NoObject),
        _ => return Err(MalformedDelivery::InvalidId),
    };
    if is_keap_id(&text) { Ok(text) } else { Err(MalformedDelivery::InvalidId) }
}

fn without_repetition(ids: &mut Vec<String>) {
    let mut seen = std::collections::HashSet::new();
    ids.retain(|id| seen.insert(id.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Delivery, MalformedDelivery> {
        Delivery::parse(text.as_bytes())
    }

    #[test]
    fn accepts_the_three_forms() {
        for body in [
            r#"{"event_key":"contact.edit","object_type":"contact","object_keys":[{"id":12,"apiUrl":"https://x","timestamp":"t"},{"id":12}]}"#,
            r#"{"eventType":"contact.edit","objectKeys":["12"]}"#,
            r#"{"event_type":"contact.edit","data":{"id":"12"}}"#,
        ] {
            let delivery = parse(body).unwrap();
            assert_eq!(delivery.concerned(), [(EntityType::Contact, "12")], "{body}");
        }
    }

    #[test]
    fn tag_events_concern_the_contacts_they_name() {
        let named = r#"{"event_key":"contactGroup.applied","object_keys":[{"id":5,"contact_details":[{"id":1},{"id":2}]}]}"#;
        assert_eq!(parse(named).unwrap().concerned().len(), 2);
        let older = r#"{"event_key":"contactGroup.applied","object_keys":[{"tagId":5,"applied":[1,2,3]}]}"#;
        assert_eq!(parse(older).unwrap().concerned().len(), 3);
        assert!(!parse(older).unwrap().is_about_unnamed_contacts());
        for unnamed in [
            r#"{"event_key":"contactGroup.applied","object_keys":[{"id":5}]}"#,
            r#"{"event_key":"contactGroup.removed","object_keys":[{"id":5,"contact_details":[]}]}"#,
        ] {
            let delivery = parse(unnamed).unwrap();
            assert!(delivery.is_about_unnamed_contacts() && delivery.concerned().is_empty());
        }
        assert!(
            !parse(r#"{"event_key":"contactGroup.edit","object_keys":[5]}"#)
                .unwrap()
                .is_about_unnamed_contacts()
        );
        assert!(
            parse(r#"{"event_key":"task.add","object_keys":[{"id":5}]}"#).unwrap().concerned().is_empty()
        );
    }

    #[test]
    fn names_what_is_wrong() {
        for (body, error) in [
            ("", MalformedDelivery::NotJson),
            ("[]", MalformedDelivery::NoEvent),
            (r#"{"event_key":"","object_keys":[1]}"#, MalformedDelivery::NoEvent),
            (r#"{"event_key":"contact.edit\n","object_keys":[1]}"#, MalformedDelivery::NoEvent),
            (r#"{"event_key":"contact.edit"}"#, MalformedDelivery::NoObject),
            (r#"{"event_key":"contact.edit","object_keys":[]}"#, MalformedDelivery::NoObject),
            (r#"{"event_key":"contact.edit","object_keys":{"id":1}}"#, MalformedDelivery::NoObject),
            (r#"{"event_key":"contact.edit","object_keys":["one"]}"#, MalformedDelivery::InvalidId),
            (r#"{"event_key":"contact.edit","object_keys":[{"id":-4}]}"#, MalformedDelivery::InvalidId),
            (r#"{"event_key":"contact.edit","object_keys":[{"id":[1]}]}"#, MalformedDelivery::InvalidId),
        ] {
            assert_eq!(parse(body), Err(error), "{body}");
        }
        let ids: Vec<String> = (1..=1001).map(|id| id.to_string()).collect();
        let body = serde_json::json!({"eventType": "contact.edit", "objectKeys": ids}).to_string();
        assert_eq!(parse(&body), Err(MalformedDelivery::TooManyObjects));
    }

    proptest! {
        #[test]
        fn never_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Delivery::parse(&body);
        }
    }
}
