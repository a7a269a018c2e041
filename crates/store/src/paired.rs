//! A store over two connections, for bulk work: Postgres answers the statements of one connection one after the other, so
//! a page's reads would wait for the writes of the page before it.

use crate::Store;
use keapsync_domain::certificate::EntityCertificate;
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::ports::history::{AuditEntry, HistoryStore, PersonEdit};
use keapsync_engine::ports::proof::{
    GuardStore, Held, LatestCertificate, LinkedRow, ListedChange, PlannedChange, PlannedCount, ProofStore,
    Unsynced, Waiting,
};
use keapsync_engine::ports::{
    KnownRow, LocalRow, MirrorStore, OutboxItem, RejectedRecord, RemoteKey, WriteBatch, WriteOutcome,
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

impl ProofStore for PairedStore<'_> {
    async fn list_linked(
        &self,
        account: &AccountId,
        entity: EntityType,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<LinkedRow>, Failure> {
        self.reads.list_linked(account, entity, after, limit).await
    }

    async fn unsynced(&self, account: &AccountId, entity: EntityType) -> Result<Unsynced, Failure> {
        self.reads.unsynced(account, entity).await
    }

    async fn open_conflict_fields(
        &self,
        account: &AccountId,
        entity: EntityType,
        row_ids: &[String],
    ) -> Result<Vec<(String, Vec<String>)>, Failure> {
        self.reads.open_conflict_fields(account, entity, row_ids).await
    }

    async fn write_certificate(
        &self,
        account: &AccountId,
        run_id: Option<&str>,
        certificates: &[EntityCertificate],
    ) -> Result<(), Failure> {
        self.writes.write_certificate(account, run_id, certificates).await
    }

    async fn latest_certificates(&self, account: &AccountId) -> Result<Vec<LatestCertificate>, Failure> {
        self.reads.latest_certificates(account).await
    }

    async fn write_planned(
        &self,
        account: &AccountId,
        run_id: &str,
        changes: &[PlannedChange],
    ) -> Result<(), Failure> {
        self.writes.write_planned(account, run_id, changes).await
    }

    async fn list_planned(
        &self,
        account: &AccountId,
        run_id: &str,
        after_number: i64,
        limit: usize,
    ) -> Result<Vec<ListedChange>, Failure> {
        self.reads.list_planned(account, run_id, after_number, limit).await
    }

    async fn count_planned(&self, account: &AccountId, run_id: &str) -> Result<Vec<PlannedCount>, Failure> {
        self.reads.count_planned(account, run_id).await
    }
}

impl GuardStore for PairedStore<'_> {
    async fn waiting(&self, account: &AccountId) -> Result<Vec<Waiting>, Failure> {
        self.reads.waiting(account).await
    }

    async fn approve_waiting(
        &self,
        account: &AccountId,
        entity: EntityType,
        until: Timestamp,
    ) -> Result<u64, Failure> {
        self.writes.approve_waiting(account, entity, until).await
    }

    async fn claim_unheld(
        &self,
        account: &AccountId,
        limit: usize,
        lease_ms: i64,
        owner: &str,
        held: &[Held],
    ) -> Result<Vec<OutboxItem>, Failure> {
        self.writes.claim_unheld(account, limit, lease_ms, owner, held).await
    }

    async fn requeue(
        &self,
        account: &AccountId,
        entity: EntityType,
        with_deletes: bool,
        limit: usize,
    ) -> Result<u64, Failure> {
        self.writes.requeue(account, entity, with_deletes, limit).await
    }
}

impl HistoryStore for PairedStore<'_> {
    async fn read_audit(&self, account: &AccountId, id: i64) -> Result<Option<AuditEntry>, Failure> {
        self.reads.read_audit(account, id).await
    }

    async fn list_audit(
        &self,
        account: &AccountId,
        entity: EntityType,
        entity_id: &str,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, Failure> {
        self.reads.list_audit(account, entity, entity_id, before, limit).await
    }

    async fn list_run_audit(
        &self,
        account: &AccountId,
        run_id: &str,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, Failure> {
        self.reads.list_run_audit(account, run_id, before, limit).await
    }

    async fn edit(
        &self,
        account: &AccountId,
        entity: EntityType,
        edit: &PersonEdit,
    ) -> Result<bool, Failure> {
        self.writes.edit(account, entity, edit).await
    }
}
