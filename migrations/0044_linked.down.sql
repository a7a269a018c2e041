drop function public.keapsync_linked(text, text, text, bigint);
