-- One page of {table}. $1 account, $2 source, $3 run, $4 conflicts as JSON, then one array per column (columns.rs).
-- Rows are locked first, in order of id; each is written only at the version that was read. Returns the Keap ids written.
with input as materialized (
    select id_text::uuid as id, input.*
    from unnest($5::text[], $6::integer[], $7::text[], $8::boolean[], $9::text[], $10::bigint[], $11::bigint[], $12::bigint[],
        $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::bigint[], $19::text[], $20::text[], $21::text[],
        $22::text[], $23::text[], {column_arrays}) as input
        (id_text, expected_version, keap_id, has_record, extra, keap_created_ms, keap_updated_ms, keap_observed_ms, keap_hash,
        base_hash, base, state, sync_error, deleted_ms, audit_operation, audit_old, audit_fields, audit_lost, conflict_status,
        {column_names})
),
locked as materialized (
    select found.*
    from (select input.id from input where input.id is not null order by input.id) as wanted
    -- A subquery with a lock of its own stays a lookup by index, however little is known of the table's size.
    cross join lateral (
        select mirrored.id, mirrored.version, mirrored.keap_id, mirrored.edited_at
        from {table} mirrored
        where mirrored.account_id = $1 and mirrored.id = wanted.id
        for no key update
    ) as found
),
-- The count makes sure that every lock is held before the first write.
current as materialized (
    select locked.id, locked.edited_at
    from input
    join locked on locked.id = input.id
    where locked.version = input.expected_version and (locked.keap_id is null or locked.keap_id = input.keap_id)
        and (select count(*) from locked) >= 0
),
updated as (
    update {table} mirrored
    set keap_id = input.keap_id,
        {columns_assigned},
        extra = coalesce(input.extra::jsonb, mirrored.extra),
        sync_status = input.state, sync_error = input.sync_error, last_synced_at = now(),
        keap_updated_at = coalesce(to_timestamp(input.keap_updated_ms::float8 / 1000), mirrored.keap_updated_at),
        deleted_at = to_timestamp(input.deleted_ms::float8 / 1000)
    from input
    join current on current.id = input.id
    where mirrored.id = current.id and input.has_record
    returning mirrored.id, mirrored.keap_id, current.edited_at as changed_at, input.state
),
touched as (
    update {table} mirrored
    set keap_id = input.keap_id, sync_status = input.state, sync_error = input.sync_error, last_synced_at = now(),
        keap_updated_at = coalesce(to_timestamp(input.keap_updated_ms::float8 / 1000), mirrored.keap_updated_at),
        deleted_at = coalesce(mirrored.deleted_at, to_timestamp(input.deleted_ms::float8 / 1000))
    from input
    join current on current.id = input.id
    where mirrored.id = current.id and not input.has_record
    returning mirrored.id, mirrored.keap_id, current.edited_at as changed_at, input.state
),
inserted as (
    insert into {table} (id, account_id, keap_id, extra, source_system, sync_status, sync_error, last_synced_at,
        keap_updated_at, created_at, deleted_at, {column_names})
    -- Ids that begin with the time lie side by side in every index that holds them, however many rows there are.
    select encode(overlay(uuid_send(gen_random_uuid()) placing
            substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6), 'hex')::uuid,
        $1, keap_id, coalesce(extra::jsonb, '{}'), 'keap', state, sync_error, now(),
        to_timestamp(keap_updated_ms::float8 / 1000), coalesce(to_timestamp(keap_created_ms::float8 / 1000), now()),
        to_timestamp(deleted_ms::float8 / 1000), {columns_written}
    from input
    where input.id is null and (select count(*) from locked) >= 0
    on conflict (account_id, keap_id) do nothing
    returning id, keap_id
),
written as materialized (
    select id, keap_id, changed_at from updated
    union all
    select id, keap_id, changed_at from touched
    union all
    select id, keap_id, null from inserted
),
-- A new row's id is new, so that its status needs no look for one that is there.
status_made as (
    insert into public.sync_status (account_id, entity_type, entity_id, keap_id, sync_direction, has_base, base,
        base_hash, keap_hash, keap_observed_at, last_sync_at, last_sync_status, last_sync_error, conflict_status)
    select $1, '{entity}', inserted.id, input.keap_id,
        case $2 when 'outbox' then 'supabase_to_keap' else 'keap_to_supabase' end, true, input.base::jsonb,
        nullif(input.base_hash, ''), nullif(input.keap_hash, ''), to_timestamp(input.keap_observed_ms::float8 / 1000), now(), input.state,
        input.sync_error, input.conflict_status
    from inserted
    join input on input.keap_id = inserted.keap_id
),
status_written as (
    insert into public.sync_status as status (account_id, entity_type, entity_id, keap_id, sync_direction, has_base, base,
        base_hash, keap_hash, keap_observed_at, last_sync_at, last_sync_status, last_sync_error, conflict_status)
    select $1, '{entity}', written.id, input.keap_id,
        case $2 when 'outbox' then 'supabase_to_keap' else 'keap_to_supabase' end, true, input.base::jsonb,
        nullif(input.base_hash, ''), nullif(input.keap_hash, ''), to_timestamp(input.keap_observed_ms::float8 / 1000), now(), input.state,
        input.sync_error, input.conflict_status
    from (select id, keap_id from updated union all select id, keap_id from touched) as written
    join input on input.keap_id = written.keap_id
    on conflict (account_id, entity_type, entity_id) do update
    set keap_id = excluded.keap_id, sync_direction = excluded.sync_direction, has_base = true, base = excluded.base,
        base_hash = excluded.base_hash, keap_hash = excluded.keap_hash, keap_observed_at = excluded.keap_observed_at,
        last_sync_at = excluded.last_sync_at, last_sync_status = excluded.last_sync_status,
        last_sync_error = excluded.last_sync_error, retry_count = 0, next_retry_at = null, updated_at = now(),
        conflict_status = case
            when excluded.conflict_status <> 'none' then excluded.conflict_status
            when status.conflict_status = 'pending' then 'resolved'
            else status.conflict_status
        end
),
audited as (
    insert into public.sync_audit_log (account_id, entity_type, entity_id, keap_id, operation, old_data, new_data,
        changed_fields, sync_source, sync_destination, run_id)
    select $1, '{entity}', written.id, input.keap_id, input.audit_operation, input.audit_old::jsonb, input.audit_lost::jsonb,
        string_to_array(input.audit_fields, ','), $2, 'supabase', $3::uuid
    from written
    join input on input.keap_id = written.keap_id
    where input.audit_operation is not null
),
conflict as materialized (
    select written.id, written.changed_at, input.keap_updated_ms, found.*
    from jsonb_to_recordset($4::jsonb) as found
        (keap_id text, field text, base jsonb, keap jsonb, supabase jsonb, policy text, winner text)
    join written on written.keap_id = found.keap_id
    join input on input.keap_id = found.keap_id
),
conflicts_written as (
    insert into public.sync_conflicts as known (account_id, entity_type, entity_id, keap_id, conflict_fields, base_data,
        keap_data, supabase_data, keap_changed_at, supabase_changed_at, run_id, resolution_strategy, winner, resolved_at)
    select $1, '{entity}', id, keap_id, array[field], jsonb_build_object(field, base), jsonb_build_object(field, keap),
        jsonb_build_object(field, supabase), to_timestamp(keap_updated_ms::float8 / 1000), changed_at, $3::uuid, policy,
        winner, case when winner is not null then now() end
    from conflict
    on conflict (account_id, entity_type, entity_id, conflict_fields) where resolved_at is null do update
    set keap_data = excluded.keap_data, supabase_data = excluded.supabase_data, keap_changed_at = excluded.keap_changed_at,
        supabase_changed_at = excluded.supabase_changed_at, updated_at = now()
    where (known.keap_data, known.supabase_data) is distinct from (excluded.keap_data, excluded.supabase_data)
),
-- An open conflict ends when its field is settled, or when the whole record is in step again.
conflicts_closed as (
    update public.sync_conflicts known
    set resolved_at = now(), updated_at = now(), winner = closed.winner,
        resolution_notes = coalesce(known.resolution_notes, 'settled by the sync')
    from (
        select open.id, settled.winner
        from (
            select id, field, winner from conflict where winner is not null
            union all
            select id, null, null from updated where state = 'completed'
            union all
            select id, null, null from touched where state = 'completed'
        ) as settled
        cross join lateral (
            select known.id from public.sync_conflicts known
            -- The row is of this account. Without a word about the account no index looks good but the record's own.
            where known.entity_id = settled.id and known.entity_type = '{entity}'
                and known.resolved_at is null and (settled.field is null or known.conflict_fields = array[settled.field])
            -- A lookup by index, as in known.sql.
            offset 0
        ) as open
    ) as closed
    where known.id = closed.id
),
-- One row per page. Keap's answers to our own writes are counted where their queue items are completed.
activity_written as (
    insert into public.sync_activity (account_id, entity_type, direction, source, records, lag_ms_total, lag_records)
    select $1, '{entity}', 'keap_to_supabase', $2, count(*), coalesce(sum(lag_ms), 0), count(lag_ms)
    from (
        select case when $2 in ('hook', 'poll')
            then greatest(0, (extract(epoch from now()) * 1000)::bigint - input.keap_updated_ms) end as lag_ms
        from written
        join input on input.keap_id = written.keap_id
    ) as arrived
    where $2 <> 'outbox'
    having count(*) > 0
),
-- What a page leaves to be carried to Keap is on its way from here on. A drain that claimed an item may be past reading the row:
-- only an item that nobody has claimed counts. Fields that wait for a person, and records that Keap deleted, go nowhere.
queued as (
    insert into public.sync_queue (account_id, operation, entity_type, entity_id, keap_id, payload)
    select $1, 'update', '{entity}', written.id, input.keap_id, jsonb_build_object('old', coalesce(input.base::jsonb, '{}'))
    from written
    join input on input.keap_id = written.keap_id
    where $2 <> 'outbox' and input.state <> 'completed'
        and (
            input.state = 'pending'
            or input.deleted_ms is null
                and not exists (select from conflict where conflict.id = written.id and conflict.winner is null and conflict.field = 'deleted_at')
                and exists (
                    select from jsonb_object_keys(input.base::jsonb) as differing (field)
                    where not exists (
                        select from conflict
                        where conflict.id = written.id and conflict.winner is null and split_part(conflict.field, '.', 1) = differing.field
                    )
                )
        )
        and not exists (
            select from public.sync_queue item
            where item.entity_type = '{entity}' and item.entity_id = written.id and item.status = 'pending'
            -- A lookup by index, as in known.sql.
            offset 0
        )
        -- What Keap refused waits for a person, who replays it; trying again by itself would only add dead letters.
        and not exists (
            select from public.sync_queue item
            where item.entity_type = '{entity}' and item.entity_id = written.id and item.status = 'failed' and item.operation <> 'sync'
            offset 0
        )
),
-- A record that could not be applied before is applied now. Mostly there is none, which one look tells.
rejections_closed as (
    update public.sync_queue rejection
    set status = 'completed', completed_at = now(), updated_at = now()
    from (
        select open.id
        from written
        cross join lateral (
            select known.id from public.sync_queue known
            where known.account_id = $1 and known.entity_type = '{entity}' and known.keap_id = written.keap_id
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
select keap_id from written
