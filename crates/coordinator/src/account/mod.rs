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
mod guard;
mod hooks;
mod inbound;
mod lease;
mod live;
mod outbox;
mod parts;
mod pause;
mod pulse;
mod setup;
mod signal;
mod status;
mod tally;
pub mod times;
mod units;
mod watchdog;
pub mod wire;

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
use live::Feed;
use signal::Signal;
use std::cell::Cell;
use std::rc::Rc;
use tally::Tally;
use worker::{Env, Method, Request, State, Storage};

/// The address under which an account's object is asked for `resource`. Objects do not know what they were found by, so the
/// account's name is part of it.
#[must_use]
pub fn object_path(account: &AccountId, resource: &str) -> String {
    format!("/coordinator/{account}/{resource}")
}

fn split_object_path(path: &str) -> Option<(AccountId, &str)> {
    let (account, resource) = path.strip_prefix("/coordinator/")?.split_once('/')?;
    Some((AccountId::parse(account).ok()?, resource))
}

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
    config: Result<Rc<CoordinatorConfig>, ConfigError>,
    /// Held while a refresh is under way.
    refresh_lock: Mutex<()>,
    /// Held while the hooks are looked at, or ended.
    hooks_lock: Mutex<()>,
    /// Requests for a refresh that are under way.
    refresh_requests: Cell<u32>,
    /// When the alarm is set to, as far as this instance knows.
    armed_at: Cell<Option<Timestamp>>,
    /// Raised when events arrived for an alarm that is at work. Apart from the other, because deliveries come by the hundred.
    events_arrived: Signal,
    /// Raised when an alarm that is at work may have anything else to do.
    work_arrived: Signal,
    /// Since when the alarm is at work.
    running_since: Cell<Option<Timestamp>>,
    /// Whether the account is known to have been connected.
    is_known: Cell<bool>,
    /// Events that wait, counted once and kept up to date.
    open_events: Cell<Option<i64>>,
    /// The outbox, when and how it was last seen.
    outbox: Cell<OutboxSeen>,
    /// Those who watch.
    feed: Rc<Feed>,
    /// Deliveries that are not counted in storage yet.
    tally: Tally,
    /// Which kind of record begins when events are next drained.
    first_turn: Cell<usize>,
    /// When events were last settled.
    events_moved_at: Cell<Option<Timestamp>>,
    /// When the next drain may begin.
    drain_not_before: Cell<Timestamp>,
    /// When a unit of a run was last ordered or reported.
    runs_moved_at: Cell<Option<Timestamp>>,
    /// When the watchdog last looked.
    watched_at: Cell<Option<Timestamp>>,
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
    /// When something was last carried over.
    moved_at: Option<Timestamp>,
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
    pub fn new(state: State, env: Env) -> Self {
        let storage = state.storage();
        let sql = Sql::new(storage.sql());
        let config = CoordinatorConfig::of_isolate(&env);
        // A failure shows at the next statement, which has a caller to tell it to.
        let _ = sql.exists().and_then(|exists| if exists { sql.migrate() } else { Ok(()) });
        let feed = Rc::new(Feed::new(state, sql.clone()));
        Self {
            storage,
            sql,
            env,
            config,
            refresh_lock: Mutex::new(()),
            hooks_lock: Mutex::new(()),
            refresh_requests: Cell::new(0),
            armed_at: Cell::new(None),
            events_arrived: Signal::default(),
            work_arrived: Signal::default(),
            running_since: Cell::new(None),
            is_known: Cell::new(false),
            open_events: Cell::new(None),
            outbox: Cell::new(OutboxSeen::default()),
            feed,
            tally: Tally::default(),
            first_turn: Cell::new(0),
            events_moved_at: Cell::new(None),
            drain_not_before: Cell::default(),
            runs_moved_at: Cell::new(None),
            watched_at: Cell::new(None),
        }
    }

    /// Answers one call of the worker.
    pub async fn answer(&self, request: &mut Request) -> worker::Result<Answer> {
        let Ok(config) = &self.config else { return Ok(Answer::misconfigured()) };
        let (method, path) = (request.method(), request.path());
        let Some((id, resource)) = split_object_path(&path) else {
            return Ok(Answer::bad_request("the account's name is missing"));
        };
        let body = if method == Method::Get { Vec::new() } else { request.bytes().await? };
        let account = Account { object: self, id: &id, config };
        Ok(account.answer(method.as_ref(), resource, &body).await)
    }

    /// Whether the alarm is at work now.
    fn is_alarm_running(&self, now: Timestamp) -> bool {
        self.running_since.get().is_some_and(|since| now.since_ms(since) < ALARM_RUN_MAX_MS)
    }

    /// Makes sure that the alarm runs at `at` or before. Writes nothing when it is already due earlier, or at work now: it
    /// looks at everything once more before it ends.
    async fn arm(&self, at: Timestamp) {
        let now = WorkerClock.now();
        if self.is_alarm_running(now) {
            self.wake_parts();
        } else {
            self.arm_idle(at, now).await;
        }
    }

    /// As [`ObjectState::arm`], for events that just arrived.
    async fn arm_for_events(&self, now: Timestamp) {
        if self.is_alarm_running(now) {
            self.events_arrived.raise();
        } else {
            self.arm_idle(now, now).await;
        }
    }

    async fn arm_idle(&self, at: Timestamp, now: Timestamp) {
        let is_armed =
            self.armed_at.get().is_some_and(|armed| armed <= at && now.since_ms(armed) < ALARM_LATE_MS);
        if !is_armed {
            self.set_alarm(at, now).await;
        }
    }

    /// Forgets what is believed of an alarm that should long have run, so that it is set anew. One that is at work is left alone.
    fn forget_alarm(&self, now: Timestamp) {
        if !self.is_alarm_running(now) {
            self.running_since.set(None);
            self.armed_at.set(None);
        }
    }

    /// Makes all parts of an alarm that is at work look again.
    fn wake_parts(&self) {
        self.events_arrived.raise();
        self.work_arrived.raise();
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
        // What was connected once stays known, so that a delivery need not ask for it.
        if !self.object.is_known.get() {
            let known = self.sql().exists()? && self.sql().get::<String>(values::ACCOUNT)?.is_some();
            self.object.is_known.set(known);
        }
        Ok(self.object.is_known.get())
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
