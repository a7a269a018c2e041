-- Proof that both sides are equal, or by which records they are not: one row per full comparison and kind of record, so that anybody
-- can see when they were last proven equal.

create table public.sync_certificates (
    id uuid primary key default gen_random_uuid(),
    account_id text not null references public.sync_accounts (account_id),
    entity_type text not null,
    run_id uuid,
    equal boolean not null,
    keap_count bigint not null check (keap_count >= 0),
    supabase_count bigint not null check (supabase_count >= 0),
    keap_tree_hash text not null check (length(keap_tree_hash) = 32),
    supabase_tree_hash text not null check (length(supabase_tree_hash) = 32),
    differing_count bigint not null default 0 check (differing_count >= 0),
    differences jsonb not null default '[]' check (jsonb_typeof(differences) = 'array'),
    open_conflicts bigint not null default 0 check (open_conflicts >= 0),
    oldest_unsynced_at timestamptz,
    started_at timestamptz not null,
    checked_at timestamptz not null default now(),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    -- What a certificate says follows from its numbers.
    constraint sync_certificates_equal_check check (equal = (differing_count = 0)),
    constraint sync_certificates_hash_check check (not equal or keap_tree_hash = supabase_tree_hash or open_conflicts > 0)
);
comment on table public.sync_certificates is 'Full comparisons of both sides: equal, or by which records and fields not.';
comment on column public.sync_certificates.id is 'Key of the certificate.';
comment on column public.sync_certificates.account_id is 'The Keap account.';
comment on column public.sync_certificates.entity_type is 'Kind of record: contact, order, tag, subscription.';
comment on column public.sync_certificates.run_id is 'Run that compared, if it was a run.';
comment on column public.sync_certificates.equal is 'Whether both sides were equal, but for fields that are listed as open conflicts.';
comment on column public.sync_certificates.keap_count is 'Records in Keap.';
comment on column public.sync_certificates.supabase_count is 'Live rows here.';
comment on column public.sync_certificates.keap_tree_hash is 'Root of the hash tree over Keap''s records in canonical form, 32 hexadecimal digits.';
comment on column public.sync_certificates.supabase_tree_hash is 'The same over the rows here.';
comment on column public.sync_certificates.differing_count is 'Records that differ, open conflicts aside.';
comment on column public.sync_certificates.differences is 'The first of them: array of {"keap_id", "entity_id", "fields"}.';
comment on column public.sync_certificates.open_conflicts is 'Conflicts that were open at that time.';
comment on column public.sync_certificates.oldest_unsynced_at is 'When the oldest change was made that had not reached the other side; null when none waited.';
comment on column public.sync_certificates.started_at is 'When the comparison began.';
comment on column public.sync_certificates.checked_at is 'When it ended.';
comment on column public.sync_certificates.created_at is 'When this row was made.';
comment on column public.sync_certificates.updated_at is 'When this row last changed.';

-- The latest certificate of an account and kind of record, and when they were last equal.
create index sync_certificates_latest_idx on public.sync_certificates (account_id, entity_type, checked_at desc) include (equal);

select public.keapsync_protect_table('public.sync_certificates');
create policy sync_certificates_engine on public.sync_certificates to keapsync_engine using (true) with check (true);
create policy sync_certificates_reader on public.sync_certificates for select to keapsync_reader using (true);
grant select, insert, delete on public.sync_certificates to keapsync_engine;
grant select on public.sync_certificates to keapsync_reader;
select public.keapsync_grant_service_role('select', 'public.sync_certificates');
select public.keapsync_grant_members('select', 'viewer', 'public.sync_certificates');
