//! What comparing both sides reads, and what dry runs write.

#![allow(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

use crate::support::{TestDatabase, account, batch, full_record, hash, insert_as, update_of, with_account};
use keapsync_domain::certificate::{Difference, DifferenceReason, EntityCertificate};
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_domain::policy::Policy;
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::ports::proof::{
    LatestCertificate, LinkedRow, ListedChange, PlannedAction, PlannedChange, PlannedCount, PlannedSide,
    ProofStore,
};
use keapsync_engine::ports::{ConflictRecord, MirrorStore, RowLists, RowState, RowWrite};
use keapsync_store::Store;
use serde_json::{Value, json};
use tokio_postgres::Client;

const RUN: &str = "00000000-0000-4000-8000-0000000000a1";
const OTHER_RUN: &str = "00000000-0000-4000-8000-0000000000a2";

async fn written(store: &Store<'_>, account: &AccountId, entity: EntityType, rows: Vec<RowWrite>) {
    let count = rows.len();
    let outcome = store.write(account, entity, &batch(rows)).await.expect("the page is written");
    assert_eq!(outcome.written.len(), count, "{outcome:?}");
}

/// A column of free text.
fn text_column(entity: EntityType) -> &'static str {
    match entity {
        EntityType::Contact => "email",
        EntityType::Order => "title",
        EntityType::Tag => "name",
        EntityType::Subscription => "cancel_reason",
    }
}

/// Inserts a row as a person does, and answers its key.
async fn inserted_by_person(person: &Client, entity: EntityType) -> String {
    let statement = format!(
        "insert into sync_{} (account_id, {}) values ('demo', 'new@example.com') returning id::text",
        entity.plural(),
        text_column(entity)
    );
    person.query_one(&statement, &[]).await.expect("the person inserts a row").get(0)
}

async fn all_linked(store: &Store<'_>, entity: EntityType, limit: usize) -> Vec<LinkedRow> {
    let mut all: Vec<LinkedRow> = Vec::new();
    loop {
        let after = all.last().map(|row| row.keap_id.clone());
        let page =
            store.list_linked(&account(), entity, after.as_deref(), limit).await.expect("rows are listed");
        assert!(page.len() <= limit);
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

#[tokio::test]
async fn linked_rows_come_in_the_order_of_their_keap_ids_as_texts() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    let (store, person) = (Store::new(&engine), database.person().await);
    with_account(&engine).await;
    let other = AccountId::parse("other").expect("the name is valid");
    store.upsert_account(&other, "Other", "active", "{}").await.expect("the account is mirrored");
    for entity in EntityType::ALL {
        let rows = |ids: std::ops::RangeInclusive<i32>| -> Vec<RowWrite> {
            ids.map(|id| insert_as(entity, &id.to_string(), &json!({}))).collect()
        };
        written(&store, &account(), entity, rows(1..=25)).await;
        written(&store, &other, entity, rows(5..=35)).await;
        inserted_by_person(&person, entity).await;
        person
            .execute(
                &format!(
                    "delete from sync_{} where account_id = 'demo' and keap_id in ('1', '12', '9')",
                    entity.plural()
                ),
                &[],
            )
            .await
            .expect("rows are deleted");

        let mut expected: Vec<String> =
            (1..=25).filter(|id| ![1, 12, 9].contains(id)).map(|id| id.to_string()).collect();
        expected.sort();
        for limit in [1, 10, 22, 1000] {
            let linked = all_linked(&store, entity, limit).await;
            let ids: Vec<&str> = linked.iter().map(|row| row.keap_id.as_str()).collect();
            assert_eq!(ids, expected, "{entity:?} by {limit}");
            let keys: Vec<String> = linked.iter().map(|row| row.id.clone()).collect();
            let rows = store.read_rows(&account(), entity, &keys).await.expect("rows are read");
            assert_eq!(rows.len(), keys.len(), "the keys are those of the account's rows");
        }
    }
}

#[tokio::test]
async fn rows_that_keap_may_have_lost_are_those_between_what_it_listed() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    let (store, person) = (Store::new(&engine), database.person().await);
    with_account(&engine).await;
    let other = AccountId::parse("other").expect("the name is valid");
    store.upsert_account(&other, "Other", "active", "{}").await.expect("the account is mirrored");
    let ids: Vec<u32> = (1..=25).chain(95..=130).chain(990..=1010).collect();
    for entity in EntityType::ALL {
        let rows: Vec<RowWrite> =
            ids.iter().map(|id| insert_as(entity, &id.to_string(), &json!({}))).collect();
        written(&store, &account(), entity, rows).await;
        written(&store, &other, entity, vec![insert_as(entity, "50", &json!({}))]).await;
        let delete =
            format!("delete from sync_{} where account_id = 'demo' and keap_id = '100'", entity.plural());
        person.execute(&delete, &[]).await.expect("a row is deleted");
        let mut told = Vec::new();
        for (after, until) in [
            (None, None),
            (None, Some(9)),
            (Some(9), Some(25)),
            (Some(10), Some(20)),
            (Some(20), Some(99)),
            (Some(99), Some(995)),
            (Some(995), Some(1005)),
            (Some(1000), None),
            (Some(200), Some(900)),
        ] {
            for (present, limit) in [(vec![], 1000), (vec![12_u32, 101, 1001], 1000), (vec![12, 997], 3)] {
                let expected: Vec<String> = ids
                    .iter()
                    .filter(|id| **id != 100 && !present.contains(*id))
                    .filter(|id| {
                        after.is_none_or(|after| **id > after) && until.is_none_or(|until| **id <= until)
                    })
                    .take(limit)
                    .map(u32::to_string)
                    .collect();
                let text = |bound: Option<u32>| bound.map(|bound| bound.to_string());
                let listed: Vec<String> = present.iter().map(u32::to_string).collect();
                let missing = store
                    .list_missing(
                        &account(),
                        entity,
                        text(after).as_deref(),
                        text(until).as_deref(),
                        &listed,
                        limit,
                    )
                    .await
                    .expect("rows are listed");
                let found: Vec<String> = missing.into_iter().map(|row| row.keap_id).collect();
                assert_eq!(found, expected, "{entity:?} {after:?} {until:?} {present:?} {limit}");
                told.extend(found);
            }
        }
        assert!(told.len() > ids.len());
    }
}

#[tokio::test]
async fn rows_with_open_edits_and_rows_without_a_record_are_listed_by_pages() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    let (store, person) = (Store::new(&engine), database.person().await);
    with_account(&engine).await;
    for entity in EntityType::ALL {
        let rows = (1..=9).map(|id| insert_as(entity, &id.to_string(), &json!({}))).collect();
        written(&store, &account(), entity, rows).await;
        let edit = format!(
            "update sync_{} set {column} = 'a' where keap_id in ('1', '2', '3', '4');
             update sync_{0} set {column} = 'b' where keap_id in ('1', '2');
             update sync_queue set status = 'completed' where keap_id = '3'",
            entity.plural(),
            column = text_column(entity)
        );
        person.batch_execute(&edit).await.expect("people edit");
        let mut unlinked = Vec::new();
        for _ in 0..5 {
            unlinked.push(inserted_by_person(&person, entity).await);
        }
        let gone = unlinked.swap_remove(2);
        let delete = format!("delete from sync_{} where id = $1::text::uuid", entity.plural());
        person.execute(&delete, &[&gone]).await.expect("one is deleted");
        let linked = all_linked(&store, entity, 100).await;
        let mut open: Vec<String> = linked
            .iter()
            .filter(|row| ["1", "2", "4"].contains(&row.keap_id.as_str()))
            .map(|row| row.id.clone())
            .chain(unlinked.iter().cloned())
            .chain([gone])
            .collect();
        open.sort();
        unlinked.sort();
        let (mut open_told, mut unlinked_told): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        loop {
            let after = open_told.last().cloned();
            let page =
                store.list_open(&account(), entity, after.as_deref(), 3).await.expect("rows are listed");
            let after = unlinked_told.last().cloned();
            let more =
                store.list_unlinked(&account(), entity, after.as_deref(), 3).await.expect("rows are listed");
            if page.is_empty() && more.is_empty() {
                break;
            }
            open_told.extend(page);
            unlinked_told.extend(more);
        }
        assert_eq!((open_told, unlinked_told), (open, unlinked), "{entity:?}");
    }
}

fn open_conflict(field: &str) -> ConflictRecord {
    ConflictRecord {
        field: field.to_owned(),
        base: Value::Null,
        keap: json!("a"),
        supabase: json!("b"),
        policy: Policy::Manual,
        winner: None,
    }
}

#[tokio::test]
async fn what_has_not_reached_the_other_side_is_counted_and_dated() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    let (store, person) = (Store::new(&engine), database.person().await);
    with_account(&engine).await;
    for entity in EntityType::ALL {
        let table = entity.plural();
        let at_first = store.unsynced(&account(), entity).await.expect("it is counted");
        assert_eq!(at_first, keapsync_engine::ports::proof::Unsynced::default());
        let rows =
            (1..=4).map(|id| insert_as(entity, &id.to_string(), &full_record(entity))).collect::<Vec<_>>();
        written(&store, &account(), entity, rows).await;
        let settled = store.unsynced(&account(), entity).await.expect("it is counted");
        assert_eq!((settled.live, settled.unlinked, settled.oldest_unsynced_at), (4, 0, None));

        // An edit of a linked row, then a row without a record: the older of both counts.
        person
            .execute(
                &format!(
                    "update sync_{table} set {} = 'other@example.com' where keap_id = '1'",
                    text_column(entity)
                ),
                &[],
            )
            .await
            .expect("the person edits");
        let unlinked = inserted_by_person(&person, entity).await;
        let made_at: i64 = person
            .query_one(
                &format!("select (extract(epoch from created_at) * 1000)::bigint from sync_{table} where id = $1::text::uuid"),
                &[&unlinked],
            )
            .await
            .expect("the row is there")
            .get(0);
        let edited_at: Option<i64> = person
            .query_one(
                "select (extract(epoch from min(created_at)) * 1000)::bigint from sync_queue where entity_type = $1",
                &[&entity.as_str()],
            )
            .await
            .expect("the queue is read")
            .get(0);
        let waits = store.unsynced(&account(), entity).await.expect("it is counted");
        assert_eq!((waits.live, waits.unlinked), (5, 1));
        assert_eq!(waits.oldest_unsynced_at, edited_at.map(Timestamp));
        // What no item carries any more counts as well.
        engine
            .execute("delete from sync_queue where entity_type = $1", &[&entity.as_str()])
            .await
            .expect("the queue is emptied");
        let waits = store.unsynced(&account(), entity).await.expect("it is counted");
        assert_eq!(waits.oldest_unsynced_at, Some(Timestamp(made_at)));
    }
}

#[tokio::test]
async fn open_conflicts_are_told_by_row_and_field() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    let store = Store::new(&engine);
    with_account(&engine).await;
    let entity = EntityType::Contact;
    let rows = (1..=4).map(|id| insert_as(entity, &id.to_string(), &full_record(entity))).collect();
    written(&store, &account(), entity, rows).await;
    let keys: Vec<String> = all_linked(&store, entity, 10).await.into_iter().map(|row| row.id).collect();
    let rows = store.read_rows(&account(), entity, &keys).await.expect("rows are read");
    let with = |row: &keapsync_engine::ports::LocalRow, conflicts: Vec<ConflictRecord>| RowWrite {
        record: None,
        state: RowState::Conflict,
        conflicts,
        ..update_of(row, &json!({}))
    };
    let settled = ConflictRecord { winner: Some("keap"), ..open_conflict("company") };
    let [first, second, third, fourth] = rows.as_slice() else { panic!("there are four") };
    written(
        &store,
        &account(),
        entity,
        vec![
            with(
                first,
                vec![open_conflict("last_name"), open_conflict("addresses.BILLING"), settled.clone()],
            ),
            with(second, vec![open_conflict("email")]),
            with(third, vec![settled]),
        ],
    )
    .await;

    let asked = [first, second, third, fourth].map(|row| row.id.clone());
    let mut told = store.open_conflict_fields(&account(), entity, &asked).await.expect("conflicts are read");
    let mut expected = vec![
        (first.id.clone(), vec!["addresses.BILLING".to_owned(), "last_name".to_owned()]),
        (second.id.clone(), vec!["email".to_owned()]),
    ];
    told.sort();
    expected.sort();
    assert_eq!(told, expected);
    let unsynced = store.unsynced(&account(), entity).await.expect("it is counted");
    assert_eq!(unsynced.open_conflicts, 3);

    let other = store.open_conflict_fields(&account(), EntityType::Order, &asked).await;
    assert_eq!(other.expect("conflicts are read"), []);
    let odd = store.open_conflict_fields(&account(), entity, &["no id".to_owned()]).await;
    assert_eq!(odd.expect("nothing is asked"), []);
}

fn change(
    side: PlannedSide,
    action: PlannedAction,
    row: Option<&str>,
    keap_id: Option<&str>,
) -> PlannedChange {
    PlannedChange {
        side,
        action,
        entity: EntityType::Contact,
        entity_id: row.map(str::to_owned),
        keap_id: keap_id.map(str::to_owned),
        fields: vec!["email".to_owned(), "custom_fields.7".to_owned()],
    }
}

async fn planned(store: &Store<'_>, run: &str) -> Vec<PlannedChange> {
    let listed = store.list_planned(&account(), run, 0, 1000).await.expect("changes are listed");
    assert!(listed.is_sorted_by(|one, next| one.number < next.number));
    listed.into_iter().map(|listed| listed.change).collect()
}

#[tokio::test]
async fn a_dry_run_names_each_record_once_per_side() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    let store = Store::new(&engine);
    with_account(&engine).await;
    let row = "00000000-0000-4000-8000-00000000000b";
    let (keap, supabase) = (PlannedSide::Keap, PlannedSide::Supabase);
    let page = vec![
        change(supabase, PlannedAction::Create, None, Some("2")),
        change(supabase, PlannedAction::Update, Some(row), Some("1")),
        change(keap, PlannedAction::Update, Some(row), Some("1")),
        change(keap, PlannedAction::Create, Some("00000000-0000-4000-8000-00000000000c"), None),
        PlannedChange {
            entity: EntityType::Order,
            ..change(supabase, PlannedAction::Delete, Some(row), Some("1"))
        },
    ];
    store.write_planned(&account(), RUN, &page).await.expect("changes are noted");
    store.write_planned(&account(), RUN, &page).await.expect("changes are noted again");
    store.write_planned(&account(), RUN, &[]).await.expect("nothing is noted");
    assert_eq!(planned(&store, RUN).await, page);

    // A repeated unit finds records as they are by then: the row of one was made meanwhile, the other was linked.
    let later = vec![
        change(supabase, PlannedAction::Conflict, Some(row), Some("2")),
        change(keap, PlannedAction::Update, Some("00000000-0000-4000-8000-00000000000c"), Some("3")),
    ];
    store.write_planned(&account(), RUN, &later).await.expect("changes are noted");
    let after = planned(&store, RUN).await;
    assert_eq!(after.len(), page.len());
    assert!(later.iter().all(|change| after.contains(change)), "{after:?}");

    // Of two changes of one record in one batch the later one counts.
    let twice = [
        change(supabase, PlannedAction::Update, None, Some("9")),
        change(supabase, PlannedAction::Delete, None, Some("9")),
    ];
    store.write_planned(&account(), OTHER_RUN, &twice).await.expect("changes are noted");
    assert_eq!(planned(&store, OTHER_RUN).await, [twice[1].clone()]);

    let count = |side, action| PlannedCount { side, action, count: 1 };
    assert_eq!(
        store.count_planned(&account(), RUN).await.expect("changes are counted"),
        [
            count(keap, PlannedAction::Update),
            count(supabase, PlannedAction::Conflict),
            count(supabase, PlannedAction::Delete),
            count(supabase, PlannedAction::Update),
        ]
        .map(|found| PlannedCount { count: if found.side == keap { 2 } else { 1 }, ..found })
    );

    let mut paged: Vec<ListedChange> = Vec::new();
    loop {
        let after = paged.last().map_or(0, |listed| listed.number);
        let page = store.list_planned(&account(), RUN, after, 2).await.expect("changes are listed");
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged.into_iter().map(|listed| listed.change).collect::<Vec<_>>(), after);
    let stranger = AccountId::parse("other").expect("the name is valid");
    assert_eq!(store.list_planned(&stranger, RUN, 0, 10).await.expect("it is read"), []);
    assert_eq!(store.count_planned(&account(), "no run").await.expect("it is read"), []);
}

#[tokio::test]
async fn planned_changes_are_removed_after_their_retention() {
    let database = TestDatabase::migrated().await;
    let engine = database.engine().await;
    let store = Store::new(&engine);
    store
        .upsert_account(&account(), "Demo", "active", r#"{"retention": {"run_changes_days": 10}}"#)
        .await
        .expect("the account is mirrored");
    let changes: Vec<PlannedChange> = (1..=6)
        .map(|id| change(PlannedSide::Supabase, PlannedAction::Create, None, Some(&id.to_string())))
        .collect();
    store.write_planned(&account(), RUN, &changes).await.expect("changes are noted");
    engine
        .batch_execute(
            "update sync_run_changes set created_at = now() - interval '11 days' where keap_id in ('1', '2', '3');
             update sync_run_changes set created_at = now() - interval '9 days' where keap_id = '4'",
        )
        .await
        .expect("some are old");
    for left in [4, 3, 3] {
        let report = store.maintain(2).await.expect("the upkeep runs");
        assert!(report.iter().any(|part| part.task == "purge run changes"));
        assert!(report.iter().any(|part| part.task == "purge completed"), "the other parts run, too");
        assert_eq!(planned(&store, RUN).await.len(), left);
    }
}

fn certificate(entity: EntityType, checked_at: i64, differing: &[&str]) -> EntityCertificate {
    EntityCertificate {
        entity,
        equal: differing.is_empty(),
        keap_count: 1_000_000,
        supabase_count: 999_999,
        keap_tree_hash: hash("a"),
        supabase_tree_hash: hash(if differing.is_empty() { "a" } else { "b" }),
        differing_count: differing.len() as u64,
        differences: differing
            .iter()
            .map(|id| Difference {
                keap_id: Some((*id).to_owned()),
                entity_id: None,
                fields: vec!["email".to_owned()],
                reason: DifferenceReason::Waiting,
            })
            .collect(),
        open_conflicts: 3,
        oldest_unsynced_at: (!differing.is_empty()).then_some(Timestamp(1_790_000_000_123)),
        started_at: Timestamp(checked_at - 1),
        checked_at: Timestamp(checked_at),
    }
}

#[tokio::test]
async fn the_latest_certificates_are_told_with_the_last_proof() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    let store = Store::new(&engine);
    with_account(&engine).await;
    let (first, second, third) = (1_800_000_000_001, 1_800_000_000_002, 1_800_000_000_003);
    assert_eq!(store.latest_certificates(&account()).await.expect("none is there"), []);
    let (contact, tag) = (EntityType::Contact, EntityType::Tag);
    let equal = [certificate(tag, first, &[]), certificate(contact, first, &[])];
    store.write_certificate(&account(), Some(RUN), &equal).await.expect("they are kept");
    let differing = certificate(contact, second, &["7", "8"]);
    // A repeated unit compared anew: what the run said first stands.
    store
        .write_certificate(&account(), Some(OTHER_RUN), std::slice::from_ref(&differing))
        .await
        .expect("it is kept");
    store
        .write_certificate(&account(), Some(OTHER_RUN), &[certificate(contact, third, &[])])
        .await
        .expect("it is left out");
    store.write_certificate(&account(), None, &[]).await.expect("nothing is kept");

    let latest = |certificate: &EntityCertificate, run: &str| LatestCertificate {
        certificate: certificate.clone(),
        run_id: Some(run.to_owned()),
        last_equal_at: Some(Timestamp(first)),
    };
    let told = store.latest_certificates(&account()).await.expect("they are read");
    assert_eq!(told, [latest(&differing, OTHER_RUN), latest(&equal[0], RUN)]);

    // Comparisons outside of a run are kept each.
    for (checked_at, differing) in [(second, &["9"][..]), (third, &[])] {
        let page = [certificate(tag, checked_at, differing)];
        store.write_certificate(&account(), None, &page).await.expect("it is kept");
        let told = store.latest_certificates(&account()).await.expect("they are read");
        let expected = LatestCertificate {
            certificate: page[0].clone(),
            run_id: None,
            last_equal_at: Some(Timestamp(if differing.is_empty() { checked_at } else { first })),
        };
        assert_eq!(told.get(1), Some(&expected));
    }
    let stranger = AccountId::parse("other").expect("the name is valid");
    assert_eq!(store.latest_certificates(&stranger).await.expect("none is there"), []);
}
