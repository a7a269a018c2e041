//! `sync_health` says exactly what is there, also while many sessions write.

#![allow(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

use crate::support::{TestDatabase, with_account};
use serde_json::{Value, json};
use tokio_postgres::Client;

const TABLES: [(&str, &str); 4] = [
    ("contact", "sync_contacts"),
    ("order", "sync_orders"),
    ("tag", "sync_tags"),
    ("subscription", "sync_subscriptions"),
];

/// Health of one kind of record, as JSON.
async fn health(client: &Client, entity: &str) -> Value {
    let row = client
        .query_one(
            "select to_jsonb(health)::text from sync_health health where account_id = 'demo' and entity_type = $1",
            &[&entity],
        )
        .await
        .expect("every account has health of every kind");
    serde_json::from_str(row.get(0)).expect("Postgres writes JSON")
}

/// Whether the counts of all kinds equal what a count of the rows says, in one snapshot.
async fn assert_exact(client: &Client) {
    for (entity, table) in TABLES {
        let row = client
            .query_one(
                &format!(
                    "select (select total from sync_health where account_id = 'demo' and entity_type = '{entity}'),
                         (select count(*) from {table} where account_id = 'demo' and deleted_at is null)"
                ),
                &[],
            )
            .await
            .expect("the counts are read");
        assert_eq!(row.get::<_, i64>(0), row.get::<_, i64>(1), "{entity}");
    }
}

#[tokio::test]
async fn health_says_what_is_there() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    with_account(&engine).await;
    for (entity, table) in TABLES {
        assert_eq!(
            health(&person, entity).await,
            json!({"account_id": "demo", "entity_type": entity, "total": 0, "synced": 0, "pending": 0, "errors": 0, "conflicts": 0,
                "oldest_pending_age": null, "last_sync_at": null, "average_lag": null})
        );
        engine
            .batch_execute(&format!(
                "insert into {table} (account_id, keap_id, sync_status, deleted_at) values ('demo', '1', 'completed', null),
                     ('demo', '2', 'completed', null), ('demo', '3', 'error', null), ('demo', '4', 'conflict', null),
                     ('demo', '5', 'paused', null), ('demo', '6', 'completed', now()), ('demo', '7', 'pending', now());
                 insert into sync_activity (account_id, entity_type, direction, source, records, lag_ms_total, lag_records, at) values
                     ('demo', '{entity}', 'keap_to_supabase', 'hook', 3, 3000, 2, '2020-01-01'),
                     ('demo', '{entity}', 'keap_to_supabase', 'hook', 3, 3000, 2, now() - interval '1 hour'),
                     ('demo', '{entity}', 'supabase_to_keap', 'outbox', 1, 500, 5, now() - interval '2 hours'),
                     ('demo', '{entity}', 'keap_to_supabase', 'full_sync', 1000, 0, 0, now() - interval '1 minute')"
            ))
            .await
            .expect(entity);
        person
            .batch_execute(&format!(
                "update {table} set custom_fields = null, deleted_at = null where keap_id = '6'"
            ))
            .await
            .expect(entity);
        engine
            .batch_execute(&format!("update sync_queue set created_at = now() - interval '90 minutes' where entity_type = '{entity}'"))
            .await
            .expect(entity);
        let health = health(&person, entity).await;
        let numbers = ["total", "synced", "pending", "errors", "conflicts"].map(|name| health[name].as_i64());
        assert_eq!(numbers, [Some(6), Some(2), Some(3), Some(1), Some(1)], "{entity}");
        assert_eq!(health["average_lag"], "00:00:00.5", "3500 ms over 7 records: {entity}");
        let times = person
            .query_one(
                "select last_sync_at > now() - interval '5 minutes',
                     oldest_pending_age between interval '90 minutes' and interval '95 minutes'
                 from sync_health where account_id = 'demo' and entity_type = $1",
                &[&entity],
            )
            .await
            .unwrap();
        assert!(times.get::<_, bool>(0) && times.get::<_, bool>(1), "{entity}: {health}");
    }
    assert_exact(&person).await;
}

#[tokio::test]
async fn the_counts_are_exact_while_sessions_insert_delete_undelete_purge_and_fold() {
    const SESSIONS: usize = 8;
    const ROUNDS: usize = 25;
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    with_account(&engine).await;
    let mut writers = tokio::task::JoinSet::new();
    for session in 0..SESSIONS {
        let client = if session % 2 == 0 { database.engine().await } else { database.person().await };
        writers.spawn(async move {
            for _ in 0..ROUNDS {
                for (_, table) in TABLES {
                    let statement = format!(
                        "with made as (insert into {table} (account_id) select 'demo' from generate_series(1, 5) returning id)
                         select array_agg(id::text) from made"
                    );
                    let ids: Vec<String> = client.query_one(&statement, &[]).await.expect("rows are inserted").get(0);
                    let first = format!("id = '{}'", ids.first().expect("five rows were made"));
                    let last = format!("id = '{}'", ids.last().expect("five rows were made"));
                    // For a person the first becomes deleted, for the engine it is gone.
                    client.batch_execute(&format!("delete from {table} where {first}")).await.expect("a row is deleted");
                    client
                        .batch_execute(&format!(
                            "update {table} set deleted_at = now() where {last}; update {table} set deleted_at = null where {last};
                             begin; delete from {table} where {last}; rollback"
                        ))
                        .await
                        .expect("a row is deleted and comes back");
                }
                client.execute("select keapsync_fold_counts(7)", &[]).await.expect("counts are folded");
            }
        });
    }
    let mut looks = 0_u32;
    while !writers.is_empty() {
        assert_exact(&person).await;
        looks += 1;
        while let Some(ended) = writers.try_join_next() {
            ended.expect("a writer ends well");
        }
    }
    assert!(looks > 1, "the counts were never looked at while rows were written");
    assert_exact(&person).await;
    let total = health(&person, "contact").await["total"].as_i64();
    assert_eq!(total, i64::try_from(SESSIONS * ROUNDS * 4).ok());

    person.execute("select keapsync_fold_counts(1000000)", &[]).await.unwrap();
    let left = person.query_one("select count(*) from sync_record_counts", &[]).await.unwrap();
    assert_eq!(left.get::<_, i64>(0), 4, "one row per kind of record is left");
    assert_exact(&person).await;
}

#[tokio::test]
async fn folding_happens_by_itself() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    with_account(&engine).await;
    engine
        .batch_execute(
            "insert into sync_tags (account_id, keap_id, sync_status) select 'demo', n::text, 'completed' from generate_series(1, 2500) n;
             update sync_tags set deleted_at = now()",
        )
        .await
        .unwrap();
    let left = person.query_one("select count(*) from sync_record_counts", &[]).await.unwrap();
    assert!(left.get::<_, i64>(0) < 1000, "2,501 rows were appended");
    assert_exact(&person).await;
}

#[tokio::test]
async fn what_was_there_before_the_counts_is_counted() {
    let database = TestDatabase::bare().await;
    let owner = database.person().await;
    let up = crate::support::migrations(".up.sql");
    let (before, after): (Vec<_>, Vec<_>) = up.into_iter().partition(|(name, _)| name.as_str() < "0018");
    crate::support::apply(&owner, &before).await.unwrap();
    owner
        .batch_execute(
            "insert into sync_accounts (account_id, name, status) values ('demo', 'Demo', 'active');
             insert into sync_contacts (account_id, email) select 'demo', 'x' from generate_series(1, 7);
             delete from sync_contacts where id = (select min(id::text)::uuid from sync_contacts);
             insert into sync_orders (account_id) values ('demo')",
        )
        .await
        .unwrap();
    crate::support::apply(&owner, &after).await.unwrap();
    assert_exact(&owner).await;
    assert_eq!(health(&owner, "contact").await["total"], 6);
}

#[tokio::test]
async fn health_reads_no_whole_table() {
    let database = TestDatabase::migrated().await;
    let (engine, superuser) = (database.engine().await, database.superuser().await);
    with_account(&engine).await;
    engine
        .batch_execute(
            "insert into sync_contacts (account_id, keap_id, sync_status) select 'demo', n::text, 'completed' from generate_series(1, 20000) n",
        )
        .await
        .unwrap();
    superuser.batch_execute("vacuum analyze").await.unwrap();
    let rows = superuser.query("explain select * from sync_health", &[]).await.unwrap();
    let plan = rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join("\n");
    assert!(plan.contains("sync_contacts_sync_status_idx"), "{plan}");
    assert!(!plan.contains("Seq Scan on sync_contacts"), "{plan}");
}

#[tokio::test]
async fn figures_for_metrics_say_what_health_and_activity_say() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.engine().await, database.person().await);
    with_account(&engine).await;
    engine
        .batch_execute(
            "insert into sync_contacts (account_id, keap_id, sync_status) values ('demo', '1', 'completed'), ('demo', '2', 'error');
             insert into sync_activity (account_id, entity_type, direction, source, records, lag_ms_total, lag_records, at) values
                 ('demo', 'contact', 'keap_to_supabase', 'hook', 3, 3000, 2, now()),
                 ('demo', 'contact', 'keap_to_supabase', 'hook', 1, 0, 0, now() - interval '1 minute'),
                 ('demo', 'contact', 'supabase_to_keap', 'outbox', 5, 0, 0, now()),
                 ('demo', 'contact', 'supabase_to_keap', 'outbox', 70, 0, 0, now() - interval '1 hour')",
        )
        .await
        .expect("the engine writes");
    person
        .execute("update sync_contacts set first_name = 'Ann' where keap_id = '1'", &[])
        .await
        .expect("a person edits");
    let store = keapsync_store::Store::new(&engine);
    let figures = store.entity_figures(10).await.expect("figures are read");
    assert_eq!(figures.len(), 4);
    let contacts = figures.iter().find(|figures| figures.entity == "contact").expect("contacts have figures");
    assert_eq!((contacts.total, contacts.pending, contacts.errors, contacts.conflicts), (2, 1, 1, 0));
    assert!(
        contacts.oldest_pending_seconds.is_some() && contacts.last_sync_seconds.is_some(),
        "{contacts:?}"
    );
    let recent = store.recent_activity(10, 300.0).await.expect("activity is read");
    let seen: Vec<_> = recent.iter().map(|of| (of.direction.as_str(), of.records, of.lag_ms)).collect();
    assert_eq!(seen, [("keap_to_supabase", 4, Some(1_500)), ("supabase_to_keap", 5, None)]);
    assert_eq!(store.entity_figures(0).await.expect("none is asked for"), []);
}
