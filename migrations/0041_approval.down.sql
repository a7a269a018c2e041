comment on column public.sync_queue.payload is 'The changed columns: {"old": {...}, "new": {...}}.';
alter table public.sync_queue drop column approved_at;
