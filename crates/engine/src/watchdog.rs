//! Whether an account's work stands still although it should not: what the watchdog tells and kicks.
//!
//! Waiting is no standing still: for somebody to connect the account anew, to resume or to approve, for a wait that was asked for,
//! or for a moment that has not come. What is told names since when, and why as far as that is known.

use keapsync_domain::timestamp::Timestamp;
use serde::Serialize;

/// How long something that is due may wait before it stands still, in milliseconds: a part that fails is tried every 30 s, so this
/// is ten attempts.
pub const STALL_MS: i64 = 300_000;

/// What can stand still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// The alarm itself.
    Alarm,
    /// Hook events.
    Events,
    /// Edits on their way to Keap.
    Outbox,
    /// Runs.
    Runs,
}

impl What {
    /// The name in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alarm => "alarm",
            Self::Events => "events",
            Self::Outbox => "outbox",
            Self::Runs => "runs",
        }
    }
}

/// Something that stands still.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stall {
    /// What.
    pub what: What,
    /// Since when.
    pub since: Timestamp,
    /// Why, and what to do, as far as known.
    pub why: String,
}

/// A queue as it is seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// Since when its oldest due item has been due.
    pub due_since: Option<Timestamp>,
    /// When something of it was last done.
    pub moved_at: Option<Timestamp>,
    /// What went wrong last and has not gone right since.
    pub error: Option<String>,
}

/// An account as it is seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Whether it has a credential and nobody has paused it: otherwise it waits for a person.
    pub is_at_work: bool,
    /// The last sign of life of its alarm.
    pub alive_at: Option<Timestamp>,
    /// Hook events.
    pub events: Queue,
    /// Edits on their way to Keap, without those that wait for a person.
    pub outbox: Queue,
    /// Runs that have units to order.
    pub runs: Queue,
}

/// What stands still.
#[must_use]
pub fn stalls(seen: &Seen, now: Timestamp) -> Vec<Stall> {
    if !seen.is_at_work {
        return Vec::new();
    }
    let mut found = Vec::new();
    let silent_since = seen.alive_at.filter(|alive_at| now.since_ms(*alive_at) > STALL_MS);
    if let Some(since) = silent_since {
        let why = "its alarm does not run; it was set anew".to_owned();
        found.push(Stall { what: What::Alarm, since, why });
    }
    for (what, queue) in
        [(What::Events, &seen.events), (What::Outbox, &seen.outbox), (What::Runs, &seen.runs)]
    {
        let since =
            queue.due_since.map(|due_since| queue.moved_at.map_or(due_since, |moved| moved.max(due_since)));
        let Some(since) = since.filter(|since| now.since_ms(*since) > STALL_MS) else { continue };
        let why = match (&queue.error, silent_since) {
            (Some(error), _) => error.clone(),
            (None, Some(_)) => "the account's alarm does not run; it was set anew".to_owned(),
            (None, None) => "nothing says why: it was tried again; see the coordinator's log".to_owned(),
        };
        found.push(Stall { what, since, why });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(10_000_000);

    fn ago(wait_ms: i64) -> Timestamp {
        NOW.plus_ms(-wait_ms)
    }

    fn seen() -> Seen {
        Seen { is_at_work: true, alive_at: Some(ago(1_000)), ..Seen::default() }
    }

    #[test]
    fn what_is_due_for_long_and_does_not_move_stands_still() {
        let events = Queue { due_since: Some(ago(STALL_MS + 1)), ..Queue::default() };
        let found = stalls(&Seen { events: events.clone(), ..seen() }, NOW);
        assert_eq!((found.len(), found[0].what, found[0].since), (1, What::Events, ago(STALL_MS + 1)));
        // A long queue that moves does not.
        let moves = Queue { moved_at: Some(ago(10)), ..events.clone() };
        assert!(stalls(&Seen { events: moves, ..seen() }, NOW).is_empty());
        // It stands still since it last moved, not since its oldest item came.
        let stopped = Queue {
            due_since: Some(ago(9 * STALL_MS)),
            moved_at: Some(ago(2 * STALL_MS)),
            ..Queue::default()
        };
        let found = stalls(&Seen { outbox: stopped, ..seen() }, NOW);
        assert_eq!((found[0].what, found[0].since), (What::Outbox, ago(2 * STALL_MS)));
        // Who waits for a person does not.
        assert!(stalls(&Seen { events, is_at_work: false, ..seen() }, NOW).is_empty());
    }

    #[test]
    fn a_dead_alarm_is_told_and_explains_the_rest() {
        let runs = Queue { due_since: Some(ago(2 * STALL_MS)), ..Queue::default() };
        let found = stalls(&Seen { alive_at: Some(ago(2 * STALL_MS)), runs, ..seen() }, NOW);
        assert_eq!(found.iter().map(|stall| stall.what).collect::<Vec<_>>(), [What::Alarm, What::Runs]);
        assert!(found[1].why.contains("alarm"));
        assert!(stalls(&Seen { alive_at: None, ..seen() }, NOW).is_empty(), "it has only just begun");
    }

    #[test]
    fn the_last_error_is_the_reason() {
        let error = Some("Postgres is away".to_owned());
        let outbox = Queue { due_since: Some(ago(2 * STALL_MS)), moved_at: None, error };
        assert_eq!(stalls(&Seen { outbox, ..seen() }, NOW)[0].why, "Postgres is away");
    }
}
