//! The account object's SQLite storage: one file per table.
//!
//! `exec` is synchronous, and writes without an await between them are one atomic transaction; every function here is
//! therefore atomic, and so is any run of them without an await. Nothing is created before an account is first named by
//! somebody with the right to do so: an object that was only asked about leaves no trace.

pub mod events;
pub mod feed;
pub mod hook_days;
pub mod nonces;
pub mod runs;
pub mod values;

use keapsync_domain::failure::{Failure, FailureClass};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use worker::{SqlStorage, SqlStorageValue};

/// Changes of the schema, in order; one that was shipped is never edited. Integers cross as JavaScript numbers (exact to
/// 2^53), so ids are text.
const MIGRATIONS: [&str; 4] = [
    "
    CREATE TABLE account_values (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE events (
        entity TEXT NOT NULL,
        keap_id TEXT NOT NULL,
        event_key TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        is_dead INTEGER NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0,
        failures INTEGER NOT NULL DEFAULT 0,
        received_at INTEGER NOT NULL,
        next_attempt_at INTEGER NOT NULL,
        error_class TEXT,
        error_message TEXT,
        PRIMARY KEY (entity, keap_id)
    ) WITHOUT ROWID;
    CREATE INDEX events_due ON events (is_dead, next_attempt_at, received_at);
    CREATE TABLE not_synced_events (event_key TEXT PRIMARY KEY, count INTEGER NOT NULL, last_at INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE oauth_attempts (
        nonce TEXT PRIMARY KEY,
        ticket_hash TEXT,
        cookie_hash TEXT,
        expires_at INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE runs (
        id TEXT PRIMARY KEY,
        is_active INTEGER NOT NULL,
        is_mirrored INTEGER NOT NULL,
        requested_at INTEGER NOT NULL,
        body TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX runs_requested ON runs (requested_at);
",
    "
    CREATE TABLE feed (
        slot INTEGER PRIMARY KEY,
        number INTEGER NOT NULL,
        first_sequence INTEGER NOT NULL,
        last_sequence INTEGER NOT NULL,
        body TEXT NOT NULL
    );
    CREATE TABLE feed_tickets (hash TEXT PRIMARY KEY, expires_at INTEGER NOT NULL) WITHOUT ROWID;
",
    "
    CREATE TABLE hook_days (
        day INTEGER NOT NULL,
        event_key TEXT NOT NULL,
        deliveries INTEGER NOT NULL,
        objects INTEGER NOT NULL,
        refused INTEGER NOT NULL,
        given_up INTEGER NOT NULL,
        last_at INTEGER,
        PRIMARY KEY (day, event_key)
    ) WITHOUT ROWID;
    DROP INDEX events_due;
    CREATE INDEX events_due ON events (is_dead, entity, next_attempt_at, received_at);
",
    "
    ALTER TABLE events ADD COLUMN held_at INTEGER;
    ALTER TABLE events ADD COLUMN is_approved INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX events_held ON events (entity, held_at) WHERE held_at IS NOT NULL;
    CREATE INDEX events_approved ON events (entity) WHERE is_approved = 1;
",
];

/// The storage of one object.
#[derive(Clone, Debug)]
pub struct Sql {
    storage: SqlStorage,
}

#[derive(Deserialize)]
struct Number {
    number: i64,
}

impl Sql {
    /// Wraps the object's storage.
    #[must_use]
    pub fn new(storage: SqlStorage) -> Self {
        Self { storage }
    }

    /// Whether anything was ever stored.
    pub fn exists(&self) -> Result<bool, Failure> {
        let sql = "SELECT count(*) AS number FROM sqlite_master WHERE name = 'schema_migrations'";
        Ok(self.number(sql, vec![])? > 0)
    }

    /// Brings the schema up to date.
    pub fn migrate(&self) -> Result<(), Failure> {
        self.exec("CREATE TABLE IF NOT EXISTS schema_migrations (version INTEGER PRIMARY KEY)", vec![])?;
        let version =
            self.number("SELECT coalesce(max(version), 0) AS number FROM schema_migrations", vec![])?;
        for (position, sql) in (1_i64..).zip(MIGRATIONS).filter(|(position, _)| *position > version) {
            self.exec(sql, vec![])?;
            self.exec("INSERT INTO schema_migrations (version) VALUES (?)", vec![position.into()])?;
        }
        Ok(())
    }

    /// Runs a statement.
    pub fn exec(&self, sql: &str, parameters: Vec<SqlStorageValue>) -> Result<(), Failure> {
        self.storage.exec(sql, parameters).map(|_| ()).map_err(|error| failure(&error))
    }

    /// Runs a statement and reads its rows.
    pub fn rows<T: DeserializeOwned>(
        &self,
        sql: &str,
        parameters: Vec<SqlStorageValue>,
    ) -> Result<Vec<T>, Failure> {
        self.storage
            .exec(sql, parameters)
            .and_then(|cursor| cursor.to_array())
            .map_err(|error| failure(&error))
    }

    /// Reads one number, in a column called `number`; 0 when there is no row.
    pub fn number(&self, sql: &str, parameters: Vec<SqlStorageValue>) -> Result<i64, Failure> {
        Ok(self.rows::<Number>(sql, parameters)?.first().map_or(0, |row| row.number))
    }
}

fn failure(error: &worker::Error) -> Failure {
    // SQLite's message names tables and columns, never values.
    let message: String = error.to_string().chars().take(200).collect();
    Failure::new(FailureClass::Unavailable, format!("the account's storage failed: {message}"))
}

/// Writes a value as JSON for a parameter.
pub(crate) fn to_json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value)
        .map_err(|_| Failure::new(FailureClass::Unexpected, "a value could not be written as JSON"))
}
