//! `/crm/rest/v2/contacts`: list, create, show, update, delete.

use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::{body, id, mask, unknown_in_mask};
use crate::data::Data;
use crate::data::apply::{Author, DuplicateOption};
use crate::data::contact::Property;
use crate::data::request::{ContactRequest, Mask};
use crate::failure::Failure;
use crate::faults::Broken;
use crate::hooks::{Event, publish};
use crate::query::contacts::{ContactFilter, ORDERS, page};
use crate::query::page::{PageRequest, Parameters, parameter};
use crate::simulator::Simulator;
use crate::tenant::Tenant;

/// What a contact with all its properties takes, for sizing buffers.
const CONTACT_SIZE: usize = 1400;

/// `GET /contacts`
pub(crate) async fn list(
    Extension(tenant): Extension<Arc<Tenant>>,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Failure> {
    let properties = fields(&parameters)?;
    let request = PageRequest::read(&parameters, ORDERS, tenant.page_tokens())?;
    let broken_ids = tenant.faults().broken_ids(Broken::Contact);
    let mut broke = Vec::new();
    let data = tenant.data();
    let filter = ContactFilter::read(parameter(&parameters, "filter").unwrap_or_default(), &data)?;
    let (rows, token) = page(&data, &filter, &request);
    let mut out = Vec::with_capacity(64 + rows.len() * CONTACT_SIZE);
    out.extend_from_slice(b"{\"contacts\":[");
    for (place, record) in rows.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        if broken_ids.contains(&record.id) {
            broke.push(record.id);
            out.extend_from_slice(broken_contact(record.id).as_bytes());
        } else {
            record.write(&properties, &mut out);
        }
    }
    drop(data);
    for contact_id in broke {
        tenant.faults().broke(Broken::Contact, contact_id);
    }
    out.push(b']');
    if let Some(token) = token {
        // A token is base64 for addresses: nothing in it needs escaping.
        out.extend_from_slice(format!(",\"next_page_token\":\"{token}\"").as_bytes());
    }
    out.push(b'}');
    Ok(json(StatusCode::OK, out))
}

/// `POST /contacts`
pub(crate) async fn create(
    State(simulator): State<Simulator>,
    Extension(tenant): Extension<Arc<Tenant>>,
    Query(parameters): Query<Parameters>,
    bytes: Bytes,
) -> Result<Response, Failure> {
    let properties = fields(&parameters)?;
    let request: ContactRequest = body(&bytes)?;
    let option = match parameter(&parameters, "duplicate_option") {
        None => None,
        Some(text) => Some(DuplicateOption::parse(text).ok_or_else(|| {
            Failure::bad_request("duplicate_option must be Email, EmailAndName or EmailAndNameAndCompany")
        })?),
    };
    let mut data = tenant.data();
    let existing = option.and_then(|option| data.find_duplicate(&request, option));
    let (id, status, event_key) = if let Some(id) = existing {
        data.update_contact(id, request, &Mask::Given, Author::Api)?;
        (id, StatusCode::OK, "contact.edit")
    } else {
        (data.create_contact(request, Author::Api)?, StatusCode::CREATED, "contact.add")
    };
    let answer = rendered(&data, id, &properties)?;
    drop(data);
    publish(&simulator, &tenant, Author::Api, vec![Event::now(event_key, id)]);
    Ok(json(status, answer))
}

/// `GET /contacts/{contact_id}`
pub(crate) async fn show(
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(contact_id): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Failure> {
    let properties = fields(&parameters)?;
    let contact_id = id(&contact_id, "contact_id")?;
    let answer = rendered(&tenant.data(), contact_id, &properties)?;
    Ok(json(StatusCode::OK, answer))
}

/// `PATCH /contacts/{contact_id}`
pub(crate) async fn update(
    State(simulator): State<Simulator>,
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(contact_id): Path<String>,
    Query(parameters): Query<Parameters>,
    bytes: Bytes,
) -> Result<Response, Failure> {
    let properties = fields(&parameters)?;
    let contact_id = id(&contact_id, "contact_id")?;
    let mask = match mask(&parameters) {
        None => Mask::Given,
        Some(names) => Mask::Named(
            names
                .into_iter()
                .map(|name| Property::parse(name).ok_or_else(|| unknown_in_mask(name)))
                .collect::<Result<_, _>>()?,
        ),
    };
    let request: ContactRequest = body(&bytes)?;
    let mut data = tenant.data();
    data.update_contact(contact_id, request, &mask, Author::Api)?;
    let answer = rendered(&data, contact_id, &properties)?;
    drop(data);
    publish(&simulator, &tenant, Author::Api, vec![Event::now("contact.edit", contact_id)]);
    Ok(json(StatusCode::OK, answer))
}

/// `DELETE /contacts/{contact_id}`
pub(crate) async fn delete(
    State(simulator): State<Simulator>,
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(contact_id): Path<String>,
) -> Result<StatusCode, Failure> {
    let contact_id = id(&contact_id, "contact_id")?;
    tenant.data().delete_contact(contact_id)?;
    publish(&simulator, &tenant, Author::Api, vec![Event::now("contact.delete", contact_id)]);
    Ok(StatusCode::NO_CONTENT)
}

/// The JSON of one contact.
pub(crate) fn rendered(data: &Data, contact_id: u64, properties: &[Property]) -> Result<Vec<u8>, Failure> {
    let Some(record) = data.contacts.get(contact_id) else {
        return Err(Failure::not_found("contact", &contact_id.to_string()));
    };
    let mut out = Vec::with_capacity(CONTACT_SIZE);
    record.write(properties, &mut out);
    Ok(out)
}

/// An answer whose body is JSON already.
pub(crate) fn json(status: StatusCode, text: Vec<u8>) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], Body::from(text)).into_response()
}

/// The properties asked for by `fields`, or the default ones. Exactly those named are given: the id too has to be
/// asked for.
fn fields(parameters: &Parameters) -> Result<Vec<Property>, Failure> {
    let mut properties = Vec::new();
    for (_, list) in parameters.iter().filter(|(key, _)| key == "fields") {
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let property = Property::parse(name)
                .ok_or_else(|| Failure::bad_request(format!("fields does not take '{name}'")))?;
            if !properties.contains(&property) {
                properties.push(property);
            }
        }
    }
    Ok(if properties.is_empty() { Property::DEFAULT.to_vec() } else { properties })
}

/// A contact whose parts are of the wrong kind, though it is good JSON and still names itself.
fn broken_contact(id: u64) -> String {
    format!(
        "{{\"id\":\"{id}\",\"given_name\":[\"wrong\"],\"email_addresses\":\"wrong\",\"update_time\":17,\"tag_ids\":{{}}}}"
    )
}
