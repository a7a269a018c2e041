//! What the simulator has seen.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::NamedTenant;
use crate::hooks::Subscription;
use crate::quota::Limits;
use crate::simulator::Simulator;

/// The most kept writes of one answer.
const WRITES_LISTED_MAX: usize = 10_000;

/// `GET /sim/health`
pub(crate) async fn health(State(simulator): State<Simulator>) -> Json<Value> {
    Json(json!({ "status": "healthy", "api_url": simulator.api_url() }))
}

/// `GET /sim/quota`: the most calls of the OAuth client in any second, minute and UTC day, beside what is allowed.
pub(crate) async fn quota(State(simulator): State<Simulator>) -> Json<Value> {
    let limits = Limits::of_client(simulator.options());
    let seen = simulator.client_seen();
    Json(json!({
        "limits": { "second": limits.second, "minute": limits.minute, "day": limits.day },
        "max_calls": { "second": seen.peaks.in_1s, "minute": seen.peaks.in_60s, "day": seen.peaks.in_day },
        "refused": seen.refused,
    }))
}

/// `GET /sim/tenants`
pub(crate) async fn tenants(State(simulator): State<Simulator>) -> Json<Value> {
    Json(json!({ "tenants": simulator.tenant_names() }))
}

/// `GET /sim/tenants/{tenant}`
pub(crate) async fn tenant(NamedTenant(tenant): NamedTenant) -> Json<Value> {
    let mut report = {
        let data = tenant.data();
        let applications: usize =
            data.tags.definitions.keys().map(|tag| data.tags.contacts_of(*tag).count()).sum();
        json!({
            "tenant": tenant.name(),
            "currency": data.currency.code,
            "contacts": data.contacts.len(),
            "tags": data.tags.definitions.len(),
            "tag_categories": data.tags.categories.len(),
            "tag_applications": applications,
            "orders": data.orders.len(),
            "order_items": data.orders.all().values().map(|order| order.items.len()).sum::<usize>(),
            "products": data.catalogue.products.len(),
            "subscription_plans": data.catalogue.plans.len(),
            "subscriptions": data.subscriptions.len(),
        })
    };
    let (hooks, pending) = {
        let hooks = tenant.hooks();
        (hooks.list().map(Subscription::shown).collect::<Vec<_>>(), hooks.pending())
    };
    let meter = tenant.meter();
    let seen = json!({
        "hooks": hooks,
        "calls": {
            "total": meter.total,
            "by_operation": meter.by_operation,
            "by_status": meter.by_status,
            "writes": meter.writes,
        },
        "refreshes": meter.refreshes,
        "max_calls_in_1s": meter.peaks.in_1s,
        "max_calls_in_60s": meter.peaks.in_60s,
        "deliveries": {
            "attempted": meter.deliveries.attempted,
            "ok": meter.deliveries.ok,
            "failed": meter.deliveries.failed,
            "lost": meter.deliveries.lost,
            "objects": meter.deliveries.objects,
            "pending": pending,
        },
    });
    if let (Some(report), Value::Object(seen)) = (report.as_object_mut(), seen) {
        report.extend(seen);
    }
    Json(report)
}

/// Where a log is to begin.
#[derive(Debug, Deserialize)]
pub(crate) struct Since {
    /// Milliseconds since the Unix epoch.
    #[serde(default)]
    since: i64,
}

/// `GET /sim/tenants/{tenant}/log`
pub(crate) async fn log(NamedTenant(tenant): NamedTenant, Query(query): Query<Since>) -> Json<Value> {
    Json(json!({ "calls": tenant.meter().calls_since(query.since) }))
}

/// `GET /sim/tenants/{tenant}/changes`
pub(crate) async fn changes(NamedTenant(tenant): NamedTenant, Query(query): Query<Since>) -> Json<Value> {
    Json(json!({ "changes": tenant.meter().changes_since(query.since) }))
}

/// `POST /sim/tenants/{tenant}/writes`: every write of the API is kept from now on.
pub(crate) async fn keep_writes(NamedTenant(tenant): NamedTenant) -> StatusCode {
    tenant.meter().keep_writes();
    StatusCode::NO_CONTENT
}

/// Which kept writes to list.
#[derive(Debug, Deserialize)]
pub(crate) struct AfterSeq {
    #[serde(default)]
    after_seq: u64,
}

/// `GET /sim/tenants/{tenant}/writes`
pub(crate) async fn writes(NamedTenant(tenant): NamedTenant, Query(query): Query<AfterSeq>) -> Json<Value> {
    Json(json!({ "writes": tenant.meter().writes_after(query.after_seq, WRITES_LISTED_MAX) }))
}

/// `POST /sim/tenants/{tenant}/reset-counters`
pub(crate) async fn reset_counters(NamedTenant(tenant): NamedTenant) -> StatusCode {
    tenant.meter().reset();
    StatusCode::NO_CONTENT
}
