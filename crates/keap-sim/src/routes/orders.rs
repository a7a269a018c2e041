//! `/crm/rest/v2/orders`: list, create, show, update, delete, and the payments that were recorded.
//!
//! The contract gives orders no `fields`: every answer has all an order has. Payments are only read here, and nothing
//! charges.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::Value;

use super::{body, id, listing, write_mask};
use crate::data::Data;
use crate::data::apply::Author;
use crate::data::order::Payment;
use crate::data::order_request::OrderRequest;
use crate::failure::Failure;
use crate::faults::Broken;
use crate::hooks::{Event, publish};
use crate::query::orders::{ORDERS, OrderFilter, page};
use crate::query::page::{PageRequest, Parameters, SortKey, parameter};
use crate::query::term;
use crate::simulator::Simulator;
use crate::tenant::Tenant;

/// `GET /orders`
pub(crate) async fn list(
    Extension(tenant): Extension<Arc<Tenant>>,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Failure> {
    let request = PageRequest::read(&parameters, ORDERS, tenant.page_tokens())?;
    let broken_ids = tenant.faults().broken_ids(Broken::Order);
    let (text, broke) = {
        let data = tenant.data();
        let filter = OrderFilter::read(parameter(&parameters, "filter").unwrap_or_default(), &data)?;
        let (rows, token) = page(&data, &filter, &request);
        listing::Page { name: "orders", rows, token }.write(&broken_ids, |order| data.order_view(order))
    };
    Ok(listing::answer(&tenant, Broken::Order, text, broke))
}

/// `POST /orders`
pub(crate) async fn create(
    State(simulator): State<Simulator>,
    Extension(tenant): Extension<Arc<Tenant>>,
    bytes: Bytes,
) -> Result<Response, Failure> {
    let request: OrderRequest = body(&bytes)?;
    let mut data = tenant.data();
    let order_id = data.create_order(request, Author::Api)?;
    let answer = rendered(&data, order_id)?;
    drop(data);
    publish(&simulator, &tenant, Author::Api, vec![Event::now("order.add", order_id)]);
    Ok((StatusCode::CREATED, answer).into_response())
}

/// `GET /orders/{order_id}`
pub(crate) async fn show(
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(order_id): Path<String>,
) -> Result<Json<Value>, Failure> {
    let order_id = id(&order_id, "order_id")?;
    rendered(&tenant.data(), order_id)
}

/// `PATCH /orders/{order_id}`
pub(crate) async fn update(
    State(simulator): State<Simulator>,
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(order_id): Path<String>,
    Query(parameters): Query<Parameters>,
    bytes: Bytes,
) -> Result<Json<Value>, Failure> {
    let order_id = id(&order_id, "order_id")?;
    let mask = write_mask(&parameters, OrderRequest::MASK)?;
    let request: OrderRequest = body(&bytes)?;
    let mut data = tenant.data();
    data.update_order(order_id, request, &mask)?;
    let answer = rendered(&data, order_id)?;
    drop(data);
    publish(&simulator, &tenant, Author::Api, vec![Event::now("order.edit", order_id)]);
    Ok(answer)
}

/// `DELETE /orders/{order_id}`
pub(crate) async fn delete(
    State(simulator): State<Simulator>,
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(order_id): Path<String>,
) -> Result<StatusCode, Failure> {
    let order_id = id(&order_id, "order_id")?;
    tenant.data().delete_order(order_id)?;
    publish(&simulator, &tenant, Author::Api, vec![Event::now("order.delete", order_id)]);
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /orders/{order_id}/payments`
pub(crate) async fn payments(
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(order_id): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Result<Json<Value>, Failure> {
    let order_id = id(&order_id, "order_id")?;
    let request = PageRequest::read(
        &parameters,
        &["payment_id", "amount", "pay_time", "last_updated_time"],
        tenant.page_tokens(),
    )?;
    let mut wanted_payment = None;
    let mut wants_refunds = None;
    for term in term::parse(parameter(&parameters, "filter").unwrap_or_default())? {
        term.require_equal()?;
        match (term.field.as_str(), term.value.as_str()) {
            ("payment_id", _) => wanted_payment = Some(term.id()?),
            ("pay_status", "APPROVED") => wants_refunds = Some(false),
            ("pay_status", "REFUNDED") => wants_refunds = Some(true),
            _ => return Err(term.unknown()),
        }
    }
    let data = tenant.data();
    let order = data.known_order(order_id)?;
    let matches = |payment: &&Payment| {
        wanted_payment.is_none_or(|wanted| wanted == payment.id)
            && wants_refunds.is_none_or(|wanted| wanted == (payment.amount_minor < 0))
    };
    let rows = order
        .payments
        .iter()
        .filter(matches)
        .map(|payment| {
            let key = match request.order {
                "amount" => payment.amount_minor,
                "pay_time" | "last_updated_time" => payment.at_ms,
                _ => 0,
            };
            let shown = serde_json::to_value(data.payment_view(order, payment)).unwrap_or_default();
            ((SortKey::Number(key), payment.id), shown)
        })
        .collect();
    Ok(Json(request.cut("invoice_order_payments", rows)))
}

/// One order as the API shows it.
pub(crate) fn rendered(data: &Data, order_id: u64) -> Result<Json<Value>, Failure> {
    let order = data.known_order(order_id)?;
    Ok(Json(serde_json::to_value(data.order_view(order)).unwrap_or_default()))
}
