drop trigger wake on public.sync_conflicts;
drop function public.keapsync_wake_decided();
