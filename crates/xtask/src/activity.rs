//! Showing what a system does: each change of a record from the audit log, and what an account's object says of itself.
//!
//! It names records by their id and columns by their name, and shows no value of anybody's data.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio_postgres::{Client, Row};

use crate::admin_api::AdminApi;
use crate::database;
use crate::progress::detail;

/// How often it looks.
const INTERVAL: Duration = Duration::from_millis(500);

/// The changes that one look prints; of more only the number is told.
const CHANGES_PRINTED_MAX: usize = 10;

/// Parts of an account's status that change with every look, or that follow from others.
const RESTLESS: [&str; 4] = ["at", "quota_left", "timestamp", "watermark"];

/// Changes of records that came after a known one.
const CHANGES_QUERY: &str = "select id, entity_type, coalesce(keap_id, entity_id::text), operation, changed_fields, sync_source, sync_destination
      from sync_audit_log where account_id = $1 and id > $2 order by id";

/// Prints every change of an account until the future is dropped.
pub async fn show(api: &AdminApi, database_url: &str, account: &str) -> Result<()> {
    let mut changes = Changes { database_url, account, client: None, last_id: None };
    let mut status = Status { api, account, shown: None };
    let mut problem = None;
    loop {
        let mut outcome = changes.show_new().await;
        if outcome.is_ok() {
            outcome = status.show_new().await;
        }
        let found = outcome.err().map(|error| format!("{error:#}"));
        // A part that restarts is away for a moment; once is enough to say so.
        if found.is_some() && found != problem {
            detail(format!("nothing to show for now: {}", found.as_deref().unwrap_or_default()));
        }
        problem = found;
        tokio::time::sleep(INTERVAL).await;
    }
}

/// The end of the audit log.
struct Changes<'a> {
    database_url: &'a str,
    account: &'a str,
    client: Option<Client>,
    last_id: Option<i64>,
}

impl Changes<'_> {
    async fn show_new(&mut self) -> Result<()> {
        let outcome = self.rows().await;
        if outcome.is_err() {
            self.client = None;
        }
        let rows = outcome?;
        for row in rows.iter().take(CHANGES_PRINTED_MAX) {
            print(&change_line(row)?);
        }
        if let Some(more) = rows.len().checked_sub(CHANGES_PRINTED_MAX).filter(|more| *more > 0) {
            print(&format!("and {more} more changes"));
        }
        if let Some(row) = rows.last() {
            self.last_id = Some(row.try_get(0)?);
        }
        Ok(())
    }

    /// What is new since the last look; the first look only finds out where the log ends.
    async fn rows(&mut self) -> Result<Vec<Row>> {
        if self.client.is_none() {
            self.client = Some(database::connect(self.database_url).await?);
        }
        let client = self.client.as_ref().context("no connection to the database")?;
        if let Some(last_id) = self.last_id {
            return Ok(client.query(CHANGES_QUERY, &[&self.account, &last_id]).await?);
        }
        let end = client.query_one("select coalesce(max(id), 0) from sync_audit_log", &[]).await?;
        self.last_id = Some(end.try_get(0)?);
        Ok(Vec::new())
    }
}

fn change_line(row: &Row) -> Result<String> {
    let fields: Option<Vec<String>> = row.try_get(4)?;
    Ok(format!(
        "{} {} {}: {} -> {}{}",
        row.try_get::<_, String>(3)?,
        row.try_get::<_, String>(1)?,
        row.try_get::<_, String>(2)?,
        source_name(row.try_get(5)?),
        row.try_get::<_, String>(6)?,
        fields.map(|fields| format!(" ({})", fields.join(", "))).unwrap_or_default()
    ))
}

/// Where a change came from, in words.
fn source_name(source: &str) -> &str {
    match source {
        "supabase" => "edit in supabase",
        "hook" => "keap, by hook",
        "poll" => "keap, by poll",
        "full_sync" => "keap, by full sync",
        "outbox" => "keap's answer to our write",
        other => other,
    }
}

/// What the account's object says of itself.
struct Status<'a> {
    api: &'a AdminApi,
    account: &'a str,
    shown: Option<BTreeMap<String, String>>,
}

impl Status<'_> {
    async fn show_new(&mut self) -> Result<()> {
        let current = leaves(&self.api.account_status(self.account).await?);
        if let Some(before) = &self.shown {
            for line in differences(before, &current) {
                print(&line);
            }
        }
        self.shown = Some(current);
        Ok(())
    }
}

fn print(line: &str) {
    detail(format!("{} {line}", jiff::Zoned::now().strftime("%H:%M:%S")));
}

/// All values of a JSON document that hold nothing further, by their path.
fn leaves(value: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    collect("", value, &mut found);
    found
}

fn collect(path: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    let text = match value {
        Value::Object(members) => {
            for (name, member) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                collect(&path, member, found);
            }
            return;
        }
        Value::Array(items) => format!("{} items", items.len()),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    found.insert(path.to_owned(), text);
}

fn differences(before: &BTreeMap<String, String>, current: &BTreeMap<String, String>) -> Vec<String> {
    let absent = String::from("-");
    current
        .iter()
        .map(|(path, value)| (path, before.get(path).unwrap_or(&absent), value))
        .filter(|(path, old, new)| old != new && !is_restless(path))
        .map(|(path, old, new)| format!("{path}: {old} -> {new}"))
        .collect()
}

fn is_restless(path: &str) -> bool {
    path.ends_with("_at") || path.split('.').any(|name| RESTLESS.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_changed_is_shown_and_times_alone_are_not() {
        let before = leaves(
            &json!({"events": {"open": 0, "dead": 4}, "at": "a", "quota_left": {"day": 2}, "runs": [1]}),
        );
        let after = leaves(
            &json!({"events": {"open": 2, "dead": 4}, "at": "b", "quota_left": {"day": 1}, "runs": [1, 2]}),
        );
        assert_eq!(differences(&before, &after), ["events.open: 0 -> 2", "runs: 1 items -> 2 items"]);
    }
}
