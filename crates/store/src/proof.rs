//! What comparing both sides reads: linked rows in order, what has not reached the other side, and fields that wait for a person.

use crate::mirror::table_of;
use crate::refusal::{failure, read_all};
use crate::{Store, certificates, run_changes};
use keapsync_domain::certificate::EntityCertificate;
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::{AccountId, EntityType, is_uuid};
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::ports::proof::{
    LatestCertificate, LinkedRow, ListedChange, PlannedChange, PlannedCount, ProofStore, Unsynced,
};
use tokio_postgres::types::Type;

const LINKED: &str = "select keap_id, id::text from public.keapsync_linked($1, $2, $3, $4)";

/// Live rows are added up from what every statement noted of them, the others come from small indexes. A row that was made again in Keap
/// waits since both sides last agreed, a new one since it was made. Rows without a Keap id are looked up in the index over that,
/// which no word about the account may lead away from.
const UNSYNCED: &str = "
    select live.total, unlinked.total, undecided.total,
        (extract(epoch from least(unlinked.oldest_at, waiting.oldest_at)) * 1000)::bigint
    from (
        select coalesce(sum(count.total), 0)::bigint as total
        from public.sync_record_counts count
        where count.account_id = $1 and count.entity_type = '{entity}'
    ) as live, (
        select count(*) as total, min(coalesce(without_keap.last_synced_at, without_keap.created_at)) as oldest_at
        from (
            select mirrored.account_id, mirrored.last_synced_at, mirrored.created_at
            from {table} mirrored
            where mirrored.keap_id is null and mirrored.deleted_at is null
            offset 0
        ) as without_keap
        where without_keap.account_id = $1
    ) as unlinked, (
        select count(*) as total
        from public.sync_conflicts conflict
        where conflict.account_id = $1 and conflict.entity_type = '{entity}' and conflict.resolved_at is null
    ) as undecided, (
        select min(item.created_at) as oldest_at
        from public.sync_queue item
        where item.account_id = $1 and item.entity_type = '{entity}' and item.status in ('pending', 'processing')
            and item.operation <> 'sync'
    ) as waiting";

/// `offset 0` keeps each lookup a lookup by index. The account is compared outside of it: without a word about the account no index looks
/// good but the record's own.
const CONFLICT_FIELDS: &str = "
    select wanted.id::text, array_agg(distinct path.path)
    from (select distinct given.id::uuid as id from unnest($2::text[]) as given (id)) as wanted
    cross join lateral (
        select conflict.account_id, conflict.conflict_fields
        from public.sync_conflicts conflict
        where conflict.entity_id = wanted.id and conflict.entity_type = $3 and conflict.resolved_at is null
        offset 0
    ) as open
    cross join unnest(open.conflict_fields) as path (path)
    where open.account_id = $1
    group by wanted.id
    order by wanted.id";

impl ProofStore for Store<'_> {
    async fn list_linked(
        &self,
        account: &AccountId,
        entity: EntityType,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<LinkedRow>, Failure> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self
            .query(
                LINKED,
                &[
                    (&account.as_str(), Type::TEXT),
                    (&entity.as_str(), Type::TEXT),
                    (&after, Type::TEXT),
                    (&limit, Type::INT8),
                ],
            )
            .await?;
        read_all(&rows, |row| Ok(LinkedRow { keap_id: row.try_get(0)?, id: row.try_get(1)? }))
    }

    async fn unsynced(&self, account: &AccountId, entity: EntityType) -> Result<Unsynced, Failure> {
        let statement =
            UNSYNCED.replace("{table}", table_of(entity).name).replace("{entity}", entity.as_str());
        let rows = self.query(&statement, &[(&account.as_str(), Type::TEXT)]).await?;
        let Some(row) = rows.first() else {
            return Ok(Unsynced::default());
        };
        let read = || -> Result<Unsynced, tokio_postgres::Error> {
            Ok(Unsynced {
                live: row.try_get(0)?,
                unlinked: row.try_get(1)?,
                open_conflicts: row.try_get(2)?,
                oldest_unsynced_at: row.try_get::<_, Option<i64>>(3)?.map(Timestamp),
            })
        };
        read().map_err(|error| failure(&error))
    }

    async fn open_conflict_fields(
        &self,
        account: &AccountId,
        entity: EntityType,
        row_ids: &[String],
    ) -> Result<Vec<(String, Vec<String>)>, Failure> {
        let ids: Vec<&str> = row_ids.iter().map(String::as_str).filter(|id| is_uuid(id)).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self
            .query(
                CONFLICT_FIELDS,
                &[(&account.as_str(), Type::TEXT), (&ids, Type::TEXT_ARRAY), (&entity.as_str(), Type::TEXT)],
            )
            .await?;
        read_all(&rows, |row| Ok((row.try_get(0)?, row.try_get(1)?)))
    }

    async fn write_certificate(
        &self,
        account: &AccountId,
        run_id: Option<&str>,
        certificates: &[EntityCertificate],
    ) -> Result<(), Failure> {
        certificates::write(self, account, run_id, certificates).await
    }

    async fn latest_certificates(&self, account: &AccountId) -> Result<Vec<LatestCertificate>, Failure> {
        certificates::latest(self, account).await
    }

    async fn write_planned(
        &self,
        account: &AccountId,
        run_id: &str,
        changes: &[PlannedChange],
    ) -> Result<(), Failure> {
        run_changes::write(self, account, run_id, changes).await
    }

    async fn list_planned(
        &self,
        account: &AccountId,
        run_id: &str,
        after_number: i64,
        limit: usize,
    ) -> Result<Vec<ListedChange>, Failure> {
        run_changes::list(self, account, run_id, after_number, limit).await
    }

    async fn count_planned(&self, account: &AccountId, run_id: &str) -> Result<Vec<PlannedCount>, Failure> {
        run_changes::count(self, account, run_id).await
    }
}
