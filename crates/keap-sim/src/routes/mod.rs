//! The routes of Keap's API and what they share: reading ids, masks and bodies.

pub(crate) mod contacts;
pub(crate) mod hooks;
pub(crate) mod listing;
pub(crate) mod model;
pub(crate) mod order_items;
pub(crate) mod orders;
pub(crate) mod products;
pub(crate) mod subscription_plans;
pub(crate) mod subscriptions;
pub(crate) mod tag_applications;
pub(crate) mod tag_categories;
pub(crate) mod tags;

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use serde::de::DeserializeOwned;

use crate::data::mask::WriteMask;
use crate::failure::Failure;
use crate::gate::gate;
use crate::query::page::Parameters;
use crate::simulator::Simulator;

/// All routes under `/crm`, behind the gate.
pub(crate) fn api(simulator: &Simulator) -> Router<Simulator> {
    Router::new()
        .route("/crm/rest/v2/contacts", get(contacts::list).post(contacts::create))
        .route("/crm/rest/v2/contacts/model", get(model::show))
        .route("/crm/rest/v2/contacts/model/customFields", post(model::create_custom_field))
        .route("/crm/rest/v2/contacts/-/tags", get(tag_applications::list_tags_across_contacts))
        .route(
            "/crm/rest/v2/contacts/{contact_id}",
            get(contacts::show).patch(contacts::update).delete(contacts::delete),
        )
        .route("/crm/rest/v2/contacts/{contact_id}/tags", get(tag_applications::list_of_contact))
        .route("/crm/rest/v2/tags", get(tags::list).post(tags::create))
        .route("/crm/rest/v2/tags/categories", get(tag_categories::list).post(tag_categories::create))
        .route(
            "/crm/rest/v2/tags/categories/{tag_category_id}",
            get(tag_categories::show).patch(tag_categories::update).delete(tag_categories::delete),
        )
        .route("/crm/rest/v2/tags/-/contacts", get(tag_applications::list_contacts_across_tags))
        .route("/crm/rest/v2/tags/{tag_id}", get(tags::show).patch(tags::update).delete(tags::delete))
        .route("/crm/rest/v2/tags/{tag_id}/contacts", get(tag_applications::list_of_tag))
        .route("/crm/rest/v2/tags/{tag_id}/contacts/count", get(tag_applications::count_of_tag))
        .route("/crm/rest/v2/tags/{tag_id}/contacts:applyTags", post(tag_applications::apply))
        .route("/crm/rest/v2/tags/{tag_id}/contacts:removeTags", post(tag_applications::remove))
        .merge(sales())
        .route("/crm/rest/v2/oauth/connect/userinfo", get(model::user_info))
        .route("/crm/rest/v1/hooks", get(hooks::list).post(hooks::create))
        .route("/crm/rest/v1/hooks/event_keys", get(hooks::event_keys))
        .route("/crm/rest/v1/hooks/{key}", get(hooks::show).put(hooks::update).delete(hooks::delete))
        .route("/crm/rest/v1/hooks/{key}/verify", post(hooks::verify))
        .route("/crm/rest/v1/hooks/{key}/delayedVerify", post(hooks::delayed_verify))
        .method_not_allowed_fallback(method_not_allowed)
        .route_layer(from_fn_with_state(simulator.clone(), gate))
}

/// Orders, products and subscriptions.
fn sales() -> Router<Simulator> {
    Router::new()
        .route("/crm/rest/v2/orders", get(orders::list).post(orders::create))
        .route("/crm/rest/v2/orders/model", get(model::show_of_orders))
        .route("/crm/rest/v2/orders/model/customFields", post(model::create_order_field))
        .route(
            "/crm/rest/v2/orders/{order_id}",
            get(orders::show).patch(orders::update).delete(orders::delete),
        )
        .route("/crm/rest/v2/orders/{order_id}/payments", get(orders::payments))
        .route("/crm/rest/v2/orders/{order_id}/items", post(order_items::create))
        .route(
            "/crm/rest/v2/orders/{order_id}/items/{order_item_id}",
            get(order_items::show).patch(order_items::update).delete(order_items::delete),
        )
        .route("/crm/rest/v2/products", get(products::list).post(products::create))
        .route(
            "/crm/rest/v2/products/{product_id}",
            get(products::show).patch(products::update).delete(products::delete),
        )
        .route(
            "/crm/rest/v2/products/{product_id}/subscriptions",
            get(subscription_plans::list).post(subscription_plans::create),
        )
        .route(
            "/crm/rest/v2/products/{product_id}/subscriptions/{subscription_plan_id}",
            get(subscription_plans::show),
        )
        .route("/crm/rest/v2/subscriptions", get(subscriptions::list).post(subscriptions::create))
        .route("/crm/rest/v2/subscriptions/model", get(model::show_of_subscriptions))
        .route("/crm/rest/v2/subscriptions/model/customFields", post(model::create_subscription_field))
        .route(
            "/crm/rest/v2/subscriptions/{subscription_id}",
            get(subscriptions::show).patch(subscriptions::update).post(subscriptions::deactivate),
        )
}

pub(crate) async fn method_not_allowed() -> Failure {
    Failure::rest(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", "")
}

/// The answer of every path that is not served.
pub(crate) async fn not_found() -> Failure {
    Failure::rest(StatusCode::NOT_FOUND, "No such resource", "")
}

/// Reads a JSON body.
pub(crate) fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| {
        Failure::bad_request(format!("Input could not be converted to a valid request: {error}"))
    })
}

/// Reads an id of a path.
pub(crate) fn id(text: &str, name: &str) -> Result<u64, Failure> {
    text.parse().map_err(|_| Failure::bad_request(format!("{name} must be a number")))
}

/// The properties named by `update_mask`, which is given once for each. `None` without a mask.
pub(crate) fn mask(parameters: &Parameters) -> Option<Vec<&str>> {
    let named: Vec<&str> =
        parameters.iter().filter(|(key, _)| key == "update_mask").map(|(_, value)| value.as_str()).collect();
    (!named.is_empty()).then_some(named)
}

/// The mask of a write, of the names its route takes.
pub(crate) fn write_mask(parameters: &Parameters, allowed: &[&str]) -> Result<WriteMask, Failure> {
    mask(parameters).map_or(Ok(WriteMask::GIVEN), |names| WriteMask::named(names, allowed))
}

/// The mask of a person's change: what the body names is set, and a null empties it.
pub(crate) fn body_mask(bytes: &Bytes, allowed: &[&str]) -> Result<WriteMask, Failure> {
    let named: serde_json::Map<String, serde_json::Value> = body(bytes)?;
    WriteMask::named(named.keys().map(String::as_str), allowed)
}

/// The refusal of a name that `update_mask` does not take.
pub(crate) fn unknown_in_mask(name: &str) -> Failure {
    Failure::bad_request(format!(
        "update_mask does not take '{name}'; give the parameter once for each property"
    ))
}
