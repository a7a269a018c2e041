-- The blast guard: what would overwrite or delete much within an hour waits until somebody approves it.
--
-- What is destroyed is noted record by record before it is written, under a lock of the account's row, so that nobody passes the limit,
-- however many write at once and whatever becomes of them. A record counts once an hour, by whatever way it is destroyed.

alter table public.sync_queue add column approved_at timestamptz, add column passed_at timestamptz, add column held_at timestamptz;
comment on column public.sync_queue.approved_at is 'When somebody let it pass the blast guard; null for what never had to wait, or waits.';
comment on column public.sync_queue.passed_at is 'When the blast guard let it pass by itself; null for what waits, and for rows without a record in Keap.';
comment on column public.sync_queue.held_at is 'Since when it waits for somebody''s approval, or waited; null for what never had to.';
comment on column public.sync_queue.payload is 'The changed columns: {"old": {...}, "new": {...}}; of what the sync itself queued, {"old": {...}} alone.';

-- The next items to claim. Rows that were edited by one statement fall due at one time: the order within it is in the index too, or all of
-- them would be sorted for each claim.
drop index public.sync_queue_due_idx;
create index sync_queue_due_idx on public.sync_queue (account_id, priority, scheduled_at, sequence)
    include (status, leased_until) where status in ('pending', 'processing');
-- What waits for approval.
create index sync_queue_held_idx on public.sync_queue (account_id, entity_type)
    where held_at is not null and approved_at is null and passed_at is null and status in ('pending', 'processing');

create table public.sync_destroyed (
    account_id text not null,
    entity_type text not null,
    is_delete boolean not null,
    entity_id uuid not null,
    approval uuid,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint sync_destroyed_pkey primary key (account_id, entity_type, is_delete, entity_id)
);
comment on table public.sync_destroyed is 'What the sync deleted or overwrote within the last hour, on either side: the blast guard counts these.';
comment on column public.sync_destroyed.account_id is 'The Keap account.';
comment on column public.sync_destroyed.entity_type is 'Kind of record: contact, order, tag, subscription.';
comment on column public.sync_destroyed.is_delete is 'Whether the record was deleted, or values of it were replaced or cleared.';
comment on column public.sync_destroyed.entity_id is 'Key of the row.';
comment on column public.sync_destroyed.approval is 'The approval under which it was destroyed; null for what the limit let through.';
comment on column public.sync_destroyed.created_at is 'When the record was first noted.';
comment on column public.sync_destroyed.updated_at is 'When it was destroyed last.';
-- What was destroyed within the last hour, and what is old.
create index sync_destroyed_recent_idx on public.sync_destroyed (account_id, entity_type, is_delete, updated_at) where approval is null;
create index sync_destroyed_approved_idx on public.sync_destroyed (approval) where approval is not null;
select public.keapsync_protect_table('public.sync_destroyed');
create policy sync_destroyed_engine on public.sync_destroyed to keapsync_engine using (true) with check (true);
create policy sync_destroyed_reader on public.sync_destroyed for select to keapsync_reader using (true);
grant select, insert, update, delete on public.sync_destroyed to keapsync_engine;
grant select on public.sync_destroyed to keapsync_reader;
select public.keapsync_grant_service_role('select', 'public.sync_destroyed');

create function public.keapsync_guard_take(account text, entity text, deletes boolean, row_ids uuid[], records_max bigint,
        percent_max integer, approved uuid, approved_max bigint, only_looks boolean)
    returns boolean
    language plpgsql
    set search_path = ''
as $$
declare
    -- As BlastGuard::limit has it.
    limit_records constant bigint := greatest(records_max, percent_max * (
        select coalesce(sum(count.total), 0)::bigint from public.sync_record_counts count
        where count.account_id = account and count.entity_type = entity) / 100);
    by_approval bigint := 0;
    recent bigint;
begin
    -- One after the other: each later statement of this function sees what the one before noted.
    perform from public.sync_accounts known where known.account_id = account for no key update;
    delete from public.sync_destroyed old
    where old.account_id = account and old.entity_type = entity and old.is_delete = deletes and old.approval is null
        and old.updated_at <= now() - interval '1 hour';
    if approved is not null then
        by_approval := least(cardinality(row_ids), greatest(0, approved_max - (
            select count(*) from public.sync_destroyed known
            where known.approval = approved and known.account_id = account and known.entity_id <> all(row_ids))));
    end if;
    select count(*) into recent from public.sync_destroyed known
    where known.account_id = account and known.entity_type = entity and known.is_delete = deletes and known.approval is null
        and known.updated_at > now() - interval '1 hour' and known.entity_id <> all(row_ids);
    if cardinality(row_ids) > by_approval and recent + cardinality(row_ids) - by_approval > limit_records then
        return false;
    end if;
    if not only_looks then
        insert into public.sync_destroyed as known (account_id, entity_type, is_delete, entity_id, approval)
        select account, entity, deletes, destroyed.id, case when destroyed.number <= by_approval then approved end
        from unnest(row_ids) with ordinality as destroyed (id, number)
        on conflict (account_id, entity_type, is_delete, entity_id) do update
        set approval = excluded.approval, updated_at = now();
    end if;
    return true;
end
$$;
comment on function public.keapsync_guard_take(text, text, boolean, uuid[], bigint, integer, uuid, bigint, boolean) is
    'Notes that these rows, each named once, are about to be deleted or overwritten, and answers true; false when that would be more within an hour than the settings and an approval let through. All or none.';
select public.keapsync_protect_function('public.keapsync_guard_take(text, text, boolean, uuid[], bigint, integer, uuid, bigint, boolean)');
grant execute on function public.keapsync_guard_take(text, text, boolean, uuid[], bigint, integer, uuid, bigint, boolean) to keapsync_engine;

-- What is only added (to a blank field, a set, a free slot) destroys nothing.
create function public.keapsync_destroys(payload jsonb) returns boolean
    language sql
    immutable
    set search_path = ''
as $$
    select exists (
        select from jsonb_each(payload -> 'old') as old
        where old.key <> 'deleted_at' and old.value not in ('null', '""', '[]', '{}')
            and not (jsonb_typeof(old.value) in ('array', 'object') and coalesce(payload -> 'new' -> old.key @> old.value, false))
    )
$$;
comment on function public.keapsync_destroys(jsonb) is 'Whether an edit with this payload of the queue replaces or clears a value.';
select public.keapsync_protect_function('public.keapsync_destroys(jsonb)');
grant execute on function public.keapsync_destroys(jsonb) to keapsync_engine;

create function public.keapsync_guard_pass(account text, records_max bigint, percent_max integer, deletes_in_keap boolean,
        stopped text[], deletes_word text, changes_word text, groups_max integer)
    returns bigint
    language plpgsql
    set search_path = ''
as $$
declare
    edits record;
    held bigint := 0;
begin
    if not exists (
        select from public.sync_queue item
        where item.account_id = account and item.status in ('pending', 'processing') and item.operation in ('update', 'delete')
            and item.keap_id is not null and item.passed_at is null and item.held_at is null and item.approved_at is null
    ) then
        return 0;
    end if;
    perform from public.sync_accounts known where known.account_id = account for no key update;
    -- A delete that was taken back deletes nothing.
    update public.sync_queue item
    set passed_at = now(), updated_at = now()
    where item.account_id = account and item.status in ('pending', 'processing') and item.operation = 'delete'
        and item.held_at is not null and item.passed_at is null and item.approved_at is null
        and exists (
            select from public.sync_queue later
            where later.entity_type = item.entity_type and later.entity_id = item.entity_id
                and later.status in ('pending', 'processing') and later.sequence > item.sequence
                and later.operation = 'update' and later.payload -> 'new' -> 'deleted_at' = 'null'
        );
    update public.sync_queue item
    set passed_at = now(), updated_at = now()
    where item.account_id = account and item.status in ('pending', 'processing') and item.operation in ('update', 'delete')
        and item.keap_id is not null and item.passed_at is null and item.held_at is null and item.approved_at is null
        and case item.operation when 'delete' then not deletes_in_keap else not public.keapsync_destroys(item.payload) end;
    -- What one statement edited passes as a whole or waits as a whole: a flood waits, and somebody else's edit beside it does not.
    for edits in
        select item.entity_type, item.operation = 'delete' as is_delete, item.created_at,
            array_agg(distinct item.entity_id) as row_ids, array_agg(item.id) as ids
        from public.sync_queue item
        where item.account_id = account and item.status in ('pending', 'processing') and item.operation in ('update', 'delete')
            and item.keap_id is not null and item.passed_at is null and item.held_at is null and item.approved_at is null
        group by item.entity_type, item.operation = 'delete', item.created_at
        order by item.created_at
        limit groups_max
    loop
        -- Once a kind of deletes is stopped, none goes on before somebody has looked at what waits. Of changes each statement is judged
        -- by itself, so that a person's next edit does not wait with a flood.
        if (not edits.is_delete or not edits.entity_type = any(stopped) and not exists (
                select from public.sync_queue item
                where item.account_id = account and item.entity_type = edits.entity_type and item.operation = 'delete'
                    and item.held_at is not null and item.approved_at is null and item.passed_at is null
                    and item.status in ('pending', 'processing')
            ))
            and public.keapsync_guard_take(account, edits.entity_type, edits.is_delete, edits.row_ids, records_max, percent_max,
                null, null, false)
        then
            update public.sync_queue item set passed_at = now(), updated_at = now() where item.id = any(edits.ids);
        else
            update public.sync_queue item set held_at = now(), updated_at = now() where item.id = any(edits.ids);
            execute format('update %s mirrored set sync_status = ''paused'', sync_error = $3
                    where mirrored.account_id = $1 and mirrored.id = any($2)', public.keapsync_table(edits.entity_type))
                using account, edits.row_ids, case when edits.is_delete then deletes_word else changes_word end;
            held := held + cardinality(edits.row_ids);
        end if;
    end loop;
    return held;
end
$$;
comment on function public.keapsync_guard_pass(text, bigint, integer, boolean, text[], text, text, integer) is
    'Lets edits on their way to Keap pass the blast guard, or holds them with a word on their rows; takes the kinds of record whose deletes are stopped, and how many statements'' edits it looks at. Answers how many records it held.';
select public.keapsync_protect_function('public.keapsync_guard_pass(text, bigint, integer, boolean, text[], text, text, integer)');
grant execute on function public.keapsync_guard_pass(text, bigint, integer, boolean, text[], text, text, integer) to keapsync_engine;
