-- The two roles of keapsync. Roles are cluster-wide: another database of the same server may have made them already.
--
-- keapsync_engine: what the workers log in as. It has no password until the deployment sets one, and no right to bypass
-- row level security. Writes of its sessions are the sync itself and are not captured.
-- keapsync_reader: reads everything, writes nothing; granted to people and tools that analyse.

do $$
declare
    wanted record;
begin
    for wanted in
        select * from (values ('keapsync_engine', 'login'), ('keapsync_reader', 'nologin')) as roles (name, attribute)
    loop
        if not exists (select from pg_catalog.pg_roles where rolname = wanted.name) then
            begin
                execute format('create role %I %s', wanted.name, wanted.attribute);
            exception
                -- Another database's migration made it between the look and the statement.
                when duplicate_object or unique_violation then null;
            end;
        end if;
        if exists (select from pg_catalog.pg_roles where rolname = wanted.name and (rolsuper or rolbypassrls)) then
            raise exception 'role % may bypass row level security', wanted.name
                using hint = format('Run "alter role %I nosuperuser nobypassrls" as a superuser, then migrate again.', wanted.name);
        end if;
    end loop;
end
$$;

grant usage on schema public to keapsync_engine, keapsync_reader;
