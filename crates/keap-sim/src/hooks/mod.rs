//! REST hooks: subscriptions, their handshake, and what waits to be delivered.
//!
//! Hooks are v1 only. A subscription receives events only while it is Verified; what happens in the meantime is never
//! made up for. The state here is plain; `delivery` sends and waits.

pub(crate) mod delivery;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;

use crate::data::apply::Author;
use crate::meter::ChangeEntry;
use crate::random::Random;
use crate::simulator::Simulator;
use crate::tenant::Tenant;
use crate::{clock, random};

/// Event keys in circulation among public clients; Keap publishes no list outside the API.
pub(crate) const EVENT_KEYS: &[&str] = &[
    "appointment.add",
    "appointment.delete",
    "appointment.edit",
    "company.add",
    "company.delete",
    "company.edit",
    "contact.add",
    "contact.delete",
    "contact.edit",
    "contactGroup.add",
    "contactGroup.applied",
    "contactGroup.delete",
    "contactGroup.edit",
    "contactGroup.removed",
    "invoice.add",
    "invoice.delete",
    "invoice.edit",
    "invoice.payment.add",
    "invoice.payment.delete",
    "invoice.payment.edit",
    "leadsource.add",
    "leadsource.delete",
    "leadsource.edit",
    "note.add",
    "note.delete",
    "note.edit",
    "opportunity.add",
    "opportunity.delete",
    "opportunity.edit",
    "opportunity.stage_move",
    "order.add",
    "order.delete",
    "order.edit",
    "product.add",
    "product.delete",
    "product.edit",
    "subscription.add",
    "subscription.delete",
    "subscription.edit",
    "task.add",
    "task.complete",
    "task.delete",
    "task.edit",
    "task.incomplete",
    "user.activate",
    "user.add",
    "user.edit",
];

/// The most objects one delivery carries.
pub(crate) const BATCH_LENGTH_MAX: usize = 1000;

/// The state of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum HookStatus {
    Unverified,
    Verified,
    Inactive,
}

/// Something that happened to an object.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) key: &'static str,
    pub(crate) id: u64,
    /// For a tag applied or removed, the contacts it was applied to or removed from.
    pub(crate) contact_ids: Vec<u64>,
    pub(crate) at_ms: i64,
}

impl Event {
    /// An event of now.
    pub(crate) fn now(key: &'static str, id: u64) -> Self {
        Self { key, id, contact_ids: Vec::new(), at_ms: clock::now_ms() }
    }

    /// The same with the contacts it concerns.
    pub(crate) fn with_contacts(mut self, contact_ids: Vec<u64>) -> Self {
        self.contact_ids = contact_ids;
        self
    }
}

/// One subscription.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) key: u64,
    pub(crate) event_key: String,
    pub(crate) hook_url: String,
    pub(crate) status: HookStatus,
    /// The secret of the last handshake.
    secret: Option<String>,
    pending: Vec<Event>,
    /// Whether a task waits to collect what is pending.
    is_armed: bool,
}

/// A subscription as the API shows it (`RestHook`).
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RestHook {
    key: String,
    event_key: String,
    hook_url: String,
    status: HookStatus,
}

impl Subscription {
    pub(crate) fn shown(&self) -> RestHook {
        RestHook {
            key: self.key.to_string(),
            event_key: self.event_key.clone(),
            hook_url: self.hook_url.clone(),
            status: self.status,
        }
    }
}

/// The subscriptions of one tenant.
#[derive(Debug)]
pub(crate) struct Hooks {
    subscriptions: BTreeMap<u64, Subscription>,
    last_key: u64,
    random: Random,
    /// Objects in batches that were taken and are neither delivered nor given up.
    on_the_way: Arc<AtomicUsize>,
}

impl Hooks {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            subscriptions: BTreeMap::new(),
            last_key: 0,
            random: Random::new(seed),
            on_the_way: Arc::default(),
        }
    }

    /// Objects that wait for their first attempt, are being sent, or wait for another attempt.
    pub(crate) fn pending(&self) -> usize {
        let waiting: usize = self.subscriptions.values().map(|subscription| subscription.pending.len()).sum();
        waiting + self.on_the_way.load(Ordering::SeqCst)
    }

    pub(crate) fn list(&self) -> impl Iterator<Item = &Subscription> {
        self.subscriptions.values()
    }

    pub(crate) fn get(&self, key: u64) -> Option<&Subscription> {
        self.subscriptions.get(&key)
    }

    /// A new subscription, not verified yet. The same event and address may be subscribed twice: whether Keap refuses
    /// that is unverified.
    pub(crate) fn subscribe(&mut self, event_key: String, hook_url: String) -> u64 {
        self.last_key += 1;
        let key = self.last_key;
        let subscription = Subscription {
            key,
            event_key,
            hook_url,
            status: HookStatus::Unverified,
            secret: None,
            pending: Vec::new(),
            is_armed: false,
        };
        self.subscriptions.insert(key, subscription);
        key
    }

    /// Changes a subscription, which then has to be verified again; false when there is none.
    pub(crate) fn replace(&mut self, key: u64, event_key: String, hook_url: String) -> bool {
        let Some(subscription) = self.subscriptions.get_mut(&key) else {
            return false;
        };
        subscription.event_key = event_key;
        subscription.hook_url = hook_url;
        set_status(subscription, HookStatus::Unverified);
        true
    }

    pub(crate) fn remove(&mut self, key: u64) -> bool {
        self.subscriptions.remove(&key).is_some()
    }

    /// Sets the state; leaving Verified drops what is pending.
    pub(crate) fn set_status(&mut self, key: u64, status: HookStatus) {
        if let Some(subscription) = self.subscriptions.get_mut(&key) {
            set_status(subscription, status);
        }
    }

    /// Begins a handshake: the address to call and the secret to send.
    pub(crate) fn begin_handshake(&mut self, key: u64) -> Option<(String, String)> {
        let subscription = self.subscriptions.get_mut(&key)?;
        let secret = random::secret();
        subscription.secret = Some(secret.clone());
        Some((subscription.hook_url.clone(), secret))
    }

    /// Whether the secret is that of the last handshake.
    pub(crate) fn is_secret(&self, key: u64, secret: &str) -> bool {
        self.get(key).and_then(|subscription| subscription.secret.as_deref()) == Some(secret)
    }

    /// Queues an event for its subscriptions, and names those that nobody waits for yet.
    fn queue(&mut self, event: &Event) -> Vec<u64> {
        let mut to_arm = Vec::new();
        for subscription in self.subscriptions.values_mut() {
            if subscription.status != HookStatus::Verified || subscription.event_key != event.key {
                continue;
            }
            subscription.pending.push(event.clone());
            if !subscription.is_armed {
                subscription.is_armed = true;
                to_arm.push(subscription.key);
            }
        }
        to_arm
    }

    /// Takes all that is pending, in batches.
    fn drain(&mut self, key: u64) -> Vec<Batch> {
        let Some(subscription) = self.subscriptions.get_mut(&key) else {
            return Vec::new();
        };
        subscription.is_armed = false;
        let mut batches = Vec::new();
        while !subscription.pending.is_empty() {
            let length = subscription.pending.len().min(BATCH_LENGTH_MAX);
            let events = subscription.pending.drain(..length).collect();
            let on_the_way = OnTheWay::new(&self.on_the_way, length);
            batches.push(Batch {
                key,
                event_key: subscription.event_key.clone(),
                events,
                _on_the_way: on_the_way,
            });
        }
        batches
    }

    /// Drops everything that is pending, as when the data is replaced.
    pub(crate) fn forget_pending(&mut self) {
        self.subscriptions.values_mut().for_each(|subscription| subscription.pending.clear());
    }
}

fn set_status(subscription: &mut Subscription, status: HookStatus) {
    subscription.status = status;
    if status != HookStatus::Verified {
        subscription.pending.clear();
    }
}

/// What goes out in one POST.
#[derive(Debug)]
pub(crate) struct Batch {
    key: u64,
    event_key: String,
    events: Vec<Event>,
    _on_the_way: OnTheWay,
}

/// Counts a batch's objects for as long as the batch lives, however it ends.
#[derive(Debug)]
struct OnTheWay {
    total: Arc<AtomicUsize>,
    length: usize,
}

impl OnTheWay {
    fn new(total: &Arc<AtomicUsize>, length: usize) -> Self {
        total.fetch_add(length, Ordering::SeqCst);
        Self { total: Arc::clone(total), length }
    }
}

impl Drop for OnTheWay {
    fn drop(&mut self) {
        self.total.fetch_sub(self.length, Ordering::SeqCst);
    }
}

/// Logs changes and has them delivered. The caller holds no lock of the tenant.
pub(crate) fn publish(simulator: &Simulator, tenant: &Arc<Tenant>, author: Author, events: Vec<Event>) {
    for event in events {
        tenant.meter().change(ChangeEntry {
            seq: 0,
            at_ms: event.at_ms,
            event_key: event.key,
            id: event.id,
            author: match author {
                Author::Api => "api",
                Author::Person => "person",
            },
        });
        let to_arm = tenant.hooks().queue(&event);
        for key in to_arm {
            delivery::arm(simulator, tenant, key, event.key);
        }
    }
}
