-- Keap's orders, and how a record finds the contact it is of.
--
-- Records arrive in any order: keap_contact_id is what Keap says, contact_id is the row it leads to, filled in when both are
-- there. No missing contact refuses a record.

create table public.sync_orders (
    id uuid primary key default gen_random_uuid(),
    account_id text not null references public.sync_accounts (account_id),
    keap_id text check (keap_id ~ '^[0-9]{1,19}$'),
    contact_id uuid references public.sync_contacts (id) on delete set null,
    keap_contact_id text check (keap_contact_id ~ '^[0-9]{1,19}$'),
    order_number text,
    title text,
    order_date timestamptz check (order_date between '0001-01-01 00:00:00+00' and '9999-12-31 23:59:59.999999+00'),
    total_amount numeric(14, 3) check (total_amount <> 'NaN'),
    paid_amount numeric(14, 3) check (paid_amount <> 'NaN'),
    due_amount numeric(14, 3) check (due_amount <> 'NaN'),
    refund_amount numeric(14, 3) check (refund_amount <> 'NaN'),
    currency char(3),
    status text,
    order_type text,
    line_items jsonb check (jsonb_typeof(line_items) = 'array'),
    shipping_address jsonb check (jsonb_typeof(shipping_address) = 'object'),
    billing_address jsonb check (jsonb_typeof(billing_address) = 'object'),
    notes text,
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
    constraint sync_orders_keap_id_key unique (keap_id, account_id)
);
comment on table public.sync_orders is 'Orders, in step with Keap in both directions. Edit them here or there; a DELETE becomes deleted_at.';
comment on column public.sync_orders.id is 'Key of the row; Keap''s record carries it in a custom field when it was created from here.';
comment on column public.sync_orders.account_id is 'The Keap account.';
comment on column public.sync_orders.keap_id is 'Keap''s id; null until the record exists there. Set by the sync.';
comment on column public.sync_orders.contact_id is 'The contact the order is of. Follows keap_contact_id; null until that contact is here.';
comment on column public.sync_orders.keap_contact_id is 'Keap id of the contact. Follows contact_id when a person sets that.';
comment on column public.sync_orders.order_number is 'Number that people give the order; unique per account at most.';
comment on column public.sync_orders.title is 'What the order is called.';
comment on column public.sync_orders.order_date is 'When it was ordered.';
comment on column public.sync_orders.total_amount is 'Sum of the items, in currency. Read-only in Keap.';
comment on column public.sync_orders.paid_amount is 'What was paid. Read-only in Keap.';
comment on column public.sync_orders.due_amount is 'What is still to pay. Read-only in Keap.';
comment on column public.sync_orders.refund_amount is 'What was paid back. Read-only in Keap.';
comment on column public.sync_orders.currency is 'Currency of the amounts, ISO 4217. Read-only in Keap.';
comment on column public.sync_orders.status is 'State of payment, in Keap''s words. Read-only in Keap.';
comment on column public.sync_orders.order_type is 'How it was ordered, in Keap''s words.';
comment on column public.sync_orders.line_items is 'The items: array of objects told apart by id.';
comment on column public.sync_orders.shipping_address is 'Where it goes.';
comment on column public.sync_orders.billing_address is 'Who pays. Keap''s orders carry none: read-only.';
comment on column public.sync_orders.notes is 'Notes.';
comment on column public.sync_orders.custom_fields is 'Values of custom fields: object keyed by Keap''s id of the field.';
comment on column public.sync_orders.extra is 'What Keap sent and no column holds.';
comment on column public.sync_orders.source_system is 'Where the record was made: keap, supabase, manual.';
comment on column public.sync_orders.sync_status is 'State towards Keap: completed, pending, error, conflict, paused.';
comment on column public.sync_orders.sync_error is 'Why sync_status is error, in words.';
comment on column public.sync_orders.version is 'Counts writes; kept by trigger.';
comment on column public.sync_orders.last_synced_at is 'When the sync last wrote this row.';
comment on column public.sync_orders.keap_updated_at is 'Keap''s time of its last change that was applied here.';
comment on column public.sync_orders.created_at is 'When the record was made, by Keap''s clock if it was made there.';
comment on column public.sync_orders.updated_at is 'When a value last changed here; kept by trigger.';
comment on column public.sync_orders.edited_at is 'When somebody last edited a synced value here, which newest_wins compares with Keap''s time; null where nobody did. Kept by trigger.';
comment on column public.sync_orders.deleted_at is 'When the record was deleted, on either side, by this database''s clock where it was deleted here; null while it lives.';
comment on column public.sync_orders.created_by is 'User who inserted the row; null for the sync.';
comment on column public.sync_orders.updated_by is 'User who last edited the row.';
comment on column public.sync_orders.deleted_by is 'User who deleted the row; null for the sync.';

-- The orders of one contact; also those whose contact is purged, or gets its Keap id.
create index sync_orders_contact_idx on public.sync_orders (contact_id);
-- Orders that wait for their contact, few of many.
create index sync_orders_waiting_idx on public.sync_orders (keap_contact_id, account_id) where contact_id is null;
-- Newest orders first.
create index sync_orders_order_date_idx on public.sync_orders (account_id, order_date desc) where deleted_at is null;
-- Orders by state: what is unpaid.
create index sync_orders_status_idx on public.sync_orders (account_id, status) where deleted_at is null;
-- An order by the number people know it by.
create index sync_orders_order_number_idx on public.sync_orders (account_id, order_number);
-- What is not in step, few rows of many.
create index sync_orders_sync_status_idx on public.sync_orders (account_id, sync_status) where sync_status <> 'completed';
-- Orders by a custom field's value: custom_fields @> '{"7": "gold"}'.
create index sync_orders_custom_fields_idx on public.sync_orders using gin (custom_fields jsonb_path_ops);

select public.keapsync_protect_table('public.sync_orders');
create policy sync_orders_engine on public.sync_orders to keapsync_engine using (true) with check (true);
create policy sync_orders_reader on public.sync_orders for select to keapsync_reader using (true);
grant select, insert, update, delete on public.sync_orders to keapsync_engine;
grant select on public.sync_orders to keapsync_reader;
select public.keapsync_grant_service_role('select, insert, update, delete', 'public.sync_orders');

create function public.keapsync_link_contact() returns trigger
    language plpgsql
    security definer
    set search_path = ''
as $$
declare
    contact_keap_id text;
begin
    -- An upsert of a row that is there: its update links it, if it changes the contact at all.
    if tg_op = 'INSERT' and session_user <> 'keapsync_engine'
        and public.keapsync_met_row(tg_relid, new.account_id, new.keap_id, new.id) is not null
    then
        return new;
    end if;
    if new.contact_id is not null and (tg_op = 'INSERT' or new.contact_id is distinct from old.contact_id) then
        select contact.keap_id into contact_keap_id
        from public.sync_contacts contact
        where contact.id = new.contact_id and contact.account_id = new.account_id;
        if not found then
            -- What is refused in any case is not to be told apart by whether a stranger's contact exists.
            if tg_op = 'UPDATE' and new.account_id <> old.account_id or public.keapsync_caller() = 'authenticated'
                and coalesce(new.account_id, '') <> all (public.keapsync_member_accounts('operator'))
            then
                return new;
            end if;
            raise exception 'account % has no contact %', new.account_id, new.contact_id
                using errcode = 'foreign_key_violation', hint = 'contact_id takes the id of a contact of the same account.';
        end if;
        if contact_keap_id is not null then
            new.keap_contact_id := contact_keap_id;
        elsif new.keap_id is null then
            -- The contact goes to Keap first; its id comes here when it has one.
            new.keap_contact_id := null;
        else
            -- Keap's record stays with its contact until the new one exists there.
            new.keap_contact_id := case tg_op when 'UPDATE' then old.keap_contact_id end;
        end if;
        return new;
    end if;
    -- Looked for by Keap's id alone, and the account compared outside: this plan is kept for the session, and one that was made while
    -- the table was empty may as well rest on an index that begins with the account, and read all of its contacts for each row.
    new.contact_id := (
        select found.id
        from (
            select contact.id, contact.account_id
            from public.sync_contacts contact
            where contact.keap_id = new.keap_contact_id
            offset 0
        ) as found
        where found.account_id = new.account_id
    );
    return new;
end
$$;
comment on function public.keapsync_link_contact() is
    'Before a row is written: contact_id follows keap_contact_id, or the other way round where a person set contact_id.';
select public.keapsync_protect_function('public.keapsync_link_contact()');

create trigger stamp_2_link_insert before insert on public.sync_orders
    for each row when (new.contact_id is not null or new.keap_contact_id is not null)
    execute function public.keapsync_link_contact();
create trigger link_contact_update before update on public.sync_orders
    for each row when (
        (old.contact_id, old.keap_contact_id) is distinct from (new.contact_id, new.keap_contact_id)
        or (new.contact_id is null and new.keap_contact_id is not null))
    execute function public.keapsync_link_contact();

-- Triggers of one kind fire in the order of their names.
create trigger stamp_1_insert before insert on public.sync_orders
    for each row when (session_user <> 'keapsync_engine') execute function public.keapsync_stamp_insert();
-- A write of the link alone is no edit and leaves version and times.
create trigger stamp_1_update before update on public.sync_orders
    for each row when (
        (old.last_synced_at, old.sync_status, old.id, old.account_id, old.keap_id, old.keap_contact_id,
         old.order_number, old.title, old.order_date, old.total_amount, old.paid_amount, old.due_amount,
         old.refund_amount, old.currency, old.status, old.order_type, old.line_items, old.shipping_address,
         old.billing_address, old.notes, old.custom_fields, old.extra, old.source_system, old.sync_error, old.version,
         old.keap_updated_at, old.created_at, old.updated_at, old.edited_at, old.deleted_at, old.created_by, old.updated_by,
         old.deleted_by)
        is distinct from
        (new.last_synced_at, new.sync_status, new.id, new.account_id, new.keap_id, new.keap_contact_id,
         new.order_number, new.title, new.order_date, new.total_amount, new.paid_amount, new.due_amount,
         new.refund_amount, new.currency, new.status, new.order_type, new.line_items, new.shipping_address,
         new.billing_address, new.notes, new.custom_fields, new.extra, new.source_system, new.sync_error, new.version,
         new.keap_updated_at, new.created_at, new.updated_at, new.edited_at, new.deleted_at, new.created_by, new.updated_by,
         new.deleted_by))
    execute function public.keapsync_stamp_update();
create trigger stamp_2_change before update on public.sync_orders
    for each row when (
        (old.keap_contact_id, old.order_number, old.title, old.order_date, old.total_amount, old.paid_amount,
         old.due_amount, old.refund_amount, old.currency, old.status, old.order_type, old.line_items,
         old.shipping_address, old.billing_address, old.notes, old.custom_fields, old.deleted_at)
        is distinct from
        (new.keap_contact_id, new.order_number, new.title, new.order_date, new.total_amount, new.paid_amount,
         new.due_amount, new.refund_amount, new.currency, new.status, new.order_type, new.line_items,
         new.shipping_address, new.billing_address, new.notes, new.custom_fields, new.deleted_at))
    execute function public.keapsync_stamp_change();
create trigger soft_delete before delete on public.sync_orders
    for each row when (session_user <> 'keapsync_engine') execute function public.keapsync_soft_delete();
create trigger refuse_truncate before truncate on public.sync_orders
    for each statement execute function public.keapsync_refuse_truncate();
select public.keapsync_create_capture('public.sync_orders', 'order',
    array['keap_contact_id', 'order_number', 'title', 'order_date', 'total_amount', 'paid_amount', 'due_amount',
        'refund_amount', 'currency', 'status', 'order_type', 'line_items', 'shipping_address', 'billing_address', 'notes',
        'custom_fields', 'deleted_at']);
