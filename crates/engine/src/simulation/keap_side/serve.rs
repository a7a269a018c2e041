//! The requests that the client makes, and Keap's answers.

use super::super::cells::{Cells, tag_bits};
use super::{KeapChange, KeapRecord, KeapSide};
use keapsync_domain::ids::EntityType;
use keapsync_domain::timestamp::Timestamp;
use keapsync_keap::transport::{Body, Method, Request, Response};
use serde_json::Value;

/// The one product, and the plans of it that a list tells.
const PRODUCTS: &str = "{\"products\":[{\"id\":\"3\",\"name\":\"Box\",\"price\":{\"amount\":5,\"currency_code\":\"USD\"},\
    \"subscription_plans\":[]}]}";

/// What a request came to.
pub(in crate::simulation) struct Served {
    /// The answer.
    pub response: Response,
    /// What it changed.
    pub change: Option<KeapChange>,
    /// Records whose values were in the answer.
    pub shown: Vec<(EntityType, u64)>,
}

impl KeapSide {
    /// Serves a request at `now` by Keap's clock.
    pub(in crate::simulation) fn serve(&mut self, request: &Request, now: Timestamp) -> Served {
        let (path, query) = request.url.split_once('?').unwrap_or((&request.url, ""));
        let path = path.strip_prefix("http://keap/rest/v2/").unwrap_or_default();
        let body = match &request.body {
            Body::Json(text) => serde_json::from_str(text).unwrap_or(Value::Null),
            _ => Value::Null,
        };
        let (name, rest) = path.split_once('/').unwrap_or((path, ""));
        let entity = match name {
            "contacts" => EntityType::Contact,
            "orders" => EntityType::Order,
            "tags" => EntityType::Tag,
            "subscriptions" => EntityType::Subscription,
            "products" => return said(PRODUCTS),
            _ => return refused(405),
        };
        if rest.is_empty() {
            return match request.method {
                Method::Get => self.list(entity, query),
                Method::Post => self.create(entity, &body, now),
                _ => refused(405),
            };
        }
        if let Some(id) = rest.strip_suffix(":deactivate") {
            return self.deactivate(number(id), &body, now);
        }
        if let Some((id, below)) = rest.split_once('/') {
            let id = number(id);
            return match (entity, below.strip_prefix("contacts:")) {
                (EntityType::Tag, Some(action)) => self.change_tag(id, action, &body, now),
                (EntityType::Order, _) => self.change_lines(request.method, id, below, &body, now),
                _ => refused(405),
            };
        }
        let id = number(rest);
        match request.method {
            Method::Get => self.one(entity, id, None),
            Method::Patch => {
                let mask: Vec<&str> =
                    query.split('&').filter_map(|part| part.strip_prefix("update_mask=")).collect();
                if entity == EntityType::Tag && self.is_name_taken(&body, id) {
                    return refused(409);
                }
                self.writes += 1;
                let change = self.edit(entity, id, now, true, |record| {
                    let link = record.cells.take(&body, |name| mask.contains(&name));
                    if mask.contains(&"custom_fields") {
                        record.link = link;
                    }
                });
                self.one(entity, id, change)
            }
            Method::Delete if entity == EntityType::Subscription => refused(405),
            Method::Delete => {
                self.writes += 1;
                match self.delete(entity, id, now) {
                    None => refused(404),
                    change => done(204, "", change),
                }
            }
            _ => refused(405),
        }
    }

    fn create(&mut self, entity: EntityType, body: &Value, now: Timestamp) -> Served {
        let mut cells = Cells::empty(entity);
        let link = cells.take(body, |name| body.get(name).is_some());
        if entity == EntityType::Subscription && body.get("active").is_none() {
            cells.flags = 1;
        }
        let is_of_contact = matches!(entity, EntityType::Order | EntityType::Subscription);
        if is_of_contact && self.cells(EntityType::Contact, cells.contact).is_none() {
            return refused(400);
        }
        let is_held = match entity {
            EntityType::Tag => self.is_name_taken(body, 0),
            EntityType::Subscription => self.records(entity).values().any(|held| {
                held.cells.flags != 0
                    && (held.cells.contact, held.cells.get(0)) == (cells.contact, cells.get(0))
            }),
            EntityType::Contact | EntityType::Order => false,
        };
        if is_held {
            return refused(409);
        }
        self.writes += 1;
        let change = self.add(cells, link, now);
        self.one(entity, change.id, Some(change))
    }

    /// Whether another tag has the name that a body gives.
    fn is_name_taken(&self, body: &Value, id: u64) -> bool {
        let Some(name) = body.get("name") else { return false };
        let mut wanted = Cells::empty(EntityType::Tag);
        wanted.take(&serde_json::json!({"name": name}), |property| property == "name");
        let mut tags = self.records(EntityType::Tag).iter();
        tags.any(|(other, tag)| *other != id && tag.cells.get(0) == wanted.get(0))
    }

    fn change_tag(&mut self, tag: u64, action: &str, body: &Value, now: Timestamp) -> Served {
        if self.cells(EntityType::Tag, tag).is_none() {
            return refused(404);
        }
        let id = body["contact_ids"][0].as_str().map_or(0, number);
        let bit = tag_bits(|one| number(one) == tag);
        self.writes += 1;
        let moves_time = self.tags_move_time;
        let change = self.edit(EntityType::Contact, id, now, moves_time, |contact| {
            if action == "applyTags" {
                contact.cells.flags |= bit;
            } else {
                contact.cells.flags &= !bit;
            }
        });
        match change {
            None => refused(404),
            change => done(200, "{}", change),
        }
    }

    fn deactivate(&mut self, id: u64, body: &Value, now: Timestamp) -> Served {
        self.writes += 1;
        let change = self.edit(EntityType::Subscription, id, now, true, |subscription| {
            subscription.cells.flags = 0;
            let reason = serde_json::json!({"reason_stopped": body["reason"]});
            subscription.cells.take(&reason, |name| name == "reason_stopped");
        });
        match change {
            None => refused(404),
            change => done(200, "", change),
        }
    }

    fn change_lines(&mut self, method: Method, id: u64, below: &str, body: &Value, now: Timestamp) -> Served {
        let mut one = Cells::empty(EntityType::Order);
        one.take(&serde_json::json!({"order_items": [body]}), |name| name == "order_items");
        let value = one.lines.iter().next().map_or(0, |line| line.value);
        self.writes += 1;
        let Some(line_id) = below.strip_prefix("items/").map(number) else {
            return match self.add_line(id, value, now) {
                None => refused(404),
                Some((line_id, change)) => done(201, &format!("{{\"id\":\"{line_id}\"}}"), Some(change)),
            };
        };
        let holds = self
            .cells(EntityType::Order, id)
            .is_some_and(|order| order.lines.iter().any(|line| line.id == line_id));
        if !holds {
            return refused(404);
        }
        let change = self.edit(EntityType::Order, id, now, true, |order| match method {
            Method::Delete => order.cells.lines.retain(|_, line| line.id != line_id),
            _ => {
                if let Some(line) = order.cells.lines.of_id_mut(line_id) {
                    line.value = value;
                }
            }
        });
        done(if method == Method::Delete { 204 } else { 200 }, "{}", change)
    }

    fn one(&mut self, entity: EntityType, id: u64, change: Option<KeapChange>) -> Served {
        match self.book(entity).records.get_mut(&id) {
            Some(record) => Served {
                response: answer(200, wire_of(id, record).to_owned()),
                change,
                shown: vec![(entity, id)],
            },
            None => refused(404),
        }
    }
}

fn number(id: &str) -> u64 {
    id.parse().unwrap_or(0)
}

pub(super) fn wire_of(id: u64, record: &mut KeapRecord) -> &str {
    let KeapRecord { cells, link, updated_at, unread_since, wire } = record;
    *unread_since = None;
    wire.get_or_insert_with(|| cells.wire(id, &updated_at.to_rfc3339(), link.as_deref()))
}

fn refused(status: u16) -> Served {
    done(status, &format!("{{\"code\":{status},\"message\":\"no\"}}"), None)
}

fn said(text: &str) -> Served {
    done(200, text, None)
}

fn done(status: u16, text: &str, change: Option<KeapChange>) -> Served {
    Served { response: answer(status, text.to_owned()), change, shown: Vec::new() }
}

/// An answer without headers.
pub(in crate::simulation) fn answer(status: u16, body: String) -> Response {
    Response { status, headers: Vec::new(), body: body.into_bytes() }
}
