drop trigger capture_update on public.sync_contacts;
drop trigger capture_insert on public.sync_contacts;
drop function public.keapsync_capture_contacts();
drop function public.keapsync_create_capture(regclass, text, text[]);
drop function public.keapsync_wake(text);
drop function public.keapsync_check_json(name, jsonb);
drop function public.keapsync_check_parts(jsonb);
