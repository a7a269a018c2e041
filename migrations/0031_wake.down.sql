drop trigger wake on public.sync_queue;
drop function public.keapsync_wake();
