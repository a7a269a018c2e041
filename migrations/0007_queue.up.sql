-- The outbox: people's edits on their way to Keap, written by trigger in the transaction of the edit. Also the records of Keap that
-- could not be applied (operation sync, status failed), so that dead letters are one list.
--
-- A row is claimed by a lease that ends by itself. Per record, sequence is the order of the edits, because the edited row's lock is
-- held when the number is drawn.

create table public.sync_queue (
    id uuid primary key default gen_random_uuid(),
    sequence bigint generated always as identity,
    account_id text not null references public.sync_accounts (account_id),
    operation text not null,
    entity_type text not null,
    entity_id uuid,
    keap_id text,
    payload jsonb,
    priority smallint not null default 5,
    status text not null default 'pending',
    claims integer not null default 0,
    attempts integer not null default 0,
    max_attempts integer not null default 3,
    scheduled_at timestamptz not null default now(),
    started_at timestamptz,
    completed_at timestamptz,
    leased_until timestamptz,
    lease_owner text,
    error_class text,
    error_message text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
comment on table public.sync_queue is 'Edits on their way to Keap, and records of Keap that could not be applied.';
comment on column public.sync_queue.id is 'Key of the item.';
comment on column public.sync_queue.sequence is 'Order of capture.';
comment on column public.sync_queue.account_id is 'The Keap account.';
comment on column public.sync_queue.operation is 'create, update, delete: an edit for Keap. sync: a record of Keap that could not be applied.';
comment on column public.sync_queue.entity_type is 'Kind of record: contact.';
comment on column public.sync_queue.entity_id is 'Key of the edited row.';
comment on column public.sync_queue.keap_id is 'Keap''s id, where known.';
comment on column public.sync_queue.payload is 'The changed columns: {"old": {...}, "new": {...}}.';
comment on column public.sync_queue.priority is 'Smaller goes first: errors 1, conflicts 2, else 5.';
comment on column public.sync_queue.status is 'pending, processing (leased), completed, failed (a dead letter).';
comment on column public.sync_queue.claims is 'How often it was ever claimed: more than once means that an earlier attempt may have had its effect.';
comment on column public.sync_queue.attempts is 'Failed attempts that count against the item.';
comment on column public.sync_queue.max_attempts is 'Attempts before it becomes a dead letter.';
comment on column public.sync_queue.scheduled_at is 'Not before this time.';
comment on column public.sync_queue.started_at is 'When it was last claimed.';
comment on column public.sync_queue.completed_at is 'When it ended, done or failed.';
comment on column public.sync_queue.leased_until is 'While it is worked on: when the claim ends by itself.';
comment on column public.sync_queue.lease_owner is 'Who claimed it.';
comment on column public.sync_queue.error_class is 'What the last failure calls for: unavailable, rate_limited, unauthorized, conflict, invalid, not_found, unexpected.';
comment on column public.sync_queue.error_message is 'The last failure in words.';
comment on column public.sync_queue.created_at is 'When the edit was made, or the record was first refused.';
comment on column public.sync_queue.updated_at is 'When this row last changed.';

-- The next items to claim, and how many wait.
create index sync_queue_due_idx on public.sync_queue (account_id, priority, scheduled_at)
    include (status, leased_until) where status in ('pending', 'processing');
-- All open items of one record: they are claimed together.
create index sync_queue_record_idx on public.sync_queue (entity_type, entity_id, sequence)
    where status in ('pending', 'processing');
-- Whether Keap refused something of a record before: few rows of many.
create index sync_queue_refused_idx on public.sync_queue (entity_type, entity_id)
    where status = 'failed' and operation <> 'sync';
-- Dead letters of an account, by age.
create index sync_queue_failed_idx on public.sync_queue (account_id, created_at) where status = 'failed';
-- A record of Keap that cannot be applied is listed once, however often it is met.
create unique index sync_queue_rejected_key on public.sync_queue (account_id, entity_type, keap_id) nulls not distinct
    where operation = 'sync' and status = 'failed';

select public.keapsync_protect_table('public.sync_queue');
-- What an item may be is checked here and not in the table: Postgres reads a table's checks anew with every statement that writes
-- it, which each captured edit would pay for, while the policy is part of the engine's prepared statements. Capture writes
-- constants.
create policy sync_queue_engine on public.sync_queue to keapsync_engine using (true) with check (
    operation in ('create', 'update', 'delete', 'sync')
    and status in ('pending', 'processing', 'completed', 'failed')
    and (operation = 'sync' or entity_id is not null)
    and (status = 'processing') = (leased_until is not null));
create policy sync_queue_reader on public.sync_queue for select to keapsync_reader using (true);
grant select, insert, update, delete on public.sync_queue to keapsync_engine;
grant select on public.sync_queue to keapsync_reader;
select public.keapsync_grant_service_role('select', 'public.sync_queue');
