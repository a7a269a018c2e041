-- Who or what changed each record, as reverse deltas: an entry keeps the old values of what changed, so that any past state is the
-- current row with entries undone, and a first load writes no second copy of each row.
--
-- One partition per month, made ahead by create_monthly_partitions; a default partition takes what no month covers, so that no
-- write ever fails for want of one.

create table public.sync_audit_log (
    id bigint generated always as identity,
    account_id text not null,
    entity_type text not null,
    entity_id uuid not null,
    keap_id text,
    operation text not null,
    old_data jsonb,
    new_data jsonb,
    changed_fields text[],
    sync_source text not null,
    sync_destination text not null,
    run_id uuid,
    user_id uuid,
    ip_address inet,
    user_agent text,
    created_at timestamptz not null default now(),
    constraint sync_audit_log_pkey primary key (id, created_at)
) partition by range (created_at);
comment on table public.sync_audit_log is 'Every change of every record, as old values of what changed. Append-only, partitioned by month.';
comment on column public.sync_audit_log.id is 'Order of the entries.';
comment on column public.sync_audit_log.account_id is 'The Keap account.';
comment on column public.sync_audit_log.entity_type is 'Kind of record: contact.';
comment on column public.sync_audit_log.entity_id is 'Key of the row in its table.';
comment on column public.sync_audit_log.keap_id is 'Keap''s id, where known.';
comment on column public.sync_audit_log.operation is 'create, update, delete, undelete, conflict.';
comment on column public.sync_audit_log.old_data is 'Old values of the columns that changed; null for a create.';
comment on column public.sync_audit_log.new_data is 'Values that were overridden and are kept nowhere else, keyed by field; mostly null.';
comment on column public.sync_audit_log.changed_fields is 'Columns that changed; null for a create: all of them.';
comment on column public.sync_audit_log.sync_source is 'supabase (a person''s edit), or how Keap''s record came: hook, poll, full_sync, outbox (its answer to our write).';
comment on column public.sync_audit_log.sync_destination is 'Where the change went, or is going: supabase, keap.';
comment on column public.sync_audit_log.run_id is 'Run that wrote it, if it was a run.';
comment on column public.sync_audit_log.user_id is 'User who made the edit, from the request''s token.';
comment on column public.sync_audit_log.ip_address is 'Address the request came from, as the API gateway says.';
comment on column public.sync_audit_log.user_agent is 'Program the request came from, as it says.';
comment on column public.sync_audit_log.created_at is 'When the change was made.';

-- What happened between two times: rows lie in order of time, so a few pages of summary serve.
create index sync_audit_log_created_at_idx on public.sync_audit_log using brin (created_at);
-- The history of one record.
create index sync_audit_log_entity_idx on public.sync_audit_log (entity_type, entity_id, created_at);

select public.keapsync_protect_table('public.sync_audit_log');
create policy sync_audit_log_engine on public.sync_audit_log to keapsync_engine using (true) with check (true);
create policy sync_audit_log_reader on public.sync_audit_log for select to keapsync_reader using (true);
grant select, insert on public.sync_audit_log to keapsync_engine;
grant select on public.sync_audit_log to keapsync_reader;
select public.keapsync_grant_service_role('select', 'public.sync_audit_log');

-- Nobody is granted a partition itself: access goes through the table.
create table public.sync_audit_log_default partition of public.sync_audit_log default;
select public.keapsync_protect_table('public.sync_audit_log_default');
comment on table public.sync_audit_log_default is 'Audit entries of months that have no partition of their own.';

create function public.create_monthly_partitions(months_ahead integer default 3) returns integer
    language plpgsql
    security definer
    set search_path = ''
    set timezone = 'UTC'
as $$
declare
    first_day timestamptz;
    next_day timestamptz;
    partition_name text;
    made integer := 0;
begin
    if months_ahead not between 0 and 120 then
        raise exception 'months_ahead is %, it must be 0 to 120', months_ahead;
    end if;
    -- One caller at a time; readers and writers of the log are not held up by this lock.
    lock table public.sync_audit_log in share update exclusive mode;
    for month in 0..months_ahead loop
        first_day := date_trunc('month', now()) + make_interval(months => month);
        next_day := first_day + interval '1 month';
        partition_name := 'sync_audit_log_' || to_char(first_day, '"y"YYYY"m"MM');
        continue when to_regclass(format('public.%I', partition_name)) is not null;
        -- Made apart and attached: so entries that already lie in the default partition can move into it first.
        execute format(
            'create table public.%I (like public.sync_audit_log including defaults including constraints including indexes including storage)',
            partition_name);
        perform public.keapsync_protect_table(format('public.%I', partition_name)::regclass);
        execute format('comment on table public.%I is %L', partition_name,
            'Audit entries of ' || to_char(first_day, 'YYYY-MM') || ' (UTC).');
        execute format(
            'with moved as (delete from public.sync_audit_log_default where created_at >= %L and created_at < %L returning *)
             insert into public.%I select * from moved', first_day, next_day, partition_name);
        execute format('alter table public.sync_audit_log attach partition public.%I for values from (%L) to (%L)',
            partition_name, first_day, next_day);
        made := made + 1;
    end loop;
    return made;
end
$$;
comment on function public.create_monthly_partitions(integer) is
    'Makes the audit log''s partitions of this month and the months ahead that are missing; answers how many it made.';
select public.keapsync_protect_function('public.create_monthly_partitions(integer)');
grant execute on function public.create_monthly_partitions(integer) to keapsync_engine;

select public.create_monthly_partitions(3);
