drop table public.sync_accounts;
