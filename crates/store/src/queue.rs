//! `sync_queue`: the outbox of captured edits, and records of Keap that could not be applied.
//!
//! Claims of one record never overlap: whoever claims it locks its oldest open item first, and all open items of the record are
//! claimed with it. The lock is skipped, not waited for, and a claimer that read before another's claim was committed
//! finds the item leased when it gets the lock.

use crate::mirror::table_of;
use crate::refusal::failure;
use crate::{Parameter, Store};
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::{AccountId, EntityType, is_uuid};
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::ports::{OutboxDepth, OutboxItem, RejectedRecord};
use std::collections::HashMap;
use std::sync::LazyLock;
use tokio_postgres::types::Type;

/// Longest reason kept, in characters: enough for a person, and no page of HTML.
const REASON_LENGTH_MAX: usize = 1000;

/// Longest Keap id kept of a record that could not be read, in characters; a true id has at most 19.
const REJECTED_ID_LENGTH_MAX: usize = 64;

const CLAIM: &str = "
    with due as materialized (
        select item.entity_type, item.entity_id
        from public.sync_queue item
        where item.account_id = $1 and item.operation <> 'sync' and item.status in ('pending', 'processing')
            and case item.status when 'pending' then item.scheduled_at else item.leased_until end <= now() {held}
            and not exists (
                select from public.sync_queue other
                where other.entity_type = item.entity_type and other.entity_id = item.entity_id
                    and other.status in ('pending', 'processing') and other.leased_until > now()
            )
        order by item.priority, item.scheduled_at, item.sequence
        limit $2
    ), head as materialized (
        select item.entity_type, item.entity_id
        from public.sync_queue item
        join (select distinct due.entity_type, due.entity_id from due) as record
            on record.entity_type = item.entity_type and record.entity_id = item.entity_id
        where item.account_id = $1 and item.status in ('pending', 'processing')
            and (item.leased_until is null or item.leased_until <= now())
            and not exists (
                select from public.sync_queue earlier
                where earlier.entity_type = item.entity_type and earlier.entity_id = item.entity_id
                    and earlier.status in ('pending', 'processing') and earlier.sequence < item.sequence
            )
        for update of item skip locked
    ), claimed as (
        update public.sync_queue item
        set status = 'processing', claims = item.claims + 1, started_at = now(), lease_owner = $4,
            leased_until = now() + $3 * interval '1 millisecond', updated_at = now()
        from head
        where item.entity_type = head.entity_type and item.entity_id = head.entity_id and item.account_id = $1
            and item.status in ('pending', 'processing') and (item.leased_until is null or item.leased_until <= now())
        returning item.id, item.entity_type, item.entity_id, item.operation, item.claims, item.attempts, item.created_at,
            item.priority, item.sequence
    )
    select id::text, entity_type, entity_id::text, operation, claims, attempts,
        (extract(epoch from created_at) * 1000)::bigint
    from claimed
    order by priority, sequence";

/// The claim of what the blast guard let pass. A record of which something has not passed is left out whole, because its items are
/// carried together. What makes a record in Keap destroys nothing.
static CLAIM_PASSED: LazyLock<String> = LazyLock::new(|| {
    CLAIM.replace(
        "{held}",
        "and not exists (
                select from public.sync_queue held
                where held.entity_type = item.entity_type and held.entity_id = item.entity_id
                    and held.status in ('pending', 'processing') and held.operation in ('update', 'delete')
                    and held.keap_id is not null and held.passed_at is null and held.approved_at is null
            )",
    )
});

/// Which items are claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claims {
    /// Those that the blast guard let pass, or somebody approved.
    Passed,
    /// All.
    Any,
}

/// The claim without the guard.
static CLAIM_ANY: LazyLock<String> = LazyLock::new(|| CLAIM.replace("{held}", ""));

/// A batch counts as activity in the same statement: its records, and how long the oldest edit of each waited.
const COMPLETE: &str = "
    with completed as (
        update public.sync_queue
        set status = 'completed', completed_at = now(), leased_until = null, lease_owner = null, error_class = null,
            error_message = null, updated_at = now()
        where account_id = $1 and id = any($2::text[]::uuid[]) and status in ('pending', 'processing')
        returning entity_type, entity_id, created_at
    ), superseded as (
        -- What was carried is the whole row: what failed of it before went along, or is not wanted any more.
        update public.sync_queue item
        set status = 'completed', completed_at = now(), updated_at = now()
        from (
            select refused.id
            from (select distinct completed.entity_type, completed.entity_id from completed) as record
            cross join lateral (
                select known.id from public.sync_queue known
                where known.entity_type = record.entity_type and known.entity_id = record.entity_id
                    and known.status = 'failed' and known.operation <> 'sync'
                offset 0
            ) as refused
        ) as old
        where item.id = old.id
    ), record as (
        select completed.entity_type,
            greatest(0, (extract(epoch from now() - min(completed.created_at)) * 1000)::bigint) as lag_ms
        from completed
        group by completed.entity_type, completed.entity_id
    )
    insert into public.sync_activity (account_id, entity_type, direction, source, records, lag_ms_total, lag_records)
    select $1, record.entity_type, 'supabase_to_keap', 'outbox', count(*), sum(record.lag_ms), count(*)
    from record
    group by record.entity_type";

static RETRY_LATER: LazyLock<String> = LazyLock::new(|| {
    format!(
        "with {}, given_back as (
        update public.sync_queue item
        set status = 'pending', leased_until = null, lease_owner = null, error_class = $4, error_message = $5,
            scheduled_at = now() + $3 * interval '1 millisecond', updated_at = now(),
            attempts = item.attempts + $6::integer
        where item.account_id = $1 and item.id = any($2::text[]::uuid[]) and item.status in ('pending', 'processing')
            and (select count(*) from locked) >= 0
        returning item.entity_type, item.entity_id, item.scheduled_at
    )
    update public.sync_status status
    set retry_count = status.retry_count + 1, next_retry_at = record.scheduled_at, last_sync_error = $5, updated_at = now()
    from (select distinct given_back.entity_type, given_back.entity_id, given_back.scheduled_at from given_back) as record
    where status.account_id = $1 and status.entity_type = record.entity_type and status.entity_id = record.entity_id",
        locked_rows()
    )
});

/// A record with a newer edit on its way stays pending: that edit decides what becomes of it.
static FAIL: LazyLock<String> = LazyLock::new(|| {
    let shown: Vec<String> = EntityType::ALL
        .map(|entity| {
            let name = table_of(entity).name;
            let entity = entity.as_str();
            format!(
                "shown_{entity} as (
        update {name} mirrored
        set sync_status = 'error', sync_error = $4
        from record
        where record.entity_type = '{entity}' and mirrored.id = record.entity_id and mirrored.account_id = $1
    )"
            )
        })
        .into();
    format!(
        "with {}, failed as (
        update public.sync_queue item
        set status = 'failed', attempts = item.attempts + $5::integer, completed_at = now(), leased_until = null,
            lease_owner = null, error_class = $3, error_message = $4, updated_at = now()
        where item.account_id = $1 and item.id = any($2::text[]::uuid[]) and item.status in ('pending', 'processing')
            and (select count(*) from locked) >= 0
        returning item.entity_type, item.entity_id
    ), record as materialized (
        select distinct failed.entity_type, failed.entity_id
        from failed
        where not exists (
            select from public.sync_queue other
            where other.entity_type = failed.entity_type and other.entity_id = failed.entity_id
                and other.status in ('pending', 'processing') and other.id <> all($2::text[]::uuid[])
        )
    ), {}
    update public.sync_status status
    set last_sync_status = 'error', last_sync_error = $4, next_retry_at = null, updated_at = now()
    from record
    where status.account_id = $1 and status.entity_type = record.entity_type and status.entity_id = record.entity_id",
        locked_rows(),
        shown.join(", ")
    )
});

/// Common table expressions that lock the mirrored rows of the items `$2` of the account `$1`: table by table in one order,
/// in each in order of id. Whoever needs the locks counts the rows of the last, `locked`.
fn locked_rows() -> String {
    let mut expressions = vec![
        "edited as materialized (
        select distinct item.entity_type, item.entity_id
        from public.sync_queue item
        where item.account_id = $1 and item.id = any($2::text[]::uuid[]) and item.entity_id is not null
    )"
        .to_owned(),
    ];
    let mut counted = Vec::new();
    for entity in EntityType::ALL {
        let name = table_of(entity).name;
        let entity = entity.as_str();
        let after = counted.last().map_or(String::new(), |earlier| format!(" and ({earlier}) >= 0"));
        expressions.push(format!(
            "locked_{entity} as materialized (
        select held.id
        from (
            select edited.entity_id from edited where edited.entity_type = '{entity}'{after} order by edited.entity_id
        ) as wanted
        cross join lateral (
            select mirrored.id from {name} mirrored
            where mirrored.id = wanted.entity_id and mirrored.account_id = $1
            for no key update
        ) as held
    )"
        ));
        counted.push(format!("select count(*) from locked_{entity}"));
    }
    expressions.push(format!("locked as materialized (select ({}))", counted.join(") + (")));
    expressions.join(", ")
}

const DEPTH: &str = "
    select count(*), (extract(epoch from min(created_at)) * 1000)::bigint,
        (extract(epoch from min(case status when 'pending' then scheduled_at else leased_until end)
            filter (where held_at is null or passed_at is not null or approved_at is not null)) * 1000)::bigint,
        (select count(*) from public.sync_queue failed where failed.account_id = $1 and failed.status = 'failed')
    from public.sync_queue
    where account_id = $1 and status in ('pending', 'processing')";

const RECORD_REJECTIONS: &str = "
    insert into public.sync_queue as known
        (account_id, operation, entity_type, keap_id, priority, status, attempts, completed_at, error_class, error_message)
    select $1, 'sync', $2, rejected.keap_id, 1, 'failed', 1, now(), $3, rejected.reason
    from unnest($4::text[], $5::text[]) as rejected (keap_id, reason)
    on conflict (account_id, entity_type, keap_id) where operation = 'sync' and status = 'failed' do update
    set attempts = known.attempts + 1, completed_at = now(), error_message = excluded.error_message, updated_at = now()";

/// Claims the records of up to `limit` due items, each with all its open items: a record that backs off is taken up early when
/// a new edit of it falls due, because that edit may be what it waits for.
pub(crate) async fn claim(
    store: &Store<'_>,
    account: &AccountId,
    limit: usize,
    lease_ms: i64,
    owner: &str,
    claims: Claims,
) -> Result<Vec<OutboxItem>, Failure> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let account = account.as_str();
    let parameters: [Parameter<'_>; 4] =
        [(&account, Type::TEXT), (&limit, Type::INT8), (&lease_ms, Type::INT8), (&owner, Type::TEXT)];
    let statement = match claims {
        Claims::Passed => &CLAIM_PASSED,
        Claims::Any => &CLAIM_ANY,
    };
    let rows = store.query(statement, &parameters).await?;
    let mut items = Vec::with_capacity(rows.len());
    for row in &rows {
        let read = || -> Result<(String, OutboxItem), tokio_postgres::Error> {
            let item = OutboxItem {
                id: row.try_get(0)?,
                entity: EntityType::Contact,
                entity_id: row.try_get(2)?,
                operation: row.try_get(3)?,
                claims: row.try_get(4)?,
                attempts: row.try_get(5)?,
                captured_at: Timestamp(row.try_get(6)?),
            };
            Ok((row.try_get(1)?, item))
        };
        let (entity_name, mut item) = read().map_err(|error| failure(&error))?;
        // An item of a kind that a newer version captures waits for that version: its lease ends by itself.
        if let Some(entity) = EntityType::from_name(&entity_name) {
            item.entity = entity;
            items.push(item);
        }
    }
    Ok(items)
}

/// Marks items as done.
pub(crate) async fn complete(store: &Store<'_>, account: &AccountId, ids: &[String]) -> Result<(), Failure> {
    let ids = uuids(ids);
    if ids.is_empty() {
        return Ok(());
    }
    store.query(COMPLETE, &[(&account.as_str(), Type::TEXT), (&ids, Type::TEXT_ARRAY)]).await.map(|_| ())
}

/// Gives items back, due after a delay.
pub(crate) async fn retry_later(
    store: &Store<'_>,
    account: &AccountId,
    ids: &[String],
    delay_ms: i64,
    failure: &Failure,
    counts: bool,
) -> Result<(), Failure> {
    let ids = uuids(ids);
    if ids.is_empty() {
        return Ok(());
    }
    let message = reason(&failure.message);
    store
        .query(
            &RETRY_LATER,
            &[
                (&account.as_str(), Type::TEXT),
                (&ids, Type::TEXT_ARRAY),
                (&delay_ms, Type::INT8),
                (&failure.class.as_str(), Type::TEXT),
                (&message, Type::TEXT),
                (&i32::from(counts), Type::INT4),
            ],
        )
        .await
        .map(|_| ())
}

/// Ends items as dead letters and shows why on their rows.
pub(crate) async fn fail(
    store: &Store<'_>,
    account: &AccountId,
    ids: &[String],
    failure: &Failure,
) -> Result<(), Failure> {
    let ids = uuids(ids);
    if ids.is_empty() {
        return Ok(());
    }
    let message = reason(&failure.message);
    store
        .query(
            &FAIL,
            &[
                (&account.as_str(), Type::TEXT),
                (&ids, Type::TEXT_ARRAY),
                (&failure.class.as_str(), Type::TEXT),
                (&message, Type::TEXT),
                (&i32::from(failure.class.counts_against_item()), Type::INT4),
            ],
        )
        .await
        .map(|_| ())
}

/// Counts what waits.
pub(crate) async fn depth(store: &Store<'_>, account: &AccountId) -> Result<OutboxDepth, Failure> {
    let rows = store.query(DEPTH, &[(&account.as_str(), Type::TEXT)]).await?;
    let Some(row) = rows.first() else {
        return Ok(OutboxDepth::default());
    };
    let read = || -> Result<OutboxDepth, tokio_postgres::Error> {
        Ok(OutboxDepth {
            open: row.try_get(0)?,
            oldest_at: row.try_get::<_, Option<i64>>(1)?.map(Timestamp),
            next_due_at: row.try_get::<_, Option<i64>>(2)?.map(Timestamp),
            failed: row.try_get(3)?,
        })
    };
    read().map_err(|error| failure(&error))
}

/// Lists records that could not be applied among the dead letters, one row per record. Those whose id could not be read
/// share a row, so that a broken page met every minute does not fill the table.
pub(crate) async fn record_rejections(
    store: &Store<'_>,
    account: &AccountId,
    entity: EntityType,
    rejected: &[RejectedRecord],
) -> Result<(), Failure> {
    let mut by_id: HashMap<Option<String>, String> = HashMap::new();
    for record in rejected {
        let keap_id = record.keap_id.as_deref().map(|id| shortened(id, REJECTED_ID_LENGTH_MAX));
        by_id.insert(keap_id, reason(&record.reason));
    }
    if by_id.is_empty() {
        return Ok(());
    }
    let mut records: Vec<(Option<String>, String)> = by_id.into_iter().collect();
    // Everybody takes the rows in one order, so that nobody waits in a circle.
    records.sort_unstable();
    let (keap_ids, reasons): (Vec<Option<String>>, Vec<String>) = records.into_iter().unzip();
    store
        .query(
            RECORD_REJECTIONS,
            &[
                (&account.as_str(), Type::TEXT),
                (&entity.as_str(), Type::TEXT),
                (&FailureClass::Invalid.as_str(), Type::TEXT),
                (&keap_ids, Type::TEXT_ARRAY),
                (&reasons, Type::TEXT_ARRAY),
            ],
        )
        .await
        .map(|_| ())
}

fn uuids(ids: &[String]) -> Vec<&str> {
    ids.iter().map(String::as_str).filter(|id| is_uuid(id)).collect()
}

fn reason(text: &str) -> String {
    shortened(text, REASON_LENGTH_MAX)
}

/// The first characters of `text`, without the one character that Postgres cannot store.
fn shortened(text: &str, length_max: usize) -> String {
    text.chars().filter(|character| *character != '\0').take(length_max).collect()
}
