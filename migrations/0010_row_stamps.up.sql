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

-- The row that a person's INSERT may turn out to be an edit of: `insert … on conflict do update`, as Supabase's upsert sends it, is
-- seen by the triggers before an insert, which run before the conflict is known. The lock keeps the row until the statement meets it.
create function public.keapsync_met_row(mirrored regclass, account text, wanted_keap_id text, wanted_id uuid) returns uuid
    language plpgsql
    set search_path = ''
as $$
declare
    met uuid;
begin
    if wanted_keap_id is not null then
        execute format('select met.id from %s met where met.keap_id = $1 and met.account_id = $2 for key share', mirrored)
            into met using wanted_keap_id, account;
    end if;
    if met is null then
        execute format('select met.id from %s met where met.id = $1 and met.account_id = $2 for key share', mirrored)
            into met using wanted_id, account;
    end if;
    return met;
end
$$;
comment on function public.keapsync_met_row(regclass, text, text, uuid) is
    'The row of an account that an insert with this keap_id or id would meet; null where it is new. Locked until the transaction ends.';
select public.keapsync_protect_function('public.keapsync_met_row(regclass, text, text, uuid)');

-- The role that the statement itself runs as, also inside of functions with their owner's rights.
create function public.keapsync_caller() returns text
    language sql
    stable
    set search_path = ''
as $$
    select coalesce(nullif(current_setting('role', true), 'none'), session_user)
$$;
comment on function public.keapsync_caller() is 'The role whose statement this is: of a request, the one the API took for it.';
select public.keapsync_protect_function('public.keapsync_caller()');

-- A row that is there is passed on as it was sent, and the triggers of the update say what becomes of it, as of any update. A new row
-- says of itself only what it is. Nothing is refused here, before row level security looked: a refusal that depends on a row would
-- tell strangers whether the row exists. What stays an insert and names a keap_id is refused afterwards, by its capture.
create function public.keapsync_stamp_insert() returns trigger
    language plpgsql
    security definer
    set search_path = ''
as $$
declare
    account_of_id text;
    met uuid;
begin
    execute format('select known.account_id from %s known where known.id = $1', tg_relid::regclass)
        into account_of_id using new.id;
    -- An upsert by id may leave out the account, which follows from the id.
    new.account_id := coalesce(new.account_id, account_of_id);
    if account_of_id <> new.account_id and public.keapsync_caller() = 'authenticated'
        and account_of_id <> all (public.keapsync_member_accounts('viewer'))
    then
        -- Whether a stranger's row has this id is not to be told by a refusal, either.
        new.id := gen_random_uuid();
        account_of_id := null;
    end if;
    met := public.keapsync_met_row(tg_relid, new.account_id, new.keap_id, new.id);
    if met is not null then
        if account_of_id is null then
            -- The default of the column, filled in: the row keeps its id.
            new.id := met;
        end if;
        -- An update ignores the sync's own columns, so they refuse no upsert. Times and version stay: its WHERE may compare them.
        new.sync_status := 'pending';
        new.source_system := 'supabase';
        new.extra := '{}';
        new.version := coalesce(new.version, 1);
        new.created_at := coalesce(new.created_at, now());
        new.updated_at := coalesce(new.updated_at, now());
        return new;
    end if;
    new.id := coalesce(new.id, gen_random_uuid());
    new.version := 1;
    new.sync_status := 'pending';
    new.sync_error := null;
    new.last_synced_at := null;
    new.keap_updated_at := null;
    new.extra := '{}';
    new.source_system := case new.source_system when 'manual' then 'manual' else 'supabase' end;
    new.created_at := now();
    new.updated_at := now();
    new.edited_at := now();
    new.created_by := public.keapsync_request_user();
    new.updated_by := null;
    -- A row that is deleted from the start, as from a backup, is deleted now: what is purged goes by this time.
    new.deleted_at := case when new.deleted_at is not null then now() end;
    new.deleted_by := case when new.deleted_at is not null then new.created_by end;
    return new;
end
$$;
comment on function public.keapsync_stamp_insert() is
    'Before a person inserts a row: it waits for its way to Keap, and its times are the database''s. One that is there already is left to the update.';
select public.keapsync_protect_function('public.keapsync_stamp_insert()');

-- The sync's own columns keep their values whatever a statement says, so that a client may send a whole row back.
--
-- The resolution of a conflict writes them for people, so it is told apart from their edits: by a setting that only counts where the
-- table's owner writes, which a signed-in user is only inside of functions that the owner made.
create function public.keapsync_stamp_update() returns trigger
    language plpgsql
    set search_path = ''
as $$
begin
    new.version := old.version + 1;
    if session_user = 'keapsync_engine' then
        -- The time of the last value that changed: set by keapsync_stamp_change where one does.
        new.updated_at := old.updated_at;
        return new;
    end if;
    -- The moment of a delete is the database's, and stays: rows are purged by it.
    if new.deleted_at is not null then
        new.deleted_at := coalesce(old.deleted_at, now());
    end if;
    if current_setting('keapsync.resolving', true) = 'on' and current_user = (
        select pg_catalog.pg_get_userbyid(class.relowner) from pg_catalog.pg_class class where class.oid = tg_relid
    ) then
        new.updated_at := old.updated_at;
        return new;
    end if;
    if new.id <> old.id or new.account_id <> old.account_id or new.keap_id is distinct from old.keap_id then
        raise exception 'id, account_id and keap_id of % are set by the sync', tg_table_name
            using errcode = 'integrity_constraint_violation',
                  hint = 'Insert a new row, or edit the other columns.';
    end if;
    new.sync_status := old.sync_status;
    new.sync_error := old.sync_error;
    new.last_synced_at := old.last_synced_at;
    new.keap_updated_at := old.keap_updated_at;
    new.extra := old.extra;
    new.source_system := old.source_system;
    new.created_at := old.created_at;
    new.edited_at := old.edited_at;
    new.created_by := old.created_by;
    new.updated_by := old.updated_by;
    new.deleted_by := old.deleted_by;
    new.updated_at := now();
    return new;
end
$$;
comment on function public.keapsync_stamp_update() is
    'Before any update: counts the version, dates deletes, and keeps people from relinking a row or writing the sync''s own columns.';
select public.keapsync_protect_function('public.keapsync_stamp_update()');

create function public.keapsync_stamp_change() returns trigger
    language plpgsql
    security definer
    set search_path = ''
as $$
begin
    new.updated_at := now();
    if session_user <> 'keapsync_engine' then
        -- A time of its own: updated_at moves with Keap's values as well, and would make an old edit look new.
        new.edited_at := now();
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
comment on function public.keapsync_stamp_change() is 'Before an update that changes a synced value: its time, and for people''s edits their own time, author and state.';
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
