-- What the mirror knows of remote records. $1 account, then one array each of Keap ids, hashes, and row ids that the records carry.
-- Answers from sync_status alone for what did not change. Rows are read for what did, and for what has no status under its
-- Keap id: a row that carries the id without one, and the row that created the record.
--
-- "offset 0" keeps each lookup a lookup by index: without statistics, right after a first load, the planner would rather read
-- the whole account into a hash table.
with key as materialized (
    select unnest($2::text[]) as keap_id, unnest($3::text[]) as keap_hash, unnest($4::text[])::uuid as row_id
), met as materialized (
    select key.keap_id, key.row_id, coalesce(found.keap_hash = key.keap_hash, false) as unchanged, found.entity_id as id
    from key
    left join lateral (
        select status.entity_id, status.keap_hash
        from public.sync_status status
        where status.account_id = $1 and status.entity_type = '{entity}' and status.keap_id = key.keap_id
        limit 1
    ) as found on true
), known as materialized (
    select keap_id, unchanged, case when not unchanged then id end as id from met where id is not null
    union all
    select met.keap_id, false, coalesce(linked.id, case when made.keap_id is null then made.id end)
    from met
    left join lateral (
        select mirrored.id from {table} mirrored
        where mirrored.account_id = $1 and mirrored.keap_id = met.keap_id
        offset 0
    ) as linked on true
    left join lateral (
        select mirrored.id, mirrored.keap_id from {table} mirrored
        where mirrored.id = met.row_id and mirrored.account_id = $1
        offset 0
    ) as made on true
    where met.id is null
)
select known.keap_id, known.unchanged, found.*
from known
left join lateral (
    select mirrored.id::text, mirrored.keap_id, mirrored.version, coalesce(status.has_base, false), status.base::text,
        status.keap_hash, (extract(epoch from mirrored.edited_at) * 1000)::bigint,
        (extract(epoch from mirrored.keap_updated_at) * 1000)::bigint,
        (extract(epoch from status.keap_observed_at) * 1000)::bigint,
        (extract(epoch from mirrored.deleted_at) * 1000)::bigint, mirrored.extra::text, {waits_for_contact},
        coalesce(status.conflict_status = 'pending', false) and exists (
            select from public.sync_conflicts conflict
            where conflict.entity_id = mirrored.id and conflict.entity_type = '{entity}' and conflict.resolved_at is null
                and conflict.conflict_fields = '{deleted_at}'
        ),
        case when mirrored.sync_status in ('error', 'conflict') then mirrored.sync_error end, {columns_read}
    from {table} mirrored
    left join lateral (
        select * from public.sync_status status
        where status.account_id = $1 and status.entity_type = '{entity}' and status.entity_id = mirrored.id
        offset 0
    ) as status on true
    where mirrored.id = known.id
    offset 0
) as found on true
