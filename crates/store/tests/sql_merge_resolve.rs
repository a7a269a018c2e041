//! Conflicts settled by people: each strategy, each role, undo, and two at once.

#![allow(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

mod support;

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::{TestDatabase, with_account};
use tokio_postgres::{Client, Error};

const USER: &str = "11111111-1111-4111-8111-111111111111";

async fn json_of(client: &Client, query: &str) -> Value {
    let row = client
        .query_one(&format!("select coalesce(jsonb_agg(to_jsonb(x)), '[]')::text from ({query}) x"), &[])
        .await
        .expect("the query is right");
    serde_json::from_str(row.get(0)).expect("Postgres writes JSON")
}

/// One contact whose fields are changed on both sides to other values under the policy manual.
async fn in_conflict(database: &TestDatabase) -> (Client, Client) {
    let (engine, person) = (database.engine().await, database.person().await);
    with_account(&engine).await;
    engine
        .batch_execute("update sync_accounts set settings = '{\"policies\": {\"default\": \"manual\"}}'")
        .await
        .expect("the policy is set");
    let base = json!({
        "keap_id": "7", "keap_updated_at": "2026-03-01T10:00:00Z", "first_name": "Ann", "last_name": "Lee", "email": "ann@example.com",
        "addresses": [{"field": "BILLING", "line1": "1 Main", "locality": "Mesa"}, {"field": "OTHER", "line1": "9 Back"}],
        "custom_fields": {"12": ["a", "b"], "13": "x"},
    });
    let keap = json!({
        "keap_id": "7", "keap_updated_at": "2026-03-02T10:00:00Z", "first_name": "Keap", "last_name": "Lee", "email": "ann@example.com",
        "addresses": [{"field": "BILLING", "line1": "2 Main", "locality": "Mesa"}, {"field": "OTHER", "line1": "9 Back"}],
        "custom_fields": {"12": ["a", "c"], "13": "x"},
    });
    upsert(&engine, &base).await;
    person
        .batch_execute(
            "update sync_contacts set first_name = 'Row', job_title = 'Boss',
                addresses = '[{\"field\": \"BILLING\", \"line1\": \"1 Main\", \"locality\": \"Tempe\"}, {\"field\": \"OTHER\", \"line1\": \"9 Back\"}]',
                custom_fields = '{\"12\": [\"b\", \"d\"], \"13\": \"x\"}'",
        )
        .await
        .expect("a person edits");
    upsert(&engine, &keap).await;
    // The edit's own item is on its way; what comes after is the resolution's.
    engine.batch_execute("update sync_queue set status = 'completed'").await.expect("the queue is emptied");
    assert_eq!(
        json_of(
            &engine,
            "select conflict_fields[1] as field from sync_conflicts where resolved_at is null order by 1"
        )
        .await,
        json!([{"field": "addresses.BILLING"}, {"field": "custom_fields.12"}, {"field": "first_name"}])
    );
    (engine, person)
}

async fn upsert(engine: &Client, record: &Value) {
    let failed: i32 = engine
        .query_one(
            "select failed from batch_upsert_contacts('demo', array[$1::text::jsonb])",
            &[&record.to_string()],
        )
        .await
        .expect("the record is taken")
        .get(0);
    assert_eq!(failed, 0);
}

async fn conflict_of(client: &Client, field: &str) -> String {
    client
        .query_one("select id::text from sync_conflicts where conflict_fields = array[$1]", &[&field])
        .await
        .expect("there is one conflict of the field")
        .get(0)
}

async fn resolve(client: &Client, id: &str, strategy: &str, values: Option<Value>) -> Result<Value, Error> {
    let values = values.map(|values| values.to_string());
    let row = client
        .query_one(
            "select resolve_sync_conflict($1::text::uuid, $2, $3::text::jsonb, 'said so')::text",
            &[&id, &strategy, &values],
        )
        .await?;
    Ok(serde_json::from_str(row.get(0)).expect("Postgres writes JSON"))
}

fn code(error: &Error) -> (&str, bool) {
    let error = error.as_db_error().expect("the server refused");
    (error.code().code(), error.hint().is_some())
}

/// A session as Supabase's API makes one for a signed-in user.
async fn signed_in(database: &TestDatabase, user: &str, app_metadata: Value) -> Client {
    let client = database.person().await;
    let superuser = database.superuser().await;
    superuser
        .batch_execute("grant authenticated to keapsync_test_owner")
        .await
        .expect("the owner may act as authenticated");
    let claims = json!({"sub": user, "role": "authenticated", "app_metadata": app_metadata}).to_string();
    client
        .execute("select set_config('request.jwt.claims', $1, false)", &[&claims])
        .await
        .expect("the token is set");
    client.batch_execute("set role authenticated").await.expect("the role is taken");
    client
}

#[tokio::test]
async fn keap_wins_by_the_sync() {
    let database = TestDatabase::migrated().await;
    let (engine, _) = in_conflict(&database).await;
    let id = conflict_of(&engine, "first_name").await;
    let done = resolve(&engine, &id, "keap_wins", None).await.expect("it is settled");
    assert_eq!(
        (
            &done["conflict_id"],
            &done["winner"],
            &done["value"],
            &done["kept_later_edit"],
            &done["owed_to_keap"],
            &done["sync_status"]
        ),
        (&json!(id), &json!("keap"), &json!("Keap"), &json!(false), &json!(false), &json!("conflict"))
    );
    assert_eq!(
        json_of(&engine, "select first_name, job_title, sync_status, sync_error from sync_contacts").await,
        json!([{"first_name": "Keap", "job_title": "Boss", "sync_status": "conflict", "sync_error": "conflict: decide about addresses.BILLING, custom_fields.12"}])
    );
    assert_eq!(
        json_of(&engine, "select base -> 'first_name' as gone, base -> 'job_title' as job, conflict_status from sync_status").await,
        json!([{"gone": null, "job": null, "conflict_status": "pending"}])
    );
    assert_eq!(
        json_of(&engine, "select conflict_fields[1] as field, resolution_strategy, winner, resolved_by, resolution_notes from sync_conflicts where resolved_at is not null").await,
        json!([{"field": "first_name", "resolution_strategy": "keap_wins", "winner": "keap", "resolved_by": null, "resolution_notes": "said so"}])
    );
    assert_eq!(
        json_of(&engine, "select old_data, new_data, changed_fields, sync_destination, user_id from sync_audit_log where operation = 'resolve'").await,
        json!([{
            "old_data": {"first_name": "Row"}, "new_data": {"first_name": {"supabase": "Row"}}, "changed_fields": ["first_name"],
            "sync_destination": "supabase", "user_id": null,
        }])
    );
    // Nothing is owed to Keap.
    assert_eq!(json_of(&engine, "select * from sync_queue where status = 'pending'").await, json!([]));
}

#[tokio::test]
async fn supabase_wins_and_keap_is_told_before_others() {
    let database = TestDatabase::migrated().await;
    let (engine, _) = in_conflict(&database).await;
    let id = conflict_of(&engine, "addresses.BILLING").await;
    let done = resolve(&engine, &id, "supabase_wins", None).await.expect("it is settled");
    assert_eq!((&done["winner"], &done["owed_to_keap"]), (&json!("supabase"), &json!(true)));
    let keap = json!([{"field": "BILLING", "line1": "2 Main", "locality": "Mesa"}, {"field": "OTHER", "line1": "9 Back"}]);
    let row = json!([{"field": "BILLING", "line1": "1 Main", "locality": "Tempe"}, {"field": "OTHER", "line1": "9 Back"}]);
    assert_eq!(json_of(&engine, "select addresses from sync_contacts").await, json!([{"addresses": row}]));
    assert_eq!(
        json_of(&engine, "select base -> 'addresses' as base from sync_status").await,
        json!([{"base": keap}])
    );
    assert_eq!(
        json_of(
            &engine,
            "select operation, priority, payload, keap_id from sync_queue where status = 'pending'"
        )
        .await,
        json!([{"operation": "update", "priority": 2, "payload": {"old": {"addresses": keap}, "new": {"addresses": row}}, "keap_id": "7"}])
    );
    assert_eq!(
        json_of(
            &engine,
            "select old_data, new_data, sync_destination from sync_audit_log where operation = 'resolve'"
        )
        .await,
        json!([{
            "old_data": null, "new_data": {"addresses.BILLING": {"keap": {"field": "BILLING", "line1": "2 Main", "locality": "Mesa"}}},
            "sync_destination": "keap",
        }])
    );
    // Keap's record, met again as it is, is no conflict any more, and the row's value is what Keap is to take.
    let merged = json_of(
        &engine,
        "select conflict_fields from detect_sync_conflicts('demo', 'contact', array[(select jsonb_build_object('entity_id', c.id,
             'keap_data', jsonb_build_object('first_name', 'Keap', 'last_name', 'Lee', 'email', c.email, 'addresses', s.base -> 'addresses',
                 'custom_fields', '{\"12\": [\"a\", \"c\"], \"13\": \"x\"}'::jsonb))
             from sync_contacts c join sync_status s on s.entity_id = c.id)])",
    )
    .await;
    assert_eq!(merged, json!([{"conflict_fields": ["first_name", "custom_fields.12"]}]));
}

#[tokio::test]
async fn merge_puts_parts_together_and_refuses_what_it_cannot() {
    let database = TestDatabase::migrated().await;
    let (engine, _) = in_conflict(&database).await;
    // A list: what both have, and what one side added. An object: property by property.
    let list = resolve(&engine, &conflict_of(&engine, "custom_fields.12").await, "merge", None)
        .await
        .expect("lists combine");
    assert_eq!(
        (&list["value"], &list["winner"], &list["owed_to_keap"]),
        (&json!(["c", "d"]), &json!("merged"), &json!(true))
    );
    let address = resolve(&engine, &conflict_of(&engine, "addresses.BILLING").await, "merge", None)
        .await
        .expect("objects combine");
    assert_eq!(address["value"], json!({"field": "BILLING", "line1": "2 Main", "locality": "Tempe"}));
    let error = resolve(&engine, &conflict_of(&engine, "first_name").await, "merge", None)
        .await
        .expect_err("two texts");
    assert_eq!(code(&error), ("22023", true));
    let before = json_of(&engine, "select version, first_name from sync_contacts").await;
    assert_eq!(before[0]["first_name"], json!("Row"));
    let given = resolve(
        &engine,
        &conflict_of(&engine, "first_name").await,
        "merge",
        Some(json!({"first_name": "Both"})),
    )
    .await
    .expect("with a value it is settled");
    assert_eq!((&given["value"], &given["sync_status"]), (&json!("Both"), &json!("pending")));
    assert_eq!(
        json_of(
            &engine,
            "select first_name, addresses, custom_fields, sync_status, sync_error from sync_contacts"
        )
        .await,
        json!([{
            "first_name": "Both", "sync_status": "pending", "sync_error": null,
            "addresses": [{"field": "BILLING", "line1": "2 Main", "locality": "Tempe"}, {"field": "OTHER", "line1": "9 Back"}],
            "custom_fields": {"12": ["c", "d"], "13": "x"},
        }])
    );
    assert_eq!(
        json_of(&engine, "select base, conflict_status from sync_status").await,
        json!([{
            "base": {"first_name": "Keap", "job_title": null, "custom_fields": {"12": ["a", "c"], "13": "x"},
                "addresses": [{"field": "BILLING", "line1": "2 Main", "locality": "Mesa"}, {"field": "OTHER", "line1": "9 Back"}]},
            "conflict_status": "resolved",
        }])
    );
}

#[tokio::test]
async fn manual_takes_the_values_given_and_checks_them() {
    let database = TestDatabase::migrated().await;
    let (engine, _) = in_conflict(&database).await;
    let id = conflict_of(&engine, "first_name").await;
    for values in [
        None,
        Some(json!([])),
        Some(json!({"last_name": "x"})),
        Some(json!({"first_name": {"a": 1}})),
        Some(json!({"first_name": "x".repeat(2_000)})),
    ] {
        let error =
            resolve(&engine, &id, "manual", values.clone()).await.expect_err("no value for the field");
        assert_eq!(code(&error), ("22023", true), "{values:?}");
    }
    let error = resolve(&engine, &id, "keap_wins", Some(json!({"first_name": "x"})))
        .await
        .expect_err("values decide nothing here");
    assert_eq!(code(&error), ("22023", true));
    let error = resolve(&engine, &id, "newest_wins", None).await.expect_err("no strategy of people");
    assert_eq!(code(&error), ("22023", true));
    assert_eq!(
        json_of(&engine, "select count(*) from sync_conflicts where resolved_at is not null").await,
        json!([{"count": 0}])
    );

    let done =
        resolve(&engine, &id, "manual", Some(json!({"first_name": "Third"}))).await.expect("it is settled");
    assert_eq!((&done["winner"], &done["owed_to_keap"]), (&json!("merged"), &json!(true)));
    assert_eq!(
        json_of(&engine, "select old_data, new_data from sync_audit_log where operation = 'resolve'").await,
        json!([{"old_data": {"first_name": "Row"}, "new_data": {"first_name": {"keap": "Keap", "supabase": "Row"}}}])
    );
    assert_eq!(
        json_of(&engine, "select priority, payload from sync_queue where status = 'pending'").await,
        json!([{"priority": 2, "payload": {"old": {"first_name": "Keap"}, "new": {"first_name": "Third"}}}])
    );
}

#[tokio::test]
async fn several_at_once_are_all_settled_or_none() {
    let database = TestDatabase::migrated().await;
    let (engine, _) = in_conflict(&database).await;
    let error = engine
        .query_one("select resolve_sync_conflicts(array(select id from sync_conflicts), 'merge')::text", &[])
        .await
        .expect_err("the names cannot be combined");
    assert_eq!(code(&error), ("22023", true));
    assert_eq!(
        json_of(&engine, "select count(*) from sync_conflicts where resolved_at is null").await,
        json!([{"count": 3}])
    );
    let row = engine
        .query_one(
            "select resolve_sync_conflicts(array(select id from sync_conflicts), 'keap_wins')::text",
            &[],
        )
        .await
        .expect("Keap wins all");
    let done: Value = serde_json::from_str(row.get(0)).expect("Postgres writes JSON");
    assert_eq!(done.as_array().map(Vec::len), Some(3));
    assert_eq!(
        json_of(
            &engine,
            "select first_name, addresses, custom_fields, sync_status, version from sync_contacts"
        )
        .await,
        json!([{
            "first_name": "Keap", "addresses": [{"field": "BILLING", "line1": "2 Main", "locality": "Mesa"}, {"field": "OTHER", "line1": "9 Back"}],
            "custom_fields": {"12": ["a", "c"], "13": "x"}, "sync_status": "pending", "version": 5,
        }])
    );
    // Only the title still waits for Keap.
    assert_eq!(
        json_of(&engine, "select base from sync_status").await,
        json!([{"base": {"job_title": null}}])
    );
    assert_eq!(
        json_of(&engine, "select count(*) from sync_audit_log where operation = 'resolve'").await,
        json!([{"count": 1}])
    );
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
async fn a_later_edit_is_kept_and_goes_to_keap() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = in_conflict(&database).await;
    person.batch_execute("update sync_contacts set first_name = 'Later'").await.expect("a person edits");
    engine.batch_execute("update sync_queue set status = 'completed'").await.expect("the queue is emptied");
    let id = conflict_of(&engine, "first_name").await;
    let done = resolve(&engine, &id, "keap_wins", None).await.expect("it is settled");
    assert_eq!(
        (&done["winner"], &done["value"], &done["kept_later_edit"], &done["owed_to_keap"]),
        (&json!("supabase"), &json!("Later"), &json!(true), &json!(true))
    );
    assert_eq!(
        json_of(&engine, "select first_name from sync_contacts").await,
        json!([{"first_name": "Later"}])
    );
    assert_eq!(
        json_of(&engine, "select payload from sync_queue where status = 'pending'").await,
        json!([{"payload": {"old": {"first_name": "Keap"}, "new": {"first_name": "Later"}}}])
    );
}

#[tokio::test]
async fn a_resolution_is_undone_from_the_audit_log() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = in_conflict(&database).await;
    resolve(&engine, &conflict_of(&engine, "first_name").await, "keap_wins", None)
        .await
        .expect("it is settled");
    person
        .batch_execute(
            "update sync_contacts c set first_name = a.old_data ->> 'first_name'
             from sync_audit_log a where a.entity_id = c.id and a.operation = 'resolve'",
        )
        .await
        .expect("an edit as any");
    assert_eq!(
        json_of(&engine, "select c.first_name, s.base -> 'first_name' as base from sync_contacts c join sync_status s on s.entity_id = c.id").await,
        json!([{"first_name": "Row", "base": "Keap"}])
    );
    assert_eq!(
        json_of(&engine, "select payload from sync_queue where status = 'pending'").await,
        json!([{"payload": {"old": {"first_name": "Keap"}, "new": {"first_name": "Row"}}}])
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

/// A contact that Keap deleted while an edit waited, as the sync leaves it.
async fn deleted_in_keap(database: &TestDatabase) -> (Client, Client, String) {
    let (engine, person) = (database.engine().await, database.person().await);
    with_account(&engine).await;
    upsert(&engine, &json!({"keap_id": "7", "first_name": "Ann"})).await;
    person.batch_execute("update sync_contacts set first_name = 'Anna'").await.expect("a person edits");
    engine
        .batch_execute(
            "update sync_queue set status = 'completed';
             insert into sync_conflicts (account_id, entity_type, entity_id, keap_id, conflict_fields, base_data, keap_data, supabase_data,
                 resolution_strategy)
             select 'demo', 'contact', id, '7', '{deleted_at}', '{\"deleted_at\": null}', '{\"deleted_at\": \"2026-03-01T10:00:00.000Z\"}',
                 '{\"deleted_at\": {\"first_name\": \"Anna\"}}', 'manual' from sync_contacts",
        )
        .await
        .expect("the conflict is recorded");
    let id = conflict_of(&engine, "deleted_at").await;
    (engine, person, id)
}

#[tokio::test]
async fn a_record_deleted_in_keap_is_deleted_here_too() {
    let database = TestDatabase::migrated().await;
    let (engine, person, id) = deleted_in_keap(&database).await;
    let error = resolve(&person, &id, "merge", None).await.expect_err("half a delete is none");
    assert_eq!(code(&error), ("22023", true));
    resolve(&person, &id, "keap_wins", None).await.expect("it is deleted");
    assert_eq!(
        json_of(&engine, "select c.deleted_at is not null as deleted, c.sync_status, s.base from sync_contacts c join sync_status s on s.entity_id = c.id").await,
        json!([{"deleted": true, "sync_status": "completed", "base": null}])
    );
    assert_eq!(json_of(&engine, "select * from sync_queue where status = 'pending'").await, json!([]));
}

#[tokio::test]
async fn a_record_deleted_in_keap_is_made_again_there() {
    let database = TestDatabase::migrated().await;
    let (engine, person, id) = deleted_in_keap(&database).await;
    let done = resolve(&person, &id, "supabase_wins", None).await.expect("it is made again");
    assert_eq!(done["owed_to_keap"], json!(true));
    assert_eq!(
        json_of(&engine, "select c.keap_id, c.first_name, c.deleted_at, c.sync_status, s.has_base, s.keap_id as status_keap_id from sync_contacts c join sync_status s on s.entity_id = c.id").await,
        json!([{"keap_id": null, "first_name": "Anna", "deleted_at": null, "sync_status": "pending", "has_base": false, "status_keap_id": null}])
    );
    assert_eq!(
        json_of(&engine, "select operation, priority, keap_id from sync_queue where status = 'pending'")
            .await,
        json!([{"operation": "create", "priority": 2, "keap_id": null}])
    );
}

#[tokio::test]
async fn an_edit_after_keaps_delete_is_not_deleted_unseen() {
    let database = TestDatabase::migrated().await;
    let (engine, person, id) = deleted_in_keap(&database).await;
    person.batch_execute("update sync_contacts set first_name = 'Hanna'").await.expect("a person edits");
    let error = resolve(&engine, &id, "keap_wins", None).await.expect_err("somebody edited it since");
    assert_eq!(code(&error), ("22023", true));
    assert_eq!(json_of(&engine, "select deleted_at from sync_contacts").await, json!([{"deleted_at": null}]));
}
