//! `sync_status`: counts of the mirror by state. Its rows are written with the records they belong to.

use crate::Store;
use crate::mirror::table_of;
use crate::refusal::failure;
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::{AccountId, EntityType};
use tokio_postgres::types::Type;

/// How many records the mirror holds, by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MirrorCounts {
    /// Live rows.
    pub total: i64,
    /// Of these, in step with Keap.
    pub completed: i64,
    /// With an edit on its way to Keap.
    pub pending: i64,
    /// Waiting for a person to settle a field.
    pub conflicts: i64,
    /// With an edit that could not be carried over.
    pub errors: i64,
    /// Paused.
    pub paused: i64,
    /// Deleted rows, kept until their retention ends.
    pub deleted: i64,
}

/// Live rows are added up from what every statement noted of them, the others come from small indexes: nothing here reads the
/// whole table. What is deleted is left out by the sums: as a condition it would make the index of all live rows look good where there
/// are no statistics. `{table}` and `{entity}` are filled in.
const COUNTS: &str = "
    select live.total, open.pending, open.conflicts, open.errors, open.paused, deleted.total
    from (
        select coalesce(sum(count.total), 0)::bigint as total
        from public.sync_record_counts count
        where count.account_id = $1 and count.entity_type = '{entity}'
    ) as live, (
        select count(*) filter (where sync_status = 'pending' and deleted_at is null) as pending,
               count(*) filter (where sync_status = 'conflict' and deleted_at is null) as conflicts,
               count(*) filter (where sync_status = 'error' and deleted_at is null) as errors,
               count(*) filter (where sync_status = 'paused' and deleted_at is null) as paused
        from {table}
        where account_id = $1 and sync_status <> 'completed'
    ) as open, (
        select count(*) as total from {table} where account_id = $1 and deleted_at is not null
    ) as deleted";

impl Store<'_> {
    /// Counts an account's records by state.
    pub async fn mirror_counts(
        &self,
        account: &AccountId,
        entity: EntityType,
    ) -> Result<MirrorCounts, Failure> {
        let statement = COUNTS.replace("{table}", table_of(entity).name).replace("{entity}", entity.as_str());
        let rows = self.query(&statement, &[(&account.as_str(), Type::TEXT)]).await?;
        let Some(row) = rows.first() else {
            return Ok(MirrorCounts::default());
        };
        let read = || -> Result<MirrorCounts, tokio_postgres::Error> {
            let mut counts = MirrorCounts {
                total: row.try_get(0)?,
                completed: 0,
                pending: row.try_get(1)?,
                conflicts: row.try_get(2)?,
                errors: row.try_get(3)?,
                paused: row.try_get(4)?,
                deleted: row.try_get(5)?,
            };
            counts.completed =
                counts.total - counts.pending - counts.conflicts - counts.errors - counts.paused;
            Ok(counts)
        };
        read().map_err(|error| failure(&error))
    }
}
