drop table public.sync_status;
drop function public.keapsync_stamp_status();
