//! Pages of nothing but new records take a short way into the mirror, which leaves there what the way of any page does.

#![allow(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

use crate::support::{TestDatabase, batch, full_record, insert_as, insert_of};
use keapsync_domain::extra::Extra;
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_engine::ports::{MirrorStore, RowState, RowWrite, WriteBatch, WriteSource};
use keapsync_store::{PairedStore, Store};
use serde_json::{Map, Value, json};
use std::pin::pin;
use tokio_postgres::Client;

/// Keap's ids of the records that both ways write.
const BOTH: &str = "keap_id in ('7', '8')";

/// Makes two accounts, each with the contact that the full records are of.
async fn two_accounts(store: &Store<'_>) -> [AccountId; 2] {
    let accounts = ["short-way", "any-way"].map(|id| AccountId::parse(id).expect("an account's name"));
    for account in &accounts {
        store.upsert_account(account, "Test", "active", "{}").await.expect("the account is made");
    }
    accounts
}

/// What is in the mirror of an account's records `7` and `8`, without ids of rows and times of writing.
async fn left_behind(client: &Client, account: &AccountId, entity: EntityType) -> Value {
    let table = format!("sync_{}", entity.plural());
    let contact = if matches!(entity, EntityType::Order | EntityType::Subscription) {
        "(select contact.keap_id from sync_contacts contact where contact.id = mirrored.contact_id)"
    } else {
        "null"
    };
    let sql = format!(
        "with mirrored as (select * from {table} where account_id = '{account}' and {BOTH})
         select jsonb_build_object(
            'rows', (select jsonb_agg(to_jsonb(mirrored) - '{{id,account_id,contact_id,last_synced_at,updated_at}}'::text[]
                || jsonb_build_object('contact', {contact}, 'is_synced', last_synced_at is not null) order by keap_id) from mirrored),
            'status', (select jsonb_agg(to_jsonb(said)
                - '{{account_id,entity_id,supabase_id,last_sync_at,created_at,updated_at}}'::text[]
                || jsonb_build_object('is_of_row', said.supabase_id = mirrored.id, 'is_synced', last_sync_at is not null)
                order by said.keap_id)
                from mirrored join sync_status said on said.entity_id = mirrored.id and said.entity_type = '{entity}'),
            'audit', (select jsonb_agg(to_jsonb(audit) - '{{id,account_id,entity_id,created_at}}'::text[] order by audit.keap_id)
                from mirrored join sync_audit_log audit on audit.entity_id = mirrored.id and audit.entity_type = '{entity}')
         )::text",
        entity = entity.as_str(),
    );
    let row = client.query_one(&sql, &[]).await.expect("the mirror is read");
    serde_json::from_str(row.get(0)).expect("Postgres writes JSON")
}

fn page(entity: EntityType, more: Vec<RowWrite>) -> WriteBatch {
    let extra = Map::from_iter([("score".to_owned(), json!({"deep": [1, null]}))]);
    let extra = Extra::new(&extra).expect("Postgres takes it");
    let bare = RowWrite {
        keap_created_at: None,
        keap_updated_at: None,
        keap_hash: String::new(),
        ..insert_as(entity, "8", &json!({}))
    };
    let mut rows = vec![RowWrite { extra, ..insert_as(entity, "7", &full_record(entity)) }, bare];
    rows.extend(more);
    WriteBatch { run_id: Some("00000000-0000-4000-8000-000000000007".to_owned()), ..batch(rows) }
}

#[tokio::test]
async fn both_ways_leave_the_same_behind() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.pooled().await, database.person().await);
    let store = Store::new(&engine);
    let [short, any] = two_accounts(&store).await;
    for entity in EntityType::ALL {
        let named = full_record(entity).get("keap_contact_id").and_then(Value::as_str).map(str::to_owned);
        for account in [&short, &any] {
            if let Some(keap_id) = &named {
                let contact = batch(vec![insert_of(keap_id, &json!({}))]);
                store.write(account, EntityType::Contact, &contact).await.expect("the contact is written");
            }
        }
        assert_eq!(store.write(&short, entity, &page(entity, Vec::new())).await.unwrap().written, ["7", "8"]);
        // A record that waits for something is no plainly new one, and takes its page the other way.
        let waiting = RowWrite { state: RowState::Pending, ..insert_as(entity, "9", &json!({})) };
        let outcome = store.write(&any, entity, &page(entity, vec![waiting])).await.unwrap();
        assert_eq!(outcome.written, ["7", "8", "9"]);

        let (left, expected) =
            (left_behind(&person, &short, entity).await, left_behind(&person, &any, entity).await);
        let created = |row: &Value| row.pointer("/rows/0/created_at").cloned();
        assert!(created(&left).is_some(), "{left}");
        // The second has no time of creation in Keap: it counts as made now.
        let without_times = |mut value: Value| {
            if let Some(row) = value.pointer_mut("/rows/1").and_then(Value::as_object_mut) {
                row.remove("created_at");
            }
            value
        };
        assert_eq!(without_times(left), without_times(expected), "{entity:?}");
    }
}

#[tokio::test]
async fn a_record_that_is_there_already_costs_its_page_nothing() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.pooled().await, database.person().await);
    let store = Store::new(&engine);
    let [account, _] = two_accounts(&store).await;
    let write = async |ids: &[&str], source: WriteSource| {
        let rows = ids.iter().map(|id| insert_of(id, &json!({"first_name": source.as_str()}))).collect();
        let outcome = store
            .write(&account, EntityType::Contact, &WriteBatch { source, ..batch(rows) })
            .await
            .expect("the page is written");
        (outcome.written, outcome.skipped)
    };
    assert_eq!(write(&["2"], WriteSource::Hook).await.0, ["2"]);
    let (written, skipped) = write(&["1", "2", "3"], WriteSource::FullSync).await;
    assert_eq!(
        (written.as_slice(), skipped.as_slice()),
        (["1", "3"].map(str::to_owned).as_slice(), ["2".to_owned()].as_slice())
    );
    let row = person
        .query_one(
            "select string_agg(first_name, ',' order by keap_id),
                (select count(*) from sync_status), (select count(*) from sync_audit_log) from sync_contacts",
            &[],
        )
        .await
        .unwrap();
    let names: String = row.get(0);
    assert_eq!(
        (names.as_str(), row.get::<_, i64>(1), row.get::<_, i64>(2)),
        ("full_sync,hook,full_sync", 3, 3)
    );
}

#[tokio::test]
async fn pages_that_share_records_are_each_written_once() {
    let database = TestDatabase::migrated().await;
    let engine = database.engine().await;
    let store = Store::new(&engine);
    let [account, _] = two_accounts(&store).await;
    let writer = async |first: u32| {
        let client = database.engine().await;
        let ids = first..first + 40;
        let rows = ids.map(|id| insert_of(&id.to_string(), &json!({}))).collect();
        let outcome = Store::new(&client).write(&account, EntityType::Contact, &batch(rows)).await;
        let outcome = outcome.expect("the page is written");
        assert_eq!((outcome.written.len() + outcome.skipped.len(), outcome.rejected.len()), (40, 0));
        outcome.written.len()
    };
    let (a, b, c, d) = tokio::join!(writer(1), writer(11), writer(21), writer(31));
    let row = engine
        .query_one("select count(*), (select count(*) from sync_status), (select count(*) from sync_audit_log) from sync_contacts", &[])
        .await
        .unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, i64>(2)), (70, 70, 70));
    assert_eq!(a + b + c + d, 70);
}

#[tokio::test]
async fn a_page_that_has_to_wait_holds_up_no_other() {
    let database = TestDatabase::migrated().await;
    let (reads, writes) = (database.engine().await, database.engine().await);
    let store = PairedStore::new(Store::new(&reads), Store::new(&writes));
    let [account, _] = two_accounts(&Store::new(&reads)).await;
    let page = |id: &str| batch(vec![insert_of(id, &json!({}))]);
    let (first, second, third) = (page("1"), page("2"), page("3"));

    // Somebody else is bringing the first page's record, and has not committed it.
    let other = database.engine().await;
    other.batch_execute("begin").await.unwrap();
    let is_written = Store::new(&other).write(&account, EntityType::Contact, &first).await.unwrap().written;
    assert_eq!(is_written, ["1"]);
    let mut waiting = pin!(store.write(&account, EntityType::Contact, &first));
    let passed = tokio::select! {
        biased;
        outcome = &mut waiting => panic!("{outcome:?}"),
        outcome = store.write(&account, EntityType::Contact, &second) => outcome.unwrap(),
    };
    assert_eq!(passed.written, ["2"]);

    other.batch_execute("commit").await.unwrap();
    assert_eq!(waiting.await.unwrap().skipped, ["1"]);
    assert_eq!(store.write(&account, EntityType::Contact, &third).await.unwrap().written, ["3"]);
}
