//! Delivery of hooks by Keap's policy: batches after a delay, four attempts, then Inactive.
//!
//! | attempt | when |
//! |---|---|
//! | 1 | 30 to 60 s after the change; 5 to 10 min for `contactGroup.applied` and `contactGroup.delete` |
//! | 2 | 30 to 60 s after the failure |
//! | 3 | 5 min after that |
//! | 4 | 30 min after that |
//!
//! All are divided by the time scale. An attempt fails without an answer in time, or with a status under 200 or from
//! 400 on; 410 makes the subscription Inactive at once. Each batch is tried on its own: a slow receiver does not hold
//! up the batches behind.

use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Batch, Event, HookStatus};
use crate::clock;
use crate::faults::FaultKind;
use crate::gate::{find, pause};
use crate::simulator::Simulator;
use crate::tenant::Tenant;

const SECRET_HEADER: &str = "x-hook-secret";

/// The waits before the second, third and fourth attempt, in seconds: at least, and at most.
const RETRY_DELAYS_S: [(u64, u64); 3] = [(30, 60), (300, 300), (1800, 1800)];

/// How an attempt went.
enum Outcome {
    Delivered,
    Failed,
    Gone,
}

/// Starts waiting for what else happens before a subscription's events go out.
pub(crate) fn arm(simulator: &Simulator, tenant: &Arc<Tenant>, key: u64, event_key: &str) {
    let (least, most) = match event_key {
        "contactGroup.applied" | "contactGroup.delete" => (300, 600),
        _ => (30, 60),
    };
    let delay = draw_delay(simulator, tenant, least, most);
    let (simulator, tenant) = (simulator.clone(), Arc::clone(tenant));
    tokio::spawn(async move {
        wait(&simulator, None, delay).await;
        // After an early flush there is nothing left, or what has come since, which may go now as well.
        let batches = tenant.hooks().drain(key);
        for batch in batches {
            tokio::spawn(first_attempt(simulator.clone(), Arc::clone(&tenant), batch));
        }
    });
}

/// Delivers at once what is pending and what waits for another attempt. Returns when each pending batch has had its
/// first attempt, with the number of those batches.
pub(crate) async fn flush(simulator: &Simulator, tenant: &Arc<Tenant>) -> usize {
    let keys: Vec<u64> = tenant.hooks().list().map(|subscription| subscription.key).collect();
    let mut attempts = JoinSet::new();
    for key in keys {
        let batches = tenant.hooks().drain(key);
        for batch in batches {
            attempts.spawn(first_attempt(simulator.clone(), Arc::clone(tenant), batch));
        }
    }
    tenant.hooks_flushed.notify_waiters();
    let count = attempts.len();
    attempts.join_all().await;
    count
}

/// Asks the receiver to prove itself. It must answer 200 and give back the secret.
pub(crate) async fn handshake(simulator: &Simulator, tenant: &Tenant, key: u64) {
    let begun = tenant.hooks().begin_handshake(key);
    let Some((hook_url, secret)) = begun else { return };
    // What the body holds is undocumented; one that looks like a delivery finds out a receiver that goes by the body.
    let body = json!({ "event_key": "", "object_type": "", "object_keys": [] });
    let sent = simulator
        .client()
        .post(&hook_url)
        .header(SECRET_HEADER, &secret)
        .json(&body)
        .timeout(answer_timeout(simulator))
        .send()
        .await;
    let is_verified = sent.is_ok_and(|response| {
        response.status() == StatusCode::OK
            && response.headers().get(SECRET_HEADER).is_some_and(|echo| echo.as_bytes() == secret.as_bytes())
    });
    tracing::info!(event = "hook_handshake", tenant = tenant.name(), key, is_verified);
    if is_verified {
        tenant.hooks().set_status(key, HookStatus::Verified);
    }
}

async fn first_attempt(simulator: Simulator, tenant: Arc<Tenant>, mut batch: Batch) {
    let faults = tenant.faults().of_delivery(&batch.event_key);
    if find(&faults, FaultKind::HookLost).is_some() {
        tenant.meter().deliveries.lost += 1;
        return;
    }
    let mut late_ms = 0;
    if let Some(fault) = find(&faults, FaultKind::HookReorder) {
        batch.events.reverse();
        late_ms += fault.ms.unwrap_or(0);
    }
    if let Some(fault) = find(&faults, FaultKind::HookDelay) {
        late_ms += fault.ms.unwrap_or(0);
    }
    let is_doubled = find(&faults, FaultKind::HookDuplicate).is_some();
    if late_ms > 0 {
        tokio::spawn(async move {
            pause(&simulator, late_ms).await;
            deliver(&simulator, &tenant, batch, is_doubled).await;
        });
    } else {
        deliver(&simulator, &tenant, batch, is_doubled).await;
    }
}

async fn deliver(simulator: &Simulator, tenant: &Arc<Tenant>, batch: Batch, is_doubled: bool) {
    if is_doubled {
        attempt(simulator, tenant, &batch).await;
    }
    match attempt(simulator, tenant, &batch).await {
        Outcome::Delivered => {}
        Outcome::Gone => tenant.hooks().set_status(batch.key, HookStatus::Inactive),
        Outcome::Failed => {
            tokio::spawn(retry(simulator.clone(), Arc::clone(tenant), batch));
        }
    }
}

async fn retry(simulator: Simulator, tenant: Arc<Tenant>, batch: Batch) {
    for (least, most) in RETRY_DELAYS_S {
        let delay = draw_delay(&simulator, &tenant, least, most);
        wait(&simulator, Some(&tenant), delay).await;
        if *simulator.stopped().borrow() {
            return;
        }
        match attempt(&simulator, &tenant, &batch).await {
            Outcome::Delivered => return,
            Outcome::Gone => break,
            Outcome::Failed => {}
        }
    }
    tracing::info!(event = "hook_inactive", tenant = tenant.name(), key = batch.key);
    tenant.hooks().set_status(batch.key, HookStatus::Inactive);
}

/// Posts a batch once. A subscription that is no longer Verified gets nothing, and the batch counts as done.
async fn attempt(simulator: &Simulator, tenant: &Tenant, batch: &Batch) -> Outcome {
    let target = {
        let hooks = tenant.hooks();
        hooks
            .get(batch.key)
            .filter(|subscription| subscription.status == HookStatus::Verified)
            .map(|subscription| subscription.hook_url.clone())
    };
    let Some(hook_url) = target else { return Outcome::Delivered };
    tenant.meter().deliveries.attempted += 1;
    let sent = simulator
        .client()
        .post(&hook_url)
        .json(&payload(simulator, batch))
        .timeout(answer_timeout(simulator))
        .send()
        .await;
    let outcome = match sent.map(|response| response.status()) {
        Ok(StatusCode::GONE) => Outcome::Gone,
        Ok(status) if (200..400).contains(&status.as_u16()) => Outcome::Delivered,
        Ok(status) => {
            tracing::info!(
                event = "hook_refused",
                tenant = tenant.name(),
                key = batch.key,
                status = status.as_u16()
            );
            Outcome::Failed
        }
        Err(error) => {
            tracing::info!(event = "hook_unanswered", tenant = tenant.name(), key = batch.key, %error);
            Outcome::Failed
        }
    };
    let mut meter = tenant.meter();
    match outcome {
        Outcome::Delivered => {
            meter.deliveries.ok += 1;
            meter.deliveries.objects += u64::try_from(batch.events.len()).unwrap_or(0);
        }
        Outcome::Failed | Outcome::Gone => meter.deliveries.failed += 1,
    }
    outcome
}

fn payload(simulator: &Simulator, batch: &Batch) -> Value {
    let object_type = batch.event_key.rsplit_once('.').map_or(batch.event_key.as_str(), |(object, _)| object);
    let collection = match object_type {
        "contact" => "contacts",
        "contactGroup" => "tags",
        "order" => "orders",
        "subscription" => "subscriptions",
        "product" => "products",
        other => other,
    };
    let root = simulator.api_url();
    let names_contacts = simulator.options().tag_hooks_name_contacts;
    let object = |event: &Event| {
        let timestamp = clock::format_ms(event.at_ms);
        let mut object = json!({
            "id": event.id,
            "apiUrl": format!("{root}/rest/v1/{collection}/{}", event.id),
            "timestamp": timestamp,
        });
        if names_contacts && !event.contact_ids.is_empty() {
            let details: Vec<Value> =
                event.contact_ids.iter().map(|id| json!({ "id": id, "timestamp": timestamp })).collect();
            if let Some(object) = object.as_object_mut() {
                object.insert("contact_details".to_owned(), details.into());
            }
        }
        object
    };
    json!({
        "event_key": batch.event_key,
        "object_type": object_type,
        "object_keys": batch.events.iter().map(object).collect::<Vec<_>>(),
    })
}

fn draw_delay(simulator: &Simulator, tenant: &Tenant, least_s: u64, most_s: u64) -> Duration {
    let seconds = least_s + tenant.hooks().random.below(most_s - least_s + 1);
    let seconds = u32::try_from(seconds).map_or(f64::MAX, f64::from);
    Duration::try_from_secs_f64(seconds / simulator.options().time_scale).unwrap_or(Duration::MAX)
}

/// Waits for the delay, or until the simulator stops, or, for a tenant's retry, until its hooks are flushed.
async fn wait(simulator: &Simulator, tenant: Option<&Tenant>, delay: Duration) {
    let mut stopped = simulator.stopped();
    let flushed = async {
        match tenant {
            Some(tenant) => tenant.hooks_flushed.notified().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = tokio::time::sleep(delay) => {}
        () = flushed => {}
        _ = stopped.wait_for(|is_stopped| *is_stopped) => {}
    }
}

fn answer_timeout(simulator: &Simulator) -> Duration {
    Duration::from_millis(simulator.options().hook_answer_timeout_ms)
}
