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
end
$$;
