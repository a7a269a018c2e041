//! A Keap that holds contacts as wire objects and answers the requests that the engine makes.

use super::FakeClock;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_keap::transport::{Body, Method, Request, Response, Transport};
use serde_json::{Map, Value, json};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// What happens to one coming request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An answer of this status, and no effect.
    Status(u16),
    /// No answer; the effect stands.
    LostAnswer,
    /// No answer and no effect.
    LostRequest,
}

/// Keap in memory.
#[derive(Debug)]
pub struct FakeKeap<'a> {
    clock: &'a FakeClock,
    /// Contacts by id, without id and times.
    pub contacts: RefCell<BTreeMap<u64, Map<String, Value>>>,
    next_id: Cell<u64>,
    /// Faults of the coming writes, first one first.
    pub write_faults: RefCell<Vec<Fault>>,
    /// Requests that change something.
    pub writes: Cell<u32>,
    /// The last update mask that was sent.
    pub last_mask: RefCell<Vec<String>>,
    /// A property that is taken and not kept.
    pub unheeded: Cell<Option<&'static str>>,
    /// Tags that a person in Keap has deleted; all others exist.
    pub gone_tags: RefCell<Vec<String>>,
}

impl<'a> FakeKeap<'a> {
    /// An empty Keap.
    pub fn new(clock: &'a FakeClock) -> Self {
        Self {
            clock,
            contacts: RefCell::default(),
            next_id: Cell::new(1),
            write_faults: RefCell::default(),
            writes: Cell::new(0),
            last_mask: RefCell::default(),
            unheeded: Cell::default(),
            gone_tags: RefCell::default(),
        }
    }

    /// Makes a contact, as a person in Keap would.
    pub fn add(&self, fields: &Value) -> u64 {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let mut contact = fields.as_object().cloned().unwrap_or_default();
        contact.insert("update_time".to_owned(), self.clock.tick().to_rfc3339().into());
        self.contacts.borrow_mut().insert(id, contact);
        id
    }

    /// Changes a contact, as a person in Keap would.
    pub fn edit(&self, id: u64, fields: &Value) {
        let mut contacts = self.contacts.borrow_mut();
        let contact = contacts.entry(id).or_default();
        for (name, value) in fields.as_object().into_iter().flatten() {
            if value.is_null() || *value == json!("") || *value == json!([]) {
                contact.remove(name);
            } else {
                contact.insert(name.clone(), value.clone());
            }
        }
        contact.insert("update_time".to_owned(), self.clock.tick().to_rfc3339().into());
    }

    /// A value of a contact.
    pub fn value(&self, id: u64, name: &str) -> Value {
        self.contacts.borrow().get(&id).and_then(|contact| contact.get(name)).cloned().unwrap_or(Value::Null)
    }

    fn wire(id: u64, contact: &Map<String, Value>) -> Value {
        let mut wire = contact.clone();
        wire.insert("id".to_owned(), id.to_string().into());
        Value::Object(wire)
    }

    fn single(&self, id: u64) -> Response {
        match self.contacts.borrow().get(&id) {
            Some(contact) => answer(200, &Self::wire(id, contact)),
            None => no_such("contact"),
        }
    }

    fn list(&self, filter: &str) -> Response {
        let contacts = self.contacts.borrow();
        let (name, wanted) = filter.split_once("==").or_else(|| filter.split_once('>')).unwrap_or(("", ""));
        let found: Vec<Value> = contacts
            .iter()
            .filter(|(id, contact)| match name {
                "ids" => wanted.split(',').any(|one| one == id.to_string()),
                "contact_id" => **id > wanted.parse().unwrap_or(0),
                "start_update_time" => contact["update_time"].as_str() >= Some(wanted),
                "keapsyncrowid" => {
                    contact.get("custom_fields").and_then(Value::as_array).is_some_and(|fields| {
                        fields.iter().any(|field| field["id"] == "77" && field["content"] == wanted)
                    })
                }
                _ => true,
            })
            .map(|(id, contact)| Self::wire(*id, contact))
            .collect();
        answer(200, &json!({"contacts": found}))
    }

    fn is_gone(&self, tag: &str) -> bool {
        self.gone_tags.borrow().iter().any(|gone| gone == tag)
    }

    fn change(&self, request: &Request, path: &str) -> Response {
        let body: Value = match &request.body {
            Body::Json(text) => serde_json::from_str(text).unwrap(),
            _ => json!({}),
        };
        if let Some((tag, action)) = path.strip_prefix("tags/").and_then(|rest| rest.split_once("/contacts:"))
        {
            if self.is_gone(tag) {
                return no_such("tag");
            }
            let id: u64 = body["contact_ids"][0].as_str().unwrap().parse().unwrap();
            let mut tags: Vec<String> = serde_json::from_value(self.value(id, "tag_ids")).unwrap_or_default();
            tags.retain(|held| held != tag);
            if action == "applyTags" {
                tags.push(tag.to_owned());
            }
            self.edit(id, &json!({"tag_ids": tags}));
            return answer(200, &json!({}));
        }
        let id = path.strip_prefix("contacts/").and_then(|id| id.parse::<u64>().ok());
        match (request.method, id) {
            (Method::Post, None) => {
                let id = self.add(&json!({}));
                self.edit(id, &body);
                self.single(id)
            }
            (Method::Patch, Some(id)) => {
                let mask: Vec<String> = request
                    .url
                    .split(['?', '&'])
                    .filter_map(|part| part.strip_prefix("update_mask="))
                    .map(str::to_owned)
                    .collect();
                let masked: Map<String, Value> = mask
                    .iter()
                    .filter(|name| self.unheeded.get() != Some(name.as_str()))
                    .map(|name| (name.clone(), body.get(name).cloned().unwrap_or(Value::Null)))
                    .collect();
                self.edit(id, &Value::Object(masked));
                *self.last_mask.borrow_mut() = mask;
                self.single(id)
            }
            (Method::Delete, Some(id)) => {
                self.contacts.borrow_mut().remove(&id);
                answer(204, &Value::Null)
            }
            _ => answer(405, &json!({})),
        }
    }
}

impl Transport for FakeKeap<'_> {
    async fn send(&self, request: Request) -> Result<Response, Failure> {
        let (path, query) = request.url.split_once('?').unwrap_or((&request.url, ""));
        let path = path.strip_prefix("http://keap/rest/v2/").unwrap_or_default().to_owned();
        if request.method == Method::Get {
            if let Some(id) = path.strip_prefix("contacts/") {
                return Ok(self.single(id.parse().unwrap_or(0)));
            }
            if let Some(id) = path.strip_prefix("tags/") {
                let tag = json!({"id": id, "name": format!("Tag {id}")});
                return Ok(if self.is_gone(id) { no_such("tag") } else { answer(200, &tag) });
            }
            let filter = query.split('&').find_map(|part| part.strip_prefix("filter=")).unwrap_or_default();
            let filter =
                filter.replace("%3D", "=").replace("%3E", ">").replace("%2C", ",").replace("%3A", ":");
            return Ok(self.list(&filter));
        }
        let fault = if self.write_faults.borrow().is_empty() {
            None
        } else {
            Some(self.write_faults.borrow_mut().remove(0))
        };
        let no_answer = || Failure::new(FailureClass::Unavailable, "Keap could not be reached");
        match fault {
            Some(Fault::Status(status)) => return Ok(answer(status, &json!({"message": "fault"}))),
            Some(Fault::LostRequest) => return Err(no_answer()),
            Some(Fault::LostAnswer) | None => {}
        }
        self.writes.set(self.writes.get() + 1);
        let response = self.change(&request, &path);
        if fault == Some(Fault::LostAnswer) { Err(no_answer()) } else { Ok(response) }
    }
}

fn no_such(what: &str) -> Response {
    answer(404, &json!({"code": 404, "message": format!("no such {what}")}))
}

fn answer(status: u16, body: &Value) -> Response {
    Response { status, headers: Vec::new(), body: body.to_string().into_bytes() }
}
