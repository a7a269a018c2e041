-- What people ask for most, ready to read. Each view reads with its reader's own rights.

create view public.keap_orders with (security_invoker = true) as
select orders.account_id,
    orders.id,
    orders.keap_id,
    orders.order_number,
    orders.title,
    orders.order_date,
    orders.status,
    orders.total_amount,
    orders.paid_amount,
    orders.due_amount,
    orders.refund_amount,
    orders.currency,
    orders.order_type,
    orders.line_items,
    orders.contact_id,
    orders.keap_contact_id,
    nullif(concat_ws(' ', contact.first_name, contact.last_name), '') as contact_name,
    contact.email as contact_email,
    contact.phone as contact_phone,
    contact.company as contact_company,
    orders.sync_status,
    orders.sync_error,
    orders.last_synced_at,
    orders.updated_at
from public.sync_orders orders
left join public.sync_contacts contact on contact.id = orders.contact_id
where orders.deleted_at is null;
comment on view public.keap_orders is 'Live orders with their contact.';
comment on column public.keap_orders.contact_name is 'First and last name of the contact; null while the contact is not here.';
comment on column public.keap_orders.contact_email is 'E-mail address of the contact.';
comment on column public.keap_orders.contact_phone is 'Telephone number of the contact.';
comment on column public.keap_orders.contact_company is 'Company of the contact.';

create view public.keap_current_subscriptions with (security_invoker = true) as
select subscription.account_id,
    subscription.id,
    subscription.keap_id,
    subscription.contact_id,
    subscription.keap_contact_id,
    nullif(concat_ws(' ', contact.first_name, contact.last_name), '') as contact_name,
    contact.email as contact_email,
    subscription.product_id,
    subscription.product_name,
    subscription.plan_id,
    subscription.amount,
    subscription.currency,
    subscription.quantity,
    subscription.billing_cycle,
    subscription.billing_frequency,
    subscription.start_date,
    subscription.next_bill_date,
    subscription.end_date,
    subscription.auto_charge,
    subscription.sync_status,
    subscription.updated_at
from public.sync_subscriptions subscription
left join public.sync_contacts contact on contact.id = subscription.contact_id
where subscription.deleted_at is null and subscription.status = 'active'
    and (subscription.end_date is null or subscription.end_date >= current_date);
comment on view public.keap_current_subscriptions is 'Subscriptions that are active and have not ended, with their contact.';
comment on column public.keap_current_subscriptions.contact_name is 'First and last name of the contact; null while the contact is not here.';
comment on column public.keap_current_subscriptions.contact_email is 'E-mail address of the contact.';

-- The open conflicts of an account, oldest first.
create index sync_conflicts_open_idx on public.sync_conflicts (account_id, detected_at) where resolved_at is null;

create view public.keap_open_conflicts with (security_invoker = true) as
select conflict.account_id,
    conflict.id,
    conflict.entity_type,
    conflict.entity_id,
    conflict.keap_id,
    coalesce(
        nullif(concat_ws(' ', contact.first_name, contact.last_name), ''), contact.email,
        orders.title, orders.order_number, tag.name, subscription.product_name) as record_name,
    nullif(concat_ws(' ', owner.first_name, owner.last_name), '') as contact_name,
    field.name as field,
    conflict.base_data -> field.name as base_value,
    conflict.keap_data -> field.name as keap_value,
    conflict.supabase_data -> field.name as supabase_value,
    conflict.keap_changed_at,
    conflict.supabase_changed_at,
    conflict.detected_at,
    now() - conflict.detected_at as open_for
from public.sync_conflicts conflict
cross join lateral unnest(conflict.conflict_fields) as field (name)
left join public.sync_contacts contact on conflict.entity_type = 'contact' and contact.id = conflict.entity_id
left join public.sync_orders orders on conflict.entity_type = 'order' and orders.id = conflict.entity_id
left join public.sync_tags tag on conflict.entity_type = 'tag' and tag.id = conflict.entity_id
left join public.sync_subscriptions subscription
    on conflict.entity_type = 'subscription' and subscription.id = conflict.entity_id
-- Not coalesce: under policies the planner would not look the contact up by it, but read all of them.
left join public.sync_contacts owner on owner.id = case conflict.entity_type
    when 'contact' then contact.id when 'order' then orders.contact_id when 'subscription' then subscription.contact_id end
where conflict.resolved_at is null;
comment on view public.keap_open_conflicts is 'Conflicts that wait for a person, one row per field, with what each side has.';
comment on column public.keap_open_conflicts.record_name is 'Name of the contact or tag, title or number of the order, product of the subscription.';
comment on column public.keap_open_conflicts.contact_name is 'The contact whom the record is about.';
comment on column public.keap_open_conflicts.field is 'Field in conflict; a slot or key is named after a dot (addresses.BILLING).';
comment on column public.keap_open_conflicts.base_value is 'What both sides last agreed on.';
comment on column public.keap_open_conflicts.keap_value is 'What Keap has.';
comment on column public.keap_open_conflicts.supabase_value is 'What the row has.';
comment on column public.keap_open_conflicts.open_for is 'How long it has been waiting.';

select public.keapsync_publish_view('public.keap_orders');
select public.keapsync_publish_view('public.keap_current_subscriptions');
select public.keapsync_publish_view('public.keap_open_conflicts');

-- Search for members. Under policies Postgres compares only with functions that cannot leak a value, and lower() is none of those, so
-- that a member's own query by e-mail or name would read the whole table. This function looks at the membership first.
create function public.find_contacts(in_account text, search text, rows_max integer default 50) returns setof public.sync_contacts
    language plpgsql
    stable
    security definer
    set search_path = ''
    rows 50
as $$
declare
    wanted constant text := lower(trim(search));
begin
    if in_account is null or in_account <> all (public.keapsync_member_accounts('viewer')) then
        raise exception 'no access to account %', in_account
            using errcode = 'insufficient_privilege', hint = 'An admin of the account can make you a member.';
    end if;
    if wanted is null or wanted = '' or rows_max not between 1 and 1000 then
        raise exception 'search must not be empty, and rows_max be 1 to 1000' using errcode = 'invalid_parameter_value';
    end if;
    if position('@' in wanted) > 0 then
        return query
            select contact.* from public.sync_contacts contact
            where contact.account_id = in_account and lower(contact.email) = wanted and contact.deleted_at is null
            order by contact.updated_at desc
            limit rows_max;
    else
        return query
            select contact.* from public.sync_contacts contact
            where contact.account_id = in_account and lower(contact.last_name) ~>=~ wanted
                and lower(contact.last_name) ~<~ (wanted || chr(1114111)) and contact.deleted_at is null
            order by lower(contact.last_name) using ~<~, lower(contact.first_name) using ~<~
            limit rows_max;
    end if;
end
$$;
comment on function public.find_contacts(text, text, integer) is
    'Live contacts of an account by e-mail address, or by the beginning of the last name; for members of the account.';
select public.keapsync_protect_function('public.find_contacts(text, text, integer)');
do $$
begin
    if exists (select from pg_catalog.pg_roles where rolname = 'authenticated') then
        grant execute on function public.find_contacts(text, text, integer) to authenticated;
    end if;
end
$$;
