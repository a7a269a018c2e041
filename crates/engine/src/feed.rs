//! The live feed's arithmetic: what is told as one, where it is kept, and what a client that comes back is sent.
//!
//! Events gather for a moment and are then appended together: one flush is one row of a ring, whose oldest row it overwrites, so
//! that a flush costs one row written whatever it holds. Numbers are given out by the flush, so what is lost with the object
//! before its flush leaves no gap.
//!
//! Invariants. Sequences count up by one, within a flush and from one flush to the next. A client that was sent everything up to
//! N and asks for what follows N is sent exactly that, in order, or is told where what is kept begins and is sent everything
//! from there.
//!
//! Storage, sockets and the clock are the caller's. It writes a flush and sends it to those who listen in one step, and reads
//! and sends what a client has missed in the step in which it begins to listen.

mod told;

pub use told::{quota_throttled, run_event};

use keapsync_domain::feed::{
    FEED_VERSION, FeedEntry, FeedEvent, FeedExtent, FeedGreeting, RECORDS_NAMED_MAX,
};
use keapsync_domain::timestamp::Timestamp;

/// Flushes that are kept: some hundred kilobytes, as one is usually some hundred bytes; at most 512 of 256 kB. They are read 64 at
/// a time.
pub const FLUSHES_KEPT: u64 = 512;

/// Events in one flush: with more, what gathers is flushed at once.
pub const FLUSH_EVENTS_MAX: usize = 16;

/// How long events gather while somebody watches, in milliseconds.
pub const WATCHED_WINDOW_MS: i64 = 250;

/// How long events gather while nobody does, in milliseconds: at most 17,280 rows a day.
pub const UNWATCHED_WINDOW_MS: i64 = 5_000;

/// Sockets that one account feeds at once.
pub const SOCKETS_MAX: usize = 100;

/// How long a socket lives, in milliseconds: who opens another one shows anew that they may.
pub const SOCKET_AGE_MAX_MS: i64 = 3_600_000;

/// How long a client may say nothing, in milliseconds. One that is gone costs at most what is told in that time: 16 events in each
/// quarter of a second would be some 3 MB.
pub const SOCKET_SILENCE_MAX_MS: i64 = 180_000;

/// Why a socket is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// It is too old.
    Aged,
    /// Its client has said nothing for too long.
    Silent,
    /// Its client said what is not understood.
    NotUnderstood,
    /// Its client asks for the past too often.
    TooOften,
}

impl Closing {
    /// The code of the close message, and what it says.
    #[must_use]
    pub fn code_and_reason(self) -> (u16, &'static str) {
        match self {
            Self::Aged => {
                (4001, "a connection lives an hour at most: open another with since=<last sequence>")
            }
            Self::Silent => {
                (4002, "nothing was heard for three minutes: send the text ping every 30 seconds")
            }
            Self::NotUnderstood => (1008, "send the text ping or {\"since\":<sequence>}"),
            Self::TooOften => (1008, "ask for what was missed at most once in five seconds"),
        }
    }
}

/// Whether a socket is to be closed, that was opened at `opened_at` and heard of last at `heard_at`.
#[must_use]
pub fn closing(opened_at: Timestamp, heard_at: Option<Timestamp>, now: Timestamp) -> Option<Closing> {
    let heard_at = heard_at.unwrap_or(opened_at).max(opened_at);
    match () {
        () if now.since_ms(opened_at) >= SOCKET_AGE_MAX_MS => Some(Closing::Aged),
        () if now.since_ms(heard_at) >= SOCKET_SILENCE_MAX_MS => Some(Closing::Silent),
        () => None,
    }
}

/// What a client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is there.
    Ping,
    /// It wants what follows this event.
    Since(u64),
}

/// Longest message of a client, in bytes.
const SAID_BYTES_MAX: usize = 64;

/// Understands a client's message; `None` for anything else than the two that there are.
#[must_use]
pub fn said(text: &str) -> Option<Said> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Since {
        since: u64,
    }
    match text {
        "ping" => Some(Said::Ping),
        // A list of one number would be taken for the object.
        text if text.len() > SAID_BYTES_MAX || !text.starts_with('{') => None,
        text => serde_json::from_str(text).ok().map(|Since { since }| Said::Since(since)),
    }
}

/// Events that gather until they are flushed.
#[derive(Debug, Default)]
pub struct Gathering {
    events: Vec<(Timestamp, FeedEvent)>,
}

impl Gathering {
    /// Adds an event, to one that it can be told with where there is such. Says whether all must be flushed now: they are many,
    /// or this is one that people wait for.
    #[must_use = "what is due must be flushed"]
    pub fn add(&mut self, event: FeedEvent, now: Timestamp) -> bool {
        let is_urgent = is_urgent(&event);
        let mut left = Some(event);
        for (_, known) in &mut self.events {
            match left.take() {
                Some(event) => left = told_together(known, event),
                None => break,
            }
        }
        self.events.extend(left.map(|event| (now, event)));
        is_urgent || self.events.len() >= FLUSH_EVENTS_MAX
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Takes everything out.
    #[must_use]
    pub fn take(&mut self) -> Vec<(Timestamp, FeedEvent)> {
        std::mem::take(&mut self.events)
    }
}

/// Whether an event is rare and waited for: all that do not come in crowds.
fn is_urgent(event: &FeedEvent) -> bool {
    !matches!(
        event,
        FeedEvent::DeliveryReceived { .. }
            | FeedEvent::RecordsApplied { .. }
            | FeedEvent::RunProgressed { .. }
            | FeedEvent::QuotaThrottled { .. }
            | FeedEvent::ConflictSettled { .. }
            | FeedEvent::DeadLetter { .. }
    )
}

/// Adds `event` to `known` where both are told as one; hands it back where they are not.
fn told_together(known: &mut FeedEvent, event: FeedEvent) -> Option<FeedEvent> {
    match (known, event) {
        (
            FeedEvent::DeliveryReceived { event_key, deliveries, objects, synced },
            FeedEvent::DeliveryReceived {
                event_key: key,
                deliveries: more,
                objects: named,
                synced: is_synced,
            },
        ) if *event_key == key && *synced == is_synced => {
            *deliveries += more;
            *objects += named;
            None
        }
        (
            FeedEvent::RecordsApplied { entity, direction, change, count, records },
            FeedEvent::RecordsApplied {
                entity: other,
                direction: way,
                change: became,
                count: more,
                records: named,
            },
        ) if (*entity, *direction, *change) == (other, way, became) => {
            *count += more;
            let room = RECORDS_NAMED_MAX.saturating_sub(records.len());
            records.extend(named.into_iter().take(room));
            None
        }
        (
            FeedEvent::RunProgressed { run, counts, percent, done_at },
            FeedEvent::RunProgressed { run: other, counts: newer, percent: of_100, done_at: end },
        ) if run.run_id == other.run_id => {
            (*counts, *percent, *done_at) = (newer, of_100, end);
            None
        }
        (
            FeedEvent::QuotaThrottled { priority, times, retry_after_ms },
            FeedEvent::QuotaThrottled { priority: other, times: more, retry_after_ms: wait_ms },
        ) if *priority == other => {
            *times += more;
            *retry_after_ms = wait_ms;
            None
        }
        (_, event) => Some(event),
    }
}

/// Where the ring ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingEnd {
    /// Flushes so far.
    pub flushes: u64,
    /// Sequence of the newest event.
    pub newest: u64,
}

/// One row of the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flush {
    /// Which flush it is, from 1 on.
    pub number: u64,
    /// Sequence of its first event.
    pub first: u64,
    /// Sequence of its last event.
    pub last: u64,
    /// The events as they are sent, one a line.
    pub body: String,
}

impl RingEnd {
    /// Numbers the events and makes the next row of them; `None` when there are none.
    #[must_use]
    pub fn append(self, events: Vec<(Timestamp, FeedEvent)>) -> Option<(Self, Flush)> {
        let (mut newest, mut lines) = (self.newest, Vec::with_capacity(events.len()));
        for (at, event) in events {
            // Plain data is always written; if it were not, its number would go to the next.
            if let Ok(line) = serde_json::to_string(&FeedEntry { sequence: newest + 1, at, event }) {
                newest += 1;
                lines.push(line);
            }
        }
        let end = Self { flushes: self.flushes + 1, newest };
        let flush =
            Flush { number: end.flushes, first: self.newest + 1, last: newest, body: lines.join("\n") };
        (newest > self.newest).then_some((end, flush))
    }
}

impl Flush {
    /// The row of a ring of `rows` that this one overwrites.
    #[must_use]
    pub fn slot(&self, rows: u64) -> u64 {
        self.number % rows.max(1)
    }

    /// The events behind `after`, as they are sent.
    pub fn lines_after(&self, after: u64) -> impl Iterator<Item = &str> {
        let known = after.saturating_add(1).saturating_sub(self.first);
        self.body.lines().skip(usize::try_from(known).unwrap_or(usize::MAX))
    }
}

/// What a client is sent when it begins to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatchUp {
    /// The first message.
    pub greeting: FeedGreeting,
    /// Then everything behind this event.
    pub after: u64,
}

/// What a client is sent that has everything up to `since`, or wants nothing of the past. `first_kept` is the first event of the
/// ring's oldest row.
#[must_use]
pub fn catch_up(since: Option<u64>, first_kept: Option<u64>, newest: u64) -> CatchUp {
    let first_kept = first_kept.unwrap_or(newest + 1);
    let extent = FeedExtent { version: FEED_VERSION, first_kept, newest };
    match since {
        None => CatchUp { greeting: FeedGreeting::Hello(extent), after: newest },
        // One who knows more than there is speaks of another history: of an account of this name before it was made anew.
        Some(since) if since > newest || since.saturating_add(1) < first_kept => {
            CatchUp { greeting: FeedGreeting::Reset(extent), after: first_kept.saturating_sub(1) }
        }
        Some(since) => CatchUp { greeting: FeedGreeting::Hello(extent), after: since },
    }
}

#[cfg(test)]
mod tests;
