//! `/crm/rest/v1/hooks`: subscriptions and their verification.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use serde::Deserialize;

use crate::failure::Failure;
use crate::hooks::delivery::handshake;
use crate::hooks::{EVENT_KEYS, HookStatus, RestHook, Subscription};
use crate::simulator::Simulator;
use crate::tenant::Tenant;

/// The body that creates or changes a subscription (`RestHookRequest`).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HookRequest {
    event_key: String,
    hook_url: String,
}

/// `GET /hooks/event_keys`
pub(crate) async fn event_keys() -> Json<&'static [&'static str]> {
    Json(EVENT_KEYS)
}

/// `GET /hooks`
pub(crate) async fn list(Extension(tenant): Extension<Arc<Tenant>>) -> Json<Vec<RestHook>> {
    Json(tenant.hooks().list().map(Subscription::shown).collect())
}

/// `POST /hooks`: the receiver is called while this request is open. A receiver that fails leaves the subscription
/// Unverified, and the answer says so.
pub(crate) async fn create(
    State(simulator): State<Simulator>,
    Extension(tenant): Extension<Arc<Tenant>>,
    bytes: Bytes,
) -> Result<Json<RestHook>, Failure> {
    let request = read(&bytes)?;
    let key = tenant.hooks().subscribe(request.event_key, request.hook_url);
    handshake(&simulator, &tenant, key).await;
    shown(&tenant, key).map(Json)
}

/// `GET /hooks/{key}`
pub(crate) async fn show(
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(key): Path<String>,
) -> Result<Json<RestHook>, Failure> {
    shown(&tenant, known(&tenant, &key)?).map(Json)
}

/// `PUT /hooks/{key}`
pub(crate) async fn update(
    State(simulator): State<Simulator>,
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(key): Path<String>,
    bytes: Bytes,
) -> Result<Json<RestHook>, Failure> {
    let key = known(&tenant, &key)?;
    let request = read(&bytes)?;
    let is_replaced = tenant.hooks().replace(key, request.event_key, request.hook_url);
    if is_replaced {
        handshake(&simulator, &tenant, key).await;
    }
    shown(&tenant, key).map(Json)
}

/// `DELETE /hooks/{key}`
pub(crate) async fn delete(
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(key): Path<String>,
) -> Result<StatusCode, Failure> {
    let key = known(&tenant, &key)?;
    tenant.hooks().remove(key);
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /hooks/{key}/verify`
pub(crate) async fn verify(
    State(simulator): State<Simulator>,
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(key): Path<String>,
) -> Result<Json<RestHook>, Failure> {
    let key = known(&tenant, &key)?;
    handshake(&simulator, &tenant, key).await;
    shown(&tenant, key).map(Json)
}

/// `POST /hooks/{key}/delayedVerify`
pub(crate) async fn delayed_verify(
    Extension(tenant): Extension<Arc<Tenant>>,
    Path(key): Path<String>,
    headers: HeaderMap,
) -> Result<Json<RestHook>, Failure> {
    let key = known(&tenant, &key)?;
    let secret = headers.get("x-hook-secret").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_proven = tenant.hooks().is_secret(key, secret);
    if !is_proven {
        return Err(Failure::v1(
            StatusCode::BAD_REQUEST,
            "X-Hook-Secret is not the secret of the last verification",
        ));
    }
    tenant.hooks().set_status(key, HookStatus::Verified);
    shown(&tenant, key).map(Json)
}

fn read(bytes: &Bytes) -> Result<HookRequest, Failure> {
    let refuse = |message: &str| Failure::v1(StatusCode::BAD_REQUEST, message);
    let request: HookRequest = serde_json::from_slice(bytes)
        .map_err(|_| refuse("Input could not be converted to a valid request"))?;
    if !EVENT_KEYS.contains(&request.event_key.as_str()) {
        return Err(refuse("eventKey is not known"));
    }
    let is_address =
        reqwest::Url::parse(&request.hook_url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if !is_address {
        return Err(refuse("hookUrl must be an http or https address"));
    }
    Ok(request)
}

fn known(tenant: &Tenant, key: &str) -> Result<u64, Failure> {
    let missing = || Failure::v1(StatusCode::NOT_FOUND, format!("hook {key} was not found"));
    let number = key.parse().map_err(|_| missing())?;
    if tenant.hooks().get(number).is_some() { Ok(number) } else { Err(missing()) }
}

fn shown(tenant: &Tenant, key: u64) -> Result<RestHook, Failure> {
    tenant
        .hooks()
        .get(key)
        .map(Subscription::shown)
        .ok_or_else(|| Failure::v1(StatusCode::NOT_FOUND, "the hook was deleted meanwhile"))
}
