-- A new table or function is not private by itself: functions are executable by PUBLIC, and a Supabase project's default
-- privileges grant new objects to anon and authenticated. Each migration calls these on what it creates.

create function public.keapsync_protect_table(protected regclass) returns void
    language plpgsql
    set search_path = ''
as $$
declare
    role_name text;
    sequence_name regclass;
begin
    execute format('alter table %s enable row level security', protected);
    execute format('revoke all on table %s from public', protected);
    for role_name in select rolname from pg_catalog.pg_roles where rolname in ('anon', 'authenticated', 'service_role') loop
        execute format('revoke all on table %s from %I', protected, role_name);
    end loop;
    for sequence_name in
        select depends.objid::regclass
        from pg_catalog.pg_depend depends
        join pg_catalog.pg_class class on class.oid = depends.objid and class.relkind = 'S'
        where depends.classid = 'pg_catalog.pg_class'::regclass and depends.refobjid = protected
          and depends.deptype in ('a', 'i')
    loop
        execute format('revoke all on sequence %s from public', sequence_name);
        for role_name in select rolname from pg_catalog.pg_roles where rolname in ('anon', 'authenticated', 'service_role') loop
            execute format('revoke all on sequence %s from %I', sequence_name, role_name);
        end loop;
    end loop;
end
$$;
comment on function public.keapsync_protect_table(regclass) is
    'Turns row level security on and takes the table from PUBLIC, anon, authenticated and service_role; grants follow one by one.';

create function public.keapsync_protect_function(protected regprocedure) returns void
    language plpgsql
    set search_path = ''
as $$
declare
    role_name text;
begin
    execute format('revoke all on function %s from public', protected);
    for role_name in select rolname from pg_catalog.pg_roles where rolname in ('anon', 'authenticated', 'service_role') loop
        execute format('revoke all on function %s from %I', protected, role_name);
    end loop;
end
$$;
comment on function public.keapsync_protect_function(regprocedure) is
    'Takes the right to execute from PUBLIC, anon, authenticated and service_role.';

create function public.keapsync_grant_service_role(privileges text, granted regclass) returns void
    language plpgsql
    set search_path = ''
as $$
begin
    if exists (select from pg_catalog.pg_roles where rolname = 'service_role') then
        execute format('grant %s on table %s to service_role', privileges, granted);
    end if;
end
$$;
comment on function public.keapsync_grant_service_role(text, regclass) is
    'Grants to Supabase''s service_role where there is one.';

select public.keapsync_protect_function('public.keapsync_protect_table(regclass)');
select public.keapsync_protect_function('public.keapsync_protect_function(regprocedure)');
select public.keapsync_protect_function('public.keapsync_grant_service_role(text, regclass)');
