do $$
begin
    execute format('alter role keapsync_engine in database %I reset jit', current_database());
exception
    -- A role that may not take it back could not set it either.
    when insufficient_privilege then null;
end
$$;
