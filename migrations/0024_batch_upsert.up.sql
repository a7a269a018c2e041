-- Keap's records into the mirror in one call, with all that the program does for a page: check, merge with the row by the account's
-- policies, base, audit, conflicts. A bad record fails alone and is listed among the dead letters.
--
-- What makes it safe: rows are locked in order of id, then read, then written at the version that was read. What makes it
-- quick: every step is one statement for all records; a subtransaction costs the whole set one, and more only while halving. Compiling
-- such statements (jit) would take seconds, running them takes a tenth of one.

-- Each record as the merge wants it, or what is wrong with it.
create function public.keapsync_checked_records(entity_type text, records jsonb[])
    returns table (line bigint, keap_id text, record jsonb, extra jsonb, updated_ms bigint, created_ms bigint, row_id uuid, problem text)
    language plpgsql
    immutable
    set search_path = ''
    set jit = off
as $$
declare
    entity constant text := entity_type;
    known_keys constant text[] := array['keap_id', 'keap_updated_at', 'keap_created_at', 'extra', 'row_id']
        || array(select schema.field from public.keapsync_fields() as schema where schema.entity_type = entity);
begin
    return query
    with input as materialized (
        select given.line, given.record, object.value as object,
            object.value ->> 'keap_updated_at' as updated_at, object.value ->> 'keap_created_at' as created_at,
            public.keapsync_instant_ms(public.keapsync_trim(object.value ->> 'keap_updated_at')) as updated_ms,
            public.keapsync_instant_ms(public.keapsync_trim(object.value ->> 'keap_created_at')) as created_ms
        from unnest(records) with ordinality as given (record, line)
        cross join lateral (select case when jsonb_typeof(given.record) = 'object' then given.record else '{}' end as value) as object
    ), schema as materialized (
        select known.* from public.keapsync_fields() as known where known.entity_type = entity
    ), cell as materialized (
        select input.line, schema.position, schema.field, schema.kind, schema.slot_kind, entry.value, jsonb_typeof(entry.value) as type,
            entry.value #>> '{}' as content,
            case when schema.kind in ('date', 'instant', 'integer', 'money') then public.keapsync_trim(entry.value #>> '{}') end as trimmed
        from input
        cross join lateral jsonb_each(input.object) as entry
        join schema on schema.field = entry.key
        where entry.value <> 'null'
    ), checked as materialized (
        select cell.line, cell.position, cell.field,
            case
                when cell.kind in ('text', 'email', 'phone') then case cell.type when 'string' then cell.value else to_jsonb(cell.content) end
                when cell.kind in ('set', 'slots', 'map', 'address') then cell.value
                when cell.kind = 'boolean' then case when cell.type = 'boolean' then cell.value end
                when cell.trimmed = '' then null
                when cell.kind = 'date' then to_jsonb(split_part(cell.trimmed, 'T', 1))
                when cell.kind = 'instant' then public.keapsync_canonical(cell.kind, cell.slot_kind, cell.value)
                else to_jsonb(public.keapsync_decimal(cell.trimmed))
            end as value,
            case
                when cell.kind in ('set', 'slots') then case when cell.type <> 'array' then 'is no JSON array' end
                when cell.kind in ('map', 'address') then case when cell.type <> 'object' then 'is no JSON object' end
                when cell.kind = 'boolean' then case when cell.type <> 'boolean' then 'is neither true nor false' end
                when cell.type not in ('string', 'number') then 'is no text'
                when length(cell.content) > case
                        when cell.field in ('notes', 'description', 'cancel_reason') then 65535
                        when cell.kind in ('email', 'phone') then 320
                        else 1000
                    end
                    then 'is too long'
                when cell.field = 'keap_contact_id' then case when cell.content !~ '^[0-9]{1,19}$' then 'is no id of Keap' end
                when cell.field = 'currency' then case when length(cell.content) > 3 then 'is no currency code' end
                when cell.kind in ('text', 'email', 'phone') or cell.trimmed = '' then null
                when cell.kind = 'date' then case
                    when not public.keapsync_is_date(split_part(cell.trimmed, 'T', 1))
                        then 'is no date from 0001-01-01 to 9999-12-31' end
                when cell.kind = 'instant' then case
                    when public.keapsync_instant_ms(public.keapsync_canonical(cell.kind, cell.slot_kind, cell.value) #>> '{}') is null
                        then 'is no time of the years 1 to 9999' end
                when cell.kind = 'integer' then case
                    when public.keapsync_decimal(cell.trimmed) !~ '^-?[0-9]{1,9}$'
                        then 'is no whole number of at most nine digits' end
                when cell.kind = 'money' then case
                    when public.keapsync_decimal(cell.trimmed) !~ '^-?[0-9]{1,11}([.][0-9]{1,3})?$'
                        then 'is no amount of at most eleven digits before and three after the point' end
            end as problem
        from cell
    ), record as (
        select checked.line, jsonb_object_agg(checked.field, checked.value) as record,
            (array_agg(checked.field || ' ' || checked.problem order by checked.position) filter (where checked.problem is not null))[1] as problem
        from checked
        group by checked.line
    )
    select input.line,
        case when jsonb_typeof(input.object -> 'keap_id') in ('string', 'number') then input.object ->> 'keap_id' end,
        absent.record || coalesce(record.record, '{}'), nullif(input.object -> 'extra', 'null'),
        input.updated_ms, input.created_ms,
        -- People can edit the field that carries it: whatever is no id of a row names none.
        case when input.object ->> 'row_id' ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then (input.object ->> 'row_id')::uuid end,
        case
            when input.record is null or jsonb_typeof(input.record) <> 'object' then 'the record is no JSON object'
            when input.object ->> 'keap_id' is null or input.object ->> 'keap_id' !~ '^[0-9]{1,19}$'
                then 'keap_id is no id of Keap (1 to 19 digits)'
            when input.updated_at is not null and input.updated_ms is null then 'keap_updated_at is no time with an offset'
            when input.created_at is not null and input.created_ms is null then 'keap_created_at is no time with an offset'
            when jsonb_typeof(input.object -> 'extra') not in ('object', 'null') then 'extra is no JSON object'
            when input.object - known_keys <> '{}' and exists (select from jsonb_each(input.object - known_keys) as odd where odd.value <> 'null')
                then (select min(odd.key) from jsonb_each(input.object - known_keys) as odd where odd.value <> 'null')
                    || ' is no column that takes a value of Keap'
            else record.problem
        end
    from input
    cross join (select jsonb_object_agg(schema.field, null) as record from schema) as absent
    left join record on record.line = input.line
    order by input.line;
end
$$;
comment on function public.keapsync_checked_records(text, jsonb[]) is
    'Records of Keap in column form as the merge wants them, each with what is wrong with it, if anything is.';

-- Applies checked records of different Keap ids. lost: ids that others wrote meanwhile, to be applied again. Rows are looked up by index
-- (enable_seqscan), however little is known of the tables' sizes: a first load comes before any statistics. For the same reason nothing is
-- looked up by account where an id says enough.
create function public.keapsync_apply_records(account text, entity_type text, policies jsonb, keap_ids text[], records jsonb[],
        extras jsonb[], updated_mss bigint[], created_mss bigint[], row_ids uuid[], out conflicts integer, out lost text[])
    language plpgsql
    set search_path = ''
    set jit = off
    set enable_seqscan = off
as $$
declare
    entity constant text := entity_type;
    mirrored constant regclass := public.keapsync_table(entity_type);
    columns text;
    assignments text;
    typed text;
begin
    execute format($statement$
        with wanted as materialized (
            select linked.id
            from unnest($2::text[]) as given (keap_id)
            cross join lateral (
                select mirrored.id from %1$s mirrored where mirrored.keap_id = given.keap_id and mirrored.account_id = $1 offset 0
            ) as linked
            union
            select given.id from unnest($3::uuid[]) as given (id) where given.id is not null
        )
        select from (select wanted.id from wanted order by wanted.id) as wanted
        cross join lateral (
            select from %1$s mirrored where mirrored.id = wanted.id and mirrored.account_id = $1 for no key update
        ) as locked
    $statement$, mirrored) using account, keap_ids, row_ids;

    select string_agg(quote_ident(schema.field), ', ' order by schema.position),
        string_agg(format('%I = typed.%1$I', schema.field), ', ' order by schema.position),
        string_agg(format('typed.%I', schema.field), ', ' order by schema.position)
    into columns, assignments, typed
    from public.keapsync_fields() as schema
    where schema.entity_type = entity;

    execute format($statement$
        with input as materialized (
            select given.*, row_number() over (partition by given.row_id order by length(given.keap_id), given.keap_id) = 1 as first_of_row
            from unnest($2::text[], $3::jsonb[], $4::jsonb[], $5::bigint[], $6::bigint[], $8::uuid[])
                as given (keap_id, record, extra, updated_ms, created_ms, row_id)
        ), known as materialized (
            select input.*, row.*, status.has_base, status.base as delta_before,
                coalesce(status.base, '{}') ? 'deleted_at' as deleted_here,
                row.row_record || (coalesce(status.base, '{}') - 'deleted_at')
                    || case when status.has_base then '{}' else public.keapsync_never_agreed(%1$L) end as base
            from input
            cross join lateral (
                select mirrored.id, mirrored.version, mirrored.deleted_at, mirrored.updated_at as changed_at, mirrored.extra as row_extra,
                    (extract(epoch from mirrored.keap_updated_at) * 1000)::bigint as row_updated_ms, %2$s as row_record
                from %3$s mirrored
                -- The row with the record's id; else the one that the record was made from, while it has no other.
                where mirrored.account_id = $1 and mirrored.id = coalesce(
                    (select linked.id from %3$s linked where linked.keap_id = input.keap_id and linked.account_id = $1),
                    (select made.id from %3$s made where made.id = input.row_id and made.account_id = $1 and made.keap_id is null
                        and input.first_of_row))
                offset 0
            ) as row
            left join lateral (
                select known.has_base, known.base from public.sync_status known
                where known.entity_id = row.id and known.entity_type = %1$L and known.account_id = $1
                offset 0
            ) as status on true
        ), active as materialized (
            -- Old news is left out; so is a row deleted here whose record nobody edited in Keap since.
            select known.* from known
            where (known.updated_ms >= known.row_updated_ms) is not false
                and (known.deleted_at is null or not known.deleted_here
                    or public.keapsync_base_delta(%1$L, known.base, known.record) <> '{}')
        ), merged as materialized (
            select found.key::uuid as id, found.merge
            from (
                select array_agg(active.id::text) as keys, array_agg(%1$L::text) as entities, array_agg(active.base) as bases,
                    array_agg(active.record) as keaps, array_agg(active.row_record) as supabases,
                    array_agg(to_timestamp(active.updated_ms::double precision / 1000)) as keap_changed_ats,
                    array_agg(active.changed_at) as changed_ats, array_agg($7::jsonb) as policies
                from active
            ) as given
            cross join lateral public.keapsync_reconcile(given.keys, given.entities, given.bases, given.keaps, given.supabases,
                given.keap_changed_ats, given.changed_ats, given.policies) as found
        ), planned as materialized (
            select active.*, active.row_record || (merged.merge -> 'to_supabase') as after, merged.merge -> 'refused' as refused,
                public.keapsync_base_delta(%1$L, active.record || (merged.merge -> 'base_kept'),
                    active.row_record || (merged.merge -> 'to_supabase')) as delta,
                merged.merge -> 'conflicts' || case when active.deleted_at is not null and active.deleted_here
                    then jsonb_build_array(jsonb_build_object('path', 'deleted_at', 'base', null, 'keap', null,
                        'supabase', to_jsonb(active.deleted_at), 'policy', 'newest_wins', 'winner', 'keap'))
                    else '[]' end as conflicts,
                case when merged.merge -> 'to_supabase' = '{}' then '{}' else (
                    select jsonb_object_agg(written.field, active.row_record -> written.field)
                    from jsonb_object_keys(merged.merge -> 'to_supabase') as written (field)) end
                    || case when active.extra is not null and active.extra <> active.row_extra
                        then jsonb_build_object('extra', active.row_extra) else '{}' end
                    || case when active.deleted_at is not null
                        then jsonb_build_object('deleted_at', active.deleted_at) else '{}' end as audit_old
            from active
            join merged on merged.id = active.id
        ), conflict as materialized (
            select planned.id, planned.keap_id, planned.updated_ms, planned.changed_at, item.line, item.conflict ->> 'path' as path,
                item.conflict -> 'base' as base, item.conflict -> 'keap' as keap, item.conflict -> 'supabase' as supabase,
                item.conflict ->> 'policy' as policy, item.conflict ->> 'winner' as winner
            from planned
            cross join jsonb_array_elements(planned.conflicts) with ordinality as item (conflict, line)
        ), news as materialized (
            -- An open conflict that stands as it is recorded is no news.
            select conflict.id from conflict
            where conflict.winner is not null or not exists (
                select from public.sync_conflicts open
                where open.entity_id = conflict.id and open.entity_type = %1$L and open.resolved_at is null
                    and open.conflict_fields = array[conflict.path] and open.keap_data -> conflict.path = conflict.keap
                    and open.supabase_data -> conflict.path = conflict.supabase)
        ), judged as materialized (
            select planned.*,
                case
                    when planned.deleted_at is not null then 'undelete'
                    when planned.audit_old <> '{}' or planned.refused <> '[]' or planned.id in (select news.id from news) then 'update'
                end as operation,
                case when planned.conflicts <> '[]' then (select string_agg(conflict.path, ', ' order by conflict.line)
                    from conflict where conflict.id = planned.id and conflict.winner is null) end as open_paths
            from planned
        ), decided as materialized (
            select judged.*,
                case
                    when judged.open_paths is not null then 'conflict'
                    when judged.refused <> '[]' then 'error'
                    when judged.delta = '{}' then 'completed'
                    else 'pending'
                end as state,
                case
                    when judged.open_paths is not null then 'conflict: decide about ' || judged.open_paths
                    when judged.refused <> '[]' then format('read_only_field: %%s was restored. %%s', judged.refused -> 0 ->> 'field',
                        judged.refused -> 0 ->> 'reason')
                end as reason
            from judged
            where judged.operation is not null or judged.has_base is not true or judged.delta <> coalesce(judged.delta_before, '{}')
                or judged.row_updated_ms is null and judged.updated_ms is not null or judged.updated_ms > judged.row_updated_ms
        ), updated as (
            update %3$s mirrored
            set keap_id = decided.keap_id, %5$s, extra = coalesce(decided.extra, mirrored.extra), sync_status = decided.state, sync_error = decided.reason,
                last_synced_at = now(), deleted_at = null,
                keap_updated_at = coalesce(to_timestamp(decided.updated_ms::double precision / 1000), mirrored.keap_updated_at)
            from decided
            cross join lateral jsonb_populate_record(null::%3$s, decided.after) as typed
            where mirrored.id = decided.id and mirrored.version = decided.version and decided.operation is not null
            returning mirrored.id, mirrored.keap_id
        ), touched as (
            update %3$s mirrored
            set keap_id = decided.keap_id, sync_status = decided.state, sync_error = decided.reason, last_synced_at = now(),
                keap_updated_at = coalesce(to_timestamp(decided.updated_ms::double precision / 1000), mirrored.keap_updated_at)
            from decided
            where mirrored.id = decided.id and mirrored.version = decided.version and decided.operation is null
            returning mirrored.id, mirrored.keap_id
        ), new as materialized (
            select input.* from input where not exists (select from known where known.keap_id = input.keap_id)
        ), inserted as (
            insert into %3$s (account_id, keap_id, extra, source_system, sync_status, last_synced_at, keap_updated_at, created_at, %4$s)
            select $1, new.keap_id, coalesce(new.extra, '{}'), 'keap', 'completed', now(),
                to_timestamp(new.updated_ms::double precision / 1000),
                coalesce(to_timestamp(new.created_ms::double precision / 1000), now()), %6$s
            from new
            cross join lateral jsonb_populate_record(null::%3$s, new.record) as typed
            order by length(new.keap_id), new.keap_id
            on conflict (account_id, keap_id) do nothing
            returning id, keap_id
        ), written as materialized (
            select changed.id, changed.keap_id, decided.operation, decided.state, decided.reason, decided.delta, decided.audit_old,
                decided.refused, case when decided.open_paths is not null then 'pending' when decided.conflicts <> '[]' then 'resolved'
                    else 'none' end as conflict_status
            from (select * from updated union all select * from touched) as changed
            join decided on decided.id = changed.id
            union all
            select inserted.id, inserted.keap_id, 'create', 'completed', null, '{}', '{}', '[]', 'none' from inserted
        ), status_written as (
            insert into public.sync_status as status (account_id, entity_type, entity_id, keap_id, sync_direction, has_base, base,
                keap_observed_at, last_sync_at, last_sync_status, last_sync_error, conflict_status)
            select $1, %1$L, written.id, written.keap_id, 'keap_to_supabase', true, nullif(written.delta, '{}'), now(), now(),
                written.state, written.reason, written.conflict_status
            from written
            on conflict (account_id, entity_type, entity_id) do update
            -- Without hashes the next sync compares the record again.
            set keap_id = excluded.keap_id, sync_direction = excluded.sync_direction, has_base = true, base = excluded.base,
                base_hash = null, keap_hash = null, keap_observed_at = excluded.keap_observed_at,
                last_sync_at = excluded.last_sync_at, last_sync_status = excluded.last_sync_status,
                last_sync_error = excluded.last_sync_error, retry_count = 0, next_retry_at = null, updated_at = now(),
                conflict_status = case
                    when excluded.conflict_status <> 'none' then excluded.conflict_status
                    when status.conflict_status = 'pending' then 'resolved'
                    else status.conflict_status
                end
        ), audited as (
            insert into public.sync_audit_log (account_id, entity_type, entity_id, keap_id, operation, old_data, new_data, changed_fields,
                sync_source, sync_destination)
            select $1, %1$L, written.id, written.keap_id, written.operation, nullif(written.audit_old, '{}'),
                (select jsonb_object_agg(edit ->> 'field', edit -> 'value') from jsonb_array_elements(written.refused) as edit),
                case when written.audit_old <> '{}' then array(select jsonb_object_keys(written.audit_old)) end, 'batch_upsert', 'supabase'
            from written
            where written.operation is not null
        ), conflicts_written as (
            insert into public.sync_conflicts as open (account_id, entity_type, entity_id, keap_id, conflict_fields, base_data,
                keap_data, supabase_data, keap_changed_at, supabase_changed_at, resolution_strategy, winner, resolved_at)
            select $1, %1$L, conflict.id, conflict.keap_id, array[conflict.path], jsonb_build_object(conflict.path, conflict.base),
                jsonb_build_object(conflict.path, conflict.keap), jsonb_build_object(conflict.path, conflict.supabase),
                to_timestamp(conflict.updated_ms::double precision / 1000), conflict.changed_at, conflict.policy, conflict.winner,
                case when conflict.winner is not null then now() end
            from conflict
            join written on written.id = conflict.id
            order by conflict.id, conflict.line
            on conflict (account_id, entity_type, entity_id, conflict_fields) where resolved_at is null do update
            set keap_data = excluded.keap_data, supabase_data = excluded.supabase_data,
                keap_changed_at = excluded.keap_changed_at, supabase_changed_at = excluded.supabase_changed_at, updated_at = now()
            where (open.keap_data, open.supabase_data) is distinct from (excluded.keap_data, excluded.supabase_data)
        ), conflicts_closed as (
            -- An open conflict ends when its field is settled, or when the whole record is in step again.
            update public.sync_conflicts open
            set resolved_at = now(), updated_at = now(), winner = settled.winner,
                resolution_notes = coalesce(open.resolution_notes, 'settled by the sync')
            from (
                select conflict.id, conflict.path, conflict.winner from conflict join written on written.id = conflict.id
                where conflict.winner is not null
                union all
                select written.id, null, null from written where written.state = 'completed' and written.operation is distinct from 'create'
            ) as settled
            where open.entity_id = settled.id and open.entity_type = %1$L and open.resolved_at is null
                and (settled.path is null or open.conflict_fields = array[settled.path])
        ), rejections_closed as (
            -- A record that could not be applied before is applied now.
            update public.sync_queue rejection
            set status = 'completed', completed_at = now(), updated_at = now()
            where rejection.account_id = $1 and rejection.entity_type = %1$L and rejection.operation = 'sync'
                and rejection.status = 'failed' and rejection.keap_id in (select input.keap_id from input)
        ), activity_written as (
            insert into public.sync_activity (account_id, entity_type, direction, source, records)
            select $1, %1$L, 'keap_to_supabase', 'batch_upsert', count(*) from written having count(*) > 0
        )
        select
            coalesce((select sum(jsonb_array_length(planned.conflicts)) from planned), 0)::integer,
            array(
                select decided.keap_id from decided where decided.id not in (select written.id from written)
                union all
                select new.keap_id from new where new.keap_id not in (select inserted.keap_id from inserted)
            )
    $statement$, entity, public.keapsync_record_sql(entity, 'mirrored'), mirrored, columns, assignments, typed)
    into conflicts, lost
    using account, keap_ids, records, extras, updated_mss, created_mss, policies, row_ids;
end
$$;
comment on function public.keapsync_apply_records(text, text, jsonb, text[], jsonb[], jsonb[], bigint[], bigint[], uuid[]) is
    'Merges checked records of Keap into their rows and inserts the unknown ones; answers how many conflicts there were and which ids others wrote meanwhile.';

-- Why Postgres refused a record, without the values that its own messages quote.
create function public.keapsync_refusal(code text, constraint_name text, column_name text) returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return format('Postgres refused the record: %s (SQLSTATE %s%s)',
        case
            when code in ('22021', '22P05') then 'a text holds a character that Postgres cannot store'
            when code = '23514' then 'a value is outside of what its column takes'
            when code = '23502' then 'a value is missing'
            when code in ('22007', '22008') then 'a date or time does not exist'
            when code = '22P02' then 'a value has the wrong form for its column'
            when code like '54%' then 'a value is too large'
            else 'a value does not fit'
        end,
        code,
        case when constraint_name <> '' then ', constraint ' || constraint_name
             when column_name <> '' then ', column ' || column_name
             else '' end);
end
$$;
comment on function public.keapsync_refusal(text, text, text) is 'Words for an error of a write, without values.';

create function public.keapsync_batch_upsert(account text, entity_type text, records jsonb[],
        out succeeded integer, out failed integer, out conflicts integer)
    language plpgsql
    set search_path = ''
    set jit = off
as $$
#variable_conflict use_column
declare
    -- What one call takes: ten pages of Keap.
    records_max constant integer := 10000;
    -- How often records are merged again that others wrote meanwhile.
    attempts_max constant integer := 5;
    entity constant text := entity_type;
    policies jsonb;
    keap_ids text[];
    contents jsonb[];
    extras jsonb[];
    updated_mss bigint[];
    created_mss bigint[];
    row_ids uuid[];
    bad_ids text[];
    bad_reasons text[];
    wanted text[];
    lost text[];
    firsts integer[];
    lasts integer[];
    first_line integer;
    last_line integer;
    middle integer;
    found_conflicts integer;
    code text;
    constraint_found text;
    column_found text;
begin
    if session_user <> 'keapsync_engine' then
        raise exception 'records of Keap are written by keapsync_engine, this session is of %', session_user
            using errcode = 'insufficient_privilege',
                  hint = 'Log in as keapsync_engine: whatever another role writes is captured as a person''s edit and sent to Keap.';
    end if;
    if cardinality(records) > records_max then
        raise exception '% records in one call', cardinality(records)
            using errcode = 'program_limit_exceeded', hint = format('Send at most %s at a time.', records_max);
    end if;
    policies := public.keapsync_account_policies(account);

    with checked as materialized (
        select * from public.keapsync_checked_records(entity, records)
    ), latest as materialized (
        -- Of several records with one id the last counts.
        select distinct on (checked.keap_id) checked.* from checked where checked.problem is null
        order by checked.keap_id, checked.line desc
    ), good as (
        select array_agg(latest.keap_id order by length(latest.keap_id), latest.keap_id) as ids,
            array_agg(latest.record order by length(latest.keap_id), latest.keap_id) as contents,
            array_agg(latest.extra order by length(latest.keap_id), latest.keap_id) as extras,
            array_agg(latest.updated_ms order by length(latest.keap_id), latest.keap_id) as updated_mss,
            array_agg(latest.created_ms order by length(latest.keap_id), latest.keap_id) as created_mss,
            array_agg(latest.row_id order by length(latest.keap_id), latest.keap_id) as row_ids
        from latest
    ), bad as (
        select array_agg(checked.keap_id) as ids, array_agg(checked.problem) as reasons from checked where checked.problem is not null
    )
    select good.ids, good.contents, good.extras, good.updated_mss, good.created_mss, good.row_ids, bad.ids, bad.reasons
    into keap_ids, contents, extras, updated_mss, created_mss, row_ids, bad_ids, bad_reasons
    from good, bad;

    conflicts := 0;
    if keap_ids is not null then
        firsts := array[1];
        lasts := array[cardinality(keap_ids)];
    end if;
    -- A set that Postgres refuses is halved until the bad record stands alone.
    while cardinality(firsts) > 0 loop
        first_line := firsts[cardinality(firsts)];
        last_line := lasts[cardinality(lasts)];
        firsts := trim_array(firsts, 1);
        lasts := trim_array(lasts, 1);
        begin
            found_conflicts := 0;
            wanted := keap_ids[first_line:last_line];
            for attempt in 1..attempts_max loop
                select found_conflicts + applied.conflicts, applied.lost
                into found_conflicts, lost
                from (
                    select array_agg(given.keap_id) as ids, array_agg(given.content) as contents, array_agg(given.extra) as extras,
                        array_agg(given.updated_ms) as updated_mss, array_agg(given.created_ms) as created_mss,
                        array_agg(given.row_id) as row_ids
                    from unnest(keap_ids[first_line:last_line], contents[first_line:last_line], extras[first_line:last_line],
                        updated_mss[first_line:last_line], created_mss[first_line:last_line], row_ids[first_line:last_line])
                        as given (keap_id, content, extra, updated_ms, created_ms, row_id)
                    where attempt = 1 or given.keap_id = any (wanted)
                ) as part
                cross join lateral public.keapsync_apply_records(account, entity, policies, part.ids, part.contents, part.extras,
                    part.updated_mss, part.created_mss, part.row_ids) as applied;
                exit when cardinality(lost) = 0;
                wanted := lost;
            end loop;
            if cardinality(lost) > 0 then
                raise exception '% records keep being written by others', cardinality(lost)
                    using errcode = 'serialization_failure', hint = 'Make the call again.';
            end if;
            conflicts := conflicts + found_conflicts;
        exception
            when data_exception or integrity_constraint_violation or program_limit_exceeded then
                if first_line = last_line then
                    get stacked diagnostics code = returned_sqlstate, constraint_found = constraint_name, column_found = column_name;
                    bad_ids := bad_ids || keap_ids[first_line];
                    bad_reasons := bad_reasons || public.keapsync_refusal(code, constraint_found, column_found);
                else
                    middle := (first_line + last_line) / 2;
                    firsts := firsts || array[middle + 1, first_line];
                    lasts := lasts || array[last_line, middle];
                end if;
        end;
    end loop;

    failed := coalesce(cardinality(bad_ids), 0);
    succeeded := coalesce(cardinality(records), 0) - failed;
    if failed > 0 then
        insert into public.sync_queue as known
            (account_id, operation, entity_type, keap_id, priority, status, attempts, completed_at, error_class, error_message)
        select account, 'sync', entity, latest.keap_id, 1, 'failed', 1, now(), 'invalid',
            left(latest.reason, 900) || '. Correct the record in Keap; it is read again then.'
        from (
            -- One row per record; those without an id share one. Everybody takes the rows in one order.
            select distinct on (left(bad.keap_id, 64)) left(bad.keap_id, 64) as keap_id, bad.reason
            from unnest(bad_ids, bad_reasons) with ordinality as bad (keap_id, reason, line)
            order by left(bad.keap_id, 64), bad.line desc
        ) as latest
        on conflict (account_id, entity_type, keap_id) where operation = 'sync' and status = 'failed' do update
        set attempts = known.attempts + 1, completed_at = now(), error_message = excluded.error_message, updated_at = now();
    end if;
end
$$;
comment on function public.keapsync_batch_upsert(text, text, jsonb[]) is
    'Merges Keap''s records of one kind into the mirror, in column form; bad ones fail alone and are listed in sync_queue.';

create function public.batch_upsert_contacts(account text, records jsonb[], out succeeded integer, out failed integer, out conflicts integer)
    language sql
    set search_path = ''
as $$ select * from public.keapsync_batch_upsert(account, 'contact', records) $$;
create function public.batch_upsert_orders(account text, records jsonb[], out succeeded integer, out failed integer, out conflicts integer)
    language sql
    set search_path = ''
as $$ select * from public.keapsync_batch_upsert(account, 'order', records) $$;
create function public.batch_upsert_tags(account text, records jsonb[], out succeeded integer, out failed integer, out conflicts integer)
    language sql
    set search_path = ''
as $$ select * from public.keapsync_batch_upsert(account, 'tag', records) $$;
create function public.batch_upsert_subscriptions(account text, records jsonb[], out succeeded integer, out failed integer, out conflicts integer)
    language sql
    set search_path = ''
as $$ select * from public.keapsync_batch_upsert(account, 'subscription', records) $$;

do $$
declare
    signature text;
    kind text;
begin
    foreach kind in array array['contacts', 'orders', 'tags', 'subscriptions'] loop
        execute format('comment on function public.batch_upsert_%s(text, jsonb[]) is %L', kind,
            format('Merges Keap''s %s into the mirror: whole records in column form, {"keap_id": …, "keap_updated_at": …, …, "extra": {…}}; a '
                'column that is missing is absent in Keap. Older news than the row''s changes nothing. Bad records fail alone and are '
                'listed in sync_queue (operation sync, status failed). For keapsync_engine.', kind));
    end loop;
    foreach signature in array array[
        'keapsync_checked_records(text, jsonb[])',
        'keapsync_apply_records(text, text, jsonb, text[], jsonb[], jsonb[], bigint[], bigint[], uuid[])',
        'keapsync_refusal(text, text, text)', 'keapsync_batch_upsert(text, text, jsonb[])', 'batch_upsert_contacts(text, jsonb[])',
        'batch_upsert_orders(text, jsonb[])', 'batch_upsert_tags(text, jsonb[])', 'batch_upsert_subscriptions(text, jsonb[])']
    loop
        perform public.keapsync_protect_function(('public.' || signature)::regprocedure);
        execute format('grant execute on function public.%s to keapsync_engine', signature);
    end loop;
end
$$;

comment on column public.sync_audit_log.sync_source is 'supabase (a person''s edit), or how Keap''s record came: hook, poll, full_sync, outbox (its answer to our write), batch_upsert.';
comment on column public.sync_activity.source is 'What made the sync look: hook, poll, full_sync, outbox, batch_upsert.';
