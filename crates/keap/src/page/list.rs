//! The envelope of Keap's lists, read item by item.

use super::RecordPage;
use keapsync_domain::remote::{RejectedRecord, RemoteRecord};
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer as _, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::Deserializer;
use std::fmt;

/// What reads one item.
type ReadItem<'r, T> = dyn Fn(T) -> Result<RemoteRecord, RejectedRecord> + 'r;

/// Reads a list, each item by `read`; nothing may follow it.
pub(super) fn read_list<'de, T: Deserialize<'de>>(
    text: &'de str,
    read: &ReadItem<'_, T>,
) -> Result<RecordPage, serde_json::Error> {
    let mut answer = Deserializer::from_str(text);
    let page = answer.deserialize_map(Envelope(read))?;
    answer.end()?;
    Ok(page)
}

struct Envelope<'r, T>(&'r ReadItem<'r, T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Envelope<'_, T> {
    type Value = RecordPage;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with a list of records")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut answer: A) -> Result<RecordPage, A::Error> {
        let (mut page, mut next_page_token) = (None, None);
        while let Some(key) = answer.next_key::<String>()? {
            match key.as_str() {
                "items" | "contacts" | "orders" | "tags" | "subscriptions" => {
                    if page.replace(answer.next_value_seed(Items(self.0))?).is_some() {
                        return Err(A::Error::duplicate_field("items"));
                    }
                }
                "next_page_token" => {
                    if next_page_token.replace(answer.next_value::<Option<String>>()?).is_some() {
                        return Err(A::Error::duplicate_field("next_page_token"));
                    }
                }
                _ => drop(answer.next_value::<IgnoredAny>()?),
            }
        }
        let next_page_token = next_page_token.flatten().filter(|token| !token.is_empty());
        Ok(RecordPage { next_page_token, ..page.unwrap_or_default() })
    }
}

struct Items<'r, T>(&'r ReadItem<'r, T>);

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Items<'_, T> {
    type Value = RecordPage;

    fn deserialize<D: serde::Deserializer<'de>>(self, items: D) -> Result<RecordPage, D::Error> {
        items.deserialize_seq(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<'_, T> {
    type Value = RecordPage;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<RecordPage, A::Error> {
        let mut page = RecordPage::default();
        let mut last_id: Option<u64> = None;
        while let Some(item) = items.next_element()? {
            page.length += 1;
            let id = match (self.0)(item) {
                Ok(record) => {
                    let id = record.keap_id.parse().ok();
                    page.records.push(record);
                    id
                }
                Err(rejected) => {
                    let id = rejected.keap_id.as_ref().and_then(|id| id.parse().ok());
                    page.rejected.push(rejected);
                    id
                }
            };
            last_id = last_id.max(id);
        }
        page.last_id = last_id.map(|id| id.to_string());
        Ok(page)
    }
}
