drop table public.sync_status;
