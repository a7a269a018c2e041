-- The blast guard: edits that would overwrite or delete much in Keap wait in the outbox until somebody approves them.

alter table public.sync_queue add column approved_at timestamptz;
comment on column public.sync_queue.approved_at is 'When somebody let it pass the blast guard; null for what never had to wait, or waits.';
comment on column public.sync_queue.payload is 'The changed columns: {"old": {...}, "new": {...}}; of what the sync itself queued, {"old": {...}} alone.';
