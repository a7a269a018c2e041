-- People: who may see and edit which account. Supabase's API runs a signed-in user's queries as the role authenticated; every table
-- has policies for it by membership. anon has nothing, service_role bypasses policies.
--
-- A role counts by rank: an operator may all a viewer may, an admin all an operator may. It comes from sync_account_members, or
-- for every account from keapsync_role in the token's app_metadata, which only the project's owner can set. user_metadata,
-- which users write themselves, is never looked at.

create table public.sync_account_members (
    account_id text not null references public.sync_accounts (account_id),
    user_id uuid not null,
    role text not null check (role in ('viewer', 'operator', 'admin')),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    -- A user's accounts: asked once per statement of every signed-in user.
    constraint sync_account_members_pkey primary key (user_id, account_id)
);
comment on table public.sync_account_members is 'Who may see and edit which account. Managed by the account''s admins.';
comment on column public.sync_account_members.account_id is 'The Keap account.';
comment on column public.sync_account_members.user_id is 'The user, as in auth.users.';
comment on column public.sync_account_members.role is 'viewer reads; operator also edits records and settles conflicts; admin also manages members.';
comment on column public.sync_account_members.created_at is 'When the user became a member.';
comment on column public.sync_account_members.updated_at is 'When the role last changed.';

-- An account's members: the list that its admins manage, whether another admin remains, and whether an account may be deleted.
create index sync_account_members_account_idx on public.sync_account_members (account_id);

-- Supabase's users end their memberships when they are deleted. A bare Postgres has no users.
do $$
declare
    users oid := (
        select class.oid from pg_catalog.pg_class class
        join pg_catalog.pg_namespace namespace on namespace.oid = class.relnamespace
        where namespace.nspname = 'auth' and class.relname = 'users' and class.relkind = 'r');
begin
    if users is null then
        return;
    end if;
    if not has_schema_privilege('auth', 'usage') or not has_table_privilege(users, 'references') then
        raise notice 'memberships will not end with their users: this role may not reference auth.users'
            using hint = 'Grant usage on schema auth and references on auth.users to it, then undo this migration and apply it again.';
        return;
    end if;
    alter table public.sync_account_members
        add constraint sync_account_members_user_id_fkey foreign key (user_id) references auth.users (id) on delete cascade;
end
$$;

create function public.keapsync_member_accounts(minimum text) returns text[]
    language plpgsql
    stable
    security definer
    set search_path = ''
as $$
declare
    ranks constant text[] := array['viewer', 'operator', 'admin'];
    wanted constant integer := array_position(ranks, minimum);
    claims text := nullif(current_setting('request.jwt.claims', true), '');
    token jsonb;
begin
    if wanted is null then
        raise exception 'there is no role %', minimum using hint = 'The roles are viewer, operator and admin.';
    end if;
    if claims is null then
        return '{}';
    end if;
    begin
        token := claims::jsonb;
    exception
        when data_exception then return '{}';
    end;
    if array_position(ranks, token -> 'app_metadata' ->> 'keapsync_role') >= wanted then
        return array(select account.account_id from public.sync_accounts account);
    end if;
    return array(
        select member.account_id
        from public.sync_account_members member
        where member.user_id = public.keapsync_request_user() and array_position(ranks, member.role) >= wanted
    );
end
$$;
comment on function public.keapsync_member_accounts(text) is
    'Accounts in which the current request''s user has at least this role. Policies call it once per statement.';
select public.keapsync_protect_function('public.keapsync_member_accounts(text)');

-- Gives members a right on a table that has account_id, from a role upwards.
create function public.keapsync_grant_members(command text, minimum text, granted regclass) returns void
    language plpgsql
    set search_path = ''
as $$
declare
    policy text := format('%s_%s_%s', (select relname from pg_catalog.pg_class where oid = granted), minimum, command);
    -- The subquery is evaluated once, and its result is a constant to the index.
    condition text := format('account_id = any ((select public.keapsync_member_accounts(%L))::text[])', minimum);
begin
    if not exists (select from pg_catalog.pg_roles where rolname = 'authenticated') then
        return;
    end if;
    execute format('grant %s on table %s to authenticated', command, granted);
    execute format('create policy %I on %s for %s to authenticated %s', policy, granted, command,
        case command
            when 'insert' then format('with check (%s)', condition)
            when 'update' then format('using (%s) with check (%1$s)', condition)
            else format('using (%s)', condition)
        end);
end
$$;
comment on function public.keapsync_grant_members(text, text, regclass) is
    'Grants select, insert, update or delete on a table to Supabase''s signed-in users, for accounts in which they have at least a role.';
select public.keapsync_protect_function('public.keapsync_grant_members(text, text, regclass)');

create function public.keapsync_stamp_member() returns trigger
    language plpgsql
    set search_path = ''
as $$
begin
    if (new.account_id, new.user_id) is distinct from (old.account_id, old.user_id) then
        raise exception 'account_id and user_id of a member stay as they are'
            using errcode = 'integrity_constraint_violation', hint = 'Delete the membership and insert another.';
    end if;
    new.created_at := old.created_at;
    new.updated_at := now();
    return new;
end
$$;
comment on function public.keapsync_stamp_member() is 'Before a membership is updated: only its role changes.';
select public.keapsync_protect_function('public.keapsync_stamp_member()');

create function public.keapsync_keep_last_admin() returns trigger
    language plpgsql
    security definer
    set search_path = ''
as $$
begin
    -- One at a time: two admins who demote each other would both find the other one.
    perform from public.sync_accounts account where account.account_id = old.account_id for no key update;
    if not exists (
        select from public.sync_account_members other
        where other.account_id = old.account_id and other.role = 'admin' and other.user_id <> old.user_id
    ) then
        raise exception 'account % would have no admin', old.account_id
            using errcode = 'integrity_constraint_violation', hint = 'Make somebody else an admin first.';
    end if;
    return case tg_op when 'DELETE' then old else new end;
end
$$;
comment on function public.keapsync_keep_last_admin() is 'Before a member removes or demotes an admin: another one must remain.';
select public.keapsync_protect_function('public.keapsync_keep_last_admin()');

create trigger stamp_1_update before update on public.sync_account_members
    for each row execute function public.keapsync_stamp_member();
-- Only what members do through the API: the project's owner, and the end of a user, are not held up.
create trigger stamp_2_demote before update on public.sync_account_members
    for each row when (current_user = 'authenticated' and old.role = 'admin' and new.role <> 'admin')
    execute function public.keapsync_keep_last_admin();
create trigger stamp_2_remove before delete on public.sync_account_members
    for each row when (current_user = 'authenticated' and old.role = 'admin')
    execute function public.keapsync_keep_last_admin();

select public.keapsync_protect_table('public.sync_account_members');
create policy sync_account_members_engine on public.sync_account_members to keapsync_engine using (true) with check (true);
create policy sync_account_members_reader on public.sync_account_members for select to keapsync_reader using (true);
grant select on public.sync_account_members to keapsync_engine, keapsync_reader;
select public.keapsync_grant_service_role('select, insert, update, delete', 'public.sync_account_members');

do $$
begin
    if exists (select from pg_catalog.pg_roles where rolname = 'authenticated') then
        -- What policies call runs with the rights of whoever queries.
        grant execute on function public.keapsync_member_accounts(text) to authenticated;
    end if;
end
$$;

select public.keapsync_grant_members(command, 'operator', granted::regclass)
from unnest(array['public.sync_contacts', 'public.sync_orders', 'public.sync_tags', 'public.sync_subscriptions']) as granted,
    unnest(array['insert', 'update', 'delete']) as command;
select public.keapsync_grant_members('select', 'viewer', granted::regclass)
from unnest(array['public.sync_contacts', 'public.sync_orders', 'public.sync_tags', 'public.sync_subscriptions',
    'public.sync_accounts', 'public.sync_status', 'public.sync_conflicts', 'public.sync_queue', 'public.sync_audit_log',
    'public.sync_runs', 'public.sync_activity', 'public.sync_account_members']) as granted;
select public.keapsync_grant_members(command, 'admin', 'public.sync_account_members')
from unnest(array['insert', 'update', 'delete']) as command;

-- The record of migrations stands in a schema of its own; nobody but its owner has to see it.
do $$
declare
    role_name text;
begin
    if to_regclass('keapsync_migrations.applied') is null then
        return;
    end if;
    revoke all on schema keapsync_migrations from public;
    revoke all on table keapsync_migrations.applied from public;
    for role_name in select rolname from pg_catalog.pg_roles where rolname in ('anon', 'authenticated', 'service_role') loop
        execute format('revoke all on schema keapsync_migrations from %I', role_name);
        execute format('revoke all on table keapsync_migrations.applied from %I', role_name);
    end loop;
    alter table keapsync_migrations.applied enable row level security;
end
$$;
