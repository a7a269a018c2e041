drop function public.keapsync_base_delta(text, jsonb, jsonb);
drop function public.keapsync_reconcile(text[], text[], jsonb[], jsonb[], jsonb[], timestamptz[], timestamptz[], jsonb[]);
drop function public.keapsync_assemble(text, text, jsonb, jsonb);
drop function public.keapsync_merge_field(text, text, text, text, jsonb, jsonb, jsonb, text, text);
drop function public.keapsync_edit_form(text, jsonb, jsonb, jsonb, boolean);
drop function public.keapsync_winner(text, timestamptz, timestamptz);
drop function public.keapsync_policy(jsonb, text, text);
