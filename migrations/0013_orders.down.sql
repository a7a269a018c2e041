drop table public.sync_orders;
drop function public.keapsync_link_contact();
drop function public.keapsync_capture_orders();
