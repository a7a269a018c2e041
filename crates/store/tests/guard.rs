//! What a page leaves to be carried to Keap is on its way; what is owed and not on its way is queued again; and the blast guard
//! holds back what nobody has approved.

#![allow(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

mod support;

use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_domain::policy::Policy;
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::ports::proof::{GuardStore, Held, Waiting};
use keapsync_engine::ports::{
    ConflictRecord, LocalRow, MirrorStore, OutboxItem, OutboxStore, RemoteKey, RowState, RowWrite,
    WriteBatch, WriteSource,
};
use keapsync_store::Store;
use serde_json::{Map, Value, json};
use support::{TestDatabase, account, batch, full_record, hash, insert_as, update_of, with_account};
use tokio_postgres::Client;

/// Far more than any test queues.
const ALL: usize = 10_000;

/// Longer than any test takes.
const LEASE_MS: i64 = 600_000;

const EDITS: Held = Held { entity: EntityType::Contact, deletes: false };
const DELETES: Held = Held { entity: EntityType::Contact, deletes: true };

async fn made(store: &Store<'_>, entity: EntityType, ids: std::ops::RangeInclusive<i32>) -> Vec<LocalRow> {
    let rows: Vec<RowWrite> =
        ids.clone().map(|id| insert_as(entity, &id.to_string(), &full_record(entity))).collect();
    let outcome = store.write(&account(), entity, &batch(rows)).await.expect("the page is written");
    assert_eq!(outcome.skipped, Vec::<String>::new());
    read(store, entity, ids).await
}

/// Rows by Keap id.
async fn read(store: &Store<'_>, entity: EntityType, ids: std::ops::RangeInclusive<i32>) -> Vec<LocalRow> {
    let keys: Vec<RemoteKey> =
        ids.map(|id| RemoteKey { keap_id: id.to_string(), keap_hash: hash("other"), row_id: None }).collect();
    let known = store.read_known(&account(), entity, &keys).await.expect("rows are read");
    let mut rows: Vec<LocalRow> = known.into_iter().filter_map(|known| known.row).collect();
    rows.sort_by_key(|row| row.keap_id.as_deref().and_then(|id| id.parse::<i32>().ok()));
    assert_eq!(rows.len(), keys.len());
    rows
}

fn delta(values: Value) -> Map<String, Value> {
    match values {
        Value::Object(values) => values,
        _ => Map::new(),
    }
}

fn conflict(field: &str) -> ConflictRecord {
    ConflictRecord {
        field: field.to_owned(),
        base: Value::Null,
        keap: json!("a"),
        supabase: json!("b"),
        policy: Policy::Manual,
        winner: None,
    }
}

/// A write that leaves the row's columns alone.
fn left(row: &LocalRow, state: RowState, base_delta: Value, conflicts: Vec<ConflictRecord>) -> RowWrite {
    RowWrite { record: None, state, base_delta: delta(base_delta), conflicts, ..update_of(row, &json!({})) }
}

async fn write(store: &Store<'_>, entity: EntityType, source: WriteSource, rows: Vec<RowWrite>) {
    let count = rows.len();
    let page = WriteBatch { run_id: None, source, rows };
    let outcome = store.write(&account(), entity, &page).await.expect("the page is written");
    assert_eq!(outcome.written.len(), count, "{outcome:?}");
}

/// The open items of a row: operation, Keap's id and payload.
async fn open_items(engine: &Client, row: &str) -> Vec<(String, Option<String>, Value)> {
    engine
        .query(
            "select operation, keap_id, payload::text from sync_queue
             where entity_id = $1::text::uuid and status in ('pending', 'processing') order by sequence",
            &[&row],
        )
        .await
        .expect("the queue is read")
        .iter()
        .map(|item| (item.get(0), item.get(1), serde_json::from_str(item.get(2)).expect("it is JSON")))
        .collect()
}

async fn claimed(store: &Store<'_>, held: &[Held]) -> Vec<OutboxItem> {
    store.claim_unheld(&account(), ALL, LEASE_MS, "test", held).await.expect("items are claimed")
}

/// The rows of what is claimed, each once, in order.
async fn claimed_rows(store: &Store<'_>, held: &[Held]) -> Vec<String> {
    let mut rows: Vec<String> = claimed(store, held).await.into_iter().map(|item| item.entity_id).collect();
    rows.sort();
    rows.dedup();
    rows
}

fn keys<'a>(rows: impl IntoIterator<Item = &'a LocalRow>) -> Vec<String> {
    let mut keys: Vec<String> = rows.into_iter().map(|row| row.id.clone()).collect();
    keys.sort();
    keys
}

async fn give_back(store: &Store<'_>, engine: &Client) {
    let ids: Vec<String> = engine
        .query("select id::text from sync_queue where status = 'processing'", &[])
        .await
        .expect("the queue is read")
        .iter()
        .map(|row| row.get(0))
        .collect();
    let failure = Failure::new(FailureClass::Unavailable, "Keap is away");
    store.retry_later(&account(), &ids, 0, &failure, false).await.expect("items are given back");
}

#[tokio::test]
async fn what_a_page_leaves_pending_is_on_its_way() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    let store = Store::new(&engine);
    with_account(&engine).await;
    for entity in EntityType::ALL {
        let field = if entity == EntityType::Tag { "description" } else { "custom_fields" };
        let rows = made(&store, entity, 1..=6).await;
        let [pending, completed, answered, undecided, mixed, part] = rows.as_slice() else {
            panic!("there are six")
        };
        let old = json!({field: null});
        let both = json!({field: null, "name": "x"});
        write(
            &store,
            entity,
            WriteSource::Poll,
            vec![
                left(pending, RowState::Pending, old.clone(), vec![]),
                left(completed, RowState::Completed, json!({}), vec![]),
                left(undecided, RowState::Conflict, old.clone(), vec![conflict(field)]),
                left(mixed, RowState::Conflict, both.clone(), vec![conflict(field)]),
                left(part, RowState::Conflict, old.clone(), vec![conflict(&format!("{field}.7"))]),
            ],
        )
        .await;
        write(
            &store,
            entity,
            WriteSource::Outbox,
            vec![left(answered, RowState::Pending, old.clone(), vec![])],
        )
        .await;
        let item = |keap_id: &str, old: &Value| {
            vec![("update".to_owned(), Some(keap_id.to_owned()), json!({"old": old}))]
        };
        assert_eq!(open_items(&engine, &pending.id).await, item("1", &old), "{entity:?}");
        assert_eq!(open_items(&engine, &mixed.id).await, item("5", &both), "{entity:?}");
        for row in [completed, answered, undecided, part] {
            assert_eq!(open_items(&engine, &row.id).await, [], "{entity:?} {:?}", row.keap_id);
        }
    }
}

#[tokio::test]
async fn a_row_that_is_on_its_way_is_not_queued_twice_unless_its_item_was_claimed_before() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    let (store, person, entity) = (Store::new(&engine), database.person().await, EntityType::Contact);
    with_account(&engine).await;
    made(&store, entity, 1..=1).await;
    person.execute("update sync_contacts set email = 'x@example.com'", &[]).await.expect("a person edits");
    let old = json!({"email": "ann@example.com"});
    for expected in [1, 2, 2] {
        let [row] = read(&store, entity, 1..=1).await.try_into().expect("there is one");
        let page = vec![left(&row, RowState::Pending, old.clone(), vec![])];
        write(&store, entity, WriteSource::Poll, page).await;
        assert_eq!(open_items(&engine, &row.id).await.len(), expected);
        if expected == 1 {
            // Whoever claimed the item may have read the row before this page was written.
            assert_eq!(claimed(&store, &[]).await.len(), 1);
        }
    }
}

#[tokio::test]
async fn a_record_deleted_in_keap_is_not_queued_while_a_person_decides() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    let (store, entity) = (Store::new(&engine), EntityType::Contact);
    with_account(&engine).await;
    let rows = made(&store, entity, 1..=1).await;
    let page =
        vec![left(&rows[0], RowState::Conflict, json!({"email": "old"}), vec![conflict("deleted_at")])];
    write(&store, entity, WriteSource::Hook, page).await;
    assert_eq!(open_items(&engine, &rows[0].id).await, []);
    assert_eq!(store.requeue(&account(), entity, true, ALL).await.expect("it is queued"), 0);
}

#[tokio::test]
async fn what_is_owed_and_not_on_its_way_is_queued_again() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    let (store, person) = (Store::new(&engine), database.person().await);
    with_account(&engine).await;
    for entity in EntityType::ALL {
        let table = format!("sync_{}", entity.plural());
        let field = if entity == EntityType::Tag { "description" } else { "custom_fields" };
        let value = if entity == EntityType::Tag { json!("was") } else { json!({"7": "was", "8": "was"}) };
        let rows = made(&store, entity, 1..=9).await;
        let [edited, in_step, undecided, mixed, failed, waiting, deleted, kept, undeleted] = rows.as_slice()
        else {
            panic!("there are nine")
        };
        let old = json!({field: value});
        // As the outbox leaves rows: nothing of them is queued.
        let mut page = vec![
            left(edited, RowState::Pending, old.clone(), vec![]),
            left(undecided, RowState::Conflict, old.clone(), vec![conflict(field)]),
            left(
                mixed,
                RowState::Conflict,
                json!({field: value, "deleted_at": "2026-01-01T00:00:00.000Z"}),
                vec![conflict(field)],
            ),
            left(failed, RowState::Error, old.clone(), vec![]),
            left(waiting, RowState::Pending, old.clone(), vec![]),
            left(undeleted, RowState::Pending, json!({"deleted_at": "2026-01-01T00:00:00.000Z"}), vec![]),
        ];
        for (row, state) in [(deleted, RowState::Pending), (kept, RowState::Completed)] {
            page.push(RowWrite {
                deleted_at: Some(Timestamp(1_790_000_000_000)),
                ..left(row, state, json!({"deleted_at": null}), vec![])
            });
        }
        write(&store, entity, WriteSource::Outbox, page).await;
        engine
            .batch_execute(&format!(
                "insert into sync_queue (account_id, operation, entity_type, entity_id, status)
                 values ('demo', 'update', '{entity}', '{}', 'failed'), ('demo', 'update', '{entity}', '{}', 'pending')",
                failed.id,
                waiting.id,
                entity = entity.as_str()
            ))
            .await
            .expect("items are queued");
        let unlinked: String = person
            .query_one(&format!("insert into {table} (account_id) values ('demo') returning id::text"), &[])
            .await
            .expect("a person inserts a row")
            .get(0);
        engine
            .execute("delete from sync_queue where entity_id = $1::text::uuid", &[&unlinked])
            .await
            .expect("its item is lost");

        // A little at a time, as runs do.
        let mut queued = Vec::new();
        loop {
            match store.requeue(&account(), entity, false, 3).await.expect("it is queued") {
                0 => break,
                count => queued.push(count),
            }
        }
        assert_eq!(queued, [3, 1], "{entity:?}");
        let item = |operation: &str, row: &LocalRow, old: Value| {
            vec![(operation.to_owned(), row.keap_id.clone(), json!({"old": old}))]
        };
        assert_eq!(open_items(&engine, &edited.id).await, item("update", edited, old.clone()));
        assert_eq!(open_items(&engine, &mixed.id).await.len(), 1);
        assert_eq!(open_items(&engine, &undeleted.id).await.len(), 1);
        for row in [in_step, undecided, failed, deleted, kept] {
            assert_eq!(open_items(&engine, &row.id).await, [], "{entity:?} {:?}", row.keap_id);
        }
        let [(operation, keap_id, _)] =
            open_items(&engine, &unlinked).await.try_into().expect("there is one");
        assert_eq!((operation.as_str(), keap_id), ("create", None));
        // A forgotten attempt may have made the record: the claimer looks for it first.
        let items = claimed(&store, &[]).await;
        let create = items.iter().find(|item| item.entity_id == unlinked).expect("the create is claimed");
        assert_eq!(create.claims, 2);
        assert!(items.iter().all(|item| item.entity_id == unlinked || item.claims == 1));

        assert_eq!(store.requeue(&account(), entity, true, ALL).await.expect("it is queued"), 2);
        for row in [deleted, kept] {
            let expected = item("delete", row, json!({"deleted_at": null}));
            assert_eq!(open_items(&engine, &row.id).await, expected, "{entity:?} {:?}", row.keap_id);
        }
        assert_eq!(store.requeue(&account(), entity, true, ALL).await.expect("it is queued"), 0);
        engine.execute("delete from sync_queue", &[]).await.expect("the queue is emptied");
    }
}

#[tokio::test]
async fn a_field_of_which_one_part_waits_for_a_person_is_owed_only_for_its_other_parts() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    let (store, entity) = (Store::new(&engine), EntityType::Contact);
    with_account(&engine).await;
    let rows = made(&store, entity, 1..=4).await;
    let [one, both, address, addresses] = rows.as_slice() else { panic!("there are four") };
    // The rows hold {"5": "gold", "6": 1.5} and a BILLING address whose line1 is x.
    write(
        &store,
        entity,
        WriteSource::Outbox,
        vec![
            left(
                one,
                RowState::Conflict,
                json!({"custom_fields": {"5": "was", "6": 1.5}}),
                vec![conflict("custom_fields.5")],
            ),
            left(
                both,
                RowState::Conflict,
                json!({"custom_fields": {"5": "was"}}),
                vec![conflict("custom_fields.5")],
            ),
            left(address, RowState::Conflict, json!({"addresses": []}), vec![conflict("addresses.BILLING")]),
            left(
                addresses,
                RowState::Conflict,
                json!({"addresses": [{"field": "SHIPPING", "line1": "y"}]}),
                vec![conflict("addresses.BILLING")],
            ),
        ],
    )
    .await;
    assert_eq!(store.requeue(&account(), entity, false, ALL).await.expect("it is queued"), 2);
    assert_eq!(claimed_rows(&store, &[]).await, keys([both, addresses]));
}

#[tokio::test]
async fn waiting_counts_linked_records_without_approval() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    let (store, person) = (Store::new(&engine), database.person().await);
    with_account(&engine).await;
    assert_eq!(store.waiting(&account()).await.expect("it is counted"), []);
    for entity in EntityType::ALL {
        made(&store, entity, 1..=8).await;
        let table = format!("sync_{}", entity.plural());
        let column = match entity {
            EntityType::Contact => "job_title",
            EntityType::Order => "title",
            EntityType::Tag => "description",
            EntityType::Subscription => "cancel_reason",
        };
        person
            .batch_execute(&format!(
                "update {table} set {column} = 'a' where keap_id in ('1', '2', '3');
                 update {table} set {column} = 'b' where keap_id in ('2', '3');
                 delete from {table} where keap_id in ('3', '4');
                 insert into {table} (account_id) values ('demo');
                 insert into sync_queue (account_id, operation, entity_type, keap_id, status)
                     values ('demo', 'sync', '{}', '77', 'failed')",
                entity.as_str()
            ))
            .await
            .expect("people edit");
        let waiting = store.waiting(&account()).await.expect("it is counted");
        let found = waiting.iter().find(|waiting| waiting.entity == entity);
        assert_eq!(found, Some(&Waiting { entity, edited: 3, deleted: 2, live: 7 }));
    }
    assert_eq!(store.waiting(&account()).await.expect("it is counted").len(), 4);

    // Claimed items wait still; what is done or failed does not.
    claimed(&store, &[]).await;
    assert_eq!(store.waiting(&account()).await.expect("it is counted").len(), 4);
    let until: i64 = engine
        .query_one("select (extract(epoch from max(created_at)) * 1000)::bigint from sync_queue", &[])
        .await
        .expect("the queue is read")
        .get(0);
    let approved = store.approve_waiting(&account(), EntityType::Tag, Timestamp(until)).await;
    assert_eq!(approved.expect("it is approved"), 8);
    let again = store.approve_waiting(&account(), EntityType::Tag, Timestamp(until)).await;
    assert_eq!(again.expect("nothing is left to approve"), 0);
    let waiting = store.waiting(&account()).await.expect("it is counted");
    assert!(waiting.len() == 3 && waiting.iter().all(|waiting| waiting.entity != EntityType::Tag));
    engine
        .execute(
            "update sync_queue set status = 'completed', leased_until = null where entity_type = 'contact'",
            &[],
        )
        .await
        .expect("items end");
    assert_eq!(store.waiting(&account()).await.expect("it is counted").len(), 2);
    let other = AccountId::parse("other").expect("the name is valid");
    assert_eq!(store.waiting(&other).await.expect("it is counted"), []);
}

#[tokio::test]
async fn held_records_are_left_out_whole_until_they_are_approved() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    let (store, person, entity) = (Store::new(&engine), database.person().await, EntityType::Contact);
    with_account(&engine).await;
    let rows = made(&store, entity, 1..=3).await;
    let orders = made(&store, EntityType::Order, 1..=1).await;
    let [edited, edited_and_deleted, deleted] = rows.as_slice() else { panic!("there are three") };
    person
        .batch_execute(
            "update sync_contacts set job_title = 'a' where keap_id in ('1', '2');
             delete from sync_contacts where keap_id in ('2', '3');
             update sync_orders set title = 'a'",
        )
        .await
        .expect("people edit");
    let unlinked: String = person
        .query_one(
            "insert into sync_contacts (account_id, email) values ('demo', 'n@example.com') returning id::text",
            &[],
        )
        .await
        .expect("a person inserts a row")
        .get(0);
    person
        .execute("update sync_contacts set job_title = 'b' where id = $1::text::uuid", &[&unlinked])
        .await
        .expect("and edits it");
    let free = |linked: &[&LocalRow]| {
        let mut expected = keys(linked.iter().copied().chain(&orders));
        expected.push(unlinked.clone());
        expected.sort();
        expected
    };

    for (held, expected) in [
        (vec![EDITS, DELETES], free(&[])),
        (vec![EDITS], free(&[deleted])),
        (vec![DELETES], free(&[edited])),
        (vec![], free(&[edited, edited_and_deleted, deleted])),
    ] {
        assert_eq!(claimed_rows(&store, &held).await, expected, "{held:?}");
        give_back(&store, &engine).await;
    }
    // Not even by the items of theirs that are of another class.
    let items = claimed(&store, &[DELETES]).await;
    assert!(items.iter().all(|item| item.entity_id != edited_and_deleted.id));
    give_back(&store, &engine).await;

    // What is approved goes; a later edit of it waits anew, and holds the record's earlier items back with it.
    let until: i64 = engine
        .query_one("select (extract(epoch from clock_timestamp()) * 1000)::bigint", &[])
        .await
        .expect("the clock is read")
        .get(0);
    store.approve_waiting(&account(), entity, Timestamp(until)).await.expect("it is approved");
    let everything = free(&[edited, edited_and_deleted, deleted]);
    assert_eq!(claimed_rows(&store, &[EDITS, DELETES]).await, everything);
    give_back(&store, &engine).await;
    engine
        .execute("update sync_queue set created_at = created_at - interval '1 hour'", &[])
        .await
        .expect("time passes");
    person
        .execute("update sync_contacts set job_title = 'c' where keap_id = '1'", &[])
        .await
        .expect("a person edits");
    assert_eq!(
        claimed_rows(&store, &[EDITS, DELETES]).await,
        free(&[edited_and_deleted, deleted]),
        "a new edit is not approved"
    );
    give_back(&store, &engine).await;
    let early = store.approve_waiting(&account(), entity, Timestamp(until - 1_800_000)).await;
    assert_eq!(early.expect("nothing of that time waits"), 0);
}
