-- Keap's contacts. Columns and extra together rebuild Keap's record; nothing is stored twice. Absent values are null.

create table public.sync_contacts (
    id uuid primary key default gen_random_uuid(),
    account_id text not null references public.sync_accounts (account_id),
    keap_id text check (keap_id ~ '^[0-9]{1,19}$'),
    email text,
    first_name text,
    last_name text,
    middle_name text,
    phone text,
    company text,
    job_title text,
    website text,
    birth_date date check (birth_date between '0001-01-01' and '9999-12-31'),
    owner_id text,
    lead_source_id text,
    opt_in_status text,
    emails jsonb check (jsonb_typeof(emails) = 'array'),
    phones jsonb check (jsonb_typeof(phones) = 'array'),
    addresses jsonb check (jsonb_typeof(addresses) = 'array'),
    tags jsonb check (jsonb_typeof(tags) = 'array'),
    custom_fields jsonb check (jsonb_typeof(custom_fields) = 'object'),
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
    constraint sync_contacts_keap_id_key unique (keap_id, account_id)
);
comment on table public.sync_contacts is 'Contacts, in step with Keap in both directions. Edit them here or there; a DELETE becomes deleted_at.';
comment on column public.sync_contacts.id is 'Key of the row; Keap''s record carries it in a custom field when it was created from here.';
comment on column public.sync_contacts.account_id is 'The Keap account.';
comment on column public.sync_contacts.keap_id is 'Keap''s id; null until the record exists there. Set by the sync.';
comment on column public.sync_contacts.email is 'Address in Keap''s slot EMAIL1.';
comment on column public.sync_contacts.first_name is 'Given name.';
comment on column public.sync_contacts.last_name is 'Family name.';
comment on column public.sync_contacts.middle_name is 'Middle name.';
comment on column public.sync_contacts.phone is 'Number in Keap''s slot PHONE1, as it was entered.';
comment on column public.sync_contacts.company is 'Name of the company the contact is linked to. Read-only in Keap.';
comment on column public.sync_contacts.job_title is 'Job title.';
comment on column public.sync_contacts.website is 'Web address.';
comment on column public.sync_contacts.birth_date is 'Date of birth.';
comment on column public.sync_contacts.owner_id is 'Keap id of the user who owns the contact.';
comment on column public.sync_contacts.lead_source_id is 'Keap id of the lead source.';
comment on column public.sync_contacts.opt_in_status is 'Marketing status of the address in EMAIL1. Derived by Keap, read-only.';
comment on column public.sync_contacts.emails is 'The other addresses: array of objects told apart by field (EMAIL2, EMAIL3).';
comment on column public.sync_contacts.phones is 'The other numbers: array of objects told apart by field (PHONE2 to PHONE5).';
comment on column public.sync_contacts.addresses is 'Postal addresses: array of objects told apart by field (BILLING, SHIPPING, OTHER).';
comment on column public.sync_contacts.tags is 'Keap ids of the tags applied, as an array of texts; a set.';
comment on column public.sync_contacts.custom_fields is 'Values of custom fields: object keyed by Keap''s id of the field.';
comment on column public.sync_contacts.extra is 'What Keap sent and no column holds.';
comment on column public.sync_contacts.source_system is 'Where the record was made: keap, supabase, manual.';
comment on column public.sync_contacts.sync_status is 'State towards Keap: completed, pending, error, conflict, paused.';
comment on column public.sync_contacts.sync_error is 'Why sync_status is error, in words.';
comment on column public.sync_contacts.version is 'Counts writes; kept by trigger.';
comment on column public.sync_contacts.last_synced_at is 'When the sync last wrote this row.';
comment on column public.sync_contacts.keap_updated_at is 'Keap''s time of its last change that was applied here.';
comment on column public.sync_contacts.created_at is 'When the record was made, by Keap''s clock if it was made there.';
comment on column public.sync_contacts.updated_at is 'When a value last changed here; kept by trigger.';
comment on column public.sync_contacts.edited_at is 'When somebody last edited a synced value here, which newest_wins compares with Keap''s time; null where nobody did. Kept by trigger.';
comment on column public.sync_contacts.deleted_at is 'When the record was deleted, on either side, by this database''s clock where it was deleted here; null while it lives.';
comment on column public.sync_contacts.created_by is 'User who inserted the row; null for the sync.';
comment on column public.sync_contacts.updated_by is 'User who last edited the row.';
comment on column public.sync_contacts.deleted_by is 'User who deleted the row; null for the sync.';

-- Find a person by e-mail address, whatever its case.
create index sync_contacts_email_idx on public.sync_contacts (account_id, lower(email));
-- Search as you type: lower(last_name) like 'mei%', then by first name.
create index sync_contacts_name_idx on public.sync_contacts
    (account_id, lower(last_name) text_pattern_ops, lower(first_name) text_pattern_ops);
-- Newest first, the list of live contacts; also counts them.
create index sync_contacts_updated_at_idx on public.sync_contacts (account_id, updated_at) where deleted_at is null;
-- What is not in step, few rows of many.
create index sync_contacts_sync_status_idx on public.sync_contacts (account_id, sync_status) where sync_status <> 'completed';
-- Contacts with a tag: tags @> '["123"]'.
create index sync_contacts_tags_idx on public.sync_contacts using gin (tags jsonb_path_ops);
-- Contacts by a custom field's value: custom_fields @> '{"7": "gold"}'.
create index sync_contacts_custom_fields_idx on public.sync_contacts using gin (custom_fields jsonb_path_ops);

select public.keapsync_protect_table('public.sync_contacts');
create policy sync_contacts_engine on public.sync_contacts to keapsync_engine using (true) with check (true);
create policy sync_contacts_reader on public.sync_contacts for select to keapsync_reader using (true);
grant select, insert, update, delete on public.sync_contacts to keapsync_engine;
grant select on public.sync_contacts to keapsync_reader;
select public.keapsync_grant_service_role('select, insert, update, delete', 'public.sync_contacts');
