comment on column public.sync_audit_log.operation is 'create, update, delete, undelete, conflict, resolve.';
comment on column public.sync_audit_log.new_data is 'Values that were overridden and are kept nowhere else, keyed by field, in a resolution by field and side; mostly null.';
drop function public.keapsync_edit(text, text, uuid, integer, jsonb, boolean, text, jsonb, uuid, text, text);
revoke execute on function public.keapsync_check_json(name, jsonb), public.keapsync_check_parts(jsonb) from keapsync_engine;
drop index public.sync_audit_log_run_idx;
