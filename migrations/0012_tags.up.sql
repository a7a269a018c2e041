-- Keap's tags. Which contact has which tag stands in sync_contacts.tags.

create table public.sync_tags (
    id uuid primary key default gen_random_uuid(),
    account_id text not null references public.sync_accounts (account_id),
    keap_id text check (keap_id ~ '^[0-9]{1,19}$'),
    name text,
    category text,
    category_id text,
    description text,
    color text,
    custom_fields jsonb check (custom_fields is null),
    extra jsonb not null default '{}' check (jsonb_typeof(extra) = 'object'),
    source_system text not null default 'supabase' check (source_system in ('keap', 'supabase', 'manual')),
    sync_status text not null default 'pending'
        check (sync_status in ('pending', 'completed', 'error', 'conflict', 'paused')),
    sync_error text,
    version integer not null default 1,
    last_synced_at timestamptz,
    keap_updated_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    edited_at timestamptz,
    deleted_at timestamptz,
    created_by uuid,
    updated_by uuid,
    deleted_by uuid,
    constraint sync_tags_keap_id_key unique (keap_id, account_id)
);
comment on table public.sync_tags is 'Tags, in step with Keap in both directions. Edit them here or there; a DELETE becomes deleted_at.';
comment on column public.sync_tags.id is 'Key of the row; stays the same whatever happens in Keap.';
comment on column public.sync_tags.account_id is 'The Keap account.';
comment on column public.sync_tags.keap_id is 'Keap''s id; null until the record exists there. Set by the sync.';
comment on column public.sync_tags.name is 'What the tag is called; unique per account in Keap.';
comment on column public.sync_tags.category is 'Name that Keap has for category_id. Read-only.';
comment on column public.sync_tags.category_id is 'Keap id of the category.';
comment on column public.sync_tags.description is 'What the tag is for.';
comment on column public.sync_tags.color is 'For people who show tags; stays here and never goes to Keap.';
comment on column public.sync_tags.custom_fields is 'Always null: Keap''s tags have no custom fields. The column is here because every mirrored table has it.';
comment on column public.sync_tags.extra is 'What Keap sent and no column holds.';
comment on column public.sync_tags.source_system is 'Where the record was made: keap, supabase, manual.';
comment on column public.sync_tags.sync_status is 'State towards Keap: completed, pending, error, conflict, paused.';
comment on column public.sync_tags.sync_error is 'Why sync_status is error, in words.';
comment on column public.sync_tags.version is 'Counts writes; kept by trigger.';
comment on column public.sync_tags.last_synced_at is 'When the sync last wrote this row.';
comment on column public.sync_tags.keap_updated_at is 'Keap''s time of its last change that was applied here.';
comment on column public.sync_tags.created_at is 'When the record was made, by Keap''s clock if it was made there.';
comment on column public.sync_tags.updated_at is 'When a value last changed here; kept by trigger.';
comment on column public.sync_tags.edited_at is 'When somebody last edited a synced value here, which newest_wins compares with Keap''s time; null where nobody did. Kept by trigger.';
comment on column public.sync_tags.deleted_at is 'When the record was deleted, on either side, by this database''s clock where it was deleted here; null while it lives.';
comment on column public.sync_tags.created_by is 'User who inserted the row; null for the sync.';
comment on column public.sync_tags.updated_by is 'User who last edited the row.';
comment on column public.sync_tags.deleted_by is 'User who deleted the row; null for the sync.';

-- A tag by its name: what the sync looks for before it creates one, and people who search.
create index sync_tags_name_idx on public.sync_tags (account_id, lower(name) text_pattern_ops);
-- Newest first, the list of live tags; also counts them.
create index sync_tags_updated_at_idx on public.sync_tags (account_id, updated_at) where deleted_at is null;
-- What is not in step, few rows of many.
create index sync_tags_sync_status_idx on public.sync_tags (account_id, sync_status) where sync_status <> 'completed';

select public.keapsync_protect_table('public.sync_tags');
create policy sync_tags_engine on public.sync_tags to keapsync_engine using (true) with check (true);
create policy sync_tags_reader on public.sync_tags for select to keapsync_reader using (true);
grant select, insert, update, delete on public.sync_tags to keapsync_engine;
grant select on public.sync_tags to keapsync_reader;
select public.keapsync_grant_service_role('select, insert, update, delete', 'public.sync_tags');

-- Triggers of one kind fire in the order of their names.
create trigger stamp_1_insert before insert on public.sync_tags
    for each row when (session_user <> 'keapsync_engine') execute function public.keapsync_stamp_insert();
create trigger stamp_1_update before update on public.sync_tags
    for each row execute function public.keapsync_stamp_update();
create trigger stamp_2_change before update on public.sync_tags
    for each row when (
        (old.name, old.category, old.category_id, old.description, old.deleted_at)
        is distinct from
        (new.name, new.category, new.category_id, new.description, new.deleted_at))
    execute function public.keapsync_stamp_change();
create trigger soft_delete before delete on public.sync_tags
    for each row when (session_user <> 'keapsync_engine') execute function public.keapsync_soft_delete();
create trigger refuse_truncate before truncate on public.sync_tags
    for each statement execute function public.keapsync_refuse_truncate();
select public.keapsync_create_capture('public.sync_tags', 'tag',
    array['name', 'category', 'category_id', 'description', 'deleted_at']);
