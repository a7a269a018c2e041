do $$
declare
    name text;
begin
    foreach name in array array['keapsync_engine', 'keapsync_reader'] loop
        if exists (select from pg_catalog.pg_roles where rolname = name) then
            execute format('revoke usage on schema public from %I', name);
            begin
                execute format('drop role %I', name);
            exception
                when dependent_objects_still_exist or object_in_use or insufficient_privilege then
                    raise notice 'role % is kept: another database uses it, or somebody else made it', name;
            end;
        end if;
    end loop;
end
$$;
