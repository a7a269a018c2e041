//! Failures by what to do about them. Classification lives here, once; every queue decides by it.

use serde::{Deserialize, Serialize};

/// What a failed attempt calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// The other side is busy or away: try again later, without counting against the item.
    Unavailable,
    /// The other side asked us to slow down: try again after the time it named.
    RateLimited,
    /// Somebody must re-authorise the account; items wait until then.
    Unauthorized,
    /// The record changed between read and write: read and merge again at once.
    Conflict,
    /// The record itself was refused: no retry helps until somebody changes it.
    Invalid,
    /// The record does not exist there (any more).
    NotFound,
    /// The answer makes no sense: retried a few times, then a person looks.
    Unexpected,
}

impl FailureClass {
    /// The name in `error_class` columns and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::RateLimited => "rate_limited",
            Self::Unauthorized => "unauthorized",
            Self::Conflict => "conflict",
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Unexpected => "unexpected",
        }
    }

    /// Whether waiting can help without anybody changing the record.
    #[must_use]
    pub fn is_transient(self) -> bool {
        !matches!(self, Self::Invalid | Self::NotFound)
    }

    /// Whether it says nothing of any record: whatever else is tried now would fail the same.
    #[must_use]
    pub fn is_outage(self) -> bool {
        matches!(self, Self::Unavailable | Self::RateLimited | Self::Unauthorized)
    }

    /// Whether an attempt that failed so counts towards the item's limit: the item is not to blame for an outage.
    #[must_use]
    pub fn counts_against_item(self) -> bool {
        matches!(self, Self::Invalid | Self::NotFound | Self::Unexpected)
    }
}

/// A failed attempt: what to do, and what to tell a person. Holds no token and no personal data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What the failure calls for.
    pub class: FailureClass,
    /// What happened and what to do, in words.
    pub message: String,
    /// How long the other side asked us to wait, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<i64>,
}

impl Failure {
    /// A failure of `class`, described by `message`.
    #[must_use]
    pub fn new(class: FailureClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), retry_after_ms: None }
    }

    /// Names the wait that the other side asked for.
    #[must_use]
    pub fn with_retry_after_ms(mut self, retry_after_ms: Option<i64>) -> Self {
        self.retry_after_ms = retry_after_ms;
        self
    }
}
