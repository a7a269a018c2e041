//! Lists: filters, orders and pages.
//!
//! A page token is a position in the list as it is when the token comes back: what came, went or moved within the order meanwhile has
//! shifted the rest. Whether Keap's are is not documented, and this is the harder case.

use super::super::cells::LINK_FIELD_ID;
use super::serve::{Served, answer, wire_of};
use super::{KeapRecord, KeapSide};
use keapsync_domain::ids::EntityType;
use keapsync_domain::timestamp::Timestamp;
use std::collections::BTreeMap;

/// The name by which filters know the custom field that carries row ids.
pub(in crate::simulation) const LINK_FIELD_NAME: &str = "keapsyncrowid";

impl KeapSide {
    pub(super) fn list(&mut self, entity: EntityType, query: &str) -> Served {
        let parameter = |name: &str| {
            query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('=')).map(decoded)
        };
        let filter = parameter("filter").unwrap_or_default();
        let order_by = parameter("order_by").unwrap_or_default();
        let mut ids = chosen(self.records(entity), entity, &filter);
        sort(&mut ids, self.records(entity), &order_by);
        let from = parameter("page_token").and_then(|token| token.parse::<usize>().ok()).unwrap_or(0);
        ids.drain(..from.min(ids.len()));
        let mut next_token = String::new();
        // A list of named records is never longer than a page.
        if ids.len() > self.page_size && !filter.contains("ids==") {
            ids.truncate(self.page_size);
            next_token = (from + ids.len()).to_string();
        }
        if self.short_pages > 0 && ids.len() > 1 {
            self.short_pages -= 1;
            ids.truncate(ids.len() / 2);
            next_token = (from + ids.len()).to_string();
        }
        let mut text = format!("{{\"{}\":[", entity.plural());
        let book = self.book(entity);
        for (position, id) in ids.iter().enumerate() {
            if position > 0 {
                text.push(',');
            }
            if let Some(record) = book.records.get_mut(id) {
                text.push_str(wire_of(*id, record));
            }
        }
        text.push_str("],\"next_page_token\":\"");
        text.push_str(&next_token);
        text.push_str("\"}");
        let shown = ids.into_iter().map(|id| (entity, id)).collect();
        Served { response: answer(200, text), change: None, shown }
    }
}

/// The ids of the records that every term of a filter holds for, in order of id.
fn chosen(records: &BTreeMap<u64, KeapRecord>, entity: EntityType, filter: &str) -> Vec<u64> {
    let terms: Vec<(&str, &str)> =
        filter.split(';').filter_map(|term| term.split_once("==").or_else(|| term.split_once('>'))).collect();
    let holds = |id: u64, record: &KeapRecord| {
        terms.iter().all(|(name, wanted)| is_wanted(entity, id, record, name, wanted))
    };
    records.iter().filter(|(id, record)| holds(**id, record)).map(|(id, _)| *id).collect()
}

fn is_wanted(entity: EntityType, id: u64, record: &KeapRecord, name: &str, wanted: &str) -> bool {
    let has = |column: &str| record.cells.columns().get(column).is_some_and(|held| held == wanted);
    match (entity, name) {
        (_, "ids" | "tag_ids") => wanted.split(',').any(|asked| asked.parse() == Ok(id)),
        (EntityType::Subscription, "contact_id") => record.cells.contact.to_string() == wanted,
        (EntityType::Subscription, "subscription_plan_id") => has("plan_id"),
        (EntityType::Tag, "name") => has("name"),
        (_, "contact_id" | "id") => id > wanted.parse().unwrap_or(0),
        (_, "start_update_time" | "modified_since_time" | "since_update_time") => {
            record.updated_at >= Timestamp::parse_rfc3339(wanted).unwrap_or_default()
        }
        (_, LINK_FIELD_NAME) => record.link.as_deref() == Some(wanted),
        _ => true,
    }
}

fn sort(ids: &mut [u64], records: &BTreeMap<u64, KeapRecord>, order_by: &str) {
    let changed_at = |id: &u64| records.get(id).map(|record| record.updated_at);
    match order_by {
        "modification_time desc" | "update_time desc" => {
            ids.sort_by_key(|id| (std::cmp::Reverse(changed_at(id)), *id));
        }
        "modification_time asc" | "update_time asc" => ids.sort_by_key(|id| (changed_at(id), *id)),
        "name asc" => ids.sort_by_key(|id| records.get(id).map(|record| record.cells.get(0))),
        _ => {}
    }
}

/// The field as the client knows it.
pub(in crate::simulation) fn link_field() -> keapsync_domain::wire::LinkField {
    keapsync_domain::wire::LinkField { id: LINK_FIELD_ID.to_owned(), field_name: LINK_FIELD_NAME.to_owned() }
}

fn decoded(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next().unwrap_or(b'0'), bytes.next().unwrap_or(b'0')];
            let code = std::str::from_utf8(&digits).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok());
            plain.push(code.unwrap_or(b'?'));
        } else {
            plain.push(byte);
        }
    }
    String::from_utf8(plain).unwrap_or_default()
}
