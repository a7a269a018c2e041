//! Who may settle conflicts, and two at once.

#![allow(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

use crate::sql_merge_support::{code, conflict_of, in_conflict, json_of, resolve, signed_in};
use crate::support::TestDatabase;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio_postgres::Client;

const USER: &str = "11111111-1111-4111-8111-111111111111";

/// Waits until a session waits for a lock.
async fn until_blocked(observer: &Client) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let waiting: i64 = observer
            .query_one("select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'", &[])
            .await
            .expect("the activity is read")
            .get(0);
        if waiting > 0 {
            return;
        }
        assert!(Instant::now() < deadline, "nobody waits for a lock");
    }
}

#[tokio::test]
async fn an_operator_settles_conflicts_of_their_account_only() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = in_conflict(&database).await;
    let id = conflict_of(&engine, "first_name").await;
    let viewer = "22222222-2222-4222-8222-222222222222";
    let stranger = "33333333-3333-4333-8333-333333333333";
    person
        .batch_execute(&format!(
            "insert into sync_accounts (account_id, name, status) values ('other', 'Other', 'active');
             insert into sync_account_members (account_id, user_id, role)
             values ('demo', '{USER}', 'operator'), ('demo', '{viewer}', 'viewer'), ('other', '{stranger}', 'admin')"
        ))
        .await
        .expect("members are made");
    for user in [viewer, stranger, "not a user"] {
        let client = signed_in(&database, user, json!({})).await;
        let error = resolve(&client, &id, "keap_wins", None).await.expect_err(user);
        assert_eq!(code(&error), ("P0002", true), "{user}");
    }
    let anonymous = database.superuser().await;
    anonymous.batch_execute("set role anon").await.expect("the role is taken");
    let error = resolve(&anonymous, &id, "keap_wins", None).await.expect_err("nobody");
    assert_eq!(code(&error).0, "42501");

    let operator = signed_in(&database, USER, json!({})).await;
    let done = resolve(&operator, &id, "keap_wins", None).await.expect("an operator settles it");
    assert_eq!((&done["winner"], &done["owed_to_keap"]), (&json!("keap"), &json!(false)));
    assert_eq!(
        json_of(&engine, "select first_name, sync_status, sync_error, updated_by from sync_contacts").await,
        json!([{
            "first_name": "Keap", "sync_status": "conflict", "sync_error": "conflict: decide about addresses.BILLING, custom_fields.12",
            "updated_by": USER,
        }])
    );
    assert_eq!(
        json_of(&engine, "select base -> 'first_name' as base from sync_status").await,
        json!([{"base": null}])
    );
    assert_eq!(
        json_of(&engine, "select resolved_by, winner from sync_conflicts where resolved_at is not null")
            .await,
        json!([{"resolved_by": USER, "winner": "keap"}])
    );
    assert_eq!(
        json_of(&engine, "select user_id, old_data from sync_audit_log where operation = 'resolve'").await,
        json!([{"user_id": USER, "old_data": {"first_name": "Row"}}])
    );
    // Keap has this value: the edit that was captured on the way is done.
    assert_eq!(json_of(&engine, "select * from sync_queue where status = 'pending'").await, json!([]));

    // What a person decides against Keap goes out first, once.
    let id = conflict_of(&engine, "custom_fields.12").await;
    resolve(&operator, &id, "manual", Some(json!({"custom_fields.12": ["z"]})))
        .await
        .expect("an operator settles it");
    assert_eq!(
        json_of(
            &engine,
            "select operation, priority, payload -> 'new' as new from sync_queue where status = 'pending'"
        )
        .await,
        json!([{"operation": "update", "priority": 2, "new": {"custom_fields": {"12": ["z"], "13": "x"}}}])
    );
    // A person cannot write the sync's columns with the setting that the resolution uses.
    operator
        .batch_execute("set keapsync.resolving = 'on'; update sync_contacts set sync_status = 'completed', last_name = 'Li'")
        .await
        .expect("an edit as any");
    assert_eq!(
        json_of(&engine, "select sync_status from sync_contacts").await,
        json!([{"sync_status": "pending"}])
    );
    // By a claim of the token that only the project's owner can set, a user is operator everywhere.
    let everywhere =
        signed_in(&database, "44444444-4444-4444-8444-444444444444", json!({"keapsync_role": "operator"}))
            .await;
    let id = conflict_of(&engine, "addresses.BILLING").await;
    resolve(&everywhere, &id, "supabase_wins", None).await.expect("an operator of all accounts settles it");
}

#[tokio::test]
async fn the_service_role_settles_any() {
    let database = TestDatabase::migrated().await;
    let (engine, _) = in_conflict(&database).await;
    let id = conflict_of(&engine, "first_name").await;
    let service = database.superuser().await;
    service.batch_execute("set role service_role").await.expect("the role is taken");
    resolve(&service, &id, "supabase_wins", None).await.expect("it is settled");
    assert_eq!(
        json_of(&engine, "select payload -> 'new' as new, priority from sync_queue where status = 'pending'")
            .await,
        json!([{"new": {"first_name": "Row"}, "priority": 2}])
    );
}

#[tokio::test]
async fn what_is_settled_or_unknown_stays_as_it_is() {
    let database = TestDatabase::migrated().await;
    let (engine, _) = in_conflict(&database).await;
    let id = conflict_of(&engine, "first_name").await;
    resolve(&engine, &id, "keap_wins", None).await.expect("it is settled");
    let before = json_of(&engine, "select (select version from sync_contacts) as version, (select count(*) from sync_audit_log) as audit").await;
    let error = resolve(&engine, &id, "supabase_wins", None).await.expect_err("settled already");
    assert_eq!(code(&error), ("55000", true));
    let error = resolve(&engine, "99999999-9999-4999-8999-999999999999", "keap_wins", None)
        .await
        .expect_err("no such conflict");
    assert_eq!(code(&error), ("P0002", true));
    let error = engine
        .batch_execute("select resolve_sync_conflicts('{}', 'keap_wins')")
        .await
        .expect_err("none named");
    assert_eq!(code(&error), ("22023", true));
    assert_eq!(
        json_of(&engine, "select (select version from sync_contacts) as version, (select count(*) from sync_audit_log) as audit").await,
        before
    );
}

#[tokio::test]
async fn of_two_people_at_once_one_is_told() {
    let database = TestDatabase::migrated().await;
    let (engine, first) = in_conflict(&database).await;
    let (second, observer) = (database.person().await, database.superuser().await);
    let id = conflict_of(&engine, "first_name").await;
    first.batch_execute("begin").await.expect("a transaction begins");
    resolve(&first, &id, "keap_wins", None).await.expect("the first settles it");
    let (outcome, ()) = tokio::join!(resolve(&second, &id, "supabase_wins", None), async {
        until_blocked(&observer).await;
        first.batch_execute("commit").await.expect("the first commits");
    });
    let error = outcome.expect_err("the second is told");
    assert_eq!(code(&error), ("55000", true));
    assert_eq!(
        json_of(&engine, "select first_name from sync_contacts").await,
        json!([{"first_name": "Keap"}])
    );
    assert_eq!(
        json_of(&engine, "select count(*) from sync_audit_log where operation = 'resolve'").await,
        json!([{"count": 1}])
    );
}

#[tokio::test]
async fn an_edit_that_comes_first_is_kept_by_the_resolution_that_waited() {
    let database = TestDatabase::migrated().await;
    let (engine, editor) = in_conflict(&database).await;
    let observer = database.superuser().await;
    let id = conflict_of(&engine, "first_name").await;
    editor
        .batch_execute("begin; update sync_contacts set first_name = 'Meanwhile', last_name = 'Li'")
        .await
        .expect("a person edits");
    let (outcome, ()) = tokio::join!(resolve(&engine, &id, "keap_wins", None), async {
        until_blocked(&observer).await;
        editor.batch_execute("commit").await.expect("the edit is committed");
    });
    assert_eq!(outcome.expect("it is settled")["kept_later_edit"], json!(true));
    assert_eq!(
        json_of(&engine, "select first_name, last_name from sync_contacts").await,
        json!([{"first_name": "Meanwhile", "last_name": "Li"}])
    );
    assert_eq!(
        json_of(
            &engine,
            "select base ->> 'first_name' as first_name, base ->> 'last_name' as last_name from sync_status"
        )
        .await,
        json!([{"first_name": "Keap", "last_name": "Lee"}])
    );
}
