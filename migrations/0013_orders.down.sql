drop table public.sync_orders;
drop function public.keapsync_link_contact();
drop function public.keapsync_check_parts(jsonb);

-- As 0011 made it.
create or replace function public.keapsync_capture() returns trigger
    language plpgsql
    security definer
    set search_path = ''
as $$
declare
    entity constant text := tg_argv[0];
    new_row constant jsonb := to_jsonb(new);
    old_row jsonb;
    old_values jsonb;
    new_values jsonb;
    fields text[];
    action text;
    user_agent text;
    address text;
    headers text;
    address_found inet;
begin
    if tg_op = 'INSERT' then
        action := 'create';
        select coalesce(jsonb_object_agg(field, new_row -> field), '{}')
        into new_values
        from unnest(tg_argv[1:]) as field
        where new_row -> field <> 'null';
    else
        old_row := to_jsonb(old);
        select jsonb_object_agg(field, old_row -> field), jsonb_object_agg(field, new_row -> field), array_agg(field)
        into old_values, new_values, fields
        from unnest(tg_argv[1:]) as field
        where old_row -> field is distinct from new_row -> field;
        if fields is null then
            return null;
        end if;
        action := case
            when old.deleted_at is null and new.deleted_at is not null then 'delete'
            when old.deleted_at is not null and new.deleted_at is null then 'undelete'
            else 'update'
        end;
    end if;

    insert into public.sync_queue (account_id, operation, entity_type, entity_id, keap_id, payload)
    values (new.account_id, case action when 'undelete' then 'update' else action end, entity, new.id, new.keap_id,
            jsonb_build_object('old', coalesce(old_values, '{}'), 'new', new_values));

    insert into public.sync_status as status (account_id, entity_type, entity_id, keap_id, last_sync_status)
    values (new.account_id, entity, new.id, new.keap_id, 'pending')
    on conflict (account_id, entity_type, entity_id) do update
    set base = old_values || coalesce(status.base, '{}'),
        last_sync_status = 'pending',
        updated_at = now();

    -- What the API gateway says of the request; nothing of it is trusted, so nothing of it may refuse the edit.
    headers := nullif(current_setting('request.headers', true), '');
    if headers is not null then
        begin
            user_agent := left(headers::jsonb ->> 'user-agent', 500);
            address := trim(split_part(headers::jsonb ->> 'x-forwarded-for', ',', 1));
            address_found := nullif(address, '')::inet;
        exception
            when data_exception then null;
        end;
    end if;
    insert into public.sync_audit_log (account_id, entity_type, entity_id, keap_id, operation, old_data, changed_fields,
                                       sync_source, sync_destination, user_id, ip_address, user_agent)
    values (new.account_id, entity, new.id, new.keap_id, action, old_values, fields,
            'supabase', 'keap', public.keapsync_request_user(), address_found, user_agent);
    return null;
end
$$;
