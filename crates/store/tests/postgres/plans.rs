//! No statement of the store, and no query of a dashboard, reads a big table from one end to the other: neither right after a
//! first load, when nothing is known of the tables' sizes, nor with statistics.
//!
//! Statements of the store are sent as they are, and the server's own counters say whether a big table was read whole.

#![allow(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

use crate::support::{TestDatabase, account, batch, full_record, hash, insert_as, update_of, with_account};
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::EntityType;
use keapsync_domain::policy::Policy;
use keapsync_domain::settings::BlastGuard;
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::ports::history::HistoryStore;
use keapsync_engine::ports::proof::{
    GuardLedger, GuardStore, Held, PlannedAction, PlannedChange, PlannedSide, ProofStore, Taking,
};
use keapsync_engine::ports::{
    ConflictRecord, LocalRow, MirrorStore, OutboxStore, RejectedRecord, RemoteKey, RowLists, RowState,
    RowWrite,
};
use keapsync_store::Store;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio_postgres::Client;

/// Contacts; of the other kinds there are half as many each.
const CONTACTS: i32 = 50_000;

/// A page of records: small beside the tables, so that reading one whole is never the better plan.
const PAGE: i32 = 500;

/// Tables of which a statement touches few rows.
const BIG: [&str; 8] = [
    "sync_contacts",
    "sync_orders",
    "sync_tags",
    "sync_subscriptions",
    "sync_status",
    "sync_queue",
    "sync_conflicts",
    "sync_run_changes",
];

/// Rows of one table that a statement may look at: several times those it is about, and few beside the table.
const LOOKUPS_MAX: i64 = 5_000;

/// How often each big table, and each filled partition of the audit log, was read whole, and how many of its rows were looked up
/// by an index.
async fn reads(client: &Client) -> BTreeMap<String, (i64, i64)> {
    client.batch_execute("select pg_stat_force_next_flush()").await.expect("counters are flushed");
    client
        .query(
            "select relname::text, seq_scan, coalesce(idx_tup_fetch, 0) from pg_stat_user_tables
             where relname = any($1) or relname like 'sync_audit_log_y%' and pg_relation_size(relid) > 1000000",
            &[&BIG.as_slice()],
        )
        .await
        .expect("counters are read")
        .iter()
        .map(|row| (row.get(0), (row.get(1), row.get(2))))
        .collect()
}

/// Runs `work` and fails when a big table, or much of it, was read meanwhile.
async fn watched<T>(client: &Client, what: &str, work: impl Future<Output = T>) -> T {
    let before = reads(client).await;
    let outcome = work.await;
    for (table, (scans, lookups)) in reads(client).await {
        let (scans_before, lookups_before) = before.get(&table).copied().unwrap_or_default();
        assert_eq!(scans, scans_before, "{what} reads {table} whole");
        let lookups = lookups - lookups_before;
        assert!(lookups <= LOOKUPS_MAX, "{what} looks {lookups} rows of {table} up");
    }
    outcome
}

/// Fills the tables as a long life leaves them: linked rows with their status and history, done, failed and open items of the
/// queue, and settled conflicts.
async fn filled(engine: &Client) {
    for entity in EntityType::ALL {
        let (name, table) = (entity.as_str(), entity.plural());
        let count = if entity == EntityType::Contact { CONTACTS } else { CONTACTS / 2 };
        let (columns, values) = match entity {
            EntityType::Contact => (
                "email, first_name, last_name, tags, custom_fields",
                "'person' || n || '@example.com', 'Given' || n % 977, 'Family' || n % 4999, jsonb_build_array((n % 499)::text),
                 jsonb_build_object('7', n % 997)",
            ),
            EntityType::Order => (
                "keap_contact_id, order_number, order_date, status, total_amount",
                "(1 + n % 50000)::text, 'N' || n, now() - n * interval '1 minute', case n % 50 when 0 then 'UNPAID' else 'PAID' end, n",
            ),
            EntityType::Tag => ("name", "'Tag ' || n"),
            EntityType::Subscription => (
                "keap_contact_id, status, next_bill_date, amount",
                "(1 + n % 50000)::text, case n % 20 when 0 then 'active' else 'inactive' end, current_date + n % 30, n % 90",
            ),
        };
        engine
            .batch_execute(&format!(
                "with made as (
                     insert into sync_{table} (account_id, keap_id, source_system, sync_status, last_synced_at, keap_updated_at, {columns})
                     select 'demo', n::text, 'keap', 'completed', now(), now(), {values} from generate_series(1, {count}) as n
                     returning id, keap_id
                 ), linked as (
                     insert into sync_status (account_id, entity_type, entity_id, keap_id, has_base, base_hash, keap_hash, last_sync_at)
                     select 'demo', '{name}', id, keap_id, true, lpad(keap_id, 32, '0'), lpad(keap_id, 32, '0'), now() from made
                 ), audited as (
                     insert into sync_audit_log (account_id, entity_type, entity_id, keap_id, operation, sync_source, sync_destination, run_id)
                     select 'demo', '{name}', id, keap_id, 'create', 'full_sync', 'supabase',
                         ('00000000-0000-4000-8000-' || lpad((keap_id::integer % 20)::text, 12, '0'))::uuid from made
                 ), planned as (
                     insert into sync_run_changes (account_id, run_id, side, action, entity_type, keap_id)
                     select 'demo', ('00000000-0000-4000-8000-' || lpad((keap_id::integer % 20)::text, 12, '0'))::uuid, 'keap', 'update',
                         '{name}', keap_id from made
                 ), queued as (
                     insert into sync_queue (account_id, operation, entity_type, entity_id, keap_id, status, completed_at, error_class)
                     select 'demo', 'update', '{name}', id, keap_id,
                         case keap_id::integer % 100 when 0 then 'failed' when 1 then 'pending' else 'completed' end, now(), 'invalid'
                     from made
                 )
                 insert into sync_conflicts (account_id, entity_type, entity_id, keap_id, conflict_fields, resolved_at)
                 select 'demo', '{name}', id, keap_id, '{{x}}', case keap_id::integer % 100 when 0 then null else now() end from made"
            ))
            .await
            .expect("the tables are filled");
    }
}

fn keys(range: std::ops::Range<i32>, seed: &str) -> Vec<RemoteKey> {
    range
        .map(|id| RemoteKey {
            keap_id: id.to_string(),
            keap_hash: hash(&format!("{seed}{id}")),
            row_id: (id % 2 == 0).then(|| format!("00000000-0000-4000-8000-{id:012}")),
        })
        .collect()
}

fn conflict(keap: &str) -> ConflictRecord {
    ConflictRecord {
        field: "custom_fields.7".to_owned(),
        base: Value::Null,
        keap: json!(keap),
        supabase: Value::Null,
        policy: Policy::Manual,
        winner: None,
    }
}

/// Sends every statement on a mirrored table. New records are numbered from `first` on.
async fn mirror_statements(engine: &Client, entity: EntityType, first: i32) {
    let (store, account, name) = (Store::new(engine), account(), entity.as_str());
    let same = watched(
        engine,
        &format!("known, unchanged {name}"),
        store.read_known(&account, entity, &keys(1..PAGE, "")),
    )
    .await;
    assert!(same.expect("records are known").iter().all(|known| known.row.is_none()));
    let unknown = keys(first + 1_000_000..first + 1_000_000 + PAGE, "");
    let none =
        watched(engine, &format!("known, new {name}"), store.read_known(&account, entity, &unknown)).await;
    assert_eq!(none.expect("nothing is known"), []);
    let changed = watched(
        engine,
        &format!("known, changed {name}"),
        store.read_known(&account, entity, &keys(1..PAGE, "a")),
    )
    .await;
    let rows: Vec<LocalRow> =
        changed.expect("records are known").into_iter().filter_map(|known| known.row).collect();
    assert_eq!(rows.len(), keys(1..PAGE, "").len());
    let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
    for ids in [ids.as_slice(), ids.get(..1).expect("there is one")] {
        let read = watched(engine, &format!("rows of {name}"), store.read_rows(&account, entity, ids)).await;
        assert_eq!(read.expect("rows are read").len(), ids.len());
    }

    let inserts =
        (first..first + PAGE).map(|id| insert_as(entity, &id.to_string(), &full_record(entity))).collect();
    let updates = rows.iter().map(|row| update_of(row, &full_record(entity))).collect();
    for (what, page) in [("insert", inserts), ("update", updates)] {
        let page: Vec<RowWrite> = page;
        let length = page.len();
        let page = batch(page);
        let written =
            watched(engine, &format!("{what} of {name}"), store.write(&account, entity, &page)).await;
        assert_eq!(written.expect("the page is written").written.len(), length, "{what} of {name}");
    }
    for (what, state) in [("conflicts", RowState::Conflict), ("end of conflicts", RowState::Completed)] {
        let read = store.read_rows(&account, entity, &ids).await.expect("rows are read");
        let page: Vec<RowWrite> = read
            .iter()
            .map(|row| RowWrite {
                record: None,
                state,
                conflicts: if state == RowState::Conflict { vec![conflict(&row.id)] } else { Vec::new() },
                ..update_of(row, &json!({}))
            })
            .collect();
        let page = batch(page);
        let written =
            watched(engine, &format!("{what} of {name}"), store.write(&account, entity, &page)).await;
        assert_eq!(written.expect("the page is written").written.len(), ids.len(), "{what} of {name}");
    }
    let rejected: Vec<RejectedRecord> = (first..first + PAGE)
        .map(|id| RejectedRecord { keap_id: Some(id.to_string()), reason: "x".to_owned() })
        .collect();
    let what = format!("rejections of {name}");
    let listed = watched(engine, &what, store.record_rejections(&account, entity, &rejected)).await;
    listed.expect("rejections are listed");
    let counts = watched(engine, &format!("counts of {name}"), store.mirror_counts(&account, entity)).await;
    assert!(counts.expect("the mirror is counted").total > 0);
}

async fn queue_statements(engine: &Client) {
    let (store, account) = (Store::new(engine), account());
    let failure = Failure::new(FailureClass::Unavailable, "Keap is away");
    for end in ["complete", "retry", "fail"] {
        let claimed = watched(engine, "claim", store.claim(&account, 50, 60_000, "test")).await;
        let ids: Vec<String> = claimed.expect("items are claimed").into_iter().map(|item| item.id).collect();
        assert!(ids.len() >= 50);
        let ended = match end {
            "complete" => watched(engine, end, store.complete(&account, &ids)).await,
            "retry" => {
                watched(engine, end, store.retry_later(&account, &ids, 3_600_000, &failure, true)).await
            }
            _ => watched(engine, end, store.fail(&account, &ids, &failure)).await,
        };
        ended.expect("items end");
    }
    watched(engine, "depth", store.depth(&account)).await.expect("the depth is read");
    let failed = watched(engine, "failed items", store.failed_items(&account, 50))
        .await
        .expect("failed items are read");
    let some: Vec<String> = failed.iter().take(10).map(|item| item.id.clone()).collect();
    let replayed =
        watched(engine, "replay by id", store.replay_failed(&account, Some(&some), None, None)).await;
    assert_eq!(replayed.expect("items are queued again").len(), some.len());
    let replayed = watched(
        engine,
        "replay by cause",
        store.replay_failed(&account, None, Some("unavailable"), Some(false)),
    )
    .await;
    assert!(!replayed.expect("items are queued again").is_empty());
    let groups = watched(engine, "groups of failed items", store.failed_groups(&account)).await;
    assert!(!groups.expect("groups are read").is_empty());
    let left = store.failed_items(&account, 10).await.expect("failed items are read");
    let left: Vec<String> = left.into_iter().map(|item| item.id).collect();
    let discarded =
        watched(engine, "discard by id", store.discard_failed(&account, Some(&left), None, None)).await;
    let discarded = discarded.expect("items are discarded");
    assert_eq!(discarded.discarded + discarded.edits_kept, left.len());
}

/// Sends what the comparison of both sides, dry runs, the blast guard and undo send.
async fn proof_statements(engine: &Client, entity: EntityType, run: &str) {
    let (store, account, name) = (Store::new(engine), account(), entity.as_str());
    let page = usize::try_from(PAGE).expect("it is small");
    let mut after: Option<String> = None;
    for _ in 0..2 {
        let what = format!("linked {name}");
        let linked =
            watched(engine, &what, store.list_linked(&account, entity, after.as_deref(), page)).await;
        let linked = linked.expect("rows are listed");
        assert_eq!(linked.len(), page);
        let ids: Vec<String> = linked.iter().map(|row| row.id.clone()).collect();
        after = linked.last().map(|row| row.keap_id.clone());
        let what = format!("open conflicts of {name}");
        watched(engine, &what, store.open_conflict_fields(&account, entity, &ids))
            .await
            .expect("conflicts are read");
        let row = ids.first().expect("there is one");
        let what = format!("history of {name}");
        let entries = watched(engine, &what, store.list_audit(&account, entity, row, None, 50)).await;
        let entry = entries.expect("the log is read").into_iter().next().expect("there is one");
        let what = format!("entry of {name}");
        let found = watched(engine, &what, store.read_audit(&account, entry.id)).await;
        assert_eq!(found.expect("the log is read"), Some(entry));
    }
    let what = format!("missing {name}");
    let missing =
        watched(engine, &what, store.list_missing(&account, entity, Some("10000"), Some("10400"), &[], page))
            .await;
    assert_eq!(missing.expect("rows are listed").len(), 400);
    let what = format!("open {name}");
    watched(engine, &what, store.list_open(&account, entity, None, page)).await.expect("rows are listed");
    let what = format!("unlinked {name}");
    let unlinked = watched(engine, &what, store.list_unlinked(&account, entity, None, page)).await;
    assert_eq!(unlinked.expect("rows are listed"), Vec::<String>::new());
    let unsynced = watched(engine, &format!("unsynced {name}"), store.unsynced(&account, entity)).await;
    assert!(unsynced.expect("it is counted").live >= i64::from(CONTACTS / 2));
    let what = format!("requeue of {name}");
    let queued = watched(engine, &what, store.requeue(&account, entity, true, page)).await;
    queued.expect("what is owed is queued");

    let changes: Vec<PlannedChange> = (0..PAGE)
        .map(|id| PlannedChange {
            side: PlannedSide::Supabase,
            action: PlannedAction::Create,
            entity,
            entity_id: None,
            keap_id: Some(id.to_string()),
            fields: vec!["custom_fields".to_owned()],
        })
        .collect();
    let small_run = run.replace("8000", "9000");
    for what in ["planned", "planned again"] {
        watched(engine, what, store.write_planned(&account, &small_run, &changes))
            .await
            .expect("they are noted");
    }
    let listed = watched(engine, "list of planned", store.list_planned(&account, run, 0, page)).await;
    assert_eq!(listed.expect("they are listed").len(), page);
    let counted = watched(engine, "count of planned", store.count_planned(&account, &small_run)).await;
    assert!(!counted.expect("they are counted").is_empty());
    for before in [None, Some(1_000_000_000)] {
        let entries =
            watched(engine, "entries of a run", store.list_run_audit(&account, run, before, page)).await;
        assert_eq!(entries.expect("the log is read").len(), page);
    }
}

/// Sends what the blast guard sends.
async fn guard_statements(engine: &Client) {
    let (store, account) = (Store::new(engine), account());
    // Nobody has looked at what people edited yet.
    let claimed = watched(engine, "claim", store.claim_unheld(&account, 50, 60_000, "test")).await;
    assert!(claimed.expect("nothing is claimed").iter().all(|item| item.operation == "create"));
    engine
        .batch_execute(
            "update sync_queue set held_at = now()
             where status in ('pending', 'processing') and operation in ('update', 'delete') and keap_id is not null",
        )
        .await
        .expect("they are held");
    let waiting = watched(engine, "waiting", store.waiting(&account)).await.expect("it is counted");
    assert!(
        EntityType::ALL.iter().all(|entity| waiting.iter().any(|waiting| waiting.held.entity == *entity))
    );
    let until = Timestamp(4_000_000_000_000);
    for waiting in waiting {
        let approved =
            watched(engine, "approval", store.approve_waiting(&account, waiting.held, until)).await;
        assert!(approved.expect("it is approved") > 0);
    }
    let waiting = watched(engine, "waiting", store.waiting(&account)).await.expect("it is counted");
    assert_eq!(waiting, []);
    let taking = Taking {
        class: Held { entity: EntityType::Contact, deletes: true },
        row_ids: &["018f3f6e-0000-4000-8000-000000000001".to_owned()],
        guard: BlastGuard::default(),
        approval: None,
        only_looks: false,
    };
    assert!(watched(engine, "take", store.take(&account, &taking)).await.expect("it is noted"));
    engine
        .batch_execute(
            "update sync_queue set approved_at = null, held_at = null where approved_at is not null",
        )
        .await
        .expect("they wait");
}

/// What people and dashboards ask, each of few rows.
const DASHBOARD: [&str; 20] = [
    "select * from sync_contacts where account_id = 'demo' and deleted_at is null order by updated_at desc limit 50",
    "select * from sync_contacts where account_id = 'demo' and lower(email) = 'person77@example.com'",
    "select * from sync_contacts where account_id = 'demo' and lower(last_name) like 'family12%' order by lower(last_name) limit 50",
    "select * from sync_contacts where account_id = 'demo' and sync_status <> 'completed' limit 50",
    "select * from sync_contacts where tags @> '[\"123\"]'",
    "select * from sync_contacts where custom_fields @> '{\"7\": 12}'",
    "select orders.* from sync_orders orders join sync_contacts contact on contact.id = orders.contact_id
     where contact.account_id = 'demo' and lower(contact.email) = 'person77@example.com'",
    "select * from sync_orders where account_id = 'demo' and deleted_at is null order by order_date desc limit 50",
    "select * from sync_orders where account_id = 'demo' and status = 'UNPAID' and deleted_at is null limit 50",
    "select * from sync_orders where account_id = 'demo' and order_number = 'N77'",
    "select * from keap_orders where account_id = 'demo' order by order_date desc limit 50",
    "select * from sync_tags where account_id = 'demo' and lower(name) = 'tag 77'",
    "select * from sync_subscriptions where account_id = 'demo' and status = 'active' and deleted_at is null
     order by next_bill_date limit 50",
    "select * from keap_current_subscriptions where account_id = 'demo' order by next_bill_date limit 50",
    "select * from keap_open_conflicts where account_id = 'demo' order by detected_at limit 50",
    "select * from sync_conflicts where entity_type = 'contact' and entity_id = '00000000-0000-4000-8000-000000000000' order by detected_at",
    "select * from sync_audit_log where entity_type = 'contact' and entity_id = '00000000-0000-4000-8000-000000000000' order by created_at",
    "select * from sync_queue where account_id = 'demo' and status = 'failed' order by created_at desc limit 50",
    "select * from sync_status where keap_id = '77' and entity_type = 'contact' and account_id = 'demo'",
    "select * from sync_health where account_id = 'demo'",
];

async fn dashboard(reader: &Client) {
    for query in DASHBOARD {
        watched(reader, query, async {
            let rows = reader.query(query, &[]).await.expect(query);
            assert!(rows.len() <= 1000, "{query}: {} rows", rows.len());
        })
        .await;
    }
}

#[tokio::test]
async fn big_tables_are_never_read_whole() {
    let database = TestDatabase::migrated().await;
    let engine = database.engine().await;
    let superuser = database.superuser().await;
    // Statistics come when the test says so.
    superuser
        .batch_execute(
            "do $$ declare name regclass; begin
                 for name in select oid from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace loop
                     execute format('alter table %s set (autovacuum_enabled = false)', name);
                 end loop;
             end $$",
        )
        .await
        .expect("autovacuum is off");
    with_account(&engine).await;
    filled(&engine).await;
    for (position, entity) in EntityType::ALL.into_iter().enumerate() {
        mirror_statements(&engine, entity, 100_000 + 1000 * i32::try_from(position).expect("it is small"))
            .await;
    }
    for (position, entity) in EntityType::ALL.into_iter().enumerate() {
        proof_statements(&engine, entity, &format!("00000000-0000-4000-8000-00000000000{position}")).await;
    }
    guard_statements(&engine).await;
    queue_statements(&engine).await;

    superuser.batch_execute("vacuum analyze").await.expect("statistics are taken");
    superuser.batch_execute("set role keapsync_reader").await.expect("the reader reads");
    dashboard(&superuser).await;
    engine
        .batch_execute("update sync_status set keap_hash = lpad(keap_id, 32, '0'); delete from sync_queue where operation = 'sync'")
        .await
        .expect("the records are as they were");
    for (position, entity) in EntityType::ALL.into_iter().enumerate() {
        mirror_statements(&engine, entity, 200_000 + 1000 * i32::try_from(position).expect("it is small"))
            .await;
    }
    for (position, entity) in EntityType::ALL.into_iter().enumerate() {
        proof_statements(&engine, entity, &format!("00000000-0000-4000-8000-00000000000{}", position + 4))
            .await;
    }
    guard_statements(&engine).await;
    queue_statements(&engine).await;
}
