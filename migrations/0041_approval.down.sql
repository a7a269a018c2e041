drop function public.keapsync_guard_pass(text, bigint, integer, boolean, text[], text, text, integer);
drop function public.keapsync_destroys(jsonb);
drop function public.keapsync_guard_take(text, text, boolean, uuid[], bigint, integer, uuid, bigint, boolean);
drop table public.sync_destroyed;
drop index public.sync_queue_held_idx;
-- As 0007 made it.
drop index public.sync_queue_due_idx;
create index sync_queue_due_idx on public.sync_queue (account_id, priority, scheduled_at)
    include (status, leased_until) where status in ('pending', 'processing');
comment on column public.sync_queue.payload is 'The changed columns: {"old": {...}, "new": {...}}.';
alter table public.sync_queue drop column held_at, drop column passed_at, drop column approved_at;
