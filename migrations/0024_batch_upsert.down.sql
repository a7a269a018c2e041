drop function public.batch_upsert_subscriptions(text, jsonb[]);
drop function public.batch_upsert_tags(text, jsonb[]);
drop function public.batch_upsert_orders(text, jsonb[]);
drop function public.batch_upsert_contacts(text, jsonb[]);
drop function public.keapsync_batch_upsert(text, text, jsonb[]);
drop function public.keapsync_refusal(text, text, text);
drop function public.keapsync_apply_records(text, text, jsonb, text[], jsonb[], jsonb[], bigint[], bigint[]);
drop function public.keapsync_checked_records(text, jsonb[]);
