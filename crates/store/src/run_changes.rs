//! `sync_run_changes`: what dry runs would have done.

use crate::Store;
use crate::refusal::failure;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::{AccountId, EntityType, is_uuid};
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::ports::proof::{ListedChange, PlannedAction, PlannedChange, PlannedCount, PlannedSide};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

/// Changes cross as the JSON that serde makes of them. Of several changes of one record the last counts, as it does when a unit is
/// repeated.
const WRITE: &str = "
    with given as materialized (
        select distinct on (change.side, change.entity, change.record) change.*
        from (
            select planned.*, case planned.side when 'keap' then coalesce(planned.entity_id, planned.keap_id)
                else coalesce(planned.keap_id, planned.entity_id) end as record
            from rows from (jsonb_to_recordset($3::jsonb)
                as (side text, action text, entity text, entity_id text, keap_id text, fields text[])) with ordinality
                as planned (side, action, entity, entity_id, keap_id, fields, line)
        ) as change
        order by change.side, change.entity, change.record, change.line desc
    )
    insert into public.sync_run_changes as known (account_id, run_id, side, action, entity_type, entity_id, keap_id, fields)
    select $1, $2::uuid, given.side, given.action, given.entity, given.entity_id::uuid, given.keap_id, given.fields
    from given
    order by given.line
    on conflict (record, entity_type, side, run_id) do update
    set action = excluded.action, entity_id = excluded.entity_id, keap_id = excluded.keap_id, fields = excluded.fields,
        updated_at = now()
    where (known.action, known.entity_id, known.keap_id, known.fields)
        is distinct from (excluded.action, excluded.entity_id, excluded.keap_id, excluded.fields)";

/// A walk along the key. Where there are no statistics, a run looks as small as a page, and sorting all of it for each page looks cheap: a
/// range that begins within the run does not. The account is compared outside for the same reason.
const LIST: &str = "
    select page.number, page.side, page.action, page.entity_type, page.entity_id::text, page.keap_id, page.fields,
        (extract(epoch from page.created_at) * 1000)::bigint
    from (
        select planned.* from public.sync_run_changes planned
        where (planned.run_id, planned.number) > ($2::uuid, $3)
            and (planned.run_id, planned.number) <= ($2::uuid, 9223372036854775807)
        order by planned.run_id, planned.number
        limit $4
    ) as page
    where page.account_id = $1
    order by page.number";

const COUNT: &str = "
    select planned.side, planned.action, count(*)
    from (select of_run.* from public.sync_run_changes of_run where of_run.run_id = $2::uuid offset 0) as planned
    where planned.account_id = $1
    group by planned.side, planned.action
    order by planned.side, planned.action";

/// Notes changes of a run.
pub(crate) async fn write(
    store: &Store<'_>,
    account: &AccountId,
    run_id: &str,
    changes: &[PlannedChange],
) -> Result<(), Failure> {
    if changes.is_empty() {
        return Ok(());
    }
    let changes = serde_json::to_string(changes)
        .map_err(|_| Failure::new(FailureClass::Unexpected, "the run's planned changes are no JSON"))?;
    store
        .query(WRITE, &[(&account.as_str(), Type::TEXT), (&run_id, Type::TEXT), (&changes, Type::TEXT)])
        .await
        .map(|_| ())
}

/// Lists changes of a run in order of number.
pub(crate) async fn list(
    store: &Store<'_>,
    account: &AccountId,
    run_id: &str,
    after_number: i64,
    limit: usize,
) -> Result<Vec<ListedChange>, Failure> {
    // What is no run's id names no run.
    if !is_uuid(run_id) {
        return Ok(Vec::new());
    }
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = store
        .query(
            LIST,
            &[
                (&account.as_str(), Type::TEXT),
                (&run_id, Type::TEXT),
                (&after_number, Type::INT8),
                (&limit, Type::INT8),
            ],
        )
        .await?;
    rows.iter().map(listed_change).collect()
}

/// Counts changes of a run.
pub(crate) async fn count(
    store: &Store<'_>,
    account: &AccountId,
    run_id: &str,
) -> Result<Vec<PlannedCount>, Failure> {
    if !is_uuid(run_id) {
        return Ok(Vec::new());
    }
    let rows = store.query(COUNT, &[(&account.as_str(), Type::TEXT), (&run_id, Type::TEXT)]).await?;
    rows.iter()
        .map(|row| {
            let (side, action) = side_and_action(row, 0)?;
            Ok(PlannedCount { side, action, count: row.try_get(2).map_err(|error| failure(&error))? })
        })
        .collect()
}

fn listed_change(row: &Row) -> Result<ListedChange, Failure> {
    let (side, action) = side_and_action(row, 1)?;
    let entity: &str = row.try_get(3).map_err(|error| failure(&error))?;
    let entity = EntityType::from_name(entity).ok_or_else(unknown_word)?;
    let read = || -> Result<ListedChange, tokio_postgres::Error> {
        Ok(ListedChange {
            number: row.try_get(0)?,
            created_at: Timestamp(row.try_get(7)?),
            change: PlannedChange {
                side,
                action,
                entity,
                entity_id: row.try_get(4)?,
                keap_id: row.try_get(5)?,
                fields: row.try_get(6)?,
            },
        })
    };
    read().map_err(|error| failure(&error))
}

fn side_and_action(row: &Row, first: usize) -> Result<(PlannedSide, PlannedAction), Failure> {
    let read = || -> Result<(&str, &str), tokio_postgres::Error> {
        Ok((row.try_get(first)?, row.try_get(first + 1)?))
    };
    let (side, action) = read().map_err(|error| failure(&error))?;
    let side = PlannedSide::ALL.into_iter().find(|known| known.as_str() == side);
    let action = PlannedAction::ALL.into_iter().find(|known| known.as_str() == action);
    side.zip(action).ok_or_else(unknown_word)
}

fn unknown_word() -> Failure {
    Failure::new(
        FailureClass::Unexpected,
        "a planned change was written by a newer version; read it with that version",
    )
}
