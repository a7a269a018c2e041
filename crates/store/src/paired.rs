//! A store over two connections, for bulk work: Postgres answers the statements of one connection one after the other, so
//! a page's reads would wait for the writes of the page before it.

use crate::Store;
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_engine::ports::{
    KnownRow, LocalRow, MirrorStore, RejectedRecord, RemoteKey, WriteBatch, WriteOutcome,
};

/// Reads over one connection and writes over another. Nothing relies on their order: a write applies only at the version
/// that was read.
#[derive(Clone, Copy)]
pub struct PairedStore<'a> {
    /// For reads.
    pub reads: Store<'a>,
    /// For writes.
    pub writes: Store<'a>,
}

impl MirrorStore for PairedStore<'_> {
    async fn read_known(
        &self,
        account: &AccountId,
        entity: EntityType,
        keys: &[RemoteKey],
    ) -> Result<Vec<KnownRow>, Failure> {
        self.reads.read_known(account, entity, keys).await
    }

    async fn read_rows(
        &self,
        account: &AccountId,
        entity: EntityType,
        ids: &[String],
    ) -> Result<Vec<LocalRow>, Failure> {
        self.reads.read_rows(account, entity, ids).await
    }

    async fn write(
        &self,
        account: &AccountId,
        entity: EntityType,
        batch: &WriteBatch,
    ) -> Result<WriteOutcome, Failure> {
        self.writes.write(account, entity, batch).await
    }

    async fn record_rejections(
        &self,
        account: &AccountId,
        entity: EntityType,
        rejected: &[RejectedRecord],
    ) -> Result<(), Failure> {
        self.writes.record_rejections(account, entity, rejected).await
    }
}
