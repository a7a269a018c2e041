-- What time asks of the database: partitions ahead, what is past its retention removed, counts folded, links repaired, and advice where
-- a table needs vacuum. Each call does a bounded amount, so that it ends well within the minute that proxies allow; what is left waits
-- for the next call, and a call that did nothing is cheap.
--
-- Retention is in sync_accounts.settings where an account sets it: {"retention": {"deleted_days": 90, "queue_days": 30,
-- "activity_days": 90, "runs_days": 365}}. The audit log is shared by all accounts and partitioned by month: it is kept for as many
-- months as the account that keeps it longest says ("audit_months", 24).

-- What is purged, by age.
create index sync_contacts_deleted_at_idx on public.sync_contacts (account_id, deleted_at) where deleted_at is not null;
create index sync_orders_deleted_at_idx on public.sync_orders (account_id, deleted_at) where deleted_at is not null;
create index sync_tags_deleted_at_idx on public.sync_tags (account_id, deleted_at) where deleted_at is not null;
create index sync_subscriptions_deleted_at_idx on public.sync_subscriptions (account_id, deleted_at) where deleted_at is not null;
create index sync_queue_completed_idx on public.sync_queue (account_id, completed_at) where status = 'completed';

create function public.keapsync_retention(settings jsonb, name text, usual integer) returns integer
    language sql
    immutable
    set search_path = ''
as $$
    select case
        when jsonb_typeof(settings -> 'retention' -> name) = 'number'
            -- At least one: zero would remove what has just been made.
            then least(greatest((settings -> 'retention' ->> name)::numeric, 1), 36500)::integer
        else usual
    end
$$;
comment on function public.keapsync_retention(jsonb, text, integer) is
    'An account''s retention of one kind, in days or months; what is usual where the account sets none.';
select public.keapsync_protect_function('public.keapsync_retention(jsonb, text, integer)');

create function public.keapsync_drop_audit_partitions(keep_months integer) returns text[]
    language plpgsql
    security definer
    set search_path = ''
    set timezone = 'UTC'
as $$
declare
    oldest_kept constant timestamptz := date_trunc('month', now()) - make_interval(months => keep_months);
    old_partition record;
    dropped text[] := '{}';
begin
    if keep_months not between 1 and 36500 then
        raise exception 'keep_months is %, it must be at least 1', keep_months;
    end if;
    for old_partition in
        select child.relname as name
        from pg_catalog.pg_inherits inherits
        join pg_catalog.pg_class child on child.oid = inherits.inhrelid
        where inherits.inhparent = 'public.sync_audit_log'::regclass and child.relname ~ '^sync_audit_log_y[0-9]{4}m[0-9]{2}$'
            and to_timestamp(substr(child.relname, 17), 'YYYY"m"MM') + interval '1 month' <= oldest_kept
        order by child.relname
    loop
        execute format('drop table public.%I', old_partition.name);
        dropped := dropped || old_partition.name;
    end loop;
    return dropped;
end
$$;
comment on function public.keapsync_drop_audit_partitions(integer) is
    'Drops the audit log''s partitions that ended more than this many months before the current one; answers their names.';
select public.keapsync_protect_function('public.keapsync_drop_audit_partitions(integer)');

create function public.sync_maintain(rows_max integer default 20000) returns table (task text, detail text, rows bigint)
    language plpgsql
    security definer
    set search_path = ''
    -- Waiting for somebody's lock would hold up everybody behind: what cannot be locked now is left to the next call.
    set lock_timeout = '2s'
as $$
declare
    entity record;
    advice record;
    dropped text[];
    done bigint;
begin
    if rows_max not between 1 and 100000 then
        raise exception 'rows_max is %, it must be 1 to 100000', rows_max;
    end if;

    begin
        task := 'partitions ahead';
        detail := 'sync_audit_log';
        rows := public.create_monthly_partitions(3);
    exception
        when lock_not_available then
            detail := 'sync_audit_log is locked, left to the next call';
            rows := 0;
    end;
    return next;

    begin
        task := 'audit retention';
        dropped := public.keapsync_drop_audit_partitions(coalesce(
            (select max(public.keapsync_retention(account.settings, 'audit_months', 24)) from public.sync_accounts account), 24));
        detail := coalesce(nullif(array_to_string(dropped, ', '), ''), 'nothing is past it');
        rows := cardinality(dropped);
    exception
        when lock_not_available then
            detail := 'sync_audit_log is locked, left to the next call';
            rows := 0;
    end;
    return next;

    -- Read by the soft delete's trigger, which lets go what is past its retention and nothing else.
    perform set_config('keapsync.purging', 'on', true);
    for entity in
        select * from (values ('order', 'sync_orders'), ('subscription', 'sync_subscriptions'), ('contact', 'sync_contacts'),
            ('tag', 'sync_tags')) as entities (name, table_name)
    loop
        task := 'purge deleted';
        detail := entity.table_name;
        begin
            -- A row that still owes Keap something, waits for a person, or lives on in Keap stays: without it Keap's record would
            -- come back as a new one.
            execute format(
                'with chosen as materialized (
                     select record.id
                     from public.sync_accounts account
                     cross join lateral (
                         select candidate.id, candidate.deleted_at
                         from public.%1$I candidate
                         where candidate.account_id = account.account_id and candidate.deleted_at is not null
                             and candidate.deleted_at
                                 < now() - make_interval(days => public.keapsync_retention(account.settings, ''deleted_days'', 90))
                             and candidate.sync_status = ''completed''
                             and not exists (
                                 select from public.sync_queue item
                                 where item.entity_type = %2$L and item.entity_id = candidate.id
                                     and item.status in (''pending'', ''processing''))
                             and (candidate.keap_id is null or not exists (
                                 select from public.sync_status status
                                 where status.entity_id = candidate.id and status.entity_type = %2$L
                                     and status.account_id = candidate.account_id and status.base ? ''deleted_at''))
                         order by candidate.deleted_at
                         limit $1
                     ) as record
                     order by record.deleted_at
                     limit $1
                 ), locked as materialized (
                     select candidate.id, candidate.account_id
                     from public.%1$I candidate
                     where candidate.id in (select chosen.id from chosen) and candidate.deleted_at is not null
                         and candidate.sync_status = ''completed''
                     order by candidate.id
                     for update skip locked
                 ), forgotten as (
                     delete from public.sync_status status using locked
                     where status.entity_id = locked.id and status.entity_type = %2$L and status.account_id = locked.account_id
                 )
                 delete from public.%1$I record using locked where record.id = locked.id',
                entity.table_name, entity.name)
                using rows_max;
            get diagnostics done = row_count;
            rows := done;
        exception
            when lock_not_available or deadlock_detected then
                detail := entity.table_name || ' is locked, left to the next call';
                rows := 0;
        end;
        return next;
    end loop;

    perform set_config('keapsync.purging', '', true);

    task := 'purge completed';
    detail := 'sync_queue';
    with chosen as materialized (
        select item.id
        from public.sync_accounts account
        cross join lateral (
            select candidate.id
            from public.sync_queue candidate
            where candidate.account_id = account.account_id and candidate.status = 'completed'
                and candidate.completed_at
                    < now() - make_interval(days => public.keapsync_retention(account.settings, 'queue_days', 30))
            order by candidate.completed_at
            limit rows_max
        ) as item
        limit rows_max
    )
    delete from public.sync_queue item using chosen where item.id = chosen.id and item.status = 'completed';
    get diagnostics rows = row_count;
    return next;

    task := 'purge activity';
    detail := 'sync_activity';
    -- The latest row of each kind stays: it says when that was last in step.
    with chosen as materialized (
        select activity.id
        from public.sync_accounts account
        cross join lateral (
            select candidate.id
            from public.sync_activity candidate
            where candidate.account_id = account.account_id
                and candidate.at < now() - make_interval(days => public.keapsync_retention(account.settings, 'activity_days', 90))
                and exists (
                    select from public.sync_activity later
                    where later.account_id = candidate.account_id and later.entity_type = candidate.entity_type
                        and (later.at, later.id) > (candidate.at, candidate.id))
            limit rows_max
        ) as activity
        limit rows_max
    )
    delete from public.sync_activity activity using chosen where activity.id = chosen.id;
    get diagnostics rows = row_count;
    return next;

    task := 'purge runs';
    detail := 'sync_runs';
    delete from public.sync_runs run
    using public.sync_accounts account
    where account.account_id = run.account_id and run.state in ('completed', 'failed')
        and coalesce(run.finished_at, run.updated_at)
            < now() - make_interval(days => public.keapsync_retention(account.settings, 'runs_days', 365));
    get diagnostics rows = row_count;
    return next;

    task := 'fold counts';
    detail := 'sync_record_counts';
    rows := public.keapsync_fold_counts(rows_max);
    return next;

    -- A record and its contact that were written at the same moment did not see each other.
    for entity in select * from (values ('sync_orders'), ('sync_subscriptions')) as entities (table_name) loop
        task := 'repair links';
        detail := entity.table_name;
        execute format(
            'with chosen as materialized (
                 select record.id, contact.id as contact_id
                 from public.%1$I record
                 join public.sync_contacts contact
                     on contact.keap_id = record.keap_contact_id and contact.account_id = record.account_id
                 where record.contact_id is null
                 order by record.id
                 limit $1
                 for no key update of record skip locked
             )
             update public.%1$I record set contact_id = chosen.contact_id from chosen where record.id = chosen.id', entity.table_name)
            using rows_max;
        get diagnostics done = row_count;
        rows := done;
        return next;
    end loop;

    task := 'vacuum advice';
    for advice in
        select statistics.relname, statistics.n_dead_tup,
            greatest(statistics.last_vacuum, statistics.last_autovacuum) as vacuumed_at
        from pg_catalog.pg_stat_all_tables statistics
        where statistics.schemaname = 'public' and statistics.relname like 'sync\_%'
            and statistics.n_dead_tup > 10000 and statistics.n_dead_tup > 0.3 * statistics.n_live_tup
        order by statistics.n_dead_tup desc
    loop
        detail := format('%s: run "vacuum (analyze) public.%I" when it is quiet; last vacuumed %s. If this comes back daily, lower its autovacuum_vacuum_scale_factor.',
            advice.relname, advice.relname, coalesce(advice.vacuumed_at::text, 'never'));
        rows := advice.n_dead_tup;
        return next;
    end loop;
end
$$;
comment on function public.sync_maintain(integer) is
    'Daily upkeep: partitions ahead, what is past its retention removed, counts folded, links repaired, advice on vacuum. Does at most rows_max rows of each task; answers what it did. Call it again while a task does as many.';
select public.keapsync_protect_function('public.sync_maintain(integer)');
grant execute on function public.sync_maintain(integer) to keapsync_engine;
do $$
begin
    if exists (select from pg_catalog.pg_roles where rolname = 'service_role') then
        grant execute on function public.sync_maintain(integer) to service_role;
    end if;
end
$$;

-- Upkeep may run in anybody's session (pg_cron's is the owner's), where a DELETE is a person's and becomes deleted_at. The setting alone
-- opens nothing: what is not past its retention is kept whoever sets it.
create or replace function public.keapsync_soft_delete() returns trigger
    language plpgsql
    security definer
    set search_path = ''
as $$
begin
    if old.deleted_at is not null and old.sync_status = 'completed' and current_setting('keapsync.purging', true) = 'on'
        and old.deleted_at < now() - make_interval(days => public.keapsync_retention(
            (select account.settings from public.sync_accounts account where account.account_id = old.account_id), 'deleted_days', 90))
    then
        return old;
    end if;
    execute format('update %I.%I set deleted_at = now() where id = $1 and deleted_at is null', tg_table_schema, tg_table_name)
        using old.id;
    return null;
end
$$;

-- pg_cron calls the upkeep where it is installed; otherwise the workers' daily cron does.
create function public.keapsync_schedule_maintenance() returns boolean
    language plpgsql
    set search_path = ''
as $$
begin
    if not exists (select from pg_catalog.pg_extension where extname = 'pg_cron') then
        return false;
    end if;
    -- No proxy limits this call: it may do more than the workers' own.
    perform cron.schedule('keapsync-maintain', '17 3 * * *', 'select * from public.sync_maintain(100000)');
    return true;
exception
    when insufficient_privilege then
        raise notice 'pg_cron is there, and this role may not schedule with it: the workers call sync_maintain instead'
            using hint = 'Grant usage on schema cron to it, then call keapsync_schedule_maintenance().';
        return false;
end
$$;
comment on function public.keapsync_schedule_maintenance() is
    'Schedules the daily upkeep with pg_cron; answers whether it could. Call it as the owner when pg_cron is installed later.';
select public.keapsync_protect_function('public.keapsync_schedule_maintenance()');
select public.keapsync_schedule_maintenance();
