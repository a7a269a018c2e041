//! Who may do what, role by role and table by table, as Supabase's API runs a request: a role is set, and the token's claims with it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first thing that is not as it should be"
)]

use crate::support::{OWNER, TestDatabase, apply, migrations};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

const VIEWER: &str = "00000000-0000-4000-8000-000000000001";
const OPERATOR: &str = "00000000-0000-4000-8000-000000000002";
const ADMIN: &str = "00000000-0000-4000-8000-000000000003";
const STRANGER: &str = "00000000-0000-4000-8000-000000000004";
const NEIGHBOUR: &str = "00000000-0000-4000-8000-000000000005";

/// Tables whose rows people edit.
const MIRRORED: [&str; 4] = ["sync_contacts", "sync_orders", "sync_tags", "sync_subscriptions"];

/// Tables and views that members read, each with rows of both accounts.
const READABLE: [&str; 19] = [
    "sync_contacts",
    "sync_orders",
    "sync_tags",
    "sync_subscriptions",
    "sync_accounts",
    "sync_account_members",
    "sync_status",
    "sync_conflicts",
    "sync_queue",
    "sync_audit_log",
    "sync_runs",
    "sync_run_changes",
    "sync_activity",
    "sync_certificates",
    "sync_record_counts",
    "sync_health",
    "keap_orders",
    "keap_current_subscriptions",
    "keap_open_conflicts",
];

/// Two accounts with a row of everything in each, and members.
async fn furnished(database: &TestDatabase) -> Client {
    let engine = database.engine().await;
    for account in ["demo", "other"] {
        engine
            .batch_execute(&format!(
                "insert into sync_accounts (account_id, name, status) values ('{account}', '{account}', 'active');
                 insert into sync_contacts (account_id, keap_id, email, last_name, source_system, sync_status, last_synced_at)
                     values ('{account}', '1', 'ann@example.com', 'Able', 'keap', 'completed', now());
                 insert into sync_orders (account_id, keap_id, keap_contact_id, title, sync_status) values ('{account}', '1', '1', 'O', 'completed');
                 insert into sync_tags (account_id, keap_id, name, sync_status) values ('{account}', '1', 'T', 'completed');
                 insert into sync_subscriptions (account_id, keap_id, keap_contact_id, status, sync_status)
                     values ('{account}', '1', '1', 'active', 'completed');
                 insert into sync_status (account_id, entity_type, entity_id, keap_id)
                     select account_id, 'contact', id, keap_id from sync_contacts where account_id = '{account}';
                 insert into sync_conflicts (account_id, entity_type, entity_id, conflict_fields)
                     select account_id, 'contact', id, array['email'] from sync_contacts where account_id = '{account}';
                 insert into sync_queue (account_id, operation, entity_type, entity_id)
                     select account_id, 'update', 'contact', id from sync_contacts where account_id = '{account}';
                 insert into sync_audit_log (account_id, entity_type, entity_id, operation, sync_source, sync_destination)
                     select account_id, 'contact', id, 'create', 'hook', 'supabase' from sync_contacts where account_id = '{account}';
                 insert into sync_runs (id, account_id, kind, entity_type, direction, state)
                     values (gen_random_uuid(), '{account}', 'full', 'contact', 'keap_to_supabase', 'completed');
                 insert into sync_run_changes (account_id, run_id, side, action, entity_type, keap_id)
                     values ('{account}', gen_random_uuid(), 'supabase', 'create', 'contact', '2');
                 insert into sync_activity (account_id, entity_type, direction, source, records)
                     values ('{account}', 'contact', 'keap_to_supabase', 'hook', 1);
                 insert into sync_certificates (account_id, entity_type, equal, keap_count, supabase_count, keap_tree_hash,
                     supabase_tree_hash, started_at)
                     values ('{account}', 'contact', true, 1, 1, repeat('a', 32), repeat('a', 32), now())"
            ))
            .await
            .expect("the account is furnished");
    }
    let owner = database.person().await;
    owner
        .batch_execute(&format!(
            "insert into sync_account_members values ('demo', '{VIEWER}', 'viewer'), ('demo', '{OPERATOR}', 'operator'),
                 ('demo', '{ADMIN}', 'admin'), ('other', '{NEIGHBOUR}', 'admin')"
        ))
        .await
        .expect("the members are made");
    let superuser = database.superuser().await;
    // On Supabase it bypasses row level security; on a test server the superuser sets the attribute.
    // Roles are the whole server's, and other tests set it at the same moment: only one of them can.
    loop {
        match superuser.batch_execute("alter role service_role bypassrls").await {
            Ok(()) => return superuser,
            Err(error) if error.code() == Some(&SqlState::INTERNAL_ERROR) => {}
            Err(error) => panic!("the attribute is not set: {error}"),
        }
    }
}

/// What a request with these claims does, in a transaction that is rolled back: rows affected, or why it failed.
async fn attempt(superuser: &Client, role: &str, claims: &str, statement: &str) -> Result<u64, SqlState> {
    superuser
        .batch_execute(&format!("begin; set local request.jwt.claims = '{claims}'; set local role {role}"))
        .await
        .expect("the role is there");
    let outcome = superuser.execute(statement, &[]).await;
    superuser.batch_execute("rollback").await.expect("the transaction ends");
    outcome.map_err(|error| error.code().expect("the server refused it").clone())
}

/// The same by a signed-in user.
async fn as_user(superuser: &Client, user: &str, statement: &str) -> Result<u64, SqlState> {
    attempt(superuser, "authenticated", &format!(r#"{{"sub":"{user}","role":"authenticated"}}"#), statement)
        .await
}

/// The accounts whose rows a request sees in a table.
async fn accounts_seen(superuser: &Client, role: &str, claims: &str, table: &str) -> Vec<String> {
    superuser
        .batch_execute(&format!("begin; set local request.jwt.claims = '{claims}'; set local role {role}"))
        .await
        .expect("the role is there");
    let rows = superuser
        .query(&format!("select distinct account_id from {table} order by 1"), &[])
        .await
        .unwrap_or_else(|error| panic!("{role} reads {table}: {error:?}"));
    superuser.batch_execute("rollback").await.expect("the transaction ends");
    rows.iter().map(|row| row.get(0)).collect()
}

fn claims_of(user: &str) -> String {
    format!(r#"{{"sub":"{user}"}}"#)
}

const DENIED: Result<u64, SqlState> = Err(SqlState::INSUFFICIENT_PRIVILEGE);

#[tokio::test]
async fn nobody_is_granted_more_than_is_listed() {
    let database = TestDatabase::migrated().await;
    let owner = database.person().await;
    let rows = owner
        .query(
            "select format('%s %s', c.relname, string_agg(lower(a.privilege_type), ',' order by a.privilege_type))
             from pg_class c, aclexplode(c.relacl) a
             where c.relnamespace = 'public'::regnamespace and a.grantee = 'authenticated'::regrole
             group by c.relname order by c.relname",
            &[],
        )
        .await
        .unwrap();
    let granted: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let mut expected: Vec<String> = READABLE
        .iter()
        .map(|table| {
            let edits = MIRRORED.contains(table) || *table == "sync_account_members";
            format!("{table} {}", if edits { "delete,insert,select,update" } else { "select" })
        })
        .collect();
    expected.sort();
    assert_eq!(granted, expected);
}

#[tokio::test]
async fn anon_reads_and_calls_nothing() {
    let database = TestDatabase::migrated().await;
    let superuser = furnished(&database).await;
    for table in READABLE {
        let mut statements = vec![format!("select from {table}")];
        // Of the views there is nothing to write.
        if table.starts_with("sync_") && table != "sync_health" {
            statements.push(format!("insert into {table} default values"));
            statements.push(format!("update {table} set account_id = account_id"));
            statements.push(format!("delete from {table}"));
        }
        for statement in statements {
            // Somebody's valid claims are of no use to it either.
            assert_eq!(
                attempt(&superuser, "anon", &claims_of(ADMIN), &statement).await,
                DENIED,
                "{statement}"
            );
        }
    }
    let callable: Vec<String> = superuser
        .query(
            "select proname::text from pg_proc where pronamespace = 'public'::regnamespace and has_function_privilege('anon', oid, 'execute')",
            &[],
        )
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(callable, Vec::<String>::new());
}

#[tokio::test]
async fn members_read_their_accounts_and_no_other() {
    let database = TestDatabase::migrated().await;
    let superuser = furnished(&database).await;
    for table in READABLE {
        for (user, accounts) in [
            (VIEWER, vec!["demo"]),
            (OPERATOR, vec!["demo"]),
            (ADMIN, vec!["demo"]),
            (NEIGHBOUR, vec!["other"]),
            (STRANGER, vec![]),
        ] {
            assert_eq!(
                accounts_seen(&superuser, "authenticated", &claims_of(user), table).await,
                accounts,
                "{user} {table}"
            );
        }
        let every = ["demo", "other"];
        assert_eq!(
            accounts_seen(&superuser, "service_role", "{}", table).await,
            every,
            "service_role {table}"
        );
        assert_eq!(
            accounts_seen(&superuser, "keapsync_reader", "{}", table).await,
            every,
            "keapsync_reader {table}"
        );
        assert_eq!(
            accounts_seen(&superuser, "keapsync_engine", "{}", table).await,
            every,
            "keapsync_engine {table}"
        );
    }
}

#[tokio::test]
async fn operators_edit_the_mirrored_tables_and_viewers_nothing() {
    let database = TestDatabase::migrated().await;
    let superuser = furnished(&database).await;
    for table in MIRRORED {
        let insert = |account: &str| format!("insert into {table} (account_id) values ('{account}')");
        let update = format!("update {table} set custom_fields = null");
        let delete = format!("delete from {table}");
        for (user, inserted, changed) in
            [(VIEWER, DENIED, 0), (STRANGER, DENIED, 0), (OPERATOR, Ok(1), 1), (ADMIN, Ok(1), 1)]
        {
            assert_eq!(as_user(&superuser, user, &insert("demo")).await, inserted, "{user} {table}");
            assert_eq!(as_user(&superuser, user, &insert("other")).await, DENIED, "{user} {table}");
            assert_eq!(as_user(&superuser, user, &update).await, Ok(changed), "{user} {table}");
            // A delete reports no row, because it becomes an update: the trigger's.
            assert_eq!(as_user(&superuser, user, &delete).await, Ok(0), "{user} {table}");
        }
        assert_eq!(
            as_user(&superuser, OPERATOR, &format!("update {table} set account_id = 'other'")).await,
            Err(SqlState::INTEGRITY_CONSTRAINT_VIOLATION),
            "{table}"
        );
        assert_eq!(attempt(&superuser, "service_role", "{}", &update).await, Ok(2), "{table}");
        assert_eq!(attempt(&superuser, "keapsync_engine", "{}", &update).await, Ok(2), "{table}");
        for statement in [&insert("demo"), &update, &delete] {
            assert_eq!(attempt(&superuser, "keapsync_reader", "{}", statement).await, DENIED, "{statement}");
        }
    }
}

#[tokio::test]
async fn nobody_but_the_engine_writes_the_syncs_own_tables() {
    let database = TestDatabase::migrated().await;
    let superuser = furnished(&database).await;
    for table in READABLE.into_iter().filter(|table| table.starts_with("sync_") && *table != "sync_health") {
        if MIRRORED.contains(&table) || table == "sync_account_members" {
            continue;
        }
        for statement in [
            format!("insert into {table} (account_id) values ('demo')"),
            format!("update {table} set account_id = account_id"),
            format!("delete from {table}"),
        ] {
            assert_eq!(as_user(&superuser, ADMIN, &statement).await, DENIED, "{statement}");
            assert_eq!(attempt(&superuser, "service_role", "{}", &statement).await, DENIED, "{statement}");
            assert_eq!(attempt(&superuser, "keapsync_reader", "{}", &statement).await, DENIED, "{statement}");
        }
    }
    let settings = r#"update sync_accounts set settings = '{"policies": {}}'"#;
    assert_eq!(as_user(&superuser, ADMIN, settings).await, DENIED);
    assert_eq!(attempt(&superuser, "service_role", "{}", settings).await, DENIED);
    assert_eq!(attempt(&superuser, "keapsync_engine", "{}", settings).await, Ok(2));
}

#[tokio::test]
async fn nobody_reaches_a_partition_or_the_record_of_migrations() {
    let database = TestDatabase::migrated().await;
    let superuser = furnished(&database).await;
    superuser
        .batch_execute(&format!(
            "set role {OWNER}; select create_monthly_partitions(5);
             reset role; create schema keapsync_migrations authorization {OWNER};
             create table keapsync_migrations.applied (version bigint)"
        ))
        .await
        .unwrap();
    let partitions: Vec<String> = superuser
        .query("select relname::text from pg_class where relispartition and relkind = 'r'", &[])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(partitions.len() >= 7, "{partitions:?}");
    for table in partitions.into_iter().chain(["keapsync_migrations.applied".to_owned()]) {
        for role in ["anon", "authenticated", "service_role", "keapsync_reader", "keapsync_engine"] {
            let read = attempt(&superuser, role, &claims_of(ADMIN), &format!("select from {table}")).await;
            assert_eq!(read, DENIED, "{role} {table}");
        }
    }
}

#[tokio::test]
async fn a_role_in_the_token_counts_only_where_the_project_wrote_it() {
    let database = TestDatabase::migrated().await;
    let superuser = furnished(&database).await;
    let every = ["demo", "other"];
    for role in ["viewer", "operator", "admin"] {
        let claims = format!(r#"{{"sub":"{STRANGER}","app_metadata":{{"keapsync_role":"{role}"}}}}"#);
        assert_eq!(accounts_seen(&superuser, "authenticated", &claims, "sync_contacts").await, every);
        let edited =
            attempt(&superuser, "authenticated", &claims, "update sync_contacts set first_name = 'x'").await;
        assert_eq!(edited, Ok(if role == "viewer" { 0 } else { 2 }), "{role}");
        let granted = attempt(
            &superuser,
            "authenticated",
            &claims,
            &format!("insert into sync_account_members values ('demo', '{STRANGER}', 'admin')"),
        )
        .await;
        assert_eq!(granted, if role == "admin" { Ok(1) } else { DENIED }, "{role}");
    }
    for claims in [
        format!(r#"{{"sub":"{STRANGER}","user_metadata":{{"keapsync_role":"admin","role":"admin"}}}}"#),
        format!(
            r#"{{"sub":"{STRANGER}","raw_user_meta_data":{{"keapsync_role":"admin"}},"keapsync_role":"admin"}}"#
        ),
        format!(r#"{{"sub":"{STRANGER}","app_metadata":{{"keapsync_role":"owner","role":"admin"}}}}"#),
        format!(r#"{{"sub":"{STRANGER}","app_metadata":"admin"}}"#),
        r#"{"sub":"nobody"}"#.to_owned(),
        r#"{"role":"service_role"}"#.to_owned(),
        "[]".to_owned(),
        "nonsense".to_owned(),
        String::new(),
    ] {
        let seen = accounts_seen(&superuser, "authenticated", &claims, "sync_contacts").await;
        assert_eq!(seen, Vec::<String>::new(), "{claims}");
    }
}

#[tokio::test]
async fn what_a_user_writes_about_themself_gains_nothing() {
    let database = TestDatabase::bare().await;
    let superuser = database.superuser().await;
    superuser.batch_execute(include_str!("../../../xtask/sql/supabase_shim.sql")).await.unwrap();
    superuser
        .batch_execute(&format!(
            "grant usage on schema auth to {OWNER}; grant references on auth.users to {OWNER}"
        ))
        .await
        .unwrap();
    apply(&database.person().await, &migrations(".up.sql")).await.unwrap();
    superuser
        .batch_execute(&format!(
            r#"insert into auth.users (id, raw_user_meta_data) values ('{STRANGER}', '{{"role":"admin","keapsync_role":"admin"}}');
               insert into auth.users (id) values ('{ADMIN}');
               insert into sync_accounts (account_id, name, status) values ('demo', 'Demo', 'active');
               insert into sync_account_members values ('demo', '{ADMIN}', 'admin')"#
        ))
        .await
        .unwrap();
    let seen = accounts_seen(&superuser, "authenticated", &claims_of(STRANGER), "sync_accounts").await;
    assert_eq!(seen, Vec::<String>::new());
    assert_eq!(
        accounts_seen(&superuser, "authenticated", &claims_of(ADMIN), "sync_accounts").await,
        ["demo"]
    );
    // The engine has no business with Supabase's users.
    for statement in ["select from auth.users", "delete from auth.users", "select auth.uid()"] {
        assert_eq!(attempt(&superuser, "keapsync_engine", "{}", statement).await, DENIED, "{statement}");
    }
    // A membership is of a user who exists, and ends with them, the last admin's too.
    let unknown = format!("insert into sync_account_members values ('demo', '{VIEWER}', 'viewer')");
    assert_eq!(as_user(&superuser, ADMIN, &unknown).await, Err(SqlState::FOREIGN_KEY_VIOLATION));
    superuser.batch_execute(&format!("delete from auth.users where id = '{ADMIN}'")).await.unwrap();
    assert_eq!(
        accounts_seen(&superuser, "authenticated", &claims_of(ADMIN), "sync_accounts").await,
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn the_engine_makes_and_changes_no_schema() {
    let database = TestDatabase::migrated().await;
    let engine = database.engine().await;
    for statement in [
        "create table mine ()",
        "create function mine() returns void language sql as ''",
        "alter table sync_contacts disable trigger all",
        "alter table sync_contacts disable row level security",
        "drop table sync_contacts",
        "truncate sync_contacts",
        "insert into sync_account_members values ('demo', gen_random_uuid(), 'admin')",
        "set role service_role",
    ] {
        let error = engine.batch_execute(statement).await.expect_err(statement);
        assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{statement}");
    }
}

#[tokio::test]
async fn admins_manage_the_members_of_their_account() {
    let database = TestDatabase::migrated().await;
    let superuser = furnished(&database).await;
    let add = |account: &str, user: &str| {
        format!(
            "insert into sync_account_members (account_id, user_id, role) values ('{account}', '{user}', 'admin')"
        )
    };
    assert_eq!(as_user(&superuser, ADMIN, &add("demo", STRANGER)).await, Ok(1));
    assert_eq!(as_user(&superuser, ADMIN, &add("other", ADMIN)).await, DENIED);
    for user in [VIEWER, OPERATOR, STRANGER] {
        assert_eq!(as_user(&superuser, user, &add("demo", user)).await, DENIED);
        let promote = format!("update sync_account_members set role = 'admin' where user_id = '{user}'");
        assert_eq!(as_user(&superuser, user, &promote).await, Ok(0), "{user}");
        assert_eq!(as_user(&superuser, user, "delete from sync_account_members").await, Ok(0), "{user}");
    }
    let promote = format!("update sync_account_members set role = 'operator' where user_id = '{VIEWER}'");
    assert_eq!(as_user(&superuser, ADMIN, &promote).await, Ok(1));
    let remove = format!("delete from sync_account_members where user_id = '{VIEWER}'");
    assert_eq!(as_user(&superuser, ADMIN, &remove).await, Ok(1));
    for change in [
        "update sync_account_members set role = 'viewer' where role = 'admin'",
        "delete from sync_account_members where role = 'admin'",
        "delete from sync_account_members",
        "update sync_account_members set account_id = 'other' where role = 'viewer'",
    ] {
        let refused = as_user(&superuser, ADMIN, change).await;
        assert_eq!(refused, Err(SqlState::INTEGRITY_CONSTRAINT_VIOLATION), "{change}");
    }
    // With a second admin the first may go.
    database.person().await.batch_execute(&add("demo", STRANGER)).await.unwrap();
    let leave = format!("delete from sync_account_members where user_id = '{ADMIN}'");
    assert_eq!(as_user(&superuser, ADMIN, &leave).await, Ok(1));
}

#[tokio::test]
async fn two_admins_who_demote_each_other_at_once_leave_one() {
    let database = TestDatabase::migrated().await;
    let first = furnished(&database).await;
    let second = database.superuser().await;
    database
        .person()
        .await
        .batch_execute(&format!("insert into sync_account_members values ('demo', '{STRANGER}', 'admin')"))
        .await
        .unwrap();
    let begin = |user: &str| {
        format!(r#"begin; set local request.jwt.claims = '{{"sub":"{user}"}}'; set local role authenticated"#)
    };
    let demote =
        |user: &str| format!("update sync_account_members set role = 'viewer' where user_id = '{user}'");
    first.batch_execute(&begin(ADMIN)).await.unwrap();
    second.batch_execute(&begin(STRANGER)).await.unwrap();
    first.batch_execute(&demote(STRANGER)).await.unwrap();
    let watch = database.superuser().await;
    let waiting =
        "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    let statement = demote(ADMIN);
    let (late, ended) = tokio::join!(second.batch_execute(&statement), async {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while watch.query(waiting, &[]).await.expect("the activity is read").is_empty() {
            assert!(std::time::Instant::now() < deadline, "the second admin did not wait for the first");
        }
        first.batch_execute("commit").await
    });
    ended.unwrap();
    assert_eq!(late.unwrap_err().code(), Some(&SqlState::INTEGRITY_CONSTRAINT_VIOLATION));
}

#[tokio::test]
async fn people_do_not_write_the_syncs_own_columns() {
    let database = TestDatabase::migrated().await;
    let superuser = furnished(&database).await;
    for table in MIRRORED {
        let kept = "id, account_id, keap_id, source_system, sync_status, sync_error, last_synced_at, keap_updated_at, extra, created_at,
            created_by, updated_by, deleted_by";
        let before: String = superuser
            .query_one(&format!("select row({kept})::text from {table} where account_id = 'demo'"), &[])
            .await
            .unwrap()
            .get(0);
        superuser
            .batch_execute(&format!(
                r#"begin; set local request.jwt.claims = '{{"sub":"{OPERATOR}"}}'; set local role authenticated;
                   update {table} set source_system = 'manual', sync_status = 'error', sync_error = 'x', version = 99,
                       last_synced_at = now(), keap_updated_at = now(), extra = '{{"a":1}}', created_at = 'epoch',
                       created_by = '{VIEWER}', updated_by = '{VIEWER}', deleted_by = '{VIEWER}', updated_at = 'epoch';
                   insert into {table} (account_id, source_system, sync_status, version, last_synced_at, keap_updated_at, extra,
                       created_at, updated_at, deleted_at, created_by, updated_by, deleted_by)
                   values ('demo', 'keap', 'completed', 9, now(), now(), '{{"a":1}}', 'epoch', 'epoch', 'epoch', '{VIEWER}', '{VIEWER}',
                       '{VIEWER}');
                   commit"#
            ))
            .await
            .unwrap();
        let row = superuser
            .query_one(
                &format!("select row({kept})::text, version, updated_at > now() - interval '1 minute' from {table} where account_id = 'demo' and keap_id = '1'"),
                &[],
            )
            .await
            .unwrap();
        assert_eq!(row.get::<_, String>(0), before, "{table}");
        assert_eq!((row.get::<_, i32>(1), row.get::<_, bool>(2)), (2, true), "{table}");
        let made: String = superuser
            .query_one(
                &format!(
                    "select row(source_system, sync_status, version, last_synced_at, keap_updated_at, extra, created_by, updated_by, deleted_by,
                         deleted_at > now() - interval '1 minute', created_at > now() - interval '1 minute', updated_at > now() - interval '1 minute')::text
                     from {table} where keap_id is null"
                ),
                &[],
            )
            .await
            .unwrap()
            .get(0);
        assert_eq!(made, format!("(supabase,pending,1,,,{{}},{OPERATOR},,{OPERATOR},t,t,t)"), "{table}");
        let linked = format!("insert into {table} (account_id, keap_id) values ('demo', '77')");
        assert_eq!(
            as_user(&superuser, OPERATOR, &linked).await,
            Err(SqlState::INTEGRITY_CONSTRAINT_VIOLATION),
            "{table}"
        );
    }
}

#[tokio::test]
async fn a_policy_is_asked_once_and_leaves_the_index_its_work() {
    let database = TestDatabase::migrated().await;
    let superuser = furnished(&database).await;
    superuser
        .batch_execute(&format!(
            r#"set enable_seqscan = off; set request.jwt.claims = '{{"sub":"{VIEWER}"}}'; set role authenticated"#
        ))
        .await
        .unwrap();
    let plan: Vec<String> = superuser
        .query(
            "explain select * from sync_contacts where deleted_at is null order by updated_at desc limit 50",
            &[],
        )
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    let plan = plan.join("\n");
    assert!(plan.contains("InitPlan"), "{plan}");
    assert!(plan.contains("Index Cond: (account_id = ANY"), "{plan}");
}

#[tokio::test]
async fn members_find_contacts_by_address_and_name() {
    let database = TestDatabase::migrated().await;
    let superuser = furnished(&database).await;
    for (search, found) in
        [("ANN@example.com", 1), ("ab", 1), ("Able", 1), ("b", 0), ("bob@example.com", 0), ("%", 0)]
    {
        let query = format!("select from find_contacts('demo', '{search}')");
        assert_eq!(as_user(&superuser, VIEWER, &query).await, Ok(found), "{search}");
        assert_eq!(as_user(&superuser, NEIGHBOUR, &query).await, DENIED, "{search}");
    }
    let empty = "select from find_contacts('demo', ' ')";
    assert_eq!(as_user(&superuser, VIEWER, empty).await, Err(SqlState::INVALID_PARAMETER_VALUE));
}

#[tokio::test]
async fn every_view_reads_with_its_readers_rights() {
    let database = TestDatabase::migrated().await;
    let owner = database.person().await;
    let rows = owner
        .query(
            "select relname::text, coalesce('security_invoker=true' = any (reloptions), false) from pg_class
             where relnamespace = 'public'::regnamespace and relkind in ('v', 'm') order by 1",
            &[],
        )
        .await
        .unwrap();
    assert!(rows.len() >= 4);
    for row in rows {
        assert!(row.get::<_, bool>(1), "{}", row.get::<_, String>(0));
    }
}
