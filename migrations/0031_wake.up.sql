-- A hint to the workers that an edit waits, so that it leaves at once instead of at their next look. Sent by pg_net, Supabase's
-- extension that makes requests after the commit; where that, the workers' address or their token is missing, nothing happens. The
-- edit itself never depends on it: the outbox holds it, and the workers look by themselves.
--
-- Address and token are secrets of Supabase's Vault: keapsync_coordinator_url and keapsync_internal_token.

create function public.keapsync_wake() returns trigger
    language plpgsql
    security definer
    set search_path = ''
as $$
declare
    -- Accounts woken in this transaction, each between commas: a bulk edit queues row by row, and one request is enough. A hint
    -- that somebody suppresses by setting this is no loss.
    woken text := coalesce(nullif(current_setting('keapsync.woken', true), ''), ',');
    account text;
    base_url text;
    token text;
begin
    if woken = '*' then
        return null;
    end if;
    for account in
        select distinct queued.account_id from queued
        where queued.operation <> 'sync' and position(',' || queued.account_id || ',' in woken) = 0
    loop
        woken := woken || account || ',';
        perform set_config('keapsync.woken', woken, true);
        begin
            execute 'select max(decrypted_secret) filter (where name = ''keapsync_coordinator_url''),
                    max(decrypted_secret) filter (where name = ''keapsync_internal_token'')
                from vault.decrypted_secrets where name in (''keapsync_coordinator_url'', ''keapsync_internal_token'')'
                into base_url, token;
            if base_url is null or token is null then
                perform set_config('keapsync.woken', '*', true);
                return null;
            end if;
            execute 'select net.http_post(url := $1, body := $2, headers := $3, timeout_milliseconds := 5000)'
                using rtrim(base_url, '/') || '/coordinator/' || account || '/wake', '{}'::jsonb,
                    jsonb_build_object('content-type', 'application/json', 'x-internal-token', token);
        exception
            -- A hint that cannot be sent is no reason to refuse the edit. The state alone is logged: a message may hold the token.
            when others then
                raise log 'keapsync: the workers could not be woken, state %', sqlstate;
        end;
    end loop;
    return null;
end
$$;
comment on function public.keapsync_wake() is
    'After people''s edits are queued: asks the workers, through pg_net where it is installed, to send them now.';
select public.keapsync_protect_function('public.keapsync_wake()');

-- Whether pg_net is there is looked up with every edit and not when this is migrated, because extensions come and go; its schema is
-- found in a cache, so that the look costs an edit nothing that could be measured.
create trigger wake after insert on public.sync_queue
    referencing new table as queued
    for each statement when (session_user <> 'keapsync_engine' and to_regnamespace('net') is not null)
    execute function public.keapsync_wake();
