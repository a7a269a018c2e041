//! A contact in the form that answers are cut from.
//!
//! A record keeps the contact's JSON as one run of `"name":value` fragments with the end of each, so any choice of
//! `fields` is served by copying bytes: a page of 1000 contacts costs well under a millisecond of copying. The typed
//! contact is decoded only to change it or to test a rare filter.

use serde::de::DeserializeOwned;

use super::contact::{Contact, Property};

/// One stored contact.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) id: u64,
    pub(crate) create_ms: i64,
    pub(crate) update_ms: i64,
    /// `EMAIL1` in lower case, or empty.
    pub(crate) email: Box<str>,
    fragments: Box<[u8]>,
    /// Where the fragment of the property at the same place in [`Property::ALL`] ends.
    ends: Box<[u32]>,
}

impl Record {
    /// Renders the contact. The caller has set its id and times.
    pub(crate) fn new(id: u64, create_ms: i64, update_ms: i64, contact: &Contact) -> Self {
        let mut fragments = Vec::with_capacity(1536);
        let mut ends = Vec::with_capacity(Property::ALL.len());
        contact.for_each_property(|property, value| {
            if let Some(value) = value {
                fragments.push(b'"');
                fragments.extend_from_slice(property.name().as_bytes());
                fragments.extend_from_slice(b"\":");
                value.write_json(&mut fragments);
            }
            // A body is bounded by the server's request limit, far below 4 GiB.
            ends.push(u32::try_from(fragments.len()).unwrap_or(u32::MAX));
        });
        Self {
            id,
            create_ms,
            update_ms,
            email: contact.primary_email().into(),
            fragments: fragments.into(),
            ends: ends.into(),
        }
    }

    fn fragment(&self, property: Property) -> &[u8] {
        let index = property as usize;
        let end_of = |place: usize| self.ends.get(place).map_or(0, |end| *end as usize);
        let start = index.checked_sub(1).map_or(0, end_of);
        self.fragments.get(start..end_of(index)).unwrap_or_default()
    }

    /// Appends the JSON object with the chosen properties, as far as they have a value.
    pub(crate) fn write(&self, properties: &[Property], out: &mut Vec<u8>) {
        out.push(b'{');
        let mut is_first = true;
        for property in properties {
            let fragment = self.fragment(*property);
            if fragment.is_empty() {
                continue;
            }
            if !is_first {
                out.push(b',');
            }
            is_first = false;
            out.extend_from_slice(fragment);
        }
        out.push(b'}');
    }

    /// The value of one property; `None` when the contact has none.
    pub(crate) fn value<T: DeserializeOwned>(&self, property: Property) -> Option<T> {
        // A fragment is `"name":value`: two quotes and a colon around the name.
        let value = self.fragment(property).get(property.name().len() + 3..)?;
        serde_json::from_slice(value).ok()
    }

    /// The whole contact, for changing it.
    pub(crate) fn contact(&self) -> Contact {
        let mut json = Vec::with_capacity(self.fragments.len() + 64);
        self.write(Property::ALL, &mut json);
        serde_json::from_slice(&json).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::contact::EmailAddress;

    fn contact() -> Contact {
        Contact {
            id: Some("7".to_owned()),
            given_name: Some("Zoë \"Z\"".to_owned()),
            email_addresses: Some(vec![EmailAddress {
                email: Some("Zoe@Example.com".to_owned()),
                field: Some("EMAIL1".to_owned()),
                ..EmailAddress::default()
            }]),
            tag_ids: Some(vec!["3".to_owned()]),
            ..Contact::default()
        }
    }

    #[test]
    fn a_record_gives_back_the_contact() {
        let record = Record::new(7, 1, 2, &contact());
        assert_eq!(record.contact(), contact());
        assert_eq!(&*record.email, "zoe@example.com");
    }

    #[test]
    fn chosen_properties_come_in_the_order_asked_and_absent_ones_are_left_out() {
        let record = Record::new(7, 1, 2, &contact());
        let mut out = Vec::new();
        record.write(&[Property::TagIds, Property::Website, Property::Id], &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), r#"{"tag_ids":["3"],"id":"7"}"#);
    }

    #[test]
    fn one_value_is_read_without_the_rest() {
        let record = Record::new(7, 1, 2, &contact());
        assert_eq!(record.value::<String>(Property::GivenName).as_deref(), Some("Zoë \"Z\""));
        assert_eq!(record.value::<String>(Property::Website), None);
    }
}
