//! The upkeep: what it removes and what it must not, and what happens with and without the extensions it can use.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first thing that is not as it should be"
)]

use crate::support::{OWNER, TestDatabase, with_account};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

const TABLES: [(&str, &str); 4] = [
    ("contact", "sync_contacts"),
    ("order", "sync_orders"),
    ("tag", "sync_tags"),
    ("subscription", "sync_subscriptions"),
];

/// Runs the upkeep, and answers how many rows each task says it did.
async fn maintain(client: &Client, rows_max: i32) -> Vec<(String, String, i64)> {
    client
        .query("select task, detail, rows from sync_maintain($1)", &[&rows_max])
        .await
        .expect("the upkeep runs")
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect()
}

/// What one task did to one table.
fn done(report: &[(String, String, i64)], task: &str, detail: &str) -> i64 {
    let found = report.iter().find(|(name, what, _)| name == task && what.starts_with(detail));
    found.unwrap_or_else(|| panic!("{task} of {detail} is not in {report:?}")).2
}

/// The first column of a query's rows, as texts.
async fn texts(client: &Client, query: &str) -> Vec<String> {
    client.query(query, &[]).await.expect("the query is right").iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn deleted_rows_are_purged_after_their_retention_unless_they_are_still_needed() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    with_account(&engine).await;
    engine
        .batch_execute(
            r#"insert into sync_accounts (account_id, name, status, settings)
               values ('short', 'Short', 'active', '{"retention": {"deleted_days": 5}}'), ('odd', 'Odd', 'active', '{"retention": {"deleted_days": "x"}}')"#,
        )
        .await
        .unwrap();
    for (entity, table) in TABLES {
        engine
            .batch_execute(&format!(
                "insert into {table} (account_id, keap_id, sync_status, deleted_at) values
                     ('demo', '1', 'completed', null),
                     ('demo', '2', 'completed', now() - interval '89 days'),
                     ('demo', '3', 'completed', now() - interval '91 days'),
                     ('demo', '4', 'pending', now() - interval '91 days'),
                     ('demo', '5', 'conflict', now() - interval '91 days'),
                     ('demo', '6', 'completed', now() - interval '91 days'),
                     ('demo', '7', 'completed', now() - interval '91 days'),
                     ('short', '8', 'completed', now() - interval '4 days'),
                     ('short', '9', 'completed', now() - interval '6 days'),
                     ('odd', '10', 'completed', now() - interval '6 days');
                 insert into sync_status (account_id, entity_type, entity_id, keap_id, has_base)
                     select account_id, '{entity}', id, keap_id, true from {table};
                 -- Keap's record of 6 lives on, because deletes are not carried there; an edit of 7 still waits.
                 update sync_status set base = '{{\"deleted_at\": null}}' where entity_type = '{entity}' and keap_id = '6';
                 insert into sync_queue (account_id, operation, entity_type, entity_id)
                     select account_id, 'update', '{entity}', id from {table} where keap_id = '7'"
            ))
            .await
            .expect(entity);
    }
    // In a person's session a DELETE is soft; the upkeep's is not, whoever runs it.
    for (client, name) in [(&person, "the owner"), (&engine, "the engine")] {
        let report = maintain(client, 5000).await;
        for (entity, table) in TABLES {
            let kept = ["1", "10", "2", "4", "5", "6", "7", "8"];
            assert_eq!(
                done(&report, "purge deleted", table),
                if name == "the owner" { 2 } else { 0 },
                "{name} {table}"
            );
            assert_eq!(
                texts(&person, &format!("select keap_id from {table} order by 1")).await,
                kept,
                "{name} {table}"
            );
            let known = format!("select keap_id from sync_status where entity_type = '{entity}' order by 1");
            assert_eq!(texts(&person, &known).await, kept, "{name} {table}");
        }
    }
}

#[tokio::test]
async fn people_cannot_borrow_the_upkeeps_way_to_delete() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    with_account(&engine).await;
    engine
        .batch_execute(
            "insert into sync_contacts (account_id, keap_id, sync_status, deleted_at)
             values ('demo', '1', 'completed', null), ('demo', '2', 'completed', now() - interval '89 days')",
        )
        .await
        .unwrap();
    person.batch_execute("set keapsync.purging = 'on'; delete from sync_contacts").await.unwrap();
    assert_eq!(texts(&person, "select keap_id from sync_contacts order by 1").await, ["1", "2"]);
    let report = person.query("select from sync_maintain(0)", &[]).await.unwrap_err();
    assert_eq!(report.code(), Some(&SqlState::RAISE_EXCEPTION));
}

#[tokio::test]
async fn each_call_does_a_bounded_amount() {
    let database = TestDatabase::migrated().await;
    let engine = database.engine().await;
    with_account(&engine).await;
    engine
        .batch_execute(
            "insert into sync_tags (account_id, keap_id, sync_status, deleted_at)
                 select 'demo', n::text, 'completed', now() - interval '100 days' from generate_series(1, 25) n;
             insert into sync_queue (account_id, operation, entity_type, entity_id, status, completed_at)
                 select 'demo', 'update', 'tag', gen_random_uuid(), 'completed', now() - interval '31 days' from generate_series(1, 25) n",
        )
        .await
        .unwrap();
    for expected in [10, 10, 5, 0] {
        let report = maintain(&engine, 10).await;
        assert_eq!(done(&report, "purge deleted", "sync_tags"), expected);
        assert_eq!(done(&report, "purge completed", "sync_queue"), expected);
    }
}

#[tokio::test]
async fn queue_activity_and_runs_are_purged_by_age() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    with_account(&engine).await;
    engine
        .batch_execute(
            "insert into sync_queue (account_id, operation, entity_type, entity_id, keap_id, status, created_at, completed_at) values
                 ('demo', 'update', 'tag', gen_random_uuid(), 'old', 'completed', now() - interval '40 days', now() - interval '31 days'),
                 ('demo', 'update', 'tag', gen_random_uuid(), 'new', 'completed', now() - interval '40 days', now() - interval '29 days'),
                 ('demo', 'update', 'tag', gen_random_uuid(), 'failed', 'failed', now() - interval '40 days', now() - interval '31 days'),
                 ('demo', 'update', 'tag', gen_random_uuid(), 'open', 'pending', now() - interval '40 days', null);
             insert into sync_activity (account_id, entity_type, direction, source, records, at) values
                 ('demo', 'tag', 'keap_to_supabase', 'old', 1, now() - interval '91 days'),
                 ('demo', 'tag', 'keap_to_supabase', 'new', 1, now() - interval '89 days'),
                 ('demo', 'order', 'keap_to_supabase', 'oldest', 1, now() - interval '99 days'),
                 ('demo', 'order', 'keap_to_supabase', 'latest', 1, now() - interval '95 days');
             insert into sync_runs (id, account_id, kind, entity_type, direction, state, error, finished_at, updated_at) values
                 (gen_random_uuid(), 'demo', 'full', 'tag', 'keap_to_supabase', 'completed', 'old', now() - interval '366 days', now()),
                 (gen_random_uuid(), 'demo', 'full', 'tag', 'keap_to_supabase', 'completed', 'new', now() - interval '364 days', now()),
                 (gen_random_uuid(), 'demo', 'full', 'tag', 'keap_to_supabase', 'running', 'stuck', null, now() - interval '366 days')",
        )
        .await
        .unwrap();
    let report = maintain(&engine, 5000).await;
    assert_eq!(done(&report, "purge completed", "sync_queue"), 1);
    assert_eq!(done(&report, "purge activity", "sync_activity"), 2);
    assert_eq!(done(&report, "purge runs", "sync_runs"), 1);
    assert_eq!(texts(&person, "select keap_id from sync_queue order by 1").await, ["failed", "new", "open"]);
    assert_eq!(texts(&person, "select source from sync_activity order by 1").await, ["latest", "new"]);
    assert_eq!(texts(&person, "select error from sync_runs order by 1").await, ["new", "stuck"]);
}

#[tokio::test]
async fn partitions_are_made_ahead_and_dropped_past_the_longest_retention() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    with_account(&engine).await;
    // A partition of 24 months ago, which stays, one of 25 and one of 40 months ago.
    let old = |months: i32| {
        format!(
            "do $$
             declare
                 first_day timestamptz := date_trunc('month', now() at time zone 'UTC') at time zone 'UTC' - interval '{months} months';
             begin
                 set local timezone = 'UTC';
                 execute format('create table %I partition of sync_audit_log for values from (%L) to (%L)',
                     'sync_audit_log_' || to_char(first_day, '\"y\"YYYY\"m\"MM'), first_day, first_day + interval '1 month');
                 perform keapsync_protect_table(('sync_audit_log_' || to_char(first_day, '\"y\"YYYY\"m\"MM'))::regclass);
             end $$"
        )
    };
    for months in [24, 25, 40] {
        person.batch_execute(&old(months)).await.unwrap();
    }
    let partitions = "select relname::text from pg_class where relispartition and relkind = 'r'";
    let before = texts(&person, partitions).await.len();
    engine
        .batch_execute(r#"update sync_accounts set settings = '{"retention": {"audit_months": 30}}'"#)
        .await
        .unwrap();
    assert_eq!(done(&maintain(&engine, 5000).await, "audit retention", ""), 1);
    engine.batch_execute("update sync_accounts set settings = '{}'").await.unwrap();
    let report = maintain(&engine, 5000).await;
    assert_eq!(done(&report, "audit retention", "sync_audit_log_y"), 1);
    assert_eq!(done(&maintain(&engine, 5000).await, "audit retention", "nothing"), 0);
    assert_eq!(texts(&person, partitions).await.len(), before - 2);

    let newest = texts(&person, &format!("{partitions} and relname ~ '_y' order by 1 desc limit 1")).await;
    person
        .batch_execute(&format!("drop table {}", newest.first().expect("there is a partition")))
        .await
        .unwrap();
    assert_eq!(done(&maintain(&engine, 5000).await, "partitions ahead", "sync_audit_log"), 1);
}

#[tokio::test]
async fn a_locked_table_is_left_to_the_next_call() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    with_account(&engine).await;
    person.batch_execute("begin; lock table sync_audit_log in share update exclusive mode").await.unwrap();
    let report = maintain(&engine, 5000).await;
    assert_eq!(done(&report, "partitions ahead", "sync_audit_log is locked"), 0);
    assert_eq!(done(&report, "fold counts", "sync_record_counts"), 0);
    person.batch_execute("commit").await.unwrap();
    assert_eq!(done(&maintain(&engine, 5000).await, "partitions ahead", "sync_audit_log"), 0);
}

#[tokio::test]
async fn links_that_two_sessions_missed_are_repaired() {
    let database = TestDatabase::migrated().await;
    let (engine, other) = (database.engine().await, database.engine().await);
    with_account(&engine).await;
    engine
        .batch_execute("begin; insert into sync_contacts (account_id, keap_id, sync_status) values ('demo', '7', 'completed')")
        .await
        .unwrap();
    for table in ["sync_orders", "sync_subscriptions"] {
        other
            .batch_execute(&format!(
                "insert into {table} (account_id, keap_id, keap_contact_id, sync_status) values ('demo', '1', '7', 'completed'), ('demo', '2', '8', 'completed')"
            ))
            .await
            .unwrap();
    }
    engine.batch_execute("commit").await.unwrap();
    for expected in [1, 0] {
        let report = maintain(&engine, 5000).await;
        for table in ["sync_orders", "sync_subscriptions"] {
            assert_eq!(done(&report, "repair links", table), expected, "{table}");
        }
    }
    let versions = texts(&engine, "select version::text from sync_orders where contact_id is not null").await;
    assert_eq!(versions, ["1"], "a link is no write of the record");
}

#[tokio::test]
async fn only_the_engine_and_the_service_role_run_the_upkeep() {
    let database = TestDatabase::migrated().await;
    let superuser = database.superuser().await;
    for (role, allowed) in [
        ("anon", false),
        ("authenticated", false),
        ("keapsync_reader", false),
        ("service_role", true),
        ("keapsync_engine", true),
    ] {
        superuser.batch_execute(&format!("set role {role}")).await.unwrap();
        let outcome = superuser.query("select from sync_maintain()", &[]).await;
        superuser.batch_execute("reset role").await.unwrap();
        match outcome {
            Ok(rows) => assert!(allowed && rows.len() >= 12, "{role}"),
            Err(error) => {
                assert!(!allowed, "{role}: {error:?}");
                assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{role}");
            }
        }
    }
}

/// Stands in for `pg_net` and Supabase's Vault, with the functions and views that the trigger uses.
const NET_STAND_IN: &str = "
    create schema net;
    create table net.requests (url text, body jsonb, headers jsonb, timeout_milliseconds integer);
    create function net.http_post(url text, body jsonb default '{}', params jsonb default '{}',
        headers jsonb default '{}', timeout_milliseconds integer default 5000) returns bigint
        language sql as 'insert into net.requests values (url, body, headers, timeout_milliseconds) returning 1::bigint';
    create schema vault;
    create table vault.secrets (name text, secret text);
    create view vault.decrypted_secrets as select name, secret as decrypted_secret from vault.secrets;";

#[tokio::test]
async fn an_edit_wakes_the_workers_once_per_account_where_pg_net_is_there() {
    let database = TestDatabase::migrated().await;
    let (engine, person, superuser) =
        (database.engine().await, database.person().await, database.superuser().await);
    with_account(&engine).await;
    engine
        .batch_execute(
            "insert into sync_accounts (account_id, name, status) values ('other', 'Other', 'active');
             insert into sync_tags (account_id, keap_id, sync_status)
                 select account_id, n::text, 'completed' from sync_accounts, generate_series(1, 50) n",
        )
        .await
        .unwrap();
    let edit = "update sync_tags set name = coalesce(name, '') || 'x'";
    person.batch_execute(edit).await.unwrap();

    // The extension may come after the migration. Without both secrets nothing is sent.
    superuser.batch_execute(NET_STAND_IN).await.unwrap();
    superuser
        .batch_execute(&format!(
            "grant usage on schema net, vault to {OWNER}; grant insert on net.requests to {OWNER};
             grant select on vault.decrypted_secrets to {OWNER};
             insert into vault.secrets values ('keapsync_coordinator_url', 'https://coordinator.example/')"
        ))
        .await
        .unwrap();
    let sent = "select concat_ws(' ', url, headers - 'content-type', body) from net.requests order by 1";
    person.batch_execute(edit).await.unwrap();
    assert_eq!(texts(&superuser, sent).await, Vec::<String>::new());

    superuser
        .batch_execute("insert into vault.secrets values ('keapsync_wake_token', 'hush')")
        .await
        .unwrap();
    let expected = ["demo", "other"].map(|account| {
        format!("https://coordinator.example/coordinator/{account}/wake {{\"x-wake-token\": \"hush\"}} {{}}")
    });
    person.batch_execute(edit).await.unwrap();
    assert_eq!(texts(&superuser, sent).await, expected);
    // What the engine queues it knows itself.
    superuser.batch_execute("delete from net.requests").await.unwrap();
    engine
        .batch_execute("insert into sync_queue (account_id, operation, entity_type, entity_id) values ('demo', 'update', 'tag', gen_random_uuid())")
        .await
        .unwrap();
    assert_eq!(texts(&superuser, sent).await, Vec::<String>::new());

    // A failure to wake refuses no edit.
    superuser.batch_execute("drop table net.requests").await.unwrap();
    person.batch_execute(edit).await.unwrap();
    superuser.batch_execute("drop schema vault cascade").await.unwrap();
    person.batch_execute(edit).await.unwrap();
    let queued = texts(&person, "select count(*)::text from sync_queue where entity_type = 'tag'").await;
    assert_eq!(queued, ["501"]);
}
