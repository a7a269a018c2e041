//! The audit log as undo reads it, and edits that the sync makes in a person's name.

#![allow(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

use crate::support::{TestDatabase, account, batch, full_record, insert_as, update_of, with_account};
use keapsync_domain::failure::FailureClass;
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::ports::history::{AuditEntry, HistoryStore, PersonEdit};
use keapsync_engine::ports::proof::{GuardStore, ProofStore};
use keapsync_engine::ports::{LocalRow, MirrorStore, RowWrite, WriteBatch, WriteSource};
use keapsync_engine::undo::undo;
use keapsync_store::Store;
use serde_json::{Map, Value, json};
use tokio_postgres::Client;

const RUN: &str = "00000000-0000-4000-8000-0000000000a1";

fn object(value: Value) -> Map<String, Value> {
    serde_json::from_value(value).expect("an object")
}

/// A linked row with every column filled.
async fn made(store: &Store<'_>, entity: EntityType) -> LocalRow {
    let page = batch(vec![insert_as(entity, "1", &full_record(entity))]);
    store.write(&account(), entity, &page).await.expect("the page is written");
    let linked = store.list_linked(&account(), entity, None, 1).await.expect("rows are listed");
    let linked = linked.into_iter().next().expect("there is one");
    row(store, entity, &linked.id).await
}

async fn row(store: &Store<'_>, entity: EntityType, id: &str) -> LocalRow {
    let rows = store.read_rows(&account(), entity, &[id.to_owned()]).await.expect("the row is read");
    rows.into_iter().next().expect("the row is there")
}

fn edit(row: &LocalRow, values: Value) -> PersonEdit {
    PersonEdit {
        row_id: row.id.clone(),
        expected_version: row.version,
        values: object(values),
        deleted: None,
        stays_here: false,
        operation: "revert",
        note: object(json!({"reverts": 17})),
        run_id: None,
    }
}

async fn history(store: &Store<'_>, entity: EntityType, id: &str) -> Vec<AuditEntry> {
    store.list_audit(&account(), entity, id, None, 1000).await.expect("the log is read")
}

/// What an edit leaves in the database, but for keys and times.
async fn traces(client: &Client, id: &str) -> Vec<String> {
    client
        .query(
            "select format('item %s %s %s %s', operation, keap_id, payload, status) from sync_queue where entity_id = $1::text::uuid
             union all
             select format('status %s %s %s', base, last_sync_status, has_base) from sync_status where entity_id = $1::text::uuid
             union all
             select format('entry %s %s %s %s %s %s', keap_id, old_data, (select array_agg(f order by f) from unnest(changed_fields) f),
                 sync_source, sync_destination, user_id)
             from sync_audit_log where entity_id = $1::text::uuid and operation <> 'create'
             order by 1",
            &[&id],
        )
        .await
        .expect("the traces are read")
        .iter()
        .map(|row| row.get(0))
        .collect()
}

/// New values for some columns of every form.
fn other_values(entity: EntityType) -> Value {
    match entity {
        EntityType::Contact => json!({
            "email": "bea@example.com", "birth_date": "1999-12-31", "company": null, "tags": ["3"],
            "custom_fields": {"5": "silver"}, "emails": [{"field": "EMAIL2", "email": "c@example.com"}],
        }),
        EntityType::Order => json!({
            "title": null, "order_date": "2026-04-01T10:00:00.000Z", "total_amount": "12.5", "currency": "USD",
            "line_items": [], "shipping_address": null,
        }),
        EntityType::Tag => json!({"name": "other", "category_id": "5", "description": null}),
        EntityType::Subscription => json!({
            "end_date": "2030-01-01", "billing_frequency": 3, "amount": "0.125", "auto_charge": true, "currency": null,
        }),
    }
}

/// The capture of a person's edit writes the same moments otherwise, and fills a short currency up.
fn in_one_form(text: &str) -> String {
    text.replace(".000Z", "+00:00").replace("23Z", "23+00:00").replace("\"US \"", "\"US\"")
}

/// The statement by which a person writes these values.
fn person_update(entity: EntityType, values: &Value) -> String {
    let columns: Vec<String> =
        values.as_object().expect("an object").keys().map(|name| format!("{name} = typed.{name}")).collect();
    let table = format!("sync_{}", entity.plural());
    format!(
        "update {table} row set {} from jsonb_populate_record(null::{table}, '{values}') as typed where row.keap_id = '1'",
        columns.join(", ")
    )
}

#[tokio::test]
async fn an_edit_of_the_sync_leaves_what_a_persons_edit_leaves() {
    for entity in EntityType::ALL {
        let values = other_values(entity);
        let mut left = Vec::new();
        for by_person in [true, false] {
            let database = TestDatabase::migrated().await;
            let engine = database.pooled().await;
            let (store, person) = (Store::new(&engine), database.person().await);
            with_account(&engine).await;
            let before = made(&store, entity).await;
            if by_person {
                person.batch_execute(&person_update(entity, &values)).await.expect("a person edits");
            } else {
                assert!(
                    store.edit(&account(), entity, &edit(&before, values.clone())).await.expect("it is made")
                );
            }
            let after = row(&store, entity, &before.id).await;
            assert_eq!(after.version, before.version + 1);
            assert!(after.edited_at > before.edited_at);
            let expected = values.as_object().expect("an object");
            assert_eq!(after.record, before.record.overlaid(expected), "{entity:?}");
            assert!(after.has_base);
            let state: Vec<Option<String>> = {
                let statement = format!(
                    "select sync_status, sync_error, updated_by::text, deleted_at::text from sync_{} where keap_id = '1'",
                    entity.plural()
                );
                let row = engine.query_one(&statement, &[]).await.expect("the row is read");
                (0..4).map(|position| row.get(position)).collect()
            };
            let delta = Value::from(after.base_delta).to_string();
            let traces = traces(&engine, &before.id).await.join("\n");
            left.push((state, in_one_form(&delta), in_one_form(&traces)));
        }
        assert_eq!(left[0], left[1], "{entity:?}");
    }
}

#[tokio::test]
async fn rows_are_deleted_and_brought_back_by_edits() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    let store = Store::new(&engine);
    with_account(&engine).await;
    for entity in EntityType::ALL {
        let first = made(&store, entity).await;
        let delete = PersonEdit { deleted: Some(true), ..edit(&first, json!({})) };
        assert!(store.edit(&account(), entity, &delete).await.expect("it is deleted"));
        let deleted = row(&store, entity, &first.id).await;
        assert!(deleted.deleted_at.is_some());
        assert_eq!(deleted.base_delta, object(json!({"deleted_at": null})));

        let again = PersonEdit { deleted: Some(true), ..edit(&deleted, json!({})) };
        assert!(store.edit(&account(), entity, &again).await.expect("nothing changes"));
        assert_eq!(row(&store, entity, &first.id).await, deleted, "what is deleted stays as it is");

        let back = PersonEdit { deleted: Some(false), ..edit(&deleted, other_values(entity)) };
        assert!(store.edit(&account(), entity, &back).await.expect("it is back"));
        let live = row(&store, entity, &first.id).await;
        assert_eq!(live.deleted_at, None);
        assert_eq!(live.record, first.record.overlaid(&object(other_values(entity))));

        let operations: Vec<String> = engine
            .query(
                "select operation from sync_queue where entity_id = $1::text::uuid order by sequence",
                &[&first.id],
            )
            .await
            .expect("the queue is read")
            .iter()
            .map(|row| row.get(0))
            .collect();
        assert_eq!(operations, ["delete", "update"]);
        let entries = history(&store, entity, &first.id).await;
        assert_eq!(entries.len(), 3);
        assert_eq!(entries[1].changed_fields, ["deleted_at"]);
        assert_eq!(entries[1].old, object(json!({"deleted_at": null})));
        let moment = entries[1].after["deleted_at"].as_str().and_then(Timestamp::parse_rfc3339);
        let deleted_at = deleted.deleted_at.expect("it was deleted");
        assert!(
            moment.is_some_and(|moment| moment.since_ms(deleted_at).abs() <= 1),
            "within what is rounded"
        );
        assert_eq!(entries[0].old["deleted_at"], entries[1].after["deleted_at"]);
        assert_eq!(entries[0].after["deleted_at"], Value::Null);
    }
}

#[tokio::test]
async fn an_edit_that_cannot_be_made_leaves_no_trace() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    let store = Store::new(&engine);
    with_account(&engine).await;
    let other = AccountId::parse("other").expect("the name is valid");
    store.upsert_account(&other, "Other", "active", "{}").await.expect("the account is mirrored");
    let before = made(&store, EntityType::Order).await;
    let entity = EntityType::Order;
    let untouched = traces(&engine, &before.id).await;

    // Another version, another account, a row that is not there.
    let new = edit(&before, json!({"title": "new"}));
    let stale = PersonEdit { expected_version: before.version - 1, ..new.clone() };
    let nowhere = PersonEdit { row_id: RUN.to_owned(), ..new.clone() };
    let unnamed = PersonEdit { row_id: "no id".to_owned(), ..new.clone() };
    for edit in [stale, nowhere, unnamed] {
        assert!(!store.edit(&account(), entity, &edit).await.expect("it is refused"));
    }
    assert!(!store.edit(&other, entity, &new).await.expect("it is refused"));
    assert!(
        !store
            .edit(&account(), EntityType::Tag, &PersonEdit { values: Map::new(), ..new })
            .await
            .expect("it is refused")
    );

    // Values that do not fit.
    for values in [
        json!({"total_amount": "much"}),
        json!({"total_amount": "1e20"}),
        json!({"keap_contact_id": "a"}),
        json!({"line_items": {"no": "list"}}),
        json!({"line_items": ["no object"]}),
        json!({"custom_fields": (0..101).fold(json!({}), |inner, _| json!({"a": inner}))}),
        json!({"extra": {}}),
        json!({"sync_status": "completed"}),
    ] {
        let outcome = store.edit(&account(), entity, &edit(&before, values.clone())).await;
        assert_eq!(outcome.map_err(|failure| failure.class), Err(FailureClass::Invalid), "{values}");
    }

    // What the row holds already, in any form.
    let same = json!({"total_amount": 99_999_999_999.999_f64, "order_date": "2026-03-01T10:00:00.123+02:00", "currency": "KWD"});
    assert!(store.edit(&account(), entity, &edit(&before, same)).await.expect("nothing changes"));
    assert_eq!(row(&store, entity, &before.id).await, before);
    assert_eq!(traces(&engine, &before.id).await, untouched);
}

#[tokio::test]
async fn entries_tell_each_value_before_and_after() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    let (store, person) = (Store::new(&engine), database.person().await);
    with_account(&engine).await;
    let entity = EntityType::Order;
    let first = made(&store, entity).await;
    // A person edits, Keap's record comes in by a run, the person edits again.
    person
        .execute("update sync_orders set title = 'one', total_amount = 1.5, currency = 'US'", &[])
        .await
        .expect("a person edits");
    let second = row(&store, entity, &first.id).await;
    let mut values = full_record(entity);
    values["title"] = json!("two");
    values["order_date"] = json!("2026-05-01T00:00:00.000Z");
    let write = RowWrite {
        audit_old: object(
            json!({"title": "one", "order_date": second.record.get_by_name("order_date"), "total_amount": "1.5", "currency": "US"}),
        ),
        audit_lost: object(json!({"title": "one"})),
        ..update_of(&second, &values)
    };
    let page = WriteBatch { run_id: Some(RUN.to_owned()), source: WriteSource::FullSync, rows: vec![write] };
    store.write(&account(), entity, &page).await.expect("the page is written");
    person
        .execute("update sync_orders set title = 'three', order_date = '2026-06-01 02:00:00+02'", &[])
        .await
        .expect("a person edits");

    let entries = history(&store, entity, &first.id).await;
    let told: Vec<(&str, &str, Value, Value)> = entries
        .iter()
        .map(|entry| {
            (
                entry.operation.as_str(),
                entry.sync_source.as_str(),
                Value::from(entry.old.clone()),
                Value::from(entry.after.clone()),
            )
        })
        .collect();
    let amount = json!("99999999999.999");
    assert_eq!(
        told,
        [
            (
                "update",
                "supabase",
                json!({"title": "two", "order_date": "2026-05-01T00:00:00.000Z"}),
                json!({"title": "three", "order_date": "2026-06-01T00:00:00.000Z"}),
            ),
            (
                "update",
                "full_sync",
                json!({"title": "one", "order_date": "2026-03-01T08:00:00.123Z", "total_amount": "1.5", "currency": "US"}),
                json!({"title": "two", "order_date": "2026-05-01T00:00:00.000Z", "total_amount": amount, "currency": "KWD"}),
            ),
            (
                "update",
                "supabase",
                json!({"title": "Tea & 'more'", "total_amount": amount, "currency": "KWD"}),
                json!({"title": "one", "total_amount": "1.5", "currency": "US"}),
            ),
            ("create", "full_sync", json!({}), full_record(entity)),
        ]
    );
    assert_eq!(entries[1].note, object(json!({"title": "one"})));
    assert_eq!(entries[1].run_id.as_deref(), Some(RUN));
    assert_eq!(entries[3].changed_fields, Vec::<String>::new());

    // The same entry alone, and by pages.
    for entry in &entries {
        let alone = store.read_audit(&account(), entry.id).await.expect("the log is read");
        assert_eq!(alone.as_ref(), Some(entry));
    }
    let mut paged: Vec<AuditEntry> = Vec::new();
    loop {
        let before = paged.last().map(|entry| entry.id);
        let page = store.list_audit(&account(), entity, &first.id, before, 3).await.expect("the log is read");
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged, entries);
    let other = AccountId::parse("other").expect("the name is valid");
    assert_eq!(store.read_audit(&other, entries[0].id).await.expect("the log is read"), None);
    assert_eq!(store.read_audit(&account(), i64::MAX).await.expect("the log is read"), None);

    // Once the row is purged nobody knows its last values.
    engine.execute("delete from sync_orders", &[]).await.expect("the row is purged");
    let entries = history(&store, entity, &first.id).await;
    assert_eq!(entries[0].after, object(json!({"title": null, "order_date": null})));
    assert_eq!(Value::from(entries[1].after.clone())["title"], "two");
}

#[tokio::test]
async fn entries_of_one_record_stand_in_the_order_of_the_changes() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    let (store, early, late) = (Store::new(&engine), database.person().await, database.person().await);
    with_account(&engine).await;
    let entity = EntityType::Contact;
    let first = made(&store, entity).await;
    early.batch_execute("begin; select now()").await.expect("a transaction begins");
    late.execute("update sync_contacts set company = 'late'", &[]).await.expect("another edits");
    early
        .batch_execute("update sync_contacts set company = 'early'; commit")
        .await
        .expect("what began first ends last");
    let entries = history(&store, entity, &first.id).await;
    let after: Vec<Value> = entries[..2].iter().map(|entry| entry.after["company"].clone()).collect();
    assert_eq!(after, ["early", "late"]);
    assert!(entries[0].created_at < entries[1].created_at, "their times say otherwise");
}

#[tokio::test]
async fn a_run_is_listed_from_its_last_entry_to_its_first() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    let store = Store::new(&engine);
    with_account(&engine).await;
    let mut expected = 0;
    for entity in EntityType::ALL {
        let rows: Vec<RowWrite> = (1..=5).map(|id| insert_as(entity, &id.to_string(), &json!({}))).collect();
        expected += rows.len();
        let page = WriteBatch { run_id: Some(RUN.to_owned()), source: WriteSource::FullSync, rows };
        store.write(&account(), entity, &page).await.expect("the page is written");
        let page = batch(vec![insert_as(entity, "9", &json!({}))]);
        store.write(&account(), entity, &page).await.expect("the page is written");
    }
    let mut entries: Vec<AuditEntry> = Vec::new();
    loop {
        let before = entries.last().map(|entry| entry.id);
        let page = store.list_run_audit(&account(), RUN, before, 7).await.expect("the log is read");
        if page.is_empty() {
            break;
        }
        entries.extend(page);
    }
    assert_eq!(entries.len(), expected);
    assert!(entries.is_sorted_by(|later, earlier| later.id > earlier.id));
    assert!(entries.iter().all(|entry| entry.run_id.as_deref() == Some(RUN) && entry.operation == "create"));
    assert_eq!(store.list_run_audit(&account(), "no run", None, 7).await.expect("nothing is read"), []);
}

#[tokio::test]
async fn a_revert_is_reverted_like_any_edit() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    let (store, person) = (Store::new(&engine), database.person().await);
    with_account(&engine).await;
    for entity in EntityType::ALL {
        let first = made(&store, entity).await;
        person.batch_execute(&person_update(entity, &other_values(entity))).await.expect("a person edits");
        let edited = row(&store, entity, &first.id).await;
        assert_ne!(edited.record, first.record);
        for expected in [&first.record, &edited.record, &first.record] {
            let entry = history(&store, entity, &first.id).await.remove(0);
            let held = row(&store, entity, &first.id).await;
            let undo = PersonEdit {
                values: entry.old.clone(),
                note: object(json!({"reverts": entry.id})),
                run_id: Some(RUN.to_owned()),
                ..edit(&held, json!({}))
            };
            assert!(store.edit(&account(), entity, &undo).await.expect("it is undone"));
            let undone = row(&store, entity, &first.id).await;
            assert_eq!(&undone.record, expected, "{entity:?}");
            let reverting = history(&store, entity, &first.id).await.remove(0);
            assert_eq!(reverting.operation, "revert");
            assert_eq!(reverting.note, object(json!({"reverts": entry.id})));
            assert_eq!(reverting.old, entry.after);
            assert_eq!(reverting.after, entry.old);
            assert_eq!(reverting.run_id.as_deref(), Some(RUN));
            // What both sides agreed on stays what it was.
            let base = Value::from(undone.record.overlaid(&undone.base_delta).to_object()).to_string();
            assert_eq!(in_one_form(&base), in_one_form(&Value::from(first.record.to_object()).to_string()));
        }
        let listed = store.list_run_audit(&account(), RUN, None, 100).await.expect("the log is read");
        assert_eq!(listed.iter().filter(|entry| entry.entity == entity).count(), 3);
    }
}

#[tokio::test]
async fn an_edit_of_a_row_that_never_met_its_record_keeps_what_it_was_made_with() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    let (store, person) = (Store::new(&engine), database.person().await);
    with_account(&engine).await;
    let entity = EntityType::Contact;
    let id: String = person
        .query_one(
            "insert into sync_contacts (account_id, email) values ('demo', 'a@example.com') returning id::text",
            &[],
        )
        .await
        .expect("a person inserts a row")
        .get(0);
    let made = row(&store, entity, &id).await;
    assert!(
        store
            .edit(&account(), entity, &edit(&made, json!({"email": "b@example.com"})))
            .await
            .expect("it is made")
    );
    let edited = row(&store, entity, &id).await;
    assert!(!edited.has_base);
    assert_eq!(edited.base_delta, object(json!({"email": "a@example.com"})));
    assert!(edited.edited_at >= made.edited_at && edited.edited_at.is_some());
}

#[tokio::test]
async fn of_edits_of_one_version_one_is_made() {
    let database = TestDatabase::migrated().await;
    let engine = database.engine().await;
    with_account(&engine).await;
    let entity = EntityType::Contact;
    let before = made(&Store::new(&engine), entity).await;
    let tasks = tokio::task::LocalSet::new();
    let mut edits = Vec::new();
    for number in 0..8 {
        let (client, before) = (database.engine().await, before.clone());
        edits.push(tasks.spawn_local(async move {
            let edit = edit(&before, json!({"company": format!("number {number}")}));
            Store::new(&client).edit(&account(), entity, &edit).await.expect("the edit is answered")
        }));
    }
    let mut made_edits = 0;
    tasks
        .run_until(async {
            for edit in edits {
                made_edits += u32::from(edit.await.expect("the edit ends"));
            }
        })
        .await;
    assert_eq!(made_edits, 1);
    assert_eq!(row(&Store::new(&engine), entity, &before.id).await.version, before.version + 1);
    assert_eq!(history(&Store::new(&engine), entity, &before.id).await.len(), 2);
}

/// A run brings records in, among them one that a delete had taken away; undoing it owes Keap nothing, now or later.
#[tokio::test]
async fn what_a_run_brought_is_undone_here_alone() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    let (store, person) = (Store::new(&engine), database.person().await);
    with_account(&engine).await;
    let entity = EntityType::Contact;
    let ids: Vec<String> = (1..=40).map(|id| id.to_string()).collect();
    let rows = ids.iter().map(|id| insert_as(entity, id, &full_record(entity))).collect();
    let page = WriteBatch { run_id: Some(RUN.to_owned()), source: WriteSource::FullSync, ..batch(rows) };
    store.write(&account(), entity, &page).await.expect("the page is written");
    let entries = store.list_run_audit(&account(), RUN, None, 100).await.expect("the log is read");
    assert_eq!(entries.len(), 40);
    for entry in &entries {
        let undone = undo(&store, &account(), entry, None).await.expect("it is undone");
        assert_eq!(undone.deleted, Some(true));
        assert!(undone.kept_in_keap.is_some_and(|said| said.starts_with("undone_here")));
    }
    let one = async |client: &Client, statement: &str| -> i64 {
        client.query_one(statement, &[]).await.expect("it is counted").get(0)
    };
    let said = "select count(*) from sync_contacts
        where deleted_at is not null and sync_status = 'completed' and sync_error like 'undone_here:%'";
    assert_eq!(one(&engine, said).await, 40);
    assert_eq!(one(&engine, "select count(*) from sync_queue").await, 0, "nothing is owed to Keap");
    assert_eq!(store.requeue(&account(), entity, true, 100).await.expect("it is looked for"), 0, "nor later");
    let after = row(&store, entity, &entries[0].entity_id).await;
    assert!(after.is_deleted_here_alone());

    // A person brings one back, and deletes it: that goes to Keap.
    for set in ["null", "now()"] {
        let statement = format!("update sync_contacts set deleted_at = {set} where id = '{}'", after.id);
        person.batch_execute(&statement).await.expect("a person edits");
    }
    assert_eq!(one(&engine, "select count(*) from sync_queue where operation = 'delete'").await, 1);

    // What the row itself had made is deleted in Keap, too.
    person
        .batch_execute(
            "insert into sync_contacts (account_id, first_name) select account_id, 'Bea' from sync_accounts",
        )
        .await
        .expect("a person inserts");
    let id: String = engine
        .query_one("select id::text from sync_contacts where first_name = 'Bea'", &[])
        .await
        .expect("the row is there")
        .get(0);
    let made = history(&store, entity, &id).await;
    let undone = undo(&store, &account(), &made[0], None).await.expect("it is undone");
    assert_eq!((undone.deleted, undone.kept_in_keap), (Some(true), None));
    assert_eq!(one(&engine, "select count(*) from sync_queue where operation = 'delete'").await, 2);
}
