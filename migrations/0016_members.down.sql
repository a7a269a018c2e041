-- As 0010 made them.
create or replace function public.keapsync_stamp_update() returns trigger
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

create or replace function public.keapsync_stamp_insert() returns trigger
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

do $$
declare
    policy record;
begin
    for policy in
        select policyname, tablename from pg_catalog.pg_policies where schemaname = 'public' and roles = array['authenticated'::name]
            and tablename in ('sync_contacts', 'sync_orders', 'sync_tags', 'sync_subscriptions', 'sync_accounts', 'sync_status',
                'sync_conflicts', 'sync_queue', 'sync_audit_log', 'sync_runs', 'sync_activity', 'sync_account_members')
    loop
        execute format('drop policy %I on public.%I', policy.policyname, policy.tablename);
        execute format('revoke all on table public.%I from authenticated', policy.tablename);
    end loop;
end
$$;
drop table public.sync_account_members;
drop function public.keapsync_keep_last_admin();
drop function public.keapsync_stamp_member();
drop function public.keapsync_grant_members(text, text, regclass);
drop function public.keapsync_member_accounts(text);
