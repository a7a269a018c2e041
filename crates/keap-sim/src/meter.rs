//! What one tenant has seen: calls by operation, the recent log, the changes, deliveries and refreshes.
//!
//! Counters only grow until they are reset; the logs keep the most recent entries within a bound.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use serde_json::Value;

use crate::operation::Operation;
use crate::quota::Peaks;

/// Entries kept of each log.
const LOG_LENGTH_MAX: usize = 20_000;

/// One call of the API.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CallEntry {
    pub(crate) seq: u64,
    pub(crate) at_ms: i64,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) operation: &'static str,
    /// 0 when the connection was closed without an answer.
    pub(crate) status: u16,
    pub(crate) duration_ms: u64,
}

/// One change of the data.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ChangeEntry {
    pub(crate) seq: u64,
    pub(crate) at_ms: i64,
    pub(crate) event_key: &'static str,
    pub(crate) id: u64,
    /// `api` or `person`.
    pub(crate) author: &'static str,
}

/// A call that changed something, with what it sent.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct WriteEntry {
    pub(crate) seq: u64,
    /// When it took effect.
    pub(crate) at_ms: i64,
    pub(crate) operation: &'static str,
    pub(crate) path: String,
    /// Null when nothing was sent.
    pub(crate) body: Value,
}

/// How hook deliveries went, by attempt.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DeliveryCounts {
    pub(crate) attempted: u64,
    pub(crate) ok: u64,
    pub(crate) failed: u64,
    /// Batches dropped by a fault.
    pub(crate) lost: u64,
    /// Objects in attempts that went well.
    pub(crate) objects: u64,
}

/// The counters and logs of one tenant.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// Authenticated calls of the API.
    pub(crate) total: u64,
    /// Calls as they arrive, those of the token endpoint among them.
    pub(crate) by_operation: BTreeMap<&'static str, u64>,
    pub(crate) by_status: BTreeMap<u16, u64>,
    /// Writing operations that took effect, answered or not.
    pub(crate) writes: u64,
    pub(crate) refreshes: u64,
    pub(crate) peaks: Peaks,
    pub(crate) deliveries: DeliveryCounts,
    calls: VecDeque<CallEntry>,
    changes: VecDeque<ChangeEntry>,
    /// Every write since somebody asked for them, without a bound; `None` while nobody did.
    kept_writes: Option<Vec<WriteEntry>>,
    next_seq: u64,
}

impl Meter {
    /// Counts a call as it arrives.
    pub(crate) fn begin(&mut self, operation: Operation, now_ms: i64) {
        self.total += 1;
        *self.by_operation.entry(operation.name()).or_default() += 1;
        self.peaks.note(now_ms);
    }

    /// Counts a call of the token endpoint, which is under no quota.
    pub(crate) fn begin_token_call(&mut self, operation: Operation) {
        *self.by_operation.entry(operation.name()).or_default() += 1;
    }

    /// Notes how a call ended.
    pub(crate) fn end(&mut self, mut entry: CallEntry) {
        *self.by_status.entry(entry.status).or_default() += 1;
        entry.seq = self.take_seq();
        push(&mut self.calls, entry);
    }

    /// Keeps writes from now on, and forgets those kept so far.
    pub(crate) fn keep_writes(&mut self) {
        self.kept_writes = Some(Vec::new());
    }

    /// Whether writes are kept.
    pub(crate) const fn keeps_writes(&self) -> bool {
        self.kept_writes.is_some()
    }

    /// Keeps a write that took effect.
    pub(crate) fn keep_write(&mut self, mut entry: WriteEntry) {
        entry.seq = self.take_seq();
        if let Some(kept) = &mut self.kept_writes {
            kept.push(entry);
        }
    }

    /// The writes that were kept after that one, at most so many.
    pub(crate) fn writes_after(&self, seq: u64, limit: usize) -> Vec<&WriteEntry> {
        self.kept_writes.iter().flatten().filter(|entry| entry.seq > seq).take(limit).collect()
    }

    /// Notes a change.
    pub(crate) fn change(&mut self, mut entry: ChangeEntry) {
        entry.seq = self.take_seq();
        push(&mut self.changes, entry);
    }

    /// Calls that began at or after the time.
    pub(crate) fn calls_since(&self, since_ms: i64) -> Vec<&CallEntry> {
        self.calls.iter().filter(|entry| entry.at_ms >= since_ms).collect()
    }

    /// Changes made at or after the time.
    pub(crate) fn changes_since(&self, since_ms: i64) -> Vec<&ChangeEntry> {
        self.changes.iter().filter(|entry| entry.at_ms >= since_ms).collect()
    }

    /// Sets every counter to nothing; the logs and their numbers go on.
    pub(crate) fn reset(&mut self) {
        *self = Self {
            calls: std::mem::take(&mut self.calls),
            changes: std::mem::take(&mut self.changes),
            kept_writes: self.kept_writes.take(),
            next_seq: self.next_seq,
            ..Self::default()
        };
    }

    const fn take_seq(&mut self) -> u64 {
        self.next_seq += 1;
        self.next_seq
    }
}

fn push<T>(log: &mut VecDeque<T>, entry: T) {
    if log.len() == LOG_LENGTH_MAX {
        log.pop_front();
    }
    log.push_back(entry);
}
