//! The way to the simulated Keap, which remembers what every write sent and what it changed.

use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::EntityType;
use keapsync_domain::record::Record;
use keapsync_domain::remote::RemoteRecord;
use keapsync_domain::secret::Secret;
use keapsync_domain::timestamp::Timestamp;
use keapsync_domain::wire::LinkFields;
use keapsync_keap::caller::Caller;
use keapsync_keap::records::{Links, RecordsApi};
use keapsync_keap::transport::{Body, Credential, Method, Request, Response, Transport};
use keapsync_keap_sim::InProcess;
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use crate::mutation::Mutation;

/// The root of the API; only its path counts.
pub const BASE_URL: &str = "http://keap/crm";

/// Requests as they are, for the oracle's own looks.
pub struct Plain(pub InProcess);

impl Transport for Plain {
    async fn send(&self, request: Request) -> Result<Response, Failure> {
        let path = request.url.strip_prefix("http://keap").unwrap_or(&request.url);
        let (Credential::Bearer(secret) | Credential::Basic(secret)) = &request.credential;
        let body = match request.body {
            Body::Json(text) => Some(text),
            Body::Empty | Body::Form(_) => None,
        };
        match self.0.send(request.method.as_str(), path, secret.reveal(), body).await {
            Some(answer) => {
                Ok(Response { status: answer.status, headers: answer.headers, body: answer.body })
            }
            None => Err(Failure::new(FailureClass::Unavailable, "Keap gave no answer")),
        }
    }
}

/// What became of a call on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is refused before it has an effect.
    Refused,
    /// It has its effect, and the answer is lost.
    AnswerLost,
}

/// A write that Keap took.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Method and path.
    pub call: String,
    /// Kind of record.
    pub entity: EntityType,
    /// Keap's id; empty for a new record.
    pub keap_id: String,
    /// What was sent.
    pub body: Value,
    /// What Keap held before, and its rest.
    pub before: Option<RemoteRecord>,
    /// What it holds after.
    pub after: Option<RemoteRecord>,
    /// Whether the answer was lost.
    pub is_answer_lost: bool,
}

/// The engine's way to Keap.
pub struct Keap {
    /// The simulator.
    pub plain: Plain,
    /// The service key.
    pub key: Secret,
    /// The fields that carry row ids.
    pub links: LinkFields,
    /// Writes since they were last taken.
    pub sent: RefCell<Vec<Sent>>,
    /// What becomes of the write after so many more.
    pub fault: Cell<Option<(u32, Fault)>>,
    /// The time.
    pub now_ms: Cell<i64>,
    /// A mistake that is planted.
    pub mutation: Mutation,
    /// Calls made by the engine.
    pub calls: Cell<u64>,
    /// What Keap was seen to hold since it last changed.
    pub seen: RefCell<HashMap<(EntityType, String), RemoteRecord>>,
}

impl Keap {
    /// A person's call of the control API; the answer's body, where it succeeded.
    pub async fn person(&self, method: &str, path: &str, body: Option<&Value>) -> Option<Value> {
        self.seen.borrow_mut().clear();
        let path = format!("/sim/tenants/demo{path}");
        let answer = self.plain.0.send(method, &path, "", body.map(Value::to_string)).await?;
        if !(200..300).contains(&answer.status) {
            return None;
        }
        Some(serde_json::from_slice(&answer.body).unwrap_or_default())
    }

    /// What Keap holds, read without being noticed.
    pub async fn held(&self, entity: EntityType, keap_id: &str) -> Option<RemoteRecord> {
        let key = (entity, keap_id.to_owned());
        if let Some(seen) = self.seen.borrow().get(&key) {
            return Some(seen.clone());
        }
        let caller = Caller { transport: &self.plain, base_url: BASE_URL, access_token: &self.key };
        let api = RecordsApi::new(caller, Links::of(&self.links));
        let held = api.get(entity, keap_id, Timestamp(self.now_ms.get())).await.ok().flatten()?;
        self.seen.borrow_mut().insert(key, held.clone());
        Some(held)
    }

    fn faulty(&self) -> Option<Fault> {
        let (left, fault) = self.fault.get()?;
        self.fault.set(left.checked_sub(1).map(|left| (left, fault)));
        (left == 0).then_some(fault)
    }
}

/// The record that a write is about: its kind and Keap's id, empty for a new one.
fn subject(path: &str, body: &Value) -> Option<(EntityType, String)> {
    let path = path.split('?').next()?.strip_prefix("http://keap/crm/rest/v2/")?;
    let mut steps = path.split('/');
    let (kind, id) = (steps.next()?, steps.next().unwrap_or_default());
    let is_application = steps.next().is_some_and(|step| step.starts_with("contacts:"));
    if is_application {
        let contact = body.get("contact_ids")?.get(0)?;
        return Some((EntityType::Contact, contact.as_str()?.to_owned()));
    }
    let entity = EntityType::ALL.into_iter().find(|entity| entity.plural() == kind)?;
    let id = id.split(':').next().unwrap_or_default();
    (id.is_empty() || id.bytes().all(|byte| byte.is_ascii_digit())).then(|| (entity, id.to_owned()))
}

impl Transport for Keap {
    async fn send(&self, request: Request) -> Result<Response, Failure> {
        self.calls.set(self.calls.get() + 1);
        if request.method == Method::Get {
            return self.plain.send(request).await;
        }
        let fault = self.faulty();
        if fault == Some(Fault::Refused) {
            return Err(Failure::new(FailureClass::Unavailable, "Keap is away"));
        }
        let body = match &request.body {
            Body::Json(text) => serde_json::from_str(text).unwrap_or_default(),
            Body::Empty | Body::Form(_) => Value::Null,
        };
        let subject = subject(&request.url, &body);
        let before = match &subject {
            Some((entity, id)) if !id.is_empty() => self.held(*entity, id).await,
            _ => None,
        };
        let request = self.mutation.of_request(request, before.as_ref());
        let body = match &request.body {
            Body::Json(text) => serde_json::from_str(text).unwrap_or_default(),
            Body::Empty | Body::Form(_) => Value::Null,
        };
        let path = request.url.split('?').next().unwrap_or_default();
        let call = format!("{} {}", request.method.as_str(), path.trim_start_matches("http://keap/crm/rest"));
        let response = self.plain.send(request).await?;
        if let Some((entity, keap_id)) = subject.filter(|_| (200..300).contains(&response.status)) {
            self.seen.borrow_mut().remove(&(entity, keap_id.clone()));
            let after = if keap_id.is_empty() { None } else { self.held(entity, &keap_id).await };
            self.sent.borrow_mut().push(Sent {
                call,
                entity,
                keap_id,
                body,
                before,
                after,
                is_answer_lost: fault == Some(Fault::AnswerLost),
            });
        }
        if fault == Some(Fault::AnswerLost) {
            return Err(Failure::new(FailureClass::Unavailable, "the answer was lost"));
        }
        Ok(response)
    }
}

/// The call of the control API by which a person sets a part in Keap's own screens.
#[must_use]
pub fn control_call(
    entity: EntityType,
    keap_id: &str,
    path: &str,
    value: &Value,
    there: &Record,
) -> (&'static str, String, Value) {
    let at = |suffix: &str| format!("/{}/{keap_id}{suffix}", entity.plural());
    let steps: Vec<&str> = path.split('.').collect();
    let body = match (entity, steps.as_slice()) {
        (EntityType::Contact, ["first_name"]) => serde_json::json!({"given_name": value}),
        (EntityType::Contact, ["email"]) => {
            serde_json::json!({"email_addresses": [{"field": "EMAIL1", "email": value}]})
        }
        (EntityType::Contact, ["emails", slot, _]) => {
            serde_json::json!({"email_addresses": [{"field": slot, "email": value}]})
        }
        (EntityType::Contact, ["phones", slot, _]) => {
            serde_json::json!({"phone_numbers": [{"field": slot, "number": value}]})
        }
        (EntityType::Contact, ["addresses", slot, _]) => {
            serde_json::json!({"addresses": [{"field": slot, "line1": value, "locality": "Mesa"}]})
        }
        (EntityType::Contact, ["custom_fields", id]) => {
            serde_json::json!({"custom_fields": [{"id": id, "content": value}]})
        }
        (_, ["custom_fields", id]) => {
            let mut items: Vec<Value> = Vec::new();
            let held = there.get_by_name("custom_fields").as_object();
            for (known, content) in held.into_iter().flatten().filter(|(known, _)| known != id) {
                items.push(serde_json::json!({"id": known, "content": content}));
            }
            items.push(serde_json::json!({"id": id, "content": value}));
            serde_json::json!({"custom_fields": items})
        }
        (EntityType::Order, ["line_items", line, key]) => {
            return ("PATCH", at(&format!("/items/{line}")), serde_json::json!({*key: value}));
        }
        (EntityType::Order, ["title"]) => serde_json::json!({"order_title": value}),
        (EntityType::Subscription, ["cancel_reason"]) => serde_json::json!({"reason_stopped": value}),
        (_, [name, ..]) => serde_json::json!({*name: value}),
        _ => Value::Null,
    };
    let suffix = if entity == EntityType::Contact { "?keep_others=true" } else { "" };
    ("PATCH", at(suffix), body)
}
