-- As 0007 made it.
drop index public.sync_queue_due_idx;
create index sync_queue_due_idx on public.sync_queue (account_id, priority, scheduled_at)
    include (status, leased_until) where status in ('pending', 'processing');
comment on column public.sync_queue.payload is 'The changed columns: {"old": {...}, "new": {...}}.';
alter table public.sync_queue drop column approved_at;
