//! What the tests of the merge in SQL share: reading rows as JSON, records of Keap, a contact in conflict, people.

#![allow(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

use crate::support::{TestDatabase, account, batch, insert_of, with_account};
use keapsync_domain::ids::EntityType;
use keapsync_engine::ports::MirrorStore;
use keapsync_store::Store;
use serde_json::{Value, json};
use tokio_postgres::{Client, Error};

/// The rows of a query as JSON.
pub async fn json_of(client: &Client, query: &str) -> Value {
    let row = client
        .query_one(&format!("select coalesce(jsonb_agg(to_jsonb(x)), '[]')::text from ({query}) x"), &[])
        .await
        .expect("the query is right");
    serde_json::from_str(row.get(0)).expect("Postgres writes JSON")
}

/// One contact whose fields are changed on both sides to other values under the policy manual.
pub async fn in_conflict(database: &TestDatabase) -> (Client, Client) {
    let (engine, person) = (database.engine().await, database.person().await);
    with_account(&engine).await;
    engine
        .batch_execute("update sync_accounts set settings = '{\"policies\": {\"default\": \"manual\"}}'")
        .await
        .expect("the policy is set");
    let base = json!({
        "first_name": "Ann", "last_name": "Lee", "email": "ann@example.com",
        "addresses": [{"field": "BILLING", "line1": "1 Main", "locality": "Mesa"}, {"field": "OTHER", "line1": "9 Back"}],
        "custom_fields": {"12": ["a", "b"], "13": "x"},
    });
    let keap = json!({
        "first_name": "Keap", "last_name": "Lee", "email": "ann@example.com",
        "addresses": [{"field": "BILLING", "line1": "2 Main", "locality": "Mesa"}, {"field": "OTHER", "line1": "9 Back"}],
        "custom_fields": {"12": ["a", "c"], "13": "x"},
    });
    loaded(&engine, &base).await;
    person
        .batch_execute(
            "update sync_contacts set first_name = 'Row', job_title = 'Boss',
                addresses = '[{\"field\": \"BILLING\", \"line1\": \"1 Main\", \"locality\": \"Tempe\"}, {\"field\": \"OTHER\", \"line1\": \"9 Back\"}]',
                custom_fields = '{\"12\": [\"b\", \"d\"], \"13\": \"x\"}'",
        )
        .await
        .expect("a person edits");
    detected(&engine, &keap).await;
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

/// Contact 7 of Keap, as a first load leaves it.
pub async fn loaded(engine: &Client, record: &Value) {
    let outcome = Store::new(engine)
        .write(&account(), EntityType::Contact, &batch(vec![insert_of("7", record)]))
        .await
        .expect("the contact is written");
    assert_eq!(outcome.written, ["7"]);
}

/// Compares the only contact with Keap's record, as the sync has it now, and answers the conflict that was recorded.
pub async fn detected(engine: &Client, record: &Value) -> String {
    engine
        .query_one(
            "select detect_sync_conflict('demo', 'contact', id, $1::text::jsonb)::text from sync_contacts",
            &[&record.to_string()],
        )
        .await
        .expect("the row is compared")
        .get(0)
}

/// The only conflict of a field.
pub async fn conflict_of(client: &Client, field: &str) -> String {
    client
        .query_one("select id::text from sync_conflicts where conflict_fields = array[$1]", &[&field])
        .await
        .expect("there is one conflict of the field")
        .get(0)
}

/// Settles a conflict.
pub async fn resolve(
    client: &Client,
    id: &str,
    strategy: &str,
    values: Option<Value>,
) -> Result<Value, Error> {
    let values = values.map(|values| values.to_string());
    let row = client
        .query_one(
            "select resolve_sync_conflict($1::text::uuid, $2, $3::text::jsonb, 'said so')::text",
            &[&id, &strategy, &values],
        )
        .await?;
    Ok(serde_json::from_str(row.get(0)).expect("Postgres writes JSON"))
}

/// The error's SQLSTATE, and whether it comes with a hint.
pub fn code(error: &Error) -> (&str, bool) {
    let error = error.as_db_error().expect("the server refused");
    (error.code().code(), error.hint().is_some())
}

/// A session as Supabase's API makes one for a signed-in user.
pub async fn signed_in(database: &TestDatabase, user: &str, app_metadata: Value) -> Client {
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
