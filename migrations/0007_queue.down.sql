drop table public.sync_queue;
