do $$
declare
    policy record;
begin
    for policy in
        select policyname, tablename from pg_catalog.pg_policies where schemaname = 'public' and roles = array['authenticated'::name]
            and tablename in ('sync_contacts', 'sync_orders', 'sync_tags', 'sync_subscriptions', 'sync_accounts', 'sync_status',
                'sync_conflicts', 'sync_queue', 'sync_audit_log', 'sync_runs', 'sync_activity', 'sync_account_members')
    loop
        execute format('drop policy %I on public.%I', policy.policyname, policy.tablename);
        execute format('revoke all on table public.%I from authenticated', policy.tablename);
    end loop;
end
$$;
drop table public.sync_account_members;
drop function public.keapsync_keep_last_admin();
drop function public.keapsync_stamp_member();
drop function public.keapsync_grant_members(text, text, regclass);
drop function public.keapsync_member_accounts(text);
