//! Keap's records upserted in SQL: bad ones alone, no edit lost, nothing written twice.

#![allow(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

mod sql_merge_support;
mod support;

use serde_json::{Value, json};
use sql_merge_support::json_of;
use support::{TestDatabase, with_account};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// (succeeded, failed, conflicts)
async fn upsert(engine: &Client, kind: &str, records: &[Value]) -> (i32, i32, i32) {
    let texts: Vec<String> = records.iter().map(Value::to_string).collect();
    let row = engine
        .query_one(
            &format!("select * from batch_upsert_{kind}('demo', array(select record::jsonb from unnest($1::text[]) as record))"),
            &[&texts],
        )
        .await
        .expect("the call never fails for a record's sake");
    (row.get(0), row.get(1), row.get(2))
}

/// The number of writes that any table has seen, to prove that a call wrote nothing.
async fn writes(client: &Client) -> Value {
    json_of(
        client,
        "select (select sum(version) from sync_contacts) as versions, (select max(xmin::text::bigint) from sync_contacts) as row,
            (select max(xmin::text::bigint) from sync_status) as status, (select count(*) from sync_audit_log) as audit,
            (select max(xmin::text::bigint) from sync_conflicts) as conflict, (select count(*) from sync_queue) as queue,
            (select count(*) from sync_activity) as activity",
    )
    .await
}

fn ann() -> Value {
    json!({
        "keap_id": "7", "keap_updated_at": "2026-03-01T10:00:00Z", "keap_created_at": "2020-01-01T00:00:00Z", "email": "ann@example.com",
        "first_name": "Ann", "last_name": "Lee", "birth_date": "1985-03-15T00:00:00.000Z", "owner_id": 12, "company": "Acme",
        "emails": [{"field": "EMAIL2", "email": "b@x.org"}], "tags": ["1", "2"], "custom_fields": {"7": "gold"}, "extra": {"score": 5},
    })
}

fn changed(record: &Value, values: &Value) -> Value {
    let mut record = record.clone();
    record
        .as_object_mut()
        .expect("a record is an object")
        .extend(values.as_object().cloned().expect("values are an object"));
    record
}

#[tokio::test]
async fn a_new_record_lands_whole_and_a_second_call_writes_nothing() {
    let database = TestDatabase::migrated().await;
    let engine = database.engine().await;
    with_account(&engine).await;
    assert_eq!(upsert(&engine, "contacts", &[ann()]).await, (1, 0, 0));
    assert_eq!(
        json_of(
            &engine,
            "select keap_id, email, birth_date, owner_id, emails, tags, custom_fields, extra, source_system, sync_status, version,
                extract(year from created_at) as created, keap_updated_at = '2026-03-01T10:00:00Z' as updated from sync_contacts"
        )
        .await,
        json!([{
            "keap_id": "7", "email": "ann@example.com", "birth_date": "1985-03-15", "owner_id": "12",
            "emails": [{"field": "EMAIL2", "email": "b@x.org"}], "tags": ["1", "2"], "custom_fields": {"7": "gold"}, "extra": {"score": 5},
            "source_system": "keap", "sync_status": "completed", "version": 1, "created": 2020, "updated": true,
        }])
    );
    assert_eq!(
        json_of(&engine, "select entity_type, keap_id, has_base, base, base_hash, keap_hash, last_sync_status, conflict_status from sync_status").await,
        json!([{
            "entity_type": "contact", "keap_id": "7", "has_base": true, "base": null, "base_hash": null, "keap_hash": null,
            "last_sync_status": "completed", "conflict_status": "none",
        }])
    );
    assert_eq!(
        json_of(&engine, "select operation, old_data, sync_source from sync_audit_log").await,
        json!([{"operation": "create", "old_data": null, "sync_source": "batch_upsert"}])
    );
    let before = writes(&engine).await;
    assert_eq!(upsert(&engine, "contacts", &[ann()]).await, (1, 0, 0));
    // Spelled otherwise, and without extra: the same record.
    let spelled = changed(
        &ann(),
        &json!({"email": "ann@EXAMPLE.com", "tags": [2, 1], "extra": null, "job_title": " "}),
    );
    assert_eq!(upsert(&engine, "contacts", &[spelled]).await, (1, 0, 0));
    assert_eq!(writes(&engine).await, before);
}

#[tokio::test]
async fn a_change_in_keap_updates_the_row_and_is_audited() {
    let database = TestDatabase::migrated().await;
    let engine = database.engine().await;
    with_account(&engine).await;
    upsert(&engine, "contacts", &[ann()]).await;
    let newer = changed(
        &ann(),
        &json!({"keap_updated_at": "2026-03-02T10:00:00Z", "first_name": "Anna", "tags": ["2", "3"], "extra": {"score": 6}}),
    );
    assert_eq!(upsert(&engine, "contacts", &[newer]).await, (1, 0, 0));
    assert_eq!(
        json_of(&engine, "select first_name, tags, extra, version, sync_status from sync_contacts").await,
        json!([{"first_name": "Anna", "tags": ["2", "3"], "extra": {"score": 6}, "version": 2, "sync_status": "completed"}])
    );
    assert_eq!(
        json_of(&engine, "select old_data, changed_fields from sync_audit_log where operation = 'update'")
            .await,
        json!([{"old_data": {"first_name": "Ann", "tags": ["1", "2"], "extra": {"score": 5}}, "changed_fields": ["tags", "extra", "first_name"]}])
    );
    // Older news changes nothing, and is no failure.
    let before = writes(&engine).await;
    assert_eq!(upsert(&engine, "contacts", &[ann()]).await, (1, 0, 0));
    assert_eq!(writes(&engine).await, before);
}

#[tokio::test]
async fn an_unsynced_edit_is_never_overwritten() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    with_account(&engine).await;
    upsert(&engine, "contacts", &[ann()]).await;
    person
        .batch_execute("update sync_contacts set first_name = 'Hanna', tags = '[\"1\", \"2\", \"9\"]'")
        .await
        .unwrap();
    let newer = changed(
        &ann(),
        &json!({"keap_updated_at": "2026-03-02T10:00:00Z", "last_name": "Li", "tags": ["2"]}),
    );
    assert_eq!(upsert(&engine, "contacts", &[newer]).await, (1, 0, 0));
    assert_eq!(
        json_of(&engine, "select first_name, last_name, tags, sync_status from sync_contacts").await,
        json!([{"first_name": "Hanna", "last_name": "Li", "tags": ["2", "9"], "sync_status": "pending"}])
    );
    // What Keap holds is the base now; the edit waits in the outbox as before.
    assert_eq!(
        json_of(&engine, "select base from sync_status").await,
        json!([{"base": {"first_name": "Ann", "tags": ["2"]}}])
    );
    assert_eq!(
        json_of(&engine, "select operation, status from sync_queue").await,
        json!([{"operation": "update", "status": "pending"}])
    );
}

#[tokio::test]
async fn conflicts_are_settled_by_the_policies_of_the_account_and_counted() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    with_account(&engine).await;
    engine
        .batch_execute(
            "update sync_accounts set settings = '{\"policies\": {\"default\": \"newest_wins\",
                \"overrides\": {\"contact.email\": \"manual\", \"contact.last_name\": \"supabase_wins\"}}}'",
        )
        .await
        .unwrap();
    upsert(&engine, "contacts", &[ann()]).await;
    person
        .batch_execute(
            "update sync_contacts set first_name = 'S', last_name = 'S', email = 's@x.org', company = 'S'",
        )
        .await
        .unwrap();
    let newer = changed(
        &ann(),
        &json!({"keap_updated_at": "2100-01-01T00:00:00Z", "first_name": "K", "last_name": "K", "email": "k@x.org"}),
    );
    assert_eq!(upsert(&engine, "contacts", std::slice::from_ref(&newer)).await, (1, 0, 3));
    assert_eq!(
        json_of(
            &engine,
            "select first_name, last_name, email, company, sync_status, sync_error from sync_contacts"
        )
        .await,
        json!([{
            "first_name": "K", "last_name": "S", "email": "s@x.org", "company": "Acme", "sync_status": "conflict",
            "sync_error": "conflict: decide about email",
        }])
    );
    assert_eq!(
        json_of(&engine, "select conflict_fields[1] as field, winner, resolution_strategy as policy, resolved_at is null as open, supabase_data, keap_data, base_data from sync_conflicts order by 1").await,
        json!([
            {"field": "email", "winner": null, "policy": "manual", "open": true, "supabase_data": {"email": "s@x.org"}, "keap_data": {"email": "k@x.org"}, "base_data": {"email": "ann@example.com"}},
            {"field": "first_name", "winner": "keap", "policy": "newest_wins", "open": false, "supabase_data": {"first_name": "S"}, "keap_data": {"first_name": "K"}, "base_data": {"first_name": "Ann"}},
            {"field": "last_name", "winner": "supabase", "policy": "supabase_wins", "open": false, "supabase_data": {"last_name": "S"}, "keap_data": {"last_name": "K"}, "base_data": {"last_name": "Lee"}},
        ])
    );
    assert_eq!(
        json_of(&engine, "select base, conflict_status from sync_status").await,
        json!([{"base": {"last_name": "K", "email": "ann@example.com"}, "conflict_status": "pending"}])
    );
    // What was overridden stands in the audit log.
    assert_eq!(
        json_of(&engine, "select old_data, new_data from sync_audit_log where sync_source = 'batch_upsert' and operation = 'update'").await,
        json!([{"old_data": {"first_name": "S", "company": "S"}, "new_data": {"company": "S"}}])
    );
    // The open conflict is still one, and no news.
    let before = writes(&engine).await;
    assert_eq!(upsert(&engine, "contacts", std::slice::from_ref(&newer)).await, (1, 0, 1));
    assert_eq!(writes(&engine).await, before);
    // Keap takes the row's value: the conflict is over, and the record in step again but for what waits.
    let settled = changed(
        &newer,
        &json!({"keap_updated_at": "2100-01-02T00:00:00Z", "email": "s@x.org", "last_name": "S"}),
    );
    assert_eq!(upsert(&engine, "contacts", &[settled]).await, (1, 0, 0));
    assert_eq!(
        json_of(&engine, "select c.sync_status, s.base, s.conflict_status, (select count(*) from sync_conflicts where resolved_at is null) as open from sync_contacts c join sync_status s on s.entity_id = c.id").await,
        json!([{"sync_status": "completed", "base": null, "conflict_status": "resolved", "open": 0}])
    );
}

#[tokio::test]
async fn a_deleted_row_follows_the_rules_of_deletes() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    with_account(&engine).await;
    let bob = changed(&ann(), &json!({"keap_id": "8"}));
    let cid = changed(&ann(), &json!({"keap_id": "9"}));
    upsert(&engine, "contacts", &[ann(), bob.clone(), cid.clone()]).await;
    person.batch_execute("delete from sync_contacts where keap_id in ('7', '8')").await.unwrap();
    engine.batch_execute("update sync_contacts set deleted_at = now() where keap_id = '9'").await.unwrap();
    let newer = |record: &Value, values: &Value| {
        changed(&changed(record, &json!({"keap_updated_at": "2026-03-02T10:00:00Z"})), values)
    };
    // Ann was not edited in Keap since: the tombstone holds. Bob was, and Cid is back: both live again.
    let records =
        [newer(&ann(), &json!({})), newer(&bob, &json!({"first_name": "Bob"})), newer(&cid, &json!({}))];
    assert_eq!(upsert(&engine, "contacts", &records).await, (3, 0, 1));
    assert_eq!(
        json_of(&engine, "select keap_id, deleted_at is not null as deleted, first_name from sync_contacts order by keap_id").await,
        json!([
            {"keap_id": "7", "deleted": true, "first_name": "Ann"},
            {"keap_id": "8", "deleted": false, "first_name": "Bob"},
            {"keap_id": "9", "deleted": false, "first_name": "Ann"},
        ])
    );
    assert_eq!(
        json_of(&engine, "select keap_id, operation from sync_audit_log where sync_source = 'batch_upsert' and operation <> 'create' order by keap_id").await,
        json!([{"keap_id": "8", "operation": "undelete"}, {"keap_id": "9", "operation": "undelete"}])
    );
    assert_eq!(
        json_of(&engine, "select keap_id, conflict_fields, winner from sync_conflicts").await,
        json!([{"keap_id": "8", "conflict_fields": ["deleted_at"], "winner": "keap"}])
    );
}

#[tokio::test]
async fn bad_records_fail_alone_and_say_why() {
    let database = TestDatabase::migrated().await;
    let engine = database.engine().await;
    with_account(&engine).await;
    let good: Vec<Value> = (100..150).map(|id| changed(&ann(), &json!({"keap_id": id}))).collect();
    let bad = [
        (json!(5), "the record is no JSON object"),
        (json!({"first_name": "Ann"}), "keap_id is no id of Keap"),
        (json!({"keap_id": "7a"}), "keap_id is no id of Keap"),
        (
            json!({"keap_id": "1", "keap_updated_at": "yesterday"}),
            "keap_updated_at is no time with an offset",
        ),
        (json!({"keap_id": "2", "birth_date": "1985-02-30"}), "birth_date is no date"),
        (json!({"keap_id": "3", "birth_date": "0000-01-01"}), "birth_date is no date"),
        (json!({"keap_id": "4", "email": "x".repeat(10_000)}), "email is too long"),
        (json!({"keap_id": "5", "emails": {"field": "EMAIL2"}}), "emails is no JSON array"),
        (json!({"keap_id": "6", "custom_fields": []}), "custom_fields is no JSON object"),
        (json!({"keap_id": "7", "first_name": {"a": 1}}), "first_name is no text"),
        (json!({"keap_id": "8", "emial": "typo"}), "emial is no column"),
        (json!({"keap_id": "9", "extra": "x"}), "extra is no JSON object"),
        // No check foresees what an index takes.
        (
            json!({"keap_id": "10", "last_name": "ä😀".repeat(450), "first_name": (0..900).map(|n| char::from_u32(0x4e00 + n * 7).unwrap_or('x')).collect::<String>()}),
            "Postgres refused the record: a value is too large",
        ),
    ];
    let mut records: Vec<Value> = good.clone();
    for (position, (record, _)) in bad.iter().enumerate() {
        records.insert(position * 3, record.clone());
    }
    let failed = i32::try_from(bad.len()).unwrap();
    assert_eq!(upsert(&engine, "contacts", &records).await, (50, failed, 0));
    assert_eq!(json_of(&engine, "select count(*) from sync_contacts").await, json!([{"count": 50}]));
    let listed = json_of(&engine, "select operation, status, priority, error_class, keap_id, error_message from sync_queue order by length(keap_id), keap_id").await;
    let listed = listed.as_array().unwrap();
    for (record, reason) in &bad {
        let keap_id = record.get("keap_id").and_then(Value::as_str);
        let item =
            listed.iter().find(|item| item["keap_id"].as_str() == keap_id).expect("the record is listed");
        let message = item["error_message"].as_str().unwrap();
        // Records without an id share one row, which tells of the last.
        assert!(message.starts_with(reason) || keap_id.is_none(), "{keap_id:?}: {message}");
        assert!(message.ends_with(". Correct the record in Keap; it is read again then."), "{message}");
        assert_eq!(
            (
                item["operation"].as_str(),
                item["status"].as_str(),
                item["error_class"].as_str(),
                item["priority"].as_i64()
            ),
            (Some("sync"), Some("failed"), Some("invalid"), Some(1))
        );
    }
    // Met again, they are counted in the same rows; corrected, they are done.
    assert_eq!(upsert(&engine, "contacts", &[bad[4].0.clone()]).await, (0, 1, 0));
    assert_eq!(
        json_of(&engine, "select count(*), max(attempts) as attempts from sync_queue where keap_id = '2'")
            .await,
        json!([{"count": 1, "attempts": 2}])
    );
    assert_eq!(
        upsert(&engine, "contacts", &[json!({"keap_id": "2", "birth_date": "1985-02-28"})]).await,
        (1, 0, 0)
    );
    assert_eq!(
        json_of(&engine, "select status from sync_queue where keap_id = '2'").await,
        json!([{"status": "completed"}])
    );
}

#[tokio::test]
async fn of_several_with_one_id_the_last_counts() {
    let database = TestDatabase::migrated().await;
    let engine = database.engine().await;
    with_account(&engine).await;
    let records = ["A", "B", "C"].map(|name| changed(&ann(), &json!({"first_name": name})));
    assert_eq!(upsert(&engine, "contacts", &records).await, (3, 0, 0));
    assert_eq!(
        json_of(&engine, "select first_name, version from sync_contacts").await,
        json!([{"first_name": "C", "version": 1}])
    );
    let empty: &[Value] = &[];
    assert_eq!(upsert(&engine, "contacts", empty).await, (0, 0, 0));
}

#[tokio::test]
async fn orders_tags_and_subscriptions_take_their_own_values() {
    let database = TestDatabase::migrated().await;
    let engine = database.engine().await;
    with_account(&engine).await;
    let order = json!({
        "keap_id": "1", "keap_contact_id": "7", "title": "Tea", "order_date": "2026-03-01T12:00:00+02:00", "total_amount": "12.50",
        "due_amount": 3, "currency": "USD", "line_items": [{"id": "1", "name": "Tea"}], "shipping_address": {"line1": "x"},
    });
    let bad_orders = [
        (json!({"keap_id": "2", "total_amount": "123456789012"}), "total_amount is no amount"),
        (json!({"keap_id": "3", "total_amount": "1.2345"}), "total_amount is no amount"),
        (json!({"keap_id": "4", "order_date": "2026-03-01T25:00:00Z"}), "order_date is no time"),
        (json!({"keap_id": "5", "keap_contact_id": "seven"}), "keap_contact_id is no id"),
        (json!({"keap_id": "6", "currency": "Euro"}), "currency is no currency code"),
        (json!({"keap_id": "7", "shipping_address": "x"}), "shipping_address is no JSON object"),
    ];
    let mut orders = vec![order.clone()];
    orders.extend(bad_orders.iter().map(|(record, _)| record.clone()));
    assert_eq!(upsert(&engine, "orders", &orders).await, (1, 6, 0));
    for (record, reason) in &bad_orders {
        let keap_id = record["keap_id"].as_str().unwrap();
        let message: String = engine
            .query_one(
                "select error_message from sync_queue where entity_type = 'order' and keap_id = $1",
                &[&keap_id],
            )
            .await
            .unwrap()
            .get(0);
        assert!(message.starts_with(reason), "{message}");
    }
    assert_eq!(
        json_of(&engine, "select title, order_date = '2026-03-01T10:00:00Z' as at, total_amount, due_amount, currency from sync_orders").await,
        json!([{"title": "Tea", "at": true, "total_amount": 12.500, "due_amount": 3.000, "currency": "USD"}])
    );
    assert_eq!(upsert(&engine, "orders", &[order]).await, (1, 0, 0));
    assert_eq!(json_of(&engine, "select version from sync_orders").await, json!([{"version": 1}]));
    // The order finds its contact when that arrives.
    upsert(&engine, "contacts", &[ann()]).await;
    assert_eq!(
        json_of(&engine, "select o.contact_id = c.id as linked from sync_orders o, sync_contacts c").await,
        json!([{"linked": true}])
    );

    assert_eq!(
        upsert(&engine, "tags", &[json!({"keap_id": "3", "name": "VIP", "category": "A", "category_id": 4})])
            .await,
        (1, 0, 0)
    );
    engine.batch_execute("update sync_tags set color = 'red'").await.unwrap();
    assert_eq!(
        upsert(&engine, "tags", &[json!({"keap_id": "3", "name": "VIPs", "custom_fields": null})]).await,
        (1, 0, 0)
    );
    assert_eq!(
        json_of(&engine, "select name, category, category_id, color from sync_tags").await,
        json!([{"name": "VIPs", "category": null, "category_id": null, "color": "red"}])
    );

    let subscription = json!({
        "keap_id": "9", "keap_contact_id": "7", "status": "active", "start_date": "2026-01-01", "amount": "10", "quantity": "2",
        "billing_frequency": 1, "auto_charge": false,
    });
    assert_eq!(
        upsert(&engine, "subscriptions", &[subscription.clone(), subscription.clone()]).await,
        (2, 0, 0)
    );
    assert_eq!(
        json_of(&engine, "select status, start_date, amount, quantity, billing_frequency, auto_charge, contact_id is not null as linked from sync_subscriptions").await,
        json!([{"status": "active", "start_date": "2026-01-01", "amount": 10.000, "quantity": 2, "billing_frequency": 1, "auto_charge": false, "linked": true}])
    );
    let bad = [
        changed(&subscription, &json!({"keap_id": "10", "status": "paused"})),
        changed(&subscription, &json!({"keap_id": "11", "quantity": 1.5})),
        changed(&subscription, &json!({"keap_id": "12", "auto_charge": "yes"})),
    ];
    assert_eq!(upsert(&engine, "subscriptions", &bad).await, (0, 3, 0));
}

#[tokio::test]
async fn a_record_finds_the_row_it_was_made_from() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    with_account(&engine).await;
    let row_id: String = person
        .query_one(
            "insert into sync_contacts (account_id, first_name, company, tags) values ('demo', 'Ann', 'Mine', '[\"1\"]') returning id::text",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    // The create carried the name, not the company and the tags; two records that name one row are still two.
    let made = json!({"keap_id": "7", "row_id": row_id.to_uppercase(), "first_name": "Ann", "tags": ["2"]});
    let copied = json!({"keap_id": "8", "row_id": row_id, "first_name": "Copy"});
    let odd = json!({"keap_id": "9", "row_id": "no id", "first_name": "Odd"});
    let records = [copied, made, odd];
    assert_eq!(upsert(&engine, "contacts", &records).await, (3, 0, 0));
    let found = json_of(
        &engine,
        "select keap_id, first_name, company, tags, sync_status, source_system from sync_contacts order by keap_id",
    )
    .await;
    assert_eq!(
        found,
        json!([
            {"keap_id": "7", "first_name": "Ann", "company": null, "tags": ["1", "2"], "sync_status": "error", "source_system": "supabase"},
            {"keap_id": "8", "first_name": "Copy", "company": null, "tags": null, "sync_status": "completed", "source_system": "keap"},
            {"keap_id": "9", "first_name": "Odd", "company": null, "tags": null, "sync_status": "completed", "source_system": "keap"},
        ])
    );
    assert_eq!(
        json_of(&engine, "select keap_id, has_base, base from sync_status where keap_id = '7'").await,
        json!([{"keap_id": "7", "has_base": true, "base": {"tags": ["2"]}}])
    );
    // Once linked, a row is found by its Keap id alone.
    assert_eq!(upsert(&engine, "contacts", &records).await, (3, 0, 0));
    assert_eq!(json_of(&engine, "select count(*) from sync_contacts").await, json!([{"count": 3}]));
}

#[tokio::test]
async fn a_thousand_records_go_in_one_call() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    with_account(&engine).await;
    let records: Vec<Value> =
        (1..=1_000).map(|id| changed(&ann(), &json!({"keap_id": id.to_string()}))).collect();
    assert_eq!(upsert(&engine, "contacts", &records).await, (1_000, 0, 0));
    person
        .batch_execute("update sync_contacts set job_title = 'Boss' where keap_id::integer % 100 = 0")
        .await
        .unwrap();
    let newer: Vec<Value> = records
        .iter()
        .map(|record| changed(record, &json!({"keap_updated_at": "2026-03-02T10:00:00Z", "last_name": "Li"})))
        .collect();
    assert_eq!(upsert(&engine, "contacts", &newer).await, (1_000, 0, 0));
    assert_eq!(
        json_of(&engine, "select last_name, job_title, count(*) from sync_contacts group by 1, 2 order by 3")
            .await,
        json!([{"last_name": "Li", "job_title": "Boss", "count": 10}, {"last_name": "Li", "job_title": null, "count": 990}])
    );
}

#[tokio::test]
async fn only_the_sync_and_only_known_accounts() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    with_account(&engine).await;
    let refused = |error: tokio_postgres::Error| {
        error.as_db_error().map(|error| (error.code().code().to_owned(), error.hint().is_some()))
    };
    let error = person
        .batch_execute("select * from batch_upsert_contacts('demo', '{}')")
        .await
        .expect_err("a person");
    assert_eq!(refused(error), Some(("42501".to_owned(), true)));
    for role in ["anon", "authenticated", "service_role"] {
        let other = database.superuser().await;
        other.batch_execute(&format!("set role {role}")).await.unwrap();
        let error =
            other.batch_execute("select * from batch_upsert_contacts('demo', '{}')").await.expect_err(role);
        assert_eq!(error.code().map(SqlState::code), Some("42501"), "{role}");
    }
    let error = engine
        .batch_execute("select * from batch_upsert_contacts('nobody', '{}')")
        .await
        .expect_err("no account");
    assert_eq!(refused(error), Some(("23503".to_owned(), true)));
    let error = engine
        .batch_execute("select * from batch_upsert_contacts('demo', array_fill('{}'::jsonb, array[10001]))")
        .await
        .expect_err("too many");
    assert_eq!(refused(error), Some(("54000".to_owned(), true)));
}

#[tokio::test]
async fn concurrent_calls_and_edits_lose_nothing() {
    let database = TestDatabase::migrated().await;
    let engine = database.engine().await;
    with_account(&engine).await;
    // Two calls insert the same new records at once; edits come between later ones.
    let records: Vec<Value> =
        (1..=200).map(|id| changed(&ann(), &json!({"keap_id": id.to_string()}))).collect();
    let (first, second) = (database.engine().await, database.engine().await);
    let outcomes = tokio::join!(upsert(&first, "contacts", &records), upsert(&second, "contacts", &records));
    assert_eq!(outcomes, ((200, 0, 0), (200, 0, 0)));
    assert_eq!(
        json_of(&engine, "select count(*), max(version) as version from sync_contacts").await,
        json!([{"count": 200, "version": 1}])
    );

    let person = database.person().await;
    let edits = async {
        for id in 1..=100 {
            person
                .execute(
                    "update sync_contacts set job_title = 'T' || keap_id where keap_id = $1",
                    &[&id.to_string()],
                )
                .await
                .expect("an edit goes through");
        }
    };
    let syncs = async {
        for day in 2..=9 {
            let newer: Vec<Value> = records
                .iter()
                .map(|record| changed(record, &json!({"keap_updated_at": format!("2026-03-0{day}T10:00:00Z"), "last_name": format!("L{day}")})))
                .collect();
            assert_eq!(upsert(&first, "contacts", &newer).await, (200, 0, 0));
        }
    };
    tokio::join!(edits, syncs);
    assert_eq!(
        json_of(
            &engine,
            "select count(*) filter (where job_title = 'T' || keap_id) as edited, count(*) filter (where last_name = 'L9') as synced,
                count(*) filter (where sync_status = 'pending') as pending, (select count(*) from sync_queue) as queued,
                (select count(*) from sync_status where base = '{\"job_title\": null}') as kept from sync_contacts"
        )
        .await,
        json!([{"edited": 100, "synced": 200, "pending": 100, "queued": 100, "kept": 100}])
    );
}
