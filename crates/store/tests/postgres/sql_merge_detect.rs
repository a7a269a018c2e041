//! Conflicts detected in SQL.

#![allow(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

use crate::sql_merge_support::{json_of, loaded};
use crate::support::{TestDatabase, account, batch, insert_as, with_account, with_other_account};
use keapsync_domain::ids::EntityType;
use keapsync_engine::ports::MirrorStore;
use keapsync_store::Store;
use serde_json::{Value, json};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// Asks for the conflict of the contact with Keap id 7.
async fn detected(engine: &Client, keap: &Value) -> Option<String> {
    engine
        .query_one(
            "select detect_sync_conflict('demo', 'contact', (select id from sync_contacts where keap_id = '7'), $1::text::jsonb)::text",
            &[&keap.to_string()],
        )
        .await
        .expect("the row is there")
        .get(0)
}

#[tokio::test]
async fn only_what_both_sides_changed_is_a_conflict() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    with_account(&engine).await;
    loaded(&engine, &json!({"first_name": "Ann", "last_name": "Lee"})).await;
    assert_eq!(detected(&engine, &json!({"first_name": "Ann", "last_name": "Li"})).await, None);
    person.batch_execute("update sync_contacts set first_name = 'Anna'").await.unwrap();
    assert_eq!(detected(&engine, &json!({"first_name": "Ann", "last_name": "Li"})).await, None);
    assert_eq!(detected(&engine, &json!({"first_name": " Anna", "last_name": "Li"})).await, None);
    assert_eq!(json_of(&engine, "select * from sync_conflicts").await, json!([]));
    assert_eq!(
        json_of(&engine, "select sync_status from sync_contacts").await,
        json!([{"sync_status": "pending"}])
    );

    let found =
        detected(&engine, &json!({"first_name": "Hanna", "last_name": "Li"})).await.expect("a conflict");
    let recorded = json_of(
        &engine,
        "select id, conflict_fields, base_data, keap_data, supabase_data, winner, resolved_at, resolution_strategy, keap_id from sync_conflicts",
    )
    .await;
    assert_eq!(
        recorded,
        json!([{
            "id": found, "conflict_fields": ["first_name"], "base_data": {"first_name": "Ann"}, "keap_data": {"first_name": "Hanna"},
            "supabase_data": {"first_name": "Anna"}, "winner": null, "resolved_at": null, "resolution_strategy": "newest_wins", "keap_id": "7",
        }])
    );
    assert_eq!(
        json_of(&engine, "select c.sync_status, c.sync_error, s.conflict_status from sync_contacts c join sync_status s on s.entity_id = c.id").await,
        json!([{"sync_status": "conflict", "sync_error": "conflict: decide about first_name", "conflict_status": "pending"}])
    );
    // The same again writes nothing; another value of Keap refreshes the same conflict.
    let version = json_of(&engine, "select version from sync_contacts").await;
    assert_eq!(detected(&engine, &json!({"first_name": "Hanna"})).await, Some(found.clone()));
    assert_eq!(json_of(&engine, "select version from sync_contacts").await, version);
    assert_eq!(detected(&engine, &json!({"first_name": "Johanna"})).await, Some(found));
    assert_eq!(
        json_of(&engine, "select keap_data, count(*) over () as count from sync_conflicts").await,
        json!([{"keap_data": {"first_name": "Johanna"}, "count": 1}])
    );
}

#[tokio::test]
async fn a_given_row_takes_the_place_of_the_row() {
    let database = TestDatabase::migrated().await;
    let engine = database.engine().await;
    with_account(&engine).await;
    loaded(&engine, &json!({"first_name": "Ann"})).await;
    let found: Option<String> = engine
        .query_one(
            "select detect_sync_conflict('demo', 'contact', id, '{\"first_name\": \"A\"}', '{\"first_name\": \"B\"}')::text from sync_contacts",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    assert!(found.is_some());
    assert_eq!(
        json_of(&engine, "select base_data, supabase_data from sync_conflicts").await,
        json!([{"base_data": {"first_name": "Ann"}, "supabase_data": {"first_name": "B"}}])
    );
}

#[tokio::test]
async fn a_thousand_records_are_checked_in_one_statement() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    with_account(&engine).await;
    let rows = (1..=1000)
        .map(|number| {
            let values = json!({"title": format!("Order {number}"), "total_amount": "12.5", "order_date": "2026-03-01T10:00:00Z"});
            insert_as(EntityType::Order, &number.to_string(), &values)
        })
        .collect();
    let outcome = Store::new(&engine)
        .write(&account(), EntityType::Order, &batch(rows))
        .await
        .expect("the orders are written");
    assert_eq!(outcome.written.len(), 1000);
    person
        .batch_execute("update sync_orders set title = 'Mine' where keap_id in ('10', '20', '30')")
        .await
        .unwrap();
    let found = json_of(
        &engine,
        "select o.keap_id, d.conflict_fields, d.conflict_id is not null as known
         from detect_sync_conflicts('demo', 'order', array(
            select jsonb_build_object('entity_id', id, 'keap_data', jsonb_build_object('title',
                case when keap_id in ('10', '30', '40') then 'Theirs' else 'Order ' || keap_id end,
                'total_amount', 12.5, 'order_date', '2026-03-01T12:00:00+02:00'))
            from sync_orders)) d
         join sync_orders o on o.id = d.entity_id where d.conflict_id is not null order by o.keap_id",
    )
    .await;
    assert_eq!(
        found,
        json!([
            {"keap_id": "10", "conflict_fields": ["title"], "known": true},
            {"keap_id": "30", "conflict_fields": ["title"], "known": true},
        ])
    );
    let states =
        json_of(&engine, "select sync_status, count(*) from sync_orders group by 1 order by 1").await;
    assert_eq!(
        states,
        json!([{"sync_status": "completed", "count": 997}, {"sync_status": "conflict", "count": 2}, {"sync_status": "pending", "count": 1}])
    );
}

#[tokio::test]
async fn unknown_rows_and_accounts_are_named() {
    let database = TestDatabase::migrated().await;
    let engine = database.engine().await;
    with_account(&engine).await;
    loaded(&engine, &json!({})).await;
    for (statement, code) in [
        ("select detect_sync_conflict('demo', 'contact', gen_random_uuid(), '{}')", "P0002"),
        ("select detect_sync_conflict('nobody', 'contact', gen_random_uuid(), '{}')", "23503"),
        ("select detect_sync_conflict('demo', 'invoice', gen_random_uuid(), '{}')", "22023"),
        ("select detect_sync_conflict('demo', 'contact', (select id from sync_contacts), '[]')", "22023"),
    ] {
        let error = engine.batch_execute(statement).await.expect_err(statement);
        assert_eq!(error.code().map(SqlState::code), Some(code), "{statement}: {error:?}");
    }
    // Another account's row is not this one's.
    with_other_account(&engine).await;
    let error = engine
        .batch_execute(
            "select detect_sync_conflict('other', 'contact', (select id from sync_contacts), '{}')",
        )
        .await
        .expect_err("the row is of demo");
    assert_eq!(error.code().map(SqlState::code), Some("P0002"));
}
