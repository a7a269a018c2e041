//! Failed items of `sync_queue`: edits that could not be carried over, and records of Keap that could not be applied.

use crate::refusal::failure;
use crate::{Parameter, Store};
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::AccountId;
use keapsync_domain::timestamp::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

const LIST: &str = "
    select id::text, operation, entity_type, entity_id::text, keap_id, attempts, error_class, error_message,
        (extract(epoch from created_at) * 1000)::bigint
    from public.sync_queue
    where account_id = $1 and status = 'failed'
    order by created_at desc, id
    limit $2";

/// Edits are queued again; records that could not be applied are taken off the list, because reading them again decides.
const REPLAY: &str = "
    with chosen as materialized (
        select item.id, item.operation, item.entity_type, item.keap_id
        from public.sync_queue item
        where item.account_id = $1 and item.status = 'failed'
            and ($2::text[] is null or item.id::text = any($2::text[]))
            and ($3::text is null or item.error_class = $3::text)
        order by item.id
        for update
    ), queued as (
        update public.sync_queue item
        set status = 'pending', attempts = 0, scheduled_at = now(), completed_at = null, error_class = null,
            error_message = null, updated_at = now()
        from chosen
        where item.id = chosen.id and chosen.operation <> 'sync'
        returning item.id
    ), taken_off as (
        delete from public.sync_queue item
        using chosen
        where item.id = chosen.id and chosen.operation = 'sync'
        returning item.id
    )
    select operation, entity_type, keap_id from chosen
    where (select count(*) from queued) + (select count(*) from taken_off) >= 0";

/// A failed item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedItem {
    /// Queue id, a UUID.
    pub id: String,
    /// `create`, `update`, `delete`: an edit; `sync`: a record that could not be applied.
    pub operation: String,
    /// Kind of record.
    pub entity: String,
    /// Row id of the edit, a UUID.
    pub entity_id: Option<String>,
    /// Keap's id, where known.
    pub keap_id: Option<String>,
    /// Attempts that counted.
    pub attempts: i32,
    /// Class of the last failure.
    pub cause: Option<String>,
    /// The last failure in words.
    pub message: Option<String>,
    /// When the edit was made, or the record first refused.
    pub created_at: Timestamp,
}

/// An item that was taken from the dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayedItem {
    /// As in [`FailedItem`]. The record of a `sync` is to be read from Keap again, by the caller.
    pub operation: String,
    /// Kind of record.
    pub entity: String,
    /// Keap's id, where known.
    pub keap_id: Option<String>,
}

impl Store<'_> {
    /// Failed items, newest first.
    pub async fn failed_items(&self, account: &AccountId, limit: i64) -> Result<Vec<FailedItem>, Failure> {
        let rows = self.query(LIST, &[(&account.as_str(), Type::TEXT), (&limit, Type::INT8)]).await?;
        let items: Result<Vec<FailedItem>, _> = rows.iter().map(failed_item).collect();
        items.map_err(|error| failure(&error))
    }

    /// Queues failed edits again and takes records that could not be applied off the list: those of `ids` and of `cause`,
    /// or all where neither is given.
    pub async fn replay_failed(
        &self,
        account: &AccountId,
        ids: Option<&[String]>,
        cause: Option<&str>,
    ) -> Result<Vec<ReplayedItem>, Failure> {
        let parameters: [Parameter<'_>; 3] =
            [(&account.as_str(), Type::TEXT), (&ids, Type::TEXT_ARRAY), (&cause, Type::TEXT)];
        let rows = self.query(REPLAY, &parameters).await?;
        let read = |row: &Row| {
            Ok(ReplayedItem { operation: row.try_get(0)?, entity: row.try_get(1)?, keap_id: row.try_get(2)? })
        };
        let items: Result<Vec<ReplayedItem>, tokio_postgres::Error> = rows.iter().map(read).collect();
        items.map_err(|error| failure(&error))
    }
}

fn failed_item(row: &Row) -> Result<FailedItem, tokio_postgres::Error> {
    Ok(FailedItem {
        id: row.try_get(0)?,
        operation: row.try_get(1)?,
        entity: row.try_get(2)?,
        entity_id: row.try_get(3)?,
        keap_id: row.try_get(4)?,
        attempts: row.try_get(5)?,
        cause: row.try_get(6)?,
        message: row.try_get(7)?,
        created_at: Timestamp(row.try_get(8)?),
    })
}
