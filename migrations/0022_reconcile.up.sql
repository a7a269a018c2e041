-- The three-way merge in SQL, field by field and for many records in one statement. It decides as the program's merge does; both run
-- the same table of cases.
--
-- | field changed since the base | result |
-- |---|---|
-- | on neither side | nothing |
-- | on one side only | that value goes to the other side |
-- | on both, to the same value | the base moves, nothing is written |
-- | on both, to different values | a conflict, settled by the field's policy |

create function public.keapsync_policy(policies jsonb, entity_type text, field text) returns text
    language plpgsql
    immutable parallel safe
    set search_path = ''
as $$
begin
    return coalesce(policies -> 'overrides' ->> (entity_type || '.' || field), policies -> 'overrides' ->> entity_type,
        policies ->> 'default', 'newest_wins');
end
$$;
comment on function public.keapsync_policy(jsonb, text, text) is
    'The policy of one field: its own, else its entity''s, else the account''s.';

create function public.keapsync_winner(policy text, keap_changed_at timestamptz, supabase_changed_at timestamptz) returns text
    language plpgsql
    immutable parallel safe
    set search_path = ''
as $$
begin
    case policy
        when 'keap_wins' then return 'keap';
        when 'supabase_wins' then return 'supabase';
        when 'manual' then return null;
        when 'newest_wins' then
            -- Keap tells milliseconds, so no more of the row's time counts; a tie goes to Keap.
            return case
                when (extract(epoch from supabase_changed_at) * 1000)::bigint
                    > coalesce((extract(epoch from keap_changed_at) * 1000)::bigint, -9223372036854775808) then 'supabase'
                else 'keap'
            end;
        else
            raise exception 'there is no policy called %', policy
                using errcode = 'invalid_parameter_value', hint = 'Use newest_wins, keap_wins, supabase_wins or manual.';
    end case;
end
$$;
comment on function public.keapsync_winner(text, timestamptz, timestamptz) is
    'Whose value a conflict ends with: keap, supabase, or null while a person has to decide.';

-- What Keap alone says of a slot, and a reason for consent that is left out (Keap never forgets one), is no edit. Of a name and the
-- code that it follows from, the code counts, and the name where somebody edited it or it stands alone. Where it is asked whether Keap
-- holds what the edit asks for (answers), the code that Keap finds for a name that was written without one is its answer.
create function public.keapsync_edit_form(slot_kind text, form jsonb, edited jsonb, base jsonb, answers boolean)
    returns jsonb
    language plpgsql
    immutable parallel safe
    set search_path = ''
as $$
begin
    if form is null then
        return null;
    end if;
    case slot_kind
        when 'email' then return nullif(jsonb_strip_nulls(jsonb_build_object('email', form -> 'email',
            'opt_in_reason', case when edited ? 'opt_in_reason' then form -> 'opt_in_reason' end)), '{}');
        when 'phone' then return nullif(jsonb_strip_nulls(jsonb_build_object('number', form -> 'number',
            'extension', form -> 'extension', 'type', form -> 'type')), '{}');
        when 'address' then return (
            select nullif(form - coalesce(array_agg(passed.property), '{}'), '{}')
            from (
                select named.name as property, named.code
                from (values ('region', 'region_code'), ('country', 'country_code'), ('zip_code', 'postal_code'),
                    ('zip_four', 'postal_code')) as named (name, code)
                where edited ? named.code and form ? named.code
                    and not (edited ? named.name and edited -> named.name is distinct from base -> named.name)
                union all
                select named.code, named.code
                from (values ('region', 'region_code'), ('country', 'country_code'), ('zip_code', 'postal_code'),
                    ('zip_four', 'postal_code')) as named (name, code)
                where answers and edited ? named.name and not edited ? named.code
            ) as passed
        );
        else return form;
    end case;
end
$$;
comment on function public.keapsync_edit_form(text, jsonb, jsonb, jsonb, boolean) is
    'What an edit can bring about of a part''s canonical form, where the part has the form edited as people left it and base as they found it; with answers, less what Keap finds for it.';

-- The outcome of one field whose two sides differ as they are written. Keys: row and keap (the value that side is to take), base
-- (the new base where it is not what Keap holds), conflicts, refused; a key is missing where nothing is to be done.
create function public.keapsync_merge_field(kind text, slot_kind text, field text, reason text, base jsonb, keap jsonb,
        supabase jsonb, policy text, winner text) returns jsonb
    language plpgsql
    immutable parallel safe
    set search_path = ''
as $$
declare
    keap_form constant jsonb := public.keapsync_canonical(kind, slot_kind, keap);
    supabase_form constant jsonb := public.keapsync_canonical(kind, slot_kind, supabase);
    outcome jsonb;
    base_form jsonb;
    keap_edit jsonb;
    supabase_edit jsonb;
    elements text[];
    base_elements text[];
    keap_elements text[];
    supabase_elements text[];
    base_parts jsonb;
    keap_parts jsonb;
    supabase_parts jsonb;
    to_row jsonb;
    to_keap jsonb;
    to_base jsonb;
    conflicts jsonb;
begin
    if keap_form is not distinct from supabase_form then
        return null;
    end if;
    base := coalesce(base, 'null');
    keap := coalesce(keap, 'null');
    supabase := coalesce(supabase, 'null');

    -- A field that Keap does not let us write always ends as Keap has it.
    if reason is not null then
        if public.keapsync_canonical(kind, slot_kind, base) is distinct from supabase_form then
            return jsonb_build_object('row', keap,
                'refused', jsonb_build_object('field', field, 'reason', reason, 'value', supabase));
        end if;
        return jsonb_build_object('row', keap);
    end if;

    if kind = 'set' then
        base_elements := public.keapsync_set_elements(base);
        keap_elements := public.keapsync_set_elements(keap);
        supabase_elements := public.keapsync_set_elements(supabase);
        -- In the result: what both sides have, and what exactly one side has because it added it.
        select coalesce(array_agg(distinct element order by element), '{}')
        into elements
        from (select unnest(keap_elements || supabase_elements) collate "C" as element) as found
        where (element = any (keap_elements) and element = any (supabase_elements)) or element <> all (base_elements);
        outcome := '{}';
        if elements <> supabase_elements then
            outcome := jsonb_build_object('row', elements);
        end if;
        if elements <> keap_elements then
            outcome := outcome || jsonb_build_object('keap', elements);
        end if;
        return outcome;
    end if;

    if kind not in ('slots', 'map') then
        base_form := public.keapsync_canonical(kind, slot_kind, base);
        keap_edit := keap_form;
        supabase_edit := supabase_form;
        if kind = 'address' then
            -- It holds what Keap alone says, as a slot does.
            keap_edit := public.keapsync_edit_form('address', keap_form, supabase_form, base_form, true);
            supabase_edit := public.keapsync_edit_form('address', supabase_form, supabase_form, base_form, true);
            if keap_edit is not distinct from supabase_edit then
                return jsonb_build_object('row', keap);
            end if;
            keap_edit := public.keapsync_edit_form('address', keap_form, supabase_form, base_form, false);
            supabase_edit := public.keapsync_edit_form('address', supabase_form, supabase_form, base_form, false);
            base_form := public.keapsync_edit_form('address', base_form, supabase_form, base_form, false);
        end if;
        if supabase_edit is not distinct from base_form then
            return jsonb_build_object('row', keap);
        end if;
        if keap_edit is not distinct from base_form then
            return jsonb_build_object('keap', supabase);
        end if;
        outcome := jsonb_build_object('conflicts', jsonb_build_array(jsonb_build_object('path', field, 'base', base,
            'keap', keap, 'supabase', supabase, 'policy', policy, 'winner', winner)));
        return outcome || case winner
            when 'keap' then jsonb_build_object('row', keap)
            when 'supabase' then jsonb_build_object('keap', supabase)
            else jsonb_build_object('base', base)
        end;
    end if;

    base_parts := public.keapsync_parts(kind, slot_kind, base);
    keap_parts := public.keapsync_parts(kind, slot_kind, keap);
    supabase_parts := public.keapsync_parts(kind, slot_kind, supabase);
    select
        jsonb_object_agg(decided.name, coalesce(decided.keap_part, 'null')) filter (where decided.side = 'keap'),
        jsonb_object_agg(decided.name, coalesce(decided.supabase_part, 'null')) filter (where decided.side = 'supabase'),
        jsonb_object_agg(decided.name, coalesce(decided.base_part, 'null')) filter (where decided.side is null),
        jsonb_agg(jsonb_build_object('path', field || '.' || decided.name, 'base', decided.base_part, 'keap', decided.keap_part,
            'supabase', decided.supabase_part, 'policy', policy, 'winner', winner)
            order by decided.name collate "C") filter (where decided.in_conflict)
    into to_row, to_keap, to_base, conflicts
    from (
        select compared.*,
            not edit.is_answered and edit.supabase is distinct from edit.base
                and edit.keap is distinct from edit.base as in_conflict,
            case
                -- Where the row differs by no edit, it is Keap's to say.
                when edit.is_answered or edit.supabase is not distinct from edit.base then 'keap'
                when edit.keap is not distinct from edit.base then 'supabase'
                else winner
            end as side
        from (
            select part.name, part.base_part, part.keap_part, part.supabase_part,
                case kind when 'map' then public.keapsync_canonical_entry(part.base_part)
                    else public.keapsync_canonical_slot(slot_kind, part.base_part) end as base_form,
                case kind when 'map' then public.keapsync_canonical_entry(part.keap_part)
                    else public.keapsync_canonical_slot(slot_kind, part.keap_part) end as keap_form,
                case kind when 'map' then public.keapsync_canonical_entry(part.supabase_part)
                    else public.keapsync_canonical_slot(slot_kind, part.supabase_part) end as supabase_form
            from (
                select named.name, base_parts -> named.name as base_part, keap_parts -> named.name as keap_part,
                    supabase_parts -> named.name as supabase_part
                from (
                    select jsonb_object_keys(keap_parts) as name union select jsonb_object_keys(supabase_parts)
                ) as named
            ) as part
            where part.keap_part is distinct from part.supabase_part
            -- Kept apart, as below: taken into the outer query, each form would be made again wherever it is named.
            offset 0
        ) as compared
        cross join lateral (
            select public.keapsync_edit_form(slot_kind, compared.keap_form, compared.supabase_form, compared.base_form, true)
                    is not distinct from public.keapsync_edit_form(slot_kind, compared.supabase_form, compared.supabase_form,
                        compared.base_form, true) as is_answered,
                public.keapsync_edit_form(slot_kind, compared.base_form, compared.supabase_form, compared.base_form, false) as base,
                public.keapsync_edit_form(slot_kind, compared.keap_form, compared.supabase_form, compared.base_form, false) as keap,
                public.keapsync_edit_form(slot_kind, compared.supabase_form, compared.supabase_form, compared.base_form, false) as supabase
            offset 0
        ) as edit
        where compared.keap_form is distinct from compared.supabase_form
    ) as decided;

    outcome := '{}';
    if to_row is not null then
        outcome := jsonb_build_object('row', public.keapsync_assemble(kind, slot_kind, supabase_parts, to_row));
    end if;
    if to_keap is not null then
        outcome := outcome || jsonb_build_object('keap', public.keapsync_assemble(kind, slot_kind, keap_parts, to_keap));
    end if;
    if to_base is not null then
        outcome := outcome || jsonb_build_object('base', public.keapsync_assemble(kind, slot_kind, keap_parts, to_base));
    end if;
    if conflicts is not null then
        outcome := outcome || jsonb_build_object('conflicts', conflicts);
    end if;
    return outcome;
end
$$;
comment on function public.keapsync_merge_field(text, text, text, text, jsonb, jsonb, jsonb, text, text) is
    'The three-way merge of one field whose two sides differ.';

-- Parts with some of them replaced, as the field's value: slots in the order of their names, without those that hold nothing.
create function public.keapsync_assemble(kind text, slot_kind text, parts jsonb, replaced jsonb) returns jsonb
    language plpgsql
    immutable parallel safe
    set search_path = ''
as $$
begin
    parts := (parts || replaced)
        - coalesce((select array_agg(part.key) from jsonb_each(replaced) as part where part.value = 'null'), '{}');
    if kind = 'map' then
        return parts;
    end if;
    return (
        select coalesce(jsonb_agg(slot.value order by slot.key collate "C"), '[]')
        from jsonb_each(parts) as slot
        where public.keapsync_canonical_slot(slot_kind, slot.value) is not null
    );
end
$$;
comment on function public.keapsync_assemble(text, text, jsonb, jsonb) is
    'A slots or map field made of its parts, some of them replaced; null removes one.';

-- Records are given as one array per column. Fields that both sides write alike never reach the canonical form. Compiling the
-- statement (jit) would take longer than running it.
create function public.keapsync_reconcile(keys text[], entity_types text[], bases jsonb[], keaps jsonb[], supabases jsonb[],
        keap_changed_ats timestamptz[], supabase_changed_ats timestamptz[], policies jsonb[])
    returns table (key text, merge jsonb)
    language plpgsql
    immutable parallel safe
    set search_path = ''
    set jit = off
as $$
begin
    return query
    with input as materialized (
        select item.*
        from unnest(keys, entity_types, bases, keaps, supabases, keap_changed_ats, supabase_changed_ats, policies)
            with ordinality as item (key, entity_type, base, keap, supabase, keap_changed_at, supabase_changed_at, policies, line)
    ), schema as materialized (
        select * from public.keapsync_fields()
    ), differing as materialized (
        select input.line, input.key, schema.entity_type, schema.position, schema.field, schema.kind, schema.slot_kind, schema.reason,
            input.base -> schema.field as base, input.keap -> schema.field as keap, input.supabase -> schema.field as supabase,
            input.keap_changed_at, input.supabase_changed_at,
            public.keapsync_policy(input.policies, schema.entity_type, schema.field) as policy
        from input
        join schema on schema.entity_type = input.entity_type
        where input.keap is distinct from input.supabase
            and coalesce(input.keap -> schema.field, 'null') <> coalesce(input.supabase -> schema.field, 'null')
    ), merged as materialized (
        select differing.line, differing.position, differing.field,
            public.keapsync_merge_field(differing.kind, differing.slot_kind, differing.field, differing.reason, differing.base,
                differing.keap, differing.supabase, differing.policy,
                public.keapsync_winner(differing.policy, differing.keap_changed_at, differing.supabase_changed_at)) as outcome
        from differing
    ), summed as (
        select merged.line,
            jsonb_object_agg(merged.field, merged.outcome -> 'row') filter (where merged.outcome ? 'row') as to_supabase,
            jsonb_object_agg(merged.field, merged.outcome -> 'keap') filter (where merged.outcome ? 'keap') as to_keap,
            jsonb_object_agg(merged.field, merged.outcome -> 'base') filter (where merged.outcome ? 'base') as base_kept,
            jsonb_agg(merged.outcome -> 'refused' order by merged.position) filter (where merged.outcome ? 'refused') as refused
        from merged
        where merged.outcome is not null
        group by merged.line
    ), in_conflict as (
        select merged.line, jsonb_agg(conflict.value order by merged.position, conflict.line) as conflicts
        from merged
        cross join jsonb_array_elements(merged.outcome -> 'conflicts') with ordinality as conflict (value, line)
        group by merged.line
    )
    select input.key, jsonb_build_object(
        'to_supabase', coalesce(summed.to_supabase, '{}'), 'to_keap', coalesce(summed.to_keap, '{}'),
        'base_kept', coalesce(summed.base_kept, '{}'), 'conflicts', coalesce(in_conflict.conflicts, '[]'),
        'refused', coalesce(summed.refused, '[]'))
    from input
    left join summed on summed.line = input.line
    left join in_conflict on in_conflict.line = input.line
    order by input.line;
end
$$;
comment on function public.keapsync_reconcile(text[], text[], jsonb[], jsonb[], jsonb[], timestamptz[], timestamptz[], jsonb[]) is
    'Merges three states each of many records: what the row and Keap are to take, what of the base stays, conflicts, and edits Keap does not take.';

-- What must be kept beside the row so that the base can be rebuilt.
create function public.keapsync_base_delta(entity_type text, base jsonb, supabase jsonb) returns jsonb
    language plpgsql
    immutable parallel safe
    set search_path = ''
as $$
declare
    entity constant text := entity_type;
begin
    if base = supabase then
        return '{}';
    end if;
    return (
        select coalesce(jsonb_object_agg(schema.field, coalesce(base -> schema.field, 'null')), '{}')
        from public.keapsync_fields() as schema
        where schema.entity_type = entity
            and coalesce(base -> schema.field, 'null') <> coalesce(supabase -> schema.field, 'null')
            and public.keapsync_canonical(schema.kind, schema.slot_kind, base -> schema.field)
                is distinct from public.keapsync_canonical(schema.kind, schema.slot_kind, supabase -> schema.field)
    );
end
$$;
comment on function public.keapsync_base_delta(text, jsonb, jsonb) is
    'The values of the base in which the row differs from it, keyed by field.';

do $$
declare
    signature text;
begin
    foreach signature in array array[
        'policy(jsonb, text, text)', 'winner(text, timestamptz, timestamptz)', 'edit_form(text, jsonb, jsonb, jsonb, boolean)',
        'merge_field(text, text, text, text, jsonb, jsonb, jsonb, text, text)', 'assemble(text, text, jsonb, jsonb)',
        'reconcile(text[], text[], jsonb[], jsonb[], jsonb[], timestamptz[], timestamptz[], jsonb[])',
        'base_delta(text, jsonb, jsonb)']
    loop
        perform public.keapsync_protect_function(('public.keapsync_' || signature)::regprocedure);
        execute format('grant execute on function public.keapsync_%s to keapsync_engine, keapsync_reader', signature);
    end loop;
end
$$;
