drop table public.sync_activity;
