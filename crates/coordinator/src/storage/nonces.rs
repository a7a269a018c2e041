//! `oauth_attempts`: attempts to connect that are under way. Tickets and cookies are kept as hashes only.
//!
//! An attempt is made with a ticket; opening it takes the ticket away and ties the attempt to a browser's cookie;
//! redeeming it takes the attempt away. Each happens once, because reading and writing are one step.

use super::Sql;
use keapsync_domain::failure::Failure;
use keapsync_domain::timestamp::Timestamp;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Attempts that may be under way at once; the oldest make room.
const ATTEMPTS_MAX: i64 = 20;

#[derive(Deserialize)]
struct AttemptRow {
    nonce: String,
    cookie_hash: Option<String>,
    expires_at: i64,
}

impl Sql {
    /// Keeps a new attempt.
    pub fn begin_attempt(
        &self,
        nonce: &str,
        ticket: &str,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<(), Failure> {
        self.exec("DELETE FROM oauth_attempts WHERE expires_at <= ?", vec![now.0.into()])?;
        self.exec(
            "DELETE FROM oauth_attempts WHERE nonce IN
                 (SELECT nonce FROM oauth_attempts ORDER BY expires_at DESC LIMIT -1 OFFSET ?)",
            vec![(ATTEMPTS_MAX - 1).into()],
        )?;
        self.exec(
            "INSERT INTO oauth_attempts (nonce, ticket_hash, expires_at) VALUES (?, ?, ?)",
            vec![nonce.into(), hash_of(ticket).into(), expires_at.0.into()],
        )
    }

    /// Takes a ticket and ties its attempt to a cookie. Answers with the attempt's nonce and end.
    pub fn open_attempt(
        &self,
        ticket: &str,
        cookie: &str,
        now: Timestamp,
    ) -> Result<Option<(String, Timestamp)>, Failure> {
        let rows: Vec<AttemptRow> = self.rows(
            "UPDATE oauth_attempts SET ticket_hash = NULL, cookie_hash = ? WHERE ticket_hash = ? AND expires_at > ?
             RETURNING nonce, cookie_hash, expires_at",
            vec![hash_of(cookie).into(), hash_of(ticket).into(), now.0.into()],
        )?;
        Ok(rows.into_iter().next().map(|row| (row.nonce, Timestamp(row.expires_at))))
    }

    /// Takes an attempt away, when the browser that comes back is the one that opened it.
    pub fn redeem_attempt(&self, nonce: &str, cookie: &str, now: Timestamp) -> Result<bool, Failure> {
        let rows: Vec<AttemptRow> = self.rows(
            "SELECT nonce, cookie_hash, expires_at FROM oauth_attempts WHERE nonce = ?",
            vec![nonce.into()],
        )?;
        let fits = rows.first().is_some_and(|row| {
            row.expires_at > now.0
                && row
                    .cookie_hash
                    .as_ref()
                    .is_some_and(|hash| bool::from(hash.as_bytes().ct_eq(hash_of(cookie).as_bytes())))
        });
        if fits {
            self.exec("DELETE FROM oauth_attempts WHERE nonce = ?", vec![nonce.into()])?;
        }
        Ok(fits)
    }
}

/// What is kept of a secret.
pub(super) fn hash_of(secret: &str) -> String {
    hex::encode(Sha256::digest(secret))
}
