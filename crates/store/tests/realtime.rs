//! What Supabase's Realtime is given: the publication, followed by logical decoding. Realtime itself, which sends it on to those whom
//! the policies let read it, is no part of these tests.

#![allow(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

mod support;

use support::{OWNER, TestDatabase, apply, migrations};
use tokio_postgres::Client;

/// The tables whose changes are published.
const PUBLISHED: [&str; 4] = ["sync_conflicts", "sync_contacts", "sync_runs", "sync_status"];

/// A database with Supabase's publication, which belongs to the owner as on Supabase, and all migrations.
async fn with_publication(statement: &str) -> (TestDatabase, Client) {
    let database = TestDatabase::bare().await;
    let superuser = database.superuser().await;
    superuser.batch_execute(statement).await.expect("the publication is made");
    apply(&database.person().await, &migrations(".up.sql")).await.expect("the migrations apply");
    (database, superuser)
}

async fn published(client: &Client) -> Vec<String> {
    client
        .query("select tablename::text from pg_publication_tables where pubname = 'supabase_realtime' order by 1", &[])
        .await
        .expect("the catalog is read")
        .iter()
        .map(|row| row.get(0))
        .collect()
}

/// Tables with all old values in their changes.
async fn fully_identified(client: &Client) -> Vec<String> {
    client
        .query(
            "select relname::text from pg_class where relnamespace = 'public'::regnamespace and relreplident = 'f' order by 1",
            &[],
        )
        .await
        .expect("the catalog is read")
        .iter()
        .map(|row| row.get(0))
        .collect()
}

#[tokio::test]
async fn changes_come_with_their_old_values() {
    let owned =
        format!("create publication supabase_realtime; alter publication supabase_realtime owner to {OWNER}");
    let (database, superuser) = with_publication(&owned).await;
    assert_eq!(published(&superuser).await, PUBLISHED);
    assert_eq!(fully_identified(&superuser).await, PUBLISHED);

    let wal_level: String = superuser.query_one("show wal_level", &[]).await.unwrap().get(0);
    assert_eq!(
        wal_level, "logical",
        "start the server under test with wal_level=logical, as `cargo xtask test` does"
    );
    let slot = format!("keapsync_realtime_{}", std::process::id());
    superuser
        .execute("select pg_create_logical_replication_slot($1::text, 'test_decoding', true)", &[&slot])
        .await
        .unwrap();
    let engine = database.engine().await;
    engine
        .batch_execute(
            "insert into sync_accounts (account_id, name, status) values ('demo', 'Demo', 'active');
             insert into sync_contacts (account_id, keap_id, email, sync_status) values ('demo', '1', 'ann@example.com', 'completed');
             insert into sync_status (account_id, entity_type, entity_id, keap_id) select account_id, 'contact', id, keap_id from sync_contacts;
             insert into sync_conflicts (account_id, entity_type, entity_id, conflict_fields) select account_id, 'contact', id, array['email'] from sync_contacts;
             insert into sync_runs (id, account_id, kind, entity_type, direction, state)
                 values (gen_random_uuid(), 'demo', 'full', 'contact', 'keap_to_supabase', 'running');
             update sync_contacts set email = 'bob@example.com'; update sync_status set last_sync_status = 'completed';
             update sync_conflicts set resolved_at = now(); update sync_runs set state = 'completed';
             delete from sync_contacts; delete from sync_status; delete from sync_conflicts; delete from sync_runs",
        )
        .await
        .unwrap();
    let changes: Vec<String> = superuser
        .query("select data from pg_logical_slot_get_changes($1::text, null, null)", &[&slot])
        .await
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    superuser.execute("select pg_drop_replication_slot($1::text)", &[&slot]).await.unwrap();
    for table in PUBLISHED {
        let of = |operation: &str| {
            let start = format!("table public.{table}: {operation}:");
            changes.iter().filter(move |change| change.starts_with(&start)).cloned().collect::<Vec<_>>()
        };
        assert_eq!(
            (of("INSERT").len(), of("UPDATE").len(), of("DELETE").len()),
            (1, 1, 1),
            "{table}: {changes:#?}"
        );
        for change in of("UPDATE") {
            assert!(change.contains("old-key:") && change.contains("account_id[text]:'demo'"), "{change}");
        }
        // The account is in a delete too: by it, policies say who may hear of it.
        for change in of("DELETE") {
            assert!(change.contains("account_id[text]:'demo'"), "{change}");
        }
    }
    let update = changes
        .iter()
        .find(|change| change.starts_with("table public.sync_contacts: UPDATE:"))
        .expect("it was found above");
    assert!(
        update.contains("email[text]:'ann@example.com'") && update.contains("email[text]:'bob@example.com'"),
        "{update}"
    );
}

#[tokio::test]
async fn the_way_back_takes_out_what_was_put_in() {
    let owned =
        format!("create publication supabase_realtime; alter publication supabase_realtime owner to {OWNER}");
    let (database, superuser) = with_publication(&owned).await;
    let mut down = migrations(".down.sql");
    down.reverse();
    let (realtime, _): (Vec<_>, Vec<_>) = down.into_iter().partition(|(name, _)| name.contains("realtime"));
    apply(&database.person().await, &realtime).await.unwrap();
    assert_eq!(published(&superuser).await, Vec::<String>::new());
    assert_eq!(fully_identified(&superuser).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_publication_of_everything_is_left_alone() {
    let (_database, superuser) =
        with_publication("create publication supabase_realtime for all tables").await;
    assert!(published(&superuser).await.contains(&"sync_contacts".to_owned()));
    assert_eq!(fully_identified(&superuser).await, PUBLISHED);
}

#[tokio::test]
async fn a_publication_of_somebody_else_is_no_reason_to_fail() {
    let (_database, superuser) = with_publication("create publication supabase_realtime").await;
    assert_eq!(published(&superuser).await, Vec::<String>::new());
}

#[tokio::test]
async fn without_a_publication_nothing_is_written_for_it() {
    let database = TestDatabase::migrated().await;
    assert_eq!(fully_identified(&database.person().await).await, Vec::<String>::new());
}
