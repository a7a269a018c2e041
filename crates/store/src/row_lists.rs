//! Rows by what Keap does not tell of them: whose records it may have lost, or never had, and whose edits wait for it.

use crate::mirror::table_of;
use crate::refusal::read_all;
use crate::{PairedStore, Parameter, Store};
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_engine::ports::RowLists;
use keapsync_engine::ports::proof::LinkedRow;
use tokio_postgres::types::Type;

/// Ids are texts. Of one length they are in the order of their numbers, and so a range of them is a range of the table's unique
/// index; others are compared by length first.
///
/// The account is compared outside of the range: where there are no statistics yet, an index that begins with it looks as good.
const MISSING_OF_ONE_LENGTH: &str = "
    select found.keap_id, found.id::text
    from (
        select mirrored.keap_id, mirrored.id, mirrored.account_id, mirrored.deleted_at
        from {table} mirrored
        where mirrored.keap_id > $2 and mirrored.keap_id <= $3 and length(mirrored.keap_id) = length($2)
        offset 0
    ) as found
    where found.account_id = $1 and found.deleted_at is null and not found.keap_id = any ($4::text[])
    order by found.keap_id
    limit $5";

/// Where the length changes, at the beginning and behind the last record: a few times in a run.
const MISSING: &str = "
    select mirrored.keap_id, mirrored.id::text
    from {table} mirrored
    where mirrored.account_id = $1 and mirrored.deleted_at is null and mirrored.keap_id is not null
        and ($2::text is null or (length(mirrored.keap_id), mirrored.keap_id) > (length($2), $2))
        and ($3::text is null or (length(mirrored.keap_id), mirrored.keap_id) <= (length($3), $3))
        and not mirrored.keap_id = any ($4::text[])
    order by length(mirrored.keap_id), mirrored.keap_id
    limit $5";

const OPEN: &str = "
    select distinct item.entity_id::text
    from public.sync_queue item
    where item.account_id = $1 and item.entity_type = $2 and item.status in ('pending', 'processing')
        and item.operation <> 'sync' and item.entity_id > coalesce($3::uuid, '00000000-0000-0000-0000-000000000000')
    order by 1
    limit $4";

/// The account is compared outside, as above.
const UNLINKED: &str = "
    select found.id::text
    from (
        select mirrored.id, mirrored.account_id
        from {table} mirrored
        where mirrored.keap_id is null and mirrored.deleted_at is null
        offset 0
    ) as found
    where found.account_id = $1 and found.id > coalesce($2::uuid, '00000000-0000-0000-0000-000000000000')
    order by found.id
    limit $3";

impl RowLists for Store<'_> {
    async fn list_missing(
        &self,
        account: &AccountId,
        entity: EntityType,
        after: Option<&str>,
        until: Option<&str>,
        present: &[String],
        limit: usize,
    ) -> Result<Vec<LinkedRow>, Failure> {
        let is_one_length =
            matches!((after, until), (Some(after), Some(until)) if after.len() == until.len());
        let template = if is_one_length { MISSING_OF_ONE_LENGTH } else { MISSING };
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self
            .query(
                &template.replace("{table}", table_of(entity).name),
                &[
                    (&account.as_str(), Type::TEXT),
                    (&after, Type::TEXT),
                    (&until, Type::TEXT),
                    (&present, Type::TEXT_ARRAY),
                    (&limit, Type::INT8),
                ],
            )
            .await?;
        read_all(&rows, |row| Ok(LinkedRow { keap_id: row.try_get(0)?, id: row.try_get(1)? }))
    }

    async fn list_open(
        &self,
        account: &AccountId,
        entity: EntityType,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, Failure> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.ids(
            OPEN,
            &[
                (&account.as_str(), Type::TEXT),
                (&entity.as_str(), Type::TEXT),
                (&after, Type::TEXT),
                (&limit, Type::INT8),
            ],
        )
        .await
    }

    async fn list_unlinked(
        &self,
        account: &AccountId,
        entity: EntityType,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, Failure> {
        let statement = UNLINKED.replace("{table}", table_of(entity).name);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.ids(&statement, &[(&account.as_str(), Type::TEXT), (&after, Type::TEXT), (&limit, Type::INT8)])
            .await
    }
}

impl Store<'_> {
    async fn ids(&self, statement: &str, parameters: &[Parameter<'_>]) -> Result<Vec<String>, Failure> {
        let rows = self.query(statement, parameters).await?;
        read_all(&rows, |row| row.try_get(0))
    }
}

impl RowLists for PairedStore<'_> {
    async fn list_missing(
        &self,
        account: &AccountId,
        entity: EntityType,
        after: Option<&str>,
        until: Option<&str>,
        present: &[String],
        limit: usize,
    ) -> Result<Vec<LinkedRow>, Failure> {
        self.reads.list_missing(account, entity, after, until, present, limit).await
    }

    async fn list_open(
        &self,
        account: &AccountId,
        entity: EntityType,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, Failure> {
        self.reads.list_open(account, entity, after, limit).await
    }

    async fn list_unlinked(
        &self,
        account: &AccountId,
        entity: EntityType,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, Failure> {
        self.reads.list_unlinked(account, entity, after, limit).await
    }
}
