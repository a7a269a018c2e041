-- What a Supabase project has before keapsync comes, for a bare Postgres. Development and test tools apply it; it is no migration.
-- Safe to repeat. The caller makes the owner of the schema and gives it the publication.

do $$
declare
    role_name text;
begin
    foreach role_name in array array['anon', 'authenticated', 'service_role'] loop
        if not exists (select from pg_catalog.pg_roles where rolname = role_name) then
            execute format('create role %I nologin', role_name);
        end if;
    end loop;
    if exists (select from pg_catalog.pg_roles where rolname = current_user and rolsuper) then
        alter role service_role bypassrls;
    end if;
end
$$;

grant usage on schema public to anon, authenticated, service_role;

create schema if not exists auth;
grant usage on schema auth to anon, authenticated, service_role;

create table if not exists auth.users (
    id uuid primary key default gen_random_uuid(),
    email text,
    raw_app_meta_data jsonb not null default '{}',
    raw_user_meta_data jsonb not null default '{}',
    created_at timestamptz not null default now()
);

create or replace function auth.jwt() returns jsonb
    language sql stable
    set search_path = ''
as $$
    select coalesce(nullif(current_setting('request.jwt.claims', true), ''), '{}')::jsonb
$$;

create or replace function auth.uid() returns uuid
    language sql stable
    set search_path = ''
as $$
    select (auth.jwt() ->> 'sub')::uuid
$$;

grant execute on function auth.jwt(), auth.uid() to anon, authenticated, service_role;

do $$
begin
    if not exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime') then
        create publication supabase_realtime;
    end if;
end
$$;
