-- Keap's subscriptions, and what happens to orders and subscriptions when their contact appears.

create table public.sync_subscriptions (
    id uuid primary key default gen_random_uuid(),
    account_id text not null references public.sync_accounts (account_id),
    keap_id text check (keap_id ~ '^[0-9]{1,19}$'),
    contact_id uuid references public.sync_contacts (id) on delete set null,
    keap_contact_id text check (keap_contact_id ~ '^[0-9]{1,19}$'),
    product_id text,
    product_name text,
    plan_id text,
    status text check (status in ('active', 'inactive')),
    start_date date check (start_date between '0001-01-01' and '9999-12-31'),
    end_date date check (end_date between '0001-01-01' and '9999-12-31'),
    next_bill_date date check (next_bill_date between '0001-01-01' and '9999-12-31'),
    billing_cycle text,
    billing_frequency integer,
    amount numeric(14, 3) check (amount <> 'NaN'),
    currency char(3),
    quantity integer,
    auto_charge boolean,
    cancel_reason text,
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
    constraint sync_subscriptions_keap_id_key unique (keap_id, account_id)
);
comment on table public.sync_subscriptions is 'Subscriptions, in step with Keap in both directions. Edit them here or there; a DELETE becomes deleted_at.';
comment on column public.sync_subscriptions.id is 'Key of the row; stays the same whatever happens in Keap.';
comment on column public.sync_subscriptions.account_id is 'The Keap account.';
comment on column public.sync_subscriptions.keap_id is 'Keap''s id; null until the record exists there. Set by the sync.';
comment on column public.sync_subscriptions.contact_id is 'The contact who subscribed. Follows keap_contact_id; null until that contact is here.';
comment on column public.sync_subscriptions.keap_contact_id is 'Keap id of the contact. Follows contact_id when a person sets that.';
comment on column public.sync_subscriptions.product_id is 'Keap id of the product. Read-only in Keap.';
comment on column public.sync_subscriptions.product_name is 'Name of the product. Read-only in Keap.';
comment on column public.sync_subscriptions.plan_id is 'Keap id of the subscription plan.';
comment on column public.sync_subscriptions.status is 'active or inactive.';
comment on column public.sync_subscriptions.start_date is 'First day. Keap takes it at creation only.';
comment on column public.sync_subscriptions.end_date is 'Last day; null while open.';
comment on column public.sync_subscriptions.next_bill_date is 'When it is billed next.';
comment on column public.sync_subscriptions.billing_cycle is 'Unit of the period, in Keap''s words.';
comment on column public.sync_subscriptions.billing_frequency is 'How many units make a period.';
comment on column public.sync_subscriptions.amount is 'Price of a period, in currency.';
comment on column public.sync_subscriptions.currency is 'Currency of the amount, ISO 4217. Read-only in Keap.';
comment on column public.sync_subscriptions.quantity is 'How many.';
comment on column public.sync_subscriptions.auto_charge is 'Whether Keap charges by itself.';
comment on column public.sync_subscriptions.cancel_reason is 'Why it ended.';
comment on column public.sync_subscriptions.custom_fields is 'Values of custom fields: object keyed by Keap''s id of the field.';
comment on column public.sync_subscriptions.extra is 'What Keap sent and no column holds.';
comment on column public.sync_subscriptions.source_system is 'Where the record was made: keap, supabase, manual.';
comment on column public.sync_subscriptions.sync_status is 'State towards Keap: completed, pending, error, conflict, paused.';
comment on column public.sync_subscriptions.sync_error is 'Why sync_status is error, in words.';
comment on column public.sync_subscriptions.version is 'Counts writes; kept by trigger.';
comment on column public.sync_subscriptions.last_synced_at is 'When the sync last wrote this row.';
comment on column public.sync_subscriptions.keap_updated_at is 'Keap''s time of its last change that was applied here.';
comment on column public.sync_subscriptions.created_at is 'When the record was made, by Keap''s clock if it was made there.';
comment on column public.sync_subscriptions.updated_at is 'When a value last changed here; kept by trigger.';
comment on column public.sync_subscriptions.edited_at is 'When somebody last edited a synced value here, which newest_wins compares with Keap''s time; null where nobody did. Kept by trigger.';
comment on column public.sync_subscriptions.deleted_at is 'When the record was deleted, on either side, by this database''s clock where it was deleted here; null while it lives.';
comment on column public.sync_subscriptions.created_by is 'User who inserted the row; null for the sync.';
comment on column public.sync_subscriptions.updated_by is 'User who last edited the row.';
comment on column public.sync_subscriptions.deleted_by is 'User who deleted the row; null for the sync.';

-- The subscriptions of one contact; also those whose contact is purged, or gets its Keap id.
create index sync_subscriptions_contact_idx on public.sync_subscriptions (contact_id);
-- Subscriptions that wait for their contact, few of many.
create index sync_subscriptions_waiting_idx on public.sync_subscriptions (keap_contact_id, account_id) where contact_id is null;
-- Current subscriptions: status = 'active', by when they are billed next.
create index sync_subscriptions_status_idx on public.sync_subscriptions (account_id, status, next_bill_date)
    where deleted_at is null;
-- Newest first, the list of live subscriptions.
create index sync_subscriptions_updated_at_idx on public.sync_subscriptions (account_id, updated_at) where deleted_at is null;
-- What is not in step, few rows of many.
create index sync_subscriptions_sync_status_idx on public.sync_subscriptions (account_id, sync_status)
    where sync_status <> 'completed';
-- Subscriptions by a custom field's value: custom_fields @> '{"7": "gold"}'.
create index sync_subscriptions_custom_fields_idx on public.sync_subscriptions using gin (custom_fields jsonb_path_ops);

select public.keapsync_protect_table('public.sync_subscriptions');
create policy sync_subscriptions_engine on public.sync_subscriptions to keapsync_engine using (true) with check (true);
create policy sync_subscriptions_reader on public.sync_subscriptions for select to keapsync_reader using (true);
grant select, insert, update, delete on public.sync_subscriptions to keapsync_engine;
grant select on public.sync_subscriptions to keapsync_reader;
select public.keapsync_grant_service_role('select, insert, update, delete', 'public.sync_subscriptions');

create trigger stamp_2_link_insert before insert on public.sync_subscriptions
    for each row when (new.contact_id is not null or new.keap_contact_id is not null)
    execute function public.keapsync_link_contact();
create trigger link_contact_update before update on public.sync_subscriptions
    for each row when (
        (old.contact_id, old.keap_contact_id) is distinct from (new.contact_id, new.keap_contact_id)
        or (new.contact_id is null and new.keap_contact_id is not null))
    execute function public.keapsync_link_contact();

-- Triggers of one kind fire in the order of their names.
create trigger stamp_1_insert before insert on public.sync_subscriptions
    for each row when (session_user <> 'keapsync_engine') execute function public.keapsync_stamp_insert();
-- A write of the link alone is no edit and leaves version and times.
create trigger stamp_1_update before update on public.sync_subscriptions
    for each row when (
        (old.last_synced_at, old.sync_status, old.id, old.account_id, old.keap_id, old.keap_contact_id, old.product_id,
         old.product_name, old.plan_id, old.status, old.start_date, old.end_date, old.next_bill_date,
         old.billing_cycle, old.billing_frequency, old.amount, old.currency, old.quantity, old.auto_charge,
         old.cancel_reason, old.custom_fields, old.extra, old.source_system, old.sync_error, old.version,
         old.keap_updated_at, old.created_at, old.updated_at, old.edited_at, old.deleted_at, old.created_by, old.updated_by,
         old.deleted_by)
        is distinct from
        (new.last_synced_at, new.sync_status, new.id, new.account_id, new.keap_id, new.keap_contact_id, new.product_id,
         new.product_name, new.plan_id, new.status, new.start_date, new.end_date, new.next_bill_date,
         new.billing_cycle, new.billing_frequency, new.amount, new.currency, new.quantity, new.auto_charge,
         new.cancel_reason, new.custom_fields, new.extra, new.source_system, new.sync_error, new.version,
         new.keap_updated_at, new.created_at, new.updated_at, new.edited_at, new.deleted_at, new.created_by, new.updated_by,
         new.deleted_by))
    execute function public.keapsync_stamp_update();
create trigger stamp_2_change before update on public.sync_subscriptions
    for each row when (
        (old.keap_contact_id, old.product_id, old.product_name, old.plan_id, old.status, old.start_date, old.end_date,
         old.next_bill_date, old.billing_cycle, old.billing_frequency, old.amount, old.currency, old.quantity,
         old.auto_charge, old.cancel_reason, old.custom_fields, old.deleted_at)
        is distinct from
        (new.keap_contact_id, new.product_id, new.product_name, new.plan_id, new.status, new.start_date, new.end_date,
         new.next_bill_date, new.billing_cycle, new.billing_frequency, new.amount, new.currency, new.quantity,
         new.auto_charge, new.cancel_reason, new.custom_fields, new.deleted_at))
    execute function public.keapsync_stamp_change();
create trigger soft_delete before delete on public.sync_subscriptions
    for each row when (session_user <> 'keapsync_engine') execute function public.keapsync_soft_delete();
create trigger refuse_truncate before truncate on public.sync_subscriptions
    for each statement execute function public.keapsync_refuse_truncate();
select public.keapsync_create_capture('public.sync_subscriptions', 'subscription',
    array['keap_contact_id', 'product_id', 'product_name', 'plan_id', 'status', 'start_date', 'end_date', 'next_bill_date',
        'billing_cycle', 'billing_frequency', 'amount', 'currency', 'quantity', 'auto_charge', 'cancel_reason',
        'custom_fields', 'deleted_at']);

-- Nearly always nothing waits: the look at an index that is almost empty is all that a page of contacts pays.
create function public.keapsync_link_waiting() returns trigger
    language plpgsql
    security definer
    set search_path = ''
    -- Plans are kept for the length of a session: none of them may rest on a table that was small when it was made.
    set enable_seqscan = off
as $$
begin
    if exists (select from public.sync_orders where contact_id is null and keap_contact_id is not null) then
        with waiting as materialized (
            select found.id, appeared.id as contact_id
            from appeared
            cross join lateral (
                select candidate.id
                from (
                    -- By Keap's id alone, as where the contact is looked for.
                    select orders.id, orders.account_id
                    from public.sync_orders orders
                    where orders.keap_contact_id = appeared.keap_id and orders.contact_id is null
                    offset 0
                ) as candidate
                where candidate.account_id = appeared.account_id
            ) as found
        ),
        -- In order of id, as the sync locks them.
        locked as materialized (
            select sorted.id, sorted.contact_id
            from (select waiting.id, waiting.contact_id from waiting order by waiting.id) as sorted
            cross join lateral (
                select from public.sync_orders orders where orders.id = sorted.id for no key update
            ) as held
        )
        update public.sync_orders orders
        set contact_id = locked.contact_id
        from locked
        where orders.id = locked.id and orders.contact_id is null and (select count(*) from locked) > 0;
    end if;
    if exists (select from public.sync_subscriptions where contact_id is null and keap_contact_id is not null) then
        with waiting as materialized (
            select found.id, appeared.id as contact_id
            from appeared
            cross join lateral (
                select candidate.id
                from (
                    -- By Keap's id alone, as where the contact is looked for.
                    select subscription.id, subscription.account_id
                    from public.sync_subscriptions subscription
                    where subscription.keap_contact_id = appeared.keap_id and subscription.contact_id is null
                    offset 0
                ) as candidate
                where candidate.account_id = appeared.account_id
            ) as found
        ),
        locked as materialized (
            select sorted.id, sorted.contact_id
            from (select waiting.id, waiting.contact_id from waiting order by waiting.id) as sorted
            cross join lateral (
                select from public.sync_subscriptions subscription where subscription.id = sorted.id for no key update
            ) as held
        )
        update public.sync_subscriptions subscription
        set contact_id = locked.contact_id
        from locked
        where subscription.id = locked.id and subscription.contact_id is null and (select count(*) from locked) > 0;
    end if;
    return null;
end
$$;
comment on function public.keapsync_link_waiting() is
    'After contacts are inserted: links the orders and subscriptions that came before them.';
select public.keapsync_protect_function('public.keapsync_link_waiting()');

-- Only the sync gives a contact its Keap id. What a person linked to that contact before now has something to say to Keap, so it
-- is captured, although the sync's own session writes it.
create function public.keapsync_link_identified() returns trigger
    language plpgsql
    security definer
    set search_path = ''
as $$
declare
    target record;
begin
    for target in
        select * from (values ('sync_orders', 'order'), ('sync_subscriptions', 'subscription')) as targets (name, entity)
    loop
        execute format(
            'with locked as materialized (
                 select record.id
                 from public.%I record
                 where record.keap_contact_id = $1 and record.account_id = $2 and record.contact_id is null
                 order by record.id
                 for no key update
             )
             update public.%1$I record set contact_id = $3 from locked where record.id = locked.id', target.name)
            using new.keap_id, new.account_id, new.id;
        continue when old.keap_id is not null;
        execute format(
            'with locked as materialized (
                 select record.id, record.keap_contact_id
                 from public.%I record
                 where record.contact_id = $1 and record.keap_contact_id is distinct from $2 and record.deleted_at is null
                 order by record.id
                 for no key update
             ), gained as (
                 update public.%1$I record
                 set keap_contact_id = $2, sync_status = ''pending'', sync_error = null, edited_at = now()
                 from locked
                 where record.id = locked.id
                 returning record.account_id, record.id, record.keap_id,
                     jsonb_build_object(''keap_contact_id'', locked.keap_contact_id) as old_values
             ), queued as (
                 insert into public.sync_queue (account_id, operation, entity_type, entity_id, keap_id, payload)
                 select gained.account_id, ''update'', %2$L, gained.id, gained.keap_id,
                     jsonb_build_object(''old'', gained.old_values, ''new'', jsonb_build_object(''keap_contact_id'', $2))
                 from gained
             ), audited as (
                 insert into public.sync_audit_log (account_id, entity_type, entity_id, keap_id, operation, old_data,
                     changed_fields, sync_source, sync_destination)
                 select gained.account_id, %2$L, gained.id, gained.keap_id, ''update'', gained.old_values,
                     array[''keap_contact_id''], ''supabase'', ''keap''
                 from gained
             )
             insert into public.sync_status as status (account_id, entity_type, entity_id, keap_id, base, last_sync_status)
             select gained.account_id, %2$L, gained.id, gained.keap_id, gained.old_values, ''pending'' from gained
             on conflict (account_id, entity_type, entity_id) do update
             set base = excluded.base || coalesce(status.base, ''{}''), last_sync_status = ''pending'', updated_at = now()',
            target.name, target.entity)
            using new.id, new.keap_id;
    end loop;
    return null;
end
$$;
comment on function public.keapsync_link_identified() is
    'After a contact gets its Keap id: links what waits for that id, and passes the id on to what a person linked to the contact.';
select public.keapsync_protect_function('public.keapsync_link_identified()');

create trigger link_waiting after insert on public.sync_contacts
    referencing new table as appeared
    for each statement execute function public.keapsync_link_waiting();
create trigger link_identified after update of keap_id on public.sync_contacts
    for each row when (old.keap_id is distinct from new.keap_id and new.keap_id is not null)
    execute function public.keapsync_link_identified();
