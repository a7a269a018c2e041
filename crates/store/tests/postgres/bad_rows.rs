//! Records that cannot be stored stand alone: the rest of their page lands, and the queue says why they did not.
//!
//! Two layers catch them. `mirror/bound.rs` refuses before binding what Postgres would refuse, and its reason names the field.
//! What a database's own constraints and triggers refuse is found by halving the page.

#![allow(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

use crate::support::{TestDatabase, account, batch, full_record, insert_as, update_of, with_account};
use keapsync_domain::extra::Extra;
use keapsync_domain::ids::EntityType;
use keapsync_domain::policy::Policy;
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::ports::{ConflictRecord, MirrorStore, RemoteKey, RowState, RowWrite};
use keapsync_store::Store;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

const PAGE: usize = 1000;

/// Stands in bad values where there is room, and in no reason.
const SECRET: &str = "Sesame";

/// A record of a kind with one value in place of a good one.
fn with(entity: EntityType, field: &str, value: Value) -> Value {
    let mut values = full_record(entity);
    if let Some(object) = values.as_object_mut() {
        object.insert(field.to_owned(), value);
    }
    values
}

/// Values that cannot be stored, and what the reason must say.
fn bad_values(entity: EntityType) -> Vec<(&'static str, Value, &'static str)> {
    let deep = (0..200).fold(json!(SECRET), |inner, _| json!([inner]));
    // No two bytes alike in a row, so that no compression makes it fit.
    let long: String =
        (0..10_240_u32).filter_map(|number| char::from_u32(u32::from(b'!') + number * number % 89)).collect();
    match entity {
        EntityType::Contact => vec![
            ("email", json!(long), "email is longer than 800 bytes"),
            ("last_name", json!(long), "last_name is longer than 800 bytes"),
            ("first_name", json!(format!("{SECRET}\u{0}")), "first_name holds a NUL"),
            ("birth_date", json!("0000-12-31"), "birth_date is no date between 0001-01-01 and 9999-12-31"),
            ("birth_date", json!("10000-01-01"), "birth_date is no date"),
            ("birth_date", json!("1999-02-29"), "birth_date is no date"),
            ("custom_fields", json!({"1": format!("{SECRET}\u{0}")}), "custom_fields holds a NUL"),
            ("custom_fields", json!({format!("{SECRET}\u{0}"): 1}), "custom_fields has a key with a NUL"),
            ("custom_fields", json!({"1": deep}), "custom_fields nests more than 100 levels deep"),
            ("tags", json!(SECRET), "tags is not a list"),
            ("addresses", json!({"field": SECRET}), "addresses is not a list"),
            ("phone", json!([SECRET]), "phone is not a single value"),
        ],
        EntityType::Order => vec![
            ("order_number", json!(long), "order_number is longer than 800 bytes"),
            ("status", json!(long), "status is longer than 800 bytes"),
            ("keap_contact_id", json!(SECRET), "keap_contact_id is no Keap id"),
            ("order_date", json!("-0001-01-01T00:00:00Z"), "order_date is no time"),
            ("order_date", json!("+010000-01-01T00:00:00Z"), "order_date is no time"),
            ("total_amount", json!("100000000000"), "total_amount has more than 11 digits"),
            ("due_amount", json!("0.0001"), "due_amount has more than 3 digits"),
            ("paid_amount", json!("NaN"), "paid_amount is no plain decimal"),
            ("currency", json!(SECRET), "currency is no currency"),
            ("line_items", json!({"id": SECRET}), "line_items is not a list"),
            ("shipping_address", json!([SECRET]), "shipping_address is not an object"),
            ("notes", json!(format!("{SECRET}\u{0}")), "notes holds a NUL"),
        ],
        EntityType::Tag => vec![
            ("name", json!(long), "name is longer than 800 bytes"),
            ("description", json!(format!("{SECRET}\u{0}")), "description holds a NUL"),
            ("category_id", json!({"id": SECRET}), "category_id is not a single value"),
        ],
        EntityType::Subscription => vec![
            ("status", json!(long), "status is longer than 800 bytes"),
            ("keap_contact_id", json!("12345678901234567890"), "keap_contact_id is no Keap id"),
            ("start_date", json!("0000-01-01"), "start_date is no date"),
            ("next_bill_date", json!("tomorrow"), "next_bill_date is no date"),
            ("amount", json!("-100000000000"), "amount has more than 11 digits"),
            ("quantity", json!(2_147_483_648_i64), "quantity is no whole number within 32 bits"),
            ("billing_frequency", json!(1.5), "billing_frequency is no whole number"),
            ("auto_charge", json!(SECRET), "auto_charge is neither true nor false"),
            ("custom_fields", json!([SECRET]), "custom_fields is not an object"),
        ],
    }
}

async fn count(client: &Client, query: &str) -> i64 {
    let rows = client.query_typed(query, &[]).await.expect("the query is right");
    rows.first().expect("a count has a row").get(0)
}

#[tokio::test]
async fn each_bad_record_stands_alone_and_the_queue_says_why() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    with_account(&engine).await;
    let store = Store::new(&engine);
    for entity in EntityType::ALL {
        let bad = bad_values(entity);
        let mut rows: Vec<RowWrite> =
            (1..=PAGE).map(|id| insert_as(entity, &id.to_string(), &full_record(entity))).collect();
        let mut expected = BTreeMap::new();
        for (number, (field, value, reason)) in bad.iter().enumerate() {
            let position = number * 71 % PAGE;
            let keap_id = rows[position].keap_id.clone();
            rows[position] = insert_as(entity, &keap_id, &with(entity, field, value.clone()));
            expected.insert(keap_id, *reason);
        }
        let outcome = store.write(&account(), entity, &batch(rows)).await.unwrap();
        assert_eq!((outcome.written.len(), outcome.skipped.len()), (PAGE - bad.len(), 0), "{entity:?}");
        store.record_rejections(&account(), entity, &outcome.rejected).await.unwrap();

        let queued = engine
            .query_typed(
                "select keap_id, error_message, error_class from sync_queue
                 where entity_type = $1 and operation = 'sync' and status = 'failed'",
                &[(&entity.as_str(), Type::TEXT)],
            )
            .await
            .unwrap();
        assert_eq!(queued.len(), expected.len(), "{entity:?}");
        for row in &queued {
            let (keap_id, reason): (&str, &str) = (row.get(0), row.get(1));
            assert!(reason.starts_with(expected[keap_id]), "{entity:?} {keap_id}: {reason}");
            assert!(reason.contains("Correct the record in Keap") && !reason.contains(SECRET), "{reason}");
            assert_eq!(row.get::<_, &str>(2), "invalid");
        }
        let stored = count(&engine, &format!("select count(*) from sync_{}", entity.plural())).await;
        assert_eq!(stored, i64::try_from(PAGE - bad.len()).unwrap());
    }
}

#[tokio::test]
async fn a_bad_record_changes_nothing_of_the_row_that_it_would_update() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    with_account(&engine).await;
    let store = Store::new(&engine);
    for entity in EntityType::ALL {
        let good = insert_as(entity, "7", &full_record(entity));
        store.write(&account(), entity, &batch(vec![good])).await.unwrap();
        let key = RemoteKey { keap_id: "7".to_owned(), keap_hash: String::new(), row_id: None };
        let known = store.read_known(&account(), entity, &[key]).await.unwrap();
        let row = known[0].row.clone().unwrap();
        for (field, value, reason) in bad_values(entity) {
            let update = update_of(&row, &with(entity, field, value));
            let outcome = store.write(&account(), entity, &batch(vec![update])).await.unwrap();
            assert_eq!((outcome.written.len(), outcome.rejected.len()), (0, 1), "{entity:?} {reason}");
        }
        let after = store.read_rows(&account(), entity, std::slice::from_ref(&row.id)).await.unwrap();
        assert_eq!(after, [row]);
    }
}

#[tokio::test]
async fn what_stands_beside_the_columns_is_checked_as_well() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    with_account(&engine).await;
    let store = Store::new(&engine);
    let object = |key: &str, value: Value| Map::from_iter([(key.to_owned(), value)]);
    let nul = || object("note", json!(format!("{SECRET}\u{0}")));
    let good = |keap_id: &str| insert_as(EntityType::Contact, keap_id, &full_record(EntityType::Contact));
    let conflict = |field: String, keap: Value| ConflictRecord {
        field,
        base: Value::Null,
        keap,
        supabase: Value::Null,
        policy: Policy::Manual,
        winner: None,
    };
    let long = Extra::new(&object("note", json!(SECRET.repeat(4 * 1024 * 1024 / SECRET.len() + 1))));
    let rows = vec![
        (RowWrite { extra: long.expect("it is plain JSON"), ..good("1") }, "extra is longer"),
        (RowWrite { base_delta: nul(), ..good("2") }, "base holds a NUL"),
        (RowWrite { audit_old: nul(), ..good("3") }, "the audit entry holds a NUL"),
        (RowWrite { audit_lost: nul(), ..good("4") }, "the audit entry holds a NUL"),
        (
            RowWrite {
                state: RowState::Conflict,
                conflicts: vec![conflict("email".to_owned(), json!(format!("{SECRET}\u{0}")))],
                ..good("5")
            },
            "a value in conflict holds a NUL",
        ),
        (
            RowWrite {
                state: RowState::Conflict,
                conflicts: vec![conflict(format!("custom_fields.{}", "k".repeat(10_240)), json!("x"))],
                ..good("6")
            },
            "a key in conflict is longer than 800 bytes",
        ),
        (RowWrite { keap_id: SECRET.to_owned(), ..good("7") }, "the record's id is no Keap id"),
    ];
    let expected: BTreeMap<String, &str> =
        rows.iter().map(|(row, reason)| (row.keap_id.clone(), *reason)).collect();
    let mut page: Vec<RowWrite> = rows.into_iter().map(|(row, _)| row).collect();
    page.push(good("8"));
    let outcome = store.write(&account(), EntityType::Contact, &batch(page)).await.unwrap();
    assert_eq!(outcome.written, ["8"]);
    assert_eq!(outcome.rejected.len(), expected.len());
    for rejected in outcome.rejected {
        let reason = expected[&rejected.keap_id.unwrap()];
        assert!(rejected.reason.starts_with(reason), "{}", rejected.reason);
        assert!(!rejected.reason.contains(SECRET));
    }
}

#[tokio::test]
async fn what_an_owner_forbids_is_found_by_halving_and_its_values_stay_unsaid() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.pooled().await, database.person().await);
    with_account(&engine).await;
    person
        .batch_execute(&format!(
            "alter table sync_contacts add constraint no_magic check (first_name <> '{SECRET}');
             create function public.refuse_bad_dates() returns trigger language plpgsql as $$
             begin
                 if new.birth_date < '1900-01-01' then perform '{SECRET}'::integer; end if;
                 return new;
             end $$;
             create trigger refuse_bad_dates before insert on sync_contacts for each row execute function public.refuse_bad_dates()"
        ))
        .await
        .unwrap();
    let store = Store::new(&engine);
    let mut rows: Vec<RowWrite> = (1..=PAGE)
        .map(|id| insert_as(EntityType::Contact, &id.to_string(), &full_record(EntityType::Contact)))
        .collect();
    for (position, field, value) in [
        (0, "first_name", SECRET),
        (499, "first_name", SECRET),
        (500, "birth_date", "1899-12-31"),
        (999, "first_name", SECRET),
    ] {
        let keap_id = rows[position].keap_id.clone();
        rows[position] =
            insert_as(EntityType::Contact, &keap_id, &with(EntityType::Contact, field, json!(value)));
    }
    let outcome = store.write(&account(), EntityType::Contact, &batch(rows)).await.unwrap();
    assert_eq!((outcome.written.len(), outcome.skipped.len()), (PAGE - 4, 0));
    let ids: Vec<_> = outcome.rejected.iter().filter_map(|rejected| rejected.keap_id.as_deref()).collect();
    assert_eq!(ids, ["1", "500", "501", "1000"]);
    for rejected in &outcome.rejected {
        assert!(
            rejected.reason.contains("SQLSTATE") && !rejected.reason.contains(SECRET),
            "{}",
            rejected.reason
        );
    }
    assert!(outcome.rejected[0].reason.contains("no_magic"), "{}", outcome.rejected[0].reason);
    assert_eq!(count(&engine, "select count(*) from sync_contacts").await, 996);
}

#[tokio::test]
async fn the_first_and_the_last_day_are_stored() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    with_account(&engine).await;
    let store = Store::new(&engine);
    // The last moment that Rust's clock can tell lies a day before the last date.
    for (keap_id, day, moment) in
        [("1", "0001-01-01", "0001-01-01T00:00:00.000Z"), ("2", "9999-12-31", "9999-12-30T21:59:59.999Z")]
    {
        for (entity, field, value) in [
            (EntityType::Contact, "birth_date", day.to_owned()),
            (EntityType::Subscription, "end_date", day.to_owned()),
            (EntityType::Order, "order_date", moment.to_owned()),
        ] {
            let row = RowWrite {
                keap_created_at: Timestamp::parse_rfc3339(moment),
                ..insert_as(entity, keap_id, &json!({field: value}))
            };
            let outcome = store.write(&account(), entity, &batch(vec![row])).await.unwrap();
            assert_eq!(outcome.written, [keap_id], "{entity:?} {outcome:?}");
            let key = RemoteKey { keap_id: keap_id.to_owned(), keap_hash: String::new(), row_id: None };
            let known = store.read_known(&account(), entity, &[key]).await.unwrap();
            assert_eq!(known[0].row.as_ref().unwrap().record.get_by_name(field), &json!(value));
        }
    }
}
