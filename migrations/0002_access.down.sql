drop function public.keapsync_grant_service_role(text, regclass);
drop function public.keapsync_protect_function(regprocedure);
drop function public.keapsync_protect_table(regclass);
