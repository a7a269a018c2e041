//! Reading and settling conflicts through the store, and the upkeep.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test ends at the first thing that is not as it should be"
)]

use crate::support::{TestDatabase, account, batch, insert_as, update_of, with_account};
use keapsync_domain::failure::FailureClass;
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_domain::policy::Policy;
use keapsync_engine::ports::{ConflictRecord, MirrorStore, OutboxStore, RemoteKey, RowState, RowWrite};
use keapsync_store::{Resolution, Store};
use serde_json::{Value, json};
use tokio_postgres::Client;

/// A record of each kind with one open conflict.
async fn in_conflict(engine: &Client) {
    with_account(engine).await;
    let store = Store::new(engine);
    for (entity, field) in [
        (EntityType::Contact, "first_name"),
        (EntityType::Order, "title"),
        (EntityType::Tag, "name"),
        (EntityType::Subscription, "plan_id"),
    ] {
        let insert = insert_as(entity, "7", &json!({field: "ours"}));
        store.write(&account(), entity, &batch(vec![insert])).await.expect("the record is written");
        let key = RemoteKey { keap_id: "7".to_owned(), keap_hash: String::new(), row_id: None };
        let known = store.read_known(&account(), entity, &[key]).await.expect("the record is read");
        let row = known[0].row.clone().expect("its hash differs");
        let conflict = ConflictRecord {
            field: field.to_owned(),
            base: json!("both"),
            keap: json!("theirs"),
            supabase: json!("ours"),
            policy: Policy::Manual,
            winner: None,
        };
        let write = RowWrite {
            state: RowState::Conflict,
            conflicts: vec![conflict],
            ..update_of(&row, &json!({field: "ours"}))
        };
        store.write(&account(), entity, &batch(vec![write])).await.expect("the conflict is recorded");
    }
}

async fn value(client: &Client, query: &str) -> Value {
    let row = client.query_one(&format!("select to_jsonb(({query}))::text"), &[]).await.expect("it is right");
    serde_json::from_str(row.get(0)).expect("Postgres writes JSON")
}

#[tokio::test]
async fn conflicts_are_listed_page_by_page_and_settled_once() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.pooled().await, database.person().await);
    in_conflict(&engine).await;
    let store = Store::new(&engine);
    let all = store.open_conflicts(&account(), None, None, 10).await.unwrap();
    assert_eq!(all.len(), 4);
    let first = &all[0];
    assert_eq!(
        (first.entity_type.as_str(), first.fields.as_slice()),
        ("contact", ["first_name".to_owned()].as_slice())
    );
    assert_eq!(
        (&first.base, &first.keap, &first.supabase),
        (&json!({"first_name": "both"}), &json!({"first_name": "theirs"}), &json!({"first_name": "ours"}))
    );
    assert_eq!((first.strategy.as_deref(), &first.winner, first.resolved_at), (Some("manual"), &None, None));
    // Two by two is the same list.
    let page = store.open_conflicts(&account(), None, None, 2).await.unwrap();
    let rest = store.open_conflicts(&account(), None, Some(&page[1].id), 10).await.unwrap();
    assert_eq!([page, rest].concat(), all);
    let orders = store.open_conflicts(&account(), Some(EntityType::Order), None, 10).await.unwrap();
    assert_eq!(orders.iter().map(|row| row.entity_type.as_str()).collect::<Vec<_>>(), ["order"]);
    // Another account has none of them.
    let other = AccountId::parse("other").unwrap();
    assert_eq!(store.open_conflicts(&other, None, None, 10).await.unwrap(), []);
    assert_eq!(store.read_conflict(&other, &first.id).await.unwrap(), None);
    let refused =
        store.resolve_conflict(&other, &first.id, Resolution::KeapWins, None, None).await.unwrap_err();
    assert_eq!(refused.class, FailureClass::NotFound);

    for (conflict, resolution, expected) in
        [(&all[0], Resolution::KeapWins, "theirs"), (&all[1], Resolution::SupabaseWins, "ours")]
    {
        let outcome = store
            .resolve_conflict(&account(), &conflict.id, resolution, None, Some("as told"))
            .await
            .unwrap();
        assert_eq!(outcome["value"], json!(expected), "{outcome}");
    }
    let field = all[2].fields[0].as_str();
    let chosen = json!({field: "chosen"});
    store.resolve_conflict(&account(), &all[2].id, Resolution::Manual, Some(&chosen), None).await.unwrap();
    let empty =
        store.resolve_conflict(&account(), &all[3].id, Resolution::Manual, None, None).await.unwrap_err();
    assert_eq!(empty.class, FailureClass::Invalid);
    let again =
        store.resolve_conflict(&account(), &all[0].id, Resolution::KeapWins, None, None).await.unwrap_err();
    assert_eq!(again.class, FailureClass::Conflict);

    let settled = store.read_conflict(&account(), &all[0].id).await.unwrap().unwrap();
    assert_eq!(
        (settled.winner.as_deref(), settled.strategy.as_deref(), settled.notes.as_deref()),
        (Some("keap"), Some("keap_wins"), Some("as told"))
    );
    assert!(settled.resolved_at.is_some());
    assert_eq!(store.open_conflicts(&account(), None, None, 10).await.unwrap(), all[3..]);
    assert_eq!(value(&person, "select first_name from sync_contacts").await, json!("theirs"));
    assert_eq!(value(&person, "select title from sync_orders").await, json!("ours"));
    // What the row now has and Keap has not goes there.
    let items = store.claim(&account(), 10, 60_000, "test").await.unwrap();
    assert_eq!(items.iter().filter(|item| item.entity == EntityType::Order).count(), 1);
    assert_eq!(items.iter().filter(|item| item.entity == EntityType::Contact).count(), 0);
}

#[tokio::test]
async fn upkeep_runs_as_the_engine_and_says_what_it_did() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.pooled().await, database.person().await);
    in_conflict(&engine).await;
    let last = value(&person, "select max(inhrelid::regclass::text) from pg_inherits where inhrelid::regclass::text like '%y____m__'").await;
    person
        .batch_execute(&format!("drop table {}", last.as_str().expect("there is a partition")))
        .await
        .unwrap();
    let reports = Store::new(&engine).maintain(1000).await.unwrap();
    let made: Vec<i64> =
        reports.iter().filter(|report| report.task == "partitions ahead").map(|report| report.rows).collect();
    assert_eq!(made, [1], "{reports:?}");
    assert!(reports.len() > 1, "{reports:?}");
    assert_eq!(
        value(
            &person,
            &format!("select to_regclass('{}') is not null", last.as_str().expect("it is a name"))
        )
        .await,
        json!(true)
    );
    // What is in use stays.
    assert_eq!(value(&person, "select count(*) from sync_contacts").await, json!(1));
    assert_eq!(Store::new(&engine).open_conflicts(&account(), None, None, 10).await.unwrap().len(), 4);
}
