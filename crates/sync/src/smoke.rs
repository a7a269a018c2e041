//! `GET /smoke/…`: what only a deployed system can prove, done for a person who asks.
//!
//! Tests on one machine reach Postgres without the proxy that stands before it in a deployment. These routes send what the workers
//! send (unnamed, typed statements; results of many rows; parameters larger than one write of a socket) through the binding as it is,
//! compare what comes back with what must come back, and answer with durations. `cargo xtask smoke` asks for them.
//!
//! Nothing lasts: statements read, and the one key in KV is deleted and would expire by itself. No record of anybody is touched.

use crate::request::Query;
use futures_util::future::join_all;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_engine::ports::Clock as _;
use keapsync_platform::clock::WorkerClock;
use keapsync_platform::coordinator_client::CoordinatorClient;
use keapsync_platform::entropy::random_u32;
use keapsync_platform::hyperdrive::{self, HYPERDRIVE_BINDING};
use keapsync_platform::kv::Cache;
use keapsync_platform::respond::Answer;
use serde_json::{Value, json};
use std::fmt::Write as _;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};
use worker::Env;

/// Statements in one request, at most: some seconds of one invocation.
const COUNT_MAX: usize = 200;

/// Rows of one result, at most: what a page of the sync reads.
const ROWS_MAX: usize = 1_000;

/// Bytes of one parameter, at most.
const PARAMETER_BYTES_MAX: usize = 1_024 * 1_024;

/// Connections open at the same time; an invocation may have six, and the request itself needs one now and then.
const CONNECTIONS_AT_ONCE: usize = 4;

/// How long the key in KV would live if it were not deleted, in seconds: the shortest there is.
const KEY_SECONDS: u64 = 60;

/// Looks at a moving value. Two that are the same were answered by a cache.
const LOOKS: usize = 4;

/// Every type in which results come to the workers, and a null.
const TYPED: &str = "
    select n, 'row ' || n || ' é漢😀', n % 2 = 0, n / 8.0::float8, (n % 1000)::int4, array[n::text, 'b'],
        case when n % 3 = 0 then null else n::text end
    from generate_series($1::bigint, $1 + $2 - 1) as n";

/// The start of the newest statement on the server: this one's, so it is another each time, unless a cache answers. It names no function
/// of the time, which a cache would recognise.
const MOVING: &str = "select max(query_start)::text from pg_stat_activity";

/// Who we are to the database and which one it is. The server's start tells servers apart that hold databases of one name.
const IDENTITY: &str = "
    select session_user::text, current_database()::text, current_setting('server_version'),
        (extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint::text,
        (extract(epoch from clock_timestamp()) * 1000)::bigint,
        to_regclass('public.sync_contacts') is not null";

/// One of the proofs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Typed statements with many rows.
    Queries,
    /// A large parameter, there and back.
    Parameters,
    /// Connections, one after the other and at once.
    Connections,
    /// Who the worker is to its database, and whether a cache stands before it.
    Database,
    /// KV and the objects.
    Bindings,
}

impl Part {
    /// Finds it by its name in the path.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "queries" => Some(Self::Queries),
            "parameters" => Some(Self::Parameters),
            "connections" => Some(Self::Connections),
            "database" => Some(Self::Database),
            "bindings" => Some(Self::Bindings),
            _ => None,
        }
    }
}

/// Does one part and answers with its figures.
pub(crate) async fn run(
    env: &Env,
    coordinator: &CoordinatorClient,
    part: Part,
    query: &Query,
) -> Result<Answer, Failure> {
    let number = |name, default, max| query.number(name, default, max);
    let figures = match part {
        Part::Queries => match (number("count", 50, COUNT_MAX), number("rows", 1, ROWS_MAX)) {
            (Ok(count), Ok(rows)) => queries(env, count, rows).await?,
            (Err(reason), _) | (_, Err(reason)) => return Ok(Answer::bad_request(&reason)),
        },
        Part::Parameters => {
            match (number("count", 5, COUNT_MAX), number("bytes", 262_144, PARAMETER_BYTES_MAX)) {
                (Ok(count), Ok(bytes)) => parameters(env, count, bytes).await?,
                (Err(reason), _) | (_, Err(reason)) => return Ok(Answer::bad_request(&reason)),
            }
        }
        Part::Connections => match number("count", 8, COUNT_MAX) {
            Ok(count) => connections(env, count).await?,
            Err(reason) => return Ok(Answer::bad_request(&reason)),
        },
        Part::Database => database(env).await?,
        Part::Bindings => bindings(env, coordinator).await?,
    };
    Ok(Answer::json(200, &figures))
}

async fn queries(env: &Env, count: usize, rows: usize) -> Result<Value, Failure> {
    let client = hyperdrive::connect(env, HYPERDRIVE_BINDING).await?;
    let rows = i64::try_from(rows).unwrap_or(i64::MAX);
    let mut durations_ms = Vec::with_capacity(count);
    let mut wrong = 0_usize;
    for nth in 0..count {
        // Another beginning each time, so that the answer to one statement is wrong for every other.
        let first = i64::try_from(nth).unwrap_or(0) * 1_000 + i64::from(random_u32()? % 1_000);
        let begun_at = WorkerClock.now();
        let result = client.query_typed(TYPED, &[(&first, Type::INT8), (&rows, Type::INT8)]).await;
        durations_ms.push(WorkerClock.now().since_ms(begun_at));
        let result = result.map_err(|error| refused(&error))?;
        let is_whole = i64::try_from(result.len()) == Ok(rows);
        let are_right = result.iter().zip(first..).all(|(row, n)| is_row(row, n) == Some(true));
        wrong += usize::from(!is_whole || !are_right);
    }
    Ok(json!({"count": count, "rows": rows, "wrong": wrong, "durations_ms": durations_ms}))
}

/// Whether a row is the nth, in every column; `None` when a column has another type.
fn is_row(row: &Row, n: i64) -> Option<bool> {
    let list: Vec<String> = row.try_get(5).ok()?;
    let maybe: Option<String> = row.try_get(6).ok()?;
    let eighth: f64 = row.try_get(3).ok()?;
    Some(
        row.try_get::<_, i64>(0).ok()? == n
            && row.try_get::<_, String>(1).ok()? == format!("row {n} é漢😀")
            && row.try_get::<_, bool>(2).ok()? == (n % 2 == 0)
            // Times eight it is the whole number again, without rounding.
            && (eighth * 8.0).to_string() == n.to_string()
            && i64::from(row.try_get::<_, i32>(4).ok()?) == n % 1_000
            && list == [n.to_string(), "b".to_owned()]
            && maybe == (n % 3 != 0).then(|| n.to_string()),
    )
}

async fn parameters(env: &Env, count: usize, bytes: usize) -> Result<Value, Failure> {
    let client = hyperdrive::connect(env, HYPERDRIVE_BINDING).await?;
    let mut durations_ms = Vec::with_capacity(count);
    let mut wrong = 0_usize;
    for _ in 0..count {
        let text = filler(bytes, random_u32()?);
        let begun_at = WorkerClock.now();
        let result = client.query_typed("select $1::text", &[(&text, Type::TEXT)]).await;
        durations_ms.push(WorkerClock.now().since_ms(begun_at));
        let result = result.map_err(|error| refused(&error))?;
        let echoed: Option<String> = result.first().and_then(|row| row.try_get(0).ok());
        wrong += usize::from(echoed.as_deref() != Some(text.as_str()));
    }
    Ok(json!({"count": count, "bytes": bytes, "wrong": wrong, "durations_ms": durations_ms}))
}

/// Text of exactly so many bytes in which no piece is like another: one that is lost, doubled or out of place shows.
fn filler(bytes: usize, seed: u32) -> String {
    let mut text = String::with_capacity(bytes + 24);
    let mut nth = 0_u32;
    while text.len() < bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{seed:x}.{nth:x};");
        nth += 1;
    }
    text.truncate(bytes);
    text
}

async fn connections(env: &Env, count: usize) -> Result<Value, Failure> {
    let mut backends: Vec<i32> = Vec::with_capacity(count);
    let mut durations_ms = Vec::with_capacity(count);
    let mut left = count;
    while left > 0 {
        let now = left.min(CONNECTIONS_AT_ONCE);
        for opened in join_all((0..now).map(|_| connection(env))).await {
            let (backend, took_ms) = opened?;
            backends.push(backend);
            durations_ms.push(took_ms);
        }
        left -= now;
    }
    backends.sort_unstable();
    backends.dedup();
    Ok(json!({"count": count, "backends": backends, "wrong": 0, "durations_ms": durations_ms}))
}

/// Opens a connection and asks once; gives the server's process, and how long it took.
async fn connection(env: &Env) -> Result<(i32, i64), Failure> {
    let begun_at = WorkerClock.now();
    let client = hyperdrive::connect(env, HYPERDRIVE_BINDING).await?;
    let row = one(&client, "select pg_backend_pid()").await?;
    let backend = row.try_get(0).map_err(|error| refused(&error))?;
    Ok((backend, WorkerClock.now().since_ms(begun_at)))
}

async fn database(env: &Env) -> Result<Value, Failure> {
    let client = hyperdrive::connect(env, HYPERDRIVE_BINDING).await?;
    let row = one(&client, IDENTITY).await?;
    let text = |column| row.try_get::<_, String>(column).map_err(|error| refused(&error));
    let mut seen: Vec<String> = Vec::with_capacity(LOOKS);
    for _ in 0..LOOKS {
        let look = one(&client, MOVING).await?;
        seen.push(look.try_get::<_, Option<String>>(0).map_err(|error| refused(&error))?.unwrap_or_default());
    }
    seen.sort_unstable();
    seen.dedup();
    Ok(json!({
        "role": text(0)?,
        "database": text(1)?,
        "server_version": text(2)?,
        "server_started_us": text(3)?,
        "server_time_ms": row.try_get::<_, i64>(4).map_err(|error| refused(&error))?,
        "is_migrated": row.try_get::<_, bool>(5).map_err(|error| refused(&error))?,
        "is_cached": seen.len() < LOOKS,
    }))
}

async fn bindings(env: &Env, coordinator: &CoordinatorClient) -> Result<Value, Failure> {
    let cache = Cache::open(env)?;
    let (name, value) = (format!("smoke:{:08x}", random_u32()?), random_u32()?);
    let begun_at = WorkerClock.now();
    cache.put(&name, &value, KEY_SECONDS).await?;
    let read: Option<u32> = cache.get(&name).await;
    cache.delete(&name).await?;
    let kv_ms = WorkerClock.now().since_ms(begun_at);
    let begun_at = WorkerClock.now();
    // The registry is an object of its own, which reads its storage for this.
    let accounts = coordinator.get_json::<Value>("/accounts").await?;
    let object_ms = WorkerClock.now().since_ms(begun_at);
    let accounts = accounts.get("accounts").and_then(Value::as_array).map(Vec::len);
    Ok(json!({
        "kv": {"is_right": read == Some(value), "duration_ms": kv_ms},
        "object": {"is_right": accounts.is_some(), "duration_ms": object_ms},
    }))
}

async fn one(client: &Client, sql: &str) -> Result<Row, Failure> {
    let rows = client.query_typed(sql, &[]).await.map_err(|error| refused(&error))?;
    rows.into_iter().next().ok_or_else(|| {
        Failure::new(FailureClass::Unexpected, "Postgres answered with no row where there is one")
    })
}

/// What Postgres said. The statements hold nobody's data, so its message may be shown; without one the connection itself is gone.
fn refused(error: &tokio_postgres::Error) -> Failure {
    let message = match error.as_db_error() {
        Some(said) => format!("Postgres refused a statement: {} (SQLSTATE {})", said.message(), said.code().code()),
        None => "the connection to Postgres broke while a statement was under way: see that the proxy passes statements of this \
                 size, and that the database is up"
            .to_owned(),
    };
    Failure::new(FailureClass::Unavailable, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn filler_has_its_length_and_repeats_nothing() {
        let text = filler(262_144, 7);
        assert_eq!(text.len(), 262_144);
        let pieces: Vec<&str> = text.split_inclusive(';').collect();
        assert_eq!(pieces.iter().collect::<BTreeSet<_>>().len(), pieces.len());
        assert_ne!(text, filler(262_144, 8));
        assert_eq!(filler(1, 7).len(), 1);
    }

    #[test]
    fn parts_are_found_by_their_names() {
        assert_eq!(Part::from_name("queries"), Some(Part::Queries));
        assert_eq!(Part::from_name("Queries"), None);
    }
}
