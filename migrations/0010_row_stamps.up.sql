-- What every write of a mirrored table brings with it: version, times, who; a DELETE becomes deleted_at; TRUNCATE is refused.
-- The functions serve every mirrored table; the columns that count as a change are named in each table's triggers.

-- A request's token, as PostgREST hands it on. Whatever is not a user's UUID counts as nobody.
create function public.keapsync_request_user() returns uuid
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    claims text := nullif(current_setting('request.jwt.claims', true), '');
begin
    -- Every edit asks, most of them outside of requests: only a token is worth the subtransaction that an exception's handler takes.
    if claims is null then
        return null;
    end if;
    begin
        return (claims::jsonb ->> 'sub')::uuid;
    exception
        when invalid_text_representation or invalid_parameter_value then
            return null;
    end;
end
$$;
comment on function public.keapsync_request_user() is 'The user who makes the current request, from its verified token; null outside of requests.';
select public.keapsync_protect_function('public.keapsync_request_user()');

create function public.keapsync_stamp_insert() returns trigger
    language plpgsql
    security definer
    set search_path = ''
as $$
begin
    new.version := 1;
    new.sync_status := 'pending';
    new.sync_error := null;
    new.last_synced_at := null;
    new.updated_at := now();
    new.created_by := coalesce(public.keapsync_request_user(), new.created_by);
    return new;
end
$$;
comment on function public.keapsync_stamp_insert() is 'Before a person inserts a row: it waits for its way to Keap.';
select public.keapsync_protect_function('public.keapsync_stamp_insert()');

create function public.keapsync_stamp_update() returns trigger
    language plpgsql
    set search_path = ''
as $$
begin
    new.version := old.version + 1;
    if session_user = 'keapsync_engine' then
        -- The merge takes updated_at for the time of the local change, so writes that change no value leave it.
        new.updated_at := old.updated_at;
        return new;
    end if;
    if new.id <> old.id or new.account_id <> old.account_id or new.keap_id is distinct from old.keap_id then
        raise exception 'id, account_id and keap_id of % are set by the sync', tg_table_name
            using errcode = 'integrity_constraint_violation',
                  hint = 'Insert a new row, or edit the other columns.';
    end if;
    new.updated_at := now();
    return new;
end
$$;
comment on function public.keapsync_stamp_update() is 'Before any update: counts the version, and keeps people from relinking a row.';
select public.keapsync_protect_function('public.keapsync_stamp_update()');

create function public.keapsync_stamp_change() returns trigger
    language plpgsql
    security definer
    set search_path = ''
as $$
begin
    new.updated_at := now();
    if session_user <> 'keapsync_engine' then
        new.sync_status := 'pending';
        new.sync_error := null;
        new.updated_by := public.keapsync_request_user();
        if new.deleted_at is not null and old.deleted_at is null then
            new.deleted_by := new.updated_by;
        elsif new.deleted_at is null then
            new.deleted_by := null;
        end if;
    end if;
    return new;
end
$$;
comment on function public.keapsync_stamp_change() is 'Before an update that changes a synced value: its time, and for people''s edits its author and state.';
select public.keapsync_protect_function('public.keapsync_stamp_change()');

create function public.keapsync_soft_delete() returns trigger
    language plpgsql
    security definer
    set search_path = ''
as $$
begin
    execute format('update %I.%I set deleted_at = now() where id = $1 and deleted_at is null', tg_table_schema, tg_table_name)
        using old.id;
    return null;
end
$$;
comment on function public.keapsync_soft_delete() is 'In place of a person''s DELETE: sets deleted_at, so that the delete can reach Keap and be undone.';
select public.keapsync_protect_function('public.keapsync_soft_delete()');

create function public.keapsync_refuse_truncate() returns trigger
    language plpgsql
    set search_path = ''
as $$
begin
    raise exception 'TRUNCATE of % is refused: it would pass by the capture of changes', tg_table_name
        using errcode = 'feature_not_supported', hint = 'Use DELETE.';
end
$$;
comment on function public.keapsync_refuse_truncate() is 'Refuses TRUNCATE, which no row trigger sees.';
select public.keapsync_protect_function('public.keapsync_refuse_truncate()');

-- Triggers of one kind fire in the order of their names.
create trigger stamp_1_insert before insert on public.sync_contacts
    for each row when (session_user <> 'keapsync_engine') execute function public.keapsync_stamp_insert();
create trigger stamp_1_update before update on public.sync_contacts
    for each row execute function public.keapsync_stamp_update();
create trigger stamp_2_change before update on public.sync_contacts
    for each row when (
        (old.email, old.first_name, old.last_name, old.middle_name, old.phone, old.company, old.job_title, old.website,
         old.birth_date, old.owner_id, old.lead_source_id, old.opt_in_status, old.emails, old.phones, old.addresses, old.tags,
         old.custom_fields, old.deleted_at)
        is distinct from
        (new.email, new.first_name, new.last_name, new.middle_name, new.phone, new.company, new.job_title, new.website,
         new.birth_date, new.owner_id, new.lead_source_id, new.opt_in_status, new.emails, new.phones, new.addresses, new.tags,
         new.custom_fields, new.deleted_at))
    execute function public.keapsync_stamp_change();
create trigger soft_delete before delete on public.sync_contacts
    for each row when (session_user <> 'keapsync_engine') execute function public.keapsync_soft_delete();
create trigger refuse_truncate before truncate on public.sync_contacts
    for each statement execute function public.keapsync_refuse_truncate();
-- Emptying these would lose edits, bases and history without a trace.
create trigger refuse_truncate before truncate on public.sync_status
    for each statement execute function public.keapsync_refuse_truncate();
create trigger refuse_truncate before truncate on public.sync_queue
    for each statement execute function public.keapsync_refuse_truncate();
create trigger refuse_truncate before truncate on public.sync_audit_log
    for each statement execute function public.keapsync_refuse_truncate();
