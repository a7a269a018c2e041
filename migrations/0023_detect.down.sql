drop function public.detect_sync_conflict(text, text, uuid, jsonb, jsonb);
drop function public.detect_sync_conflicts(text, text, jsonb[]);
drop function public.keapsync_account_policies(text);
drop function public.keapsync_never_agreed(text);
drop function public.keapsync_record_sql(text, text);
