-- Undo: what a run wrote is found again, and the sync makes edits in a person's name.

-- What a run wrote, in order, to show it and to undo it. Entries of live work have no run and stay out.
create index sync_audit_log_run_idx on public.sync_audit_log (run_id, id) where run_id is not null;

-- The sync's own session is not captured. An edit that somebody asks it for (undo) is made here, and leaves what the capture of a
-- person's edit leaves: the old values in the base, an item in the outbox, an entry in the audit log. An undo is an edit like any
-- other: it is merged with what Keap holds, and can be undone.
grant execute on function public.keapsync_check_json(name, jsonb), public.keapsync_check_parts(jsonb) to keapsync_engine;
create function public.keapsync_edit(account text, entity text, row_id uuid, expected_version integer, new_values jsonb,
        deletes boolean, operation text, note jsonb, run uuid, stays text, said text)
    returns boolean
    language plpgsql
    set search_path = ''
    set jit = off
as $$
declare
    mirrored constant regclass := public.keapsync_table(entity);
    -- Values as the merge compares them, whatever the session's time zone.
    record_sql constant text := public.keapsync_record_sql(entity, 'mirrored')
        || ' || jsonb_build_object(''deleted_at'','
        || ' to_jsonb(public.keapsync_instant_text(trunc(extract(epoch from mirrored.deleted_at) * 1000)::bigint)))';
    assignments text;
    before jsonb;
    after jsonb;
    keap_id text;
    fields text[];
    old_values jsonb;
    changed_values jsonb;
begin
    execute format('select %2$s, mirrored.keap_id from %1$s mirrored
            where mirrored.id = $1 and mirrored.account_id = $2 and mirrored.version = $3 for no key update', mirrored, record_sql)
        into before, keap_id using row_id, account, expected_version;
    if before is null then
        return false;
    end if;
    perform public.keapsync_check_json(mirrored::text::name, new_values);

    -- Typed first, so that 12.5 is no change of 12.500.
    select string_agg(format('%1$I = typed.%1$I', schema.field), ', ' order by schema.position) into assignments
    from public.keapsync_fields() as schema
    where schema.entity_type = entity and new_values ? schema.field;
    execute format('select %2$s from jsonb_populate_record(null::%1$s, $1) as mirrored', mirrored, record_sql)
        into after using new_values;
    select array_agg(schema.field order by schema.position) into fields
    from public.keapsync_fields() as schema
    where schema.entity_type = entity and new_values ? schema.field and after -> schema.field is distinct from before -> schema.field;
    if fields is null and (deletes is null or deletes = (before -> 'deleted_at' <> 'null')) then
        return true;
    end if;

    execute format('update %1$s mirrored
            set %2$s sync_status = case when $4 is null then ''pending'' else ''completed'' end, sync_error = $4, updated_by = null,
                edited_at = now(),
                deleted_at = case when $3 then coalesce(mirrored.deleted_at, now()) when not $3 then null else mirrored.deleted_at end,
                deleted_by = case when $3 is not null then null else mirrored.deleted_by end
            from jsonb_populate_record(null::%1$s, $2) as typed
            where mirrored.id = $1
            returning %3$s', mirrored, coalesce(assignments || ', ', ''), record_sql)
        into after using row_id, new_values, deletes, said;
    select array_agg(changed.key order by schema.position nulls last), jsonb_object_agg(changed.key, changed.value),
        jsonb_object_agg(changed.key, after -> changed.key)
    into fields, old_values, changed_values
    from jsonb_each(before) as changed
    left join public.keapsync_fields() as schema on schema.entity_type = entity and schema.field = changed.key
    where changed.value is distinct from after -> changed.key;
    if fields is null then
        return true;
    end if;

    -- A delete of the row alone owes Keap nothing. The base says that it is one, in place of what was before the delete: nothing.
    insert into public.sync_queue (account_id, operation, entity_type, entity_id, keap_id, payload)
    select account, case when deletes and old_values ? 'deleted_at' then 'delete' else 'update' end, entity, row_id, keap_id,
        jsonb_build_object('old', old_values, 'new', changed_values)
    where stays is null;

    insert into public.sync_status as status (account_id, entity_type, entity_id, keap_id, last_sync_status)
    values (account, entity, row_id, keap_id, case when stays is null then 'pending' else 'completed' end)
    on conflict (account_id, entity_type, entity_id) do update
    -- The oldest values since both sides agreed are the base.
    set base = old_values || coalesce(status.base, '{}')
            || case when stays is null then '{}' else jsonb_build_object('deleted_at', stays) end,
        last_sync_status = excluded.last_sync_status, last_sync_error = said, updated_at = now();

    insert into public.sync_audit_log (account_id, entity_type, entity_id, keap_id, operation, old_data, new_data, changed_fields,
        sync_source, sync_destination, run_id)
    values (account, entity, row_id, keap_id, operation, old_values, nullif(note, '{}'), fields, 'supabase',
        case when stays is null then 'keap' else 'supabase' end, run);
    return true;
end
$$;
comment on function public.keapsync_edit(text, text, uuid, integer, jsonb, boolean, text, jsonb, uuid, text, text) is
    'An edit that the sync makes in a person''s name, of the row at this version: new values by column, deletes true or false to delete or bring back, the operation and note for the audit log; of a delete that stays here, what the base and the row say of it. Answers false when the row has another version.';
select public.keapsync_protect_function('public.keapsync_edit(text, text, uuid, integer, jsonb, boolean, text, jsonb, uuid, text, text)');
grant execute on function public.keapsync_edit(text, text, uuid, integer, jsonb, boolean, text, jsonb, uuid, text, text) to keapsync_engine;

comment on column public.sync_audit_log.operation is 'create, update, delete, undelete, conflict, resolve, revert.';
comment on column public.sync_audit_log.new_data is 'Values that were overridden and are kept nowhere else, keyed by field, in a resolution by field and side; of a revert, which entry it undid; mostly null.';
