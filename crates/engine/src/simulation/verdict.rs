//! What a simulated history may turn out to break.

use std::fmt;

/// The invariants, by the names they are published under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// Both sides end equal on all mapped fields, or differ only in fields listed as open conflicts.
    Convergence,
    /// Every edit ends in the result, in the audit log, or in the conflict list.
    NoLostUpdate,
    /// After quiescence nothing is written on either side.
    NoPingPong,
    /// A field never shows a value again that it had left, unless a policy says so.
    NoFlipFlop,
    /// A deleted record is not revived by an old reading.
    NoResurrection,
    /// One row is one record, whatever is repeated or lost on the way.
    OneEffect,
    /// No window of the quota exceeds its limit.
    Quota,
    /// Once faults end, nothing waits for longer than a bound.
    Liveness,
    /// Every state of a row can be rebuilt from the audit log.
    AuditCompleteness,
}

impl Invariant {
    /// The name in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Convergence => "convergence",
            Self::NoLostUpdate => "no lost update",
            Self::NoPingPong => "no ping-pong",
            Self::NoFlipFlop => "no flip-flop",
            Self::NoResurrection => "no resurrection",
            Self::OneEffect => "one effect",
            Self::Quota => "quota",
            Self::Liveness => "liveness",
            Self::AuditCompleteness => "audit completeness",
        }
    }
}

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// How it showed.
    pub detail: String,
}

impl Violation {
    pub(super) fn new(invariant: Invariant, detail: impl Into<String>) -> Self {
        Self { invariant, detail: detail.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.invariant.as_str(), self.detail)
    }
}
