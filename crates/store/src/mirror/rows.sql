-- Rows of {table} by key. $1 account, $2 ids. "offset 0" as in known.sql.
select found.*
from (select distinct id::uuid as id from unnest($2::text[]) as given (id)) as wanted
cross join lateral (
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
    where mirrored.id = wanted.id and mirrored.account_id = $1
    offset 0
) as found
