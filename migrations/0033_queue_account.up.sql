-- Every item of the queue is made from a row of a mirrored table, whose account is checked there, or by the sync for an account it
-- works on. Checking it once more cost each edit a good part of what its capture costs.
alter table public.sync_queue drop constraint sync_queue_account_id_fkey;
