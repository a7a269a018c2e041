-- The synced fields of every entity, for SQL that merges: the same list in the same order as the program's schema, with the same
-- words on what Keap does not take. A test compares both.

create function public.keapsync_fields()
    returns table (entity_type text, "position" integer, field text, kind text, slot_kind text, access text, reason text)
    language sql
    immutable
    set search_path = ''
as $$
    with known (entity_type, field, kind, slot_kind, access, reason) as (values
        ('contact', 'email', 'email', null, 'writable', null),
        ('contact', 'first_name', 'text', null, 'writable', null),
        ('contact', 'last_name', 'text', null, 'writable', null),
        ('contact', 'middle_name', 'text', null, 'writable', null),
        ('contact', 'phone', 'phone', null, 'writable', null),
        ('contact', 'company', 'text', null, 'read_only',
            'Keap links a contact to a company record by id; its name is edited on the company'),
        ('contact', 'job_title', 'text', null, 'writable', null),
        ('contact', 'website', 'text', null, 'writable', null),
        ('contact', 'birth_date', 'date', null, 'writable', null),
        ('contact', 'owner_id', 'text', null, 'writable', null),
        ('contact', 'lead_source_id', 'text', null, 'writable', null),
        ('contact', 'opt_in_status', 'text', null, 'read_only',
            'Keap derives the marketing status of an e-mail address itself'),
        ('contact', 'emails', 'slots', 'email', 'writable', null),
        ('contact', 'phones', 'slots', 'phone', 'writable', null),
        ('contact', 'addresses', 'slots', 'address', 'writable', null),
        ('contact', 'tags', 'set', null, 'writable', null),
        ('contact', 'custom_fields', 'map', null, 'writable', null),
        ('order', 'keap_contact_id', 'text', null, 'writable', null),
        ('order', 'order_number', 'text', null, 'writable', null),
        ('order', 'title', 'text', null, 'writable', null),
        ('order', 'order_date', 'instant', null, 'writable', null),
        ('order', 'total_amount', 'money', null, 'read_only',
            'Keap computes an order''s totals from its lines and payments: edit the lines'),
        ('order', 'paid_amount', 'money', null, 'read_only',
            'Keap computes an order''s totals from its lines and payments: edit the lines'),
        ('order', 'due_amount', 'money', null, 'read_only',
            'Keap computes an order''s totals from its lines and payments: edit the lines'),
        ('order', 'refund_amount', 'money', null, 'read_only', 'Keap makes no refunds by its interface'),
        ('order', 'currency', 'text', null, 'read_only', 'the currency is the Keap account''s own'),
        ('order', 'status', 'text', null, 'read_only', 'Keap derives an order''s status from its invoice and payments'),
        ('order', 'order_type', 'text', null, 'writable', null),
        ('order', 'line_items', 'slots', 'item', 'writable', null),
        ('order', 'shipping_address', 'address', null, 'writable', null),
        ('order', 'billing_address', 'address', null, 'read_only', 'Keap''s orders carry no billing address'),
        ('order', 'notes', 'text', null, 'writable', null),
        ('order', 'custom_fields', 'map', null, 'writable', null),
        ('tag', 'name', 'text', null, 'writable', null),
        ('tag', 'category', 'text', null, 'read_only',
            'Keap links a tag to its category by id: edit category_id, or rename the category in Keap'),
        ('tag', 'category_id', 'text', null, 'writable', null),
        ('tag', 'description', 'text', null, 'writable', null),
        ('subscription', 'keap_contact_id', 'text', null, 'writable', null),
        ('subscription', 'product_id', 'text', null, 'read_only', 'the product follows from the plan: edit plan_id'),
        ('subscription', 'product_name', 'text', null, 'read_only', 'the product''s name is edited on the product in Keap'),
        ('subscription', 'plan_id', 'text', null, 'writable', null),
        ('subscription', 'status', 'text', null, 'writable', null),
        ('subscription', 'start_date', 'date', null, 'create_only', 'Keap takes the start only when a subscription is made'),
        ('subscription', 'end_date', 'date', null, 'writable', null),
        ('subscription', 'next_bill_date', 'date', null, 'writable', null),
        ('subscription', 'billing_cycle', 'text', null, 'writable', null),
        ('subscription', 'billing_frequency', 'integer', null, 'writable', null),
        ('subscription', 'amount', 'money', null, 'writable', null),
        ('subscription', 'currency', 'text', null, 'read_only', 'the currency is the Keap account''s own'),
        ('subscription', 'quantity', 'integer', null, 'writable', null),
        ('subscription', 'auto_charge', 'boolean', null, 'writable', null),
        ('subscription', 'cancel_reason', 'text', null, 'writable', null),
        ('subscription', 'custom_fields', 'map', null, 'writable', null)
    ), numbered as (
        select known.*, row_number() over () as line from known
    )
    select numbered.entity_type,
        (row_number() over (partition by numbered.entity_type order by numbered.line) - 1)::integer,
        numbered.field, numbered.kind, numbered.slot_kind, numbered.access, numbered.reason
    from numbered
$$;
comment on function public.keapsync_fields() is
    'The synced fields in the order of the schema: how each compares (kind, slot_kind), whether Keap takes an edit of it (access) and why not.';
select public.keapsync_protect_function('public.keapsync_fields()');
grant execute on function public.keapsync_fields() to keapsync_engine, keapsync_reader;

create function public.keapsync_table(entity_type text) returns regclass
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    case entity_type
        when 'contact' then return 'public.sync_contacts'::regclass;
        when 'order' then return 'public.sync_orders'::regclass;
        when 'tag' then return 'public.sync_tags'::regclass;
        when 'subscription' then return 'public.sync_subscriptions'::regclass;
        else
            raise exception 'there is no kind of record called %', coalesce(entity_type, 'null')
                using errcode = 'invalid_parameter_value', hint = 'Use contact, order, tag or subscription.';
    end case;
end
$$;
comment on function public.keapsync_table(text) is 'The table that mirrors a kind of record.';
select public.keapsync_protect_function('public.keapsync_table(text)');
grant execute on function public.keapsync_table(text) to keapsync_engine;
