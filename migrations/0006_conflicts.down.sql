drop table public.sync_conflicts;
