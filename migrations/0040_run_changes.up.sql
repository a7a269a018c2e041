-- What dry runs would have done, record by record: the same decisions as a real run makes, noted here in place of being carried out.

create table public.sync_run_changes (
    account_id text not null references public.sync_accounts (account_id),
    run_id uuid not null,
    number bigint generated always as identity,
    side text not null check (side in ('keap', 'supabase')),
    action text not null check (action in ('create', 'update', 'delete', 'undelete', 'conflict')),
    entity_type text not null,
    entity_id uuid,
    keap_id text,
    -- A row that is read from Keap is told by Keap's id, also before it has a key of its own; a record that is written there the other
    -- way round.
    record text not null generated always as (
        case side when 'keap' then coalesce(entity_id::text, keap_id) else coalesce(keap_id, entity_id::text) end) stored,
    fields text[] not null default '{}',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint sync_run_changes_pkey primary key (run_id, number),
    -- A unit of a run that is repeated names its records again. What tells rows apart comes first: an index that begins with the run
    -- would look as good as the key for a run's pages, and have all of it sorted for each.
    constraint sync_run_changes_record_key unique (record, entity_type, side, run_id)
);
comment on table public.sync_run_changes is 'What dry runs would have done: one row per run, side and record.';
comment on column public.sync_run_changes.account_id is 'The Keap account.';
comment on column public.sync_run_changes.run_id is 'The dry run.';
comment on column public.sync_run_changes.number is 'Order within the run.';
comment on column public.sync_run_changes.side is 'The side that would have been written to: keap, supabase.';
comment on column public.sync_run_changes.action is 'What would have been done: create, update, delete, undelete, or conflict (left to a person).';
comment on column public.sync_run_changes.entity_type is 'Kind of record: contact, order, tag, subscription.';
comment on column public.sync_run_changes.entity_id is 'Key of the row in its table; null where it would have been made.';
comment on column public.sync_run_changes.keap_id is 'Keap''s id; null where the record would have been made.';
comment on column public.sync_run_changes.record is 'By which of both ids the run knows the record.';
comment on column public.sync_run_changes.fields is 'Fields that would have changed.';
comment on column public.sync_run_changes.created_at is 'When it was first planned.';
comment on column public.sync_run_changes.updated_at is 'When it was last planned.';

-- What is purged, by age.
create index sync_run_changes_created_at_idx on public.sync_run_changes (account_id, created_at);

select public.keapsync_protect_table('public.sync_run_changes');
create policy sync_run_changes_engine on public.sync_run_changes to keapsync_engine using (true) with check (true);
create policy sync_run_changes_reader on public.sync_run_changes for select to keapsync_reader using (true);
grant select, insert, update, delete on public.sync_run_changes to keapsync_engine;
grant select on public.sync_run_changes to keapsync_reader;
select public.keapsync_grant_service_role('select', 'public.sync_run_changes');
select public.keapsync_grant_members('select', 'viewer', 'public.sync_run_changes');

-- The upkeep of before is one part of it now; the other is what dry runs leave behind.
alter function public.sync_maintain(integer) rename to keapsync_maintain_records;

create function public.keapsync_maintain_run_changes(rows_max integer) returns bigint
    language sql
    security definer
    set search_path = ''
as $$
    with chosen as materialized (
        select planned.run_id, planned.number
        from public.sync_accounts account
        cross join lateral (
            select candidate.run_id, candidate.number
            from public.sync_run_changes candidate
            where candidate.account_id = account.account_id
                and candidate.created_at
                    < now() - make_interval(days => public.keapsync_retention(account.settings, 'run_changes_days', 30))
            order by candidate.created_at
            limit rows_max
        ) as planned
        limit rows_max
    ), purged as (
        delete from public.sync_run_changes planned using chosen
        where planned.run_id = chosen.run_id and planned.number = chosen.number
        returning 1
    )
    select count(*) from purged
$$;
comment on function public.keapsync_maintain_run_changes(integer) is
    'Removes what dry runs planned, once it is past its retention ("run_changes_days", 30); answers how many rows.';
select public.keapsync_protect_function('public.keapsync_maintain_run_changes(integer)');

create function public.sync_maintain(rows_max integer default 20000) returns table (task text, detail text, rows bigint)
    language plpgsql
    security definer
    set search_path = ''
as $$
begin
    return query select part.task, part.detail, part.rows from public.keapsync_maintain_records(rows_max) as part;
    task := 'purge run changes';
    detail := 'sync_run_changes';
    rows := public.keapsync_maintain_run_changes(rows_max);
    return next;
end
$$;
comment on function public.sync_maintain(integer) is
    'Daily upkeep: partitions ahead, what is past its retention removed, counts folded, links repaired, advice on vacuum. Does at most rows_max rows of each task; answers what it did. Call it again while a task does as many.';
comment on function public.keapsync_maintain_records(integer) is
    'The part of sync_maintain that is about records, their history and the outbox.';
select public.keapsync_protect_function('public.sync_maintain(integer)');
select public.keapsync_protect_function('public.keapsync_maintain_records(integer)');
revoke all on function public.keapsync_maintain_records(integer) from keapsync_engine;
grant execute on function public.sync_maintain(integer) to keapsync_engine;
do $$
begin
    if exists (select from pg_catalog.pg_roles where rolname = 'service_role') then
        grant execute on function public.sync_maintain(integer) to service_role;
    end if;
end
$$;
