//! The blast guard in the database: what was destroyed lately, what waits without approval, and approval. And the outbox's repair: what
//! is owed to Keap without being on its way is queued again.
//!
//! An edit counts, and is held, when it was made to a row that was linked to Keap's record then: only such an edit can overwrite or
//! delete something there. [`queue`](crate::queue) leaves what has not passed out of its claims.

use crate::mirror::statements::statements_of;
use crate::mirror::table_of;
use crate::refusal::failure;
use crate::{Parameter, Store, queue};
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_domain::settings::AccountSettings;
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::guard::{HELD_CHANGE_WORD, HELD_DELETE_WORD, HELD_HOOK_WORD};
use keapsync_engine::ports::OutboxItem;
use keapsync_engine::ports::proof::{GuardLedger, GuardStore, Held, Taking, Waiting};
use tokio_postgres::types::Type;

/// Statements whose edits are looked at in one pass of the outbox: more would hold its connection up.
const GROUPS_MAX: i32 = 200;

const TAKE: &str =
    "select public.keapsync_guard_take($1, $2, $3, $4::text[]::uuid[], $5, $6, $7::text::uuid, $8, $9)";

const PASS: &str = "select public.keapsync_guard_pass($1, $2, $3, $4, $5, $6, $7, $8)";

const WAITING: &str = "
    select item.entity_type, item.operation = 'delete', count(distinct item.entity_id),
        (extract(epoch from max(item.held_at)) * 1000)::bigint
    from public.sync_queue item
    where item.account_id = $1 and item.status in ('pending', 'processing') and item.held_at is not null
        and item.approved_at is null and item.passed_at is null
    group by item.entity_type, item.operation = 'delete'
    order by item.entity_type, item.operation = 'delete'";

/// A time crosses in whole milliseconds: what was held within the last of them was held until then.
fn approve(entity: EntityType) -> String {
    format!(
        "with approved as (
        update public.sync_queue item
        set approved_at = now(), updated_at = now()
        where item.account_id = $1 and item.entity_type = '{}' and item.status in ('pending', 'processing')
            and (item.operation = 'delete') = $2 and item.held_at < to_timestamp(($3 + 1)::float8 / 1000)
            and item.approved_at is null and item.passed_at is null
        returning item.entity_id
    ), shown as (
        update {} mirrored
        set sync_status = 'pending', sync_error = null
        from (select distinct approved.entity_id from approved) as waited
        where mirrored.id = waited.entity_id and mirrored.account_id = $1 and mirrored.sync_status = 'paused'
    )
    select count(*) from approved",
        entity.as_str(),
        table_of(entity).name
    )
}

/// Only a row that nothing else is said of is marked.
fn show_held(entity: EntityType) -> String {
    format!(
        "update {} mirrored
        set sync_status = $3, sync_error = $4
        where mirrored.account_id = $1 and mirrored.keap_id = any($2::text[]) and mirrored.sync_status = $5",
        table_of(entity).name
    )
}

fn bounded(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl GuardLedger for Store<'_> {
    async fn take(&self, account: &AccountId, taking: &Taking<'_>) -> Result<bool, Failure> {
        let mut ids: Vec<&str> = taking.row_ids.iter().map(String::as_str).collect();
        // Everybody notes rows in one order.
        ids.sort_unstable();
        ids.dedup();
        let approval = taking.approval.map(|approval| approval.id.as_str());
        let approval_records = taking.approval.map(|approval| bounded(approval.records));
        let (records_max, percent_max) = limits(taking.guard);
        let parameters: [Parameter<'_>; 9] = [
            (&account.as_str(), Type::TEXT),
            (&taking.class.entity.as_str(), Type::TEXT),
            (&taking.class.deletes, Type::BOOL),
            (&ids, Type::TEXT_ARRAY),
            (&records_max, Type::INT8),
            (&percent_max, Type::INT4),
            (&approval, Type::TEXT),
            (&approval_records, Type::INT8),
            (&taking.only_looks, Type::BOOL),
        ];
        let rows = self.query(TAKE, &parameters).await?;
        let taken = rows.first().map(|row| row.try_get(0)).transpose().map_err(|error| failure(&error))?;
        Ok(taken.unwrap_or(false))
    }
}

fn limits(guard: keapsync_domain::settings::BlastGuard) -> (i64, i32) {
    (bounded(guard.records_max), i32::try_from(guard.percent_max).unwrap_or(100))
}

impl GuardStore for Store<'_> {
    async fn pass_edits(
        &self,
        account: &AccountId,
        settings: &AccountSettings,
        stopped: &[EntityType],
    ) -> Result<u64, Failure> {
        let (records_max, percent_max) = limits(settings.blast_guard);
        let stopped: Vec<&str> = stopped.iter().map(|entity| entity.as_str()).collect();
        let parameters: [Parameter<'_>; 8] = [
            (&account.as_str(), Type::TEXT),
            (&records_max, Type::INT8),
            (&percent_max, Type::INT4),
            (&settings.delete_in_keap, Type::BOOL),
            (&stopped, Type::TEXT_ARRAY),
            (&HELD_DELETE_WORD, Type::TEXT),
            (&HELD_CHANGE_WORD, Type::TEXT),
            (&GROUPS_MAX, Type::INT4),
        ];
        counted(&self.query(PASS, &parameters).await?)
    }

    async fn waiting(&self, account: &AccountId) -> Result<Vec<Waiting>, Failure> {
        let rows = self.query(WAITING, &[(&account.as_str(), Type::TEXT)]).await?;
        let mut waiting = Vec::with_capacity(rows.len());
        for row in &rows {
            let entity: &str = row.try_get(0).map_err(|error| failure(&error))?;
            // A kind that a newer version captures waits for that version.
            let Some(entity) = EntityType::from_name(entity) else { continue };
            let deletes = row.try_get(1).map_err(|error| failure(&error))?;
            let records: i64 = row.try_get(2).map_err(|error| failure(&error))?;
            let records = u64::try_from(records).unwrap_or(0);
            let newest_at = Timestamp(row.try_get(3).map_err(|error| failure(&error))?);
            waiting.push(Waiting { held: Held { entity, deletes }, records, newest_at });
        }
        Ok(waiting)
    }

    async fn approve_waiting(
        &self,
        account: &AccountId,
        class: Held,
        until: Timestamp,
    ) -> Result<u64, Failure> {
        let parameters: [Parameter<'_>; 3] =
            [(&account.as_str(), Type::TEXT), (&class.deletes, Type::BOOL), (&until.0, Type::INT8)];
        counted(&self.query(&approve(class.entity), &parameters).await?)
    }

    async fn claim_unheld(
        &self,
        account: &AccountId,
        limit: usize,
        lease_ms: i64,
        owner: &str,
    ) -> Result<Vec<OutboxItem>, Failure> {
        queue::claim(self, account, limit, lease_ms, owner, queue::Claims::Passed).await
    }

    async fn show_held_deletes(
        &self,
        account: &AccountId,
        entity: EntityType,
        keap_ids: &[String],
        are_held: bool,
    ) -> Result<(), Failure> {
        if keap_ids.is_empty() {
            return Ok(());
        }
        let (state, word, before) = if are_held {
            ("paused", Some(HELD_HOOK_WORD), "completed")
        } else {
            ("completed", None, "paused")
        };
        let parameters: [Parameter<'_>; 5] = [
            (&account.as_str(), Type::TEXT),
            (&keap_ids, Type::TEXT_ARRAY),
            (&state, Type::TEXT),
            (&word, Type::TEXT),
            (&before, Type::TEXT),
        ];
        self.query(&show_held(entity), &parameters).await.map(drop)
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
