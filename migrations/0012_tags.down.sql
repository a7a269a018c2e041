drop table public.sync_tags;
