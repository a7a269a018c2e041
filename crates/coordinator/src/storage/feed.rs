//! `feed`: the ring of told events, one row per flush (see `engine::feed`); and `feed_tickets`: what browsers open the feed
//! with, kept as hashes only.
//!
//! A flush writes one row over the oldest. A ticket is taken in the statement that looks it up, so it serves once.

use super::Sql;
use super::nonces::hash_of;
use keapsync_domain::failure::Failure;
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::feed::{FLUSHES_KEPT, Flush, RingEnd};
use serde::Deserialize;

/// Tickets that may wait to be used; the oldest make room.
const TICKETS_MAX: i64 = 100;

/// Rows read at once.
const ROWS_READ_MAX: i64 = 64;

#[derive(Deserialize)]
struct FlushRow {
    number: u64,
    first_sequence: u64,
    last_sequence: u64,
    body: String,
}

#[derive(Deserialize)]
struct EndRow {
    number: u64,
    last_sequence: u64,
}

#[derive(Deserialize)]
struct FirstRow {
    first_kept: Option<u64>,
}

#[derive(Deserialize)]
struct TicketRow {}

impl Sql {
    /// Where the ring ends.
    pub fn feed_end(&self) -> Result<RingEnd, Failure> {
        let rows: Vec<EndRow> =
            self.rows("SELECT number, last_sequence FROM feed ORDER BY number DESC LIMIT 1", vec![])?;
        Ok(rows
            .first()
            .map_or_else(RingEnd::default, |row| RingEnd { flushes: row.number, newest: row.last_sequence }))
    }

    /// The oldest event that is kept.
    pub fn feed_first_kept(&self) -> Result<Option<u64>, Failure> {
        let rows: Vec<FirstRow> = self.rows("SELECT min(first_sequence) AS first_kept FROM feed", vec![])?;
        Ok(rows.first().and_then(|row| row.first_kept))
    }

    /// Writes a flush over the oldest row.
    pub fn write_flush(&self, flush: &Flush) -> Result<(), Failure> {
        self.exec(
            "INSERT INTO feed (slot, number, first_sequence, last_sequence, body) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (slot) DO UPDATE SET number = excluded.number, first_sequence = excluded.first_sequence,
                 last_sequence = excluded.last_sequence, body = excluded.body",
            vec![
                number(flush.slot(FLUSHES_KEPT)).into(),
                number(flush.number).into(),
                number(flush.first).into(),
                number(flush.last).into(),
                flush.body.as_str().into(),
            ],
        )
    }

    /// The first rows that hold events behind `after`, oldest first; none at the end.
    pub fn feed_after(&self, after: u64) -> Result<Vec<Flush>, Failure> {
        let rows: Vec<FlushRow> = self.rows(
            "SELECT number, first_sequence, last_sequence, body FROM feed WHERE last_sequence > ?
             ORDER BY last_sequence LIMIT ?",
            vec![number(after).into(), ROWS_READ_MAX.into()],
        )?;
        let flush = |row: FlushRow| Flush {
            number: row.number,
            first: row.first_sequence,
            last: row.last_sequence,
            body: row.body,
        };
        Ok(rows.into_iter().map(flush).collect())
    }

    /// Keeps a ticket until it is used or dies.
    pub fn keep_ticket(&self, ticket: &str, expires_at: Timestamp, now: Timestamp) -> Result<(), Failure> {
        self.exec(
            "DELETE FROM feed_tickets WHERE expires_at <= ? OR hash IN
                 (SELECT hash FROM feed_tickets ORDER BY expires_at DESC LIMIT -1 OFFSET ?)",
            vec![now.0.into(), (TICKETS_MAX - 1).into()],
        )?;
        self.exec(
            "INSERT INTO feed_tickets (hash, expires_at) VALUES (?, ?)",
            vec![hash_of(ticket).into(), expires_at.0.into()],
        )
    }

    /// Takes a ticket. Says whether it was good.
    pub fn redeem_ticket(&self, ticket: &str, now: Timestamp) -> Result<bool, Failure> {
        let taken: Vec<TicketRow> = self.rows(
            "DELETE FROM feed_tickets WHERE hash = ? AND expires_at > ? RETURNING 1 AS taken",
            vec![hash_of(ticket).into(), now.0.into()],
        )?;
        Ok(!taken.is_empty())
    }
}

/// A count as SQL takes it: far below the 2^53 up to which JavaScript's numbers are exact.
fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
