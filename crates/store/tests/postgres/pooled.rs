//! Many clients on few server sessions: what every statement of the store has to bear behind Hyperdrive.
//!
//! The other tests of the store go through the same pooler, one client at a time; here clients take turns on each server session
//! statement by statement.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test ends at the first thing that is not as it should be"
)]

use crate::support::{TestDatabase, account, batch, full_record, insert_as, update_of, with_account};
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::EntityType;
use keapsync_engine::ports::{MirrorStore, OutboxStore, RemoteKey, RowWrite};
use keapsync_store::{PairedStore, Store};
use serde_json::json;

const CLIENTS: usize = 24;
const ROUNDS: usize = 6;
const PAGE: usize = 40;

/// Loads records of one kind, finds them again, changes them and drains what people edited; each client has its own records, so
/// that an answer that went to the wrong client shows.
async fn work(reads: &Store<'_>, writes: &Store<'_>, client: usize) {
    let account = account();
    let entity = EntityType::ALL[client % EntityType::ALL.len()];
    let store = PairedStore::new(*reads, *writes);
    for round in 0..ROUNDS {
        let first = 1 + (client * ROUNDS + round) * PAGE;
        let ids: Vec<String> = (first..first + PAGE).map(|id| id.to_string()).collect();
        let mut rows: Vec<RowWrite> =
            ids.iter().map(|id| insert_as(entity, id, &full_record(entity))).collect();
        // One record of every page is refused, so that parts of pages cross as well.
        rows[round].base_delta.insert("bad".to_owned(), json!("\u{0}"));
        let outcome = store.write(&account, entity, &batch(rows)).await.expect("a page is written");
        assert_eq!((outcome.written.len(), outcome.rejected.len()), (PAGE - 1, 1), "{outcome:?}");
        store.record_rejections(&account, entity, &outcome.rejected).await.expect("the rejection is listed");

        let keys: Vec<RemoteKey> = ids
            .iter()
            .map(|id| RemoteKey { keap_id: id.clone(), keap_hash: "changed".to_owned(), row_id: None })
            .collect();
        let known = store.read_known(&account, entity, &keys).await.expect("the page is known");
        assert_eq!(known.len(), PAGE - 1);
        let updates: Vec<RowWrite> = known
            .iter()
            .map(|known| {
                assert!(ids.contains(&known.keap_id), "an answer for another client");
                update_of(known.row.as_ref().expect("its hash differs"), &json!({}))
            })
            .collect();
        let outcome = store.write(&account, entity, &batch(updates)).await.expect("the page is updated");
        assert_eq!(outcome.written.len(), PAGE - 1);

        let owner = format!("client {client}");
        let items = writes.claim(&account, 5, 60_000, &owner).await.expect("items are claimed");
        let ids: Vec<String> = items.into_iter().map(|item| item.id).collect();
        let failure = Failure::new(FailureClass::Unavailable, "Keap is away");
        match round % 3 {
            0 => writes.complete(&account, &ids).await.expect("items are completed"),
            1 => writes.retry_later(&account, &ids, 0, &failure, true).await.expect("items are given back"),
            _ => writes.fail(&account, &ids, &failure).await.expect("items fail"),
        }
        writes.depth(&account).await.expect("the depth is read");
        reads.mirror_counts(&account, entity).await.expect("the mirror is counted");
    }
}

#[tokio::test]
async fn clients_share_few_sessions_without_noticing() {
    let database = TestDatabase::migrated().await;
    let person = database.person().await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push((database.pooled().await, database.pooled().await));
    }
    with_account(&clients[0].0).await;
    for table in ["contacts", "orders", "tags", "subscriptions"] {
        person
            .batch_execute(&format!(
                "insert into sync_{table} (account_id) select 'demo' from generate_series(1, 200)"
            ))
            .await
            .expect("people's rows are inserted");
    }
    let tasks = tokio::task::LocalSet::new();
    let mut handles = Vec::new();
    for (number, (reads, writes)) in clients.into_iter().enumerate() {
        handles.push(tasks.spawn_local(async move {
            work(&Store::new(&reads), &Store::new(&writes), number).await;
        }));
    }
    let sessions = tasks
        .run_until(async {
            let mut most = 0;
            for handle in handles {
                let seen: i64 = person
                    .query_one(
                        "select count(*) from pg_stat_activity
                         where datname = current_database() and usename = 'keapsync_engine'",
                        &[],
                    )
                    .await
                    .expect("sessions are counted")
                    .get(0);
                most = most.max(seen);
                handle.await.expect("the client's work is done");
            }
            most
        })
        .await;
    assert!(
        (1..i64::try_from(CLIENTS).expect("it is small")).contains(&sessions),
        "{sessions} server sessions for {CLIENTS} pairs of clients: the pooler does not share them"
    );
    let per_table = CLIENTS / EntityType::ALL.len() * ROUNDS * (PAGE - 1) + 200;
    for table in ["contacts", "orders", "tags", "subscriptions"] {
        let count: i64 = person
            .query_one(&format!("select count(*) from sync_{table}"), &[])
            .await
            .expect("rows are counted")
            .get(0);
        assert_eq!(count, i64::try_from(per_table).expect("it is small"), "{table}");
    }
}
