-- What both sides last agreed on, per record. While a row of a mirrored table is unchanged since then, the row itself is the base and
-- base is null; otherwise base keeps the old values of the fields in which the row differs, so that row overlaid with base is the base.

create table public.sync_status (
    account_id text not null,
    entity_type text not null,
    entity_id uuid not null,
    keap_id text,
    supabase_id uuid not null,
    sync_direction text,
    has_base boolean not null default false,
    base jsonb,
    base_hash text,
    keap_hash text,
    keap_observed_at timestamptz,
    last_sync_at timestamptz,
    last_sync_status text,
    last_sync_error text,
    conflict_status text not null default 'none',
    retry_count integer not null default 0,
    next_retry_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint sync_status_pkey primary key (entity_id, entity_type, account_id)
)
-- Every edit updates its row here, in columns that no index holds: with room left on the page the indexes are not touched.
with (fillfactor = 90);
comment on table public.sync_status is 'Sync state per record: what both sides last agreed on, and how the last attempt went.';
comment on column public.sync_status.account_id is 'The Keap account.';
comment on column public.sync_status.entity_type is 'Kind of record: contact.';
comment on column public.sync_status.entity_id is 'Key of the row in its table.';
comment on column public.sync_status.keap_id is 'Keap''s id, once linked.';
comment on column public.sync_status.supabase_id is 'The same as entity_id, beside keap_id for people who compare both sides.';
comment on column public.sync_status.sync_direction is 'Which way the last change went.';
comment on column public.sync_status.has_base is 'Whether both sides ever agreed: false for a row that never met its Keap record.';
comment on column public.sync_status.base is 'Agreed values of the fields in which the row differs from the base, keyed by column; null while the row is the base. Before the first agreement: the values the row was inserted with.';
comment on column public.sync_status.base_hash is 'Hash of the base in canonical form, 32 hexadecimal digits.';
comment on column public.sync_status.keap_hash is 'Hash of Keap''s record when it was last applied, 32 hexadecimal digits.';
comment on column public.sync_status.keap_observed_at is 'When the request was sent whose answer was applied last.';
comment on column public.sync_status.last_sync_at is 'When the sync last wrote the row.';
comment on column public.sync_status.last_sync_status is 'How that ended: completed, pending, error, conflict.';
comment on column public.sync_status.last_sync_error is 'Why, in words.';
comment on column public.sync_status.conflict_status is 'none, pending (a person has to decide), resolved.';
comment on column public.sync_status.retry_count is 'Failed attempts since the last success.';
comment on column public.sync_status.next_retry_at is 'When the record is tried again; null when nothing waits.';
comment on column public.sync_status.created_at is 'When the record was first seen.';
comment on column public.sync_status.updated_at is 'When this row last changed.';

-- Whether a record that Keap sent is known and unchanged: the first question of every page. The column that tells rows apart comes
-- first here and in the key: an index that begins with an account's name looks as good for any query of that account until there
-- are statistics, and reads all of it.
create index sync_status_keap_id_idx on public.sync_status (keap_id, entity_type, account_id);
-- What is due for another attempt.
create index sync_status_next_retry_at_idx on public.sync_status (next_retry_at) where next_retry_at is not null;

-- Written once and not generated: a generated column is worked out anew with every update, which each captured edit would pay for.
create function public.keapsync_stamp_status() returns trigger
    language plpgsql
    set search_path = ''
as $$
begin
    new.supabase_id := new.entity_id;
    return new;
end
$$;
comment on function public.keapsync_stamp_status() is 'Before a status is inserted: supabase_id says what entity_id does.';
select public.keapsync_protect_function('public.keapsync_stamp_status()');
create trigger stamp_insert before insert on public.sync_status
    for each row execute function public.keapsync_stamp_status();

select public.keapsync_protect_table('public.sync_status');
-- What a row may say is checked here and not in the table: Postgres reads a table's checks anew with every statement that writes it,
-- which each captured edit would pay for, while the policy is part of the engine's prepared statements. Capture writes constants
-- and an object.
create policy sync_status_engine on public.sync_status to keapsync_engine using (true) with check (
    (sync_direction in ('keap_to_supabase', 'supabase_to_keap')) is not false
    and (jsonb_typeof(base) = 'object') is not false
    and (length(base_hash) = 32) is not false
    and (length(keap_hash) = 32) is not false
    and supabase_id = entity_id
    and conflict_status in ('none', 'pending', 'resolved'));
create policy sync_status_reader on public.sync_status for select to keapsync_reader using (true);
grant select, insert, update, delete on public.sync_status to keapsync_engine;
grant select on public.sync_status to keapsync_reader;
select public.keapsync_grant_service_role('select', 'public.sync_status');
