-- The blast guard: edits that would overwrite or delete much in Keap wait in the outbox until somebody approves them.

alter table public.sync_queue add column approved_at timestamptz;
comment on column public.sync_queue.approved_at is 'When somebody let it pass the blast guard; null for what never had to wait, or waits.';
comment on column public.sync_queue.payload is 'The changed columns: {"old": {...}, "new": {...}}; of what the sync itself queued, {"old": {...}} alone.';

-- The next items to claim. Rows that were edited by one statement fall due at one time: the order within it is in the index too, or all of
-- them would be sorted for each claim.
drop index public.sync_queue_due_idx;
create index sync_queue_due_idx on public.sync_queue (account_id, priority, scheduled_at, sequence)
    include (status, leased_until) where status in ('pending', 'processing');
