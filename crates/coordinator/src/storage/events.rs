//! `events`: the durable queue of hook events, one row per record; and what was delivered but is not synced.
//!
//! What makes it safe: an arrival gives its row a new sequence, and an attempt settles a row only while it has the
//! sequence that was claimed (see `engine::event_queue`). There is no lease: the alarm is the only one who claims, and a
//! claim that died is claimed again.

use super::{Number, Sql, to_json};
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::EntityType;
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::event_queue::{ClaimedEvent, Failed};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};

/// Dead events shown at once.
const DEAD_SHOWN_MAX: i64 = 500;

/// When a held event is due: a moment that never comes, and that a JavaScript number holds exactly.
const HELD_UNTIL: i64 = 9_000_000_000_000_000;

/// Kinds of events that are counted by name; further ones are counted together.
const NOT_SYNCED_KEYS_MAX: i64 = 200;

/// Name under which further kinds are counted.
const OTHER_KEYS: &str = "other";

/// How much waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct EventDepth {
    /// Events that wait for an attempt.
    pub open: i64,
    /// Of these, deletes that wait for somebody's approval.
    pub held: i64,
    /// Events that were given up.
    pub dead: i64,
    /// When the oldest open one arrived.
    pub oldest_at: Option<Timestamp>,
}

/// Given-up events: all, those with ids of a list, or those of a cause (`unknown` where none was noted).
const CHOSEN_DEAD: &str = "is_dead = 1
    AND (?1 IS NULL OR entity || ':' || keap_id IN (SELECT value FROM json_each(?1)))
    AND (?2 IS NULL OR coalesce(error_class, 'unknown') = ?2)";

/// Given-up events of one cause.
#[derive(Clone, Debug, Deserialize)]
pub struct DeadGroup {
    /// Class of the failure.
    pub error_class: Option<String>,
    /// How many.
    pub count: i64,
    /// When the first arrived.
    pub oldest_at: Timestamp,
    /// When the last arrived.
    pub newest_at: Timestamp,
    /// The last one: `contact:12`.
    pub id: String,
    /// What went wrong with that.
    pub error_message: Option<String>,
}

/// An event that was given up.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DeadEvent {
    /// Kind of record.
    pub entity: String,
    /// Keap's id.
    pub keap_id: String,
    /// The last event that named it.
    pub event_key: String,
    /// Attempts that counted.
    pub attempts: i32,
    /// When it arrived.
    pub received_at: Timestamp,
    /// Class of the failure.
    pub error_class: Option<String>,
    /// What went wrong.
    pub error_message: Option<String>,
}

#[derive(Deserialize)]
struct ClaimedRow {
    keap_id: String,
    sequence: i64,
    attempts: i32,
    failures: u32,
}

#[derive(Deserialize)]
struct HeldRow {
    entity: String,
    count: i64,
}

#[derive(Deserialize)]
struct IdRow {
    keap_id: String,
}

#[derive(Deserialize)]
struct NotedRow {
    event_key: String,
    is_dead: i64,
}

#[derive(Deserialize)]
struct DueRow {
    due_at: Option<i64>,
}

#[derive(Deserialize)]
struct CountRow {
    event_key: String,
    count: i64,
}

/// One retry, as it goes to SQL.
#[derive(Serialize)]
struct Retry<'a> {
    id: &'a str,
    sequence: i64,
    attempts: i32,
    failures: u32,
    next_at: i64,
    dead: bool,
    class: &'static str,
    message: &'a str,
}

impl Sql {
    /// Queues records; says how many were not waiting yet. `sequence` must be a number not used before.
    pub fn push_events(
        &self,
        entity: EntityType,
        keap_ids: &[&str],
        event_key: &str,
        sequence: i64,
        now: Timestamp,
    ) -> Result<i64, Failure> {
        let ids = to_json(&keap_ids)?;
        let waiting = self.number(
            // The order of a CROSS JOIN is kept: each id is looked up by key, however long the queue is.
            "SELECT count(*) AS number FROM json_each(?) ids CROSS JOIN events ON entity = ? AND keap_id = ids.value
             WHERE is_dead = 0",
            vec![ids.as_str().into(), entity.as_str().into()],
        )?;
        self.exec(
            "INSERT INTO events (entity, keap_id, event_key, sequence, received_at, next_attempt_at)
             SELECT ?, value, ?, ?, ?, ? FROM json_each(?) WHERE true
             ON CONFLICT (entity, keap_id) DO UPDATE SET
                 event_key = excluded.event_key, sequence = excluded.sequence, next_attempt_at = excluded.next_attempt_at,
                 received_at = CASE WHEN is_dead THEN excluded.received_at ELSE received_at END,
                 is_dead = 0, held_at = NULL, attempts = 0, failures = 0, error_class = NULL, error_message = NULL",
            vec![
                entity.as_str().into(),
                event_key.into(),
                sequence.into(),
                now.0.into(),
                now.0.into(),
                ids.into(),
            ],
        )?;
        Ok(i64::try_from(keap_ids.len()).unwrap_or(i64::MAX) - waiting)
    }

    /// Counts objects of a kind that is not synced.
    pub fn count_not_synced(&self, event_key: &str, count: i64, now: Timestamp) -> Result<(), Failure> {
        let known = self.number("SELECT count(*) AS number FROM not_synced_events", vec![])?;
        let seen = self.number(
            "SELECT count(*) AS number FROM not_synced_events WHERE event_key = ?",
            vec![event_key.into()],
        )?;
        let key = if seen == 0 && known >= NOT_SYNCED_KEYS_MAX { OTHER_KEYS } else { event_key };
        self.exec(
            "INSERT INTO not_synced_events (event_key, count, last_at) VALUES (?, ?, ?)
             ON CONFLICT (event_key) DO UPDATE SET count = count + excluded.count, last_at = excluded.last_at",
            vec![key.into(), count.into(), now.0.into()],
        )
    }

    /// Counts of what was delivered but is not synced, by kind.
    pub fn not_synced_counts(&self) -> Result<BTreeMap<String, i64>, Failure> {
        let rows: Vec<CountRow> = self.rows("SELECT event_key, count FROM not_synced_events", vec![])?;
        Ok(rows.into_iter().map(|row| (row.event_key, row.count)).collect())
    }

    /// Due events, oldest first.
    pub fn claim_events(
        &self,
        entity: EntityType,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<ClaimedEvent>, Failure> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows: Vec<ClaimedRow> = self.rows(
            "SELECT keap_id, sequence, attempts, failures FROM events
             WHERE is_dead = 0 AND next_attempt_at <= ? AND entity = ? ORDER BY next_attempt_at, received_at LIMIT ?",
            vec![now.0.into(), entity.as_str().into(), limit.into()],
        )?;
        let claimed = |row: ClaimedRow| ClaimedEvent {
            keap_id: row.keap_id,
            sequence: row.sequence,
            attempts: row.attempts,
            failures: row.failures,
        };
        Ok(rows.into_iter().map(claimed).collect())
    }

    /// Ends events that no newer arrival has touched since they were claimed. Says how many.
    pub fn settle_events(&self, entity: EntityType, done: &[&ClaimedEvent]) -> Result<usize, Failure> {
        if done.is_empty() {
            return Ok(0);
        }
        let pairs: Vec<(&str, i64)> =
            done.iter().map(|event| (event.keap_id.as_str(), event.sequence)).collect();
        let ended: Vec<Number> = self.rows(
            "DELETE FROM events WHERE entity = ? AND (keap_id, sequence) IN
                 (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))
             RETURNING 1 AS number",
            vec![entity.as_str().into(), to_json(&pairs)?.into()],
        )?;
        Ok(ended.len())
    }

    /// Notes failed attempts at events that no newer arrival has touched since they were claimed. Answers with the event of each
    /// that was given up.
    pub fn fail_events(
        &self,
        entity: EntityType,
        failed: &[(&ClaimedEvent, Failed, &Failure)],
    ) -> Result<Vec<String>, Failure> {
        if failed.is_empty() {
            return Ok(Vec::new());
        }
        let retries: Vec<Retry<'_>> =
            failed.iter().map(|(event, outcome, failure)| retry(event, outcome, failure)).collect();
        let noted: Vec<NotedRow> = self.rows(
            "UPDATE events SET attempts = f.value ->> 'attempts', failures = f.value ->> 'failures',
                 next_attempt_at = f.value ->> 'next_at', is_dead = f.value ->> 'dead',
                 error_class = f.value ->> 'class', error_message = f.value ->> 'message'
             FROM json_each(?1) f
             WHERE (entity, keap_id) IN (SELECT ?2, value ->> 'id' FROM json_each(?1))
                 AND keap_id = f.value ->> 'id' AND sequence = f.value ->> 'sequence'
             RETURNING event_key, is_dead",
            vec![to_json(&retries)?.into(), entity.as_str().into()],
        )?;
        Ok(noted.into_iter().filter(|row| row.is_dead == 1).map(|row| row.event_key).collect())
    }

    /// When the next event falls due.
    pub fn next_event_at(&self) -> Result<Option<Timestamp>, Failure> {
        // One look into the index for each entity, however long the queue is.
        let rows: Vec<DueRow> = self.rows(
            "SELECT min(due_at) AS due_at FROM (SELECT
                 (SELECT min(next_attempt_at) FROM events WHERE is_dead = 0 AND entity = ids.value) AS due_at
             FROM json_each(?) ids)",
            vec![to_json(&EntityType::ALL)?.into()],
        )?;
        Ok(rows.first().and_then(|row| row.due_at).filter(|due_at| *due_at < HELD_UNTIL).map(Timestamp))
    }

    /// Holds events that no newer arrival has touched since they were claimed: they wait until they are released.
    pub fn hold_events(
        &self,
        entity: EntityType,
        held: &[&ClaimedEvent],
        now: Timestamp,
    ) -> Result<(), Failure> {
        let pairs: Vec<(&str, i64)> =
            held.iter().map(|event| (event.keap_id.as_str(), event.sequence)).collect();
        self.exec(
            "UPDATE events SET held_at = ?, next_attempt_at = ? WHERE entity = ? AND (keap_id, sequence) IN
                 (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))",
            vec![now.0.into(), HELD_UNTIL.into(), entity.as_str().into(), to_json(&pairs)?.into()],
        )
    }

    /// How many events of each kind of record are held; kinds without any are absent.
    pub fn held_events(&self) -> Result<Vec<(EntityType, u64)>, Failure> {
        let rows: Vec<HeldRow> = self.rows(
            "SELECT entity, count(*) AS count FROM events WHERE held_at IS NOT NULL GROUP BY entity",
            vec![],
        )?;
        let known = rows.iter().filter_map(|row| {
            Some((EntityType::from_name(&row.entity)?, u64::try_from(row.count).unwrap_or(0)))
        });
        Ok(known.collect())
    }

    /// Makes held events of a kind due: those held until a moment, or all. Says which records they are about. What is approved stays so
    /// until the event is settled.
    pub fn release_held_events(
        &self,
        entity: EntityType,
        until: Option<Timestamp>,
        is_approved: bool,
        now: Timestamp,
    ) -> Result<Vec<String>, Failure> {
        let rows: Vec<IdRow> = self.rows(
            "UPDATE events SET held_at = NULL, is_approved = ?, next_attempt_at = ?
             WHERE entity = ? AND held_at IS NOT NULL AND held_at <= ? RETURNING keap_id",
            vec![
                i64::from(is_approved).into(),
                now.0.into(),
                entity.as_str().into(),
                until.map_or(HELD_UNTIL, |until| until.0).into(),
            ],
        )?;
        Ok(rows.into_iter().map(|row| row.keap_id).collect())
    }

    /// Records of a kind whose deletion somebody approved and that are not settled yet.
    pub fn approved_events(&self, entity: EntityType) -> Result<HashSet<String>, Failure> {
        let rows: Vec<IdRow> = self.rows(
            "SELECT keap_id FROM events WHERE entity = ? AND is_approved = 1",
            vec![entity.as_str().into()],
        )?;
        Ok(rows.into_iter().map(|row| row.keap_id).collect())
    }

    /// How much waits. Reads the whole queue: for status, not for deliveries.
    pub fn event_depth(&self) -> Result<EventDepth, Failure> {
        let rows: Vec<EventDepth> = self.rows(
            "SELECT count(*) FILTER (WHERE is_dead = 0) AS open, count(*) FILTER (WHERE is_dead = 1) AS dead,
                 count(*) FILTER (WHERE held_at IS NOT NULL) AS held,
                 min(received_at) FILTER (WHERE is_dead = 0 AND held_at IS NULL) AS oldest_at FROM events",
            vec![],
        )?;
        Ok(rows.first().copied().unwrap_or_default())
    }

    /// Events that were given up, newest first.
    pub fn dead_events(&self) -> Result<Vec<DeadEvent>, Failure> {
        self.rows(
            "SELECT entity, keap_id, event_key, attempts, received_at, error_class, error_message
             FROM events WHERE is_dead = 1 ORDER BY received_at DESC LIMIT ?",
            vec![DEAD_SHOWN_MAX.into()],
        )
    }

    /// Given-up events by cause: how many, from when to when, and the newest of each.
    pub fn dead_groups(&self) -> Result<Vec<DeadGroup>, Failure> {
        // Beside max(), SQLite takes the other columns from the row that has it.
        self.rows(
            "SELECT error_class, count(*) AS count, min(received_at) AS oldest_at, max(received_at) AS newest_at,
                 entity || ':' || keap_id AS id, error_message
             FROM events WHERE is_dead = 1 GROUP BY error_class",
            vec![],
        )
    }

    /// Takes given-up events off: chosen as for a replay. Says how many.
    pub fn discard_events(&self, ids: Option<&[String]>, cause: Option<&str>) -> Result<usize, Failure> {
        let ids = ids.map(|ids| to_json(&ids)).transpose()?;
        let gone: Vec<Number> = self.rows(
            &format!("DELETE FROM events WHERE {CHOSEN_DEAD} RETURNING 1 AS number"),
            vec![ids.into(), cause.map(str::to_owned).into()],
        )?;
        Ok(gone.len())
    }

    /// Queues given-up events again: those with these ids (`contact:12`), of this cause, or all. Says how many.
    pub fn replay_events(
        &self,
        ids: Option<&[String]>,
        cause: Option<&str>,
        now: Timestamp,
    ) -> Result<usize, Failure> {
        let ids = ids.map(|ids| to_json(&ids)).transpose()?;
        let queued: Vec<Number> = self.rows(
            &format!(
                "UPDATE events SET is_dead = 0, attempts = 0, failures = 0, next_attempt_at = {}
                 WHERE {CHOSEN_DEAD} RETURNING 1 AS number",
                now.0
            ),
            vec![ids.into(), cause.map(str::to_owned).into()],
        )?;
        Ok(queued.len())
    }
}

fn retry<'a>(event: &'a ClaimedEvent, outcome: &Failed, failure: &'a Failure) -> Retry<'a> {
    let (attempts, failures, next_at, dead) = match outcome {
        Failed::Retry { attempts, failures, next_attempt_at } => {
            (*attempts, *failures, next_attempt_at.0, false)
        }
        Failed::Dead { attempts } => (*attempts, event.failures + 1, 0, true),
    };
    Retry {
        id: &event.keap_id,
        sequence: event.sequence,
        attempts,
        failures,
        next_at,
        dead,
        class: failure.class.as_str(),
        message: &failure.message,
    }
}
