//! Every mirrored record is of an account that exists, whoever writes and whatever others do meanwhile.

#![allow(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

use crate::support::{TestDatabase, batch, insert_of, with_account, with_other_account};
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_engine::ports::MirrorStore;
use keapsync_store::Store;
use std::time::{Duration, Instant};
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::{Client, Error};

const MIRRORED: [&str; 4] = ["sync_contacts", "sync_orders", "sync_tags", "sync_subscriptions"];

/// What takes the account `demo` away.
const TAKING: [&str; 2] = [
    "delete from sync_accounts where account_id = 'demo'",
    "update sync_accounts set account_id = 'renamed' where account_id = 'demo'",
];

/// Inserts a record that was deleted in Keap. Such a one is not counted, so that no foreign key of another table knows of it.
fn tombstone(table: &str, account: &str) -> String {
    format!("insert into {table} (account_id, keap_id, deleted_at) values ('{account}', '1', now())")
}

fn refused(outcome: Result<(), Error>, what: &str) -> DbError {
    outcome.expect_err(what).as_db_error().expect(what).clone()
}

/// Asserts that a row of `table` was refused for its account.
fn assert_no_account(outcome: Result<(), Error>, table: &str, account: &str, what: &str) {
    let error = refused(outcome, what);
    assert_eq!(
        (error.code(), error.table(), error.column(), error.message()),
        (
            &SqlState::FOREIGN_KEY_VIOLATION,
            Some(table),
            Some("account_id"),
            format!("there is no account {account} for this row of {table}").as_str()
        ),
        "{what}"
    );
    assert!(error.hint().is_some(), "{what}");
}

/// Asserts that the account `demo` was kept for a row of `table`.
fn assert_kept(outcome: Result<(), Error>, table: &str, what: &str) {
    let error = refused(outcome, what);
    assert_eq!(
        (error.code(), error.table(), error.message()),
        (
            &SqlState::FOREIGN_KEY_VIOLATION,
            Some("sync_accounts"),
            format!("account demo has rows in {table}").as_str()
        ),
        "{what}"
    );
    assert!(error.hint().is_some(), "{what}");
}

/// Sends a statement, and `then` once it waits for another session.
async fn while_it_waits(
    database: &TestDatabase,
    client: &Client,
    statement: &str,
    other: &Client,
    then: &str,
) -> Result<(), Error> {
    let observer = database.superuser().await;
    let release = async {
        let deadline = Instant::now() + Duration::from_secs(20);
        let waiting =
            "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        while observer.query(waiting, &[]).await.expect("the activity is read").is_empty() {
            assert!(Instant::now() < deadline, "nobody waits: {statement}");
        }
        other.batch_execute(then).await.expect("the other one ends");
    };
    let (outcome, ()) = tokio::join!(client.batch_execute(statement), release);
    outcome
}

#[tokio::test]
async fn a_record_of_no_account_is_refused_to_everybody() {
    let database = TestDatabase::migrated().await;
    let (engine, owner, other) =
        (database.engine().await, database.person().await, database.superuser().await);
    with_account(&engine).await;
    for table in MIRRORED {
        // A role that may insert and nothing else, not even see that there are accounts.
        other
            .batch_execute(&format!(
                "grant insert on {table} to anon;
                 create policy open on {table} for insert to anon with check (true)"
            ))
            .await
            .unwrap();
    }
    other.batch_execute("set role anon").await.unwrap();
    refused(other.batch_execute("select from sync_accounts").await, "a look at the accounts");
    for table in MIRRORED {
        for (client, who) in
            [(&engine, "the engine"), (&owner, "the owner"), (&other, "a role with few rights")]
        {
            let insert = |account: &str| format!("insert into {table} (account_id) values {account}");
            let what = format!("{table} by {who}");
            assert_no_account(client.batch_execute(&insert("('nobody')")).await, table, "nobody", &what);
            // One of many is enough, wherever it stands.
            for rows in
                ["('demo'), ('nobody'), ('demo')", "('nobody'), ('demo')", "('demo'), ('demo'), ('nobody')"]
            {
                assert_no_account(client.batch_execute(&insert(rows)).await, table, "nobody", &what);
            }
            client.batch_execute(&insert("('demo'), ('demo')")).await.expect(&what);
            client
                .batch_execute(&format!("insert into {table} (account_id) select 'nobody' where false"))
                .await
                .expect(&what);
        }
        assert_no_account(engine.batch_execute(&tombstone(table, "nobody")).await, table, "nobody", table);
        let row = owner
            .query_one(
                &format!("select count(*), count(*) filter (where account_id = 'demo') from {table}"),
                &[],
            )
            .await
            .unwrap();
        assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (6, 6), "{table}");
    }
    other.batch_execute("reset role").await.unwrap();
    for table in MIRRORED {
        let copied =
            other.batch_execute(&format!("copy {table} (account_id) from program 'echo nobody'")).await;
        assert_no_account(copied, table, "nobody", &format!("COPY into {table}"));
    }
}

#[tokio::test]
async fn the_store_tells_that_the_account_is_missing() {
    let database = TestDatabase::migrated().await;
    let engine = database.engine().await;
    let nobody = AccountId::parse("nobody").expect("the name is valid");
    let page = batch(vec![insert_of("1", &serde_json::json!({}))]);
    let failure = Store::new(&engine).write(&nobody, EntityType::Contact, &page).await.unwrap_err();
    assert!(failure.message.contains("mirror the account before its records"), "{failure:?}");
}

#[tokio::test]
async fn a_row_never_gets_an_account_that_does_not_exist() {
    let database = TestDatabase::migrated().await;
    let (engine, owner) = (database.engine().await, database.person().await);
    with_account(&engine).await;
    with_other_account(&engine).await;
    for table in MIRRORED {
        engine.batch_execute(&tombstone(table, "demo")).await.unwrap();
        let update = |account: &str| format!("update {table} set account_id = '{account}'");
        // People may not change it at all.
        for account in ["other", "nobody"] {
            let error = refused(owner.batch_execute(&update(account)).await, table);
            assert_eq!(
                error.code(),
                &SqlState::INTEGRITY_CONSTRAINT_VIOLATION,
                "{table}: {}",
                error.message()
            );
        }
        assert_no_account(engine.batch_execute(&update("nobody")).await, table, "nobody", table);
        engine.batch_execute(&update("other")).await.expect(table);
    }
}

#[tokio::test]
async fn an_account_is_kept_as_long_as_records_are_of_it() {
    let database = TestDatabase::migrated().await;
    let (engine, owner) = (database.engine().await, database.person().await);
    with_account(&engine).await;
    // Another account's rows keep none but their own.
    with_other_account(&engine).await;
    for table in MIRRORED {
        engine.batch_execute(&tombstone(table, "other")).await.unwrap();
    }
    for table in MIRRORED {
        engine.batch_execute(&tombstone(table, "demo")).await.unwrap();
        for taking in TAKING {
            assert_kept(owner.batch_execute(taking).await, table, &format!("{table}: {taking}"));
        }
        owner
            .batch_execute("update sync_accounts set name = 'New', account_id = account_id")
            .await
            .expect(table);
        engine.batch_execute(&format!("delete from {table} where account_id = 'demo'")).await.unwrap();
    }
    for taking in TAKING {
        owner.batch_execute(&format!("begin; {taking}; rollback")).await.expect(taking);
    }
}

#[tokio::test]
async fn an_account_is_not_taken_away_under_a_snapshot_that_hides_its_records() {
    let database = TestDatabase::migrated().await;
    let (engine, owner) = (database.engine().await, database.person().await);
    with_account(&engine).await;
    for level in ["repeatable read", "serializable"] {
        for taking in TAKING {
            owner
                .batch_execute(&format!("begin isolation level {level}; select count(*) from sync_tags"))
                .await
                .unwrap();
            engine.batch_execute(&tombstone("sync_tags", "demo")).await.unwrap();
            let error = refused(owner.batch_execute(taking).await, taking);
            assert_eq!(error.code(), &SqlState::INVALID_TRANSACTION_STATE, "{level}: {}", error.message());
            assert!(error.hint().is_some_and(|hint| hint.contains("READ COMMITTED")), "{level}");
            owner.batch_execute("rollback").await.unwrap();
            engine.batch_execute("delete from sync_tags").await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_account_that_is_taken_away_while_a_record_comes_is_kept() {
    let database = TestDatabase::migrated().await;
    let (engine, owner) = (database.engine().await, database.person().await);
    with_account(&engine).await;
    for table in MIRRORED {
        for taking in TAKING {
            let what = format!("{table}: {taking}");
            engine.batch_execute(&format!("begin; {}", tombstone(table, "demo"))).await.unwrap();
            assert_kept(while_it_waits(&database, &owner, taking, &engine, "commit").await, table, &what);
            engine.batch_execute(&format!("delete from {table}")).await.unwrap();

            // The row was not committed after all.
            engine.batch_execute(&format!("begin; {}", tombstone(table, "demo"))).await.unwrap();
            owner.batch_execute("begin").await.unwrap();
            while_it_waits(&database, &owner, taking, &engine, "rollback").await.expect(&what);
            owner.batch_execute("rollback").await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_record_that_comes_while_its_account_is_taken_away_is_refused() {
    let database = TestDatabase::migrated().await;
    let (engine, owner) = (database.engine().await, database.person().await);
    for table in MIRRORED {
        for taking in TAKING {
            let what = format!("{table}: {taking}");
            with_account(&engine).await;
            let insert = tombstone(table, "demo");
            owner.batch_execute(&format!("begin; {taking}")).await.unwrap();
            let outcome = while_it_waits(&database, &engine, &insert, &owner, "commit").await;
            assert_no_account(outcome, table, "demo", &what);
            owner.batch_execute("delete from sync_accounts").await.unwrap();

            // The account stayed after all.
            with_account(&engine).await;
            owner.batch_execute(&format!("begin; {taking}")).await.unwrap();
            while_it_waits(&database, &engine, &insert, &owner, "rollback").await.expect(&what);
            engine.batch_execute(&format!("delete from {table}")).await.unwrap();
        }
    }
}
