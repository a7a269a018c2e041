-- What the sync did, one row per page or batch: the engine's statements append to it, and health is read from it. A row is never
-- changed, so writers do not wait for each other.

create table public.sync_activity (
    id bigint generated always as identity primary key,
    account_id text not null references public.sync_accounts (account_id),
    entity_type text not null,
    direction text not null check (direction in ('keap_to_supabase', 'supabase_to_keap')),
    source text not null,
    records integer not null check (records >= 0),
    lag_ms_total bigint not null default 0 check (lag_ms_total >= 0),
    lag_records integer not null default 0 check (lag_records >= 0),
    at timestamptz not null default now()
);
comment on table public.sync_activity is 'What the sync did, one row per page or batch. Append-only; old rows are purged.';
comment on column public.sync_activity.id is 'Order of the rows.';
comment on column public.sync_activity.account_id is 'The Keap account.';
comment on column public.sync_activity.entity_type is 'Kind of record: contact, order, tag, subscription.';
comment on column public.sync_activity.direction is 'keap_to_supabase or supabase_to_keap.';
comment on column public.sync_activity.source is 'What made the sync look: hook, poll, full_sync, outbox.';
comment on column public.sync_activity.records is 'How many records were brought into step, whether or not a value changed.';
comment on column public.sync_activity.lag_ms_total is 'Time from the change to its arrival on the other side, in milliseconds, summed over lag_records.';
comment on column public.sync_activity.lag_records is 'Records whose time of change is known and counts: not those of a first load.';
comment on column public.sync_activity.at is 'When the page or batch was written.';

-- When an account's records of a kind were last brought into step.
create index sync_activity_at_idx on public.sync_activity (account_id, entity_type, at desc);
-- The average lag of the latest changes; the pages of a first load have none and would only be in the way.
create index sync_activity_lag_idx on public.sync_activity (account_id, entity_type, at desc)
    include (lag_ms_total, lag_records) where lag_records > 0;

select public.keapsync_protect_table('public.sync_activity');
create policy sync_activity_engine on public.sync_activity to keapsync_engine using (true) with check (true);
create policy sync_activity_reader on public.sync_activity for select to keapsync_reader using (true);
grant select, insert, delete on public.sync_activity to keapsync_engine;
grant select on public.sync_activity to keapsync_reader;
select public.keapsync_grant_service_role('select', 'public.sync_activity');
