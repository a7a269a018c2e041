//! The gate in front of every API route: credentials, quota, faults, the log and the quota headers.
//!
//! Order of checks, as at Keap's gateway: credential (401), quota (429), then the operation. A fault of kind `status`
//! or `timeout_before` keeps the operation from running; `timeout_after` and `invalid_json` let it run first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::clock;
use crate::failure::Failure;
use crate::faults::{Fault, FaultKind};
use crate::listener::Connection;
use crate::meter::{CallEntry, WriteEntry};
use crate::operation::Operation;
use crate::quota::{self, Exceeded};
use crate::simulator::{Allowance, Refusal, Simulator};
use crate::tenant::Tenant;

/// How long a connection is held by a timeout fault that names no time.
const TIMEOUT_DEFAULT_MS: u64 = 30_000;

/// Largest answer that a fault is asked to cut: a page of 1000 contacts is about 1.5 MB.
const ANSWER_SIZE_MAX: usize = 256 * 1024 * 1024;

/// Largest body that is kept of a write; the API takes none that large.
const KEPT_BODY_SIZE_MAX: usize = 16 * 1024 * 1024;

/// Lets a request through to its operation, or answers in its place.
pub(crate) async fn gate(
    State(simulator): State<Simulator>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    route: MatchedPath,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let at_ms = clock::now_ms();
    let operation = Operation::of(request.method(), route.as_str(), request.uri().path());
    let authenticated = simulator.credentials().authenticate(request.headers());
    let Some((tenant, credential)) = authenticated else {
        let mut response = Failure::unauthorized().into_response();
        blank_quota_headers(response.headers_mut());
        return response;
    };
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    tenant.meter().begin(operation, at_ms);
    let (allowance, verdict) = simulator.admit(&tenant, &credential, at_ms);
    request.extensions_mut().insert(Arc::clone(&tenant));
    let outcome = match verdict {
        Err(refusal) => Some(refuse(refusal, &allowance).into_response()),
        Ok(()) => run(&simulator, &tenant, operation, request, next).await,
    };
    let status = outcome.as_ref().map_or(0, |response| response.status().as_u16());
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let entry = CallEntry { seq: 0, at_ms, method, path, operation: operation.name(), status, duration_ms };
    tracing::debug!(
        event = "call",
        tenant = tenant.name(),
        operation = operation.name(),
        status,
        duration_ms
    );
    tenant.meter().end(entry);
    let Some(mut response) = outcome else {
        connection.sever();
        return StatusCode::GATEWAY_TIMEOUT.into_response();
    };
    quota_headers(response.headers_mut(), &tenant, &allowance, at_ms);
    response
}

/// Runs the operation with the faults that happen to it; `None` closes the connection without an answer.
async fn run(
    simulator: &Simulator,
    tenant: &Tenant,
    operation: Operation,
    request: Request,
    next: Next,
) -> Option<Response> {
    let faults = tenant.faults().of_call(operation);
    for fault in faults.iter().filter(|fault| fault.kind == FaultKind::Latency) {
        pause(simulator, fault.ms.unwrap_or(0)).await;
    }
    if let Some(fault) = find(&faults, FaultKind::TimeoutBefore) {
        pause(simulator, fault.ms.unwrap_or(TIMEOUT_DEFAULT_MS)).await;
        return None;
    }
    if let Some(fault) = find(&faults, FaultKind::Status) {
        return Some(status_answer(fault));
    }
    let path = request.uri().path().to_owned();
    let keeps = operation.writes() && tenant.meter().keeps_writes();
    let (request, sent) = if keeps { with_body(request).await } else { (request, Bytes::new()) };
    let response = next.run(request).await;
    if operation.writes() && response.status().is_success() {
        let mut meter = tenant.meter();
        meter.writes += 1;
        if keeps {
            let body = serde_json::from_slice(&sent).unwrap_or_default();
            let (at_ms, operation) = (clock::now_ms(), operation.name());
            meter.keep_write(WriteEntry { seq: 0, at_ms, operation, path, body });
        }
    }
    if let Some(fault) = find(&faults, FaultKind::TimeoutAfter) {
        pause(simulator, fault.ms.unwrap_or(TIMEOUT_DEFAULT_MS)).await;
        return None;
    }
    if find(&faults, FaultKind::InvalidJson).is_some() {
        return Some(cut_answer(response).await);
    }
    Some(response)
}

/// The request, and a copy of its body.
async fn with_body(request: Request) -> (Request, Bytes) {
    let (parts, body) = request.into_parts();
    // A body that breaks off reaches the operation as an empty one, which it refuses.
    let bytes = to_bytes(body, KEPT_BODY_SIZE_MAX).await.unwrap_or_default();
    (Request::from_parts(parts, Body::from(bytes.clone())), bytes)
}

pub(crate) fn find(faults: &[Fault], kind: FaultKind) -> Option<&Fault> {
    faults.iter().find(|fault| fault.kind == kind)
}

/// Waits, but not past the end of the simulator.
pub(crate) async fn pause(simulator: &Simulator, ms: u64) {
    let mut stopped = simulator.stopped();
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(ms)) => {}
        _ = stopped.wait_for(|is_stopped| *is_stopped) => {}
    }
}

/// The answer of a fault of kind `status`.
pub(crate) fn status_answer(fault: &Fault) -> Response {
    let status = fault.status.and_then(|status| StatusCode::from_u16(status).ok());
    let mut response =
        Failure::of_status(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)).into_response();
    if let Some(seconds) = fault.retry_after_s {
        response.headers_mut().insert("retry-after", HeaderValue::from(seconds));
    }
    response
}

/// The answer with the second half of its body missing, or with half an object where there was no body.
async fn cut_answer(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let bytes = to_bytes(body, ANSWER_SIZE_MAX).await.unwrap_or_default();
    let half = bytes.len() / 2;
    let cut = if half == 0 { "{\"id\":".into() } else { bytes.slice(..half) };
    parts.headers.remove("content-length");
    if parts.status == StatusCode::NO_CONTENT {
        parts.status = StatusCode::OK;
    }
    Response::from_parts(parts, Body::from(cut))
}

fn refuse(refusal: Refusal, allowance: &Allowance) -> Failure {
    const STATUS: StatusCode = StatusCode::TOO_MANY_REQUESTS;
    match refusal {
        Refusal::Tenant => Failure::throttled(),
        Refusal::Credential(Exceeded::Second) => Failure::gateway(
            STATUS,
            format!(
                "Spike arrest violation. Allowed rate : MessageRate{{messagesPerPeriod={}, periodInMicroseconds=1000000, maxBurstMessageCount=1.0}}",
                allowance.limits.second.unwrap_or_default()
            ),
            "policies.ratelimit.SpikeArrestViolation",
        ),
        Refusal::Credential(Exceeded::Minute | Exceeded::Day) => Failure::gateway(
            STATUS,
            "Rate limit quota violation. Quota limit exceeded. Identifier : simulated",
            "policies.ratelimit.QuotaViolation",
        ),
    }
}

/// The names of the quota headers, in the order of the values below.
const QUOTA_HEADERS: [&str; 18] = [
    "x-keap-product-quota-limit",
    "x-keap-product-quota-time-unit",
    "x-keap-product-quota-interval",
    "x-keap-product-quota-available",
    "x-keap-product-quota-used",
    "x-keap-product-quota-expiry-time",
    "x-keap-product-throttle-limit",
    "x-keap-product-throttle-time-unit",
    "x-keap-product-throttle-interval",
    "x-keap-product-throttle-available",
    "x-keap-product-throttle-used",
    "x-keap-product-spike-limit",
    "x-keap-tenant-id",
    "x-keap-tenant-throttle-limit",
    "x-keap-tenant-throttle-time-unit",
    "x-keap-tenant-throttle-interval",
    "x-keap-tenant-throttle-available",
    "x-keap-tenant-throttle-used",
];

fn quota_headers(headers: &mut HeaderMap, tenant: &Tenant, allowance: &Allowance, now_ms: i64) {
    let Allowance { limits, tenant_limits, .. } = allowance;
    let left = |limit: u32, used: u32| limit.saturating_sub(used);
    let values = [
        limits.day.to_string(),
        "day".to_owned(),
        "1".to_owned(),
        left(limits.day, allowance.used_in_day).to_string(),
        allowance.used_in_day.to_string(),
        quota::next_day_ms(now_ms).to_string(),
        limits.minute.to_string(),
        "minute".to_owned(),
        "1".to_owned(),
        left(limits.minute, allowance.used_in_minute).to_string(),
        allowance.used_in_minute.to_string(),
        limits.second.unwrap_or_default().to_string(),
        tenant.name().to_owned(),
        format!("{}|{}", tenant_limits.minute, tenant_limits.day),
        "minute|day".to_owned(),
        "1|1".to_owned(),
        format!(
            "{}|{}",
            left(tenant_limits.minute, allowance.tenant_used_in_minute),
            left(tenant_limits.day, allowance.tenant_used_in_day)
        ),
        format!("{}|{}", allowance.tenant_used_in_minute, allowance.tenant_used_in_day),
    ];
    for (name, value) in QUOTA_HEADERS.into_iter().zip(values) {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

/// An unauthenticated answer has the headers with nothing in them.
fn blank_quota_headers(headers: &mut HeaderMap) {
    for name in QUOTA_HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(""));
    }
}
