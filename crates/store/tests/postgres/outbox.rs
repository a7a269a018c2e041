//! Claims, leases and ends of captured edits; and the runs.

#![allow(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

use crate::support::{TestDatabase, account, with_account};
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::EntityType;
use keapsync_domain::run::{Counts, Cursor, Direction, Run, RunKind, RunState};
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::ports::{OutboxItem, OutboxStore};
use keapsync_store::Store;
use std::collections::HashSet;
use tokio_postgres::Client;

const LEASE_MS: i64 = 60_000;

fn ids(items: &[OutboxItem]) -> Vec<String> {
    items.iter().map(|item| item.id.clone()).collect()
}

/// Inserts contacts as a person and answers their row ids.
async fn contacts(person: &Client, count: i32) -> Vec<String> {
    let mut made = Vec::new();
    for number in 0..count {
        let row = person
            .query_one(
                "insert into sync_contacts (account_id, first_name) values ('demo', $1) returning id::text",
                &[&number.to_string()],
            )
            .await
            .expect("a contact is inserted");
        made.push(row.get(0));
    }
    made
}

async fn text(client: &Client, query: &str) -> Option<String> {
    client.query_one(query, &[]).await.expect("the query is right").get(0)
}

/// Lets every lease and every wait of the queue end.
async fn time_passes(engine: &Client) {
    engine
        .batch_execute(
            "update sync_queue set leased_until = leased_until - interval '1 day', scheduled_at = scheduled_at - interval '1 day'
             where status in ('pending', 'processing')",
        )
        .await
        .expect("times are moved");
}

fn outage() -> Failure {
    Failure::new(FailureClass::Unavailable, "Keap is away")
}

#[tokio::test]
async fn a_record_is_claimed_with_all_its_items_and_by_one_only() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.pooled().await, database.person().await);
    with_account(&engine).await;
    let store = Store::new(&engine);
    let rows = contacts(&person, 3).await;
    person
        .execute("update sync_contacts set last_name = 'x' where id = $1::text::uuid", &[&rows[0]])
        .await
        .unwrap();

    let first = store.claim(&account(), 1, LEASE_MS, "one").await.unwrap();
    assert_eq!(first.len(), 2, "the oldest item and the other one of its record");
    assert!(first.iter().all(|item| item.entity_id == rows[0] && item.entity == EntityType::Contact));
    assert_eq!(first.iter().map(|item| item.operation.as_str()).collect::<Vec<_>>(), ["create", "update"]);
    assert_eq!(first.iter().map(|item| (item.claims, item.attempts)).collect::<Vec<_>>(), [(1, 0), (1, 0)]);

    // A newer edit of a claimed record waits until the claim ends.
    person
        .execute("update sync_contacts set last_name = 'y' where id = $1::text::uuid", &[&rows[0]])
        .await
        .unwrap();
    let second = store.claim(&account(), 50, LEASE_MS, "two").await.unwrap();
    assert_eq!(second.iter().map(|item| &item.entity_id).collect::<Vec<_>>(), [&rows[1], &rows[2]]);
    assert_eq!(store.claim(&account(), 50, LEASE_MS, "three").await.unwrap(), []);

    store.complete(&account(), &ids(&first)).await.unwrap();
    let third = store.claim(&account(), 50, LEASE_MS, "three").await.unwrap();
    assert_eq!(third.len(), 1);
    assert_eq!(third[0].entity_id, rows[0]);
    store.complete(&account(), &ids(&second)).await.unwrap();
    store.complete(&account(), &ids(&third)).await.unwrap();
    assert_eq!(store.depth(&account()).await.unwrap().open, 0);
    assert_eq!(
        text(&person, "select count(*)::text from sync_queue where status = 'completed'").await.as_deref(),
        Some("5")
    );
}

#[tokio::test]
async fn claims_skip_what_another_is_claiming() {
    let database = TestDatabase::migrated().await;
    let (engine, other, person) = (database.engine().await, database.engine().await, database.person().await);
    with_account(&engine).await;
    let rows = contacts(&person, 2).await;
    // Another claimer holds the oldest item of the first record and has not committed.
    other.batch_execute("begin; select from sync_queue order by sequence limit 1 for update").await.unwrap();
    // A claim that waits fails instead of hanging.
    engine.batch_execute("set lock_timeout = '10s'").await.unwrap();
    let claimed = Store::new(&engine).claim(&account(), 50, LEASE_MS, "one").await.unwrap();
    assert_eq!(claimed.iter().map(|item| &item.entity_id).collect::<Vec<_>>(), [&rows[1]]);
    other.batch_execute("rollback").await.unwrap();
}

#[tokio::test]
async fn edits_of_claimed_records_do_not_stand_in_the_way_of_others() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.pooled().await, database.person().await);
    with_account(&engine).await;
    let store = Store::new(&engine);
    contacts(&person, 2).await;
    assert_eq!(store.claim(&account(), 2, LEASE_MS, "one").await.unwrap().len(), 2);
    person.batch_execute("update sync_contacts set last_name = 'x'").await.unwrap();
    let free = contacts(&person, 1).await;
    let claimed = store.claim(&account(), 1, LEASE_MS, "two").await.unwrap();
    assert_eq!(claimed.iter().map(|item| &item.entity_id).collect::<Vec<_>>(), [&free[0]]);
}

#[tokio::test]
async fn claimers_at_once_never_share_a_record() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.pooled().await, database.person().await);
    with_account(&engine).await;
    contacts(&person, 60).await;
    person
        .batch_execute("update sync_contacts set last_name = 'x'; update sync_contacts set last_name = 'y'")
        .await
        .unwrap();
    let clients = [database.pooled().await, database.pooled().await, database.pooled().await];
    let account = account();
    let drain = async |client: &Client, owner: &str| {
        let store = Store::new(client);
        let mut records = Vec::new();
        loop {
            let claimed = store.claim(&account, 7, LEASE_MS, owner).await.unwrap();
            if claimed.is_empty() {
                break;
            }
            let entities: HashSet<String> = claimed.iter().map(|item| item.entity_id.clone()).collect();
            assert_eq!(claimed.len(), entities.len() * 3, "every record comes whole");
            records.extend(entities);
        }
        records
    };
    let (a, b, c) = tokio::join!(drain(&clients[0], "a"), drain(&clients[1], "b"), drain(&clients[2], "c"));
    // Whoever found everything locked by the others stopped early; what is left goes to the next round.
    let rest = drain(&engine, "d").await;
    let all: Vec<String> = [a, b, c, rest].concat();
    assert_eq!(all.len(), 60);
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), 60);
}

#[tokio::test]
async fn a_lease_ends_by_itself() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.pooled().await, database.person().await);
    with_account(&engine).await;
    let store = Store::new(&engine);
    contacts(&person, 1).await;
    let first = store.claim(&account(), 50, LEASE_MS, "one").await.unwrap();
    assert_eq!(store.claim(&account(), 50, LEASE_MS, "two").await.unwrap(), []);
    let due = store.depth(&account()).await.unwrap().next_due_at.unwrap();
    assert!(due.since_ms(first[0].captured_at) > LEASE_MS / 2, "leased: due when the lease ends");
    time_passes(&engine).await;
    let again = store.claim(&account(), 50, LEASE_MS, "two").await.unwrap();
    assert_eq!((ids(&again), again[0].claims, again[0].attempts), (ids(&first), 2, 0));
}

#[tokio::test]
async fn items_given_back_wait_and_count_only_when_they_are_to_blame() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.pooled().await, database.person().await);
    with_account(&engine).await;
    let store = Store::new(&engine);
    let rows = contacts(&person, 1).await;
    let items = store.claim(&account(), 50, LEASE_MS, "one").await.unwrap();
    store.retry_later(&account(), &ids(&items), 3_600_000, &outage(), false).await.unwrap();
    assert_eq!(store.claim(&account(), 50, LEASE_MS, "one").await.unwrap(), []);
    let depth = store.depth(&account()).await.unwrap();
    assert_eq!((depth.open, depth.failed, depth.oldest_at), (1, 0, Some(items[0].captured_at)));
    assert!(depth.next_due_at.unwrap().since_ms(items[0].captured_at) >= 3_600_000);
    assert_eq!(
        text(
            &person,
            "select format('%s %s %s', retry_count, next_retry_at > now(), last_sync_error) from sync_status"
        )
        .await
        .as_deref(),
        Some("1 t Keap is away")
    );
    assert_eq!(text(&person, "select error_class from sync_queue").await.as_deref(), Some("unavailable"));

    time_passes(&engine).await;
    let items = store.claim(&account(), 50, LEASE_MS, "one").await.unwrap();
    assert_eq!((items[0].claims, items[0].attempts), (2, 0));
    store.retry_later(&account(), &ids(&items), 3_600_000, &outage(), true).await.unwrap();

    // A new edit of the record takes it up at once, with everything that waits.
    person
        .execute("update sync_contacts set last_name = 'x' where id = $1::text::uuid", &[&rows[0]])
        .await
        .unwrap();
    let items = store.claim(&account(), 50, LEASE_MS, "one").await.unwrap();
    assert_eq!(items.iter().map(|item| (item.claims, item.attempts)).collect::<Vec<_>>(), [(3, 1), (1, 0)]);
}

#[tokio::test]
async fn a_dead_letter_shows_its_reason_on_the_row_unless_a_newer_edit_waits() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.pooled().await, database.person().await);
    with_account(&engine).await;
    let store = Store::new(&engine);
    let rows = contacts(&person, 2).await;
    let items = store.claim(&account(), 50, LEASE_MS, "one").await.unwrap();
    person
        .execute("update sync_contacts set last_name = 'x' where id = $1::text::uuid", &[&rows[1]])
        .await
        .unwrap();
    let refused = Failure::new(FailureClass::Invalid, "Keap refuses the e-mail address");
    store.fail(&account(), &ids(&items), &refused).await.unwrap();

    let shown = |id: &str| {
        format!("select concat_ws(' ', sync_status, sync_error) from sync_contacts where id = '{id}'")
    };
    assert_eq!(
        text(&person, &shown(&rows[0])).await.as_deref(),
        Some("error Keap refuses the e-mail address")
    );
    assert_eq!(text(&person, &shown(&rows[1])).await.as_deref(), Some("pending"));
    let depth = store.depth(&account()).await.unwrap();
    assert_eq!((depth.open, depth.failed), (1, 2));
    let counts = store.mirror_counts(&account(), EntityType::Contact).await.unwrap();
    assert_eq!((counts.total, counts.errors, counts.pending, counts.completed), (2, 1, 1, 0));
    assert_eq!(
        text(
            &person,
            "select format('%s %s', error_class, attempts) from sync_queue where status = 'failed' limit 1"
        )
        .await
        .as_deref(),
        Some("invalid 1")
    );
    // The engine's own mark is no edit.
    assert_eq!(text(&person, "select count(*)::text from sync_queue").await.as_deref(), Some("3"));
}

#[tokio::test]
async fn items_of_every_kind_go_the_same_ways() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.pooled().await, database.person().await);
    with_account(&engine).await;
    let store = Store::new(&engine);
    for table in ["contacts", "orders", "tags", "subscriptions"] {
        person
            .batch_execute(&format!(
                "insert into sync_{table} (account_id) values ('demo'), ('demo'), ('demo')"
            ))
            .await
            .unwrap();
    }
    let items = store.claim(&account(), 50, LEASE_MS, "one").await.unwrap();
    let kinds: Vec<EntityType> = items.iter().map(|item| item.entity).collect();
    let expected: Vec<EntityType> = EntityType::ALL.iter().flat_map(|entity| [*entity; 3]).collect();
    assert_eq!(
        kinds.iter().map(|kind| kind.as_str()).collect::<HashSet<_>>(),
        expected.iter().map(|kind| kind.as_str()).collect::<HashSet<_>>()
    );
    assert_eq!(items.len(), 12);
    // Of each kind one fails, one waits and one is done.
    let of_each = |position: usize| -> Vec<String> {
        EntityType::ALL
            .iter()
            .filter_map(|entity| items.iter().filter(|item| item.entity == *entity).nth(position))
            .map(|item| item.id.clone())
            .collect()
    };
    store.fail(&account(), &of_each(0), &Failure::new(FailureClass::Invalid, "refused")).await.unwrap();
    store.retry_later(&account(), &of_each(1), 3_600_000, &outage(), true).await.unwrap();
    store.complete(&account(), &of_each(2)).await.unwrap();
    for entity in EntityType::ALL {
        let (name, plural) = (entity.as_str(), entity.plural());
        assert_eq!(
            text(&person, &format!("select string_agg(sync_status || coalesce(' ' || sync_error, ''), ', ' order by sync_status) from sync_{plural}")).await.as_deref(),
            Some("error refused, pending, pending")
        );
        assert_eq!(
            text(&person, &format!("select string_agg(format('%s %s', retry_count, next_retry_at is not null), ', ' order by retry_count) from sync_status where entity_type = '{name}'")).await.as_deref(),
            Some("0 f, 0 f, 1 t")
        );
        assert_eq!(
            text(&person, &format!("select string_agg(format('%s %s %s %s', direction, source, records, lag_records), ', ') from sync_activity where entity_type = '{name}'")).await.as_deref(),
            Some("supabase_to_keap outbox 1 1")
        );
    }
}

#[tokio::test]
async fn what_ended_stays_ended_and_ids_of_nothing_do_nothing() {
    let database = TestDatabase::migrated().await;
    let (engine, person) = (database.pooled().await, database.person().await);
    with_account(&engine).await;
    let store = Store::new(&engine);
    contacts(&person, 1).await;
    let items = store.claim(&account(), 50, LEASE_MS, "one").await.unwrap();
    store.complete(&account(), &ids(&items)).await.unwrap();
    store.retry_later(&account(), &ids(&items), 0, &outage(), true).await.unwrap();
    store.fail(&account(), &ids(&items), &outage()).await.unwrap();
    assert_eq!(store.claim(&account(), 50, LEASE_MS, "one").await.unwrap(), []);
    assert_eq!(text(&person, "select status from sync_queue").await.as_deref(), Some("completed"));
    let nothing = ["no uuid".to_owned(), "00000000-0000-4000-8000-000000000000".to_owned()];
    store.complete(&account(), &nothing).await.unwrap();
    store.fail(&account(), &nothing, &outage()).await.unwrap();
    store.retry_later(&account(), &[], 0, &outage(), true).await.unwrap();
}

#[tokio::test]
async fn runs_are_mirrored_until_they_end() {
    let database = TestDatabase::migrated().await;
    let engine = database.pooled().await;
    with_account(&engine).await;
    let store = Store::new(&engine);
    let mut run = Run {
        batch_id: None,
        id: "6f9b1d0a-54a5-4f0c-8a3b-1a2b3c4d5e6f".to_owned(),
        kind: RunKind::Full,
        entity: EntityType::Contact,
        direction: Direction::KeapToSupabase,
        state: RunState::Running,
        dry_run: false,
        reverts: None,
        counts: Counts { read: 5, ..Counts::default() },
        planned: None,
        progress: None,
        cursor: Cursor { after_id: Some("9".to_owned()), ..Cursor::default() },
        units: 1,
        attempts: 0,
        requested_at: Timestamp(1_700_000_000_000),
        started_at: Some(Timestamp(1_700_000_001_000)),
        finished_at: None,
        leased_until: None,
        not_before: None,
        error: None,
    };
    store.upsert_run(&account(), &run).await.unwrap();
    run.state = RunState::Completed;
    run.finished_at = Some(Timestamp(1_700_000_002_000));
    store.upsert_run(&account(), &run).await.unwrap();
    // A late report of an earlier state changes nothing.
    let late = Run { state: RunState::Running, finished_at: None, ..run.clone() };
    store.upsert_run(&account(), &late).await.unwrap();

    let read = store.read_run(&account(), &run.id).await.unwrap().unwrap();
    assert_eq!(
        (read.kind.as_str(), read.direction.as_str(), read.state.as_str()),
        ("full", "keap_to_supabase", "completed")
    );
    assert_eq!((read.counts["read"].as_u64(), read.finished_at), (Some(5), run.finished_at));
    assert_eq!(read.cursor.as_ref().and_then(|cursor| cursor["after_id"].as_str()), Some("9"));
    assert_eq!(store.list_runs(&account(), 10).await.unwrap(), [read]);
    assert_eq!(store.read_run(&account(), "6f9b1d0a-0000-4f0c-8a3b-1a2b3c4d5e6f").await.unwrap(), None);
    let person = database.person().await;
    assert_eq!(
        text(
            &person,
            "select (extract(epoch from last_full_sync_at) * 1000)::bigint::text from sync_accounts"
        )
        .await
        .as_deref(),
        Some("1700000002000")
    );
}
