-- Runs of bulk work, mirrored from the account's object by the engine.

create table public.sync_runs (
    id uuid primary key,
    account_id text not null references public.sync_accounts (account_id),
    kind text not null check (kind in ('full', 'incremental', 'verify', 'revert')),
    entity_type text not null,
    direction text not null check (direction in ('keap_to_supabase', 'supabase_to_keap', 'bidirectional')),
    state text not null check (state in ('queued', 'running', 'awaiting_approval', 'completed', 'failed')),
    dry_run boolean not null default false,
    batch_id uuid,
    reverts uuid,
    counts jsonb not null default '{}' check (jsonb_typeof(counts) = 'object'),
    cursor jsonb,
    error text,
    started_at timestamptz,
    finished_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
comment on table public.sync_runs is 'Bulk runs: what ran, how far it came and what it did.';
comment on column public.sync_runs.id is 'Key of the run.';
comment on column public.sync_runs.account_id is 'The Keap account.';
comment on column public.sync_runs.kind is 'full, incremental, verify (compares both sides) or revert (undoes another run).';
comment on column public.sync_runs.entity_type is 'Kind of record: contact.';
comment on column public.sync_runs.direction is 'keap_to_supabase, supabase_to_keap, bidirectional.';
comment on column public.sync_runs.state is 'queued, running, awaiting_approval (stopped by the blast guard), completed, failed.';
comment on column public.sync_runs.dry_run is 'Whether it only lists what it would do: see sync_run_changes.';
comment on column public.sync_runs.batch_id is 'Shared by the runs that were started together.';
comment on column public.sync_runs.reverts is 'The run that it undoes.';
comment on column public.sync_runs.counts is 'Records by what was done with them.';
comment on column public.sync_runs.cursor is 'Where the next unit goes on.';
comment on column public.sync_runs.error is 'Why it failed or stopped, in words.';
comment on column public.sync_runs.started_at is 'When its first unit began.';
comment on column public.sync_runs.finished_at is 'When it ended.';
comment on column public.sync_runs.created_at is 'When it was ordered.';
comment on column public.sync_runs.updated_at is 'When this row last changed.';

-- The list of an account's runs, newest first.
create index sync_runs_account_idx on public.sync_runs (account_id, created_at);

select public.keapsync_protect_table('public.sync_runs');
create policy sync_runs_engine on public.sync_runs to keapsync_engine using (true) with check (true);
create policy sync_runs_reader on public.sync_runs for select to keapsync_reader using (true);
grant select, insert, update, delete on public.sync_runs to keapsync_engine;
grant select on public.sync_runs to keapsync_reader;
select public.keapsync_grant_service_role('select', 'public.sync_runs');
