//! The outbox as the blast guard sees it: what waits without approval, and approval. And its repair: what is owed to Keap without
//! being on its way is queued again.
//!
//! An edit counts, and is held, when it was made to a row that was linked to Keap's record then: only such an edit can overwrite or
//! delete something there. [`queue`](crate::queue) leaves held records out of its claims by the same rule.

use crate::mirror::statements::statements_of;
use crate::refusal::failure;
use crate::{Store, queue};
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::ports::OutboxItem;
use keapsync_engine::ports::proof::{GuardStore, Held, Waiting};
use tokio_postgres::types::Type;

/// The index over open edits by age leads to what waits, so that the cost is that of what waits.
const WAITING: &str = "
    select waiting.entity_type, waiting.edited, waiting.deleted, live.total
    from (
        select item.entity_type, count(distinct item.entity_id) filter (where item.operation <> 'delete') as edited,
            count(distinct item.entity_id) filter (where item.operation = 'delete') as deleted
        from public.sync_queue item
        where item.account_id = $1 and item.status in ('pending', 'processing') and item.operation <> 'sync'
            and item.approved_at is null and item.keap_id is not null
        group by item.entity_type
    ) as waiting
    cross join lateral (
        select coalesce(sum(count.total), 0)::bigint as total
        from public.sync_record_counts count
        where count.account_id = $1 and count.entity_type = waiting.entity_type
    ) as live
    order by waiting.entity_type";

/// A time crosses in whole milliseconds: what was made within the last of them was made until then.
const APPROVE: &str = "
    with approved as (
        update public.sync_queue item
        set approved_at = now(), updated_at = now()
        where item.account_id = $1 and item.entity_type = $2 and item.status in ('pending', 'processing') and item.operation <> 'sync'
            and item.approved_at is null and item.created_at < to_timestamp(($3 + 1)::float8 / 1000)
        returning 1
    )
    select count(*) from approved";

impl GuardStore for Store<'_> {
    async fn waiting(&self, account: &AccountId) -> Result<Vec<Waiting>, Failure> {
        let rows = self.query(WAITING, &[(&account.as_str(), Type::TEXT)]).await?;
        let mut waiting = Vec::with_capacity(rows.len());
        for row in &rows {
            let entity: &str = row.try_get(0).map_err(|error| failure(&error))?;
            // A kind that a newer version captures waits for that version.
            let Some(entity) = EntityType::from_name(entity) else { continue };
            let read = || -> Result<Waiting, tokio_postgres::Error> {
                Ok(Waiting {
                    entity,
                    edited: row.try_get(1)?,
                    deleted: row.try_get(2)?,
                    live: row.try_get(3)?,
                })
            };
            waiting.push(read().map_err(|error| failure(&error))?);
        }
        Ok(waiting)
    }

    async fn approve_waiting(
        &self,
        account: &AccountId,
        entity: EntityType,
        until: Timestamp,
    ) -> Result<u64, Failure> {
        let rows = self
            .query(
                APPROVE,
                &[(&account.as_str(), Type::TEXT), (&entity.as_str(), Type::TEXT), (&until.0, Type::INT8)],
            )
            .await?;
        counted(&rows)
    }

    async fn claim_unheld(
        &self,
        account: &AccountId,
        limit: usize,
        lease_ms: i64,
        owner: &str,
        held: &[Held],
    ) -> Result<Vec<OutboxItem>, Failure> {
        queue::claim(self, account, limit, lease_ms, owner, held).await
    }

    async fn requeue(
        &self,
        account: &AccountId,
        entity: EntityType,
        with_deletes: bool,
        limit: usize,
    ) -> Result<u64, Failure> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self
            .query(
                &statements_of(entity).requeue,
                &[(&account.as_str(), Type::TEXT), (&with_deletes, Type::BOOL), (&limit, Type::INT8)],
            )
            .await?;
        counted(&rows)
    }
}

fn counted(rows: &[tokio_postgres::Row]) -> Result<u64, Failure> {
    let none = || Failure::new(FailureClass::Unexpected, "Postgres did not say how many items it wrote");
    let row = rows.first().ok_or_else(none)?;
    let count: i64 = row.try_get(0).map_err(|error| failure(&error))?;
    u64::try_from(count).map_err(|_| none())
}
