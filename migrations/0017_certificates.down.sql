drop table public.sync_certificates;
