-- A mirror as large as the largest we promise to serve quickly: 1,000,000 contacts, 200,000 orders, 3,000,000 audit entries, settled
-- and open conflicts, and a day of activity. The benchmark of queries runs it as keapsync_engine, so that nothing is captured.

insert into public.sync_accounts (account_id, name, status)
values ('demo', 'Demo', 'active'), ('other', 'Somebody else''s', 'active');

-- One contact in a hundred is somebody else's, one in two thousand is not in step.
insert into public.sync_contacts (account_id, keap_id, email, first_name, last_name, phone, company, job_title, owner_id,
    opt_in_status, phones, addresses, tags, custom_fields, extra, source_system, sync_status, sync_error, last_synced_at,
    keap_updated_at, created_at, updated_at)
select case when n % 100 = 99 then 'other' else 'demo' end,
    n::text,
    case when n % 10 <> 9 then format('%s.%s%s@Example%s.com', given.name, family.name, n, n % 997) end,
    given.name,
    family.name || case when n % 3 = 0 then '-' || (n % 5000)::text else '' end,
    '+1 555 ' || lpad(n::text, 7, '0'),
    'Company ' || n % 2011,
    (array['Owner', 'Head of Sales', 'Engineer', 'Nurse', 'Teacher'])[1 + n % 5],
    (1 + n % 7)::text,
    'SINGLE_OPT_IN',
    jsonb_build_array(jsonb_build_object('field', 'PHONE2', 'number', '(555) ' || lpad(n::text, 7, '0'), 'type', 'MOBILE')),
    jsonb_build_array(jsonb_build_object('field', 'BILLING', 'line1', n || ' Main Street', 'locality', 'Springfield',
        'region', 'Illinois', 'postal_code', '62704', 'country_code', 'USA')),
    jsonb_build_array((100 + n % 41)::text, (200 + n % 7)::text),
    jsonb_build_object('1', 'note ' || n % 1000, '4', 'gold'),
    jsonb_build_object('score_value', (n % 5)::text, 'source_type', 'WEBFORM', 'time_zone', 'America/Chicago'),
    'keap',
    case when n % 2000 = 0 then 'error' when n % 2000 = 1 then 'pending' when n % 2000 = 2 then 'conflict' else 'completed' end,
    case when n % 2000 = 0 then 'Keap refused the e-mail address' end,
    now() - times.age,
    now() - times.age,
    now() - times.age - interval '200 days',
    now() - times.age
from generate_series(1, 1000000) as n
cross join lateral (select (array['Mei', 'Jose', 'Anna', 'Liam', 'Olga', 'Noor', 'Ivan', 'Ada', 'Zoe', 'Paul', 'Ruth'])[1 + n % 11] as name) as given
cross join lateral (select (array['Smith', 'Garcia', 'Meier', 'Li', 'Novak', 'Khan', 'Brown', 'Silva', 'Rossi', 'Dubois', 'Sato', 'Olsen',
    'Keller'])[1 + n % 13] as name) as family
-- Times in no order of ids, as edits come.
cross join lateral (select (n::bigint * 7919 % 1000003)::float8 * interval '20 seconds' as age) as times;

insert into public.sync_orders (account_id, keap_id, contact_id, keap_contact_id, order_number, title, order_date, total_amount,
    paid_amount, due_amount, currency, status, order_type, line_items, source_system, sync_status, last_synced_at, keap_updated_at)
select contact.account_id, contact.keap_id, contact.id, contact.keap_id, 'A-' || contact.keap_id, 'Order of ' || contact.first_name,
    contact.updated_at, 120.5, 120.5, 0, 'USD', (array['PAID', 'UNPAID', 'REFUNDED'])[1 + length(contact.keap_id) % 3], 'Online',
    '[{"id": "1", "name": "Course", "quantity": 1, "price": "120.5"}]', 'keap', 'completed', now(), contact.updated_at
from public.sync_contacts contact
where contact.keap_id::integer <= 200000;

-- Three entries a contact, spread over the months that have partitions.
insert into public.sync_audit_log (account_id, entity_type, entity_id, keap_id, operation, old_data, changed_fields, sync_source,
    sync_destination, created_at)
select contact.account_id, 'contact', contact.id, contact.keap_id, case entry when 1 then 'create' else 'update' end,
    case when entry > 1 then jsonb_build_object('first_name', 'Old', 'phone', '+1 555 0000000') end,
    case when entry > 1 then array['first_name', 'phone'] end,
    'hook', 'supabase',
    date_trunc('month', now()) + ((contact.keap_id::bigint * 31 + entry * 40009) % 3000000)::float8 * interval '3 seconds'
from generate_series(1, 3) as entry
cross join public.sync_contacts contact;

insert into public.sync_conflicts (account_id, entity_type, entity_id, keap_id, conflict_fields, base_data, keap_data,
    supabase_data, keap_changed_at, supabase_changed_at, detected_at, resolution_strategy, winner, resolved_at)
select contact.account_id, 'contact', contact.id, contact.keap_id, array['phone'], '{"phone": "1"}', '{"phone": "2"}', '{"phone": "3"}',
    now(), now(), contact.updated_at, case when settled then 'newest_wins' else 'manual' end, case when settled then 'keap' end,
    case when settled then now() end
from public.sync_contacts contact
cross join lateral (select contact.keap_id::integer % 2000 <> 2 as settled) as state
where contact.account_id = 'demo' and contact.keap_id::integer % 100 = 2;

insert into public.sync_queue (account_id, operation, entity_type, entity_id, keap_id, payload, status, completed_at, created_at)
select contact.account_id, 'update', 'contact', contact.id, contact.keap_id, '{"old": {"phone": "1"}, "new": {"phone": "2"}}',
    case when contact.keap_id::integer % 2000 = 1 then 'pending' else 'completed' end,
    case when contact.keap_id::integer % 2000 = 1 then null else now() end, contact.updated_at
from public.sync_contacts contact
where contact.keap_id::integer % 40 = 1;

insert into public.sync_activity (account_id, entity_type, direction, source, records, lag_ms_total, lag_records, at)
select 'demo', 'contact', 'keap_to_supabase', 'hook', 1, 250 + n % 700, 1, now() - n * interval '5 seconds'
from generate_series(1, 17280) as n;
