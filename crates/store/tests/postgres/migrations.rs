//! The migrations themselves: there and back, and who may do what afterwards.

#![allow(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

use crate::support::{OWNER, TestDatabase, account, apply, migrations, with_account};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// Everything in the schema that migrations make, one text per thing.
async fn catalog(client: &Client) -> Vec<String> {
    const PARTS: [&str; 11] = [
        "select format('relation %s %s rls=%s acl=%s comment=%s options=%s', c.oid::regclass, c.relkind, c.relrowsecurity,
             (select array_agg(a::text order by a::text) from unnest(c.relacl) a), obj_description(c.oid, 'pg_class'), c.reloptions)
         from pg_class c where c.relnamespace = 'public'::regnamespace",
        "select format('column %s %s %s %s %s null=%s default=%s identity=%s comment=%s', a.attrelid::regclass, a.attnum, a.attname,
             format_type(a.atttypid, a.atttypmod), a.attgenerated, not a.attnotnull, pg_get_expr(d.adbin, d.adrelid),
             a.attidentity, col_description(a.attrelid, a.attnum))
         from pg_attribute a join pg_class c on c.oid = a.attrelid left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
         where c.relnamespace = 'public'::regnamespace and a.attnum > 0 and not a.attisdropped",
        "select 'index ' || indexdef from pg_indexes where schemaname = 'public'",
        "select format('constraint %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
         from pg_constraint where connamespace = 'public'::regnamespace",
        "select format('trigger %s', pg_get_triggerdef(t.oid)) from pg_trigger t join pg_class c on c.oid = t.tgrelid
         where c.relnamespace = 'public'::regnamespace and not t.tgisinternal",
        "select format('function acl=%s comment=%s %s', (select array_agg(a::text order by a::text) from unnest(p.proacl) a),
             obj_description(p.oid, 'pg_proc'), pg_get_functiondef(p.oid))
         from pg_proc p where p.pronamespace = 'public'::regnamespace",
        "select format('policy %s %s %s %s %s %s %s', tablename, policyname, permissive, roles, cmd, qual, with_check)
         from pg_policies where schemaname = 'public'",
        "select format('schema acl=%s', nspacl) from pg_namespace where nspname = 'public'",
        "select format('view %s %s', oid::regclass, pg_get_viewdef(oid)) from pg_class
         where relkind = 'v' and relnamespace = 'public'::regnamespace",
        "select format('partition %s %s', oid::regclass, pg_get_expr(relpartbound, oid)) from pg_class
         where relispartition and relnamespace = 'public'::regnamespace",
        "select format('setting %s %s', setrole::regrole, setconfig) from pg_db_role_setting
         where setdatabase = (select oid from pg_database where datname = current_database())",
    ];
    let mut things = Vec::new();
    for part in PARTS {
        let rows = client.query(part, &[]).await.expect("the catalog is read");
        things.extend(rows.iter().map(|row| row.get::<_, String>(0)));
    }
    things.sort();
    things
}

/// The first column of a query's rows.
async fn names(client: &Client, query: &str) -> Vec<String> {
    client.query(query, &[]).await.expect("the catalog is read").iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn every_migration_has_a_way_back_and_up_again_gives_the_same() {
    let database = TestDatabase::bare().await;
    let owner = database.person().await;
    let up = migrations(".up.sql");
    let mut down = migrations(".down.sql");
    assert!(!up.is_empty());
    assert_eq!(
        up.iter().map(|(name, _)| name.replace(".up.", ".down.")).collect::<Vec<_>>(),
        down.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()
    );
    down.reverse();

    // Each step of the way back restores exactly what was there before its step up.
    let mut states = vec![catalog(&owner).await];
    for file in &up {
        apply(&owner, std::slice::from_ref(file)).await.unwrap();
        states.push(catalog(&owner).await);
    }
    let full = states.pop().unwrap();
    assert!(full.iter().any(|thing| thing.starts_with("trigger ") && thing.contains("keapsync_capture")));
    for file in &down {
        apply(&owner, std::slice::from_ref(file)).await.unwrap();
        let before = states.pop().unwrap();
        if file.0.starts_with("0001") {
            // The first grant writes the schema's default privileges out; what they grant stays the same.
            let without_acl = |state: &[String]| {
                state.iter().filter(|t| !t.starts_with("schema")).cloned().collect::<Vec<_>>()
            };
            assert_eq!(without_acl(&catalog(&owner).await), without_acl(&before), "{}", file.0);
        } else {
            assert_eq!(catalog(&owner).await, before, "{}", file.0);
        }
    }
    apply(&owner, &up).await.unwrap();
    assert_eq!(catalog(&owner).await, full);
}

#[tokio::test]
async fn the_engines_statements_are_not_compiled_before_they_run() {
    // The setting belongs to the database by its name, so that a copy has not got it.
    let database = TestDatabase::bare().await;
    apply(&database.person().await, &migrations(".up.sql")).await.unwrap();
    assert_eq!(names(&database.engine().await, "show jit").await, ["off"]);
    assert_eq!(names(&database.person().await, "show jit").await, ["on"], "others keep Postgres' own");
}

#[tokio::test]
async fn the_owner_of_the_migrations_is_no_superuser() {
    let database = TestDatabase::migrated().await;
    let owner = database.person().await;
    let row = owner
        .query_one(
            "select rolsuper or rolbypassrls or rolreplication from pg_roles where rolname = $1",
            &[&OWNER],
        )
        .await
        .unwrap();
    assert!(!row.get::<_, bool>(0));
    let row = owner
        .query_one("select rolsuper or rolbypassrls or rolcreaterole or rolcreatedb from pg_roles where rolname = 'keapsync_engine'", &[])
        .await
        .unwrap();
    assert!(!row.get::<_, bool>(0));
}

#[tokio::test]
async fn every_table_has_row_level_security_and_policies() {
    let database = TestDatabase::migrated().await;
    let owner = database.person().await;
    let tables = "from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')";
    let all = names(&owner, &format!("select c.relname::text {tables} and not c.relispartition")).await;
    assert!(all.len() >= 7, "{all:?}");
    let open = names(&owner, &format!("select c.relname::text {tables} and not c.relrowsecurity")).await;
    assert_eq!(open, Vec::<String>::new());
    for role in ["keapsync_engine", "keapsync_reader"] {
        let without = names(
            &owner,
            &format!(
                "select c.relname::text {tables} and not c.relispartition and not exists (
                     select from pg_policies p where p.tablename = c.relname and p.roles = array['{role}'::name] and p.qual = 'true')"
            ),
        )
        .await;
        assert_eq!(without, Vec::<String>::new(), "{role}");
    }
    // A partition is reached through its table, whose policies count then: one of its own would open a second way in.
    let opened = names(
        &owner,
        &format!(
            "select c.relname::text {tables} and c.relispartition and exists (select from pg_policy p where p.polrelid = c.oid)"
        ),
    )
    .await;
    assert_eq!(opened, Vec::<String>::new());
}

/// Without such an index, whatever removes the row that is referred to reads the whole table that refers. One of some rows counts as well,
/// as it does for Supabase's advisors: no account is removed while a conflict of it is kept.
#[tokio::test]
async fn every_foreign_key_has_an_index() {
    let database = TestDatabase::migrated().await;
    let owner = database.person().await;
    let of_ours = "from pg_constraint c where c.contype = 'f' and c.connamespace = 'public'::regnamespace";
    assert!(names(&owner, &format!("select c.conname::text {of_ours}")).await.len() >= 8);
    let without = names(
        &owner,
        &format!(
            "select c.conname::text {of_ours} and not exists (
                 select from pg_index i where i.indrelid = c.conrelid and i.indisvalid
                     and (i.indkey::int2[])[0:cardinality(c.conkey) - 1] <@ c.conkey
                     and (i.indkey::int2[])[0:cardinality(c.conkey) - 1] @> c.conkey)"
        ),
    )
    .await;
    assert_eq!(without, Vec::<String>::new());
}

/// Supabase's advisors warn of every function that signed-in users may call and that runs with its owner's rights. Whoever reads the
/// warning finds out what the function is for; one that is not listed there is a hole.
#[tokio::test]
async fn the_functions_that_supabase_warns_of_are_the_ones_that_the_document_on_security_explains() {
    let database = TestDatabase::migrated().await;
    let called = names(
        &database.person().await,
        "select p.proname::text from pg_proc p where p.pronamespace = 'public'::regnamespace and p.prosecdef
             and has_function_privilege('authenticated', p.oid, 'execute') order by 1",
    )
    .await;
    assert_eq!(called, ["find_contacts", "keapsync_member_accounts", "resolve_sync_conflicts"]);
    let section = include_str!("../../../../docs/security.md")
        .split_once("\n## What Supabase's advisors say\n")
        .and_then(|(_, rest)| rest.split("\n## ").next())
        .expect("the document has the section");
    for name in called {
        assert!(section.contains(&format!("| `{name}` |")), "{name}");
    }
}

#[tokio::test]
async fn the_public_is_granted_nothing_in_spite_of_default_privileges() {
    let database = TestDatabase::migrated().await;
    let owner = database.person().await;
    // The template was made with Supabase's default privileges, so that this fails when a migration forgets to revoke.
    let defaults = names(&owner, "select 'x' from pg_default_acl").await;
    assert!(!defaults.is_empty());
    // What signed-in users are granted is listed where their access is tested.
    for role in ["public", "anon"] {
        let granted = names(
            &owner,
            &format!(
                "select c.relname::text from pg_class c, aclexplode(c.relacl) a
                 where c.relnamespace = 'public'::regnamespace
                     and a.grantee = (case when '{role}' = 'public' then 0 else to_regrole('{role}')::oid end)
                 union all
                 select p.proname::text from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
                 where p.pronamespace = 'public'::regnamespace
                     and a.grantee = (case when '{role}' = 'public' then 0 else to_regrole('{role}')::oid end)"
            ),
        )
        .await;
        assert_eq!(granted, Vec::<String>::new(), "{role}");
    }
    let truncating = names(
        &owner,
        "select c.relname::text from pg_class c, aclexplode(c.relacl) a
         where c.relnamespace = 'public'::regnamespace and a.grantee = 'service_role'::regrole
             and a.privilege_type in ('TRUNCATE', 'TRIGGER', 'REFERENCES')",
    )
    .await;
    assert_eq!(truncating, Vec::<String>::new());
}

#[tokio::test]
async fn everything_is_commented_and_functions_pin_their_search_path() {
    let database = TestDatabase::migrated().await;
    let owner = database.person().await;
    let columns = names(
        &owner,
        "select format('%s.%s', c.relname, a.attname) from pg_class c join pg_attribute a on a.attrelid = c.oid
         where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
             and a.attnum > 0 and not a.attisdropped and col_description(c.oid, a.attnum) is null",
    )
    .await;
    assert_eq!(columns, Vec::<String>::new());
    let tables = names(
        &owner,
        "select relname::text from pg_class c where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v')
             and obj_description(oid, 'pg_class') is null",
    )
    .await;
    assert_eq!(tables, Vec::<String>::new());
    let functions = names(
        &owner,
        "select proname::text from pg_proc where pronamespace = 'public'::regnamespace
             and (obj_description(oid, 'pg_proc') is null or not coalesce('search_path=\"\"' = any(proconfig), false))",
    )
    .await;
    assert_eq!(functions, Vec::<String>::new());
}

#[tokio::test]
async fn truncate_is_refused_to_everybody() {
    let database = TestDatabase::migrated().await;
    with_account(&database.engine().await).await;
    let owner = database.person().await;
    for table in [
        "sync_contacts cascade",
        "sync_orders",
        "sync_tags",
        "sync_subscriptions",
        "sync_status",
        "sync_queue",
        "sync_audit_log",
        "sync_record_counts",
        "sync_accounts",
        "sync_accounts cascade",
    ] {
        let error = owner.batch_execute(&format!("truncate {table}")).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::FEATURE_NOT_SUPPORTED), "{table}: {error:?}");
    }
    let accounts = names(&owner, "select account_id from sync_accounts").await;
    assert_eq!(accounts, [account().as_str()]);
}

#[tokio::test]
async fn partitions_are_made_ahead_and_take_over_what_the_default_one_caught() {
    let database = TestDatabase::migrated().await;
    let owner = database.person().await;
    let engine = database.engine().await;
    let insert = |months: i32| {
        format!(
            "insert into sync_audit_log (account_id, entity_type, entity_id, operation, sync_source, sync_destination, created_at)
             values ('demo', 'contact', gen_random_uuid(), 'update', 'hook', 'supabase', now() + interval '{months} months')"
        )
    };
    engine.batch_execute(&insert(0)).await.unwrap();
    engine.batch_execute(&insert(5)).await.unwrap();
    let default = "select count(*)::text from sync_audit_log_default";
    assert_eq!(names(&owner, default).await, ["1"]);

    let made: i32 = engine.query_one("select create_monthly_partitions(6)", &[]).await.unwrap().get(0);
    assert_eq!(made, 3);
    let again: i32 = engine.query_one("select create_monthly_partitions(6)", &[]).await.unwrap().get(0);
    assert_eq!(again, 0);
    assert_eq!(names(&owner, default).await, ["0"]);
    assert_eq!(names(&owner, "select count(*)::text from sync_audit_log").await, ["2"]);
    engine.batch_execute(&insert(5)).await.unwrap();
    assert_eq!(names(&owner, default).await, ["0"]);

    // Nobody but the owner reaches a partition past the table's policies.
    let unprotected = names(
        &owner,
        "select relname::text from pg_class where relispartition and relkind = 'r' and (not relrowsecurity or exists (
             select from aclexplode(relacl) a where a.grantee <> relowner))",
    )
    .await;
    assert_eq!(unprotected, Vec::<String>::new());
}

#[tokio::test]
async fn the_reader_reads_and_writes_nothing() {
    let database = TestDatabase::migrated().await;
    with_account(&database.engine().await).await;
    let superuser = database.superuser().await;
    superuser.batch_execute("set role keapsync_reader").await.unwrap();
    assert_eq!(names(&superuser, "select account_id from sync_accounts").await, [account().as_str()]);
    for table in
        ["sync_contacts", "sync_status", "sync_queue", "sync_conflicts", "sync_audit_log", "sync_runs"]
    {
        assert_eq!(names(&superuser, &format!("select count(*)::text from {table}")).await, ["0"], "{table}");
    }
    let error = superuser.batch_execute("update sync_accounts set name = 'x'").await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
}
