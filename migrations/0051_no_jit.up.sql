-- The engine's statements are not compiled (jit) before they run. Postgres compiles what it takes for expensive, and it takes a
-- page of arrays for that, because it cannot see how long they are: compiling such a statement takes several times as long as
-- running it, and it is done anew with each page.
--
-- For this database alone: the role may serve others of the same server.
do $$
begin
    execute format('alter role keapsync_engine in database %I set jit = off', current_database());
exception
    when insufficient_privilege then
        raise warning 'the engine''s statements are still compiled, which makes syncs slow: this role may not change keapsync_engine'
            using hint = format('Run "alter role keapsync_engine in database %I set jit = off" as a role that may.', current_database());
end
$$;
