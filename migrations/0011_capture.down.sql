drop trigger capture_update on public.sync_contacts;
drop trigger capture_insert on public.sync_contacts;
drop function public.keapsync_capture();
