-- Changes as they happen, for dashboards: Supabase's Realtime sends what its publication carries, to those whom the tables' policies
-- let read it. REPLICA IDENTITY FULL is what lets it check the policies of deleted and changed rows.
do $$
declare
    table_name text;
begin
    if not exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime') then
        return;
    end if;
    foreach table_name in array array['sync_contacts', 'sync_status', 'sync_conflicts', 'sync_runs'] loop
        execute format('alter table public.%I replica identity full', table_name);
        -- Somebody may have made it FOR ALL TABLES, or added the table by hand.
        continue when exists (
            select from pg_catalog.pg_publication_tables
            where pubname = 'supabase_realtime' and schemaname = 'public' and tablename = table_name);
        begin
            execute format('alter publication supabase_realtime add table public.%I', table_name);
        exception
            when insufficient_privilege then
                raise warning 'sync: % is not in the publication supabase_realtime: this role does not own it', table_name
                    using hint = format('As its owner, run "alter publication supabase_realtime add table public.%I".', table_name);
        end;
    end loop;
end
$$;
