//! `sync_status`: counts of the mirror by state. Its rows are written with the records they belong to.

use crate::Store;
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

/// The states other than completed come from their own small index, so that only live rows are counted one by one.
const CONTACTS: &str = "
    with live as (
        select count(*) as total from public.sync_contacts where account_id = $1 and deleted_at is null
    ), everything as (
        select count(*) as total from public.sync_contacts where account_id = $1
    ), open as (
        select count(*) filter (where sync_status = 'pending') as pending,
               count(*) filter (where sync_status = 'conflict') as conflicts,
               count(*) filter (where sync_status = 'error') as errors,
               count(*) filter (where sync_status = 'paused') as paused
        from public.sync_contacts
        where account_id = $1 and sync_status <> 'completed' and deleted_at is null
    )
    select live.total, open.pending, open.conflicts, open.errors, open.paused, everything.total - live.total
    from live, everything, open";

impl Store<'_> {
    /// Counts an account's records by state.
    pub async fn mirror_counts(
        &self,
        account: &AccountId,
        entity: EntityType,
    ) -> Result<MirrorCounts, Failure> {
        let statement = match entity {
            EntityType::Contact => CONTACTS,
            _ => return Ok(MirrorCounts::default()),
        };
        let rows = self.query(statement, &[(&account.as_str(), Type::TEXT)]).await?;
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
