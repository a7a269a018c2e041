//! Reading what is known and writing pages.

#![allow(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

use crate::support::{
    TestDatabase, account, batch, full_record, hash, insert_as, insert_of, record, record_of, update_of,
    with_account,
};
use keapsync_domain::extra::Extra;
use keapsync_domain::failure::FailureClass;
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_domain::policy::Policy;
use keapsync_domain::record::Record;
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::ports::{
    ConflictRecord, KnownRow, LocalRow, MirrorStore, RejectedRecord, RemoteKey, RowState, RowWrite,
    WriteBatch, WriteSource,
};
use keapsync_store::Store;
use serde_json::{Map, Value, json};
use tokio_postgres::Client;

const CONTACT: EntityType = EntityType::Contact;

fn full() -> Value {
    full_record(CONTACT)
}

fn key(keap_id: &str, keap_hash: &str) -> RemoteKey {
    RemoteKey { keap_id: keap_id.to_owned(), keap_hash: keap_hash.to_owned(), row_id: None }
}

/// The row of a Keap record that is known to be there.
async fn row(store: &Store<'_>, keap_id: &str) -> LocalRow {
    let known = store.read_known(&account(), CONTACT, &[key(keap_id, "")]).await.expect("the row is read");
    known.into_iter().next().expect("the record is known").row.expect("its hash differs")
}

async fn written(store: &Store<'_>, rows: Vec<RowWrite>) -> Vec<String> {
    let outcome = store.write(&account(), CONTACT, &batch(rows)).await.expect("the batch is written");
    assert_eq!((outcome.skipped.len(), outcome.rejected.len()), (0, 0), "{outcome:?}");
    outcome.written
}

async fn json_of(client: &Client, query: &str) -> Value {
    let row = client
        .query_one(&format!("select coalesce(jsonb_agg(to_jsonb(x)), '[]')::text from ({query}) x"), &[])
        .await
        .expect("the query is right");
    serde_json::from_str(row.get(0)).expect("Postgres writes JSON")
}

#[tokio::test]
async fn what_is_written_is_read_back() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    with_account(&engine).await;
    let store = Store::new(&engine);
    let extra = Map::from_iter([("score".to_owned(), json!({"deep": [1, null]}))]);
    let extra = Extra::new(&extra).expect("Postgres takes it");
    let write = RowWrite { extra: extra.clone(), ..insert_of("7", &full()) };
    assert_eq!(written(&store, vec![write, insert_of("8", &json!({}))]).await, ["7", "8"]);

    let read = row(&store, "7").await;
    assert_eq!(read.record, record(&full()));
    assert_eq!(read.extra, extra);
    assert_eq!((read.version, read.has_base, read.base_delta.len()), (1, true, 0));
    assert_eq!(read.keap_id.as_deref(), Some("7"));
    assert_eq!(read.keap_hash, Some(hash("7")));
    assert_eq!(read.keap_updated_at, Some(Timestamp(1_700_000_000_456)));
    assert_eq!(read.keap_observed_at, Some(Timestamp(1_800_000_000_789)));
    assert_eq!(read.deleted_at, None);
    assert_eq!(row(&store, "8").await.record, record(&json!({})));

    let ids = [read.id.clone(), "00000000-0000-4000-8000-000000000000".to_owned(), "no uuid".to_owned()];
    assert_eq!(store.read_rows(&account(), CONTACT, &ids).await.unwrap(), [read]);
    let person = database.person().await;
    assert_eq!(
        json_of(&person, "select source_system, sync_status, (extract(epoch from created_at) * 1000)::bigint as ms from sync_contacts where keap_id = '7'").await,
        json!([{"source_system": "keap", "sync_status": "completed", "ms": 1_600_000_000_123_i64}])
    );
}

#[tokio::test]
async fn records_of_every_kind_are_read_as_they_were_written() {
    let database = TestDatabase::migrated().await;
    // Neither the session's time zone nor its style of dates changes what is read.
    database
        .superuser()
        .await
        .batch_execute(
            "do $$ begin
                 execute format('alter database %I set timezone = %L', current_database(), 'Asia/Kolkata');
                 execute format('alter database %I set datestyle = %L', current_database(), 'German');
             end $$",
        )
        .await
        .unwrap();
    let engine = database.pooled().await;
    let shown = engine.query_typed("select current_setting('TimeZone')", &[]).await.unwrap();
    assert_eq!(shown[0].get::<_, &str>(0), "Asia/Kolkata");
    with_account(&engine).await;
    let store = Store::new(&engine);
    for entity in EntityType::ALL {
        let insert = insert_as(entity, "7", &full_record(entity));
        let empty = insert_as(entity, "8", &json!({}));
        let outcome = store.write(&account(), entity, &batch(vec![insert, empty])).await.unwrap();
        assert_eq!(outcome.written, ["7", "8"], "{entity:?}: {outcome:?}");
        let known = store.read_known(&account(), entity, &[key("7", ""), key("8", "")]).await.unwrap();
        let rows: Vec<LocalRow> = known.into_iter().filter_map(|known| known.row).collect();
        let [filled, bare] = rows.as_slice() else { panic!("{entity:?}: {rows:?}") };
        assert_eq!(filled.record, record_of(entity, &full_record(entity)));
        assert_eq!(bare.record, Record::empty(entity));

        // Emptied by an update, and filled by another; each under its version.
        let updates = vec![update_of(filled, &json!({})), update_of(bare, &full_record(entity))];
        assert_eq!(store.write(&account(), entity, &batch(updates)).await.unwrap().written, ["7", "8"]);
        let stale =
            store.write(&account(), entity, &batch(vec![update_of(filled, &json!({}))])).await.unwrap();
        assert_eq!((stale.written.len(), stale.skipped), (0, vec!["7".to_owned()]));
        let ids = [filled.id.clone(), bare.id.clone()];
        let mut read = store.read_rows(&account(), entity, &ids).await.unwrap();
        read.sort_by(|left, right| left.keap_id.cmp(&right.keap_id));
        assert_eq!(read[0].record, Record::empty(entity));
        assert_eq!(read[1].record, record_of(entity, &full_record(entity)));
        assert_eq!((read[0].version, read[1].version), (2, 2));

        // A record of one kind is nothing to another.
        for other in EntityType::ALL.into_iter().filter(|other| *other != entity) {
            assert_eq!(store.read_rows(&account(), other, &ids).await.unwrap(), []);
        }
    }
}

#[tokio::test]
async fn a_page_leaves_one_row_of_activity_and_lag_only_where_a_change_arrived() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    with_account(&engine).await;
    let store = Store::new(&engine);
    let person = database.person().await;
    let now_ms: i64 =
        person.query_one("select (extract(epoch from now()) * 1000)::bigint", &[]).await.unwrap().get(0);
    let page = |source, ids: [&str; 2]| WriteBatch {
        source,
        rows: ids
            .into_iter()
            .map(|id| RowWrite { keap_updated_at: Some(Timestamp(now_ms - 5000)), ..insert_of(id, &full()) })
            .collect(),
        run_id: None,
    };
    for (source, ids) in [
        (WriteSource::FullSync, ["1", "2"]),
        (WriteSource::Hook, ["3", "4"]),
        (WriteSource::Poll, ["4", "5"]),
        (WriteSource::Outbox, ["6", "7"]),
        (WriteSource::Poll, ["1", "2"]),
    ] {
        store.write(&account(), CONTACT, &page(source, ids)).await.unwrap();
    }
    let shown = json_of(
        &person,
        "select entity_type, direction, source, records, lag_records, lag_ms_total >= 5000 * lag_records as enough,
             lag_ms_total < 60000 * (lag_records + 1) as little from sync_activity order by id",
    )
    .await;
    let row = |source: &str, records: i32, lag_records: i32| {
        json!({"entity_type": "contact", "direction": "keap_to_supabase",
        "source": source, "records": records, "lag_records": lag_records, "enough": true, "little": true})
    };
    assert_eq!(shown, json!([row("full_sync", 2, 0), row("hook", 2, 2), row("poll", 1, 1)]));
}

#[tokio::test]
async fn an_unchanged_record_is_known_without_its_row() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    with_account(&engine).await;
    let store = Store::new(&engine);
    written(&store, vec![insert_of("7", &full()), insert_of("8", &full())]).await;
    let mut known = store
        .read_known(
            &account(),
            CONTACT,
            &[key("7", &hash("7")), key("8", &hash("new")), key("9", &hash("9"))],
        )
        .await
        .unwrap();
    known.sort_by(|left, right| left.keap_id.cmp(&right.keap_id));
    assert_eq!(known.len(), 2);
    assert_eq!(known[0], KnownRow { keap_id: "7".to_owned(), row: None });
    assert_eq!(known[1].row.as_ref().map(|row| row.record.clone()), Some(record(&full())));
    // Another account knows nothing of them.
    let other = AccountId::parse("other").unwrap();
    assert_eq!(store.read_known(&other, CONTACT, &[key("7", "")]).await.unwrap(), []);
    assert_eq!(store.read_rows(&other, CONTACT, &[row(&store, "7").await.id]).await.unwrap(), []);
}

#[tokio::test]
async fn a_row_is_found_by_its_keap_id_also_when_its_status_is_lost() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    with_account(&engine).await;
    let store = Store::new(&engine);
    written(&store, vec![insert_of("7", &full())]).await;
    engine.batch_execute("delete from sync_status").await.unwrap();
    let read = row(&store, "7").await;
    assert_eq!((read.has_base, read.keap_hash.clone()), (false, None));
    assert_eq!(written(&store, vec![update_of(&read, &full())]).await, ["7"]);
    assert!(row(&store, "7").await.has_base);
}

#[tokio::test]
async fn a_record_finds_the_row_that_created_it_and_links_it() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.pooled().await, database.person().await);
    with_account(&engine).await;
    let store = Store::new(&engine);
    let id: String = person
        .query_one("insert into sync_contacts (account_id, email) values ('demo', 'ann@example.com') returning id::text", &[])
        .await
        .unwrap()
        .get(0);
    let linked = RemoteKey { row_id: Some(id.clone()), ..key("7", &hash("7")) };
    let stray = RemoteKey { row_id: Some("somebody's text".to_owned()), ..key("8", &hash("8")) };
    let known = store.read_known(&account(), CONTACT, &[linked.clone(), stray]).await.unwrap();
    assert_eq!(known.len(), 1);
    let read = known[0].row.clone().unwrap();
    assert_eq!((&read.id, &read.keap_id, read.has_base), (&id, &None, false));

    let write = RowWrite {
        id: Some(id.clone()),
        expected_version: read.version,
        audit_operation: None,
        record: None,
        ..insert_of("7", &json!({}))
    };
    assert_eq!(written(&store, vec![write]).await, ["7"]);
    let after = row(&store, "7").await;
    assert_eq!(
        (&after.id, after.has_base, after.record.get_by_name("email")),
        (&id, true, &json!("ann@example.com"))
    );
    // Linked once: a copy of the record in Keap that carries the same row id is a contact of its own.
    let copy = RemoteKey { row_id: Some(id), ..key("99", &hash("99")) };
    assert_eq!(store.read_known(&account(), CONTACT, &[copy]).await.unwrap(), []);
}

#[tokio::test]
async fn a_row_that_changed_since_it_was_read_is_skipped() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.pooled().await, database.person().await);
    with_account(&engine).await;
    let store = Store::new(&engine);
    written(&store, vec![insert_of("7", &full()), insert_of("8", &full())]).await;
    let (seven, eight) = (row(&store, "7").await, row(&store, "8").await);
    person.batch_execute("update sync_contacts set first_name = 'Mine' where keap_id = '7'").await.unwrap();

    let rows = vec![
        update_of(&seven, &json!({"first_name": "Keap"})),
        update_of(&eight, &json!({"first_name": "Keap"})),
    ];
    let outcome = store.write(&account(), CONTACT, &batch(rows)).await.unwrap();
    assert_eq!((outcome.written, outcome.skipped), (vec!["8".to_owned()], vec!["7".to_owned()]));
    let seven = row(&store, "7").await;
    assert_eq!(seven.record.get_by_name("first_name"), "Mine");
    assert_eq!(seven.base_delta, Map::from_iter([("first_name".to_owned(), full()["first_name"].clone())]));
    let eight = row(&store, "8").await;
    assert_eq!(
        (eight.version, eight.record.get_by_name("first_name"), eight.record.get_by_name("email")),
        (2, &json!("Keap"), &Value::Null)
    );
}

#[tokio::test]
async fn an_edit_committed_while_the_write_waits_for_its_lock_is_not_lost() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.pooled().await, database.person().await);
    with_account(&engine).await;
    let store = Store::new(&engine);
    written(&store, vec![insert_of("7", &full())]).await;
    let seven = row(&store, "7").await;
    person.batch_execute("begin; update sync_contacts set first_name = 'Mine'").await.unwrap();
    let rows = batch(vec![update_of(&seven, &json!({"first_name": "Keap"}))]);
    let account = account();
    let write = store.write(&account, CONTACT, &rows);
    let commit = async {
        let observer = database.person().await;
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let waiting: i64 = observer
                .query_one("select count(*) from pg_locks where not granted and pid <> pg_backend_pid()", &[])
                .await
                .unwrap()
                .get(0);
            if waiting > 0 {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "the write never waited for the row's lock");
            tokio::task::yield_now().await;
        }
        person.batch_execute("commit").await.unwrap();
    };
    let (outcome, ()) = tokio::join!(write, commit);
    assert_eq!(outcome.unwrap().skipped, ["7"]);
    assert_eq!(row(&store, "7").await.record.get_by_name("first_name"), "Mine");
}

#[tokio::test]
async fn a_record_that_appeared_meanwhile_is_skipped() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    with_account(&engine).await;
    let store = Store::new(&engine);
    written(&store, vec![insert_of("7", &full())]).await;
    let rows = vec![
        insert_of("7", &json!({"first_name": "Again"})),
        insert_of("8", &full()),
        insert_of("8", &json!({})),
    ];
    let outcome = store.write(&account(), CONTACT, &batch(rows)).await.unwrap();
    assert_eq!(outcome.written, ["8"]);
    assert_eq!(outcome.skipped, ["8", "7"], "named twice in the batch, and known already");
    assert_eq!(row(&store, "7").await.record, record(&full()));
    assert_eq!(row(&store, "8").await.record, record(&full()));
    let person = database.person().await;
    assert_eq!(json_of(&person, "select count(*) from sync_audit_log").await, json!([{"count": 2}]));
}

#[tokio::test]
async fn the_audit_log_keeps_what_was_there_before() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    with_account(&engine).await;
    let store = Store::new(&engine);
    let run = "6f9b1d0a-54a5-4f0c-8a3b-1a2b3c4d5e6f".to_owned();
    let first = WriteBatch {
        run_id: Some(run.clone()),
        source: WriteSource::FullSync,
        rows: vec![insert_of("7", &full())],
    };
    store.write(&account(), CONTACT, &first).await.unwrap();
    let write = RowWrite {
        audit_old: Map::from_iter([
            ("email".to_owned(), json!("ann@example.com")),
            ("tags".to_owned(), json!(["2", "10"])),
        ]),
        audit_lost: Map::from_iter([("company".to_owned(), json!("Mine"))]),
        ..update_of(&row(&store, "7").await, &json!({"email": "new@example.com"}))
    };
    let second = WriteBatch { run_id: None, source: WriteSource::Hook, rows: vec![write] };
    store.write(&account(), CONTACT, &second).await.unwrap();
    // Only the Keap times move: nothing that a person would call a change.
    let quiet =
        RowWrite { record: None, audit_operation: None, ..update_of(&row(&store, "7").await, &json!({})) };
    written(&store, vec![quiet]).await;
    let person = database.person().await;
    assert_eq!(
        json_of(
            &person,
            "select operation, old_data, new_data, changed_fields, sync_source, sync_destination, run_id, keap_id from sync_audit_log order by id"
        )
        .await,
        json!([
            {"operation": "create", "old_data": null, "new_data": null, "changed_fields": null, "sync_source": "full_sync",
             "sync_destination": "supabase", "run_id": run, "keap_id": "7"},
            {"operation": "update", "old_data": {"email": "ann@example.com", "tags": ["2", "10"]}, "new_data": {"company": "Mine"},
             "changed_fields": ["email", "tags"], "sync_source": "hook", "sync_destination": "supabase", "run_id": null, "keap_id": "7"},
        ])
    );
    let after = row(&store, "7").await;
    assert_eq!((after.version, after.record.get_by_name("email")), (3, &json!("new@example.com")));
}

#[tokio::test]
async fn state_base_and_deletion_are_written_with_the_row() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    with_account(&engine).await;
    let store = Store::new(&engine);
    written(&store, vec![insert_of("7", &full())]).await;
    let delta = Map::from_iter([("company".to_owned(), json!("Base"))]);
    let pending = RowWrite {
        base_delta: delta.clone(),
        state: RowState::Error,
        sync_error: Some("read_only_field".to_owned()),
        keap_hash: hash("beef"),
        ..update_of(&row(&store, "7").await, &full())
    };
    written(&store, vec![pending]).await;
    let read = row(&store, "7").await;
    assert_eq!((&read.base_delta, &read.keap_hash), (&delta, &Some(hash("beef"))));
    let person = database.person().await;
    let shown = "select sync_status, sync_error, deleted_at is not null as deleted from sync_contacts";
    assert_eq!(
        json_of(&person, shown).await,
        json!([{"sync_status": "error", "sync_error": "read_only_field", "deleted": false}])
    );

    // A delete in Keap has no record to write.
    let delete = RowWrite {
        record: None,
        deleted_at: Some(Timestamp(1_800_000_000_000)),
        ..update_of(&read, &json!({}))
    };
    written(&store, vec![delete]).await;
    assert_eq!(
        json_of(&person, shown).await,
        json!([{"sync_status": "completed", "sync_error": null, "deleted": true}])
    );
    let deleted = row(&store, "7").await;
    assert_eq!((deleted.deleted_at, &deleted.record), (Some(Timestamp(1_800_000_000_000)), &record(&full())));
    // A quiet write keeps the tombstone, one with a record and no time lifts it.
    written(&store, vec![RowWrite { record: None, ..update_of(&deleted, &json!({})) }]).await;
    let still = row(&store, "7").await;
    assert!(still.deleted_at.is_some());
    written(&store, vec![update_of(&still, &full())]).await;
    assert_eq!(row(&store, "7").await.deleted_at, None);
    assert_eq!(store.mirror_counts(&account(), CONTACT).await.unwrap().completed, 1);
}

#[tokio::test]
async fn conflicts_are_recorded_once_and_closed_when_settled() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    with_account(&engine).await;
    let store = Store::new(&engine);
    written(&store, vec![insert_of("7", &full())]).await;
    database
        .person()
        .await
        .batch_execute("update sync_contacts set job_title = 'mine'")
        .await
        .expect("a person edits");
    let conflict = |field: &str, keap: &str, winner: Option<&'static str>| ConflictRecord {
        field: field.to_owned(),
        base: Value::Null,
        keap: json!(keap),
        supabase: json!("mine"),
        policy: if winner.is_none() { Policy::Manual } else { Policy::NewestWins },
        winner,
    };
    let with = |row: &LocalRow, state, conflicts| RowWrite { state, conflicts, ..update_of(row, &full()) };
    let first = with(
        &row(&store, "7").await,
        RowState::Conflict,
        vec![
            conflict("email", "a", None),
            conflict("phone", "b", None),
            conflict("company", "c", Some("keap")),
        ],
    );
    written(&store, vec![first]).await;
    let person = database.person().await;
    let open = "select conflict_fields[1] as field, base_data, keap_data, supabase_data, winner, resolution_strategy,
        supabase_changed_at is not null as timed from sync_conflicts where resolved_at is null order by 1";
    let shown = |field: &str, keap: &str| {
        json!({"field": field, "base_data": {field: null}, "keap_data": {field: keap}, "supabase_data": {field: "mine"}, "winner": null,
            "resolution_strategy": "manual", "timed": true})
    };
    assert_eq!(json_of(&person, open).await, json!([shown("email", "a"), shown("phone", "b")]));
    assert_eq!(
        json_of(
            &person,
            "select winner, resolution_strategy from sync_conflicts where resolved_at is not null"
        )
        .await,
        json!([{"winner": "keap", "resolution_strategy": "newest_wins"}])
    );
    assert_eq!(
        json_of(&person, "select conflict_status from sync_status").await,
        json!([{"conflict_status": "pending"}])
    );

    // Met again with a newer value: still one. Settled: closed.
    let second = with(
        &row(&store, "7").await,
        RowState::Conflict,
        vec![conflict("email", "A", None), conflict("phone", "b", Some("keap"))],
    );
    written(&store, vec![second]).await;
    assert_eq!(json_of(&person, open).await, json!([shown("email", "A")]));
    // In step again: nothing is left to decide.
    written(&store, vec![with(&row(&store, "7").await, RowState::Completed, Vec::new())]).await;
    assert_eq!(json_of(&person, open).await, json!([]));
    assert_eq!(
        json_of(&person, "select conflict_status from sync_status").await,
        json!([{"conflict_status": "resolved"}])
    );
}

#[tokio::test]
async fn linking_to_an_id_that_another_row_has_is_read_again_and_harms_no_other() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.pooled().await, database.person().await);
    with_account(&engine).await;
    let store = Store::new(&engine);
    written(&store, vec![insert_of("7", &full())]).await;
    let id: String = person
        .query_one("insert into sync_contacts (account_id) values ('demo') returning id::text", &[])
        .await
        .unwrap()
        .get(0);
    let link = RowWrite { id: Some(id), expected_version: 1, ..insert_of("7", &full()) };
    let outcome = store
        .write(&account(), CONTACT, &batch(vec![link, insert_of("8", &full()), insert_of("9", &full())]))
        .await
        .unwrap();
    assert_eq!((outcome.skipped, outcome.rejected), (vec!["7".to_owned()], Vec::new()));
    assert_eq!(outcome.written, ["8", "9"]);
}

#[tokio::test]
async fn an_account_that_is_not_mirrored_is_a_failure_and_no_fault_of_its_records() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    let store = Store::new(&engine);
    let failure = store.write(&account(), CONTACT, &batch(vec![insert_of("7", &full())])).await.unwrap_err();
    assert_eq!(failure.class, FailureClass::Unexpected);
    assert!(failure.message.contains("sync_accounts"), "{}", failure.message);
}

#[tokio::test]
async fn a_lost_connection_is_unavailable() {
    let database = TestDatabase::migrated().await;
    let engine = database.engine().await;
    with_account(&engine).await;
    let superuser = database.superuser().await;
    superuser
        .query("select pg_terminate_backend(pid, 10000) from pg_stat_activity where usename = 'keapsync_engine' and datname = current_database()", &[])
        .await
        .unwrap();
    let store = Store::new(&engine);
    for _ in 0..2 {
        let failure =
            store.write(&account(), CONTACT, &batch(vec![insert_of("7", &full())])).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::Unavailable, "{failure}");
    }
}

#[tokio::test]
async fn rejections_are_listed_once_and_end_when_the_record_is_written() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    with_account(&engine).await;
    let store = Store::new(&engine);
    let rejected = |keap_id: Option<&str>, reason: &str| RejectedRecord {
        keap_id: keap_id.map(str::to_owned),
        reason: reason.to_owned(),
    };
    store
        .record_rejections(
            &account(),
            CONTACT,
            &[rejected(Some("7"), "first"), rejected(Some("8\u{0}"), "x\u{0}"), rejected(None, "no id")],
        )
        .await
        .unwrap();
    store
        .record_rejections(&account(), CONTACT, &[rejected(Some("7"), "second"), rejected(None, "no id")])
        .await
        .unwrap();
    let person = database.person().await;
    let listed = "select keap_id, operation, status, error_class, error_message, attempts from sync_queue where status = 'failed' order by keap_id";
    let shown = |keap_id: Option<&str>, reason: &str, attempts: i32| json!({"keap_id": keap_id, "operation": "sync", "status": "failed", "error_class": "invalid", "error_message": reason, "attempts": attempts});
    assert_eq!(
        json_of(&person, listed).await,
        json!([shown(Some("7"), "second", 2), shown(Some("8"), "x", 1), shown(None, "no id", 2)])
    );
    written(&store, vec![insert_of("7", &full())]).await;
    assert_eq!(json_of(&person, listed).await, json!([shown(Some("8"), "x", 1), shown(None, "no id", 2)]));
}
