drop table public.sync_contacts;
