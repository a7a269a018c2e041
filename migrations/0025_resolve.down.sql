drop function public.resolve_sync_conflict(uuid, text, jsonb, text);
drop function public.resolve_sync_conflicts(uuid[], text, jsonb, text);
drop function public.keapsync_field_problems(text, jsonb[]);
drop function public.keapsync_apply_resolution(text, text, jsonb, text);
drop function public.keapsync_plan_resolution(text, uuid[], text, jsonb);
drop function public.keapsync_combine(text, text, text, jsonb, jsonb, jsonb);
drop function public.keapsync_part_form(text, text, text, jsonb);

comment on column public.sync_audit_log.operation is 'create, update, delete, undelete, conflict.';
comment on column public.sync_audit_log.new_data is 'Values that were overridden and are kept nowhere else, keyed by field; mostly null.';
comment on column public.sync_conflicts.winner is 'Whose value stands; null while open.';
comment on column public.sync_conflicts.resolution_strategy is 'Policy that applied: newest_wins, keap_wins, supabase_wins, merge, manual.';
