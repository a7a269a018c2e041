//! `/crm/rest/v2/subscriptions`: list, create, show, update, deactivate.
//!
//! There is no deletion in the API, and `:invoice`, which makes money move, is not served.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::{Extension, Json};
use serde::Deserialize;
use serde_json::Value;

use super::{body, id, listing, method_not_allowed, not_found, write_mask};
use crate::data::Data;
use crate::data::apply::Author;
use crate::data::subscription::{Subscription, SubscriptionRequest};
use crate::failure::Failure;
use crate::faults::Broken;
use crate::hooks::{Event, publish};
use crate::operation::DEACTIVATE_SUFFIX;
use crate::query::page::{PageRequest, Parameters, parameter};
use crate::query::subscriptions::{ORDERS, SubscriptionFilter, page};
use crate::simulator::Simulator;
use crate::tenant::Tenant;

/// `GET /subscriptions`
pub(crate) async fn list(
    Extension(tenant): Extension<Arc<Tenant>>,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Failure> {
    let request = PageRequest::read(&parameters, ORDERS, tenant.page_tokens())?;
    let broken_ids = tenant.faults().broken_ids(Broken::Subscription);
    let (text, broke) = {
        let data = tenant.data();
        let filter = SubscriptionFilter::read(parameter(&parameters, "filter").unwrap_or_default(), &data)?;
        let (rows, token) = page(&data, &filter, &request);
        listing::Page { name: "subscriptions", rows, token }.write(&broken_ids, Subscription::view)
    };
    Ok(listing::answer(&tenant, Broken::Subscription, text, broke))
}

/// `POST /subscriptions`
pub(crate) async fn create(
    State(simulator): State<Simulator>,
    Extension(tenant): Extension<Arc<Tenant>>,
    bytes: Bytes,
) -> Result<(StatusCode, Json<Value>), Failure> {
    let request: SubscriptionRequest = body(&bytes)?;
    let mut data = tenant.data();
    let subscription_id = data.create_subscription(request)?;
    let answer = rendered(&data, subscription_id)?;
    drop(data);
    publish(&simulator, &tenant, Author::Api, vec![Event::now("subscription.add", subscription_id)]);
    Ok((StatusCode::CREATED, answer))
}

/// `GET /subscriptions/{subscription_id}`
pub(crate) async fn show(
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(subscription_id): Path<String>,
) -> Result<Json<Value>, Failure> {
    let subscription_id = id(&subscription_id, "subscription_id")?;
    rendered(&tenant.data(), subscription_id)
}

/// `PATCH /subscriptions/{subscription_id}`
pub(crate) async fn update(
    State(simulator): State<Simulator>,
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(subscription_id): Path<String>,
    Query(parameters): Query<Parameters>,
    bytes: Bytes,
) -> Result<Json<Value>, Failure> {
    let subscription_id = id(&subscription_id, "subscription_id")?;
    let mask = write_mask(&parameters, SubscriptionRequest::MASK)?;
    let request: SubscriptionRequest = body(&bytes)?;
    let mut data = tenant.data();
    data.update_subscription(subscription_id, request, &mask)?;
    let answer = rendered(&data, subscription_id)?;
    drop(data);
    publish(&simulator, &tenant, Author::Api, vec![Event::now("subscription.edit", subscription_id)]);
    Ok(answer)
}

/// The body that ends a subscription (`CancelSubscriptionRequest`).
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CancelRequest {
    #[serde(default)]
    reason: Option<String>,
}

/// `POST /subscriptions/{subscription_id}:deactivate`, answered without a body. Any other action is a 404, and no
/// action at all a 405.
pub(crate) async fn deactivate(
    State(simulator): State<Simulator>,
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(target): Path<String>,
    bytes: Bytes,
) -> Result<StatusCode, Failure> {
    let Some(subscription_id) = target.strip_suffix(DEACTIVATE_SUFFIX) else {
        return Err(if target.contains(':') { not_found().await } else { method_not_allowed().await });
    };
    let subscription_id = id(subscription_id, "subscription_id")?;
    let request: CancelRequest = body(&bytes)?;
    tenant.data().deactivate_subscription(subscription_id, request.reason)?;
    publish(&simulator, &tenant, Author::Api, vec![Event::now("subscription.edit", subscription_id)]);
    Ok(StatusCode::OK)
}

/// One subscription as the API shows it.
pub(crate) fn rendered(data: &Data, subscription_id: u64) -> Result<Json<Value>, Failure> {
    let subscription = data.known_subscription(subscription_id)?;
    Ok(Json(serde_json::to_value(subscription.view()).unwrap_or_default()))
}
