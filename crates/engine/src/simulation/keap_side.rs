//! Keap in memory: contacts, the requests that the client makes of them, tokens, and the hooks it sends.
//!
//! True to the published contract where the engine can tell: update times of a second's granularity by Keap's own clock, a
//! list that replaces the list, 404 for what was deleted, filters by id, by key, by update time and by the custom field,
//! pages with tokens. Ids are never given twice.

use super::cells::{CELLS, Cells, READ_ONLY, TAGS, ValueNumber, tag_bits};
use keapsync_domain::timestamp::Timestamp;
use keapsync_keap::transport::{Body, Method, Request, Response};
use serde_json::Value;
use std::collections::BTreeMap;

/// One contact.
#[derive(Clone, Debug)]
pub(super) struct Contact {
    /// What it holds.
    pub cells: Cells,
    /// The row that it was made from.
    pub link: Option<String>,
    updated_at: Timestamp,
    /// As it is sent, until the next change.
    wire: Option<String>,
}

/// A change that a request made, for the ledger and for hooks.
#[derive(Clone, Debug)]
pub(super) struct KeapChange {
    /// The contact.
    pub id: u64,
    /// Before; `None` for a new contact.
    pub before: Option<Cells>,
    /// After; `None` for a deleted one.
    pub after: Option<Cells>,
}

/// What a request came to.
pub(super) struct Served {
    /// The answer.
    pub response: Response,
    /// What it changed.
    pub change: Option<KeapChange>,
    /// Contacts whose values were in the answer.
    pub shown: Vec<u64>,
}

/// Keap.
#[derive(Debug)]
pub(super) struct KeapSide {
    /// Contacts that exist.
    pub contacts: BTreeMap<u64, Contact>,
    next_id: u64,
    /// Granularity of update times, in milliseconds.
    pub time_grain_ms: i64,
    /// Whether applying a tag moves a contact's update time: the contract does not say.
    pub tags_move_time: bool,
    /// The access token that is good.
    pub access_token: String,
    /// The refresh token that is good.
    pub refresh_token: String,
    tokens: u32,
    /// Lists are cut to half a page, with a token for the rest, this many times more.
    pub short_pages: u32,
    /// Calls that changed something for the engine.
    pub writes: u64,
    /// A row for which a contact was made while it had one.
    pub twice: Option<String>,
}

impl KeapSide {
    /// An empty Keap.
    pub(super) fn new(time_grain_ms: i64, tags_move_time: bool) -> Self {
        Self {
            contacts: BTreeMap::new(),
            next_id: 1,
            time_grain_ms,
            tags_move_time,
            access_token: "access-0".to_owned(),
            refresh_token: "refresh-0".to_owned(),
            tokens: 0,
            short_pages: 0,
            writes: 0,
            twice: None,
        }
    }

    fn grained(&self, now: Timestamp) -> Timestamp {
        Timestamp(now.0.div_euclid(self.time_grain_ms) * self.time_grain_ms)
    }

    /// Makes a contact.
    pub(super) fn add(&mut self, cells: Cells, link: Option<String>, now: Timestamp) -> KeapChange {
        let id = self.next_id;
        self.next_id += 1;
        // One that was deleted before its row learnt of it may be made again.
        if link.is_some() && self.contacts.values().any(|contact| contact.link == link) {
            self.twice.clone_from(&link);
        }
        let updated_at = self.grained(now);
        self.contacts.insert(id, Contact { cells, link, updated_at, wire: None });
        KeapChange { id, before: None, after: Some(cells) }
    }

    /// Changes a contact that exists.
    pub(super) fn edit(
        &mut self,
        id: u64,
        now: Timestamp,
        moves_time: bool,
        edit: impl FnOnce(&mut Contact),
    ) -> Option<KeapChange> {
        let updated_at = self.grained(now);
        let contact = self.contacts.get_mut(&id)?;
        let before = contact.cells;
        edit(contact);
        if moves_time {
            contact.updated_at = updated_at;
        }
        contact.wire = None;
        Some(KeapChange { id, before: Some(before), after: Some(contact.cells) })
    }

    /// Deletes a contact.
    pub(super) fn delete(&mut self, id: u64) -> Option<KeapChange> {
        self.contacts.remove(&id).map(|contact| KeapChange { id, before: Some(contact.cells), after: None })
    }

    /// Gives out new tokens.
    pub(super) fn grant(&mut self) -> (String, String) {
        self.tokens += 1;
        self.access_token = format!("access-{}", self.tokens);
        self.refresh_token = format!("refresh-{}", self.tokens);
        (self.access_token.clone(), self.refresh_token.clone())
    }

    /// Serves a request at `now` by Keap's clock.
    pub(super) fn serve(&mut self, request: &Request, now: Timestamp) -> Served {
        let (path, query) = request.url.split_once('?').unwrap_or((&request.url, ""));
        let path = path.strip_prefix("http://keap/rest/v2/").unwrap_or_default();
        let body = match &request.body {
            Body::Json(text) => serde_json::from_str(text).unwrap_or(Value::Null),
            _ => Value::Null,
        };
        if let Some((tag, action)) = path.strip_prefix("tags/").and_then(|rest| rest.split_once("/contacts:"))
        {
            return self.change_tag(tag, action, &body, now);
        }
        let id = path.strip_prefix("contacts/").and_then(|id| id.parse::<u64>().ok());
        match (request.method, id) {
            (Method::Get, Some(id)) => self.one(id, None),
            (Method::Get, None) => self.list(query),
            (Method::Post, None) => {
                let mut cells = Cells::default();
                let link = cells.take(&body, |name| body.get(name).is_some());
                self.writes += 1;
                let change = self.add(cells, link, now);
                self.one(change.id, Some(change))
            }
            (Method::Patch, Some(id)) => {
                let mask: Vec<&str> =
                    query.split('&').filter_map(|part| part.strip_prefix("update_mask=")).collect();
                self.writes += 1;
                let change = self.edit(id, now, true, |contact| {
                    let link = contact.cells.take(&body, |name| mask.contains(&name));
                    if mask.contains(&"custom_fields") {
                        contact.link = link;
                    }
                });
                self.one(id, change)
            }
            (Method::Delete, Some(id)) => {
                self.writes += 1;
                match self.delete(id) {
                    None => refused(404),
                    change => Served { response: answer(204, String::new()), change, shown: Vec::new() },
                }
            }
            _ => refused(405),
        }
    }

    fn change_tag(&mut self, tag: &str, action: &str, body: &Value, now: Timestamp) -> Served {
        let id = body["contact_ids"][0].as_str().and_then(|id| id.parse::<u64>().ok()).unwrap_or(0);
        let bit = tag_bits(|one| one == tag);
        self.writes += 1;
        let moves_time = self.tags_move_time;
        let change = self.edit(id, now, moves_time, |contact| {
            if action == "applyTags" {
                contact.cells.tags |= bit;
            } else {
                contact.cells.tags &= !bit;
            }
        });
        match change {
            None => refused(404),
            change => Served { response: answer(200, "{}".to_owned()), change, shown: Vec::new() },
        }
    }

    fn one(&mut self, id: u64, change: Option<KeapChange>) -> Served {
        match self.contacts.get_mut(&id) {
            Some(contact) => {
                Served { response: answer(200, wire_of(id, contact).to_owned()), change, shown: vec![id] }
            }
            None => refused(404),
        }
    }

    fn list(&mut self, query: &str) -> Served {
        let parameter = |name: &str| {
            query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('=')).map(decoded)
        };
        let filter = parameter("filter").unwrap_or_default();
        let (name, wanted) = filter.split_once("==").or_else(|| filter.split_once('>')).unwrap_or(("", ""));
        let mut ids: Vec<u64> = match name {
            "ids" => {
                let asked = wanted.split(',').filter_map(|id| id.parse::<u64>().ok());
                asked.filter(|id| self.contacts.contains_key(id)).collect()
            }
            "contact_id" => {
                let after = wanted.parse::<u64>().unwrap_or(0);
                self.contacts.range(after + 1..).map(|(id, _)| *id).collect()
            }
            "start_update_time" => {
                let since = Timestamp::parse_rfc3339(wanted).unwrap_or_default();
                let changed = self.contacts.iter().filter(|(_, contact)| contact.updated_at >= since);
                let mut changed: Vec<(Timestamp, u64)> =
                    changed.map(|(id, contact)| (contact.updated_at, *id)).collect();
                changed.sort_unstable();
                changed.into_iter().map(|(_, id)| id).collect()
            }
            "keapsyncrowid" => {
                let carry =
                    self.contacts.iter().filter(|(_, contact)| contact.link.as_deref() == Some(wanted));
                carry.map(|(id, _)| *id).collect()
            }
            _ => self.contacts.keys().copied().collect(),
        };
        // A page token is the position after the page: what comes or goes meanwhile shifts the rest, as Keap's does.
        let from = parameter("page_token").and_then(|token| token.parse::<usize>().ok()).unwrap_or(0);
        ids.drain(..from.min(ids.len()));
        let mut next_token = String::new();
        if self.short_pages > 0 && ids.len() > 1 {
            self.short_pages -= 1;
            ids.truncate(ids.len() / 2);
            next_token = (from + ids.len()).to_string();
        }
        let mut text = String::from("{\"contacts\":[");
        for (position, id) in ids.iter().enumerate() {
            if position > 0 {
                text.push(',');
            }
            if let Some(contact) = self.contacts.get_mut(id) {
                text.push_str(wire_of(*id, contact));
            }
        }
        text.push_str("],\"next_page_token\":\"");
        text.push_str(&next_token);
        text.push_str("\"}");
        Served { response: answer(200, text), change: None, shown: ids }
    }
}

fn wire_of(id: u64, contact: &mut Contact) -> &str {
    let Contact { cells, link, updated_at, wire } = contact;
    wire.get_or_insert_with(|| cells.to_wire(id, &updated_at.to_rfc3339(), link.as_deref()))
}

fn refused(status: u16) -> Served {
    let response = answer(status, format!("{{\"code\":{status},\"message\":\"no\"}}"));
    Served { response, change: None, shown: Vec::new() }
}

/// An answer without headers.
pub(super) fn answer(status: u16, body: String) -> Response {
    Response { status, headers: Vec::new(), body: body.into_bytes() }
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

/// A contact as a person in Keap would make it: all numbered values from `first` on.
pub(super) fn cells_from(first: ValueNumber) -> Cells {
    let mut cells = Cells::default();
    for (cell, value) in (0..CELLS).zip(first..) {
        if cell != 7 || first.is_multiple_of(2) {
            cells.set(cell, value);
        }
    }
    cells.set(READ_ONLY, if first.is_multiple_of(3) { cells.get(READ_ONLY) } else { 0 });
    cells.tags = u8::try_from(first % (1 << TAGS.len())).unwrap_or(0);
    cells
}
