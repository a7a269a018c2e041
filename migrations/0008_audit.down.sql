drop function public.create_monthly_partitions(integer);
drop table public.sync_audit_log;
