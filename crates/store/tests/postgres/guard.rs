//! What a page leaves to be carried to Keap is on its way; what is owed and not on its way is queued again; and the blast guard
//! holds back what nobody has approved.

#![allow(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

use crate::support::{TestDatabase, account, batch, full_record, hash, insert_as, update_of, with_account};
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_domain::policy::Policy;
use keapsync_domain::settings::{AccountSettings, BlastGuard};
use keapsync_domain::timestamp::Timestamp;
use keapsync_domain::wire::Approval;
use keapsync_engine::guard::Ledger;
use keapsync_engine::ports::proof::{GuardLedger, GuardStore, Held, Taking};
use keapsync_engine::ports::{
    ConflictRecord, LocalRow, MirrorStore, OutboxItem, OutboxStore, RemoteKey, RowState, RowWrite,
    WriteBatch, WriteSource,
};
use keapsync_store::Store;
use serde_json::{Map, Value, json};
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

async fn claimed(store: &Store<'_>) -> Vec<OutboxItem> {
    store.claim(&account(), ALL, LEASE_MS, "test").await.expect("items are claimed")
}

/// The rows of what is claimed, each once, in order.
async fn claimed_rows(store: &Store<'_>) -> Vec<String> {
    let mut rows: Vec<String> = claimed(store).await.into_iter().map(|item| item.entity_id).collect();
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
            assert_eq!(claimed(&store).await.len(), 1);
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
        let items = claimed(&store).await;
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
    assert_eq!(claimed_rows(&store).await, keys([both, addresses]));
}

/// The settings with these limits, deletes let through.
fn settings(records_max: u64, percent_max: u32) -> AccountSettings {
    let blast_guard = BlastGuard { records_max, percent_max };
    AccountSettings { delete_in_keap: true, blast_guard, ..AccountSettings::default() }
}

async fn pass(store: &Store<'_>, records_max: u64) -> u64 {
    store.pass_edits(&account(), &settings(records_max, 0), &[]).await.expect("edits are looked at")
}

/// What waits, by class.
async fn waiting(store: &Store<'_>) -> Vec<(Held, u64)> {
    let waiting = store.waiting(&account()).await.expect("it is counted");
    waiting.into_iter().map(|waiting| (waiting.held, waiting.records)).collect()
}

async fn passed_rows(store: &Store<'_>) -> Vec<String> {
    let items = store.claim_unheld(&account(), ALL, LEASE_MS, "test").await.expect("items are claimed");
    let mut rows: Vec<String> = items.into_iter().map(|item| item.entity_id).collect();
    rows.sort();
    rows.dedup();
    rows
}

/// `sync_status` and `sync_error` of a row.
async fn shown(engine: &Client, row: &LocalRow) -> (String, Option<String>) {
    let shown = engine
        .query_one("select sync_status, sync_error from sync_contacts where id = $1::text::uuid", &[&row.id])
        .await
        .expect("the row is read");
    (shown.get(0), shown.get(1))
}

#[tokio::test]
async fn a_flood_waits_as_a_whole_and_another_persons_edit_does_not() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    let (store, person) = (Store::new(&engine), database.person().await);
    with_account(&engine).await;
    for entity in EntityType::ALL {
        let rows = made(&store, entity, 1..=8).await;
        let table = format!("sync_{}", entity.plural());
        let column = match entity {
            EntityType::Contact => "job_title",
            EntityType::Order => "title",
            EntityType::Tag => "description",
            EntityType::Subscription => "cancel_reason",
        };
        for statement in [
            format!("delete from {table} where keap_id in ('1', '2', '3', '4')"),
            format!("update {table} set {column} = 'colleague' where keap_id = '5'"),
            format!("insert into {table} (account_id) values ('demo')"),
        ] {
            person.batch_execute(&statement).await.expect("people edit");
        }
        assert_eq!(passed_rows(&store).await.len(), 1, "{entity:?}: what nobody looked at is not claimed");
        assert_eq!(pass(&store, 3).await, 4, "{entity:?}");
        assert_eq!(passed_rows(&store).await, [rows[4].id.clone()], "{entity:?}");
        assert!(waiting(&store).await.contains(&(Held { entity, deletes: true }, 4)));
        assert_eq!(store.depth(&account()).await.expect("it is counted").failed, 0);
    }
    assert_eq!(waiting(&store).await.len(), 4);
    let other = AccountId::parse("other").expect("the name is valid");
    assert_eq!(store.waiting(&other).await.expect("it is counted"), []);
}

#[tokio::test]
async fn a_slow_loop_of_single_deletes_stops_at_the_limit_and_says_so_on_its_rows() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    let (store, person, entity) = (Store::new(&engine), database.person().await, EntityType::Contact);
    with_account(&engine).await;
    let rows = made(&store, entity, 1..=12).await;
    let mut carried = 0;
    for number in 1..=10 {
        let delete = format!("delete from sync_contacts where keap_id = '{number}'");
        person.batch_execute(&delete).await.expect("a person deletes");
        pass(&store, 3).await;
        let claimed = store.claim_unheld(&account(), ALL, LEASE_MS, "test").await.expect("it is claimed");
        carried += claimed.len();
        let ids: Vec<String> = claimed.into_iter().map(|item| item.id).collect();
        store.complete(&account(), &ids).await.expect("they are carried");
    }
    assert_eq!((carried, waiting(&store).await), (3, vec![(DELETES, 7)]));
    let (state, word) = shown(&engine, &rows[9]).await;
    assert_eq!(state, "paused");
    assert!(word.is_some_and(|word| word.starts_with("blast_guard: ") && word.contains("approve")));
    let depth = store.depth(&account()).await.expect("it is counted");
    assert_eq!((depth.open, depth.next_due_at), (7, None), "what is held is not due");

    // An hour later as well: nothing goes on before somebody has looked.
    engine
        .execute("update sync_destroyed set updated_at = updated_at - interval '61 minutes'", &[])
        .await
        .expect("an hour passes");
    person.execute("delete from sync_contacts where keap_id = '11'", &[]).await.expect("a person deletes");
    assert_eq!(pass(&store, 3).await, 1);

    // Taken back, it destroys nothing.
    person
        .execute("update sync_contacts set deleted_at = null where keap_id = '10'", &[])
        .await
        .expect("a person takes it back");
    assert_eq!(pass(&store, 3).await, 0);
    assert_eq!(passed_rows(&store).await, keys([&rows[9]]));
    give_back(&store, &engine).await;
    assert_eq!(waiting(&store).await, [(DELETES, 7)]);

    // Approved is what was held until the moment that was shown.
    let held = store.waiting(&account()).await.expect("it is counted");
    engine.batch_execute("select pg_sleep(0.01)").await.expect("time passes");
    person.execute("delete from sync_contacts where keap_id = '12'", &[]).await.expect("a person deletes");
    assert_eq!(pass(&store, 3).await, 1);
    let until = held[0].newest_at;
    assert_eq!(store.approve_waiting(&account(), DELETES, until).await.expect("it is approved"), 7);
    assert_eq!(store.approve_waiting(&account(), DELETES, until).await.expect("nothing is left"), 0);
    assert_eq!(shown(&engine, &rows[4]).await, ("pending".to_owned(), None));
    assert_eq!(passed_rows(&store).await, keys(rows[3..11].iter()));
    assert_eq!(waiting(&store).await, [(DELETES, 1)]);
}

#[tokio::test]
async fn changes_are_counted_where_they_replace_something() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    let (store, person, entity) = (Store::new(&engine), database.person().await, EntityType::Contact);
    with_account(&engine).await;
    let rows = made(&store, entity, 1..=6).await;
    for statement in [
        "update sync_contacts set middle_name = 'added' where middle_name is null",
        "update sync_contacts set custom_fields = custom_fields || '{\"99\": \"added\"}'",
    ] {
        person.batch_execute(statement).await.expect("a person adds");
    }
    assert_eq!(pass(&store, 2).await, 0, "what is only added destroys nothing");
    assert_eq!(passed_rows(&store).await, keys(&rows));
    give_back(&store, &engine).await;
    person.batch_execute("update sync_contacts set email = keap_id || '@x.io'").await.expect("a flood");
    person
        .batch_execute("update sync_contacts set job_title = 'mine' where keap_id = '1'")
        .await
        .expect("a colleague's edit of a row of the flood");
    assert_eq!(pass(&store, 2).await, 6);
    assert_eq!(passed_rows(&store).await, keys([]), "a record is carried whole or not at all");
    assert_eq!(waiting(&store).await, [(EDITS, 6)]);
    let until = store.waiting(&account()).await.expect("it is counted")[0].newest_at;
    store.approve_waiting(&account(), EDITS, until).await.expect("it is approved");
    assert_eq!(passed_rows(&store).await, keys(&rows));
}

#[tokio::test]
async fn deletes_that_stay_here_destroy_nothing_in_keap() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    let (store, person, entity) = (Store::new(&engine), database.person().await, EntityType::Contact);
    with_account(&engine).await;
    let rows = made(&store, entity, 1..=5).await;
    person.batch_execute("delete from sync_contacts").await.expect("a person deletes");
    let kept = AccountSettings { delete_in_keap: false, ..settings(1, 0) };
    assert_eq!(store.pass_edits(&account(), &kept, &[]).await.expect("edits are looked at"), 0);
    assert_eq!(passed_rows(&store).await, keys(&rows));
}

#[tokio::test]
async fn hooks_that_wait_stop_deletes_here_as_well_and_are_shown_on_their_rows() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    let (store, person, entity) = (Store::new(&engine), database.person().await, EntityType::Contact);
    with_account(&engine).await;
    let rows = made(&store, entity, 1..=3).await;
    person.batch_execute("delete from sync_contacts where keap_id = '1'").await.expect("a person deletes");
    let held = store.pass_edits(&account(), &settings(50, 5), &[entity]).await;
    assert_eq!(held.expect("edits are looked at"), 1);
    let ids = ["2".to_owned(), "3".to_owned()];
    store.show_held_deletes(&account(), entity, &ids, true).await.expect("it is shown");
    for row in &rows[1..] {
        let (state, word) = shown(&engine, row).await;
        assert!(state == "paused" && word.is_some_and(|word| word.starts_with("blast_guard: ")), "{state}");
    }
    store.show_held_deletes(&account(), entity, &ids, false).await.expect("it is shown");
    assert_eq!(shown(&engine, &rows[1]).await, ("completed".to_owned(), None));
}

/// The rule in SQL and the rule in memory, asked the same at random.
#[tokio::test]
async fn both_ledgers_count_alike() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    let store = Store::new(&engine);
    with_account(&engine).await;
    let (mut ledger, mut now, mut state) = (Ledger::default(), 0_i64, 7_u64);
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    made(&store, EntityType::Contact, 1..=100).await;
    let (mut granted, mut refused) = (0, 0);
    for _ in 0..400 {
        if random(6) == 0 {
            let minutes = i64::try_from(random(50)).expect("it is small");
            now += minutes * 60_000;
            let passes =
                format!("update sync_destroyed set updated_at = updated_at - interval '{minutes} minutes'");
            engine.batch_execute(&passes).await.expect("time passes");
        }
        let mut rows: Vec<String> =
            (0..=random(6)).map(|_| format!("018f3f6e-0000-4000-8000-{:012}", random(60))).collect();
        rows.sort();
        rows.dedup();
        let approval =
            Approval { id: format!("018f3f6e-0000-4000-9000-{:012}", random(3)), records: random(12) };
        let taking = Taking {
            class: Held {
                entity: if random(2) == 0 { EntityType::Contact } else { EntityType::Order },
                deletes: random(2) == 0,
            },
            row_ids: &rows,
            guard: BlastGuard {
                records_max: random(8),
                percent_max: u32::try_from(random(10)).expect("it is small"),
            },
            approval: (random(4) == 0).then_some(&approval),
            only_looks: random(5) == 0,
        };
        let live = if taking.class.entity == EntityType::Contact { 100 } else { 0 };
        let expected = ledger.take(&taking, live, Timestamp(now));
        let taken = store.take(&account(), &taking).await.expect("it is asked");
        assert_eq!(taken, expected, "{taking:?}");
        if taken { granted += 1 } else { refused += 1 }
    }
    assert!(granted > 40 && refused > 40, "{granted} granted, {refused} refused");
}

#[tokio::test]
async fn many_at_once_take_no_more_than_the_limit() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    with_account(&engine).await;
    let (workers, mut takers) = (tokio::task::LocalSet::new(), Vec::new());
    for taker in 0..8 {
        let client = database.pooled().await;
        takers.push(workers.spawn_local(async move {
            let (store, mut taken) = (Store::new(&client), 0);
            for number in 0..20 {
                let rows = [format!("018f3f6e-0000-4000-8000-{taker:06}{number:06}")];
                let guard = BlastGuard { records_max: 50, percent_max: 0 };
                let taking =
                    Taking { class: DELETES, row_ids: &rows, guard, approval: None, only_looks: false };
                taken += u32::from(store.take(&account(), &taking).await.expect("it is asked"));
            }
            taken
        }));
    }
    workers.await;
    let mut taken = 0;
    for taker in takers {
        taken += taker.await.expect("it ends");
    }
    assert_eq!(taken, 50);
}
