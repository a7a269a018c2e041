//! Faults on demand: what goes wrong, for which operation, how often.
//!
//! Faults are tried in the order they were set; each that fits a call and has uses left takes part. Chances are drawn
//! from a seeded generator, so a test that is run twice sees the same sequence.

use serde::{Deserialize, Serialize};

use crate::operation::Operation;
use crate::random::Random;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FaultKind {
    /// The answer comes `ms` later.
    Latency,
    /// The answer is `status`, and nothing is done.
    Status,
    /// Nothing is done; the connection closes without an answer after `ms`.
    TimeoutBefore,
    /// The work is done; the connection closes without an answer after `ms`.
    TimeoutAfter,
    /// The work is done; the body is cut off in the middle.
    InvalidJson,
    /// A list gives the record of `contact_id`, `order_id` or `subscription_id` in the wrong shape.
    BrokenRecord,
    /// A delivery is never made, and nobody is told.
    HookLost,
    /// A delivery is made twice.
    HookDuplicate,
    /// A delivery's objects come in reverse order, and `ms` late, so that later deliveries overtake it.
    HookReorder,
    /// A delivery is made `ms` later.
    HookDelay,
    /// The token endpoint rotates the refresh token, and the answer is lost.
    TokenRefreshLost,
}

impl FaultKind {
    const fn is_of_hooks(self) -> bool {
        matches!(self, Self::HookLost | Self::HookDuplicate | Self::HookReorder | Self::HookDelay)
    }

    /// Whether it settles what becomes of a call or delivery.
    const fn decides(self) -> bool {
        matches!(
            self,
            Self::Status
                | Self::TimeoutBefore
                | Self::TimeoutAfter
                | Self::InvalidJson
                | Self::TokenRefreshLost
                | Self::HookLost
        )
    }
}

/// The kinds of record that a list can give in the wrong shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    Contact,
    Order,
    Subscription,
}

/// One fault as it is set and shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    /// The operation, or for hooks the event key, that it is for; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) operation: Option<String>,
    /// How many times more it happens; without end when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) times: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after_s: Option<u32>,
    /// From 0 to 1; always when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) probability: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) contact_id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) order_id: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subscription_id: Option<u64>,
    /// How often it has happened. Only shown.
    #[serde(default)]
    pub(crate) happened: u64,
}

impl Fault {
    fn count(&mut self) {
        self.times = self.times.map(|times| times.saturating_sub(1));
        self.happened += 1;
    }

    /// The record of that kind that it breaks.
    const fn broken_id(&self, kind: Broken) -> Option<u64> {
        match kind {
            Broken::Contact => self.contact_id,
            Broken::Order => self.order_id,
            Broken::Subscription => self.subscription_id,
        }
    }

    /// Why a fault cannot be set as given.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        match self.kind {
            FaultKind::Status if !self.status.is_some_and(|status| (400..=599).contains(&status)) => {
                Some("a fault of kind status needs a status from 400 to 599")
            }
            FaultKind::Latency | FaultKind::HookDelay if self.ms.is_none() => {
                Some("a fault of this kind needs ms")
            }
            FaultKind::BrokenRecord
                if self.contact_id.or(self.order_id).or(self.subscription_id).is_none() =>
            {
                Some("a fault of kind broken_record needs contact_id, order_id or subscription_id")
            }
            _ if self.probability.is_some_and(|chance| !(0.0..=1.0).contains(&chance)) => {
                Some("probability must be from 0 to 1")
            }
            _ => None,
        }
    }
}

/// The faults of one tenant.
#[derive(Debug)]
pub(crate) struct Faults {
    faults: Vec<Fault>,
    random: Random,
}

impl Faults {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { faults: Vec::new(), random: Random::new(seed) }
    }

    pub(crate) fn list(&self) -> &[Fault] {
        &self.faults
    }

    pub(crate) fn add(&mut self, faults: Vec<Fault>) {
        self.faults.extend(faults);
    }

    pub(crate) fn clear(&mut self) {
        self.faults.clear();
    }

    /// The faults that happen to this call, each counted as used.
    pub(crate) fn of_call(&mut self, operation: Operation) -> Vec<Fault> {
        self.take(|fault| {
            let is_of_calls = !fault.kind.is_of_hooks() && fault.kind != FaultKind::BrokenRecord;
            let is_possible = fault.kind != FaultKind::TokenRefreshLost || operation == Operation::REFRESH;
            let is_meant = match fault.operation.as_deref() {
                Some(name) => operation.is_named(name),
                // A fault without an operation is for the API proper: a test of failing calls must not lose its token.
                None => !operation.is_token() || fault.kind == FaultKind::TokenRefreshLost,
            };
            is_of_calls && is_possible && is_meant
        })
    }

    /// The faults that happen to this delivery, each counted as used.
    pub(crate) fn of_delivery(&mut self, event_key: &str) -> Vec<Fault> {
        self.take(|fault| {
            fault.kind.is_of_hooks() && fault.operation.as_deref().is_none_or(|name| name == event_key)
        })
    }

    /// The records of a kind that a list is to give in the wrong shape, if it has them.
    pub(crate) fn broken_ids(&mut self, kind: Broken) -> Vec<u64> {
        let mut ids = Vec::new();
        for fault in self.faults.iter().filter(|fault| fault.kind == FaultKind::BrokenRecord) {
            let Some(id) = fault.broken_id(kind) else { continue };
            if fault.times != Some(0) && draw(&mut self.random, fault.probability) {
                ids.push(id);
            }
        }
        ids
    }

    /// Counts that a list gave a record in the wrong shape.
    pub(crate) fn broke(&mut self, kind: Broken, id: u64) {
        let is_it = |fault: &&mut Fault| {
            fault.kind == FaultKind::BrokenRecord
                && fault.broken_id(kind) == Some(id)
                && fault.times != Some(0)
        };
        if let Some(fault) = self.faults.iter_mut().find(is_it) {
            fault.count();
        }
    }

    /// Of the faults that decide how a call ends only the first takes part, so that several set at once happen one
    /// call after the other.
    fn take(&mut self, fits: impl Fn(&Fault) -> bool) -> Vec<Fault> {
        let mut taken = Vec::new();
        let mut is_decided = false;
        for fault in &mut self.faults {
            let is_due = fault.times != Some(0) && fits(fault) && !(is_decided && fault.kind.decides());
            if !is_due || !draw(&mut self.random, fault.probability) {
                continue;
            }
            is_decided |= fault.kind.decides();
            fault.count();
            taken.push(fault.clone());
        }
        taken
    }
}

fn draw(random: &mut Random, probability: Option<f64>) -> bool {
    let Some(probability) = probability else {
        return true;
    };
    // Millionths are fine enough for a test's chances and convert without loss.
    let drawn = u32::try_from(random.below(1_000_000)).unwrap_or(0);
    f64::from(drawn) < probability * 1_000_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Fault {
        serde_json::from_str(text).unwrap()
    }

    fn kinds(faults: &mut Faults, operation: Operation) -> Vec<FaultKind> {
        faults.of_call(operation).iter().map(|fault| fault.kind).collect()
    }

    const LIST: Operation = Operation::LIST_CONTACTS;

    #[test]
    fn faults_that_decide_happen_one_call_after_the_other() {
        let mut faults = Faults::new(1);
        faults.add(vec![
            fault(r#"{"kind":"latency","ms":1}"#),
            fault(r#"{"kind":"status","status":500,"operation":"list_contacts","times":1}"#),
            fault(r#"{"kind":"invalid_json","times":1}"#),
        ]);
        assert_eq!(kinds(&mut faults, LIST), [FaultKind::Latency, FaultKind::Status]);
        assert_eq!(kinds(&mut faults, LIST), [FaultKind::Latency, FaultKind::InvalidJson]);
        assert_eq!(kinds(&mut faults, LIST), [FaultKind::Latency]);
    }

    #[test]
    fn the_token_endpoint_is_spared_unless_named() {
        let mut faults = Faults::new(1);
        faults.add(vec![fault(r#"{"kind":"status","status":500}"#)]);
        assert_eq!(kinds(&mut faults, Operation::REFRESH), []);
        faults.add(vec![fault(r#"{"kind":"status","status":503,"operation":"token"}"#)]);
        assert_eq!(kinds(&mut faults, Operation::REFRESH), [FaultKind::Status]);
    }

    #[test]
    fn chances_are_met_in_the_long_run() {
        let mut faults = Faults::new(1);
        faults.add(vec![fault(r#"{"kind":"latency","ms":1,"probability":0.25}"#)]);
        let happened = (0..1000).filter(|_| !kinds(&mut faults, LIST).is_empty()).count();
        assert!((200..300).contains(&happened), "{happened} of 1000");
    }

    #[test]
    fn what_cannot_happen_is_refused() {
        for text in [
            r#"{"kind":"status"}"#,
            r#"{"kind":"status","status":200}"#,
            r#"{"kind":"latency"}"#,
            r#"{"kind":"broken_record"}"#,
            r#"{"kind":"invalid_json","probability":2.0}"#,
        ] {
            assert!(fault(text).problem().is_some(), "{text}");
        }
    }
}
