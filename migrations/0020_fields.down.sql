drop function public.keapsync_table(text);
drop function public.keapsync_fields();
