-- A person's decision about a conflict wakes the workers as an edit does: it may leave the row as it is and still owe Keap something.

create function public.keapsync_wake_decided() returns trigger
    language plpgsql
    security definer
    set search_path = ''
as $$
begin
    perform public.keapsync_wake(new.account_id);
    return null;
end
$$;
comment on function public.keapsync_wake_decided() is
    'After a person settles a conflict: asks the workers, through pg_net where it is installed, to send what that queued now.';
select public.keapsync_protect_function('public.keapsync_wake_decided()');

create trigger wake after update of resolved_at on public.sync_conflicts
    for each row when (
        old.resolved_at is null and new.resolved_at is not null
        and session_user <> 'keapsync_engine' and to_regnamespace('net') is not null)
    execute function public.keapsync_wake_decided();
