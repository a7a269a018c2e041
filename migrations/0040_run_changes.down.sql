drop function public.sync_maintain(integer);
drop function public.keapsync_maintain_run_changes(integer);
-- As 0030 made it.
alter function public.keapsync_maintain_records(integer) rename to sync_maintain;
comment on function public.sync_maintain(integer) is
    'Daily upkeep: partitions ahead, what is past its retention removed, counts folded, links repaired, advice on vacuum. Does at most rows_max rows of each task; answers what it did. Call it again while a task does as many.';
grant execute on function public.sync_maintain(integer) to keapsync_engine;
do $$
begin
    if exists (select from pg_catalog.pg_roles where rolname = 'service_role') then
        grant execute on function public.sync_maintain(integer) to service_role;
    end if;
end
$$;
drop table public.sync_run_changes;
