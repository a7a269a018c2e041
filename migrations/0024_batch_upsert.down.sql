drop function public.batch_upsert_subscriptions(text, jsonb[]);
drop function public.batch_upsert_tags(text, jsonb[]);
drop function public.batch_upsert_orders(text, jsonb[]);
drop function public.batch_upsert_contacts(text, jsonb[]);
drop function public.keapsync_batch_upsert(text, text, jsonb[]);
drop function public.keapsync_refusal(text, text, text);
drop function public.keapsync_apply_records(text, text, jsonb, text[], jsonb[], jsonb[], bigint[], bigint[], uuid[]);
drop function public.keapsync_checked_records(text, jsonb[]);

comment on column public.sync_audit_log.sync_source is 'supabase (a person''s edit), or how Keap''s record came: hook, poll, full_sync, outbox (its answer to our write).';
comment on column public.sync_activity.source is 'What made the sync look: hook, poll, full_sync, outbox.';
