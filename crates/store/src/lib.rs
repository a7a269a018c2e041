//! The engine's ports on Postgres: one module per table, SQL beside the function that sends it.
//!
//! Rules that hold everywhere here, because the connection may go through a pooler and a proxy:
//! - One statement per unit of work, so every call is atomic by itself. No transactions, no session state.
//! - Only unnamed, typed statements (`query_typed`), with parameters of plain types: text, numbers, booleans and arrays of them.
//!   Everything else is cast in SQL. Times cross as milliseconds since 1970.
//! - Who writes rows of mirrored tables together with others locks these rows first: in order of id, and table by table in the
//!   order of contacts, orders, tags, subscriptions.
//! - No message of a [`Failure`] holds a value of a record.
//!
//! What this crate does not do: connect (the caller owns the connection), decide what to write (the engine), and change
//! the schema (the migrations).

mod accounts;
mod certificates;
mod conflicts;
mod contacts;
mod dead_letters;
mod figures;
mod guard;
mod history;
mod maintain;
mod mirror;
mod orders;
mod paired;
mod proof;
mod queue;
mod refusal;
mod row_lists;
mod run_changes;
mod runs;
mod status;
mod subscriptions;
mod tags;

pub use conflicts::{ConflictRow, Resolution};
pub use dead_letters::{Discarded, FailedGroup, FailedItem, ReplayedItem};
pub use figures::{EntityFigures, RecentActivity};
pub use maintain::UpkeepReport;
pub use paired::PairedStore;
pub use runs::RunRow;
pub use status::MirrorCounts;

use keapsync_domain::failure::Failure;
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_engine::ports::{
    KnownRow, LocalRow, MirrorStore, OutboxDepth, OutboxItem, OutboxStore, RejectedRecord, RemoteKey,
    WriteBatch, WriteOutcome,
};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

/// A parameter and its type.
pub(crate) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// The mirror and its outbox, over a connection that the caller drives.
#[derive(Clone, Copy)]
pub struct Store<'a> {
    client: &'a Client,
}

impl<'a> Store<'a> {
    /// A store on `client`, which must be logged in as `keapsync_engine`: writes of any other role are captured as a person's.
    #[must_use]
    pub fn new(client: &'a Client) -> Self {
        Self { client }
    }

    /// Sends one statement, again when Postgres broke a deadlock, and classifies what else goes wrong.
    pub(crate) async fn query(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Failure> {
        refusal::retried(async || self.client.query_typed(sql, parameters).await)
            .await
            .map_err(|error| refusal::failure(&error))
    }
}

impl MirrorStore for Store<'_> {
    async fn read_known(
        &self,
        account: &AccountId,
        entity: EntityType,
        keys: &[RemoteKey],
    ) -> Result<Vec<KnownRow>, Failure> {
        mirror::read::known(self, account, entity, keys).await
    }

    async fn read_rows(
        &self,
        account: &AccountId,
        entity: EntityType,
        ids: &[String],
    ) -> Result<Vec<LocalRow>, Failure> {
        mirror::read::rows(self, account, entity, ids).await
    }

    async fn write(
        &self,
        account: &AccountId,
        entity: EntityType,
        batch: &WriteBatch,
    ) -> Result<WriteOutcome, Failure> {
        mirror::write::batch(self, account, entity, batch).await
    }

    async fn record_rejections(
        &self,
        account: &AccountId,
        entity: EntityType,
        rejected: &[RejectedRecord],
    ) -> Result<(), Failure> {
        queue::record_rejections(self, account, entity, rejected).await
    }
}

impl OutboxStore for Store<'_> {
    async fn claim(
        &self,
        account: &AccountId,
        limit: usize,
        lease_ms: i64,
        owner: &str,
    ) -> Result<Vec<OutboxItem>, Failure> {
        queue::claim(self, account, limit, lease_ms, owner, queue::Claims::Any).await
    }

    async fn complete(&self, account: &AccountId, ids: &[String]) -> Result<(), Failure> {
        queue::complete(self, account, ids).await
    }

    async fn retry_later(
        &self,
        account: &AccountId,
        ids: &[String],
        delay_ms: i64,
        failure: &Failure,
        counts: bool,
    ) -> Result<(), Failure> {
        queue::retry_later(self, account, ids, delay_ms, failure, counts).await
    }

    async fn fail(&self, account: &AccountId, ids: &[String], failure: &Failure) -> Result<(), Failure> {
        queue::fail(self, account, ids, failure).await
    }

    async fn depth(&self, account: &AccountId) -> Result<OutboxDepth, Failure> {
        queue::depth(self, account).await
    }
}
