-- A walk over all linked rows of an account, page by page in the order of their Keap ids.
--
-- The unique index over Keap's id and the account has the rows in this order. Where there are no statistics yet, right after a first
-- load, an account looks small, and sorting all its rows for each page looks cheap: inside of this function nothing is sorted.

create function public.keapsync_linked(account text, entity text, after text, rows_max bigint)
    returns table (keap_id text, id uuid)
    language plpgsql
    stable
    set search_path = ''
    set enable_sort = off
    set enable_incremental_sort = off
as $$
begin
    return query execute format(
        'select mirrored.keap_id, mirrored.id from %s mirrored
         where mirrored.keap_id > $2 and mirrored.account_id = $1 and mirrored.deleted_at is null
         order by mirrored.keap_id
         limit $3', public.keapsync_table(entity))
        using account, coalesce(after, ''), rows_max;
end
$$;
comment on function public.keapsync_linked(text, text, text, bigint) is
    'Live rows with a Keap id behind the given one (null: from the first), in the order of their Keap ids as texts, at most rows_max.';
select public.keapsync_protect_function('public.keapsync_linked(text, text, text, bigint)');
grant execute on function public.keapsync_linked(text, text, text, bigint) to keapsync_engine;
