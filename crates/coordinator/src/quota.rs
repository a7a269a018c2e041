//! The quota object: one per credential, named by its hash. A thin shell around `engine::quota`.
//!
//! Its whole state is one row, loaded, stepped and written without an await between, so that every grant is atomic. The
//! limits come with each request, from the coordinator's configuration, and may change with it.

use crate::object_call::post;
use crate::storage::to_json;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::quota::QuotaReading;
use keapsync_engine::ports::Clock as _;
use keapsync_engine::quota::{Grant, LeaseRequest, QuotaLimits, QuotaState, QuotaView};
use keapsync_platform::clock::WorkerClock;
use keapsync_platform::respond::Answer;
use serde::{Deserialize, Serialize};
use worker::{Env, SqlStorage, SqlStorageValue};

/// Binding of the class.
pub const QUOTA_BINDING: &str = "KEAP_QUOTA";

/// What the object is asked.
#[derive(Debug, Serialize, Deserialize)]
enum Call {
    /// For a lease.
    Lease(LeaseRequest),
    /// To end one.
    Release(LeaseEnd),
    /// For what status shows.
    View,
}

/// How a lease ended.
#[derive(Debug, Serialize, Deserialize)]
pub struct LeaseEnd {
    /// The lease.
    pub id: String,
    /// Whose it was.
    pub account: String,
    /// Calls made under it.
    pub used: u32,
    /// What Keap said about its quotas.
    pub reading: QuotaReading,
}

/// A call, and the limits it is to be judged by.
#[derive(Debug, Serialize, Deserialize)]
struct LimitedCall {
    limits: QuotaLimits,
    call: Call,
}

/// The answer to every call.
#[derive(Debug, Default, Serialize, Deserialize)]
struct CallAnswer {
    grant: Option<Grant>,
    view: Option<QuotaView>,
}

/// The windows of one credential, in their object's storage.
#[derive(Debug)]
pub struct QuotaBook {
    sql: SqlStorage,
}

#[derive(Deserialize)]
struct StateRow {
    state: String,
}

impl QuotaBook {
    /// Opens the storage.
    #[must_use]
    pub fn new(sql: SqlStorage) -> Self {
        Self { sql }
    }

    /// Answers one call.
    #[must_use]
    pub fn answer(&self, body: &[u8]) -> Answer {
        match self.step(body) {
            Ok(answer) => Answer::json(200, &answer),
            Err(failure) => Answer::failure(&failure),
        }
    }

    fn step(&self, body: &[u8]) -> Result<CallAnswer, Failure> {
        let LimitedCall { limits, call } = serde_json::from_slice(body)
            .map_err(|_| Failure::new(FailureClass::Invalid, "the quota call has an unexpected shape"))?;
        let now = WorkerClock.now();
        let before = self.load()?;
        let mut state = before.clone();
        state.advance(now);
        let mut answer = CallAnswer::default();
        match call {
            Call::Lease(request) => answer.grant = Some(state.request(&limits, &request, now)),
            Call::Release(end) => {
                state.release(&end.id, end.used, now);
                state.observe(&limits, &end.account, &end.reading, now);
            }
            Call::View => answer.view = Some(state.view(&limits, now)),
        }
        if state != before {
            self.store(&state)?;
        }
        Ok(answer)
    }

    fn load(&self) -> Result<QuotaState, Failure> {
        self.exec(
            "CREATE TABLE IF NOT EXISTS quota (id INTEGER PRIMARY KEY CHECK (id = 1), state TEXT NOT NULL)",
            vec![],
        )?;
        let rows: Vec<StateRow> = self
            .sql
            .exec("SELECT state FROM quota", None)
            .and_then(|cursor| cursor.to_array())
            .map_err(|_| storage_failure())?;
        // A state that cannot be read would stop every account: it is begun anew, at the price of one window's accuracy.
        Ok(rows.first().and_then(|row| serde_json::from_str(&row.state).ok()).unwrap_or_default())
    }

    fn store(&self, state: &QuotaState) -> Result<(), Failure> {
        self.exec("INSERT OR REPLACE INTO quota (id, state) VALUES (1, ?)", vec![to_json(state)?.into()])
    }

    fn exec(&self, sql: &str, parameters: Vec<SqlStorageValue>) -> Result<(), Failure> {
        self.sql.exec(sql, parameters).map(|_| ()).map_err(|_| storage_failure())
    }
}

fn storage_failure() -> Failure {
    Failure::new(FailureClass::Unavailable, "the quota's storage failed; it is tried again")
}

/// The quota of one credential, as account objects use it.
#[derive(Clone, Debug)]
pub struct QuotaClient {
    env: Env,
    object_name: String,
    limits: QuotaLimits,
}

impl QuotaClient {
    /// The quota object called `object_name`.
    #[must_use]
    pub fn new(env: &Env, object_name: String, limits: QuotaLimits) -> Self {
        Self { env: env.clone(), object_name, limits }
    }

    /// Asks for a lease.
    pub async fn lease(&self, request: LeaseRequest) -> Result<Grant, Failure> {
        let answer = self.call(Call::Lease(request)).await?;
        answer.grant.ok_or_else(|| Failure::new(FailureClass::Unexpected, "the quota object gave no answer"))
    }

    /// Ends a lease.
    pub async fn release(&self, end: LeaseEnd) -> Result<(), Failure> {
        self.call(Call::Release(end)).await.map(|_| ())
    }

    /// What status shows.
    pub async fn view(&self) -> Result<Option<QuotaView>, Failure> {
        Ok(self.call(Call::View).await?.view)
    }

    async fn call(&self, call: Call) -> Result<CallAnswer, Failure> {
        post(&self.env, QUOTA_BINDING, &self.object_name, "/", &LimitedCall { limits: self.limits, call })
            .await
    }
}
