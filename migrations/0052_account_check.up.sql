-- Every mirrored record is of an account that exists. A foreign key would look for the account with every row: a first load has
-- hundreds of thousands of rows, all of one account, and its three writers would lock that one row of sync_accounts for each of them. So
-- it is looked for once per statement and account, and locked as a foreign key would lock it; and an account is kept as long as
-- records are of it. As with a foreign key this holds for everybody, whatever their rights and whatever policies hide from them.
--
-- The triggers are here before the keys are gone, and both tables of a key stay locked until this is committed: nothing slips between.

create function public.keapsync_check_account() returns trigger
    language plpgsql
    security definer
    set search_path = ''
as $$
declare
    accounts text[];
    account text;
begin
    if tg_op = 'INSERT' then
        accounts := array(select distinct changed.account_id from changed);
    else
        accounts := array[new.account_id];
    end if;
    foreach account in array accounts loop
        -- Whoever deletes or renames the account waits for this transaction and then finds its rows; whoever did so before is waited
        -- for, and the account is looked at anew.
        perform from public.sync_accounts known where known.account_id = account for key share;
        if not found then
            raise exception 'there is no account % for this row of %', account, tg_table_name
                using errcode = 'foreign_key_violation', hint = 'Mirror the account into sync_accounts before its records.',
                    schema = tg_table_schema, table = tg_table_name, column = 'account_id';
        end if;
    end loop;
    return null;
end
$$;
comment on function public.keapsync_check_account() is
    'After rows are inserted or get another account: refuses those whose account does not exist, and keeps it until they are committed.';
select public.keapsync_protect_function('public.keapsync_check_account()');

create function public.keapsync_keep_account() returns trigger
    language plpgsql
    security definer
    set search_path = ''
as $$
declare
    referring text;
begin
    -- Rows that others committed after the snapshot of a stricter transaction was taken would be overlooked: the lock on the account
    -- was waited for, and its end is no reason for such a transaction to fail.
    if current_setting('transaction_isolation') not in ('read committed', 'read uncommitted') then
        raise exception 'account % is deleted or renamed in a transaction that is %', old.account_id, current_setting('transaction_isolation')
            using errcode = 'invalid_transaction_state', hint = 'Do it in one that is READ COMMITTED, which sees the rows that others committed meanwhile.';
    end if;
    select case
        when exists (select from public.sync_contacts contact where contact.account_id = old.account_id) then 'sync_contacts'
        when exists (select from public.sync_orders orders where orders.account_id = old.account_id) then 'sync_orders'
        when exists (select from public.sync_tags tag where tag.account_id = old.account_id) then 'sync_tags'
        when exists (select from public.sync_subscriptions subscription where subscription.account_id = old.account_id)
            then 'sync_subscriptions'
    end into referring;
    if referring is not null then
        raise exception 'account % has rows in %', old.account_id, referring
            using errcode = 'foreign_key_violation', hint = 'Keep the account, which may be paused, or remove its records first.',
                schema = tg_table_schema, table = tg_table_name, column = 'account_id';
    end if;
    return null;
end
$$;
comment on function public.keapsync_keep_account() is
    'After an account is deleted or renamed: refuses it while mirrored records are of that account.';
select public.keapsync_protect_function('public.keapsync_keep_account()');

-- The rows of a statement are kept for count_insert in any case, and both triggers read the same ones.
create trigger check_account_insert after insert on public.sync_contacts
    referencing new table as changed
    for each statement execute function public.keapsync_check_account();
create trigger check_account_insert after insert on public.sync_orders
    referencing new table as changed
    for each statement execute function public.keapsync_check_account();
create trigger check_account_insert after insert on public.sync_tags
    referencing new table as changed
    for each statement execute function public.keapsync_check_account();
create trigger check_account_insert after insert on public.sync_subscriptions
    referencing new table as changed
    for each statement execute function public.keapsync_check_account();
-- People may not change the account of a row (keapsync_stamp_update); the sync never does, and could.
create trigger check_account_update after update on public.sync_contacts
    for each row when (old.account_id is distinct from new.account_id)
    execute function public.keapsync_check_account();
create trigger check_account_update after update on public.sync_orders
    for each row when (old.account_id is distinct from new.account_id)
    execute function public.keapsync_check_account();
create trigger check_account_update after update on public.sync_tags
    for each row when (old.account_id is distinct from new.account_id)
    execute function public.keapsync_check_account();
create trigger check_account_update after update on public.sync_subscriptions
    for each row when (old.account_id is distinct from new.account_id)
    execute function public.keapsync_check_account();
-- TRUNCATE needs no trigger: foreign keys of tables with fewer rows refuse it, and with CASCADE sync_record_counts does.
create trigger keep_account_delete after delete on public.sync_accounts
    for each row execute function public.keapsync_keep_account();
create trigger keep_account_update after update on public.sync_accounts
    for each row when (old.account_id is distinct from new.account_id)
    execute function public.keapsync_keep_account();

alter table public.sync_contacts drop constraint sync_contacts_account_id_fkey;
alter table public.sync_orders drop constraint sync_orders_account_id_fkey;
alter table public.sync_tags drop constraint sync_tags_account_id_fkey;
alter table public.sync_subscriptions drop constraint sync_subscriptions_account_id_fkey;
