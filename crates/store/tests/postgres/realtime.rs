//! What Supabase's Realtime is given: the publication, followed by logical decoding. Realtime itself, which sends it on to those whom
//! the policies let read it, is no part of these tests.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first thing that is not as it should be"
)]

use crate::support::{OWNER, TestDatabase, apply, migrations};
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

/// The publication as a new Supabase project has it: empty, and the owner's.
fn owned() -> String {
    format!("create publication supabase_realtime; alter publication supabase_realtime owner to {OWNER}")
}

/// The operations that the publication carries.
async fn actions(client: &Client) -> Vec<String> {
    client
        .query(
            "select name from pg_publication, lateral (values ('insert', pubinsert), ('update', pubupdate), ('delete', pubdelete),
                 ('truncate', pubtruncate)) as action (name, carried)
             where pubname = 'supabase_realtime' and carried",
            &[],
        )
        .await
        .expect("the catalog is read")
        .iter()
        .map(|row| row.get(0))
        .collect()
}

/// A row of every published table, changed and removed.
const CHANGES: &str = "
    insert into sync_accounts (account_id, name, status) values ('demo', 'Demo', 'active');
    insert into sync_contacts (account_id, keap_id, email, sync_status) values ('demo', '1', 'ann@example.com', 'completed');
    insert into sync_status (account_id, entity_type, entity_id, keap_id) select account_id, 'contact', id, keap_id from sync_contacts;
    insert into sync_conflicts (account_id, entity_type, entity_id, conflict_fields)
        select account_id, 'contact', id, array['email'] from sync_contacts;
    insert into sync_runs (id, account_id, kind, entity_type, direction, state)
        values (gen_random_uuid(), 'demo', 'full', 'contact', 'keap_to_supabase', 'running');
    update sync_contacts set email = 'bob@example.com'; update sync_status set last_sync_status = 'completed';
    update sync_conflicts set resolved_at = now(); update sync_runs set state = 'completed';
    delete from sync_contacts; delete from sync_status; delete from sync_conflicts; delete from sync_runs";

/// Makes [`CHANGES`] and answers what a slot of this plugin got of them, as `columns` of `function`.
async fn followed(database: &TestDatabase, plugin: &str, columns: &str, function: &str) -> Vec<String> {
    let superuser = database.superuser().await;
    let wal_level: String =
        superuser.query_one("show wal_level", &[]).await.expect("the setting is read").get(0);
    assert_eq!(
        wal_level, "logical",
        "start the server under test with wal_level=logical, as `cargo xtask test` does"
    );
    let slot = format!("keapsync_{plugin}_{}", std::process::id());
    superuser
        .execute(
            "select pg_create_logical_replication_slot($1::text, $2::text::name, true)",
            &[&slot, &plugin],
        )
        .await
        .expect("the slot is made");
    database.engine().await.batch_execute(CHANGES).await.expect("the changes are made");
    let rows = superuser.query(&format!("select {columns} from {function}"), &[&slot]).await;
    superuser.execute("select pg_drop_replication_slot($1::text)", &[&slot]).await.expect("the slot goes");
    rows.expect("the changes are read").iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn changes_come_with_their_old_values() {
    let (database, superuser) = with_publication(&owned()).await;
    assert_eq!(published(&superuser).await, PUBLISHED);
    assert_eq!(fully_identified(&superuser).await, PUBLISHED);
    let changes =
        followed(&database, "test_decoding", "data", "pg_logical_slot_get_changes($1::text, null, null)")
            .await;
    for table in PUBLISHED {
        let start = format!("table public.{table}: UPDATE:");
        let updates: Vec<_> = changes.iter().filter(|change| change.starts_with(&start)).collect();
        let [update] = updates.as_slice() else { panic!("{table}: {changes:#?}") };
        assert!(update.contains("old-key:") && update.contains("account_id[text]:'demo'"), "{update}");
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

/// Realtime asks no policy before it sends a delete: its keys would reach the members of every account.
#[tokio::test]
async fn a_delete_is_not_published() {
    let (database, superuser) = with_publication(&owned()).await;
    assert_eq!(actions(&superuser).await, ["insert", "update"]);
    let kinds = followed(
        &database,
        "pgoutput",
        "chr(get_byte(data, 0))",
        "pg_logical_slot_get_binary_changes($1::text, null, null, 'proto_version', '1', 'publication_names', 'supabase_realtime')",
    )
    .await;
    let of = |kind: &str| kinds.iter().filter(|found| *found == kind).count();
    assert_eq!((of("I"), of("U"), of("D")), (4, 4, 0), "{kinds:?}");
}

/// Another table's subscribers may rely on its deletes, and the publication has one setting for all of its tables.
#[tokio::test]
async fn a_publication_with_tables_of_others_keeps_its_deletes() {
    let shared = format!("create table theirs (id int primary key); {};", owned());
    let (_database, superuser) =
        with_publication(&format!("{shared} alter publication supabase_realtime add table theirs")).await;
    assert_eq!(published(&superuser).await.len(), PUBLISHED.len() + 1);
    assert_eq!(actions(&superuser).await, ["insert", "update", "delete", "truncate"]);
}

#[tokio::test]
async fn the_way_back_takes_out_what_was_put_in() {
    let (database, superuser) = with_publication(&owned()).await;
    let mut down = migrations(".down.sql");
    down.reverse();
    let (realtime, _): (Vec<_>, Vec<_>) = down.into_iter().partition(|(name, _)| name.contains("realtime"));
    apply(&database.person().await, &realtime).await.unwrap();
    assert_eq!(published(&superuser).await, Vec::<String>::new());
    assert_eq!(fully_identified(&superuser).await, Vec::<String>::new());
    assert_eq!(actions(&superuser).await, ["insert", "update", "delete", "truncate"]);
}

#[tokio::test]
async fn a_publication_of_everything_is_left_alone() {
    let (_database, superuser) =
        with_publication("create publication supabase_realtime for all tables").await;
    assert_eq!(actions(&superuser).await, ["insert", "update", "delete", "truncate"]);
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
