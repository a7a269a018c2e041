-- Rows of {table} by key. $1 account, $2 ids.
select mirrored.id::text, mirrored.keap_id, mirrored.version, coalesce(status.has_base, false), status.base::text,
        status.keap_hash, (extract(epoch from mirrored.updated_at) * 1000)::bigint,
        (extract(epoch from mirrored.keap_updated_at) * 1000)::bigint,
        (extract(epoch from status.keap_observed_at) * 1000)::bigint,
        (extract(epoch from mirrored.deleted_at) * 1000)::bigint, mirrored.extra::text,
        {columns_read}
from {table} mirrored
left join public.sync_status status
    on status.account_id = mirrored.account_id and status.entity_type = '{entity}' and status.entity_id = mirrored.id
where mirrored.account_id = $1 and mirrored.id = any($2::text[]::uuid[])
