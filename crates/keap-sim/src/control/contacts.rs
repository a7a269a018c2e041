//! Contacts as a person changes them in Keap's own screens, and whole new sets of data.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::NamedTenant;
use super::listing::ListQuery;
use crate::data::apply::Author;
use crate::data::contact::Property;
use crate::data::money::Currency;
use crate::data::request::{ContactRequest, Mask};
use crate::failure::Failure;
use crate::generate;
use crate::hooks::{Event, publish};
use crate::routes::contacts::{json as json_answer, rendered};
use crate::routes::{body, id};
use crate::simulator::Simulator;

/// The most contacts that one seeding makes: about 300 MB.
const SEED_CONTACTS_MAX: u32 = 200_000;

/// The most orders and the most subscriptions that one seeding makes: about 300 MB each.
const SEED_ORDERS_MAX: u32 = 400_000;
const SEED_SUBSCRIPTIONS_MAX: u32 = 200_000;

/// The most tags that one seeding makes.
const SEED_TAGS_MAX: u32 = 10_000;

/// What to replace a tenant's data by.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SeedRequest {
    contacts: u32,
    /// Two for each contact, within the default's bound, when absent.
    #[serde(default)]
    orders: Option<u32>,
    /// Four for ten contacts, within the default's bound, when absent.
    #[serde(default)]
    subscriptions: Option<u32>,
    /// More tags than every app has, when given.
    #[serde(default)]
    tags: Option<u32>,
    /// The app's currency; the server's own when absent.
    #[serde(default)]
    currency: Option<String>,
    #[serde(default)]
    seed: Option<u64>,
}

/// `POST /sim/tenants/{tenant}/seed`: hooks, credentials, faults and counters stay; no event is fired.
pub(crate) async fn seed(
    State(simulator): State<Simulator>,
    NamedTenant(tenant): NamedTenant,
    bytes: Bytes,
) -> Result<Json<Value>, Failure> {
    let request: SeedRequest = body(&bytes)?;
    if request.contacts > SEED_CONTACTS_MAX {
        return Err(Failure::bad_request(format!("contacts must be at most {SEED_CONTACTS_MAX}")));
    }
    let size = generate::Size::new(request.contacts, request.orders, request.subscriptions)
        .with_tags(request.tags.unwrap_or(0));
    for (name, count, limit) in [
        ("orders", size.orders, SEED_ORDERS_MAX),
        ("subscriptions", size.subscriptions, SEED_SUBSCRIPTIONS_MAX),
        ("tags", size.tags, SEED_TAGS_MAX),
    ] {
        if count > limit {
            return Err(Failure::bad_request(format!("{name} must be at most {limit}")));
        }
    }
    let currency = match request.currency.as_deref() {
        None => simulator.options().currency(),
        Some(code) => Currency::parse(code)
            .ok_or_else(|| Failure::bad_request(format!("currency must be one of {}", Currency::codes())))?,
    };
    let seed = request.seed.unwrap_or(simulator.options().seed);
    // A second of work for 50,000 contacts, away from the threads that answer requests.
    let data =
        tokio::task::spawn_blocking(move || generate::data(&size, currency, seed)).await.map_err(|_| {
            Failure::rest(StatusCode::INTERNAL_SERVER_ERROR, "the data could not be generated", "")
        })?;
    tenant.hooks().forget_pending();
    let counts = json!({
        "contacts": data.contacts.len(),
        "orders": data.orders.len(),
        "subscriptions": data.subscriptions.len(),
        "tags": data.tags.definitions.len(),
        "currency": currency.code,
        "seed": seed,
    });
    *tenant.data() = data;
    Ok(Json(counts))
}

/// `GET /sim/tenants/{tenant}/contacts`: full records in the order of their ids.
pub(crate) async fn list(NamedTenant(tenant): NamedTenant, Query(query): Query<ListQuery>) -> Response {
    let limit = query.limit();
    let data = tenant.data();
    let mut records =
        data.contacts.records().range(query.after_id.saturating_add(1)..).map(|(_, record)| record);
    let mut out = b"{\"contacts\":[".to_vec();
    let mut last_id = None;
    for record in records.by_ref().take(limit) {
        if last_id.is_some() {
            out.push(b',');
        }
        last_id = Some(record.id);
        record.write(Property::ALL, &mut out);
    }
    out.push(b']');
    if let Some(last_id) = last_id.filter(|_| records.next().is_some()) {
        out.extend_from_slice(format!(",\"next_after_id\":{last_id}").as_bytes());
    }
    out.push(b'}');
    json_answer(StatusCode::OK, out)
}

/// `POST /sim/tenants/{tenant}/contacts`
pub(crate) async fn create(
    State(simulator): State<Simulator>,
    NamedTenant(tenant): NamedTenant,
    bytes: Bytes,
) -> Result<Response, Failure> {
    let request: ContactRequest = body(&bytes)?;
    let mut data = tenant.data();
    let contact_id = data.create_contact(request, Author::Person)?;
    let answer = rendered(&data, contact_id, Property::ALL)?;
    drop(data);
    publish(&simulator, &tenant, Author::Person, vec![Event::now("contact.add", contact_id)]);
    Ok(json_answer(StatusCode::CREATED, answer))
}

/// The parts of the path of one contact.
#[derive(Debug, Deserialize)]
pub(crate) struct ContactPath {
    contact_id: String,
}

/// `GET /sim/tenants/{tenant}/contacts/{contact_id}`: the full record.
pub(crate) async fn show(
    NamedTenant(tenant): NamedTenant,
    Path(path): Path<ContactPath>,
) -> Result<Response, Failure> {
    let contact_id = id(&path.contact_id, "contact_id")?;
    let answer = rendered(&tenant.data(), contact_id, Property::ALL)?;
    Ok(json_answer(StatusCode::OK, answer))
}

/// How a change treats lists.
#[derive(Debug, Deserialize)]
pub(crate) struct UpdateQuery {
    /// Whether the items of a list that the body does not name stay, as they do when a person fills one field of a form.
    #[serde(default)]
    keep_others: bool,
}

/// `PATCH /sim/tenants/{tenant}/contacts/{contact_id}`: what the body names is set, and a null empties it.
pub(crate) async fn update(
    State(simulator): State<Simulator>,
    NamedTenant(tenant): NamedTenant,
    Path(path): Path<ContactPath>,
    Query(query): Query<UpdateQuery>,
    bytes: Bytes,
) -> Result<Response, Failure> {
    let contact_id = id(&path.contact_id, "contact_id")?;
    let mut named: Map<String, Value> = body(&bytes)?;
    let mask = Mask::Named(named.keys().filter_map(|name| Property::parse(name)).collect());
    let mut data = tenant.data();
    if query.keep_others {
        let stored: Value = body(&rendered(&data, contact_id, Property::ALL)?.into())?;
        keep_other_items(&mut named, &stored);
    }
    let request: ContactRequest = body(&Value::Object(named).to_string().into())?;
    data.update_contact(contact_id, request, &mask, Author::Person)?;
    let answer = rendered(&data, contact_id, Property::ALL)?;
    drop(data);
    publish(&simulator, &tenant, Author::Person, vec![Event::now("contact.edit", contact_id)]);
    Ok(json_answer(StatusCode::OK, answer))
}

/// Lists of a contact: the key that tells their items apart, and what a write takes of an item.
const LISTS: [(&str, &str, &[&str]); 4] = [
    ("email_addresses", "field", &["field", "email", "opt_in_reason"]),
    ("phone_numbers", "field", &["field", "number", "extension", "type"]),
    (
        "addresses",
        "field",
        &[
            "field",
            "line1",
            "line2",
            "locality",
            "region_code",
            "region",
            "country_code",
            "postal_code",
            "zip_code",
            "zip_four",
        ],
    ),
    ("custom_fields", "id", &["id", "content"]),
];

/// Adds the stored items that a change does not name; one that holds nothing but its name is emptied.
fn keep_other_items(change: &mut Map<String, Value>, stored: &Value) {
    for (list, key, written) in LISTS {
        let Some(Value::Array(given)) = change.get_mut(list) else { continue };
        let names: Vec<Value> = given.iter().filter_map(|item| item.get(key).cloned()).collect();
        given.retain(|item| item.as_object().is_some_and(|item| item.len() > 1));
        let others = stored.get(list).and_then(Value::as_array).into_iter().flatten();
        for other in others.filter(|item| !item.get(key).is_some_and(|name| names.contains(name))) {
            let item = other.as_object().into_iter().flatten();
            let kept = item.filter(|(name, _)| written.contains(&name.as_str()));
            given.push(Value::Object(kept.map(|(name, value)| (name.clone(), value.clone())).collect()));
        }
    }
}

/// `DELETE /sim/tenants/{tenant}/contacts/{contact_id}`
pub(crate) async fn delete(
    State(simulator): State<Simulator>,
    NamedTenant(tenant): NamedTenant,
    Path(path): Path<ContactPath>,
) -> Result<StatusCode, Failure> {
    let contact_id = id(&path.contact_id, "contact_id")?;
    tenant.data().delete_contact(contact_id)?;
    publish(&simulator, &tenant, Author::Person, vec![Event::now("contact.delete", contact_id)]);
    Ok(StatusCode::NO_CONTENT)
}
