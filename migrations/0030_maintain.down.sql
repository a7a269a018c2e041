do $$
begin
    if exists (select from pg_catalog.pg_extension where extname = 'pg_cron') then
        perform cron.unschedule(job.jobid) from cron.job where job.jobname = 'keapsync-maintain' and job.username = current_user;
    end if;
exception
    -- Who may not look has scheduled nothing.
    when insufficient_privilege then null;
end
$$;
drop function public.keapsync_schedule_maintenance();
-- As 0010 made it.
create or replace function public.keapsync_soft_delete() returns trigger
    language plpgsql
    security definer
    set search_path = ''
as $$
begin
    execute format('update %I.%I set deleted_at = now() where id = $1 and deleted_at is null', tg_table_schema, tg_table_name)
        using old.id;
    return null;
end
$$;
drop function public.sync_maintain(integer);
drop function public.keapsync_drop_audit_partitions(integer);
drop function public.keapsync_retention(jsonb, text, integer);
drop index public.sync_queue_completed_idx;
drop index public.sync_subscriptions_deleted_at_idx;
drop index public.sync_tags_deleted_at_idx;
drop index public.sync_orders_deleted_at_idx;
drop index public.sync_contacts_deleted_at_idx;
