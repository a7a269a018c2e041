//! `/crm/rest/v2/orders/{order_id}/items`: create, show, update, delete. Every change is one of the order as well.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde_json::Value;

use super::{body, id, write_mask};
use crate::data::Data;
use crate::data::apply::Author;
use crate::data::order_request::ItemRequest;
use crate::failure::Failure;
use crate::hooks::{Event, publish};
use crate::query::page::Parameters;
use crate::simulator::Simulator;
use crate::tenant::Tenant;

/// `POST /orders/{order_id}/items`
pub(crate) async fn create(
    State(simulator): State<Simulator>,
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(order_id): Path<String>,
    bytes: Bytes,
) -> Result<(StatusCode, Json<Value>), Failure> {
    let order_id = id(&order_id, "order_id")?;
    let request: ItemRequest = body(&bytes)?;
    let mut data = tenant.data();
    let item_id = data.create_item(order_id, &request)?;
    let answer = rendered(&data, order_id, item_id)?;
    drop(data);
    publish(&simulator, &tenant, Author::Api, vec![Event::now("order.edit", order_id)]);
    Ok((StatusCode::CREATED, answer))
}

/// `GET /orders/{order_id}/items/{order_item_id}`
pub(crate) async fn show(
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(path): Path<(String, String)>,
) -> Result<Json<Value>, Failure> {
    let (order_id, item_id) = ids(&path)?;
    rendered(&tenant.data(), order_id, item_id)
}

/// `PATCH /orders/{order_id}/items/{order_item_id}`
pub(crate) async fn update(
    State(simulator): State<Simulator>,
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(path): Path<(String, String)>,
    Query(parameters): Query<Parameters>,
    bytes: Bytes,
) -> Result<Json<Value>, Failure> {
    let (order_id, item_id) = ids(&path)?;
    let mask = write_mask(&parameters, ItemRequest::MASK)?;
    let request: ItemRequest = body(&bytes)?;
    let mut data = tenant.data();
    data.update_item(order_id, item_id, &request, &mask)?;
    let answer = rendered(&data, order_id, item_id)?;
    drop(data);
    publish(&simulator, &tenant, Author::Api, vec![Event::now("order.edit", order_id)]);
    Ok(answer)
}

/// `DELETE /orders/{order_id}/items/{order_item_id}`
pub(crate) async fn delete(
    State(simulator): State<Simulator>,
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(path): Path<(String, String)>,
) -> Result<StatusCode, Failure> {
    let (order_id, item_id) = ids(&path)?;
    tenant.data().delete_item(order_id, item_id)?;
    publish(&simulator, &tenant, Author::Api, vec![Event::now("order.edit", order_id)]);
    Ok(StatusCode::NO_CONTENT)
}

fn ids((order_id, item_id): &(String, String)) -> Result<(u64, u64), Failure> {
    Ok((id(order_id, "order_id")?, id(item_id, "order_item_id")?))
}

/// One item as the API shows it.
pub(crate) fn rendered(data: &Data, order_id: u64, item_id: u64) -> Result<Json<Value>, Failure> {
    let item = data.known_order(order_id)?.item(item_id);
    let item = item.ok_or_else(|| Failure::not_found("order item", &item_id.to_string()))?;
    Ok(Json(serde_json::to_value(data.item_view(item)).unwrap_or_default()))
}
