//! Orders as a person changes them in Keap's own screens.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Number, Value};

use super::NamedTenant;
use super::listing::{ListQuery, full_rows};
use crate::data::apply::Author;
use crate::data::mask::WriteMask;
use crate::data::order_request::{ItemRequest, OrderRequest};
use crate::failure::Failure;
use crate::hooks::{Event, publish};
use crate::routes::orders::rendered;
use crate::routes::{body, body_mask, id, order_items};
use crate::simulator::Simulator;

/// `GET /sim/tenants/{tenant}/orders`: full records in the order of their ids.
pub(crate) async fn list(NamedTenant(tenant): NamedTenant, Query(query): Query<ListQuery>) -> Response {
    let data = tenant.data();
    full_rows("orders", data.orders.all(), &query, |order| data.order_view(order))
}

/// `POST /sim/tenants/{tenant}/orders`
pub(crate) async fn create(
    State(simulator): State<Simulator>,
    NamedTenant(tenant): NamedTenant,
    bytes: Bytes,
) -> Result<(StatusCode, Json<Value>), Failure> {
    let request: OrderRequest = body(&bytes)?;
    let mut data = tenant.data();
    let order_id = data.create_order(request, Author::Person)?;
    let answer = rendered(&data, order_id)?;
    drop(data);
    publish(&simulator, &tenant, Author::Person, vec![Event::now("order.add", order_id)]);
    Ok((StatusCode::CREATED, answer))
}

/// The parts of the path of an order, or of one of its items.
#[derive(Debug, Deserialize)]
pub(crate) struct OrderPath {
    order_id: String,
    #[serde(default)]
    order_item_id: String,
}

/// `GET /sim/tenants/{tenant}/orders/{order_id}`
pub(crate) async fn show(
    NamedTenant(tenant): NamedTenant,
    Path(path): Path<OrderPath>,
) -> Result<Json<Value>, Failure> {
    let order_id = id(&path.order_id, "order_id")?;
    rendered(&tenant.data(), order_id)
}

/// `PATCH /sim/tenants/{tenant}/orders/{order_id}`: what the body names is set, and a null empties it.
pub(crate) async fn update(
    State(simulator): State<Simulator>,
    NamedTenant(tenant): NamedTenant,
    Path(path): Path<OrderPath>,
    bytes: Bytes,
) -> Result<Json<Value>, Failure> {
    let order_id = id(&path.order_id, "order_id")?;
    let mask = body_mask(&bytes, OrderRequest::MASK)?;
    let request: OrderRequest = body(&bytes)?;
    let mut data = tenant.data();
    data.update_order(order_id, request, &mask)?;
    let answer = rendered(&data, order_id)?;
    drop(data);
    publish(&simulator, &tenant, Author::Person, vec![Event::now("order.edit", order_id)]);
    Ok(answer)
}

/// `DELETE /sim/tenants/{tenant}/orders/{order_id}`
pub(crate) async fn delete(
    State(simulator): State<Simulator>,
    NamedTenant(tenant): NamedTenant,
    Path(path): Path<OrderPath>,
) -> Result<StatusCode, Failure> {
    let order_id = id(&path.order_id, "order_id")?;
    tenant.data().delete_order(order_id)?;
    publish(&simulator, &tenant, Author::Person, vec![Event::now("order.delete", order_id)]);
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /sim/tenants/{tenant}/orders/{order_id}/items`
pub(crate) async fn create_item(
    State(simulator): State<Simulator>,
    NamedTenant(tenant): NamedTenant,
    Path(path): Path<OrderPath>,
    bytes: Bytes,
) -> Result<(StatusCode, Json<Value>), Failure> {
    let order_id = id(&path.order_id, "order_id")?;
    let request: ItemRequest = body(&bytes)?;
    let mut data = tenant.data();
    let item_id = data.create_item(order_id, &request)?;
    let answer = order_items::rendered(&data, order_id, item_id)?;
    drop(data);
    publish(&simulator, &tenant, Author::Person, vec![Event::now("order.edit", order_id)]);
    Ok((StatusCode::CREATED, answer))
}

/// `PATCH /sim/tenants/{tenant}/orders/{order_id}/items/{order_item_id}`
pub(crate) async fn update_item(
    State(simulator): State<Simulator>,
    NamedTenant(tenant): NamedTenant,
    Path(path): Path<OrderPath>,
    bytes: Bytes,
) -> Result<Json<Value>, Failure> {
    let (order_id, item_id) = (id(&path.order_id, "order_id")?, id(&path.order_item_id, "order_item_id")?);
    let mask: WriteMask = body_mask(&bytes, ItemRequest::MASK)?;
    let request: ItemRequest = body(&bytes)?;
    let mut data = tenant.data();
    data.update_item(order_id, item_id, &request, &mask)?;
    let answer = order_items::rendered(&data, order_id, item_id)?;
    drop(data);
    publish(&simulator, &tenant, Author::Person, vec![Event::now("order.edit", order_id)]);
    Ok(answer)
}

/// `DELETE /sim/tenants/{tenant}/orders/{order_id}/items/{order_item_id}`
pub(crate) async fn delete_item(
    State(simulator): State<Simulator>,
    NamedTenant(tenant): NamedTenant,
    Path(path): Path<OrderPath>,
) -> Result<StatusCode, Failure> {
    let (order_id, item_id) = (id(&path.order_id, "order_id")?, id(&path.order_item_id, "order_item_id")?);
    tenant.data().delete_item(order_id, item_id)?;
    publish(&simulator, &tenant, Author::Person, vec![Event::now("order.edit", order_id)]);
    Ok(StatusCode::NO_CONTENT)
}

/// Money a person took.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PaymentRequest {
    /// In major units; all that is due when absent.
    #[serde(default)]
    amount: Option<Number>,
}

/// `POST /sim/tenants/{tenant}/orders/{order_id}/payments`: records a payment, which no client of the API can do here.
pub(crate) async fn pay(
    State(simulator): State<Simulator>,
    NamedTenant(tenant): NamedTenant,
    Path(path): Path<OrderPath>,
    bytes: Bytes,
) -> Result<(StatusCode, Json<Value>), Failure> {
    let order_id = id(&path.order_id, "order_id")?;
    let request: PaymentRequest = body(&bytes)?;
    let mut data = tenant.data();
    let amount_minor = match &request.amount {
        None => data.known_order(order_id)?.due_minor(),
        Some(amount) => {
            data.currency.minor_of(amount).ok_or_else(|| Failure::bad_request("amount is out of range"))?
        }
    };
    let payment_id = data.record_payment(order_id, amount_minor)?;
    let answer = rendered(&data, order_id)?;
    drop(data);
    let events = vec![Event::now("invoice.payment.add", payment_id), Event::now("order.edit", order_id)];
    publish(&simulator, &tenant, Author::Person, events);
    Ok((StatusCode::CREATED, answer))
}
