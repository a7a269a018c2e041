-- Every conflict, also those a policy settled by itself. Open ones wait for a person.

create table public.sync_conflicts (
    id uuid primary key default gen_random_uuid(),
    account_id text not null references public.sync_accounts (account_id),
    entity_type text not null,
    entity_id uuid not null,
    keap_id text,
    conflict_fields text[] not null check (cardinality(conflict_fields) > 0),
    base_data jsonb,
    keap_data jsonb,
    supabase_data jsonb,
    keap_changed_at timestamptz,
    supabase_changed_at timestamptz,
    run_id uuid,
    detected_at timestamptz not null default now(),
    resolution_strategy text,
    winner text,
    resolved_at timestamptz,
    resolved_by uuid,
    resolution_notes text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
comment on table public.sync_conflicts is 'Fields changed on both sides to different values: what each side had, and who won.';
comment on column public.sync_conflicts.id is 'Key of the conflict.';
comment on column public.sync_conflicts.account_id is 'The Keap account.';
comment on column public.sync_conflicts.entity_type is 'Kind of record: contact.';
comment on column public.sync_conflicts.entity_id is 'Key of the row in its table.';
comment on column public.sync_conflicts.keap_id is 'Keap''s id.';
comment on column public.sync_conflicts.conflict_fields is 'Fields in conflict; a slot or key is named after a dot (addresses.BILLING).';
comment on column public.sync_conflicts.base_data is 'Values both sides last agreed on, keyed by field.';
comment on column public.sync_conflicts.keap_data is 'Keap''s values, keyed by field.';
comment on column public.sync_conflicts.supabase_data is 'The row''s values, keyed by field.';
comment on column public.sync_conflicts.keap_changed_at is 'When Keap''s record changed, by Keap''s clock.';
comment on column public.sync_conflicts.supabase_changed_at is 'When the row changed.';
comment on column public.sync_conflicts.run_id is 'Run that met the conflict, if it was a run.';
comment on column public.sync_conflicts.detected_at is 'When the conflict was met.';
comment on column public.sync_conflicts.resolution_strategy is 'Policy that applied: newest_wins, keap_wins, supabase_wins, merge, manual.';
comment on column public.sync_conflicts.winner is 'Whose value stands; null while open.';
comment on column public.sync_conflicts.resolved_at is 'When it was settled; null while it waits for a person.';
comment on column public.sync_conflicts.resolved_by is 'User who settled it; null for a policy.';
comment on column public.sync_conflicts.resolution_notes is 'What the person, or the sync, said about it.';
comment on column public.sync_conflicts.created_at is 'When this row was made.';
comment on column public.sync_conflicts.updated_at is 'When this row last changed.';

-- One open conflict per record and field; the list of open conflicts of an account.
create unique index sync_conflicts_open_key on public.sync_conflicts (entity_id, entity_type, account_id, conflict_fields)
    where resolved_at is null;
-- The history of one record.
create index sync_conflicts_entity_idx on public.sync_conflicts (entity_type, entity_id, detected_at);

select public.keapsync_protect_table('public.sync_conflicts');
create policy sync_conflicts_engine on public.sync_conflicts to keapsync_engine using (true) with check (true);
create policy sync_conflicts_reader on public.sync_conflicts for select to keapsync_reader using (true);
grant select, insert, update, delete on public.sync_conflicts to keapsync_engine;
grant select on public.sync_conflicts to keapsync_reader;
select public.keapsync_grant_service_role('select', 'public.sync_conflicts');
