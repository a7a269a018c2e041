-- Conflicts found by comparing three states: what both sides last agreed on, what Keap has, what the row has. A comparison of two
-- sides would call every difference a conflict; most are a change on one side, on its way to the other.

-- Rows as the merge sees records: amounts as texts of plain decimals, moments in UTC, every field there. Text of an expression, because
-- the columns depend on the kind of record.
create function public.keapsync_record_sql(entity_type text, alias text) returns text
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    entity constant text := entity_type;
begin
    return (
        select 'jsonb_build_object(' || string_agg(format('%L, ', schema.field) || format(
            case schema.kind
                when 'text' then 'to_jsonb(%s.%I::text)'
                when 'money' then 'to_jsonb(trim_scale(%s.%I)::text)'
                when 'instant' then 'to_jsonb(public.keapsync_instant_text(trunc(extract(epoch from %s.%I) * 1000)::bigint))'
                else 'to_jsonb(%s.%I)'
            end, alias, schema.field), ', ' order by schema.position) || ')'
        from public.keapsync_fields() as schema
        where schema.entity_type = entity
    );
end
$$;
comment on function public.keapsync_record_sql(text, text) is
    'SQL for the record of a row, as JSON keyed by field.';
select public.keapsync_protect_function('public.keapsync_record_sql(text, text)');
grant execute on function public.keapsync_record_sql(text, text) to keapsync_engine;

-- Of a row that never met its Keap record, what a create in Keap does not carry was never agreed on: and nothing was where the record
-- cannot name the row it was made from, because somebody else may have made it. The workers look at the record before they say so; here
-- the cautious answer is a conflict that they settle.
create function public.keapsync_never_agreed(entity_type text) returns jsonb
    language plpgsql
    immutable parallel safe
    set search_path = ''
as $$
declare
    entity constant text := entity_type;
begin
    return (
        select coalesce(jsonb_object_agg(schema.field, null), '{}')
        from public.keapsync_fields() as schema
        where schema.entity_type = entity
            and (entity in ('tag', 'subscription') or schema.access = 'read_only' or schema.kind = 'set')
    );
end
$$;
comment on function public.keapsync_never_agreed(text) is
    'Nulls for the fields that were never agreed on, to be laid over the base of a row that never met its Keap record.';
select public.keapsync_protect_function('public.keapsync_never_agreed(text)');
grant execute on function public.keapsync_never_agreed(text) to keapsync_engine;

create function public.keapsync_account_policies(account text) returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    found_settings jsonb;
begin
    select known.settings into found_settings from public.sync_accounts known where known.account_id = account;
    if not found then
        raise exception 'there is no account %', coalesce(account, 'null')
            using errcode = 'foreign_key_violation', hint = 'Mirror the account into sync_accounts before its records.';
    end if;
    return coalesce(found_settings -> 'policies', '{}');
end
$$;
comment on function public.keapsync_account_policies(text) is 'How an account settles conflicts, as last mirrored.';
select public.keapsync_protect_function('public.keapsync_account_policies(text)');
grant execute on function public.keapsync_account_policies(text) to keapsync_engine;

-- Records are objects: entity_id, keap_data (Keap's whole record, keyed by field; what is missing is absent), and where they are
-- known supabase_data (else the row as it is) and keap_changed_at. Every conflict is recorded as open, whatever the policy: the next
-- sync settles those that a policy can settle. Rows that are not there are left out of the answer. Rows are looked up by index
-- (enable_seqscan), however little is known of the tables' sizes.
create function public.detect_sync_conflicts(account text, entity_type text, records jsonb[])
    returns table (entity_id uuid, conflict_id uuid, conflict_fields text[])
    language plpgsql
    set search_path = ''
    set jit = off
    set enable_seqscan = off
as $$
declare
    entity constant text := entity_type;
    mirrored constant regclass := public.keapsync_table(entity_type);
    policies constant jsonb := public.keapsync_account_policies(account);
begin
    if exists (
        select from unnest(records) as record
        where jsonb_typeof(record -> 'entity_id') is distinct from 'string' or jsonb_typeof(record -> 'keap_data') is distinct from 'object'
            or jsonb_typeof(coalesce(record -> 'supabase_data', 'null')) not in ('object', 'null')
    ) then
        raise exception 'a record to be checked has no entity_id or no keap_data'
            using errcode = 'invalid_parameter_value',
                  hint = 'Give each as {"entity_id": "…", "keap_data": {…}}, with "supabase_data": {…} if it is not the row itself.';
    end if;

    -- Rows are locked in order of id, as every writer does; the statement after this one sees what the last writer left.
    execute format($statement$
        select from (
            select distinct (record ->> 'entity_id')::uuid as id from unnest($2::jsonb[]) as record order by 1
        ) as wanted
        cross join lateral (
            select from %1$s mirrored where mirrored.id = wanted.id and mirrored.account_id = $1 for no key update
        ) as locked
    $statement$, mirrored) using account, records;

    return query execute format($statement$
        with input as materialized (
            select distinct on (given.id) given.*
            from (
                select (record ->> 'entity_id')::uuid as id, record -> 'keap_data' as keap,
                    nullif(record -> 'supabase_data', 'null') as supabase, (record ->> 'keap_changed_at')::timestamptz as keap_changed_at, line
                from unnest($2::jsonb[]) with ordinality as given (record, line)
            ) as given
            order by given.id, given.line desc
        ), known as materialized (
            select input.id, input.keap, coalesce(input.supabase, row.record) as supabase, row.keap_id, row.changed_at,
                coalesce(input.keap_changed_at, row.keap_updated_at) as keap_changed_at,
                row.record || (coalesce(status.base, '{}') - 'deleted_at')
                    || case when status.has_base then '{}' else public.keapsync_never_agreed(%1$L) end as base
            from input
            cross join lateral (
                select mirrored.keap_id, mirrored.edited_at as changed_at, mirrored.keap_updated_at, %2$s as record
                from %3$s mirrored
                where mirrored.id = input.id and mirrored.account_id = $1
                offset 0
            ) as row
            left join lateral (
                select known.has_base, known.base from public.sync_status known
                where known.entity_id = input.id and known.entity_type = %1$L and known.account_id = $1
                offset 0
            ) as status on true
        ), merged as materialized (
            select found.key::uuid as id, found.merge
            from (
                select array_agg(known.id::text) as keys, array_agg(%1$L::text) as entities, array_agg(known.base) as bases,
                    array_agg(known.keap) as keaps, array_agg(known.supabase) as supabases,
                    array_agg(known.keap_changed_at) as keap_changed_ats, array_agg(known.changed_at) as changed_ats,
                    array_agg($3::jsonb) as policies
                from known
            ) as given
            cross join lateral public.keapsync_reconcile(given.keys, given.entities, given.bases, given.keaps, given.supabases,
                given.keap_changed_ats, given.changed_ats, given.policies) as found
            where found.merge -> 'conflicts' <> '[]'
        ), conflict as materialized (
            select merged.id, known.keap_id, known.keap_changed_at, known.changed_at, item.line, item.conflict ->> 'path' as path,
                item.conflict -> 'base' as base, item.conflict -> 'keap' as keap, item.conflict -> 'supabase' as supabase,
                item.conflict ->> 'policy' as policy
            from merged
            join known on known.id = merged.id
            cross join jsonb_array_elements(merged.merge -> 'conflicts') with ordinality as item (conflict, line)
        ), recorded as (
            insert into public.sync_conflicts as open (account_id, entity_type, entity_id, keap_id, conflict_fields, base_data,
                keap_data, supabase_data, keap_changed_at, supabase_changed_at, resolution_strategy)
            select $1, %1$L, conflict.id, conflict.keap_id, array[conflict.path], jsonb_build_object(conflict.path, conflict.base),
                jsonb_build_object(conflict.path, conflict.keap), jsonb_build_object(conflict.path, conflict.supabase),
                conflict.keap_changed_at, conflict.changed_at, conflict.policy
            from conflict
            order by conflict.id, conflict.line
            on conflict (account_id, entity_type, entity_id, conflict_fields) where resolved_at is null do update
            set keap_data = excluded.keap_data, supabase_data = excluded.supabase_data,
                keap_changed_at = excluded.keap_changed_at, supabase_changed_at = excluded.supabase_changed_at, updated_at = now()
            where (open.keap_data, open.supabase_data) is distinct from (excluded.keap_data, excluded.supabase_data)
            returning open.id, open.entity_id, open.conflict_fields[1] as path
        ), summed as materialized (
            select conflict.id, array_agg(conflict.path order by conflict.line) as paths,
                'conflict: decide about ' || string_agg(conflict.path, ', ' order by conflict.line) as reason,
                (array_agg(coalesce(recorded.id, open.id) order by conflict.line))[1] as first_id, min(conflict.keap_id) as keap_id
            from conflict
            left join recorded on recorded.entity_id = conflict.id and recorded.path = conflict.path
            left join lateral (
                select known.id from public.sync_conflicts known
                where known.entity_id = conflict.id and known.entity_type = %1$L and known.resolved_at is null
                    and known.conflict_fields = array[conflict.path]
            ) as open on true
            group by conflict.id
        ), shown as (
            update %3$s mirrored
            set sync_status = 'conflict', sync_error = summed.reason
            from summed
            where mirrored.id = summed.id and (mirrored.sync_status, mirrored.sync_error) is distinct from ('conflict', summed.reason)
        ), marked as (
            insert into public.sync_status as status (account_id, entity_type, entity_id, keap_id, conflict_status, last_sync_status,
                last_sync_error)
            select $1, %1$L, summed.id, summed.keap_id, 'pending', 'conflict', summed.reason from summed
            on conflict (account_id, entity_type, entity_id) do update
            set conflict_status = 'pending', last_sync_status = 'conflict', last_sync_error = excluded.last_sync_error, updated_at = now()
            where (status.conflict_status, status.last_sync_error) is distinct from ('pending', excluded.last_sync_error)
        )
        select known.id, summed.first_id, summed.paths
        from known
        left join summed on summed.id = known.id
        order by known.id
    $statement$, entity, public.keapsync_record_sql(entity, 'mirrored'), mirrored)
    using account, records, policies;
end
$$;
comment on function public.detect_sync_conflicts(text, text, jsonb[]) is
    'Compares many records with the base and Keap''s values in one statement, records what is in conflict, and answers per row the first conflict and all fields; null where there is none.';

create function public.detect_sync_conflict(account text, entity_type text, entity_id uuid, keap_data jsonb,
        supabase_data jsonb default null) returns uuid
    language plpgsql
    set search_path = ''
as $$
declare
    wanted constant uuid := entity_id;
    conflict uuid;
begin
    select found.conflict_id into conflict
    from public.detect_sync_conflicts(account, entity_type, array[jsonb_build_object('entity_id', wanted, 'keap_data', keap_data,
        'supabase_data', supabase_data)]) as found;
    if not found then
        raise exception 'account % has no % %', account, entity_type, wanted
            using errcode = 'no_data_found', hint = 'Check entity_id: it is the id of a row of the account.';
    end if;
    return conflict;
end
$$;
comment on function public.detect_sync_conflict(text, text, uuid, jsonb, jsonb) is
    'Compares a row (or the values given for it) and Keap''s record with what both sides last agreed on. Records a conflict and answers its id; null when there is none.';

-- For the sync alone: another role's write of sync_status would count as an edit of the row.
select public.keapsync_protect_function('public.detect_sync_conflicts(text, text, jsonb[])');
select public.keapsync_protect_function('public.detect_sync_conflict(text, text, uuid, jsonb, jsonb)');
grant execute on function public.detect_sync_conflicts(text, text, jsonb[]) to keapsync_engine;
grant execute on function public.detect_sync_conflict(text, text, uuid, jsonb, jsonb) to keapsync_engine;
