//! The account's object: the only scheduler of its account.
//!
//! [`SyncCoordinator`](crate::objects::SyncCoordinator) is a shell; what it does is in this module's files, one per concern,
//! as methods of `Account`. The
//! truth is in SQLite; what is kept in memory may vanish at any await and only saves work.
//!
//! Requests and the alarm interleave at awaits. What must happen together happens without an await between; what must
//! happen once (a token refresh) is under a lock and looks again after it got it.

mod alarm;
mod calls;
pub mod connect;
mod credential;
mod dead_letters;
mod inbound;
mod lease;
mod outbox;
mod parts;
mod setup;
mod status;
pub mod times;
mod units;
pub mod wire;

use crate::object_call::ACCOUNT_HEADER;
use crate::storage::{Sql, values};
use futures_util::lock::Mutex;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::AccountId;
use keapsync_domain::settings::AccountSettings;
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::ports::{Clock as _, OutboxDepth};
use keapsync_platform::clock::WorkerClock;
use keapsync_platform::config::{ConfigError, CoordinatorConfig};
use keapsync_platform::log::Log;
use keapsync_platform::respond::Answer;
use std::cell::Cell;
use worker::{Env, Method, Request, State, Storage};

/// Binding of the class.
pub const ACCOUNT_BINDING: &str = "SYNC_COORDINATOR";

/// Longest time that one alarm may plausibly run, in milliseconds: one that says it runs for longer is gone.
const ALARM_RUN_MAX_MS: i64 = 180_000;

/// An alarm that was due this long ago and did not run is not waited for, in milliseconds.
const ALARM_LATE_MS: i64 = 5_000;

/// What the object holds: its storage, its surroundings, and memory that may vanish.
pub struct ObjectState {
    storage: Storage,
    sql: Sql,
    env: Env,
    config: Result<CoordinatorConfig, ConfigError>,
    /// Held while a refresh is under way.
    refresh_lock: Mutex<()>,
    /// Requests for a refresh that are under way.
    refresh_requests: Cell<u32>,
    /// When the alarm is set to, as far as this instance knows.
    armed_at: Cell<Option<Timestamp>>,
    /// Since when the alarm is at work.
    running_since: Cell<Option<Timestamp>>,
    /// Events that wait, counted once and kept up to date.
    open_events: Cell<Option<i64>>,
    /// The outbox, when and how it was last seen.
    outbox: Cell<OutboxSeen>,
}

/// The outbox as it was last seen, and when to look again.
#[derive(Clone, Copy, Debug, Default)]
struct OutboxSeen {
    depth: Option<OutboxDepth>,
    looked_at: Option<Timestamp>,
    /// Look again then; at once when unknown.
    next_at: Option<Timestamp>,
    /// Since when nothing was found.
    idle_since: Option<Timestamp>,
}

/// The object together with the account it is for.
#[derive(Clone, Copy)]
struct Account<'a> {
    object: &'a ObjectState,
    id: &'a AccountId,
    config: &'a CoordinatorConfig,
}

impl ObjectState {
    /// Opens the object.
    #[must_use]
    pub fn new(state: &State, env: Env) -> Self {
        let storage = state.storage();
        let sql = Sql::new(storage.sql());
        let config = CoordinatorConfig::from_env(&env);
        // A failure shows at the next statement, which has a caller to tell it to.
        let _ = sql.exists().and_then(|exists| if exists { sql.migrate() } else { Ok(()) });
        Self {
            storage,
            sql,
            env,
            config,
            refresh_lock: Mutex::new(()),
            refresh_requests: Cell::new(0),
            armed_at: Cell::new(None),
            running_since: Cell::new(None),
            open_events: Cell::new(None),
            outbox: Cell::new(OutboxSeen::default()),
        }
    }

    /// Answers one call of the worker.
    pub async fn answer(&self, request: &mut Request) -> worker::Result<Answer> {
        let Ok(config) = &self.config else { return Ok(Answer::misconfigured()) };
        let named = request.headers().get(ACCOUNT_HEADER)?.and_then(|name| AccountId::parse(&name).ok());
        let Some(id) = named else { return Ok(Answer::bad_request("the account's name is missing")) };
        let (method, path) = (request.method(), request.path());
        let body = if method == Method::Get { Vec::new() } else { request.bytes().await? };
        let account = Account { object: self, id: &id, config };
        Ok(account.answer(method.as_ref(), &path, &body).await)
    }

    /// Whether the alarm is at work now.
    fn is_alarm_running(&self, now: Timestamp) -> bool {
        self.running_since.get().is_some_and(|since| now.since_ms(since) < ALARM_RUN_MAX_MS)
    }

    /// Makes sure that the alarm runs at `at` or before. Writes nothing when it is already due earlier, or at work now: it
    /// looks at everything once more before it ends.
    async fn arm(&self, at: Timestamp) {
        let now = WorkerClock.now();
        let is_armed =
            self.armed_at.get().is_some_and(|armed| armed <= at && now.since_ms(armed) < ALARM_LATE_MS);
        if is_armed || self.is_alarm_running(now) {
            return;
        }
        self.set_alarm(at, now).await;
    }

    async fn set_alarm(&self, at: Timestamp, now: Timestamp) {
        self.armed_at.set(Some(at));
        if self.storage.set_alarm(at.since_ms(now).max(0)).await.is_err() {
            // Whoever comes next tries again; the watchdog comes every minute.
            self.armed_at.set(None);
        }
    }
}

/// The time.
fn time_now() -> Timestamp {
    WorkerClock.now()
}

impl Account<'_> {
    fn sql(&self) -> &Sql {
        &self.object.sql
    }

    fn log(&self) -> Log {
        self.config.common.log
    }

    /// Whether the account was ever connected.
    fn is_known(&self) -> Result<bool, Failure> {
        Ok(self.sql().exists()? && self.sql().get::<String>(values::ACCOUNT)?.is_some())
    }

    fn settings(&self) -> Result<AccountSettings, Failure> {
        Ok(self.sql().get(values::SETTINGS)?.unwrap_or_default())
    }

    fn unknown(&self) -> Failure {
        Failure::new(
            FailureClass::NotFound,
            format!("there is no account called {}: connect it with POST /oauth/initiate", self.id),
        )
    }
}
