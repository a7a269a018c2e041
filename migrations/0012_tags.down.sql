drop table public.sync_tags;
drop function public.keapsync_capture_tags();
