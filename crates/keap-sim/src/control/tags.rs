//! Tags as a person changes them in Keap's own screens, and which contacts carry them.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::NamedTenant;
use super::listing::{ListQuery, full_rows};
use crate::data::apply::Author;
use crate::data::tags::Applied;
use crate::failure::Failure;
use crate::query::page::Parameters;
use crate::routes::{body, id, tag_applications, tags};
use crate::simulator::Simulator;

/// `GET /sim/tenants/{tenant}/tags`: full records in the order of their ids.
pub(crate) async fn list(NamedTenant(tenant): NamedTenant, Query(query): Query<ListQuery>) -> Response {
    full_rows("tags", &tenant.data().tags.definitions, &query, tags::shown)
}

/// `POST /sim/tenants/{tenant}/tags`
pub(crate) async fn create(
    State(simulator): State<Simulator>,
    NamedTenant(tenant): NamedTenant,
    bytes: Bytes,
) -> Result<(StatusCode, Json<Value>), Failure> {
    tags::create_by(Author::Person, &simulator, &tenant, &bytes)
}

/// The parts of the path of one tag.
#[derive(Debug, Deserialize)]
pub(crate) struct TagPath {
    tag_id: String,
}

/// `GET /sim/tenants/{tenant}/tags/{tag_id}`
pub(crate) async fn show(
    NamedTenant(tenant): NamedTenant,
    Path(path): Path<TagPath>,
) -> Result<Json<Value>, Failure> {
    tags::show_by_id(&tenant.data().tags, id(&path.tag_id, "tag_id")?).map(Json)
}

/// `PATCH /sim/tenants/{tenant}/tags/{tag_id}`: what the body names is set, and a null empties it.
pub(crate) async fn update(
    State(simulator): State<Simulator>,
    NamedTenant(tenant): NamedTenant,
    Path(path): Path<TagPath>,
    bytes: Bytes,
) -> Result<Json<Value>, Failure> {
    let named: Map<String, Value> = body(&bytes)?;
    let mask: Parameters = named.into_iter().map(|(name, _)| ("update_mask".to_owned(), name)).collect();
    tags::update_by(Author::Person, &simulator, &tenant, &path.tag_id, &mask, &bytes)
}

/// `DELETE /sim/tenants/{tenant}/tags/{tag_id}`
pub(crate) async fn delete(
    State(simulator): State<Simulator>,
    NamedTenant(tenant): NamedTenant,
    Path(path): Path<TagPath>,
) -> Result<StatusCode, Failure> {
    tags::delete_by(Author::Person, &simulator, &tenant, &path.tag_id)
}

/// The parts of the path of a tag on a contact.
#[derive(Debug, Deserialize)]
pub(crate) struct ApplicationPath {
    contact_id: String,
    tag_id: String,
}

/// `PUT /sim/tenants/{tenant}/contacts/{contact_id}/tags/{tag_id}`
pub(crate) async fn apply(
    State(simulator): State<Simulator>,
    NamedTenant(tenant): NamedTenant,
    Path(path): Path<ApplicationPath>,
) -> Result<StatusCode, Failure> {
    let (tag_id, contact_id) = (id(&path.tag_id, "tag_id")?, id(&path.contact_id, "contact_id")?);
    let results = tag_applications::apply_by(Author::Person, &simulator, &tenant, tag_id, &[contact_id])?;
    if results.iter().any(|(_, applied)| *applied == Applied::Failure) {
        return Err(Failure::not_found("contact", &path.contact_id));
    }
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /sim/tenants/{tenant}/contacts/{contact_id}/tags/{tag_id}`
pub(crate) async fn remove(
    State(simulator): State<Simulator>,
    NamedTenant(tenant): NamedTenant,
    Path(path): Path<ApplicationPath>,
) -> Result<StatusCode, Failure> {
    let (tag_id, contact_id) = (id(&path.tag_id, "tag_id")?, id(&path.contact_id, "contact_id")?);
    tag_applications::remove_by(Author::Person, &simulator, &tenant, tag_id, &[contact_id])
}
