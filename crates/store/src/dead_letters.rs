//! Failed items of `sync_queue`: edits that could not be carried over, and records of Keap that could not be applied.

use crate::refusal::{failure, read_all};
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

/// A statement about the failed items that ids, cause and way choose, of which it takes the records that could not be applied off the
/// list: reading them again decides.
macro_rules! about_chosen {
    ($rest:literal) => {
        concat!(
            "
    with chosen as materialized (
        select item.id, item.operation, item.entity_type, item.keap_id
        from public.sync_queue item
        where item.account_id = $1 and item.status = 'failed'
            and ($2::text[] is null or item.id::text = any($2::text[]))
            and ($3::text is null or coalesce(item.error_class, 'unknown') = $3::text)
            and ($4::boolean is null or (item.operation = 'sync') = $4::boolean)
        order by item.id
        for update
    ), taken_off as (
        delete from public.sync_queue item
        using chosen
        where item.id = chosen.id and chosen.operation = 'sync'
        returning item.id
    )",
            $rest
        )
    };
}

/// Edits are queued again.
const REPLAY: &str = about_chosen!(
    ", queued as (
        update public.sync_queue item
        set status = 'pending', attempts = 0, scheduled_at = now(), completed_at = null, error_class = null,
            error_message = null, updated_at = now()
        from chosen
        where item.id = chosen.id and chosen.operation <> 'sync'
        returning item.id
    )
    select operation, entity_type, keap_id from chosen
    where (select count(*) from queued) + (select count(*) from taken_off) >= 0"
);

/// Failed items by way and cause, with the newest of each.
const GROUPS: &str = "
    select item.operation = 'sync', item.error_class, count(*),
        (extract(epoch from min(item.created_at)) * 1000)::bigint,
        (extract(epoch from max(item.created_at)) * 1000)::bigint,
        (array_agg(item.id::text order by item.created_at desc, item.id))[1],
        (array_agg(item.error_message order by item.created_at desc, item.id))[1]
    from public.sync_queue item
    where item.account_id = $1 and item.status = 'failed'
    group by 1, 2";

/// Edits stay: see [`Store::discard_failed`].
const DISCARD: &str = about_chosen!(
    "
    select (select count(*) from taken_off), (select count(*) from chosen where chosen.operation <> 'sync')"
);

/// Failed items of one way and cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedGroup {
    /// Whether they are records that could not be applied, and not edits.
    pub is_inbound: bool,
    /// Class of the failure.
    pub cause: Option<String>,
    /// How many.
    pub count: i64,
    /// When the first was made.
    pub oldest_at: Timestamp,
    /// When the last was made.
    pub newest_at: Timestamp,
    /// The last one.
    pub newest_id: String,
    /// What went wrong with that.
    pub newest_message: Option<String>,
}

/// What became of failed items that were to be discarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discarded {
    /// Taken off the list.
    pub discarded: usize,
    /// Edits, which stay.
    pub edits_kept: usize,
}

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
        read_all(&rows, failed_item)
    }

    /// How many items have failed, by way and cause.
    pub async fn failed_groups(&self, account: &AccountId) -> Result<Vec<FailedGroup>, Failure> {
        let rows = self.query(GROUPS, &[(&account.as_str(), Type::TEXT)]).await?;
        read_all(&rows, |row| {
            Ok(FailedGroup {
                is_inbound: row.try_get(0)?,
                cause: row.try_get(1)?,
                count: row.try_get(2)?,
                oldest_at: Timestamp(row.try_get(3)?),
                newest_at: Timestamp(row.try_get(4)?),
                newest_id: row.try_get(5)?,
                newest_message: row.try_get(6)?,
            })
        })
    }

    /// Takes records that could not be applied off the list, chosen as by [`Store::replay_failed`]: they are listed again when they
    /// are met again. Edits stay, because their rows hold what Keap has not got.
    pub async fn discard_failed(
        &self,
        account: &AccountId,
        ids: Option<&[String]>,
        cause: Option<&str>,
        inbound: Option<bool>,
    ) -> Result<Discarded, Failure> {
        let parameters: [Parameter<'_>; 4] = [
            (&account.as_str(), Type::TEXT),
            (&ids, Type::TEXT_ARRAY),
            (&cause, Type::TEXT),
            (&inbound, Type::BOOL),
        ];
        let rows = self.query(DISCARD, &parameters).await?;
        let Some(row) = rows.first() else { return Ok(Discarded::default()) };
        let count = |column| -> Result<usize, tokio_postgres::Error> {
            Ok(usize::try_from(row.try_get::<_, i64>(column)?).unwrap_or_default())
        };
        let read = || Ok(Discarded { discarded: count(0)?, edits_kept: count(1)? });
        read().map_err(|error| failure(&error))
    }

    /// Queues failed edits again and takes records that could not be applied off the list: those of `ids`, of `cause` and of one way
    /// (`inbound`), or all where none is given.
    pub async fn replay_failed(
        &self,
        account: &AccountId,
        ids: Option<&[String]>,
        cause: Option<&str>,
        inbound: Option<bool>,
    ) -> Result<Vec<ReplayedItem>, Failure> {
        let parameters: [Parameter<'_>; 4] = [
            (&account.as_str(), Type::TEXT),
            (&ids, Type::TEXT_ARRAY),
            (&cause, Type::TEXT),
            (&inbound, Type::BOOL),
        ];
        let rows = self.query(REPLAY, &parameters).await?;
        read_all(&rows, |row| {
            Ok(ReplayedItem { operation: row.try_get(0)?, entity: row.try_get(1)?, keap_id: row.try_get(2)? })
        })
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
