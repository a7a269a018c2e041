//! The merge in SQL against the program's own: the schema, canonical forms, the shared table of cases, and random merges.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test ends at the first thing that is not as it should be"
)]

use crate::merge_table::random::Random;
use crate::merge_table::{MergeCase, table};
use crate::support::TestDatabase;
use keapsync_domain::canonical::canonical;
use keapsync_domain::ids::EntityType;
use keapsync_domain::merge::base_delta;
use keapsync_domain::schema::{FieldKind, SlotKind, WriteAccess, fields};
use serde_json::{Value, json};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

const ENTITIES: [EntityType; 4] =
    [EntityType::Contact, EntityType::Order, EntityType::Tag, EntityType::Subscription];

const SLOT_KINDS: [SlotKind; 4] = [SlotKind::Email, SlotKind::Phone, SlotKind::Address, SlotKind::Item];

/// Says how many random states there are, a million when unset: three values of a field of which the two sides differ, with their policy
/// and times. A merge has several.
const STATES_VARIABLE: &str = "KEAPSYNC_MERGE_STATES";

/// Sessions that share them, each with a seed of its own.
const SESSIONS: u64 = 2;

/// Merges per statement.
const PAGE: usize = 1_000;

/// The words of `keapsync_fields` for a kind.
fn kind_names(kind: FieldKind) -> (&'static str, Option<&'static str>) {
    match kind {
        FieldKind::Text => ("text", None),
        FieldKind::Email => ("email", None),
        FieldKind::Phone => ("phone", None),
        FieldKind::Date => ("date", None),
        FieldKind::Instant => ("instant", None),
        FieldKind::Integer => ("integer", None),
        FieldKind::Boolean => ("boolean", None),
        FieldKind::Money => ("money", None),
        FieldKind::Address => ("address", None),
        FieldKind::Set => ("set", None),
        FieldKind::Map => ("map", None),
        FieldKind::Slots(SlotKind::Email) => ("slots", Some("email")),
        FieldKind::Slots(SlotKind::Phone) => ("slots", Some("phone")),
        FieldKind::Slots(SlotKind::Address) => ("slots", Some("address")),
        FieldKind::Slots(SlotKind::Item) => ("slots", Some("item")),
    }
}

async fn json_of(
    client: &Client,
    query: &str,
    parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
) -> Value {
    let row = client
        .query_one(
            &format!("select coalesce(jsonb_agg(to_jsonb(x)), '[]')::text from ({query}) x"),
            parameters,
        )
        .await
        .expect("the query is right");
    serde_json::from_str(row.get(0)).expect("Postgres writes JSON")
}

#[tokio::test]
async fn the_fields_in_sql_are_those_of_the_schema() {
    let database = TestDatabase::migrated().await;
    let engine = database.engine().await;
    for entity in ENTITIES {
        let expected: Vec<Value> = fields(entity)
            .iter()
            .enumerate()
            .map(|(position, field)| {
                let (kind, slot_kind) = kind_names(field.kind);
                let access = match field.access {
                    WriteAccess::Writable => "writable",
                    WriteAccess::CreateOnly(_) => "create_only",
                    WriteAccess::ReadOnly(_) => "read_only",
                };
                json!({
                    "entity_type": entity.as_str(), "position": position, "field": field.name, "kind": kind,
                    "slot_kind": slot_kind, "access": access, "reason": field.access.refusal(),
                })
            })
            .collect();
        let found = json_of(
            &engine,
            "select * from keapsync_fields() where entity_type = $1 order by position",
            &[&entity.as_str()],
        )
        .await;
        assert_eq!(found, Value::Array(expected));
    }
    let all: i64 = engine.query_one("select count(*) from keapsync_fields()", &[]).await.unwrap().get(0);
    let known: usize = ENTITIES.iter().map(|entity| fields(*entity).len()).sum();
    assert_eq!(usize::try_from(all), Ok(known));
}

#[tokio::test]
async fn the_table_of_each_kind_of_record_has_its_fields() {
    let database = TestDatabase::migrated().await;
    let engine = database.engine().await;
    let missing = json_of(
        &engine,
        "select entity_type, field from keapsync_fields() known
         where not exists (select from pg_attribute where attrelid = keapsync_table(known.entity_type) and attname = known.field)",
        &[],
    )
    .await;
    assert_eq!(missing, json!([]));
    let refused =
        engine.query_one("select keapsync_table('opportunity')", &[]).await.expect_err("no such kind");
    assert_eq!(refused.code().map(SqlState::code), Some("22023"));
}

#[tokio::test]
async fn canonical_forms_are_the_same_in_sql() {
    let database = TestDatabase::migrated().await;
    let engine = database.engine().await;
    let mut kinds = vec![
        FieldKind::Text,
        FieldKind::Email,
        FieldKind::Phone,
        FieldKind::Date,
        FieldKind::Instant,
        FieldKind::Integer,
        FieldKind::Boolean,
        FieldKind::Money,
        FieldKind::Address,
        FieldKind::Set,
        FieldKind::Map,
    ];
    kinds.extend(SLOT_KINDS.map(FieldKind::Slots));
    let mut random = Random::new(7);
    for kind in kinds {
        let values: Vec<Value> = (0..PAGE).map(|_| random.value(kind)).collect();
        let texts: Vec<String> = values.iter().map(Value::to_string).collect();
        let (name, slot_kind) = kind_names(kind);
        let rows = engine
            .query(
                "select keapsync_canonical($1, $2, value::jsonb)::text
                 from unnest($3::text[]) with ordinality as given (value, line) order by line",
                &[&name, &slot_kind, &texts],
            )
            .await
            .expect("every value has a canonical form");
        for (value, row) in values.iter().zip(&rows) {
            let form: Option<&str> = row.get(0);
            let form: Value =
                form.map_or(Value::Null, |text| serde_json::from_str(text).expect("Postgres writes JSON"));
            assert_eq!(plain(&form), plain(&canonical(kind, value)), "{kind:?} {value}");
        }
    }
}

/// Numbers as their value, because Postgres writes `0.10` and `1e20` in its own way.
fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(object) => object.iter().map(|(key, value)| (key.clone(), plain(value))).collect(),
        other => other.clone(),
    }
}

/// Merges in SQL, all in one statement.
async fn merged_in_sql(engine: &Client, cases: &[MergeCase]) -> Vec<Value> {
    let texts = |read: fn(&MergeCase) -> String| -> Vec<String> { cases.iter().map(read).collect() };
    let keys: Vec<String> = (0..cases.len()).map(|position| position.to_string()).collect();
    let times = |read: fn(&MergeCase) -> Option<keapsync_domain::timestamp::Timestamp>| -> Vec<Option<i64>> {
        cases.iter().map(|case| read(case).map(|time| time.0)).collect()
    };
    let rows = engine
        .query(
            "select merged.key, merged.merge::text
             from (
                 select array_agg(key order by line) as keys, array_agg(entity order by line) as entities,
                     array_agg(base::jsonb order by line) as bases, array_agg(keap::jsonb order by line) as keaps,
                     array_agg(supabase::jsonb order by line) as supabases,
                     array_agg(to_timestamp(keap_ms / 1000.0) order by line) as keap_times,
                     array_agg(to_timestamp(supabase_ms / 1000.0) order by line) as supabase_times,
                     array_agg(policies::jsonb order by line) as policies
                 from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::text[])
                     with ordinality as given (key, entity, base, keap, supabase, keap_ms, supabase_ms, policies, line)
             ) as given
             cross join keapsync_reconcile(given.keys, given.entities, given.bases, given.keaps, given.supabases,
                 given.keap_times, given.supabase_times, given.policies) as merged",
            &[
                &keys,
                &texts(|case| case.entity.as_str().to_owned()),
                &texts(|case| case.base.to_string()),
                &texts(|case| case.keap.to_string()),
                &texts(|case| case.supabase.to_string()),
                &times(|case| case.keap_changed_at),
                &times(|case| case.supabase_changed_at),
                &texts(|case| serde_json::to_string(&case.policies).expect("policies are JSON")),
            ],
        )
        .await
        .expect("the merge answers for any records");
    rows.iter()
        .enumerate()
        .map(|(position, row)| {
            assert_eq!(row.get::<_, String>(0), position.to_string());
            serde_json::from_str(row.get(1)).expect("Postgres writes JSON")
        })
        .collect()
}

#[tokio::test]
async fn the_table_comes_out_as_it_says_in_one_statement() {
    let database = TestDatabase::migrated().await;
    let engine = database.engine().await;
    let table = table();
    let cases: Vec<MergeCase> = table.iter().map(|(case, _)| case.clone()).collect();
    let merged = merged_in_sql(&engine, &cases).await;
    assert_eq!(merged.len(), table.len());
    for ((case, expected), merged) in table.iter().zip(&merged) {
        assert_eq!(plain(merged), plain(expected), "{}", case.name);
    }
}

/// Merges from a seed until so many states were met; answers how many merges they took.
async fn compared(engine: &Client, seed: u64, states: usize) -> usize {
    let mut random = Random::new(seed);
    let (mut met, mut taken, mut outcomes) = (0, 0, [0_usize; 5]);
    while met < states {
        let page: Vec<MergeCase> = (0..PAGE).map(|number| random.case(taken + number)).collect();
        let merged = merged_in_sql(engine, &page).await;
        assert_eq!(merged.len(), page.len());
        for (case, merged) in page.iter().zip(&merged) {
            let expected = case.outcome();
            if *merged != expected {
                assert_eq!(plain(merged), plain(&expected), "{case:#?}");
            }
            for (count, key) in
                outcomes.iter_mut().zip(["to_supabase", "to_keap", "base_kept", "conflicts", "refused"])
            {
                *count += usize::from(expected[key] != json!({}) && expected[key] != json!([]));
            }
            let differing =
                fields(case.entity).iter().filter(|field| case.keap[field.name] != case.supabase[field.name]);
            met += differing.count();
        }
        taken += page.len();
    }
    // A generator that never meets an outcome would prove nothing of it.
    assert!(outcomes.iter().all(|count| *count > taken / 10), "{outcomes:?}");
    taken
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_states_come_out_alike() {
    let database = TestDatabase::migrated().await;
    let states = std::env::var(STATES_VARIABLE)
        .map_or(1_000_000, |text| text.parse().expect("KEAPSYNC_MERGE_STATES is a number of states"));
    let share = usize::div_ceil(states, usize::try_from(SESSIONS).expect("few"));
    let mut sessions = Vec::new();
    for seed in 0..SESSIONS {
        let engine = database.engine().await;
        sessions.push(tokio::spawn(async move { compared(&engine, 20 + seed, share).await }));
    }
    for session in sessions {
        assert!(session.await.expect("both merges agree") > 0);
    }
}

#[tokio::test]
async fn base_deltas_come_out_alike() {
    let database = TestDatabase::migrated().await;
    let engine = database.engine().await;
    let mut random = Random::new(30);
    let cases: Vec<MergeCase> = (0..PAGE).map(|number| random.case(number)).collect();
    let texts = |read: fn(&MergeCase) -> String| -> Vec<String> { cases.iter().map(read).collect() };
    let rows = engine
        .query(
            "select keapsync_base_delta(entity, base::jsonb, supabase::jsonb)::text
             from unnest($1::text[], $2::text[], $3::text[]) with ordinality as given (entity, base, supabase, line) order by line",
            &[
                &texts(|case| case.entity.as_str().to_owned()),
                &texts(|case| case.base.to_string()),
                &texts(|case| case.supabase.to_string()),
            ],
        )
        .await
        .expect("every record has a delta");
    for (case, row) in cases.iter().zip(&rows) {
        let found: Value = serde_json::from_str(row.get(0)).expect("Postgres writes JSON");
        let expected = Value::Object(base_delta(&case.record(&case.base), &case.record(&case.supabase)));
        assert_eq!(plain(&found), plain(&expected), "{case:#?}");
    }
}
