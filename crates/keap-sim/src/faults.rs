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
    /// A list gives `contact_id` in the wrong shape.
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
    /// How often it has happened. Only shown.
    #[serde(default)]
    pub(crate) happened: u64,
}

impl Fault {
    /// Why a fault cannot be set as given.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        match self.kind {
            FaultKind::Status if !self.status.is_some_and(|status| (400..=599).contains(&status)) => {
                Some("a fault of kind status needs a status from 400 to 599")
            }
            FaultKind::Latency | FaultKind::HookDelay if self.ms.is_none() => {
                Some("a fault of this kind needs ms")
            }
            FaultKind::BrokenRecord if self.contact_id.is_none() => {
                Some("a fault of kind broken_record needs contact_id")
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
            let is_for_lists = fault.kind != FaultKind::BrokenRecord || operation.lists_contacts();
            let is_for_tokens = fault.kind != FaultKind::TokenRefreshLost || operation == Operation::REFRESH;
            // A fault without an operation is for the API proper: a test of failing calls must not lose its token.
            let is_named = fault.operation.as_deref().is_some_and(|name| operation.is_named(name));
            let is_general = fault.operation.is_none()
                && (!operation.is_token() || fault.kind == FaultKind::TokenRefreshLost);
            !fault.kind.is_of_hooks() && is_for_lists && is_for_tokens && (is_named || is_general)
        })
    }

    /// The faults that happen to this delivery, each counted as used.
    pub(crate) fn of_delivery(&mut self, event_key: &str) -> Vec<Fault> {
        self.take(|fault| {
            fault.kind.is_of_hooks() && fault.operation.as_deref().is_none_or(|name| name == event_key)
        })
    }

    fn take(&mut self, fits: impl Fn(&Fault) -> bool) -> Vec<Fault> {
        let mut taken = Vec::new();
        for fault in &mut self.faults {
            if fault.times == Some(0) || !fits(fault) {
                continue;
            }
            if let Some(chance) = fault.probability
                && !draw(&mut self.random, chance)
            {
                continue;
            }
            fault.times = fault.times.map(|times| times - 1);
            fault.happened += 1;
            taken.push(fault.clone());
        }
        taken
    }
}

fn draw(random: &mut Random, chance: f64) -> bool {
    // Millionths are fine enough for a test's chances and convert without loss.
    let drawn = u32::try_from(random.below(1_000_000)).unwrap_or(0);
    f64::from(drawn) < chance * 1_000_000.0
}
