//! Credentials, quotas, hooks and faults, as a test sets them.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::NamedTenant;
use crate::failure::Failure;
use crate::faults::Fault;
use crate::hooks::delivery::flush;
use crate::hooks::{EVENT_KEYS, HookStatus};
use crate::operation::Operation;
use crate::quota::{Limits, Usage};
use crate::routes::body;
use crate::simulator::Simulator;

/// `POST /sim/tenants/{tenant}/service-keys`
pub(crate) async fn create_service_key(
    State(simulator): State<Simulator>,
    NamedTenant(tenant): NamedTenant,
) -> (StatusCode, Json<Value>) {
    let key = simulator.credentials().issue_service_key(Arc::clone(&tenant));
    (StatusCode::CREATED, Json(json!({ "key": key })))
}

/// `POST /sim/tenants/{tenant}/revoke`
pub(crate) async fn revoke(
    State(simulator): State<Simulator>,
    NamedTenant(tenant): NamedTenant,
) -> StatusCode {
    simulator.credentials().revoke(&tenant);
    StatusCode::NO_CONTENT
}

/// How long access tokens live.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenTtlRequest {
    /// Counted from when a token was issued; the server's own lifetime when absent.
    #[serde(default)]
    seconds: Option<u64>,
}

/// `POST /sim/tenants/{tenant}/token-ttl`: for access tokens issued from now on, and for those there are.
pub(crate) async fn token_ttl(
    State(simulator): State<Simulator>,
    NamedTenant(tenant): NamedTenant,
    bytes: Bytes,
) -> Result<StatusCode, Failure> {
    let request: TokenTtlRequest = body(&bytes)?;
    tenant.set_access_token_ttl_s(request.seconds);
    let seconds = request.seconds.unwrap_or(simulator.options().access_token_ttl_s);
    simulator.credentials().set_access_token_ttl(&tenant, seconds);
    Ok(StatusCode::NO_CONTENT)
}

/// Limits of the credential for one tenant alone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct QuotaRequest {
    #[serde(rename = "calls_per_second")]
    second: u32,
    #[serde(rename = "calls_per_minute")]
    minute: u32,
    #[serde(rename = "calls_per_day")]
    day: u32,
}

/// `POST /sim/tenants/{tenant}/quota`
pub(crate) async fn quota(NamedTenant(tenant): NamedTenant, bytes: Bytes) -> Result<StatusCode, Failure> {
    let request: QuotaRequest = body(&bytes)?;
    let mut quota = tenant.quota();
    quota.credential_limits =
        Some(Limits { second: Some(request.second), minute: request.minute, day: request.day });
    quota.credential_usage = Usage::default();
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /sim/tenants/{tenant}/quota`
pub(crate) async fn clear_quota(NamedTenant(tenant): NamedTenant) -> StatusCode {
    tenant.quota().credential_limits = None;
    StatusCode::NO_CONTENT
}

/// `POST /sim/tenants/{tenant}/hooks/flush`
pub(crate) async fn flush_hooks(
    State(simulator): State<Simulator>,
    NamedTenant(tenant): NamedTenant,
) -> Json<Value> {
    Json(json!({ "batches": flush(&simulator, &tenant).await }))
}

/// Which subscriptions are to be made to fail.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Deactivation {
    /// Those to this event; without it, all.
    event_key: Option<String>,
    /// Whether they are to be forgotten altogether.
    #[serde(default)]
    forget: bool,
}

/// `POST /sim/tenants/{tenant}/hooks/deactivate`: as after deliveries that failed too often, or a person who deleted them.
pub(crate) async fn deactivate_hooks(
    NamedTenant(tenant): NamedTenant,
    bytes: Bytes,
) -> Result<Json<Value>, Failure> {
    let asked: Deactivation = body(&bytes)?;
    let mut hooks = tenant.hooks();
    let chosen: Vec<u64> = hooks
        .list()
        .filter(|hook| asked.event_key.as_ref().is_none_or(|event_key| *event_key == hook.event_key))
        .map(|hook| hook.key)
        .collect();
    for key in &chosen {
        if asked.forget {
            hooks.remove(*key);
        } else {
            hooks.set_status(*key, HookStatus::Inactive);
        }
    }
    Ok(Json(json!({ "hooks": chosen.len() })))
}

/// `GET /sim/tenants/{tenant}/faults`
pub(crate) async fn faults(NamedTenant(tenant): NamedTenant) -> Json<Value> {
    Json(json!({ "faults": tenant.faults().list() }))
}

/// One fault or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum FaultsRequest {
    Many(Vec<Fault>),
    One(Fault),
}

/// `POST /sim/tenants/{tenant}/faults`: adds to those there are.
pub(crate) async fn add_faults(
    NamedTenant(tenant): NamedTenant,
    bytes: Bytes,
) -> Result<(StatusCode, Json<Value>), Failure> {
    let faults = match body(&bytes)? {
        FaultsRequest::Many(faults) => faults,
        FaultsRequest::One(fault) => vec![fault],
    };
    for fault in &faults {
        if let Some(problem) = fault.problem() {
            return Err(Failure::bad_request(problem));
        }
        let is_known = fault
            .operation
            .as_deref()
            .is_none_or(|name| Operation::exists(name) || EVENT_KEYS.contains(&name));
        if !is_known {
            return Err(Failure::bad_request("operation is neither an operation's name nor an event key"));
        }
    }
    tenant.faults().add(faults);
    let answer = Json(json!({ "faults": tenant.faults().list() }));
    Ok((StatusCode::CREATED, answer))
}

/// `DELETE /sim/tenants/{tenant}/faults`
pub(crate) async fn clear_faults(NamedTenant(tenant): NamedTenant) -> StatusCode {
    tenant.faults().clear();
    StatusCode::NO_CONTENT
}
