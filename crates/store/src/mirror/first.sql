-- One page of {table} that holds nothing but new records, each as Keap has it. $1 account, $2 source, $3 run, then one array per
-- column (first.rs). It is what most of a first load is made of: nothing is looked up, locked or merged, and no row is joined with
-- another. A record that is there after all refuses the page, which the statement for any page then writes.
with made as materialized (
    -- Ids that begin with the time lie side by side in every index that holds them, however many rows there are.
    select array_agg(encode(overlay(uuid_send(gen_random_uuid()) placing
            substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6), 'hex')::uuid) as ids
    from generate_series(1, cardinality($4::text[]))
),
records as (
    insert into {table} (id, account_id, keap_id, extra, source_system, sync_status, last_synced_at, keap_updated_at, created_at,
        {contact_column}{column_names})
    select input.id, $1, input.keap_id, coalesce(input.extra::jsonb, '{}'), 'keap', 'completed', now(),
        to_timestamp(input.keap_updated_ms::float8 / 1000), coalesce(to_timestamp(input.keap_created_ms::float8 / 1000), now()),
        {contact_value}{columns_written}
    from unnest((select ids from made), $4::text[], $5::text[], $6::bigint[], $7::bigint[], {column_arrays}) as input
        (id, keap_id, extra, keap_created_ms, keap_updated_ms, {column_names}){contact_join}
),
statuses as (
    insert into public.sync_status (account_id, entity_type, entity_id, keap_id, supabase_id, sync_direction, has_base,
        base_hash, keap_hash, keap_observed_at, last_sync_at, last_sync_status, conflict_status)
    select $1, '{entity}', input.id, input.keap_id, input.id, 'keap_to_supabase', true, nullif(input.base_hash, ''),
        nullif(input.keap_hash, ''), to_timestamp(input.keap_observed_ms::float8 / 1000), now(), 'completed', 'none'
    from unnest((select ids from made), $4::text[], $8::bigint[], $9::text[], $10::text[]) as input
        (id, keap_id, keap_observed_ms, keap_hash, base_hash)
),
audited as (
    insert into public.sync_audit_log (account_id, entity_type, entity_id, keap_id, operation, sync_source, sync_destination, run_id)
    select $1, '{entity}', input.id, input.keap_id, 'create', $2, 'supabase', $3::uuid
    from unnest((select ids from made), $4::text[]) as input (id, keap_id)
),
activity_written as (
    insert into public.sync_activity (account_id, entity_type, direction, source, records, lag_ms_total, lag_records)
    select $1, '{entity}', 'keap_to_supabase', $2, count(*), coalesce(sum(lag_ms), 0), count(lag_ms)
    from (
        select case when $2 in ('hook', 'poll')
            then greatest(0, (extract(epoch from now()) * 1000)::bigint - input.keap_updated_ms) end as lag_ms
        from unnest($7::bigint[]) as input (keap_updated_ms)
    ) as arrived
),
-- A record that could not be applied before is applied now. Mostly there is none, which one look tells.
rejections_closed as (
    update public.sync_queue rejection
    set status = 'completed', completed_at = now(), updated_at = now()
    from (
        select open.id
        from unnest($4::text[]) as input (keap_id)
        cross join lateral (
            select known.id from public.sync_queue known
            where known.account_id = $1 and known.entity_type = '{entity}' and known.keap_id = input.keap_id
                and known.operation = 'sync' and known.status = 'failed'
            offset 0
        ) as open
        where exists (
            select from public.sync_queue known
            where known.account_id = $1 and known.entity_type = '{entity}' and known.operation = 'sync' and known.status = 'failed'
        )
    ) as closed
    where rejection.id = closed.id
)
select cardinality($4::text[])
