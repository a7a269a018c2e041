//! Conflicts settled: each strategy, undo, records that Keap deleted.

#![allow(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

use crate::sql_merge_support::{code, conflict_of, in_conflict, json_of, loaded, resolve};
use crate::support::{TestDatabase, with_account};
use serde_json::{Value, json};
use tokio_postgres::Client;

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

/// A contact that Keap deleted while an edit waited, as the sync leaves it.
async fn deleted_in_keap(database: &TestDatabase) -> (Client, Client, String) {
    let (engine, person) = (database.engine().await, database.person().await);
    with_account(&engine).await;
    loaded(&engine, &json!({"first_name": "Ann"})).await;
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
