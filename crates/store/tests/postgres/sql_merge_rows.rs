//! What SQL finds and settles on rows against the program's own merge: the same conflicts, and after a decision the same values and base.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "a test ends at the first thing that is not as it should be"
)]

use crate::merge_table::random::Random;
use crate::support::{TestDatabase, account, batch, full_record, insert_as, with_account};
use keapsync_domain::canonical::canonical;
use keapsync_domain::ids::EntityType;
use keapsync_domain::merge::{Merge, Sides, base_delta, reconcile};
use keapsync_domain::policy::{Policies, Policy};
use keapsync_domain::record::Record;
use keapsync_domain::schema::{Field, FieldKind, fields};
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::inbound::base_of;
use keapsync_engine::ports::{LocalRow, MirrorStore, RemoteKey, RowState};
use keapsync_store::Store;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use tokio_postgres::Client;

const ENTITIES: [EntityType; 4] =
    [EntityType::Contact, EntityType::Order, EntityType::Tag, EntityType::Subscription];

/// Rows per kind of record and strategy, each with several states.
const ROWS: usize = 500;

/// Fields whose column holds any value of the field's shape: the others refuse what no column could hold, which is another test's.
fn free_fields(entity: EntityType) -> Vec<&'static Field> {
    let is_free = |field: &&Field| {
        matches!(
            field.kind,
            FieldKind::Text
                | FieldKind::Email
                | FieldKind::Phone
                | FieldKind::Set
                | FieldKind::Map
                | FieldKind::Slots(_)
                | FieldKind::Address
        ) && !matches!(field.name, "keap_contact_id" | "currency" | "status")
    };
    fields(entity).iter().filter(is_free).collect()
}

/// What both sides agreed on, what Keap has and what the row has.
struct States {
    keap: Record,
    row: Value,
    base: Record,
}

fn states(random: &mut Random, entity: EntityType, number: usize) -> States {
    let free = free_fields(entity);
    let (mut base, mut keap, mut row) = (Map::new(), Map::new(), Map::new());
    for step in 0..3 {
        let field = free[(number * 7 + step * 5 + number / free.len()) % free.len()];
        for side in [&mut base, &mut keap, &mut row] {
            side.insert(field.name.to_owned(), random.value(field.kind));
        }
    }
    States {
        keap: Record::from_object(entity, keap),
        row: Value::Object(row),
        base: Record::from_object(entity, base),
    }
}

async fn rows_of(engine: &Client, entity: EntityType, keap_ids: &[String]) -> HashMap<String, LocalRow> {
    let keys: Vec<RemoteKey> = keap_ids
        .iter()
        .map(|keap_id| RemoteKey { keap_id: keap_id.clone(), keap_hash: String::new(), row_id: None })
        .collect();
    let known = Store::new(engine).read_known(&account(), entity, &keys).await.expect("the rows are read");
    known.into_iter().filter_map(|known| Some((known.keap_id, known.row?))).collect()
}

fn merged(row: &LocalRow, keap: &Record) -> Merge {
    let base = base_of(row);
    let sides = Sides {
        base: &base,
        keap,
        supabase: &row.record,
        keap_changed_at: Some(Timestamp(1_700_000_000_456)),
        supabase_changed_at: row.edited_at,
    };
    reconcile(&sides, &Policies { default: Policy::Manual, ..Policies::default() })
}

/// A conflict as the table keeps it, without what is null.
fn told(base: &Value, keap: &Value, supabase: &Value) -> Value {
    json!([plain(base), plain(keap), plain(supabase)])
}

/// Numbers by their value: Postgres has a spelling of its own.
fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(object) => object.iter().map(|(key, value)| (key.clone(), plain(value))).collect(),
        other => other.clone(),
    }
}

/// The form of a field's part, or of the field.
fn form(field: &Field, value: &Value, part: Option<&str>) -> Value {
    let form = canonical(field.kind, value);
    part.map_or(form.clone(), |part| form.get(part).cloned().unwrap_or(Value::Null))
}

/// A field's form without some of its parts.
fn rest(field: &Field, value: &Value, parts: &[&str]) -> Value {
    let Value::Object(mut form) = canonical(field.kind, value) else { return json!({}) };
    for part in parts {
        form.remove(*part);
    }
    Value::Object(form)
}

#[tokio::test]
async fn rows_are_found_in_conflict_and_settled_as_the_program_would() {
    let mut met = 0;
    for (number, entity) in ENTITIES.into_iter().enumerate() {
        for strategy in ["keap_wins", "supabase_wins"] {
            let database = TestDatabase::migrated().await;
            let engine = database.engine().await;
            with_account(&engine).await;
            engine
                .batch_execute(r#"update sync_accounts set settings = '{"policies": {"default": "manual"}}'"#)
                .await
                .expect("the policy is set");
            let mut random = Random::well_formed(40 + number as u64);
            let known: Vec<States> = (0..ROWS).map(|number| states(&mut random, entity, number)).collect();
            let keap_ids: Vec<String> = (1..=ROWS).map(|number| number.to_string()).collect();
            let writes = known
                .iter()
                .zip(&keap_ids)
                .map(|(states, keap_id)| {
                    let mut write = insert_as(entity, keap_id, &states.row);
                    write.base_delta = base_delta(
                        &states.base,
                        &Record::from_object(entity, states.row.as_object().cloned().expect("an object")),
                    );
                    write.state = RowState::Pending;
                    write
                })
                .collect();
            let outcome = Store::new(&engine)
                .write(&account(), entity, &batch(writes))
                .await
                .expect("the page is written");
            assert_eq!((outcome.written.len(), outcome.rejected.first()), (ROWS, None), "{entity:?}");
            let before = rows_of(&engine, entity, &keap_ids).await;

            let asked: Vec<String> = known
                .iter()
                .zip(&keap_ids)
                .map(|(states, keap_id)| {
                    json!({"entity_id": before[keap_id].id, "keap_data": states.keap.to_object()}).to_string()
                })
                .collect();
            engine
                .execute(
                    "select * from detect_sync_conflicts('demo', $1, array(select given::jsonb from unnest($2::text[]) as given))",
                    &[&entity.as_str(), &asked],
                )
                .await
                .expect("the rows are compared");
            let recorded: Vec<(String, String, String)> = engine
                .query(
                    "select keap_id, conflict_fields[1], jsonb_build_array(base_data -> conflict_fields[1],
                         keap_data -> conflict_fields[1], supabase_data -> conflict_fields[1])::text from sync_conflicts",
                    &[],
                )
                .await
                .expect("the conflicts are read")
                .iter()
                .map(|row| (row.get(0), row.get(1), row.get(2)))
                .collect();
            let mut found: BTreeMap<(String, String), Value> = BTreeMap::new();
            for (keap_id, path, values) in recorded {
                let values: Value = serde_json::from_str(&values).expect("Postgres writes JSON");
                found.insert((keap_id, path), plain(&values));
            }
            let mut expected: BTreeMap<(String, String), Value> = BTreeMap::new();
            for (states, keap_id) in known.iter().zip(&keap_ids) {
                for conflict in merged(&before[keap_id], &states.keap).conflicts {
                    let values = told(&conflict.base, &conflict.keap, &conflict.supabase);
                    expected.insert((keap_id.clone(), conflict.path.clone()), values);
                }
            }
            assert_eq!(found, expected, "{entity:?}");
            met += expected.len();

            engine
                .execute(
                    "select resolve_sync_conflicts(array_agg(id), $1) from (
                         select id, (row_number() over (order by id)) / 900 as page from sync_conflicts) as open
                     group by page",
                    &[&strategy],
                )
                .await
                .expect("the conflicts are settled");
            let after = rows_of(&engine, entity, &keap_ids).await;
            for (states, keap_id) in known.iter().zip(&keap_ids) {
                let (old, new) = (&before[keap_id], &after[keap_id]);
                let (old_base, new_base) = (base_of(old), base_of(new));
                let paths: Vec<&str> =
                    expected.keys().filter(|(of, _)| of == keap_id).map(|(_, path)| path.as_str()).collect();
                for (position, field) in fields(entity).iter().enumerate() {
                    let keap = states.keap.get(position);
                    let (row, row_before) = (new.record.get(position), old.record.get(position));
                    let (base, base_before) = (new_base.get(position), old_base.get(position));
                    let parts: Vec<&str> = paths
                        .iter()
                        .filter_map(|path| path.strip_prefix(field.name)?.strip_prefix('.'))
                        .collect();
                    let whole = paths.contains(&field.name);
                    let context = format!(
                        "{entity:?} {strategy} {} {paths:?}\n{keap}\n{row_before}\n{base_before}",
                        field.name
                    );
                    for part in parts.iter().copied().map(Some).chain(whole.then_some(None)) {
                        let wanted = if strategy == "keap_wins" { keap } else { row_before };
                        assert_eq!(
                            plain(&form(field, row, part)),
                            plain(&form(field, wanted, part)),
                            "row: {context}"
                        );
                        assert_eq!(
                            plain(&form(field, base, part)),
                            plain(&form(field, keap, part)),
                            "base: {context}"
                        );
                    }
                    if !whole && parts.is_empty() {
                        assert_eq!(plain(row), plain(row_before), "{context}");
                        assert_eq!(
                            plain(&canonical(field.kind, base)),
                            plain(&canonical(field.kind, base_before)),
                            "{context}"
                        );
                    } else if !whole {
                        assert_eq!(
                            plain(&rest(field, row, &parts)),
                            plain(&rest(field, row_before, &parts)),
                            "{context}"
                        );
                        assert_eq!(
                            plain(&rest(field, base, &parts)),
                            plain(&rest(field, base_before, &parts)),
                            "{context}"
                        );
                    }
                }
                let again = merged(new, &states.keap);
                assert!(again.conflicts.is_empty(), "{:?}", again.conflicts);
            }
        }
    }
    assert!(met > ROWS, "{met} conflicts");
}

#[tokio::test]
async fn a_row_that_never_met_its_record_has_the_same_base() {
    let database = TestDatabase::migrated().await;
    let engine = database.engine().await;
    with_account(&engine).await;
    for entity in ENTITIES {
        let write = insert_as(entity, "1", &full_record(entity));
        Store::new(&engine).write(&account(), entity, &batch(vec![write])).await.expect("it is written");
        engine.batch_execute("update sync_status set has_base = false").await.expect("it was never met");
        let row = rows_of(&engine, entity, &["1".to_owned()]).await.remove("1").expect("the row is there");
        let base = base_of(&row);
        let expected: Vec<&str> = fields(entity)
            .iter()
            .enumerate()
            .filter(|(position, _)| base.get(*position).is_null())
            .map(|(_, field)| field.name)
            .collect();
        let found: Vec<String> = engine
            .query(
                "select field from keapsync_fields()
                 where entity_type = $1 and keapsync_never_agreed($1) ? field order by position",
                &[&entity.as_str()],
            )
            .await
            .expect("the fields are listed")
            .iter()
            .map(|row| row.get(0))
            .collect();
        assert_eq!(found, expected, "{entity:?}");
    }
}
