-- The accounts, mirrored from the registry so that SQL can join them. The registry is the truth; nothing reads settings from here.

create table public.sync_accounts (
    account_id text primary key check (account_id ~ '^[a-z0-9-]{1,64}$'),
    name text not null,
    status text not null check (status <> ''),
    settings jsonb not null default '{}' check (jsonb_typeof(settings) = 'object'),
    last_full_sync_at timestamptz,
    last_incremental_sync_at timestamptz,
    last_error text,
    last_error_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
comment on table public.sync_accounts is 'Keap accounts that are synced: a mirror of the registry, one row per account.';
comment on column public.sync_accounts.account_id is 'Name of the account: a-z, 0-9 and hyphens, at most 64.';
comment on column public.sync_accounts.name is 'What people call the account.';
comment on column public.sync_accounts.status is 'State of the connection, in the registry''s words.';
comment on column public.sync_accounts.settings is 'Settings as last mirrored; changed only through the API.';
comment on column public.sync_accounts.last_full_sync_at is 'When a full sync last completed.';
comment on column public.sync_accounts.last_incremental_sync_at is 'When an incremental sync last completed.';
comment on column public.sync_accounts.last_error is 'Why the last failed run failed.';
comment on column public.sync_accounts.last_error_at is 'When the last failed run failed.';
comment on column public.sync_accounts.created_at is 'When the account was first mirrored.';
comment on column public.sync_accounts.updated_at is 'When this row last changed.';

select public.keapsync_protect_table('public.sync_accounts');
create policy sync_accounts_engine on public.sync_accounts to keapsync_engine using (true) with check (true);
create policy sync_accounts_reader on public.sync_accounts for select to keapsync_reader using (true);
grant select, insert, update on public.sync_accounts to keapsync_engine;
grant select on public.sync_accounts to keapsync_reader;
select public.keapsync_grant_service_role('select', 'public.sync_accounts');
