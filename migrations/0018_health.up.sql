-- Health of each account and kind of record: exact, and quick however many records there are.
--
-- Counting a million rows takes too long to be asked for every few seconds, and one counter per account would make all writers
-- wait for each other. So every statement that makes or removes live rows appends by how many, and the view adds these up: in any
-- snapshot exactly the rows that snapshot sees. Many such rows are folded into one now and then.

create table public.sync_record_counts (
    id bigint generated always as identity primary key,
    account_id text not null references public.sync_accounts (account_id),
    entity_type text not null,
    total bigint not null,
    created_at timestamptz not null default now()
);
comment on table public.sync_record_counts is 'By how many the live rows of an account and kind of record changed; the sum is how many there are.';
comment on column public.sync_record_counts.id is 'Key of the row.';
comment on column public.sync_record_counts.account_id is 'The Keap account.';
comment on column public.sync_record_counts.entity_type is 'Kind of record: contact, order, tag, subscription.';
comment on column public.sync_record_counts.total is 'Rows made less rows removed.';
comment on column public.sync_record_counts.created_at is 'When the statement ran, or these rows were folded.';

-- The sum of an account and kind of record, from the index alone.
create index sync_record_counts_sum_idx on public.sync_record_counts (account_id, entity_type) include (total);

select public.keapsync_protect_table('public.sync_record_counts');
create policy sync_record_counts_engine on public.sync_record_counts to keapsync_engine using (true) with check (true);
create policy sync_record_counts_reader on public.sync_record_counts for select to keapsync_reader using (true);
grant select on public.sync_record_counts to keapsync_engine, keapsync_reader;
select public.keapsync_grant_service_role('select', 'public.sync_record_counts');
select public.keapsync_grant_members('select', 'viewer', 'public.sync_record_counts');

create function public.keapsync_fold_counts(rows_max integer default 100000) returns integer
    language sql
    security definer
    set search_path = ''
as $$
    -- Removed and added up in one statement: every snapshot sees the rows or their sum. What another session folds is skipped.
    with chosen as (
        select count.id from public.sync_record_counts count order by count.id limit rows_max for update skip locked
    ), folded as (
        delete from public.sync_record_counts count using chosen where count.id = chosen.id
        returning count.account_id, count.entity_type, count.total
    ), added as (
        insert into public.sync_record_counts (account_id, entity_type, total)
        select folded.account_id, folded.entity_type, sum(folded.total) from folded
        group by folded.account_id, folded.entity_type
        returning 1
    )
    select (select count(*) from folded)::integer - (select count(*) from added)::integer
$$;
comment on function public.keapsync_fold_counts(integer) is
    'Adds rows of sync_record_counts up into one per account and kind of record; answers how many fewer there are.';
select public.keapsync_protect_function('public.keapsync_fold_counts(integer)');
grant execute on function public.keapsync_fold_counts(integer) to keapsync_engine;

create function public.keapsync_count_records() returns trigger
    language plpgsql
    security definer
    set search_path = ''
as $$
declare
    last_id bigint;
begin
    if tg_op = 'INSERT' then
        with noted as (
            insert into public.sync_record_counts (account_id, entity_type, total)
            select changed.account_id, tg_argv[0], count(*) from changed where changed.deleted_at is null group by changed.account_id
            returning id
        )
        select max(noted.id) into last_id from noted;
    elsif tg_op = 'DELETE' then
        with noted as (
            insert into public.sync_record_counts (account_id, entity_type, total)
            select changed.account_id, tg_argv[0], -count(*) from changed where changed.deleted_at is null group by changed.account_id
            returning id
        )
        select max(noted.id) into last_id from noted;
    else
        insert into public.sync_record_counts (account_id, entity_type, total)
        values (new.account_id, tg_argv[0], case when new.deleted_at is null then 1 else -1 end)
        returning id into last_id;
    end if;
    -- Every thousandth row folds what has come together. Under a stricter isolation another session's fold would refuse the edit.
    if last_id % 1000 = 0 and current_setting('transaction_isolation') = 'read committed' then
        perform public.keapsync_fold_counts(2000);
    end if;
    return null;
end
$$;
comment on function public.keapsync_count_records() is
    'After rows are inserted, deleted, or change between live and deleted: notes by how many. Argument: kind of record.';
select public.keapsync_protect_function('public.keapsync_count_records()');

create trigger count_insert after insert on public.sync_contacts
    referencing new table as changed
    for each statement execute function public.keapsync_count_records('contact');
create trigger count_update after update on public.sync_contacts
    for each row when ((old.deleted_at is null) <> (new.deleted_at is null))
    execute function public.keapsync_count_records('contact');
create trigger count_delete after delete on public.sync_contacts
    referencing old table as changed
    for each statement execute function public.keapsync_count_records('contact');
create trigger count_insert after insert on public.sync_orders
    referencing new table as changed
    for each statement execute function public.keapsync_count_records('order');
create trigger count_update after update on public.sync_orders
    for each row when ((old.deleted_at is null) <> (new.deleted_at is null))
    execute function public.keapsync_count_records('order');
create trigger count_delete after delete on public.sync_orders
    referencing old table as changed
    for each statement execute function public.keapsync_count_records('order');
create trigger count_insert after insert on public.sync_tags
    referencing new table as changed
    for each statement execute function public.keapsync_count_records('tag');
create trigger count_update after update on public.sync_tags
    for each row when ((old.deleted_at is null) <> (new.deleted_at is null))
    execute function public.keapsync_count_records('tag');
create trigger count_delete after delete on public.sync_tags
    referencing old table as changed
    for each statement execute function public.keapsync_count_records('tag');
create trigger count_insert after insert on public.sync_subscriptions
    referencing new table as changed
    for each statement execute function public.keapsync_count_records('subscription');
create trigger count_update after update on public.sync_subscriptions
    for each row when ((old.deleted_at is null) <> (new.deleted_at is null))
    execute function public.keapsync_count_records('subscription');
create trigger count_delete after delete on public.sync_subscriptions
    referencing old table as changed
    for each statement execute function public.keapsync_count_records('subscription');
create trigger refuse_truncate before truncate on public.sync_record_counts
    for each statement execute function public.keapsync_refuse_truncate();

-- The triggers' locks keep writers out until this migration is committed: nothing is counted twice or left out.
insert into public.sync_record_counts (account_id, entity_type, total)
select account_id, 'contact', count(*) from public.sync_contacts where deleted_at is null group by account_id
union all
select account_id, 'order', count(*) from public.sync_orders where deleted_at is null group by account_id
union all
select account_id, 'tag', count(*) from public.sync_tags where deleted_at is null group by account_id
union all
select account_id, 'subscription', count(*) from public.sync_subscriptions where deleted_at is null group by account_id;

-- How long the oldest edit waits.
create index sync_queue_oldest_idx on public.sync_queue (account_id, entity_type, created_at)
    where status in ('pending', 'processing') and operation <> 'sync';

-- A view has no policies of its own: with security_invoker its reader needs the right to read what it reads.
create function public.keapsync_publish_view(published regclass) returns void
    language plpgsql
    set search_path = ''
as $$
declare
    role_name text;
begin
    if not exists (
        select from pg_catalog.pg_class where oid = published and relkind = 'v' and 'security_invoker=true' = any (reloptions)
    ) then
        raise exception '% is no view with security_invoker', published
            using hint = 'Other views read with their owner''s rights, past every policy.';
    end if;
    execute format('revoke all on table %s from public', published);
    for role_name in select rolname from pg_catalog.pg_roles where rolname in ('anon', 'authenticated', 'service_role') loop
        execute format('revoke all on table %s from %I', published, role_name);
    end loop;
    execute format('grant select on table %s to keapsync_engine, keapsync_reader', published);
    for role_name in select rolname from pg_catalog.pg_roles where rolname in ('authenticated', 'service_role') loop
        execute format('grant select on table %s to %I', published, role_name);
    end loop;
end
$$;
comment on function public.keapsync_publish_view(regclass) is
    'Lets everybody but anon read a view, each with their own rights.';
select public.keapsync_protect_function('public.keapsync_publish_view(regclass)');

create view public.sync_health with (security_invoker = true) as
select account.account_id,
    entity.entity_type,
    live.total,
    live.total - open.live_records as synced,
    open.pending,
    open.errors,
    open.conflicts,
    case when waiting.since is not null then now() - waiting.since end as oldest_pending_age,
    latest.at as last_sync_at,
    lag.average as average_lag
from public.sync_accounts account
cross join (values ('contact'), ('order'), ('tag'), ('subscription')) as entity (entity_type)
cross join lateral (
    select coalesce(sum(count.total), 0)::bigint as total
    from public.sync_record_counts count
    where count.account_id = account.account_id and count.entity_type = entity.entity_type
) as live
cross join lateral (
    select count(*) filter (where record.sync_status in ('pending', 'paused')) as pending,
        count(*) filter (where record.sync_status = 'error') as errors,
        count(*) filter (where record.sync_status = 'conflict') as conflicts,
        count(*) filter (where record.deleted_at is null) as live_records
    from (
        select contact.sync_status, contact.deleted_at
        from public.sync_contacts contact
        where entity.entity_type = 'contact' and contact.account_id = account.account_id and contact.sync_status <> 'completed'
        union all
        select orders.sync_status, orders.deleted_at
        from public.sync_orders orders
        where entity.entity_type = 'order' and orders.account_id = account.account_id and orders.sync_status <> 'completed'
        union all
        select tag.sync_status, tag.deleted_at
        from public.sync_tags tag
        where entity.entity_type = 'tag' and tag.account_id = account.account_id and tag.sync_status <> 'completed'
        union all
        select subscription.sync_status, subscription.deleted_at
        from public.sync_subscriptions subscription
        where entity.entity_type = 'subscription' and subscription.account_id = account.account_id and subscription.sync_status <> 'completed'
    ) as record
) as open
left join lateral (
    select item.created_at as since
    from public.sync_queue item
    where item.account_id = account.account_id and item.entity_type = entity.entity_type
        and item.status in ('pending', 'processing') and item.operation <> 'sync'
    order by item.created_at
    limit 1
) as waiting on true
left join lateral (
    select activity.at
    from public.sync_activity activity
    where activity.account_id = account.account_id and activity.entity_type = entity.entity_type
    order by activity.at desc
    limit 1
) as latest on true
cross join lateral (
    select sum(recent.lag_ms_total)::float8 / sum(recent.lag_records) * interval '1 millisecond' as average
    from (
        select activity.lag_ms_total, activity.lag_records
        from public.sync_activity activity
        where activity.account_id = account.account_id and activity.entity_type = entity.entity_type
            and activity.lag_records > 0 and activity.at > now() - interval '1 day'
        order by activity.at desc
        limit 1000
    ) as recent
) as lag;
comment on view public.sync_health is 'How each account and kind of record is doing, at this moment.';
comment on column public.sync_health.account_id is 'The Keap account.';
comment on column public.sync_health.entity_type is 'Kind of record: contact, order, tag, subscription.';
comment on column public.sync_health.total is 'Live records.';
comment on column public.sync_health.synced is 'Live records that are in step with Keap.';
comment on column public.sync_health.pending is 'Records with a change that waits for its way to Keap, deletes and paused ones included.';
comment on column public.sync_health.errors is 'Records whose last attempt failed for good.';
comment on column public.sync_health.conflicts is 'Records with a conflict that waits for a person.';
comment on column public.sync_health.oldest_pending_age is 'How long the oldest edit has been waiting; null when none waits.';
comment on column public.sync_health.last_sync_at is 'When records of this kind were last brought into step.';
comment on column public.sync_health.average_lag is 'Average time from a change to its arrival on the other side: latest 1,000 batches of the last day; null without any.';
select public.keapsync_publish_view('public.sync_health');
