//! The record of access: who did which admin action when, and whose credentials were refused.
//!
//! It is kept in the registry's object, durable before the action's answer leaves the worker, and bounded. Refusals are bounded apart
//! from actions, so that nobody can push an action out of the record by knocking often. Reading is not recorded, nor what workers
//! say to each other: the log has it.

use crate::account::times::shown;
use crate::object_call::post;
use crate::registry::{OBJECT_NAME, REGISTRY_BINDING, RegistryCall};
use crate::route::value_of;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::AccountId;
use keapsync_domain::wire::AccessEntry;
use keapsync_platform::access::REFUSED;
use keapsync_platform::respond::Answer;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use worker::{Env, SqlStorage, SqlStorageValue};

/// Actions that are kept: years of a person's work.
const ACTIONS_MAX: i64 = 10_000;

/// Refusals that are kept.
const REFUSALS_MAX: i64 = 1_000;

/// Entries in one answer, unless asked otherwise, and at most.
const LISTED_DEFAULT: i64 = 100;
const LISTED_MAX: i64 = 500;

/// Which part of the record to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessPage {
    /// Older than the entry of this number.
    pub before: Option<i64>,
    /// About this account.
    pub account: Option<AccountId>,
    /// So many.
    pub limit: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct NumberedRow {
    number: i64,
    body: String,
}

impl AccessPage {
    /// Reads a query; `Err` says what is wrong with it. `get` gives a parameter's value.
    pub fn of<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Self, String> {
        let number = |name: &str| get(name).map(str::parse::<i64>).transpose();
        let before = number("before").map_err(|_| "before is the number of the last entry that was shown")?;
        let limit = number("limit").ok().map(|limit| limit.unwrap_or(LISTED_DEFAULT));
        let limit = limit
            .filter(|limit| (1..=LISTED_MAX).contains(limit))
            .ok_or_else(|| format!("limit is 1 to {LISTED_MAX}"))?;
        let account = get("account").map(AccountId::parse).transpose().map_err(|error| error.to_string())?;
        Ok(Self { before, account, limit })
    }
}

/// Adds an entry and lets the oldest of its kind go.
pub fn note(sql: &SqlStorage, entry: &AccessEntry) -> Result<(), Failure> {
    create(sql)?;
    let (is_refusal, max) = if entry.actor == REFUSED { (1, REFUSALS_MAX) } else { (0, ACTIONS_MAX) };
    let body = crate::storage::to_json(entry)?;
    let account = entry.account.as_ref().map(|account| account.as_str().to_owned());
    run(
        sql,
        "INSERT INTO access_log (is_refusal, account, body) VALUES (?, ?, ?)",
        vec![is_refusal.into(), account.into(), body.into()],
    )?;
    run(
        sql,
        "DELETE FROM access_log WHERE is_refusal = ?1 AND number <=
             (SELECT number FROM access_log WHERE is_refusal = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)",
        vec![is_refusal.into(), max.into()],
    )
}

/// Reads a part of the record, newest first.
pub fn list(sql: &SqlStorage, page: &AccessPage) -> Result<Value, Failure> {
    create(sql)?;
    let rows: Vec<NumberedRow> = sql
        .exec(
            "SELECT number, body FROM access_log
             WHERE (?1 IS NULL OR number < ?1) AND (?2 IS NULL OR account = ?2) ORDER BY number DESC LIMIT ?3",
            vec![
                page.before.into(),
                page.account.as_ref().map(|account| account.as_str().to_owned()).into(),
                page.limit.into(),
            ],
        )
        .and_then(|cursor| cursor.to_array())
        .map_err(|_| storage_failed())?;
    let is_full = i64::try_from(rows.len()).is_ok_and(|length| length >= page.limit);
    let next = if is_full { rows.last().map(|row| row.number) } else { None };
    Ok(json!({"entries": entries_of(rows), "next_before": next}))
}

/// Each entry with its number; what an older version wrote otherwise is left out rather than hiding the rest.
fn entries_of(rows: Vec<NumberedRow>) -> Vec<Value> {
    let numbered = |row: NumberedRow| {
        let mut entry = serde_json::from_str::<Value>(&row.body).ok()?;
        entry.as_object_mut()?.insert("number".to_owned(), row.number.into());
        Some(shown(&entry))
    };
    rows.into_iter().filter_map(numbered).collect()
}

fn create(sql: &SqlStorage) -> Result<(), Failure> {
    run(
        sql,
        "CREATE TABLE IF NOT EXISTS access_log (
             number INTEGER PRIMARY KEY AUTOINCREMENT, is_refusal INTEGER NOT NULL, account TEXT, body TEXT NOT NULL)",
        vec![],
    )?;
    run(sql, "CREATE INDEX IF NOT EXISTS access_log_kind ON access_log (is_refusal, number)", vec![])
}

fn run(sql: &SqlStorage, statement: &str, parameters: Vec<SqlStorageValue>) -> Result<(), Failure> {
    sql.exec(statement, parameters).map(|_| ()).map_err(|_| storage_failed())
}

fn storage_failed() -> Failure {
    Failure::new(FailureClass::Unavailable, "the record of access cannot be reached: try again")
}

/// Adds an entry; durable when this returns `Ok`.
pub async fn record(env: &Env, entry: AccessEntry) -> Result<(), Failure> {
    let _: Value = post(env, REGISTRY_BINDING, OBJECT_NAME, "/", &RegistryCall::NoteAccess(entry)).await?;
    Ok(())
}

/// `GET /access-log?before=&account=&limit=`.
pub async fn answer(env: &Env, query: &[(String, String)]) -> Answer {
    let page = match AccessPage::of(|name| value_of(query, name)) {
        Ok(page) => page,
        Err(reason) => return Answer::bad_request(&reason),
    };
    match post::<_, Value>(env, REGISTRY_BINDING, OBJECT_NAME, "/", &RegistryCall::ListAccess(page)).await {
        Ok(value) => Answer::json(200, &value),
        Err(failure) => Answer::failure(&failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(pairs: &[(&str, &'static str)]) -> Result<AccessPage, String> {
        AccessPage::of(|name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| *value))
    }

    #[test]
    fn pages_are_checked() {
        assert_eq!(page(&[]), Ok(AccessPage { before: None, account: None, limit: LISTED_DEFAULT }));
        let read = page(&[("before", "7"), ("limit", "500"), ("account", "demo")]).unwrap();
        assert_eq!((read.before, read.limit, read.account.unwrap().as_str()), (Some(7), 500, "demo"));
        for odd in [
            ("before", "x"),
            ("limit", "0"),
            ("limit", "501"),
            ("limit", "-1"),
            ("account", "No!"),
            ("limit", ""),
        ] {
            assert!(page(&[odd]).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn entries_carry_their_number_and_readable_times() {
        let rows = vec![
            NumberedRow { number: 2, body: r#"{"at":0,"actor":"admin","status":200}"#.to_owned() },
            NumberedRow { number: 1, body: "broken".to_owned() },
        ];
        let expected =
            json!([{"number": 2, "at": "1970-01-01T00:00:00.000Z", "actor": "admin", "status": 200}]);
        assert_eq!(Value::Array(entries_of(rows)), expected);
    }
}
