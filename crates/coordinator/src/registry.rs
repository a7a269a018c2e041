//! The registry: the one object that knows which accounts exist, and that keeps the record of access.

use crate::access_log::{self, AccessPage};
use crate::object_call::post;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::AccountId;
use keapsync_domain::timestamp::Timestamp;
use keapsync_domain::wire::AccessEntry;
use keapsync_platform::respond::Answer;
use serde::{Deserialize, Serialize};
use worker::{Env, SqlStorage, SqlStorageValue};

/// Binding of the class.
pub const REGISTRY_BINDING: &str = "ACCOUNT_REGISTRY";

/// Name of the one object.
pub(crate) const OBJECT_NAME: &str = "registry";

/// Accounts that are listed at once.
const ACCOUNTS_MAX: i64 = 1000;

/// An account that was connected at least once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AccountEntry {
    /// Its name.
    pub account_id: AccountId,
    /// Where its connection stands.
    pub state: String,
    /// When it was first connected.
    pub created_at: Timestamp,
    /// When this entry last changed.
    pub updated_at: Timestamp,
}

/// What the object is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum RegistryCall {
    Register(AccountEntry),
    List,
    NoteAccess(AccessEntry),
    ListAccess(AccessPage),
}

#[derive(Debug, Serialize, Deserialize)]
struct ListAnswer {
    accounts: Vec<AccountEntry>,
}

/// The list of accounts, in its object's storage.
#[derive(Debug)]
pub struct Registry {
    sql: SqlStorage,
}

impl Registry {
    /// Opens the storage.
    #[must_use]
    pub fn new(sql: SqlStorage) -> Self {
        Self { sql }
    }

    /// Answers one call.
    #[must_use]
    pub fn answer(&self, body: &[u8]) -> Answer {
        match self.step(body) {
            Ok(answer) => answer,
            Err(failure) => Answer::failure(&failure),
        }
    }

    fn step(&self, body: &[u8]) -> Result<Answer, Failure> {
        let call = serde_json::from_slice(body)
            .map_err(|_| Failure::new(FailureClass::Invalid, "the registry call has an unexpected shape"))?;
        match call {
            RegistryCall::NoteAccess(entry) => {
                access_log::note(&self.sql, &entry).map(|()| Answer::json(200, &serde_json::json!({})))
            }
            RegistryCall::ListAccess(page) => {
                access_log::list(&self.sql, &page).map(|entries| Answer::json(200, &entries))
            }
            RegistryCall::Register(entry) => {
                self.register(entry).map(|()| Answer::json(200, &ListAnswer { accounts: Vec::new() }))
            }
            RegistryCall::List => self.list().map(|accounts| Answer::json(200, &ListAnswer { accounts })),
        }
    }

    fn register(&self, entry: AccountEntry) -> Result<(), Failure> {
        self.create()?;
        self.rows(
            "INSERT INTO accounts (account_id, state, created_at, updated_at) VALUES (?, ?, ?, ?)
             ON CONFLICT (account_id) DO UPDATE SET state = excluded.state, updated_at = excluded.updated_at",
            vec![
                entry.account_id.as_str().into(),
                entry.state.into(),
                entry.created_at.0.into(),
                entry.updated_at.0.into(),
            ],
        )
        .map(|_| ())
    }

    fn list(&self) -> Result<Vec<AccountEntry>, Failure> {
        self.create()?;
        self.rows(
            "SELECT account_id, state, created_at, updated_at FROM accounts ORDER BY account_id LIMIT ?",
            vec![ACCOUNTS_MAX.into()],
        )
    }

    fn create(&self) -> Result<(), Failure> {
        self.rows(
            "CREATE TABLE IF NOT EXISTS accounts (account_id TEXT PRIMARY KEY, state TEXT NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL) WITHOUT ROWID",
            vec![],
        ).map(|_| ())
    }

    fn rows(&self, sql: &str, parameters: Vec<SqlStorageValue>) -> Result<Vec<AccountEntry>, Failure> {
        self.sql.exec(sql, parameters).and_then(|cursor| cursor.to_array()).map_err(|_| {
            Failure::new(FailureClass::Unavailable, "the registry's storage failed; it is tried again")
        })
    }
}

/// Notes an account and where its connection stands.
pub async fn register(env: &Env, entry: AccountEntry) -> Result<(), Failure> {
    let _: ListAnswer = post(env, REGISTRY_BINDING, OBJECT_NAME, "/", &RegistryCall::Register(entry)).await?;
    Ok(())
}

/// Every account, by name.
pub async fn list(env: &Env) -> Result<Vec<AccountEntry>, Failure> {
    let answer: ListAnswer = post(env, REGISTRY_BINDING, OBJECT_NAME, "/", &RegistryCall::List).await?;
    Ok(answer.accounts)
}
