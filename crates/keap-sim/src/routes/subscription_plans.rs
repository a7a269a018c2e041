//! `/crm/rest/v2/products/{product_id}/subscriptions`: the plans of a product; list, create, show.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde_json::Value;

use super::{body, id};
use crate::data::Data;
use crate::data::apply::Author;
use crate::data::catalogue::{Plan, PlanRequest};
use crate::failure::Failure;
use crate::hooks::{Event, publish};
use crate::query::page::{PageRequest, Parameters, SortKey, parameter};
use crate::query::term;
use crate::simulator::Simulator;
use crate::tenant::Tenant;

/// `GET /products/{product_id}/subscriptions`
pub(crate) async fn list(
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(product_id): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Result<Json<Value>, Failure> {
    let product_id = id(&product_id, "product_id")?;
    let request = PageRequest::read(&parameters, &["id", "product_id"], tenant.page_tokens())?;
    let (mut is_active, mut cycle_type) = (None, None);
    for term in term::parse(parameter(&parameters, "filter").unwrap_or_default())? {
        match term.field.as_str() {
            "active" => is_active = Some(term.flag()?),
            "cycle_type" => {
                term.require_equal()?;
                cycle_type = Some(term.value);
            }
            _ => return Err(term.unknown()),
        }
    }
    let data = tenant.data();
    data.catalogue.product_view(product_id, data.currency)?;
    let matches = |plan: &&Plan| {
        is_active.is_none_or(|wanted| plan.is_active == wanted)
            && cycle_type.as_ref().is_none_or(|wanted| plan.cycle_type == *wanted)
    };
    let rows = data
        .catalogue
        .plans_of(product_id)
        .filter(matches)
        .map(|plan| ((SortKey::Number(0), plan.id), shown(&data, plan)))
        .collect();
    Ok(Json(request.cut("subscriptions", rows)))
}

/// `POST /products/{product_id}/subscriptions`
pub(crate) async fn create(
    State(simulator): State<Simulator>,
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(product_id): Path<String>,
    bytes: Bytes,
) -> Result<(StatusCode, Json<Value>), Failure> {
    let product_id = id(&product_id, "product_id")?;
    let request: PlanRequest = body(&bytes)?;
    let mut data = tenant.data();
    let plan_id = data.catalogue.create_plan(product_id, request)?;
    let answer = data.catalogue.plans.get(&plan_id).map(|plan| shown(&data, plan)).unwrap_or_default();
    drop(data);
    publish(&simulator, &tenant, Author::Api, vec![Event::now("product.edit", product_id)]);
    Ok((StatusCode::CREATED, Json(answer)))
}

/// `GET /products/{product_id}/subscriptions/{subscription_plan_id}`
pub(crate) async fn show(
    Extension(tenant): Extension<Arc<Tenant>>,
    Path((product_id, plan_id)): Path<(String, String)>,
) -> Result<Json<Value>, Failure> {
    let (product_id, plan_id) = (id(&product_id, "product_id")?, id(&plan_id, "subscription_plan_id")?);
    let data = tenant.data();
    data.catalogue
        .plans
        .get(&plan_id)
        .filter(|plan| plan.product_id == product_id)
        .map(|plan| Json(shown(&data, plan)))
        .ok_or_else(|| Failure::not_found("subscription plan", &plan_id.to_string()))
}

fn shown(data: &Data, plan: &Plan) -> Value {
    serde_json::to_value(data.catalogue.plan_view(plan, data.currency)).unwrap_or_default()
}
