drop trigger link_identified on public.sync_contacts;
drop trigger link_waiting on public.sync_contacts;
drop function public.keapsync_link_identified();
drop function public.keapsync_link_waiting();
drop table public.sync_subscriptions;
drop function public.keapsync_capture_subscriptions();
