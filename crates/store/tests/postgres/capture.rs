//! What the triggers make of people's edits, and that they leave the engine's alone.

#![allow(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

use crate::support::{TestDatabase, account, batch, insert_of, with_account};
use keapsync_domain::ids::EntityType;
use keapsync_engine::ports::{MirrorStore, OutboxStore};
use keapsync_store::Store;
use serde_json::{Value, json};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

const USER: &str = "7b0c8f5e-2f57-4b1c-9a55-0d7f6f2b7a11";

/// A query's only row as JSON.
async fn json_of(client: &Client, query: &str) -> Value {
    let row = client
        .query_one(&format!("select to_jsonb(x)::text from ({query}) x"), &[])
        .await
        .expect("the query is right and answers one row");
    serde_json::from_str(row.get(0)).expect("Postgres writes JSON")
}

async fn count(client: &Client, table: &str) -> i64 {
    client
        .query_one(&format!("select count(*) from {table}"), &[])
        .await
        .expect("the table is counted")
        .get(0)
}

/// A linked contact, as a first load leaves it.
async fn loaded(engine: &Client) {
    with_account(engine).await;
    let rows = vec![insert_of(
        "7",
        &json!({"email": "ann@example.com", "first_name": "Ann", "birth_date": "1980-02-29", "tags": ["1"]}),
    )];
    let outcome = Store::new(engine)
        .write(&account(), EntityType::Contact, &batch(rows))
        .await
        .expect("the contact is written");
    assert_eq!(outcome.written, ["7"]);
}

#[tokio::test]
async fn an_update_is_queued_audited_and_keeps_the_first_old_value_as_base() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    loaded(&engine).await;

    person
        .batch_execute(&format!(
            r#"begin;
             set local request.jwt.claims = '{{"sub":"{USER}"}}';
             set local request.headers = '{{"user-agent":"table editor","x-forwarded-for":"203.0.113.9, 10.0.0.1"}}';
             update sync_contacts set first_name = 'Anna', tags = '["1","2"]' where keap_id = '7';
             commit"#
        ))
        .await
        .unwrap();
    let row = json_of(
        &person,
        "select sync_status, version, updated_by::text, updated_at > created_at as moved from sync_contacts",
    )
    .await;
    assert_eq!(row, json!({"sync_status": "pending", "version": 2, "updated_by": USER, "moved": true}));
    let item =
        json_of(&person, "select operation, entity_type, keap_id, payload, status, priority from sync_queue")
            .await;
    assert_eq!(
        item,
        json!({"operation": "update", "entity_type": "contact", "keap_id": "7", "status": "pending", "priority": 5,
            "payload": {"old": {"first_name": "Ann", "tags": ["1"]}, "new": {"first_name": "Anna", "tags": ["1", "2"]}}})
    );
    let audit =
        "select operation, old_data, new_data, changed_fields, sync_source, sync_destination, user_id::text,
        host(ip_address) as ip, user_agent from sync_audit_log where sync_source = 'supabase'";
    assert_eq!(
        json_of(&person, audit).await,
        json!({"operation": "update", "old_data": {"first_name": "Ann", "tags": ["1"]}, "new_data": null,
            "changed_fields": ["first_name", "tags"], "sync_source": "supabase", "sync_destination": "keap", "user_id": USER,
            "ip": "203.0.113.9", "user_agent": "table editor"})
    );

    person.batch_execute("update sync_contacts set first_name = 'Annika', birth_date = null").await.unwrap();
    let status = json_of(&person, "select base, has_base, last_sync_status from sync_status").await;
    assert_eq!(
        status,
        json!({"base": {"first_name": "Ann", "tags": ["1"], "birth_date": "1980-02-29"}, "has_base": true, "last_sync_status": "pending"})
    );
    assert_eq!(count(&person, "sync_queue").await, 2);
}

#[tokio::test]
async fn a_write_that_changes_no_synced_value_is_not_queued() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    loaded(&engine).await;
    person
        .batch_execute("update sync_contacts set first_name = first_name, source_system = 'manual'")
        .await
        .unwrap();
    assert_eq!(count(&person, "sync_queue").await, 0);
    assert_eq!(
        json_of(&person, "select version, sync_status from sync_contacts").await,
        json!({"version": 2, "sync_status": "completed"})
    );
}

#[tokio::test]
async fn an_insert_waits_for_keap_without_a_base() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    with_account(&engine).await;
    person
        .batch_execute(
            "insert into sync_contacts (account_id, email, sync_status, version) values ('demo', 'bo@example.com', 'completed', 9)",
        )
        .await
        .unwrap();
    assert_eq!(
        json_of(&person, "select sync_status, version, source_system, keap_id from sync_contacts").await,
        json!({"sync_status": "pending", "version": 1, "source_system": "supabase", "keap_id": null})
    );
    assert_eq!(
        json_of(&person, "select operation, payload from sync_queue").await,
        json!({"operation": "create", "payload": {"old": {}, "new": {"email": "bo@example.com"}}})
    );
    assert_eq!(
        json_of(&person, "select has_base, base from sync_status").await,
        json!({"has_base": false, "base": null})
    );
    assert_eq!(
        json_of(&person, "select operation, old_data, changed_fields from sync_audit_log").await,
        json!({"operation": "create", "old_data": null, "changed_fields": null})
    );

    // An edit before the record exists in Keap keeps what a create may have carried.
    person.batch_execute("update sync_contacts set email = 'bo@example.org'").await.unwrap();
    assert_eq!(
        json_of(&person, "select has_base, base from sync_status").await,
        json!({"has_base": false, "base": {"email": "bo@example.com"}})
    );

    let error =
        person.batch_execute("insert into sync_contacts (account_id) values ('nobody')").await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::FOREIGN_KEY_VIOLATION));
}

#[tokio::test]
async fn a_delete_becomes_a_soft_delete_and_can_be_undone() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    loaded(&engine).await;
    person
        .batch_execute(&format!(
            r#"begin; set local request.jwt.claims = '{{"sub":"{USER}"}}'; delete from sync_contacts; commit"#
        ))
        .await
        .unwrap();
    assert_eq!(
        json_of(
            &person,
            "select deleted_at is not null as deleted, deleted_by::text, sync_status from sync_contacts"
        )
        .await,
        json!({"deleted": true, "deleted_by": USER, "sync_status": "pending"})
    );
    assert_eq!(json_of(&person, "select operation from sync_queue").await, json!({"operation": "delete"}));
    assert_eq!(json_of(&person, "select base from sync_status").await, json!({"base": {"deleted_at": null}}));
    assert_eq!(
        json_of(&person, "select operation, old_data from sync_audit_log where sync_source = 'supabase'")
            .await,
        json!({"operation": "delete", "old_data": {"deleted_at": null}})
    );

    // A second DELETE finds nothing to do.
    person.batch_execute("delete from sync_contacts").await.unwrap();
    assert_eq!(count(&person, "sync_queue").await, 1);

    person.batch_execute("update sync_contacts set deleted_at = null").await.unwrap();
    assert_eq!(
        json_of(
            &person,
            "select operation, payload -> 'new' as now from sync_queue order by sequence desc limit 1"
        )
        .await,
        json!({"operation": "update", "now": {"deleted_at": null}})
    );
    assert_eq!(json_of(&person, "select deleted_by from sync_contacts").await, json!({"deleted_by": null}));
}

#[tokio::test]
async fn the_engine_is_never_captured_and_may_purge() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    loaded(&engine).await;
    let before = json_of(&person, "select updated_at from sync_contacts").await;
    engine.batch_execute("update sync_contacts set sync_status = 'error', sync_error = 'x'").await.unwrap();
    let after = json_of(&person, "select version, updated_at from sync_contacts").await;
    assert_eq!(after["version"], 2);
    assert_eq!(after["updated_at"], before["updated_at"], "no value changed");
    engine.batch_execute("update sync_contacts set email = 'new@example.com'").await.unwrap();
    let after = json_of(&person, "select version, updated_at, sync_status from sync_contacts").await;
    assert_eq!((&after["version"], &after["sync_status"]), (&json!(3), &json!("error")));
    assert_ne!(after["updated_at"], before["updated_at"]);
    engine.batch_execute("delete from sync_contacts").await.unwrap();
    assert_eq!(count(&person, "sync_contacts").await, 0);
    assert_eq!(count(&person, "sync_queue").await, 0);
    assert_eq!(count(&person, "sync_audit_log where sync_source = 'supabase'").await, 0);
}

#[tokio::test]
async fn a_person_does_not_relink_a_row() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    loaded(&engine).await;
    for assignment in ["keap_id = '8'", "keap_id = null", "id = gen_random_uuid()", "account_id = 'other'"] {
        let error =
            person.batch_execute(&format!("update sync_contacts set {assignment}")).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::INTEGRITY_CONSTRAINT_VIOLATION), "{assignment}");
    }
}

#[tokio::test]
async fn a_request_whose_headers_make_no_sense_is_captured_all_the_same() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    loaded(&engine).await;
    person
        .batch_execute(
            r#"begin; set local request.jwt.claims = '{"sub":"not a uuid"}'; set local request.headers = '{"x-forwarded-for":"nonsense"';
             update sync_contacts set first_name = 'A'; commit"#,
        )
        .await
        .unwrap();
    assert_eq!(
        json_of(&person, "select user_id, ip_address from sync_audit_log where sync_source = 'supabase'")
            .await,
        json!({"user_id": null, "ip_address": null})
    );
}

/// One such value would stop the reading of every record that is read together with it.
#[tokio::test]
async fn an_edit_that_could_not_be_read_back_is_refused() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    loaded(&engine).await;
    let deep = format!(r#"{{"7": {}1{}}}"#, "[".repeat(200), "]".repeat(200));
    for (value, code) in [
        (deep.as_str(), SqlState::INVALID_PARAMETER_VALUE),
        (r#"{"7": 1e400}"#, SqlState::NUMERIC_VALUE_OUT_OF_RANGE),
        (r#"{"7": [{"x": -1e309}]}"#, SqlState::NUMERIC_VALUE_OUT_OF_RANGE),
    ] {
        for edit in [
            "update sync_contacts set custom_fields = $1::text::jsonb where keap_id = '7'",
            "insert into sync_contacts (account_id, custom_fields) values ('demo', $1::text::jsonb)",
        ] {
            let refused = person.execute(edit, &[&value]).await.expect_err("the edit is refused");
            assert_eq!(refused.code(), Some(&code), "{refused:?}");
            assert!(refused.as_db_error().is_some_and(|error| error.hint().is_some()), "{refused:?}");
        }
    }
    assert_eq!(count(&engine, "sync_queue").await, 0);
    let fits = format!(r#"{{"7": {}1.5e300{}}}"#, "[".repeat(90), "]".repeat(90));
    let edit = "update sync_contacts set custom_fields = $1::text::jsonb where keap_id = '7'";
    assert_eq!(person.execute(edit, &[&fits]).await.expect("the edit is captured"), 1);
    let rows = Store::new(&engine).claim(&account(), 10, 60_000, "test").await.expect("the item is claimed");
    let ids = vec![rows[0].entity_id.clone()];
    let read = Store::new(&engine).read_rows(&account(), EntityType::Contact, &ids).await;
    assert_eq!(read.expect("the row is read").len(), 1);
}

#[tokio::test]
async fn parts_that_keap_could_not_tell_apart_are_refused() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    loaded(&engine).await;
    for (column, value) in [
        ("phones", r#"[{"number": "5551234"}]"#),
        ("phones", r#"[{"field": "PHONE1", "number": "1"}]"#),
        ("phones", r#"[{"field": "PHONE2", "number": "1"}, {"field": "PHONE2", "number": "2"}]"#),
        ("emails", r#"[1, 2, "x", null]"#),
        ("emails", r#"[{"a": 1}]"#),
        ("addresses", r#"[{"field": "HOME", "line1": "1 Main"}]"#),
        ("tags", r#"["vip"]"#),
        ("tags", r"[null]"),
    ] {
        let edit = format!("update sync_contacts set {column} = $1::text::jsonb where keap_id = '7'");
        let refused = person.execute(&edit, &[&value]).await.expect_err("the edit is refused");
        assert_eq!(refused.code(), Some(&SqlState::INVALID_PARAMETER_VALUE), "{column} {value}");
        assert!(refused.as_db_error().is_some_and(|error| error.hint().is_some()), "{column} {value}");
    }
    assert_eq!(count(&engine, "sync_queue").await, 0);
    let edit = r#"update sync_contacts set phones = '[{"field": "PHONE2", "number": "1"}]', emails = '[]', tags = '["1", 2]',
        addresses = '[{"field": "BILLING", "line1": "1 Main"}]' where keap_id = '7'"#;
    assert_eq!(person.execute(edit, &[]).await.expect("the edit is captured"), 1);
    assert_eq!(count(&engine, "sync_queue").await, 1);
}

#[tokio::test]
async fn a_rolled_back_edit_leaves_nothing() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    loaded(&engine).await;
    person.batch_execute("begin; update sync_contacts set first_name = 'A'; rollback").await.unwrap();
    assert_eq!(count(&person, "sync_queue").await, 0);
    assert_eq!(Store::new(&engine).depth(&account()).await.unwrap().open, 0);
}

#[tokio::test]
async fn the_service_role_edits_and_is_captured() {
    let database = TestDatabase::migrated().await;
    let (engine, superuser) = (database.engine().await, database.superuser().await);
    loaded(&engine).await;
    // On Supabase it bypasses row level security; on a test server the attribute is set by the superuser.
    superuser.batch_execute("alter role service_role bypassrls; set role service_role").await.unwrap();
    superuser.batch_execute("update sync_contacts set first_name = 'A'").await.unwrap();
    superuser.batch_execute("delete from sync_contacts").await.unwrap();
    superuser.batch_execute("reset role").await.unwrap();
    assert_eq!(count(&superuser, "sync_queue").await, 2);
    assert_eq!(count(&superuser, "sync_contacts").await, 1);
}

/// Each mirrored table with an edit of it: kind of record, table, assignment, old and new values as captured.
fn edits() -> [(&'static str, &'static str, &'static str, Value, Value); 4] {
    [
        (
            "contact",
            "sync_contacts",
            "first_name = 'Anna', tags = '[\"1\"]'",
            json!({"first_name": null, "tags": null}),
            json!({"first_name": "Anna", "tags": ["1"]}),
        ),
        (
            "order",
            "sync_orders",
            "title = 'Big', total_amount = 12.50, order_date = '2024-03-01 09:00+09', line_items = '[{\"id\": \"1\"}]'",
            json!({"title": null, "total_amount": null, "order_date": null, "line_items": null}),
            json!({"title": "Big", "total_amount": "12.5", "order_date": "2024-03-01T00:00:00+00:00", "line_items": [{"id": "1"}]}),
        ),
        ("tag", "sync_tags", "name = 'Gold', color = 'red'", json!({"name": null}), json!({"name": "Gold"})),
        (
            "subscription",
            "sync_subscriptions",
            "amount = 1000, quantity = 2, auto_charge = true, next_bill_date = '2024-03-01'",
            json!({"amount": null, "quantity": null, "auto_charge": null, "next_bill_date": null}),
            json!({"amount": "1000", "quantity": 2, "auto_charge": true, "next_bill_date": "2024-03-01"}),
        ),
    ]
}

#[tokio::test]
async fn edits_through_the_api_are_captured_on_every_table_with_their_user() {
    let database = TestDatabase::migrated().await;
    let (engine, superuser) = (database.engine().await, database.superuser().await);
    with_account(&engine).await;
    for (entity, table, ..) in edits() {
        engine
            .batch_execute(&format!(
                "insert into {table} (account_id, keap_id, sync_status) values ('demo', '7', 'completed')"
            ))
            .await
            .expect(entity);
    }
    superuser
        .batch_execute(&format!("insert into sync_account_members values ('demo', '{USER}', 'operator')"))
        .await
        .unwrap();
    // As Supabase does it: the gateway logs in as authenticator, then takes the role of the request.
    let login = format!("keapsync_test_authenticator_{}", std::process::id());
    superuser
        .batch_execute(&format!("create role {login} login noinherit; grant authenticated to {login}"))
        .await
        .unwrap();
    for session in ["reset session authorization".to_owned(), format!("set session authorization {login}")] {
        for (entity, table, assignment, old, new) in edits() {
            superuser
                .batch_execute(&format!(
                    r#"begin; {session}; set local role authenticated; set local timezone = 'Asia/Tokyo';
                       set local request.jwt.claims = '{{"sub":"{USER}"}}';
                       update {table} set {assignment} where keap_id = '7';
                       insert into {table} (account_id, {column}) values ('demo', {value});
                       delete from {table} where keap_id = '7'"#,
                    column = if entity == "tag" { "name" } else { "custom_fields" },
                    value = if entity == "tag" { "'New'" } else { r#"'{"1": "x"}'"# },
                ))
                .await
                .expect(entity);
            superuser.batch_execute("reset role; reset session authorization").await.unwrap();
            let items = json_of(
                &superuser,
                &format!(
                    "select jsonb_agg(jsonb_build_array(operation, payload) order by sequence) as items from sync_queue
                     where entity_type = '{entity}' and (operation <> 'delete' or payload -> 'old' = '{{\"deleted_at\": null}}')"
                ),
            )
            .await;
            let created =
                if entity == "tag" { json!({"name": "New"}) } else { json!({"custom_fields": {"1": "x"}}) };
            assert_eq!(items["items"][0], json!(["update", {"old": old, "new": new}]), "{entity}");
            assert_eq!(items["items"][1], json!(["create", {"old": {}, "new": created}]), "{entity}");
            assert_eq!(items["items"][2][0], "delete", "{entity}");
            let audit = json_of(
                &superuser,
                &format!(
                    "select array_agg(distinct user_id) as users, array_agg(operation order by id) as operations
                     from sync_audit_log where entity_type = '{entity}'"
                ),
            )
            .await;
            assert_eq!(
                audit,
                json!({"users": [USER], "operations": ["update", "create", "delete"]}),
                "{entity}"
            );
            let row = json_of(
                &superuser,
                &format!(
                    "select sync_status, updated_by::text, deleted_by::text from {table} where keap_id = '7'"
                ),
            )
            .await;
            assert_eq!(
                row,
                json!({"sync_status": "pending", "updated_by": USER, "deleted_by": USER}),
                "{entity}"
            );
            superuser.batch_execute("rollback").await.unwrap();
        }
    }
    superuser.batch_execute(&format!("drop role {login}")).await.unwrap();
}

#[tokio::test]
async fn what_the_engine_writes_is_captured_on_no_table() {
    let database = TestDatabase::migrated().await;
    let engine = database.engine().await;
    with_account(&engine).await;
    for (entity, table, assignment, ..) in edits() {
        engine
            .batch_execute(&format!(
                "insert into {table} (account_id, keap_id) values ('demo', '7');
                 update {table} set {assignment};
                 update {table} set deleted_at = now();
                 delete from {table}"
            ))
            .await
            .expect(entity);
    }
    for table in [
        "sync_queue",
        "sync_audit_log",
        "sync_status",
        "sync_contacts",
        "sync_orders",
        "sync_tags",
        "sync_subscriptions",
    ] {
        assert_eq!(count(&engine, table).await, 0, "{table}");
    }
}

/// The columns that capture names, table by table: the fields of the schema, and `deleted_at`.
#[tokio::test]
async fn capture_names_the_fields_of_the_schema() {
    let database = TestDatabase::migrated().await;
    let person = database.person().await;
    for (entity, table, ..) in edits() {
        for trigger in ["capture_insert", "capture_update"] {
            let named: Vec<String> = person
                .query_one(
                    "select array(select compared[1] from regexp_matches(prosrc, 'if new\\.(\\w+) is distinct from old\\.\\1 then', 'g') as compared)
                     from pg_trigger join pg_proc on pg_proc.oid = tgfoid where tgrelid = $1::text::regclass and tgname = $2::text",
                    &[&table, &trigger],
                )
                .await
                .unwrap()
                .get(0);
            let kind = EntityType::from_name(entity).expect("the kind is known");
            let mut expected: Vec<&str> =
                keapsync_domain::schema::fields(kind).iter().map(|field| field.name).collect();
            expected.push("deleted_at");
            assert_eq!(named, expected, "{trigger} of {table}");
        }
    }
}

/// The tables' checks would be read anew with every captured edit, so the engine's policies are what refuses such rows.
#[tokio::test]
async fn the_engine_writes_no_queue_item_and_no_status_that_makes_no_sense() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    loaded(&engine).await;
    person.batch_execute("update sync_contacts set first_name = 'Anna'").await.expect("the edit is captured");
    for (table, assignment) in [
        ("sync_queue", "operation = 'upsert'"),
        ("sync_queue", "status = 'done'"),
        ("sync_queue", "status = 'processing'"),
        ("sync_queue", "leased_until = now()"),
        ("sync_queue", "entity_id = null"),
        ("sync_status", "sync_direction = 'both'"),
        ("sync_status", "base = '[]'"),
        ("sync_status", "base_hash = 'short'"),
        ("sync_status", "keap_hash = 'short'"),
        ("sync_status", "conflict_status = 'open'"),
        ("sync_status", "supabase_id = gen_random_uuid()"),
    ] {
        let refused = engine
            .batch_execute(&format!("update {table} set {assignment}"))
            .await
            .expect_err("the policy refuses it");
        assert_eq!(
            refused.code(),
            Some(&SqlState::INSUFFICIENT_PRIVILEGE),
            "{table} {assignment}: {refused:?}"
        );
    }
    for (table, assignment) in [
        ("sync_queue", "status = 'processing', leased_until = now()"),
        ("sync_queue", "status = 'failed', leased_until = null, operation = 'sync', entity_id = null"),
        (
            "sync_status",
            "sync_direction = null, base = null, base_hash = null, keap_hash = null, conflict_status = 'pending'",
        ),
    ] {
        engine
            .batch_execute(&format!("update {table} set {assignment}"))
            .await
            .expect("such rows are written");
    }
}

/// A decision may leave the row as it is, so that no edit is captured, and still owe Keap something.
#[tokio::test]
async fn a_decision_about_a_conflict_wakes_the_workers_where_pg_net_is_there() {
    let database = TestDatabase::migrated().await;
    let (engine, person, superuser) =
        (database.engine().await, database.person().await, database.superuser().await);
    loaded(&engine).await;
    superuser
        .batch_execute(
            "create schema net; grant usage on schema net to public;
             create table net.requests (url text); grant insert on net.requests to public;
             create function net.http_post(url text, body jsonb default '{}', params jsonb default '{}',
                 headers jsonb default '{}', timeout_milliseconds integer default 5000) returns bigint
                 language sql as 'insert into net.requests values (url) returning 1::bigint';
             create schema vault; grant usage on schema vault to public;
             create table vault.decrypted_secrets (name text, decrypted_secret text);
             grant select on vault.decrypted_secrets to public;
             insert into vault.decrypted_secrets values ('keapsync_coordinator_url', 'https://coordinator.example'),
                 ('keapsync_wake_token', 'hush')",
        )
        .await
        .expect("the stand-in is made");
    engine
        .batch_execute(
            "insert into sync_conflicts (account_id, entity_type, entity_id, conflict_fields)
             select account_id, 'contact', id, array[field] from sync_contacts, unnest(array['email', 'phone']) as field",
        )
        .await
        .expect("the conflicts are recorded");
    engine
        .batch_execute("update sync_conflicts set resolved_at = now() where conflict_fields = '{email}'")
        .await
        .expect("the engine settles one");
    assert_eq!(count(&superuser, "net.requests").await, 0, "what the engine settles it carries over itself");
    person
        .batch_execute("update sync_conflicts set resolution_notes = 'x'")
        .await
        .expect("a note is written");
    assert_eq!(count(&superuser, "net.requests").await, 0, "nothing was decided");
    person
        .batch_execute("update sync_conflicts set resolved_at = now() where resolved_at is null")
        .await
        .expect("a person settles the other one");
    assert_eq!(
        json_of(&superuser, "select url from net.requests").await,
        json!({"url": "https://coordinator.example/coordinator/demo/wake"})
    );
}
