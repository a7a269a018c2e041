//! What the readable views show, and what they leave out.

#![allow(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

use crate::support::{TestDatabase, with_account};
use serde_json::{Value, json};
use tokio_postgres::Client;

/// The rows of a query as a JSON array.
async fn rows(client: &Client, query: &str) -> Value {
    let row = client
        .query_one(&format!("select coalesce(jsonb_agg(to_jsonb(x)), '[]')::text from ({query}) x"), &[])
        .await
        .expect("the query is right");
    serde_json::from_str(row.get(0)).expect("Postgres writes JSON")
}

/// Two contacts, one of them known by an address only.
async fn with_contacts(engine: &Client) {
    with_account(engine).await;
    engine
        .batch_execute(
            "insert into sync_contacts (account_id, keap_id, first_name, last_name, email, phone, company, sync_status) values
                 ('demo', '1', 'Ann', 'Able', 'ann@example.com', '+1', 'Able Ltd', 'completed'),
                 ('demo', '2', null, null, 'bob@example.com', null, null, 'completed')",
        )
        .await
        .expect("the contacts are inserted");
}

#[tokio::test]
async fn orders_show_their_contact_and_none_that_is_deleted() {
    let database = TestDatabase::migrated().await;
    let engine = database.engine().await;
    with_contacts(&engine).await;
    engine
        .batch_execute(
            "insert into sync_orders (account_id, keap_id, keap_contact_id, order_number, total_amount, sync_status, deleted_at) values
                 ('demo', '1', '1', 'N1', 10.5, 'completed', null), ('demo', '2', '2', 'N2', 1, 'completed', null),
                 ('demo', '3', '99', 'N3', 1, 'completed', null), ('demo', '4', '1', 'N4', 1, 'completed', now())",
        )
        .await
        .unwrap();
    let query =
        "select order_number, contact_name, contact_email, contact_phone, contact_company, keap_contact_id
                 from keap_orders order by order_number";
    let order = |number: &str, name: Value, email: Value, phone: Value, company: Value, contact: &str| {
        json!({"order_number": number, "contact_name": name, "contact_email": email, "contact_phone": phone,
            "contact_company": company, "keap_contact_id": contact})
    };
    assert_eq!(
        rows(&engine, query).await,
        json!([
            order("N1", json!("Ann Able"), json!("ann@example.com"), json!("+1"), json!("Able Ltd"), "1"),
            order("N2", json!(null), json!("bob@example.com"), json!(null), json!(null), "2"),
            order("N3", json!(null), json!(null), json!(null), json!(null), "99"),
        ])
    );
}

#[tokio::test]
async fn a_subscription_is_current_while_it_is_active_and_has_not_ended() {
    let database = TestDatabase::migrated().await;
    let engine = database.engine().await;
    with_contacts(&engine).await;
    engine
        .batch_execute(
            "insert into sync_subscriptions (account_id, keap_id, keap_contact_id, product_name, plan_id, status, end_date, sync_status,
                 deleted_at) values
                 ('demo', '1', '1', 'Gold', '5', 'active', null, 'completed', null),
                 ('demo', '2', '1', 'Gold', '5', 'active', current_date, 'completed', null),
                 ('demo', '3', '1', 'Gold', '5', 'active', current_date - 1, 'completed', null),
                 ('demo', '4', '1', 'Gold', '5', 'inactive', null, 'completed', null),
                 ('demo', '5', '1', 'Gold', '5', 'active', null, 'completed', now())",
        )
        .await
        .unwrap();
    let query = "select keap_id, contact_name, product_name, plan_id from keap_current_subscriptions order by keap_id";
    let current =
        |id: &str| json!({"keap_id": id, "contact_name": "Ann Able", "product_name": "Gold", "plan_id": "5"});
    assert_eq!(rows(&engine, query).await, json!([current("1"), current("2")]));
}

#[tokio::test]
async fn open_conflicts_show_each_field_with_both_values_and_whose_record_it_is() {
    let database = TestDatabase::migrated().await;
    let engine = database.engine().await;
    with_contacts(&engine).await;
    engine
        .batch_execute(
            r#"insert into sync_orders (account_id, keap_id, keap_contact_id, order_number, sync_status) values ('demo', '1', '1', 'N1', 'conflict');
               insert into sync_tags (account_id, keap_id, name, sync_status) values ('demo', '1', 'Gold', 'conflict');
               insert into sync_subscriptions (account_id, keap_id, keap_contact_id, product_name, sync_status) values ('demo', '1', '1', 'Box', 'conflict');
               insert into sync_conflicts (account_id, entity_type, entity_id, keap_id, conflict_fields, base_data, keap_data, supabase_data, resolved_at)
               select 'demo', 'contact', id, '2', array['phone', 'addresses.BILLING'], '{"phone": "1"}'::jsonb, '{"phone": "2", "addresses.BILLING": {"line1": "a"}}'::jsonb,
                   '{"phone": "3", "addresses.BILLING": null}'::jsonb, null::timestamptz from sync_contacts where keap_id = '2'
               union all
               select 'demo', 'order', id, '1', array['notes'], null, '{"notes": "k"}', '{"notes": "s"}', null from sync_orders
               union all
               select 'demo', 'tag', id, '1', array['name'], null, '{"name": "k"}', '{"name": "s"}', null from sync_tags
               union all
               select 'demo', 'subscription', id, '1', array['amount'], null, '{"amount": "1"}', '{"amount": "2"}', null from sync_subscriptions
               union all
               select 'demo', 'contact', id, '1', array['email'], null, '{}', '{}', now() from sync_contacts where keap_id = '1'"#,
        )
        .await
        .unwrap();
    let query = "select entity_type, record_name, contact_name, field, base_value, keap_value, supabase_value
                 from keap_open_conflicts order by entity_type, field";
    assert_eq!(
        rows(&engine, query).await,
        json!([
            {"entity_type": "contact", "record_name": "bob@example.com", "contact_name": null, "field": "addresses.BILLING",
                "base_value": null, "keap_value": {"line1": "a"}, "supabase_value": null},
            {"entity_type": "contact", "record_name": "bob@example.com", "contact_name": null, "field": "phone",
                "base_value": "1", "keap_value": "2", "supabase_value": "3"},
            {"entity_type": "order", "record_name": "N1", "contact_name": "Ann Able", "field": "notes",
                "base_value": null, "keap_value": "k", "supabase_value": "s"},
            {"entity_type": "subscription", "record_name": "Box", "contact_name": "Ann Able", "field": "amount",
                "base_value": null, "keap_value": "1", "supabase_value": "2"},
            {"entity_type": "tag", "record_name": "Gold", "contact_name": null, "field": "name",
                "base_value": null, "keap_value": "k", "supabase_value": "s"},
        ])
    );
}
