//! The time of a person's last edit, which `newest_wins` compares with Keap's: what the sync writes never moves it.

#![allow(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

use crate::support::{TestDatabase, account, batch, hash, insert_of, record, update_of, with_account};
use keapsync_domain::extra::Extra;
use keapsync_domain::ids::EntityType;
use keapsync_domain::policy::Policies;
use keapsync_domain::remote::RemoteRecord;
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::inbound::{Told, meet};
use keapsync_engine::ports::{LocalRow, MirrorStore};
use keapsync_store::Store;
use serde_json::{Value, json};
use tokio_postgres::Client;

const BASE: &str = r#"{"email": "ann@example.com", "first_name": "Ann", "job_title": "Clerk"}"#;

/// A contact whose first name a person edited an hour ago, and whose job the sync has just brought from Keap.
async fn edited_an_hour_ago(database: &TestDatabase) -> (Client, LocalRow) {
    let engine = database.engine().await;
    with_account(&engine).await;
    let store = Store::new(&engine);
    let base: Value = serde_json::from_str(BASE).expect("JSON");
    store
        .write(&account(), EntityType::Contact, &batch(vec![insert_of("7", &base)]))
        .await
        .expect("the contact is written");
    // Time passes: the edit is dated back where no trigger looks.
    database
        .superuser()
        .await
        .batch_execute(
            "update sync_contacts set first_name = 'Anna'; set session_replication_role = replica;
             update sync_contacts set updated_at = updated_at - interval '1 hour';
             do $$ begin
                 if exists (select from pg_attribute where attrelid = 'sync_contacts'::regclass and attname = 'edited_at') then
                     update sync_contacts set edited_at = edited_at - interval '1 hour';
                 end if;
             end $$",
        )
        .await
        .expect("a person edits");
    let before = row(&store).await;
    let mut write =
        update_of(&before, &json!({"email": "ann@example.com", "first_name": "Anna", "job_title": "Boss"}));
    write.base_delta = json!({"first_name": "Ann"}).as_object().cloned().expect("an object");
    let outcome =
        store.write(&account(), EntityType::Contact, &batch(vec![write])).await.expect("the page is written");
    assert_eq!(outcome.written, ["7"]);
    let after = row(&store).await;
    (engine, after)
}

async fn row(store: &Store<'_>) -> LocalRow {
    let keys = vec![keapsync_engine::ports::RemoteKey {
        keap_id: "7".to_owned(),
        keap_hash: hash("other"),
        row_id: None,
    }];
    let known = store.read_known(&account(), EntityType::Contact, &keys).await.expect("the row is read");
    known.into_iter().find_map(|known| known.row).expect("the row is there")
}

#[tokio::test]
async fn an_old_edit_loses_to_a_newer_one_of_keap_although_the_sync_wrote_the_row_since() {
    let database = TestDatabase::migrated().await;
    let (engine, row) = edited_an_hour_ago(&database).await;
    let half_an_hour_ago: i64 = engine
        .query_one("select (extract(epoch from now() - interval '30 minutes') * 1000)::bigint", &[])
        .await
        .expect("a time")
        .get(0);
    let remote = RemoteRecord {
        keap_id: "7".to_owned(),
        record: record(&json!({"email": "ann@example.com", "first_name": "Annika", "job_title": "Boss"})),
        extra: Extra::default(),
        row_id: None,
        content_hash: hash("new"),
        created_at: None,
        updated_at: Some(Timestamp(half_an_hour_ago)),
        observed_at: Timestamp(half_an_hour_ago + 1_800_000),
    };
    let meeting = meet(&remote, &row, &Policies::default(), &Told::default());
    assert_eq!(
        meeting.merge.row_after(&meeting.row).get_by_name("first_name"),
        &json!("Annika"),
        "{:?}",
        meeting.merge
    );
    // The same in SQL, and so it is recorded.
    let recorded = engine
        .query_one(
            "select (detect_sync_conflict('demo', 'contact', id,
                 '{\"email\": \"ann@example.com\", \"first_name\": \"Annika\", \"job_title\": \"Boss\"}')) is not null from sync_contacts",
            &[],
        )
        .await
        .expect("the row is compared");
    assert!(recorded.get::<_, bool>(0));
    let old: bool = engine
        .query_one("select supabase_changed_at < now() - interval '59 minutes' from sync_conflicts", &[])
        .await
        .expect("the conflict is recorded")
        .get(0);
    assert!(old, "the conflict names the time of the person's edit");
}

#[tokio::test]
async fn each_captured_edit_moves_it_and_nothing_else_does() {
    let database = TestDatabase::migrated().await;
    let (engine, _) = edited_an_hour_ago(&database).await;
    let person = database.person().await;
    let edited = async || -> bool {
        person
            .query_one("select edited_at > now() - interval '1 minute' from sync_contacts", &[])
            .await
            .expect("the row is there")
            .get(0)
    };
    assert!(!edited().await);
    for statement in [
        "update sync_contacts set first_name = first_name, sync_status = 'error'",
        "update sync_contacts set edited_at = now()",
    ] {
        person.batch_execute(statement).await.expect(statement);
        assert!(!edited().await, "{statement}");
    }
    for statement in [
        "update sync_contacts set email = 'new@example.com'",
        "update sync_contacts set sync_status = 'pending'",
    ] {
        engine.batch_execute(statement).await.expect(statement);
        assert!(!edited().await, "{statement}");
    }
    for statement in [
        "update sync_contacts set email = 'own@example.com'",
        "delete from sync_contacts",
        "update sync_contacts set deleted_at = null",
    ] {
        person
            .batch_execute(&format!(
                "{statement}; do $$ begin if (select edited_at from sync_contacts) < now() - interval '1 minute' then raise 'not moved'; end if; end $$"
            ))
            .await
            .expect(statement);
        database
            .superuser()
            .await
            .batch_execute(
                "set session_replication_role = replica; update sync_contacts set edited_at = now() - interval '1 hour'",
            )
            .await
            .expect("time passes");
    }
}

#[tokio::test]
async fn a_decision_is_an_edit_only_where_keap_is_to_take_its_value() {
    for (strategy, values, moves) in [
        ("keap_wins", "null", false),
        ("supabase_wins", "null", false),
        ("manual", "'{\"first_name\": \"Both\"}'", true),
    ] {
        for by_engine in [true, false] {
            let database = TestDatabase::migrated().await;
            let (engine, _) = edited_an_hour_ago(&database).await;
            engine
                .batch_execute(
                    "select detect_sync_conflict('demo', 'contact', id, '{\"email\": \"ann@example.com\", \"first_name\": \"Annika\", \"job_title\": \"Boss\"}')
                     from sync_contacts",
                )
                .await
                .expect("the conflict is recorded");
            let decider = if by_engine { engine } else { database.superuser().await };
            decider
                .batch_execute(&format!(
                    "select resolve_sync_conflict(id, '{strategy}', {values}) from sync_conflicts"
                ))
                .await
                .expect("it is decided");
            let moved: bool = decider
                .query_one("select edited_at > now() - interval '1 minute' from sync_contacts", &[])
                .await
                .expect("the row is there")
                .get(0);
            assert_eq!(moved, moves, "{strategy} {by_engine}");
        }
    }
}
