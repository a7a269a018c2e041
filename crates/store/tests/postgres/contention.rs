//! A hundred connections at once: people's edits, pages of the sync, the outbox, and people who settle conflicts.
//!
//! What must hold afterwards, for every row of every table: each captured edit stands in the audit log and in the queue, once; each
//! write raised the version; and undoing the audit log's entries one by one leads through exactly the states that were
//! written. Meanwhile no session sees a deadlock that is not tried again, and people see none at all.
//!
//! `KEAPSYNC_CONTENTION_SECONDS` says how long it lasts (60 when unset). The server must allow 130 connections (`max_connections`).

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends at the first thing that is not as it should be"
)]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "it lasts as long as it is told to")]

use crate::support::{TestDatabase, account, batch, insert_as, update_of, with_account};
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::EntityType;
use keapsync_domain::policy::Policy;
use keapsync_engine::ports::{
    ConflictRecord, LocalRow, MirrorStore, OutboxStore, RowState, RowWrite, WriteBatch, WriteSource,
};
use keapsync_store::Store;
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

const PEOPLE: usize = 60;
const SYNCS: usize = 24;
const DRAINS: usize = 12;
const SETTLERS: usize = 4;

/// Rows of each table that everybody fights over.
const SHARED_ROWS: usize = 30;

/// Rows of one page of the sync.
const PAGE: usize = 12;

/// What one table is fought over with: a column that people edit, and one that Keap edits.
#[derive(Clone, Copy)]
struct Arena {
    entity: EntityType,
    ours: &'static str,
    keaps: &'static str,
}

const ARENAS: [Arena; 4] = [
    Arena { entity: EntityType::Contact, ours: "first_name", keaps: "job_title" },
    Arena { entity: EntityType::Order, ours: "title", keaps: "notes" },
    Arena { entity: EntityType::Tag, ours: "name", keaps: "description" },
    Arena { entity: EntityType::Subscription, ours: "plan_id", keaps: "cancel_reason" },
];

impl Arena {
    fn table(self) -> String {
        format!("sync_{}", self.entity.plural())
    }
}

/// The values of a row that are followed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    ours: Option<String>,
    keaps: Option<String>,
    is_deleted: bool,
}

/// What everybody did, as they saw it.
#[derive(Default)]
struct Seen {
    /// Every state that was written, by kind, row and version.
    states: BTreeMap<(&'static str, String), BTreeMap<i32, State>>,
    /// Edits that people's sessions were told are done.
    edits: i64,
    /// Deadlocks that people's sessions saw.
    deadlocks_of_people: u32,
    /// Pages that were written, rows of them that were skipped, and merged again.
    pages: u32,
    skipped: usize,
    /// Outbox items that were claimed.
    claimed: usize,
    /// Conflicts that people settled, and the entries of audit log and queue that came of it.
    settled: u32,
    settled_audits: i64,
    settled_items: i64,
    /// Writes that repeated a version of a row.
    repeated: Vec<String>,
}

impl Seen {
    fn state(&mut self, arena: Arena, id: &str, version: i32, state: State) {
        let versions = self.states.entry((arena.entity.as_str(), id.to_owned())).or_default();
        if versions.insert(version, state).is_some() {
            self.repeated.push(format!("{} {id} has version {version} twice", arena.entity.as_str()));
        }
    }
}

type Log = Rc<RefCell<Seen>>;

/// Numbers that only look random, from one seed per worker, so that a run is roughly what it was before.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(limit).expect("it is small")).expect("it is small")
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// Ids of the shared rows, by arena.
type Shared = Rc<Vec<Vec<String>>>;

/// One person: edits, inserts, deletes and undeletes, one statement each; now and then several rows by one statement or in one
/// transaction, in order of their ids as the README advises.
async fn person(client: Client, mut dice: Dice, shared: Shared, log: Log, deadline: Instant) {
    let mut own: Vec<(usize, String)> = Vec::new();
    let mut number = 0;
    while Instant::now() < deadline {
        number += 1;
        let place = dice.below(ARENAS.len());
        let arena = ARENAS[place];
        let (table, ours, keaps) = (arena.table(), arena.ours, arena.keaps);
        let token = format!("{:x}-{number}", dice.below(1 << 40));
        let id = shared[place][dice.below(shared[place].len())].clone();
        let returning = format!("returning id::text, version, {ours}, {keaps}, deleted_at is not null");
        let sql = match dice.below(20) {
            0..=11 => format!("update {table} set {ours} = '{token}' where id = '{id}' {returning}"),
            12 => format!("insert into {table} (account_id, {ours}) values ('demo', '{token}') {returning}"),
            13 => format!("update {table} set deleted_at = now() where id = '{id}' and deleted_at is null {returning}"),
            14 | 15 => format!("update {table} set deleted_at = null where id = '{id}' and deleted_at is not null {returning}"),
            16 => {
                let Some((place, id)) = own.pop() else { continue };
                // A DELETE is told to have removed nothing, because it was made a soft one. The row is this person's alone.
                let arena = ARENAS[place];
                let (table, ours, keaps) = (arena.table(), arena.ours, arena.keaps);
                let delete = format!(
                    "delete from {table} where id = '{id}' returning id::text, version, {ours}, {keaps}, false"
                );
                assert_eq!(run(&client, &log, arena, &delete).await, []);
                let after = client
                    .query_one(&format!("select version, {ours}, {keaps} from {table} where id = $1::text::uuid and deleted_at is not null"), &[&id])
                    .await
                    .expect("the row is deleted softly");
                let mut log = log.borrow_mut();
                log.edits += 1;
                log.state(arena, &id, after.get(0), State { ours: after.get(1), keaps: after.get(2), is_deleted: true });
                continue;
            }
            _ => format!(
                "with wanted as materialized (
                     select id from {table} where account_id = 'demo' and sync_status = 'completed' and keap_id is not null
                     order by id limit 5 for no key update
                 )
                 update {table} edited set {ours} = '{token}' from wanted where edited.id = wanted.id
                 returning edited.id::text, edited.version, edited.{ours}, edited.{keaps}, edited.deleted_at is not null"
            ),
        };
        let is_insert = sql.starts_with("insert");
        for (id, version, state) in run(&client, &log, arena, &sql).await {
            let mut log = log.borrow_mut();
            log.edits += 1;
            log.state(arena, &id, version, state);
            if is_insert {
                own.push((place, id));
            }
        }
    }
}

/// A person's statement, again when it was ended for a deadlock, which is counted.
async fn run(client: &Client, log: &Log, arena: Arena, sql: &str) -> Vec<(String, i32, State)> {
    loop {
        match client.query(sql, &[]).await {
            Ok(rows) => {
                return rows
                    .iter()
                    .map(|row| {
                        let state = State { ours: row.get(2), keaps: row.get(3), is_deleted: row.get(4) };
                        (row.get(0), row.get(1), state)
                    })
                    .collect();
            }
            Err(error) if error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED) => {
                log.borrow_mut().deadlocks_of_people += 1;
            }
            Err(error) => panic!("an edit of {} failed: {:?}", arena.table(), error.as_db_error()),
        }
    }
}

/// The sync: reads rows, some of them long before it writes, and writes pages; what is skipped is read again.
async fn sync(client: Client, mut dice: Dice, shared: Shared, log: Log, deadline: Instant) {
    let store = Store::new(&client);
    let mut stale: Vec<(usize, Vec<LocalRow>)> = Vec::new();
    let mut number = 0;
    while Instant::now() < deadline {
        number += 1;
        let (place, mut rows) = if dice.below(4) == 0 && !stale.is_empty() {
            stale.swap_remove(dice.below(stale.len()))
        } else {
            let place = dice.below(ARENAS.len());
            let ids: Vec<String> =
                (0..PAGE).map(|_| shared[place][dice.below(shared[place].len())].clone()).collect();
            let read = store.read_rows(&account(), ARENAS[place].entity, &ids).await.expect("rows are read");
            if dice.below(6) == 0 {
                stale.push((place, read.clone()));
            }
            (place, read)
        };
        let arena = ARENAS[place];
        while !rows.is_empty() {
            let token = format!("keap-{:x}-{number}", dice.below(1 << 40));
            let writes: Vec<RowWrite> = rows
                .iter()
                .map(|row| {
                    let mut record = row.record.clone();
                    record.set_by_name(arena.keaps, json!(token));
                    let is_conflict = dice.below(10) == 0;
                    let conflicts = if is_conflict { vec![conflict(arena, row, &token)] } else { Vec::new() };
                    let old = row.record.get_by_name(arena.keaps).clone();
                    RowWrite {
                        record: Some(record),
                        base_delta: row.base_delta.clone(),
                        deleted_at: row.deleted_at,
                        state: if is_conflict { RowState::Conflict } else { RowState::Completed },
                        conflicts,
                        audit_old: Map::from_iter([(arena.keaps.to_owned(), old)]),
                        ..update_of(row, &json!({}))
                    }
                })
                .collect();
            let page = WriteBatch { run_id: None, source: WriteSource::Poll, rows: writes };
            let outcome = store.write(&account(), arena.entity, &page).await.expect("the page is written");
            assert!(outcome.rejected.is_empty(), "{outcome:?}");
            {
                let mut log = log.borrow_mut();
                log.pages += 1;
                log.skipped += outcome.skipped.len();
                for row in rows
                    .iter()
                    .filter(|row| row.keap_id.as_ref().is_some_and(|id| outcome.written.contains(id)))
                {
                    let written = State {
                        ours: text(row.record.get_by_name(arena.ours)),
                        keaps: Some(token.clone()),
                        is_deleted: row.deleted_at.is_some(),
                    };
                    log.state(arena, &row.id, row.version + 1, written);
                }
            }
            let again: Vec<String> = rows
                .iter()
                .filter(|row| row.keap_id.as_ref().is_some_and(|id| outcome.skipped.contains(id)))
                .map(|row| row.id.clone())
                .collect();
            rows = store.read_rows(&account(), arena.entity, &again).await.expect("rows are read again");
        }
    }
}

fn conflict(arena: Arena, row: &LocalRow, token: &str) -> ConflictRecord {
    ConflictRecord {
        field: arena.ours.to_owned(),
        base: Value::Null,
        keap: json!(token),
        supabase: row.record.get_by_name(arena.ours).clone(),
        policy: Policy::Manual,
        winner: None,
    }
}

/// The outbox: claims, and ends what it claimed in each of the three ways.
async fn drain(client: Client, mut dice: Dice, owner: String, log: Log, deadline: Instant) {
    let store = Store::new(&client);
    let failure = Failure::new(FailureClass::Unavailable, "Keap is away");
    while Instant::now() < deadline {
        let items = store.claim(&account(), 20, 60_000, &owner).await.expect("items are claimed");
        log.borrow_mut().claimed += items.len();
        let ids: Vec<String> = items.into_iter().map(|item| item.id).collect();
        match dice.below(6) {
            0 => store.retry_later(&account(), &ids, 0, &failure, true).await.expect("items are given back"),
            1 => store.fail(&account(), &ids, &failure).await.expect("items fail"),
            _ => store.complete(&account(), &ids).await.expect("items are completed"),
        }
        tokio::task::yield_now().await;
    }
}

/// A person who settles conflicts, one by one.
async fn settle(client: Client, mut dice: Dice, log: Log, deadline: Instant) {
    while Instant::now() < deadline {
        let open = client
            .query_opt(
                "select id::text, entity_type, entity_id::text from sync_conflicts
                 where account_id = 'demo' and resolved_at is null order by id offset $1 limit 1",
                &[&i64::try_from(dice.below(20)).expect("it is small")],
            )
            .await
            .expect("open conflicts are read");
        let Some(open) = open else {
            tokio::task::yield_now().await;
            continue;
        };
        let (conflict, kind, id): (String, String, String) = (open.get(0), open.get(1), open.get(2));
        let arena = ARENAS.into_iter().find(|arena| arena.entity.as_str() == kind).expect("it is known");
        let strategy = if dice.below(2) == 0 { "keap_wins" } else { "supabase_wins" };
        client.batch_execute("begin").await.expect("a transaction begins");
        let settled = client
            .query("select resolve_sync_conflict($1::text::uuid, $2::text)", &[&conflict, &strategy])
            .await;
        if let Err(error) = settled {
            client.batch_execute("rollback").await.expect("the transaction ends");
            let code = error.code().expect("the server answered");
            if *code == SqlState::T_R_DEADLOCK_DETECTED {
                log.borrow_mut().deadlocks_of_people += 1;
            } else {
                // Somebody else was faster.
                assert_eq!(*code, SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE, "{:?}", error.as_db_error());
            }
            continue;
        }
        let (table, ours, keaps) = (arena.table(), arena.ours, arena.keaps);
        let after = client
            .query_one(
                &format!(
                    "select version, {ours}, {keaps}, deleted_at is not null,
                         (select count(*) from sync_audit_log entry
                          where entry.entity_id = mirrored.id and entry.created_at = now()),
                         (select count(*) from sync_queue item
                          where item.entity_id = mirrored.id and item.created_at = now())
                     from {table} mirrored where id = $1::text::uuid"
                ),
                &[&id],
            )
            .await
            .expect("the row is read");
        client.batch_execute("commit").await.expect("the transaction ends");
        let state = State { ours: after.get(1), keaps: after.get(2), is_deleted: after.get(3) };
        let mut log = log.borrow_mut();
        log.settled += 1;
        log.settled_audits += after.get::<_, i64>(4);
        log.settled_items += after.get::<_, i64>(5);
        // A decision for what the row has already may leave the row as it is, version included.
        let known = log
            .states
            .get(&(arena.entity.as_str(), id.clone()))
            .and_then(|versions| versions.get(&after.get(0)));
        if known != Some(&state) {
            log.state(arena, &id, after.get(0), state);
        }
    }
}

fn duration() -> Duration {
    let seconds = std::env::var("KEAPSYNC_CONTENTION_SECONDS")
        .ok()
        .map_or(60, |text| text.parse().expect("KEAPSYNC_CONTENTION_SECONDS is a number of seconds"));
    Duration::from_secs(seconds)
}

/// The states that a row went through, newest first, by undoing the audit log's entries from its present state.
async fn rebuilt(client: &Client, arena: Arena, id: &str) -> Vec<State> {
    let (table, ours, keaps) = (arena.table(), arena.ours, arena.keaps);
    let row = client
        .query_one(
            &format!("select {ours}, {keaps}, deleted_at is not null from {table} where id = $1::text::uuid"),
            &[&id],
        )
        .await
        .expect("the row is there");
    let mut state = State { ours: row.get(0), keaps: row.get(1), is_deleted: row.get(2) };
    let entries = client
        .query(
            "select operation, old_data::text from sync_audit_log
             where entity_type = $1 and entity_id = $2::text::uuid order by id desc",
            &[&arena.entity.as_str(), &id],
        )
        .await
        .expect("the history is read");
    let mut states = Vec::new();
    for entry in &entries {
        states.push(state.clone());
        if entry.get::<_, &str>(0) == "create" {
            break;
        }
        let old: Map<String, Value> =
            serde_json::from_str(entry.get::<_, Option<&str>>(1).unwrap_or("{}")).expect("it is JSON");
        if let Some(value) = old.get(ours) {
            state.ours = text(value);
        }
        if let Some(value) = old.get(keaps) {
            state.keaps = text(value);
        }
        if let Some(value) = old.get("deleted_at") {
            state.is_deleted = !value.is_null();
        }
    }
    states
}

#[tokio::test]
async fn a_hundred_connections_lose_nothing() {
    let database = TestDatabase::migrated().await;
    let (engine, owner) = (database.engine().await, database.person().await);
    with_account(&engine).await;
    let log: Log = Rc::default();
    let mut shared = Vec::new();
    for arena in ARENAS {
        let rows = (1..=SHARED_ROWS).map(|id| insert_as(arena.entity, &id.to_string(), &json!({}))).collect();
        Store::new(&engine).write(&account(), arena.entity, &batch(rows)).await.expect("the rows are loaded");
        let ids: Vec<String> = owner
            .query(&format!("select id::text from {}", arena.table()), &[])
            .await
            .expect("the rows are read")
            .iter()
            .map(|row| row.get(0))
            .collect();
        for id in &ids {
            log.borrow_mut().state(arena, id, 1, State { ours: None, keaps: None, is_deleted: false });
        }
        shared.push(ids);
    }
    let shared = Rc::new(shared);
    let deadline = Instant::now() + duration();
    let workers = tokio::task::LocalSet::new();
    let mut handles = Vec::new();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut dice = || {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        Dice(seed | 1)
    };
    for _ in 0..PEOPLE {
        let client = database.person().await;
        handles.push(workers.spawn_local(person(client, dice(), shared.clone(), log.clone(), deadline)));
    }
    for _ in 0..SYNCS {
        let client = database.engine().await;
        handles.push(workers.spawn_local(sync(client, dice(), shared.clone(), log.clone(), deadline)));
    }
    for number in 0..DRAINS {
        let client = database.engine().await;
        handles.push(workers.spawn_local(drain(
            client,
            dice(),
            format!("drain {number}"),
            log.clone(),
            deadline,
        )));
    }
    for _ in 0..SETTLERS {
        handles.push(workers.spawn_local(settle(database.person().await, dice(), log.clone(), deadline)));
    }
    workers
        .run_until(async {
            for handle in handles {
                handle.await.expect("a worker ends well");
            }
        })
        .await;

    let told = log.take();
    println!(
        "{} edits, {} pages, {} rows merged again, {} items claimed, {} conflicts settled, {} deadlocks of people",
        told.edits, told.pages, told.skipped, told.claimed, told.settled, told.deadlocks_of_people
    );
    assert!(
        told.edits > 0 && told.pages > 0 && told.claimed > 0 && told.settled > 0,
        "somebody never had a turn"
    );
    assert_eq!(told.deadlocks_of_people, 0, "people's sessions saw deadlocks");
    assert_eq!(told.repeated, Vec::<String>::new());
    let count =
        async |query: &str| -> i64 { owner.query_one(query, &[]).await.expect("rows are counted").get(0) };
    let audited = count("select count(*) from sync_audit_log where sync_source = 'supabase'").await;
    assert_eq!(audited, told.edits + told.settled_audits, "edits and what stands in the audit log");
    // What pages queued tells no new values.
    let queued = count("select count(*) from sync_queue where operation <> 'sync' and payload ? 'new'").await;
    assert_eq!(queued, told.edits + told.settled_items, "edits and what stands in the queue");
    for ((entity, id), versions) in &told.states {
        let arena = ARENAS.into_iter().find(|arena| arena.entity.as_str() == *entity).expect("it is known");
        // A decision that leaves a value as it is has an entry, too.
        let mut written: Vec<State> = versions.values().rev().cloned().collect();
        let mut states = rebuilt(&owner, arena, id).await;
        written.dedup();
        states.dedup();
        assert_eq!(states, written, "{entity} {id}: the states by version, newest first");
    }
}
