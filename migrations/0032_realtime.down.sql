do $$
declare
    table_name text;
begin
    foreach table_name in array array['sync_contacts', 'sync_status', 'sync_conflicts', 'sync_runs'] loop
        execute format('alter table public.%I replica identity default', table_name);
        if exists (
            select from pg_catalog.pg_publication_rel member
            join pg_catalog.pg_publication publication on publication.oid = member.prpubid
            where publication.pubname = 'supabase_realtime' and member.prrelid = format('public.%I', table_name)::regclass
                and pg_has_role(publication.pubowner, 'usage')
        ) then
            execute format('alter publication supabase_realtime drop table public.%I', table_name);
        end if;
    end loop;
    -- Nobody else's tables are in it: it becomes what a new project has.
    if exists (
        select from pg_catalog.pg_publication publication
        where pubname = 'supabase_realtime' and pubinsert and pubupdate and not pubdelete and not pubtruncate
            and pg_has_role(pubowner, 'usage')
            and not exists (select from pg_catalog.pg_publication_tables published where published.pubname = publication.pubname)
    ) then
        alter publication supabase_realtime set (publish = 'insert, update, delete, truncate');
    end if;
end
$$;
