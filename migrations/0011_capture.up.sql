-- A person's edit goes to the outbox in the transaction that makes it: one queue item, one audit entry, and the base kept in
-- sync_status at the first edit since both sides agreed. The engine's own writes are told apart by session_user, which no SET
-- and no SECURITY DEFINER changes.
--
-- Every edit pays for its capture, so each table has a function of its own, written by keapsync_create_capture with the table's
-- columns in it: comparing column by column costs a fraction of what turning both rows into JSON and comparing these does.

-- What the sync could not read back is refused here, while the person is there to mend it. Later it would hold up whatever is
-- read together with it.

-- Lists of JSON objects that Keap tells apart by a name: what has none, or one that Keap does not know, would be written to a slot of
-- Keap's choice, and again with every later edit.
create function public.keapsync_check_parts(changed jsonb) returns void
    language plpgsql
    set search_path = ''
as $$
declare
    slots constant jsonb := '{"emails": ["EMAIL2", "EMAIL3"], "phones": ["PHONE2", "PHONE3", "PHONE4", "PHONE5"],
        "addresses": ["BILLING", "SHIPPING", "OTHER"]}';
    list record;
begin
    for list in
        select known.key as name, known.value as names, changed -> known.key as given
        from jsonb_each(slots) as known
        where jsonb_typeof(changed -> known.key) = 'array'
    loop
        if exists (
            select from jsonb_array_elements(list.given) as part
            where jsonb_typeof(part) <> 'object' or not list.names @> coalesce(part -> 'field', 'null')
        ) then
            raise exception '% is an array of objects, each with a field', list.name
                using errcode = 'invalid_parameter_value',
                    hint = format('field is one of %s. The first address and number are columns of their own: email and phone.',
                        (select string_agg(name, ', ') from jsonb_array_elements_text(list.names) as name));
        end if;
        if (select count(distinct part -> 'field') <> count(*) from jsonb_array_elements(list.given) as part) then
            raise exception '% names a field twice', list.name
                using errcode = 'invalid_parameter_value', hint = 'Keap keeps one value in each.';
        end if;
    end loop;
    if exists (
        select from jsonb_array_elements(case jsonb_typeof(changed -> 'tags') when 'array' then changed -> 'tags' else '[]' end) as tag
        where coalesce(tag #>> '{}', '') !~ '^[0-9]{1,19}$'
    ) then
        raise exception 'tags is an array of Keap''s ids of tags'
            using errcode = 'invalid_parameter_value', hint = 'Such as ["101", "102"].';
    end if;
    if exists (
        select from jsonb_array_elements(
            case jsonb_typeof(changed -> 'line_items') when 'array' then changed -> 'line_items' else '[]' end) as item
        where jsonb_typeof(item) <> 'object'
    ) then
        raise exception 'line_items is an array of objects' using errcode = 'invalid_parameter_value';
    end if;
end
$$;
comment on function public.keapsync_check_parts(jsonb) is
    'Refuses values of a person''s edit whose parts Keap could not tell apart. Takes the changed columns.';
select public.keapsync_protect_function('public.keapsync_check_parts(jsonb)');

create function public.keapsync_check_json(table_name name, changed jsonb) returns void
    language plpgsql
    set search_path = ''
as $$
begin
    if changed @? 'strict $.**{100}' then
        raise exception 'a value of % nests deeper than 100 levels', table_name
            using errcode = 'invalid_parameter_value', hint = 'Flatten the JSON.';
    end if;
    if changed @? 'lax $.** ? (@.type() == "number" && (@ > 1e308 || @ < -1e308))' then
        raise exception 'a number in the JSON of % is larger than JSON readers take', table_name
            using errcode = 'numeric_value_out_of_range', hint = 'Numbers go up to 1e308; write it as a text.';
    end if;
    if changed ?| '{emails,phones,addresses,tags,line_items}' then
        perform public.keapsync_check_parts(changed);
    end if;
end
$$;
comment on function public.keapsync_check_json(name, jsonb) is
    'Refuses JSON of a person''s edit that the sync could not read back. Takes the table''s name and the changed columns.';
select public.keapsync_protect_function('public.keapsync_check_json(name, jsonb)');

-- A hint to the workers that an edit waits, so that it leaves at once instead of at their next look. Sent by pg_net, Supabase's
-- extension that makes requests after the commit; where that, the workers' address or their token is missing, nothing happens. The
-- edit itself never depends on it: the outbox holds it, and the workers look by themselves.
--
-- Address and token are secrets of Supabase's Vault: keapsync_coordinator_url and keapsync_wake_token. pg_net keeps a request with its
-- headers in a table that PUBLIC may read until the request is sent, so the token opens nothing but this one door.
create function public.keapsync_wake(account text) returns void
    language plpgsql
    security definer
    set search_path = ''
as $$
declare
    -- Accounts woken in this transaction, each between commas: a bulk edit queues row by row, and one request is enough. A hint
    -- that somebody suppresses by setting this is no loss.
    woken text := coalesce(nullif(current_setting('keapsync.woken', true), ''), ',');
    base_url text;
    token text;
begin
    if woken = '*' or position(',' || account || ',' in woken) > 0 then
        return;
    end if;
    perform set_config('keapsync.woken', woken || account || ',', true);
    begin
        execute 'select max(decrypted_secret) filter (where name = ''keapsync_coordinator_url''),
                max(decrypted_secret) filter (where name = ''keapsync_wake_token'')
            from vault.decrypted_secrets where name in (''keapsync_coordinator_url'', ''keapsync_wake_token'')'
            into base_url, token;
        if base_url is null or token is null then
            perform set_config('keapsync.woken', '*', true);
            return;
        end if;
        execute 'select net.http_post(url := $1, body := $2, headers := $3, timeout_milliseconds := 5000)'
            using rtrim(base_url, '/') || '/coordinator/' || account || '/wake', '{}'::jsonb,
                jsonb_build_object('content-type', 'application/json', 'x-wake-token', token);
    exception
        -- A hint that cannot be sent is no reason to refuse the edit. The state alone is logged: a message may hold the token.
        when others then
            raise log 'keapsync: the workers could not be woken, state %', sqlstate;
    end;
end
$$;
comment on function public.keapsync_wake(text) is
    'Asks the workers, through pg_net where it is installed, to send what an account has queued now; once per transaction.';
select public.keapsync_protect_function('public.keapsync_wake(text)');

-- Amounts are kept as texts of plain decimals and times in UTC, whatever the session's time zone, as the merge compares them.
create function public.keapsync_create_capture(captured regclass, entity text, columns text[]) returns void
    language plpgsql
    set search_path = ''
as $generator$
declare
    table_name constant text := (select relname from pg_catalog.pg_class where oid = captured);
    function_name constant text := replace(table_name, 'sync_', 'keapsync_capture_');
    comparison constant text := $template$
    if new.%1$I is distinct from old.%1$I then
        fields := fields || %1$L::text;
        old_values := old_values || jsonb_build_object(%1$L, %2$s);
        new_values := new_values || jsonb_build_object(%1$L, %3$s);%4$s
    end if;$template$;
    body constant text := $template$
declare
    fields text[];
    old_values jsonb := '{}'::jsonb;
    new_values jsonb := '{}'::jsonb;
    has_json boolean := false;
    action text;
    headers jsonb;
    user_agent text;
    address inet;
begin
    -- Before an insert there was nothing: every value that is set differs from it.%1$s
    if tg_op = 'INSERT' then
        if new.keap_id is not null then
            raise exception 'keap_id of %% is set by the sync, and no row of this account has the one given', tg_table_name
                using errcode = 'integrity_constraint_violation',
                    hint = 'Insert the row without it: Keap''s id comes when the record exists there.';
        end if;
        action := 'create';
        fields := null;
        old_values := null;
    elsif fields is null then
        return null;
    elsif (old.deleted_at is null) = (new.deleted_at is null) then
        action := 'update';
    elsif old.deleted_at is null then
        action := 'delete';
    else
        action := 'undelete';
    end if;
    if has_json then
        perform public.keapsync_check_json(tg_table_name, new_values);
    end if;

    insert into public.sync_queue (account_id, operation, entity_type, entity_id, keap_id, payload)
    values (new.account_id, case action when 'undelete' then 'update' else action end, %2$L, new.id, new.keap_id,
            jsonb_build_object('old', coalesce(old_values, '{}'), 'new', new_values));
    -- Whether pg_net is there is looked up with every edit, because extensions come and go. A trigger of the queue would ask the
    -- same and cost each edit several times as much.
    if to_regnamespace('net') is not null then
        perform public.keapsync_wake(new.account_id);
    end if;

    -- Nearly always the row is there: an update alone costs less than an insert that finds a conflict.
    if old_values is not null then
        update public.sync_status status
        set base = old_values || coalesce(status.base, '{}'), last_sync_status = 'pending', updated_at = now()
        where status.entity_id = new.id and status.entity_type = %2$L and status.account_id = new.account_id;
    end if;
    if old_values is null or not found then
        insert into public.sync_status as status (account_id, entity_type, entity_id, keap_id, last_sync_status)
        values (new.account_id, %2$L, new.id, new.keap_id, 'pending')
        on conflict (account_id, entity_type, entity_id) do update
        set base = old_values || coalesce(status.base, '{}'), last_sync_status = 'pending', updated_at = now();
    end if;

    -- What the API gateway says of the request; nothing of it is trusted, so nothing of it may refuse the edit.
    if current_setting('request.headers', true) <> '' then
        begin
            headers := current_setting('request.headers', true)::jsonb;
            user_agent := left(headers ->> 'user-agent', 500);
            address := nullif(trim(split_part(headers ->> 'x-forwarded-for', ',', 1)), '')::inet;
        exception
            when data_exception then null;
        end;
    end if;
    -- The row's stamps know the user already.
    insert into public.sync_audit_log (account_id, entity_type, entity_id, keap_id, operation, old_data, changed_fields,
                                       sync_source, sync_destination, user_id, ip_address, user_agent)
    values (new.account_id, %2$L, new.id, new.keap_id, action, old_values, fields,
            'supabase', 'keap', case action when 'create' then new.created_by else new.updated_by end, address, user_agent);
    return null;
end
$template$;
    comparisons text;
    known integer;
begin
    select count(*),
        string_agg(format(comparison, attribute.attname,
            format(value_of.form, format('old.%I', attribute.attname)),
            format(value_of.form, format('new.%I', attribute.attname)),
            case attribute.atttypid when 'jsonb'::regtype then E'\n        has_json := true;' else '' end),
            '' order by given.position)
    into known, comparisons
    from unnest(columns) with ordinality as given (name, position)
    join pg_catalog.pg_attribute attribute
        on attribute.attrelid = captured and attribute.attname = given.name and not attribute.attisdropped
    cross join lateral (
        select case attribute.atttypid
            when 'numeric'::regtype then 'trim_scale(%s)::text'
            when 'timestamptz'::regtype then '(to_jsonb(%s at time zone ''UTC'') #>> ''{}'') || ''+00:00'''
            else '%s'
        end as form
    ) as value_of;
    if known <> cardinality(columns) then
        raise exception 'table % has % of the columns %', captured, known, columns
            using hint = 'Name columns that exist, each once.';
    end if;
    execute format('create function public.%I() returns trigger language plpgsql security definer set search_path = '''' as %L',
        function_name, format(body, comparisons, entity));
    execute format('comment on function public.%I() is %L', function_name,
        format('After a person''s insert or update of %s: queues the change, keeps the base, writes the audit log.', table_name));
    perform public.keapsync_protect_function(format('public.%I()', function_name)::regprocedure);
    execute format(
        'create trigger capture_insert after insert on %1$s
             for each row when (session_user <> ''keapsync_engine'') execute function public.%2$I();
         create trigger capture_update after update on %1$s
             for each row when (session_user <> ''keapsync_engine'') execute function public.%2$I()',
        captured, function_name);
end
$generator$;
comment on function public.keapsync_create_capture(regclass, text, text[]) is
    'Makes the function and the triggers that capture people''s edits of a table. Takes the kind of record and the columns that are synced.';
select public.keapsync_protect_function('public.keapsync_create_capture(regclass, text, text[])');

select public.keapsync_create_capture('public.sync_contacts', 'contact',
    array['email', 'first_name', 'last_name', 'middle_name', 'phone', 'company', 'job_title', 'website', 'birth_date', 'owner_id',
        'lead_source_id', 'opt_in_status', 'emails', 'phones', 'addresses', 'tags', 'custom_fields', 'deleted_at']);
