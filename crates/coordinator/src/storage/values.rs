//! `account_values`: what an account has one of, as JSON under a name.

use super::{Sql, to_json};
use keapsync_domain::failure::{Failure, FailureClass};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The account's name; present once it was connected.
pub const ACCOUNT: &str = "account";
/// The sealed credential.
pub const TOKEN: &str = "token";
/// The Keap application whose records the account holds, in plain: it outlives a credential that can't be opened any more.
pub const APPLICATION: &str = "application";
/// The account's settings.
pub const SETTINGS: &str = "settings";
/// The custom fields in Keap that carry row ids.
pub const LINK_FIELDS: &str = "link_fields";
/// What has to be done once after connecting.
pub const SETUP: &str = "setup";
/// What is known of the hooks: see [`keapsync_engine::hook_life::HookBook`].
pub const HOOK_BOOK: &str = "hook_book";
/// What has to be read because events may have been missed.
pub const CATCH_UP: &str = "catch_up";
/// Starts of the last completed full run of each entity.
pub const FULL_READS: &str = "full_reads";
/// The pause, while the account is paused.
pub const PAUSE: &str = "pause";
/// Signs of life of the alarm.
pub const PULSE: &str = "pulse";
/// Waits and errors of the alarm's parts.
pub const PARTS: &str = "parts";
/// The incremental watermark of each entity.
pub const WATERMARKS: &str = "watermarks";

#[derive(Deserialize)]
struct ValueRow {
    value: String,
}

impl Sql {
    /// Reads a value.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Failure> {
        let rows: Vec<ValueRow> =
            self.rows("SELECT value FROM account_values WHERE name = ?", vec![name.into()])?;
        let Some(row) = rows.first() else { return Ok(None) };
        serde_json::from_str(&row.value).map(Some).map_err(|_| {
            Failure::new(
                FailureClass::Unexpected,
                format!(
                    "the account's stored {name} has an unexpected shape: deploy the version that wrote it"
                ),
            )
        })
    }

    /// Writes a value.
    pub fn put<T: Serialize>(&self, name: &str, value: &T) -> Result<(), Failure> {
        let sql = "INSERT INTO account_values (name, value) VALUES (?, ?)
                   ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        self.exec(sql, vec![name.into(), to_json(value)?.into()])
    }
}
