-- A person's decision about conflicts: applied to the row, to what both sides agreed on and to the outbox in one transaction, audited,
-- and never twice.
--
-- After a resolution Keap's recorded value is the base of the field. Whatever the row then has that differs from it is a change on
-- one side, which the next drain carries to Keap; the row's other fields, and their bases, stay as they are.
--
-- A row that was edited after the conflict was recorded keeps that edit, whatever the strategy: the decision is about the two values
-- the conflict shows, and the edit is a change on top of them. It goes to Keap as any edit does, and the answer says so. If Keap
-- changed since, the next sync compares its value with the new base, as after any agreement.
--
-- To undo a resolution: the audit entry keeps the row's old values (old_data) and the values that lost (new_data); written back into
-- the row, they are an edit like any other.

create function public.keapsync_part_form(kind text, slot_kind text, part text, value jsonb) returns jsonb
    language plpgsql
    immutable parallel safe
    set search_path = ''
as $$
begin
    if part is null then
        return public.keapsync_canonical(kind, slot_kind, value);
    elsif kind = 'map' then
        return public.keapsync_canonical_entry(value);
    end if;
    return public.keapsync_canonical_slot(slot_kind, value);
end
$$;
comment on function public.keapsync_part_form(text, text, text, jsonb) is
    'The canonical form of a field''s value, or of one part (slot, key) of it.';

create function public.keapsync_combine(kind text, slot_kind text, part text, base jsonb, keap jsonb, supabase jsonb) returns jsonb
    language plpgsql
    immutable parallel safe
    set search_path = ''
as $$
declare
    outcome jsonb;
begin
    if part is null and kind in ('set', 'slots', 'map') then
        outcome := coalesce(public.keapsync_merge_field(kind, slot_kind, kind, null, base, keap, supabase, 'manual', null), '{}');
        return case when outcome ? 'conflicts' then null else coalesce(outcome -> 'row', supabase) end;
    end if;
    if jsonb_typeof(keap) = 'array' and jsonb_typeof(supabase) = 'array' then
        -- What both have, and what one of them added.
        return (
            select coalesce(jsonb_agg(element.value order by element.line), '[]')
            from (
                select item.value, min(item.line) as line
                from jsonb_array_elements(keap || supabase) with ordinality as item (value, line)
                where (keap @> jsonb_build_array(item.value) and supabase @> jsonb_build_array(item.value))
                    or not coalesce(base, '[]') @> jsonb_build_array(item.value)
                group by item.value
            ) as element
        );
    end if;
    if jsonb_typeof(keap) = 'object' and jsonb_typeof(supabase) = 'object' then
        -- Property by property; one that both sides changed to different values cannot be put together.
        return (
            select case when not bool_or(property.side = 'both') or count(*) = 0 then coalesce(jsonb_object_agg(property.key,
                case property.side when 'keap' then keap -> property.key else supabase -> property.key end)
                filter (where case property.side when 'keap' then keap else supabase end ? property.key), '{}') end
            from (
                select forms.key, case
                    when forms.keap is not distinct from forms.supabase or forms.keap is not distinct from forms.base then 'supabase'
                    when forms.supabase is not distinct from forms.base then 'keap'
                    else 'both'
                end as side
                from (
                    select named.key, public.keapsync_canonical_entry(base -> named.key) as base,
                        public.keapsync_canonical_entry(keap -> named.key) as keap,
                        public.keapsync_canonical_entry(supabase -> named.key) as supabase
                    from (select jsonb_object_keys(keap) as key union select jsonb_object_keys(supabase)) as named
                ) as forms
            ) as property
        );
    end if;
    return null;
end
$$;
comment on function public.keapsync_combine(text, text, text, jsonb, jsonb, jsonb) is
    'Both sides'' changes of a set, list or object together; null where they cannot be put together.';

-- What a resolution does to each record: an array of objects, and in each of its decisions a problem where it cannot be done.
create function public.keapsync_plan_resolution(entity_type text, conflict_ids uuid[], strategy text, given jsonb) returns jsonb
    language plpgsql
    set search_path = ''
as $$
declare
    entity constant text := entity_type;
    plan jsonb;
begin
    execute format($statement$
        with item as materialized (
            select conflict.id as conflict_id, conflict.entity_id, path.path, path.line, split_part(path.path, '.', 1) as field,
                case when strpos(path.path, '.') > 0 then substr(path.path, strpos(path.path, '.') + 1) end as part,
                conflict.base_data -> path.path as base, conflict.keap_data -> path.path as keap,
                conflict.supabase_data -> path.path as supabase
            from public.sync_conflicts conflict
            cross join unnest(conflict.conflict_fields) with ordinality as path (path, line)
            where conflict.id = any ($1) and conflict.entity_type = %1$L
        ), record as materialized (
            select mirrored.id, mirrored.account_id, mirrored.keap_id, mirrored.edited_at, mirrored.deleted_at, %2$s as record,
                coalesce(status.base, '{}') as delta, coalesce(status.has_base, false) as has_base
            from %3$s mirrored
            left join public.sync_status status
                on status.entity_id = mirrored.id and status.entity_type = %1$L and status.account_id = mirrored.account_id
            where mirrored.id in (select item.entity_id from item)
        ), present as materialized (
            select item.*, schema.kind, schema.slot_kind, schema.position,
                case when item.part is null then record.record -> item.field
                    else public.keapsync_parts(schema.kind, schema.slot_kind, record.record -> item.field) -> item.part end as present,
                -- Of a row that Keap deleted, the conflict shows the values that were edited here.
                item.field = 'deleted_at' and jsonb_typeof(item.supabase) = 'object' and not record.record @> item.supabase as edited_since
            from item
            join record on record.id = item.entity_id
            left join public.keapsync_fields() as schema on schema.entity_type = %1$L and schema.field = item.field
        ), compared as materialized (
            select present.*, public.keapsync_part_form(present.kind, present.slot_kind, present.part, present.present)
                is distinct from public.keapsync_part_form(present.kind, present.slot_kind, present.part, present.supabase) as later_edit
            from present
            where present.kind is not null
        ), chosen as materialized (
            select compared.*, coalesce(case
                when compared.later_edit or $2 = 'supabase_wins' then compared.present
                when $2 = 'keap_wins' then compared.keap
                when $3 ? compared.path then $3 -> compared.path
                when $2 = 'merge' then public.keapsync_combine(compared.kind, compared.slot_kind, compared.part, compared.base,
                    compared.keap, compared.supabase)
            end, 'null') as value,
            case
                when compared.later_edit or $2 not in ('manual', 'merge') or $3 ? compared.path then null
                when $2 = 'manual' then format('no value is given for %%s', compared.path)
                when public.keapsync_combine(compared.kind, compared.slot_kind, compared.part, compared.base, compared.keap,
                    compared.supabase) is null then format('both values of %%s cannot be combined', compared.path)
            end as problem
            from compared
        ), field as (
            select chosen.entity_id, chosen.field,
                case when bool_or(chosen.part is null) then (array_agg(chosen.value))[1]
                    else public.keapsync_assemble(min(chosen.kind), min(chosen.slot_kind),
                        public.keapsync_parts(min(chosen.kind), min(chosen.slot_kind), record.record -> chosen.field),
                        jsonb_object_agg(coalesce(chosen.part, ''), chosen.value)) end as value,
                case when bool_or(chosen.part is null) then (array_agg(coalesce(chosen.keap, 'null')))[1]
                    else public.keapsync_assemble(min(chosen.kind), min(chosen.slot_kind),
                        public.keapsync_parts(min(chosen.kind), min(chosen.slot_kind),
                            coalesce(record.delta -> chosen.field, record.record -> chosen.field)),
                        jsonb_object_agg(coalesce(chosen.part, ''), coalesce(chosen.keap, 'null'))) end as base
            from chosen
            join record on record.id = chosen.entity_id
            where chosen.problem is null
            group by chosen.entity_id, chosen.field, record.record, record.delta
        ), summed as (
            select field.entity_id, jsonb_object_agg(field.field, field.value) as after, jsonb_object_agg(field.field, field.base) as base
            from field
            group by field.entity_id
        ), decision as (
            select chosen.entity_id, jsonb_agg(jsonb_build_object('conflict_id', chosen.conflict_id, 'field', chosen.path,
                'value', chosen.value, 'kept_later_edit', chosen.later_edit, 'problem', chosen.problem,
                'winner', case
                    when chosen.later_edit then 'supabase'
                    when public.keapsync_part_form(chosen.kind, chosen.slot_kind, chosen.part, chosen.value)
                        is not distinct from public.keapsync_part_form(chosen.kind, chosen.slot_kind, chosen.part, chosen.keap) then 'keap'
                    when public.keapsync_part_form(chosen.kind, chosen.slot_kind, chosen.part, chosen.value)
                        is not distinct from public.keapsync_part_form(chosen.kind, chosen.slot_kind, chosen.part, chosen.supabase)
                        then 'supabase'
                    else 'merged'
                end,
                'lost', case when chosen.value is distinct from coalesce(chosen.keap, 'null')
                        then jsonb_build_object('keap', chosen.keap) else '{}' end
                    || case when chosen.value is distinct from coalesce(chosen.supabase, 'null')
                        then jsonb_build_object('supabase', chosen.supabase) else '{}' end)
                order by chosen.position, chosen.path) as decisions
            from chosen
            group by chosen.entity_id
        ), deletion as (
            select present.entity_id, jsonb_build_array(jsonb_build_object('conflict_id', present.conflict_id, 'field', present.path,
                'value', case $2 when 'keap_wins' then to_jsonb(now()) else 'null' end, 'kept_later_edit', false,
                'winner', case $2 when 'keap_wins' then 'keap' else 'supabase' end,
                'lost', case $2 when 'keap_wins' then jsonb_build_object('supabase', present.supabase)
                    else jsonb_build_object('keap', present.keap) end,
                'problem', case
                    when $2 not in ('keap_wins', 'supabase_wins') then 'a record deleted in Keap is either deleted here or made again there'
                    when $2 = 'keap_wins' and present.edited_since then 'the row was edited after the conflict was recorded'
                end)) as decisions
            from present
            where present.field = 'deleted_at'
        ), unknown as (
            select item.entity_id, jsonb_build_array(jsonb_build_object('conflict_id', item.conflict_id, 'field', item.path,
                'problem', 'its row or its field is not there any more')) as decisions
            from item
            left join present on present.conflict_id = item.conflict_id and present.path = item.path
            where present.conflict_id is null or present.kind is null and present.field <> 'deleted_at'
        )
        select jsonb_agg(jsonb_build_object('id', record.id, 'account_id', record.account_id, 'keap_id', record.keap_id,
                'record', record.record, 'edited_at', record.edited_at, 'deleted_at', record.deleted_at, 'fields', coalesce(summed.after, '{}'),
                'base', record.record || (record.delta - 'deleted_at')
                    || case when record.has_base then '{}' else public.keapsync_never_agreed(%1$L) end || coalesce(summed.base, '{}'),
                'deletes', deletion.decisions is not null and $2 = 'keap_wins', 'makes_again', deletion.decisions is not null and $2 <> 'keap_wins',
                'deleted_here', record.delta ? 'deleted_at',
                'decisions', coalesce(decision.decisions, '[]') || coalesce(deletion.decisions, '[]'))
                order by record.id)
            || coalesce((select jsonb_agg(jsonb_build_object('id', unknown.entity_id, 'decisions', unknown.decisions)) from unknown), '[]')
        from record
        left join summed on summed.entity_id = record.id
        left join decision on decision.entity_id = record.id
        left join deletion on deletion.entity_id = record.id
    $statement$, entity, public.keapsync_record_sql(entity, 'mirrored'), public.keapsync_table(entity))
    into plan
    using conflict_ids, strategy, coalesce(given, '{}');
    return coalesce(plan, '[]');
end
$$;
comment on function public.keapsync_plan_resolution(text, uuid[], text, jsonb) is
    'What settling conflicts of one kind of record by a strategy does to each record; rows are locked by the caller.';

-- Does what was planned for the records of one kind, and answers what was done, one object per decision.
create function public.keapsync_apply_resolution(entity_type text, strategy text, plan jsonb, notes text) returns jsonb
    language plpgsql
    set search_path = ''
as $$
#variable_conflict use_column
declare
    entity constant text := entity_type;
    mirrored constant regclass := public.keapsync_table(entity_type);
    person constant uuid := public.keapsync_request_user();
    ids constant uuid[] := array(select (record ->> 'id')::uuid from jsonb_array_elements(plan) as record);
    conflict_ids constant uuid[] := array(
        select (decision ->> 'conflict_id')::uuid
        from jsonb_array_elements(plan) as record, jsonb_array_elements(record -> 'decisions') as decision);
    last_sequence bigint;
    assignments text;
    done jsonb;
begin
    select string_agg(format('%I = typed.%1$I', schema.field), ', ' order by schema.position) into assignments
    from public.keapsync_fields() as schema where schema.entity_type = entity;

    -- Numbers of queue items are drawn under the row's lock: greater ones are captured by the statements below.
    select coalesce(max(item.sequence), 0) into last_sequence
    from public.sync_queue item
    where item.entity_type = entity and item.entity_id = any (ids) and item.status in ('pending', 'processing');

    -- What each record is to be, what is owed to Keap, and how that shows.
    select coalesce(jsonb_agg(record || jsonb_build_object('after', record -> 'record' || (record -> 'fields'), 'delta', found.delta,
        'owed', found.owed, 'open', found.open, 'old', found.old,
        'state', case when (record ->> 'deletes')::boolean then 'completed' when found.open is not null then 'conflict'
            when (record ->> 'makes_again')::boolean or found.delta <> '{}' then 'pending' else 'completed' end)), '[]')
    into done
    from jsonb_array_elements(plan) as record
    cross join lateral (
        select public.keapsync_base_delta(entity, record -> 'base', record -> 'record' || (record -> 'fields'))
            || case when (record ->> 'deleted_here')::boolean then '{"deleted_at": null}'::jsonb else '{}' end as delta
    ) as base
    cross join lateral (
        select case when (record ->> 'deletes')::boolean or (record ->> 'makes_again')::boolean then '{}'::jsonb else base.delta end as delta,
            array(select jsonb_object_keys(base.delta) intersect select jsonb_object_keys(record -> 'fields')) as owed,
            (select string_agg(other.conflict_fields[1], ', ' order by other.conflict_fields[1])
             from public.sync_conflicts other
             where other.entity_type = entity and other.entity_id = (record ->> 'id')::uuid and other.resolved_at is null
                 and other.id <> all (conflict_ids)) as open,
            coalesce((select jsonb_object_agg(changed.key, record -> 'record' -> changed.key)
                from jsonb_each(record -> 'fields') as changed where changed.value <> record -> 'record' -> changed.key), '{}')
            || case when (record ->> 'deletes')::boolean or (record ->> 'makes_again')::boolean
                then jsonb_build_object('deleted_at', record -> 'deleted_at') else '{}' end as old
    ) as found;

    execute format($statement$
        update %1$s mirrored
        set %2$s,
            deleted_at = case when (planned.record ->> 'deletes')::boolean then coalesce(mirrored.deleted_at, now())
                when (planned.record ->> 'makes_again')::boolean then null else mirrored.deleted_at end
        from jsonb_array_elements($1) as planned (record)
        cross join lateral jsonb_populate_record(null::%1$s, planned.record -> 'after') as typed
        where mirrored.id = (planned.record ->> 'id')::uuid
            and (planned.record -> 'after' <> planned.record -> 'record' or (planned.record ->> 'deletes')::boolean
                or (planned.record ->> 'makes_again')::boolean)
    $statement$, mirrored, assignments) using done;
    execute format($statement$
        update %1$s mirrored
        set sync_status = planned.record ->> 'state', sync_error = 'conflict: decide about ' || (planned.record ->> 'open'),
            keap_id = case when (planned.record ->> 'makes_again')::boolean then null else mirrored.keap_id end,
            -- A value that Keap is to take is the person's edit, of now; Keap's own is none.
            edited_at = case
                when (planned.record ->> 'makes_again')::boolean
                    or planned.record -> 'owed' <> '[]' and planned.record -> 'after' <> planned.record -> 'record' then now()
                else (planned.record ->> 'edited_at')::timestamptz
            end
        from jsonb_array_elements($1) as planned (record)
        where mirrored.id = (planned.record ->> 'id')::uuid
    $statement$, mirrored) using done;

    insert into public.sync_status as status (account_id, entity_type, entity_id, keap_id, has_base, base, last_sync_status, conflict_status)
    select record ->> 'account_id', entity, (record ->> 'id')::uuid,
        case when not (record ->> 'makes_again')::boolean then record ->> 'keap_id' end, not (record ->> 'makes_again')::boolean,
        nullif(record -> 'delta', '{}'), record ->> 'state', case when record ->> 'open' is null then 'resolved' else 'pending' end
    from jsonb_array_elements(done) as record
    on conflict (account_id, entity_type, entity_id) do update
    -- The base moved without Keap's whole record: hashes of it say nothing any more.
    set keap_id = excluded.keap_id, has_base = excluded.has_base, base = excluded.base, base_hash = null, keap_hash = null,
        last_sync_status = excluded.last_sync_status, last_sync_error = null, conflict_status = excluded.conflict_status,
        retry_count = 0, next_retry_at = null, updated_at = now();

    -- What a person's session captured above: the decision goes before ordinary edits, and what Keap has already goes nowhere.
    update public.sync_queue item
    set priority = 2, updated_at = now(),
        status = case when planned.owes then item.status else 'completed' end,
        completed_at = case when not planned.owes then now() end
    from (
        select (record ->> 'id')::uuid as id, record -> 'owed' <> '[]' as owes from jsonb_array_elements(done) as record
    ) as planned
    where item.entity_type = entity and item.entity_id = planned.id and item.sequence > last_sequence and item.status = 'pending';
    insert into public.sync_queue (account_id, operation, entity_type, entity_id, keap_id, priority, payload)
    select record ->> 'account_id', case when (record ->> 'makes_again')::boolean then 'create' else 'update' end, entity,
        (record ->> 'id')::uuid, case when not (record ->> 'makes_again')::boolean then record ->> 'keap_id' end, 2,
        jsonb_build_object('old', coalesce(values_of.old, '{}'), 'new', coalesce(values_of.new, '{}'))
    from jsonb_array_elements(done) as record
    left join lateral (
        select jsonb_object_agg(owed.field, record -> 'base' -> owed.field) as old,
            jsonb_object_agg(owed.field, record -> 'after' -> owed.field) as new
        from jsonb_array_elements_text(record -> 'owed') as owed (field)
    ) as values_of on true
    where ((record ->> 'makes_again')::boolean or record -> 'owed' <> '[]') and not exists (
        select from public.sync_queue item
        where item.entity_type = entity and item.entity_id = (record ->> 'id')::uuid and item.status = 'pending'
            and item.sequence > last_sequence);

    insert into public.sync_audit_log (account_id, entity_type, entity_id, keap_id, operation, old_data, new_data, changed_fields,
        sync_source, sync_destination, user_id)
    select record ->> 'account_id', entity, (record ->> 'id')::uuid, record ->> 'keap_id', 'resolve', nullif(record -> 'old', '{}'),
        (select jsonb_object_agg(decision ->> 'field', decision -> 'lost') from jsonb_array_elements(record -> 'decisions') as decision),
        case when record -> 'old' <> '{}' then array(select jsonb_object_keys(record -> 'old')) end, 'supabase',
        case when record -> 'owed' <> '[]' or (record ->> 'makes_again')::boolean then 'keap' else 'supabase' end, person
    from jsonb_array_elements(done) as record;

    update public.sync_conflicts conflict
    set resolution_strategy = strategy, winner = settled.winner, resolved_at = now(), resolved_by = person,
        resolution_notes = coalesce(notes, conflict.resolution_notes), updated_at = now()
    from (
        select (decision ->> 'conflict_id')::uuid as id, min(decision ->> 'winner') as winner
        from jsonb_array_elements(done) as record, jsonb_array_elements(record -> 'decisions') as decision
        group by 1
    ) as settled
    where conflict.id = settled.id;

    return (
        select jsonb_agg(jsonb_build_object('conflict_id', decision -> 'conflict_id', 'entity_type', entity, 'entity_id', record -> 'id',
            'field', decision -> 'field', 'strategy', strategy, 'winner', decision -> 'winner', 'value', decision -> 'value',
            'kept_later_edit', decision -> 'kept_later_edit',
            'owed_to_keap', record -> 'owed' ? split_part(decision ->> 'field', '.', 1) or (record ->> 'makes_again')::boolean,
            'sync_status', record -> 'state'))
        from jsonb_array_elements(done) as record, jsonb_array_elements(record -> 'decisions') as decision
    );
end
$$;
comment on function public.keapsync_apply_resolution(text, text, jsonb, text) is
    'Writes planned resolutions: rows, bases, outbox, audit, conflicts.';

-- What people typed, checked as the values that Keap sends are: nothing is bound to a column that could not hold it, and the answer
-- says which field is to be corrected.
create function public.keapsync_field_problems(entity_type text, records jsonb[]) returns table (line bigint, problem text)
    language plpgsql
    immutable
    set search_path = ''
    set jit = off
as $$
declare
    entity constant text := entity_type;
begin
    return query
    with input as materialized (
        select given.line, given.record from unnest(records) with ordinality as given (record, line)
    ), schema as materialized (
        select known.* from public.keapsync_fields() as known where known.entity_type = entity
    ), cell as materialized (
        select input.line, schema.position, schema.field, schema.kind, schema.slot_kind, entry.value, jsonb_typeof(entry.value) as type,
            entry.value #>> '{}' as content,
            case when schema.kind in ('date', 'instant', 'integer', 'money') then public.keapsync_trim(entry.value #>> '{}') end as trimmed
        from input
        cross join lateral jsonb_each(input.record) as entry
        join schema on schema.field = entry.key
        where entry.value <> 'null'
    ), checked as materialized (
        select cell.line, cell.position, cell.field,
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
    )
    select checked.line,
        (array_agg(checked.field || ' ' || checked.problem order by checked.position))[1]
    from checked
    where checked.problem is not null
    group by checked.line
    order by checked.line;
end
$$;
comment on function public.keapsync_field_problems(text, jsonb[]) is
    'What is wrong with values of records, keyed by field, as the first field of each record that a column could not hold.';

create function public.resolve_sync_conflicts(conflict_ids uuid[], strategy text, "values" jsonb default null, notes text default null)
    returns jsonb
    language plpgsql
    security definer
    set search_path = ''
    set jit = off
as $$
declare
    -- What one call takes: a screen of decisions, many times over.
    conflicts_max constant integer := 1000;
    caller constant text := public.keapsync_caller();
    wanted constant uuid[] := array(select distinct id from unnest(conflict_ids) as id where id is not null order by id);
    accounts text[];
    entities text[];
    entity text;
    plan jsonb;
    checked record;
    problem record;
    done jsonb := '[]';
begin
    if strategy is null or strategy not in ('keap_wins', 'supabase_wins', 'merge', 'manual') then
        raise exception 'there is no strategy called %', coalesce(strategy, 'null')
            using errcode = 'invalid_parameter_value', hint = 'Use keap_wins, supabase_wins, merge or manual.';
    end if;
    if strategy = 'manual' and jsonb_typeof("values") is distinct from 'object' then
        raise exception 'a manual decision needs values'
            using errcode = 'invalid_parameter_value',
                  hint = 'Give an object keyed by the conflict''s field: {"email": "ann@example.com"} or {"addresses.BILLING": {…}}.';
    end if;
    if "values" is not null and (jsonb_typeof("values") <> 'object' or strategy not in ('manual', 'merge')) then
        raise exception 'values are for the strategies manual and merge, as an object keyed by field'
            using errcode = 'invalid_parameter_value', hint = 'Leave values out, or decide by manual.';
    end if;
    if cardinality(wanted) not between 1 and conflicts_max then
        raise exception '% conflicts in one call', cardinality(wanted)
            using errcode = 'invalid_parameter_value', hint = format('Name 1 to %s conflicts.', conflicts_max);
    end if;

    -- The sync, Supabase's service role and the owner may settle any; a user those of accounts in which they are operator.
    if caller not in ('keapsync_engine', 'service_role') and caller <> current_user
        and not exists (select from pg_catalog.pg_roles role where role.rolname = caller and role.rolsuper) then
        accounts := public.keapsync_member_accounts('operator');
    end if;
    select wish.id into checked
    from unnest(wanted) as wish (id)
    where not exists (
        select from public.sync_conflicts conflict
        where conflict.id = wish.id and (accounts is null or conflict.account_id = any (accounts)));
    if found then
        raise exception 'there is no conflict % that you may settle', checked.id
            using errcode = 'no_data_found', hint = 'Check the id, and that you are operator or admin of its account.';
    end if;

    -- Rows first and in order of id, as every writer does. Whoever comes second waits here, and then finds the conflict settled.
    entities := array(select distinct conflict.entity_type from public.sync_conflicts conflict where conflict.id = any (wanted) order by 1);
    foreach entity in array entities loop
        execute format('select from %s mirrored where mirrored.id = any ($1) order by mirrored.id for no key update', public.keapsync_table(entity))
            using array(select conflict.entity_id from public.sync_conflicts conflict where conflict.id = any (wanted) and conflict.entity_type = entity);
    end loop;
    perform from public.sync_conflicts conflict where conflict.id = any (wanted) order by conflict.id for update;
    select conflict.* into checked from public.sync_conflicts conflict
    where conflict.id = any (wanted) and conflict.resolved_at is not null
    order by conflict.id limit 1;
    if found then
        raise exception 'conflict % is settled already: % by %', checked.id, coalesce(checked.winner, checked.resolution_strategy),
            coalesce('user ' || checked.resolved_by, 'the sync')
            using errcode = 'object_not_in_prerequisite_state', hint = 'Read the record as it is now; to change it, edit it.';
    end if;

    foreach entity in array entities loop
        plan := public.keapsync_plan_resolution(entity,
            array(select conflict.id from public.sync_conflicts conflict where conflict.id = any (wanted) and conflict.entity_type = entity),
            strategy, "values");
        select decision ->> 'field' as field, decision ->> 'problem' as what, decision ->> 'conflict_id' as id
        into problem
        from jsonb_array_elements(plan) as record, jsonb_array_elements(record -> 'decisions') as decision
        where decision ->> 'problem' is not null
        limit 1;
        if found then
            raise exception 'conflict % is not settled: %', problem.id, problem.what
                using errcode = 'invalid_parameter_value',
                      hint = format('Choose keap_wins or supabase_wins, or give a value for %s.', problem.field);
        end if;
        -- What people typed is checked as Keap's values are.
        if strategy in ('manual', 'merge') then
            select checked_record.problem as what into problem
            from public.keapsync_field_problems(entity, array(
                select record -> 'fields' from jsonb_array_elements(plan) as record)) as checked_record
            limit 1;
            if found then
                raise exception 'the decision cannot be stored: %', problem.what
                    using errcode = 'invalid_parameter_value', hint = 'Give a value of the column''s type.';
            end if;
        end if;
        -- On for this one call; an error takes it back with everything else.
        perform set_config('keapsync.resolving', 'on', true);
        done := done || public.keapsync_apply_resolution(entity, strategy, plan, notes);
        perform set_config('keapsync.resolving', '', true);
    end loop;
    return done;
end
$$;
comment on function public.resolve_sync_conflicts(uuid[], text, jsonb, text) is
    'Settles conflicts for good: keap_wins, supabase_wins, merge (sets, lists and objects of both sides together), manual (values keyed by field). All of them or none; answers what was done, one object per field. For operators and admins of the account.';

create function public.resolve_sync_conflict(conflict_id uuid, strategy text, "values" jsonb default null, notes text default null)
    returns jsonb
    language plpgsql
    set search_path = ''
as $$
begin
    return public.resolve_sync_conflicts(array[conflict_id], strategy, "values", notes) -> 0;
end
$$;
comment on function public.resolve_sync_conflict(uuid, text, jsonb, text) is
    'Settles one conflict for good, as resolve_sync_conflicts does, and answers what was done.';

do $$
declare
    signature text;
    role_name text;
begin
    foreach signature in array array[
        'keapsync_part_form(text, text, text, jsonb)', 'keapsync_combine(text, text, text, jsonb, jsonb, jsonb)',
        'keapsync_plan_resolution(text, uuid[], text, jsonb)', 'keapsync_apply_resolution(text, text, jsonb, text)',
        'keapsync_field_problems(text, jsonb[])',
        'resolve_sync_conflicts(uuid[], text, jsonb, text)', 'resolve_sync_conflict(uuid, text, jsonb, text)']
    loop
        perform public.keapsync_protect_function(('public.' || signature)::regprocedure);
    end loop;
    for role_name in
        select rolname from pg_catalog.pg_roles where rolname in ('keapsync_engine', 'service_role', 'authenticated')
    loop
        execute format('grant execute on function public.resolve_sync_conflicts(uuid[], text, jsonb, text) to %I', role_name);
        execute format('grant execute on function public.resolve_sync_conflict(uuid, text, jsonb, text) to %I', role_name);
    end loop;
end
$$;

comment on column public.sync_audit_log.operation is 'create, update, delete, undelete, conflict, resolve.';
comment on column public.sync_audit_log.new_data is 'Values that were overridden and are kept nowhere else, keyed by field, in a resolution by field and side; mostly null.';
comment on column public.sync_conflicts.winner is 'Whose value stands: keap, supabase, merged (neither''s as it was); null while open.';
comment on column public.sync_conflicts.resolution_strategy is 'Policy that applied, or that will: newest_wins, keap_wins, supabase_wins, manual; once a person decided, their strategy: keap_wins, supabase_wins, merge, manual.';
