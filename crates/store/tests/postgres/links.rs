//! Orders and subscriptions find their contact, in whatever order the records arrive.

#![allow(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

use crate::support::{TestDatabase, with_account, with_other_account};
use serde_json::{Value, json};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// The tables that link to a contact, with their kind of record.
const LINKED: [(&str, &str); 2] = [("sync_orders", "order"), ("sync_subscriptions", "subscription")];

/// A query's only row as JSON.
async fn json_of(client: &Client, query: &str) -> Value {
    let row = client
        .query_one(&format!("select to_jsonb(x)::text from ({query}) x"), &[])
        .await
        .expect("the query is right and answers one row");
    serde_json::from_str(row.get(0)).expect("Postgres writes JSON")
}

/// How a row stands: whether it is linked to the contact with its Keap id, and whether anything counted as a write.
async fn link_of(client: &Client, table: &str, keap_id: &str) -> Value {
    json_of(
        client,
        &format!(
            "select contact.keap_id as contact, record.keap_contact_id as wanted, record.version, record.sync_status,
                 record.updated_at = record.created_at as unmoved
             from {table} record left join sync_contacts contact on contact.id = record.contact_id
             where record.keap_id = '{keap_id}'"
        ),
    )
    .await
}

#[tokio::test]
async fn a_record_is_linked_whether_it_comes_before_or_after_its_contact() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    with_account(&engine).await;
    with_other_account(&engine).await;
    for (table, _) in LINKED {
        engine
            .batch_execute(&format!(
                "insert into {table} (account_id, keap_id, keap_contact_id, sync_status)
                     values ('demo', '1', '7', 'completed'), ('demo', '2', '8', 'completed'), ('demo', '3', null, 'completed')"
            ))
            .await
            .unwrap();
    }
    // Another account's contact of the same id is not meant.
    engine
        .batch_execute(
            "insert into sync_contacts (account_id, keap_id, sync_status) values ('demo', '7', 'completed'), ('other', '8', 'completed')",
        )
        .await
        .unwrap();
    for (table, _) in LINKED {
        engine
            .batch_execute(&format!(
                "insert into {table} (account_id, keap_id, keap_contact_id, sync_status) values ('demo', '4', '7', 'completed')"
            ))
            .await
            .unwrap();
        let row = |contact: Value, wanted: Value| json!({"contact": contact, "wanted": wanted, "version": 1, "sync_status": "completed", "unmoved": true});
        assert_eq!(link_of(&person, table, "1").await, row(json!("7"), json!("7")), "{table}");
        assert_eq!(link_of(&person, table, "2").await, row(json!(null), json!("8")), "{table}");
        assert_eq!(link_of(&person, table, "3").await, row(json!(null), json!(null)), "{table}");
        assert_eq!(link_of(&person, table, "4").await, row(json!("7"), json!("7")), "{table}");
    }
    let queued = json_of(&person, "select count(*) from sync_queue").await;
    assert_eq!(queued, json!({"count": 0}), "a link is no edit");

    // A contact that was made here and gets the id that Keap's records name.
    person
        .batch_execute("insert into sync_contacts (account_id, email) values ('demo', 'x@example.com')")
        .await
        .unwrap();
    engine
        .batch_execute("update sync_contacts set keap_id = '8' where email = 'x@example.com'")
        .await
        .unwrap();
    for (table, _) in LINKED {
        let row = link_of(&person, table, "2").await;
        assert_eq!(
            (&row["contact"], &row["version"], &row["unmoved"]),
            (&json!("8"), &json!(1), &json!(true)),
            "{table}"
        );
    }
}

#[tokio::test]
async fn a_record_follows_its_contact_in_keap() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    with_account(&engine).await;
    engine
        .batch_execute("insert into sync_contacts (account_id, keap_id, sync_status) values ('demo', '7', 'completed'), ('demo', '8', 'completed')")
        .await
        .unwrap();
    for (table, _) in LINKED {
        engine
            .batch_execute(&format!(
                "insert into {table} (account_id, keap_id, keap_contact_id, sync_status) values ('demo', '1', '7', 'completed');
                 update {table} set keap_contact_id = '8'"
            ))
            .await
            .unwrap();
        assert_eq!(link_of(&person, table, "1").await["contact"], "8", "{table}");
        // A person's edit of the Keap id does the same, and is an edit.
        person.batch_execute(&format!("update {table} set keap_contact_id = '7'")).await.unwrap();
        let row = link_of(&person, table, "1").await;
        assert_eq!((&row["contact"], &row["sync_status"]), (&json!("7"), &json!("pending")), "{table}");
        person.batch_execute(&format!("update {table} set keap_contact_id = '99'")).await.unwrap();
        assert_eq!(link_of(&person, table, "1").await["contact"], json!(null), "{table}");
        engine.batch_execute(&format!("update {table} set keap_contact_id = null")).await.unwrap();
        assert_eq!(link_of(&person, table, "1").await["contact"], json!(null), "{table}");
    }
}

#[tokio::test]
async fn a_person_links_to_a_contact_of_the_same_account() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    with_account(&engine).await;
    engine
        .batch_execute(
            "insert into sync_accounts (account_id, name, status) values ('other', 'Other', 'active');
             insert into sync_contacts (account_id, keap_id, sync_status) values ('demo', '7', 'completed'), ('other', '8', 'completed')",
        )
        .await
        .unwrap();
    for (table, entity) in LINKED {
        let insert = |keap_id: &str| {
            format!(
                "insert into {table} (account_id, contact_id) select 'demo', id from sync_contacts where keap_id = '{keap_id}'"
            )
        };
        let error = person.batch_execute(&insert("8")).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::FOREIGN_KEY_VIOLATION), "{table}");
        let message = error.as_db_error().expect("the server refused it").message().to_owned();
        assert!(message.starts_with("account demo has no contact"), "{message}");

        person.batch_execute(&insert("7")).await.unwrap();
        let item = json_of(
            &person,
            &format!(
                "select operation, payload -> 'new' as new from sync_queue where entity_type = '{entity}'"
            ),
        )
        .await;
        assert_eq!(item, json!({"operation": "create", "new": {"keap_contact_id": "7"}}), "{table}");
        let error = person
            .batch_execute(&format!(
                "update {table} set contact_id = (select id from sync_contacts where keap_id = '8')"
            ))
            .await
            .unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::FOREIGN_KEY_VIOLATION), "{table}");
    }
}

#[tokio::test]
async fn what_a_person_linked_to_a_new_contact_goes_to_keap_when_that_has_its_id() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    with_account(&engine).await;
    engine
        .batch_execute(
            "insert into sync_contacts (account_id, keap_id, sync_status) values ('demo', '7', 'completed')",
        )
        .await
        .unwrap();
    person
        .batch_execute("insert into sync_contacts (account_id, email) values ('demo', 'new@example.com')")
        .await
        .unwrap();
    let new_contact = "(select id from sync_contacts where email = 'new@example.com')";
    for (table, _) in LINKED {
        engine
            .batch_execute(&format!(
                "insert into {table} (account_id, keap_id, keap_contact_id, sync_status) values ('demo', '1', '7', 'completed')"
            ))
            .await
            .unwrap();
        person
            .batch_execute(&format!(
                "update {table} set contact_id = {new_contact};
                 insert into {table} (account_id, contact_id, keap_contact_id) select 'demo', {new_contact}, '7'"
            ))
            .await
            .unwrap();
        // Nothing is said to Keap yet: there, the record stays with its contact, and the new one has none.
        let row = json_of(
            &person,
            &format!("select array_agg(keap_contact_id order by keap_id) as wanted, min(version) as version, count(contact_id) as linked from {table}"),
        )
        .await;
        assert_eq!(row, json!({"wanted": ["7", null], "version": 1, "linked": 2}), "{table}");
    }
    let updates = "select count(*) as updates from sync_queue where operation = 'update'";
    assert_eq!(json_of(&person, updates).await, json!({"updates": 0}));

    engine
        .batch_execute(
            "update sync_contacts set keap_id = '9', sync_status = 'completed' where keap_id is null",
        )
        .await
        .unwrap();
    for (table, entity) in LINKED {
        let row = json_of(
            &person,
            &format!("select array_agg(keap_contact_id) as wanted, array_agg(distinct sync_status) as states, min(version) as version from {table}"),
        )
        .await;
        assert_eq!(row, json!({"wanted": ["9", "9"], "states": ["pending"], "version": 2}), "{table}");
        let items = json_of(
            &person,
            &format!(
                "select jsonb_agg(payload order by keap_id) as payloads from sync_queue where operation = 'update' and entity_type = '{entity}'"
            ),
        )
        .await;
        let gained = |old: Value| json!({"old": {"keap_contact_id": old}, "new": {"keap_contact_id": "9"}});
        assert_eq!(items["payloads"], json!([gained(json!("7")), gained(json!(null))]), "{table}");
        let known = json_of(
            &person,
            &format!("select jsonb_agg(base order by keap_id) as bases from sync_status where entity_type = '{entity}'"),
        )
        .await;
        assert_eq!(known["bases"], json!([{"keap_contact_id": "7"}, {"keap_contact_id": null}]), "{table}");
        let audited = json_of(
            &person,
            &format!(
                "select count(*) from sync_audit_log where operation = 'update' and entity_type = '{entity}'"
            ),
        )
        .await;
        assert_eq!(audited, json!({"count": 2}), "{table}");
    }
}

#[tokio::test]
async fn purging_a_contact_unlinks_and_keeps_its_records() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    with_account(&engine).await;
    engine
        .batch_execute(
            "insert into sync_contacts (account_id, keap_id, sync_status) values ('demo', '7', 'completed')",
        )
        .await
        .unwrap();
    for (table, _) in LINKED {
        engine
            .batch_execute(&format!(
                "insert into {table} (account_id, keap_id, keap_contact_id, sync_status) values ('demo', '1', '7', 'completed')"
            ))
            .await
            .unwrap();
    }
    engine.batch_execute("delete from sync_contacts").await.unwrap();
    for (table, _) in LINKED {
        assert_eq!(
            link_of(&person, table, "1").await,
            json!({"contact": null, "wanted": "7", "version": 1, "sync_status": "completed", "unmoved": true}),
            "{table}"
        );
    }
    engine
        .batch_execute(
            "insert into sync_contacts (account_id, keap_id, sync_status) values ('demo', '7', 'completed')",
        )
        .await
        .unwrap();
    for (table, _) in LINKED {
        assert_eq!(link_of(&person, table, "1").await["contact"], "7", "{table}");
    }
}
