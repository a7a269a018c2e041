//! A store over two connections, for bulk work: Postgres answers the statements of one connection one after the other, so
//! a page's reads would wait for the writes of the page before it. Where nothing is read, as in a first load, both connections write,
//! and Postgres works on two pages at once.

use crate::Store;
use keapsync_domain::certificate::EntityCertificate;
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_domain::settings::AccountSettings;
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::ports::history::{AuditEntry, HistoryStore, PersonEdit};
use keapsync_engine::ports::proof::{
    GuardLedger, GuardStore, Held, LatestCertificate, LinkedRow, ListedChange, PlannedChange, PlannedCount,
    ProofStore, Taking, Unsynced, Waiting,
};
use keapsync_engine::ports::{
    KnownRow, LocalRow, MirrorStore, OutboxItem, RejectedRecord, RemoteKey, WriteBatch, WriteOutcome,
};
use std::sync::atomic::{AtomicU32, Ordering};

/// Reads over one connection and writes over another, pages also over the first while nothing is read there. Nothing relies on their
/// order: a write applies only at the version that was read, and a new row gives way to one that is there.
pub struct PairedStore<'a> {
    pub(crate) reads: Store<'a>,
    writes: Store<'a>,
    /// Statements of pages that are under way over the connection for reads.
    on_reads: AtomicU32,
    /// The same over the one for writes.
    on_writes: AtomicU32,
}

impl<'a> PairedStore<'a> {
    /// A store over these two.
    #[must_use]
    pub fn new(reads: Store<'a>, writes: Store<'a>) -> Self {
        Self { reads, writes, on_reads: AtomicU32::new(0), on_writes: AtomicU32::new(0) }
    }

    /// The store over the connection for writes.
    #[must_use]
    pub fn writes(&self) -> &Store<'a> {
        &self.writes
    }

    /// Where the next page is written: over the connection for reads when that has nothing to do and the other one has.
    fn next_write(&self) -> (&Store<'a>, UnderWay<'_>) {
        let is_idle = |count: &AtomicU32| count.load(Ordering::Relaxed) == 0;
        if is_idle(&self.on_reads) && !is_idle(&self.on_writes) {
            (&self.reads, UnderWay::begin(&self.on_reads))
        } else {
            (&self.writes, UnderWay::begin(&self.on_writes))
        }
    }
}

/// A statement under way, until it is dropped.
struct UnderWay<'a>(&'a AtomicU32);

impl<'a> UnderWay<'a> {
    fn begin(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl MirrorStore for PairedStore<'_> {
    async fn read_known(
        &self,
        account: &AccountId,
        entity: EntityType,
        keys: &[RemoteKey],
    ) -> Result<Vec<KnownRow>, Failure> {
        let _under_way = UnderWay::begin(&self.on_reads);
        self.reads.read_known(account, entity, keys).await
    }

    async fn read_rows(
        &self,
        account: &AccountId,
        entity: EntityType,
        ids: &[String],
    ) -> Result<Vec<LocalRow>, Failure> {
        let _under_way = UnderWay::begin(&self.on_reads);
        self.reads.read_rows(account, entity, ids).await
    }

    async fn write(
        &self,
        account: &AccountId,
        entity: EntityType,
        batch: &WriteBatch,
    ) -> Result<WriteOutcome, Failure> {
        let (store, _under_way) = self.next_write();
        store.write(account, entity, batch).await
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

impl GuardLedger for PairedStore<'_> {
    async fn take(&self, account: &AccountId, taking: &Taking<'_>) -> Result<bool, Failure> {
        let (store, _under_way) = self.next_write();
        store.take(account, taking).await
    }
}

impl GuardStore for PairedStore<'_> {
    async fn pass_edits(
        &self,
        account: &AccountId,
        settings: &AccountSettings,
        stopped: &[EntityType],
    ) -> Result<u64, Failure> {
        self.writes.pass_edits(account, settings, stopped).await
    }

    async fn waiting(&self, account: &AccountId) -> Result<Vec<Waiting>, Failure> {
        self.reads.waiting(account).await
    }

    async fn approve_waiting(
        &self,
        account: &AccountId,
        class: Held,
        until: Timestamp,
    ) -> Result<u64, Failure> {
        self.writes.approve_waiting(account, class, until).await
    }

    async fn claim_unheld(
        &self,
        account: &AccountId,
        limit: usize,
        lease_ms: i64,
        owner: &str,
    ) -> Result<Vec<OutboxItem>, Failure> {
        self.writes.claim_unheld(account, limit, lease_ms, owner).await
    }

    async fn show_held_deletes(
        &self,
        account: &AccountId,
        entity: EntityType,
        keap_ids: &[String],
        are_held: bool,
    ) -> Result<(), Failure> {
        self.writes.show_held_deletes(account, entity, keap_ids, are_held).await
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
