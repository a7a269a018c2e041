//! The control API under `/sim`: what a test or a demo does behind Keap's back.
//!
//! It asks for no credentials and is meant for the machine it runs on. Changes made here are changes a person makes in
//! Keap's own screens: they fire hooks and count as no call of the API.

mod contacts;
mod listing;
mod orders;
mod reports;
mod settings;
mod subscriptions;
mod tags;

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::routing::{get, patch, post, put};

use crate::failure::Failure;
use crate::simulator::Simulator;
use crate::tenant::Tenant;

/// All routes of the control API.
pub(crate) fn routes() -> Router<Simulator> {
    Router::new()
        .route("/sim/health", get(reports::health))
        .route("/sim/tenants", get(reports::tenants))
        .route("/sim/tenants/{tenant}", get(reports::tenant))
        .route("/sim/tenants/{tenant}/log", get(reports::log))
        .route("/sim/tenants/{tenant}/changes", get(reports::changes))
        .route("/sim/tenants/{tenant}/writes", get(reports::writes).post(reports::keep_writes))
        .route("/sim/tenants/{tenant}/reset-counters", post(reports::reset_counters))
        .route("/sim/tenants/{tenant}/seed", post(contacts::seed))
        .route("/sim/tenants/{tenant}/contacts", get(contacts::list).post(contacts::create))
        .route(
            "/sim/tenants/{tenant}/contacts/{contact_id}",
            get(contacts::show).patch(contacts::update).delete(contacts::delete),
        )
        .route(
            "/sim/tenants/{tenant}/contacts/{contact_id}/tags/{tag_id}",
            put(tags::apply).delete(tags::remove),
        )
        .route("/sim/tenants/{tenant}/tags", get(tags::list).post(tags::create))
        .route(
            "/sim/tenants/{tenant}/tags/{tag_id}",
            get(tags::show).patch(tags::update).delete(tags::delete),
        )
        .merge(sales())
        .route("/sim/tenants/{tenant}/service-keys", post(settings::create_service_key))
        .route("/sim/tenants/{tenant}/revoke", post(settings::revoke))
        .route("/sim/tenants/{tenant}/token-ttl", post(settings::token_ttl))
        .route("/sim/tenants/{tenant}/quota", post(settings::quota).delete(settings::clear_quota))
        .route("/sim/tenants/{tenant}/hooks/flush", post(settings::flush_hooks))
        .route("/sim/tenants/{tenant}/hooks/deactivate", post(settings::deactivate_hooks))
        .route(
            "/sim/tenants/{tenant}/faults",
            get(settings::faults).post(settings::add_faults).delete(settings::clear_faults),
        )
}

/// Orders and subscriptions.
fn sales() -> Router<Simulator> {
    Router::new()
        .route("/sim/tenants/{tenant}/orders", get(orders::list).post(orders::create))
        .route(
            "/sim/tenants/{tenant}/orders/{order_id}",
            get(orders::show).patch(orders::update).delete(orders::delete),
        )
        .route("/sim/tenants/{tenant}/orders/{order_id}/items", post(orders::create_item))
        .route(
            "/sim/tenants/{tenant}/orders/{order_id}/items/{order_item_id}",
            patch(orders::update_item).delete(orders::delete_item),
        )
        .route("/sim/tenants/{tenant}/orders/{order_id}/payments", post(orders::pay))
        .route("/sim/tenants/{tenant}/subscriptions", get(subscriptions::list).post(subscriptions::create))
        .route(
            "/sim/tenants/{tenant}/subscriptions/{subscription_id}",
            get(subscriptions::show).patch(subscriptions::update).delete(subscriptions::delete),
        )
}

/// The tenant that the path names, made on first use.
pub(crate) struct NamedTenant(pub(crate) Arc<Tenant>);

impl FromRequestParts<Simulator> for NamedTenant {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, simulator: &Simulator) -> Result<Self, Failure> {
        // `/sim/tenants/{tenant}/…`: the third part of the path.
        let name = parts.uri.path().split('/').nth(3).unwrap_or_default();
        simulator
            .tenant(name)
            .map(Self)
            .ok_or_else(|| Failure::bad_request("a tenant's name is 1 to 64 of a-z, 0-9 and -"))
    }
}
