//! Migrations up, all the way down, and up again: nothing may be left behind, and the second time must equal the first.
//!
//! It goes through the same code as `cargo xtask migrate`, on a database of its own that belongs to a role without
//! superuser rights, as on Supabase. Once with all that a Supabase project has, and once with nothing of it; with `pg_cron`
//! where the server has it, both with the right to use it and without.

use anyhow::{Context, Result, ensure};
use tokio_postgres::Client;

use crate::database;
use crate::migrate;
use crate::progress::detail;
use crate::workspace::Workspace;

/// The database, the role that owns it, and that role's password on a server that lives as long as the test.
pub(super) const DATABASE: &str = "keapsync_round_trip";
const OWNER: &str = "keapsync_round_trip_owner";
const PASSWORD: &str = "round-trip";

/// Everything that a migration can make in the database, one line each. The record of migrations itself is left out.
const CATALOG_QUERY: &str = r"
select line from (
    select format('relation %s.%s %s rls=%s replica=%s acl=%s %s', n.nspname, c.relname, c.relkind, c.relrowsecurity,
                  c.relreplident, c.relacl, obj_description(c.oid, 'pg_class')) || coalesce(c.reloptions::text, '') as line
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast', 'keapsync_migrations')
    union all
    select format('column %s.%s %s %s notnull=%s default=%s identity=%s generated=%s %s', a.attrelid::regclass, a.attname,
                  a.attnum, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid),
                  a.attidentity, a.attgenerated, col_description(a.attrelid, a.attnum))
      from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
      left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
     where n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast', 'keapsync_migrations')
       and a.attnum > 0 and not a.attisdropped
    union all
    select format('index %s', indexdef) from pg_indexes
     where schemaname not in ('pg_catalog', 'pg_toast', 'keapsync_migrations')
    union all
    select format('constraint %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(c.oid))
      from pg_constraint c join pg_namespace n on n.oid = c.connamespace
     where n.nspname not in ('pg_catalog', 'information_schema', 'keapsync_migrations')
    union all
    select format('trigger %s', pg_get_triggerdef(oid)) from pg_trigger where not tgisinternal
    union all
    select format('policy %s.%s %s %s %s %s', tablename, policyname, cmd, roles, qual, with_check) from pg_policies
    union all
    select format('function %s acl=%s %s', p.oid::regprocedure, p.proacl, pg_get_functiondef(p.oid))
      from pg_proc p join pg_namespace n on n.oid = p.pronamespace
     where n.nspname not in ('pg_catalog', 'information_schema') and p.prokind in ('f', 'p')
    union all
    select format('view %s %s', viewname, definition) from pg_views where schemaname = 'public'
    union all
    select format('published %s.%s in %s', schemaname, tablename, pubname) from pg_publication_tables
    union all
    select format('publication %s %s %s %s %s', pubname, pubinsert, pubupdate, pubdelete, pubtruncate) from pg_publication
    union all
    select format('schema %s acl=%s', nspname, nspacl) from pg_namespace
     where nspname not like 'pg\_%' and nspname not in ('information_schema', 'keapsync_migrations')
) as catalog
order by line";

/// Stands in for `pg_net` and the Vault, which only Supabase has: what the wake-up looks for.
const NET_STAND_IN: &str = "
    create schema net;
    create function net.http_post(url text, body jsonb default '{}', params jsonb default '{}', headers jsonb default '{}',
        timeout_milliseconds integer default 5000) returns bigint language sql as 'select 1::bigint';
    create schema vault;
    create table vault.decrypted_secrets (name text, decrypted_secret text)";

/// What a database has before the migrations come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Surroundings {
    /// Nothing but what Postgres brings; roles are cluster-wide and may be there.
    Bare,
    /// Supabase's roles, users, publication and request extension.
    Supabase,
    /// The same, and `pg_cron`.
    SupabaseWithCron,
    /// `pg_cron` without the right to use it.
    ForbiddenCron,
}

/// Runs the round trips on a server where `server_url` is a superuser's.
pub(super) async fn run(workspace: &Workspace, server_url: &str) -> Result<()> {
    let server = database::connect(server_url).await?;
    let version: String = server.query_one("show server_version", &[]).await?.get(0);
    let mut surroundings = vec![Surroundings::Bare, Surroundings::Supabase];
    if has_cron(&server).await? {
        surroundings.extend([Surroundings::SupabaseWithCron, Surroundings::ForbiddenCron]);
    }
    for surroundings in surroundings {
        drop_database(&server).await?;
        server
            .batch_execute(&format!("create role {OWNER} login createrole nosuperuser password '{PASSWORD}'"))
            .await?;
        server.batch_execute(&format!("create database {DATABASE} owner {OWNER}")).await?;
        let outcome = round_trip(workspace, server_url, surroundings).await;
        drop_database(&server).await?;
        outcome.with_context(|| format!("Postgres {version}, {surroundings:?}"))?;
        detail(format!("Postgres {version}, {surroundings:?}: up, down and up again"));
    }
    Ok(())
}

/// Whether the server runs `pg_cron` for the database of this test.
async fn has_cron(server: &Client) -> Result<bool> {
    let database: Option<String> =
        server.query_one("select current_setting('cron.database_name', true)", &[]).await?.get(0);
    Ok(database.as_deref() == Some(DATABASE))
}

async fn round_trip(workspace: &Workspace, server_url: &str, surroundings: Surroundings) -> Result<()> {
    let superuser_url = database::in_database(server_url, DATABASE)?;
    let superuser = database::connect(&superuser_url).await?;
    if surroundings != Surroundings::Bare {
        superuser.batch_execute(database::SUPABASE_SHIM).await?;
        superuser.batch_execute(NET_STAND_IN).await?;
        superuser
            .batch_execute(&format!(
                "grant usage on schema auth to {OWNER};
                 grant references on auth.users to {OWNER};
                 alter publication supabase_realtime owner to {OWNER}"
            ))
            .await?;
    }
    if matches!(surroundings, Surroundings::SupabaseWithCron | Surroundings::ForbiddenCron) {
        superuser.batch_execute("create extension pg_cron").await?;
    }
    if surroundings == Surroundings::SupabaseWithCron {
        superuser.batch_execute(&format!("grant usage on schema cron to {OWNER}")).await?;
    }
    let scheduled = i64::from(surroundings == Surroundings::SupabaseWithCron);
    let owner_url = database::url_as(&superuser_url, OWNER, PASSWORD)?;

    let bare = catalog(&superuser).await?;
    let applied = migrate::up(workspace, &owner_url, None).await.context("the first way up")?;
    ensure!(!applied.is_empty(), "there are no migrations");
    let first = catalog(&superuser).await?;
    expect_jobs(&superuser, scheduled).await?;
    let again = migrate::up(workspace, &owner_url, None).await.context("up when all is there")?;
    ensure!(again.is_empty(), "migrations {again:?} were applied twice");
    let unchanged = catalog(&superuser).await?;
    expect_same(&first, &unchanged, "up when all was there changed something")?;
    let undone = migrate::down(workspace, &owner_url, Some(0)).await.context("the way down")?;
    ensure!(undone.len() == applied.len(), "{} of {} migrations were undone", undone.len(), applied.len());
    let emptied = catalog(&superuser).await?;
    expect_same(&bare, &emptied, "after the way down something differs from before the first migration")?;
    expect_jobs(&superuser, 0).await?;
    migrate::up(workspace, &owner_url, None).await.context("the second way up")?;
    let second = catalog(&superuser).await?;
    expect_same(&first, &second, "the second way up gives another schema than the first")?;
    expect_jobs(&superuser, scheduled).await?;
    // The roles that migrations make are cluster-wide; without this the next run could not drop the owner.
    migrate::down(workspace, &owner_url, Some(0)).await.context("the last way down").map(drop)
}

/// Fails unless `pg_cron`, where it is installed, has this many jobs.
async fn expect_jobs(superuser: &Client, expected: i64) -> Result<()> {
    let has_cron: bool = superuser.query_one("select to_regclass('cron.job') is not null", &[]).await?.get(0);
    let found: i64 =
        if has_cron { superuser.query_one("select count(*) from cron.job", &[]).await?.get(0) } else { 0 };
    ensure!(found == expected, "pg_cron has {found} jobs instead of {expected}");
    Ok(())
}

async fn catalog(client: &Client) -> Result<Vec<String>> {
    let rows = client.query(CATALOG_QUERY, &[]).await.context("the catalog cannot be read")?;
    Ok(rows.into_iter().map(|row| row.get(0)).collect())
}

pub(super) fn expect_same(expected: &[String], found: &[String], what: &str) -> Result<()> {
    let missing: Vec<&String> = expected.iter().filter(|line| !found.contains(line)).collect();
    let extra: Vec<&String> = found.iter().filter(|line| !expected.contains(line)).collect();
    ensure!(missing.is_empty() && extra.is_empty(), "{what}\nmissing: {missing:#?}\nextra: {extra:#?}");
    Ok(())
}

async fn drop_database(server: &Client) -> Result<()> {
    server.batch_execute(&format!("drop database if exists {DATABASE} with (force)")).await?;
    let has_owner = server.query_opt("select from pg_roles where rolname = $1", &[&OWNER]).await?.is_some();
    if has_owner {
        // What the owner granted on cluster-wide roles would keep it alive.
        server.batch_execute(&format!("drop owned by {OWNER} cascade; drop role {OWNER}")).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_its_lines() {
        let lines = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(expect_same(&lines(&["a", "b"]), &lines(&["a", "b"]), "differs").is_ok());
        let error = expect_same(&lines(&["a", "b"]), &lines(&["a", "c"]), "differs").unwrap_err().to_string();
        assert!(error.contains("\"b\"") && error.contains("\"c\""), "{error}");
    }
}
