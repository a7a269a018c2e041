drop function public.resolve_sync_conflict(uuid, text, jsonb, text);
drop function public.resolve_sync_conflicts(uuid[], text, jsonb, text);
drop function public.keapsync_apply_resolution(text, text, jsonb, text);
drop function public.keapsync_plan_resolution(text, uuid[], text, jsonb);
drop function public.keapsync_combine(text, text, text, jsonb, jsonb, jsonb);
drop function public.keapsync_part_form(text, text, text, jsonb);

create or replace function public.keapsync_stamp_update() returns trigger
    language plpgsql
    set search_path = ''
as $$
begin
    new.version := old.version + 1;
    if session_user = 'keapsync_engine' then
        -- The merge takes updated_at for the time of the local change, so writes that change no value leave it.
        new.updated_at := old.updated_at;
        return new;
    end if;
    if new.id <> old.id or new.account_id <> old.account_id or new.keap_id is distinct from old.keap_id then
        raise exception 'id, account_id and keap_id of % are set by the sync', tg_table_name
            using errcode = 'integrity_constraint_violation',
                  hint = 'Insert a new row, or edit the other columns.';
    end if;
    new.sync_status := old.sync_status;
    new.sync_error := old.sync_error;
    new.last_synced_at := old.last_synced_at;
    new.keap_updated_at := old.keap_updated_at;
    new.extra := old.extra;
    new.source_system := old.source_system;
    new.created_at := old.created_at;
    new.created_by := old.created_by;
    new.updated_by := old.updated_by;
    new.deleted_by := old.deleted_by;
    new.updated_at := now();
    return new;
end
$$;

comment on column public.sync_audit_log.operation is 'create, update, delete, undelete, conflict.';
comment on column public.sync_audit_log.new_data is 'Values that were overridden and are kept nowhere else, keyed by field; mostly null.';
comment on column public.sync_conflicts.winner is 'Whose value stands; null while open.';
comment on column public.sync_conflicts.resolution_strategy is 'Policy that applied: newest_wins, keap_wins, supabase_wins, merge, manual.';
