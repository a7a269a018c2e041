-- What {table} owes to Keap and what is not on its way. $1 account, $2 whether deletes that were kept here go, too, $3 how many rows.
-- Queues an item for each, and says how many. "offset 0" as in known.sql.
with failed as materialized (
    select distinct item.entity_id
    from public.sync_queue item
    where item.account_id = $1 and item.status = 'failed' and item.operation <> 'sync' and item.entity_type = '{entity}'
),
undecided as materialized (
    select conflict.entity_id, array_agg(path.path) as paths
    from public.sync_conflicts conflict
    cross join unnest(conflict.conflict_fields) as path (path)
    where conflict.account_id = $1 and conflict.entity_type = '{entity}' and conflict.resolved_at is null
    group by conflict.entity_id
),
candidate as (
    select mirrored.id, mirrored.keap_id, mirrored.deleted_at
    from {table} mirrored
    where mirrored.account_id = $1 and mirrored.sync_status <> 'completed' and (mirrored.deleted_at is null or $2)
    union all
    -- A delete that was kept here is in step with what was agreed then. One that an undo made of the row alone is never owed.
    select mirrored.id, mirrored.keap_id, mirrored.deleted_at
    from {table} mirrored
    where $2 and mirrored.account_id = $1 and mirrored.deleted_at is not null and mirrored.sync_status = 'completed'
),
owed as materialized (
    select candidate.id, candidate.keap_id, status.base,
        case when candidate.deleted_at is not null then 'delete' when candidate.keap_id is null then 'create' else 'update' end
            as operation
    from candidate
    left join lateral (
        select known.base from public.sync_status known
        where known.account_id = $1 and known.entity_type = '{entity}' and known.entity_id = candidate.id
        offset 0
    ) as status on true
    left join undecided on undecided.entity_id = candidate.id
    where not exists (select from failed where failed.entity_id = candidate.id)
        and not exists (
            select from public.sync_queue item
            where item.entity_type = '{entity}' and item.entity_id = candidate.id and item.status in ('pending', 'processing')
            offset 0
        )
        -- A record that Keap deleted meanwhile has nothing left there to be written to.
        and not coalesce(undecided.paths, '{}') @> '{deleted_at}'
        and case
            when candidate.deleted_at is not null then candidate.keap_id is not null and status.base ? 'deleted_at'
                and status.base ->> 'deleted_at' is distinct from '{deleted_here_alone}'
            when candidate.keap_id is null then true
            else exists (
                select from jsonb_object_keys(status.base) as differing (field)
                where not coalesce(undecided.paths, '{}') @> array[differing.field]
                    and (
                        not exists (select from unnest(undecided.paths) as path where split_part(path, '.', 1) = differing.field)
                        -- A part of the field waits for a person; another part may differ, too.
                        or exists (
                            select from public.keapsync_fields() as schema
                            cross join lateral (
                                select to_jsonb(mirrored) -> schema.field as value from {table} mirrored where mirrored.id = candidate.id
                            ) as present
                            cross join lateral jsonb_each(
                                public.keapsync_parts(schema.kind, schema.slot_kind, status.base -> schema.field)
                                || public.keapsync_parts(schema.kind, schema.slot_kind, present.value)) as part
                            where schema.entity_type = '{entity}' and schema.field = differing.field
                                and public.keapsync_parts(schema.kind, schema.slot_kind, status.base -> schema.field) -> part.key
                                    is distinct from public.keapsync_parts(schema.kind, schema.slot_kind, present.value) -> part.key
                                and not undecided.paths @> array[schema.field || '.' || part.key]
                        )
                    )
            )
        end
    order by candidate.id
    limit $3
),
queued as (
    insert into public.sync_queue (account_id, operation, entity_type, entity_id, keap_id, payload, claims)
    select $1, owed.operation, '{entity}', owed.id, owed.keap_id, jsonb_build_object('old', coalesce(owed.base, '{}')),
        -- An attempt that nobody remembers may have made the record: the next one looks for it first, as after any other claim.
        case owed.operation when 'create' then 1 else 0 end
    from owed
    returning 1
)
select count(*) from queued
