//! Subscriptions as a person changes them in Keap's own screens, deletion included.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;

use super::NamedTenant;
use super::listing::{ListQuery, full_rows};
use crate::data::apply::Author;
use crate::data::subscription::{Subscription, SubscriptionRequest};
use crate::failure::Failure;
use crate::hooks::{Event, publish};
use crate::routes::subscriptions::rendered;
use crate::routes::{body, body_mask, id};
use crate::simulator::Simulator;

/// `GET /sim/tenants/{tenant}/subscriptions`: full records in the order of their ids.
pub(crate) async fn list(NamedTenant(tenant): NamedTenant, Query(query): Query<ListQuery>) -> Response {
    let data = tenant.data();
    full_rows("subscriptions", data.subscriptions.all(), &query, Subscription::view)
}

/// `POST /sim/tenants/{tenant}/subscriptions`
pub(crate) async fn create(
    State(simulator): State<Simulator>,
    NamedTenant(tenant): NamedTenant,
    bytes: Bytes,
) -> Result<(StatusCode, Json<Value>), Failure> {
    let request: SubscriptionRequest = body(&bytes)?;
    let mut data = tenant.data();
    let subscription_id = data.create_subscription(request)?;
    let answer = rendered(&data, subscription_id)?;
    drop(data);
    publish(&simulator, &tenant, Author::Person, vec![Event::now("subscription.add", subscription_id)]);
    Ok((StatusCode::CREATED, answer))
}

/// The parts of the path of one subscription.
#[derive(Debug, Deserialize)]
pub(crate) struct SubscriptionPath {
    subscription_id: String,
}

/// `GET /sim/tenants/{tenant}/subscriptions/{subscription_id}`
pub(crate) async fn show(
    NamedTenant(tenant): NamedTenant,
    Path(path): Path<SubscriptionPath>,
) -> Result<Json<Value>, Failure> {
    let subscription_id = id(&path.subscription_id, "subscription_id")?;
    rendered(&tenant.data(), subscription_id)
}

/// `PATCH /sim/tenants/{tenant}/subscriptions/{subscription_id}`: what the body names is set, and a null empties it.
pub(crate) async fn update(
    State(simulator): State<Simulator>,
    NamedTenant(tenant): NamedTenant,
    Path(path): Path<SubscriptionPath>,
    bytes: Bytes,
) -> Result<Json<Value>, Failure> {
    let subscription_id = id(&path.subscription_id, "subscription_id")?;
    let mask = body_mask(&bytes, SubscriptionRequest::MASK)?;
    let request: SubscriptionRequest = body(&bytes)?;
    let mut data = tenant.data();
    data.update_subscription(subscription_id, request, &mask)?;
    let answer = rendered(&data, subscription_id)?;
    drop(data);
    publish(&simulator, &tenant, Author::Person, vec![Event::now("subscription.edit", subscription_id)]);
    Ok(answer)
}

/// `DELETE /sim/tenants/{tenant}/subscriptions/{subscription_id}`
pub(crate) async fn delete(
    State(simulator): State<Simulator>,
    NamedTenant(tenant): NamedTenant,
    Path(path): Path<SubscriptionPath>,
) -> Result<StatusCode, Failure> {
    let subscription_id = id(&path.subscription_id, "subscription_id")?;
    tenant.data().delete_subscription(subscription_id)?;
    publish(&simulator, &tenant, Author::Person, vec![Event::now("subscription.delete", subscription_id)]);
    Ok(StatusCode::NO_CONTENT)
}
