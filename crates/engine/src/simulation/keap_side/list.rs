//! Lists: filters, orders and pages.

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
        let is_newest_first = query.contains("order_by=modification_time%20desc");
        let mut ids = chosen(self.records(entity), entity, &filter, is_newest_first);
        // A page token is the position after the page: what comes or goes meanwhile shifts the rest, as Keap's does.
        let from = parameter("page_token").and_then(|token| token.parse::<usize>().ok()).unwrap_or(0);
        ids.drain(..from.min(ids.len()));
        let mut next_token = String::new();
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

fn chosen(
    records: &BTreeMap<u64, KeapRecord>,
    entity: EntityType,
    filter: &str,
    is_newest_first: bool,
) -> Vec<u64> {
    let of = |holds: &dyn Fn(&KeapRecord) -> bool| -> Vec<u64> {
        records.iter().filter(|(_, record)| holds(record)).map(|(id, _)| *id).collect()
    };
    let (name, wanted) = filter.split_once("==").or_else(|| filter.split_once('>')).unwrap_or(("", ""));
    match (entity, name) {
        (_, "ids" | "tag_ids") => {
            let asked = wanted.split(',').filter_map(|id| id.parse::<u64>().ok());
            asked.filter(|id| records.contains_key(id)).collect()
        }
        (EntityType::Subscription, "contact_id") => {
            let (contact, plan) = wanted.split_once(";subscription_plan_id==").unwrap_or((wanted, ""));
            of(&|record| {
                record.cells.contact.to_string() == contact
                    && record.cells.columns().get("plan_id").is_some_and(|held| held == plan)
            })
        }
        (EntityType::Tag, "name") => {
            of(&|record| record.cells.columns().get("name").is_some_and(|held| held == wanted))
        }
        (_, "contact_id" | "id") => {
            let after = wanted.parse::<u64>().unwrap_or(0);
            records.range(after + 1..).map(|(id, _)| *id).collect()
        }
        (_, "start_update_time" | "modified_since_time" | "since_update_time") => {
            let since = Timestamp::parse_rfc3339(wanted).unwrap_or_default();
            let mut changed: Vec<(Timestamp, u64)> = records
                .iter()
                .filter(|(_, record)| record.updated_at >= since)
                .map(|(id, record)| (record.updated_at, *id))
                .collect();
            changed.sort_unstable();
            changed.into_iter().map(|(_, id)| id).collect()
        }
        (_, LINK_FIELD_NAME) => of(&|record| record.link.as_deref() == Some(wanted)),
        _ => {
            let mut all: Vec<(&KeapRecord, u64)> = records.iter().map(|(id, record)| (record, *id)).collect();
            if is_newest_first {
                all.sort_by_key(|(record, id)| (std::cmp::Reverse(record.updated_at), *id));
            } else if entity == EntityType::Tag {
                all.sort_by_key(|(record, _)| record.cells.get(0));
            }
            all.into_iter().map(|(_, id)| id).collect()
        }
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
