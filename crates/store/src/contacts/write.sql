-- One page of contacts. $1 account, $2 source, $3 run, then one array per column (columns.rs), last the conflicts as JSON.
-- Rows are locked first, in order of id; each is written only at the version that was read. Returns the Keap ids written.
with input as materialized (
    select unnest($4::text[])::uuid as id, unnest($5::integer[]) as expected_version, unnest($6::text[]) as keap_id,
        unnest($7::boolean[]) as has_record,
        unnest($8::text[]) as email, unnest($9::text[]) as first_name, unnest($10::text[]) as last_name,
        unnest($11::text[]) as middle_name, unnest($12::text[]) as phone, unnest($13::text[]) as company,
        unnest($14::text[]) as job_title, unnest($15::text[]) as website, unnest($16::text[]) as birth_date,
        unnest($17::text[]) as owner_id, unnest($18::text[]) as lead_source_id, unnest($19::text[]) as opt_in_status,
        unnest($20::text[]) as emails, unnest($21::text[]) as phones, unnest($22::text[]) as addresses,
        unnest($23::text[]) as tags, unnest($24::text[]) as custom_fields, unnest($25::text[]) as extra,
        unnest($26::bigint[]) as keap_created_ms, unnest($27::bigint[]) as keap_updated_ms,
        unnest($28::bigint[]) as keap_observed_ms, unnest($29::text[]) as keap_hash, unnest($30::text[]) as base_hash,
        unnest($31::text[]) as base, unnest($32::text[]) as state, unnest($33::text[]) as sync_error,
        unnest($34::bigint[]) as deleted_ms, unnest($35::text[]) as audit_operation, unnest($36::text[]) as audit_old,
        unnest($37::text[]) as audit_fields, unnest($38::text[]) as audit_lost, unnest($39::text[]) as conflict_status
),
locked as materialized (
    select found.*
    from (select input.id from input where input.id is not null order by input.id) as wanted
    -- A subquery with a lock of its own stays a lookup by index, however little is known of the table's size.
    cross join lateral (
        select contact.id, contact.version, contact.keap_id, contact.updated_at
        from public.sync_contacts contact
        where contact.account_id = $1 and contact.id = wanted.id
        for update
    ) as found
),
-- The count makes sure that every lock is held before the first write.
current as materialized (
    select locked.id, locked.updated_at
    from input
    join locked on locked.id = input.id
    where locked.version = input.expected_version and (locked.keap_id is null or locked.keap_id = input.keap_id)
        and (select count(*) from locked) >= 0
),
updated as (
    update public.sync_contacts contact
    set keap_id = input.keap_id, email = input.email, first_name = input.first_name, last_name = input.last_name,
        middle_name = input.middle_name, phone = input.phone, company = input.company, job_title = input.job_title,
        website = input.website, birth_date = input.birth_date::date, owner_id = input.owner_id,
        lead_source_id = input.lead_source_id, opt_in_status = input.opt_in_status, emails = input.emails::jsonb,
        phones = input.phones::jsonb, addresses = input.addresses::jsonb, tags = input.tags::jsonb,
        custom_fields = input.custom_fields::jsonb, extra = coalesce(input.extra::jsonb, contact.extra),
        sync_status = input.state, sync_error = input.sync_error, last_synced_at = now(),
        keap_updated_at = coalesce(to_timestamp(input.keap_updated_ms::float8 / 1000), contact.keap_updated_at),
        deleted_at = to_timestamp(input.deleted_ms::float8 / 1000)
    from input
    join current on current.id = input.id
    where contact.id = current.id and input.has_record
    returning contact.id, contact.keap_id, current.updated_at as changed_at
),
touched as (
    update public.sync_contacts contact
    set keap_id = input.keap_id, sync_status = input.state, sync_error = input.sync_error, last_synced_at = now(),
        keap_updated_at = coalesce(to_timestamp(input.keap_updated_ms::float8 / 1000), contact.keap_updated_at),
        deleted_at = coalesce(contact.deleted_at, to_timestamp(input.deleted_ms::float8 / 1000))
    from input
    join current on current.id = input.id
    where contact.id = current.id and not input.has_record
    returning contact.id, contact.keap_id, current.updated_at as changed_at
),
inserted as (
    insert into public.sync_contacts (account_id, keap_id, email, first_name, last_name, middle_name, phone, company,
        job_title, website, birth_date, owner_id, lead_source_id, opt_in_status, emails, phones, addresses, tags,
        custom_fields, extra, source_system, sync_status, sync_error, last_synced_at, keap_updated_at, created_at, deleted_at)
    select $1, keap_id, email, first_name, last_name, middle_name, phone, company, job_title, website, birth_date::date,
        owner_id, lead_source_id, opt_in_status, emails::jsonb, phones::jsonb, addresses::jsonb, tags::jsonb,
        custom_fields::jsonb, coalesce(extra::jsonb, '{}'), 'keap', state, sync_error, now(),
        to_timestamp(keap_updated_ms::float8 / 1000), coalesce(to_timestamp(keap_created_ms::float8 / 1000), now()),
        to_timestamp(deleted_ms::float8 / 1000)
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
status_written as (
    insert into public.sync_status as status (account_id, entity_type, entity_id, keap_id, sync_direction, has_base, base,
        base_hash, keap_hash, keap_observed_at, last_sync_at, last_sync_status, last_sync_error, conflict_status)
    select $1, 'contact', written.id, input.keap_id,
        case $2 when 'outbox' then 'supabase_to_keap' else 'keap_to_supabase' end, true, input.base::jsonb,
        nullif(input.base_hash, ''), nullif(input.keap_hash, ''), to_timestamp(input.keap_observed_ms::float8 / 1000), now(), input.state,
        input.sync_error, input.conflict_status
    from written
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
    select $1, 'contact', written.id, input.keap_id, input.audit_operation, input.audit_old::jsonb, input.audit_lost::jsonb,
        string_to_array(input.audit_fields, ','), $2, 'supabase', $3::uuid
    from written
    join input on input.keap_id = written.keap_id
    where input.audit_operation is not null
),
conflict as materialized (
    select written.id, written.changed_at, input.keap_updated_ms, found.*
    from jsonb_to_recordset($40::jsonb) as found
        (keap_id text, field text, base jsonb, keap jsonb, supabase jsonb, policy text, winner text)
    join written on written.keap_id = found.keap_id
    join input on input.keap_id = found.keap_id
),
conflicts_written as (
    insert into public.sync_conflicts as known (account_id, entity_type, entity_id, keap_id, conflict_fields, base_data,
        keap_data, supabase_data, keap_changed_at, supabase_changed_at, run_id, resolution_strategy, winner, resolved_at)
    select $1, 'contact', id, keap_id, array[field], jsonb_build_object(field, base), jsonb_build_object(field, keap),
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
    set resolved_at = now(), updated_at = now(), winner = settled.winner,
        resolution_notes = coalesce(known.resolution_notes, 'settled by the sync')
    from (
        select id, field, winner from conflict where winner is not null
        union all
        select written.id, null, null from written join input on input.keap_id = written.keap_id
        where input.state = 'completed' and input.id is not null
    ) as settled
    where known.account_id = $1 and known.entity_type = 'contact' and known.entity_id = settled.id
        and known.resolved_at is null and (settled.field is null or known.conflict_fields = array[settled.field])
),
-- A record that could not be applied before is applied now.
rejections_closed as (
    update public.sync_queue rejection
    set status = 'completed', completed_at = now(), updated_at = now()
    where rejection.account_id = $1 and rejection.entity_type = 'contact' and rejection.operation = 'sync'
        and rejection.status = 'failed' and rejection.keap_id in (select keap_id from written)
)
select keap_id from written
