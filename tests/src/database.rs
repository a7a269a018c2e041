//! The database as a person sees it: not as the engine's role, so that every edit is captured.

use anyhow::{Context as _, Result};
use serde_json::Value;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls};

/// Opens a connection that ends with the client.
pub async fn connect(url: &str) -> Result<Client> {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.context("Postgres cannot be reached")?;
    tokio::spawn(connection);
    Ok(client)
}

/// A database that is restarted now and then: who uses it holds it, and who restarts it waits until nobody does, so that every
/// statement of a person has an outcome.
#[derive(Debug)]
pub struct Restartable {
    url: String,
    turn: RwLock<()>,
}

impl Restartable {
    /// The database at a URL.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self { url: url.to_owned(), turn: RwLock::default() }
    }

    /// Holds the database for somebody, with a connection that lives.
    pub async fn hold(&self, mirror: &mut Mirror) -> Result<RwLockReadGuard<'_, ()>> {
        let held = self.turn.read().await;
        if mirror.client.is_closed() {
            mirror.client = connect(&self.url).await?;
        }
        Ok(held)
    }

    /// Takes the database from everybody.
    pub async fn take(&self) -> RwLockWriteGuard<'_, ()> {
        self.turn.write().await
    }
}

/// One account's part of the mirror.
#[derive(Debug)]
pub struct Mirror {
    /// The connection.
    pub client: Client,
    /// The account.
    pub account: String,
}

impl Mirror {
    /// The first column of a query's only row. `$1` is the account.
    pub async fn one(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Value> {
        let mut all: Vec<&(dyn ToSql + Sync)> = vec![&self.account];
        all.extend(parameters);
        let wrapped = format!("select to_jsonb(q) from ({sql}) q");
        let rows = self.client.query(&wrapped, &all).await.with_context(|| sql.to_owned())?;
        Ok(rows.first().map_or(Value::Null, |row| row.get(0)))
    }

    /// Runs a statement as a person. `$1` is the account.
    pub async fn execute(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<u64> {
        let mut all: Vec<&(dyn ToSql + Sync)> = vec![&self.account];
        all.extend(parameters);
        self.client.execute(sql, &all).await.with_context(|| sql.to_owned())
    }

    /// The row of a Keap contact as JSON; `Null` when there is none.
    pub async fn contact(&self, keap_id: &str) -> Result<Value> {
        self.one("select * from sync_contacts where account_id = $1 and keap_id = $2", &[&keap_id]).await
    }

    /// How many rows the account has.
    pub async fn count(&self) -> Result<i64> {
        let row = self.one("select count(*) as n from sync_contacts where account_id = $1", &[]).await?;
        row["n"].as_i64().context("no count")
    }

    /// A number that grows with every write to the account's rows, their status, the outbox and the audit log.
    pub async fn write_mark(&self) -> Result<Value> {
        self.one(
            "select (select coalesce(sum(version), 0) from sync_contacts where account_id = $1) as versions,
                    (select count(*) from sync_audit_log where account_id = $1) as audited,
                    (select count(*) from sync_queue where account_id = $1) as queued,
                    (select max(updated_at) from sync_status where account_id = $1) as status_changed_at",
            &[],
        )
        .await
    }
}
