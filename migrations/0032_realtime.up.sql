-- Changes as they happen, for dashboards: Supabase's Realtime sends what its publication carries, to those whom the tables' policies
-- let read it. REPLICA IDENTITY FULL adds the old values to a change.
--
-- Of a delete Realtime asks no policy: it sends the keys of the row to whoever listens to the table, members of other accounts
-- included. Deletes are therefore not published. A dashboard needs none: what a person or Keap deletes is an update that sets
-- deleted_at, and only upkeep removes rows, long after. A publication has one setting for all of its tables, so it is left as it is
-- where somebody else's are in it.
do $$
declare
    table_name text;
    publication pg_catalog.pg_publication;
begin
    select * into publication from pg_catalog.pg_publication where pubname = 'supabase_realtime';
    if not found then
        return;
    end if;
    if publication.puballtables or exists (
        select from pg_catalog.pg_publication_tables where pubname = 'supabase_realtime'
            and (schemaname, tablename) not in (('public', 'sync_contacts'), ('public', 'sync_status'), ('public', 'sync_conflicts'),
                ('public', 'sync_runs'))
    ) or not pg_has_role(publication.pubowner, 'usage') then
        if publication.pubdelete then
            raise warning 'sync: supabase_realtime sends the keys of deleted rows to members of every account'
                using hint = 'Where no listener needs deletes, run as its owner: alter publication supabase_realtime set (publish = ''insert, update'').';
        end if;
    else
        alter publication supabase_realtime set (publish = 'insert, update');
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
