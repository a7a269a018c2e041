//! Upserts as Supabase's API sends them: an edit of a row that is there, captured as an update's; nothing that names a row that is not.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test ends at the first thing that is not as it should be"
)]

use crate::support::{TestDatabase, with_account, with_other_account};
use serde_json::{Value, json};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

const OPERATOR: &str = "00000000-0000-4000-8000-000000000002";
const VIEWER: &str = "00000000-0000-4000-8000-000000000001";

/// Id of a contact of the other account.
const FOREIGN: &str = "00000000-0000-4000-8000-0000000000f0";

/// Id of no row.
const FREE: &str = "00000000-0000-4000-8000-0000000000ee";

/// Who may write: the API's two roles, and the owner in the SQL editor.
const WRITERS: [&str; 3] = ["authenticated", "service_role", "owner"];

/// A table, a column of it that Keap takes, and values of that column before and after.
const EDITED: [(&str, &str, &str, &str, &str); 4] = [
    ("contact", "sync_contacts", "job_title", "Clerk", "Boss"),
    ("order", "sync_orders", "title", "Tea", "Coffee"),
    ("tag", "sync_tags", "name", "Gold", "Silver"),
    ("subscription", "sync_subscriptions", "cancel_reason", "moved", "price"),
];

/// A linked row of each kind in two accounts, the contact's `id` in the other one known.
async fn furnished(database: &TestDatabase) -> Client {
    let engine = database.engine().await;
    with_account(&engine).await;
    with_other_account(&engine).await;
    for account in ["demo", "other"] {
        for (entity, table, column, before, _) in EDITED {
            let keap_ids = if account == "demo" { ["7", "8"] } else { ["7", "9"] };
            for keap_id in keap_ids {
                engine
                    .batch_execute(&format!(
                        "with made as (
                             insert into {table} (id, account_id, keap_id, {column}, sync_status, source_system, keap_updated_at, created_at, extra)
                             select case when '{account}{keap_id}{entity}' = 'other9contact' then '{FOREIGN}' else gen_random_uuid() end,
                                 '{account}', '{keap_id}', '{before}', 'completed', 'keap', '2026-03-01', '2026-02-01', '{{\"x\": 1}}'
                             returning id, account_id, keap_id
                         )
                         insert into sync_status (account_id, entity_type, entity_id, keap_id, has_base)
                         select account_id, '{entity}', id, keap_id, true from made"
                    ))
                    .await
                    .expect("the row is made");
            }
        }
    }
    let owner = database.person().await;
    owner
        .batch_execute(&format!(
            "insert into sync_account_members values ('demo', '{OPERATOR}', 'operator'), ('demo', '{VIEWER}', 'viewer')"
        ))
        .await
        .expect("the members are made");
    let superuser = database.superuser().await;
    // On Supabase it passes by row level security. Roles are the whole server's: of tests that set it at once only one can.
    while let Err(error) = superuser.batch_execute("alter role service_role bypassrls").await {
        assert_eq!(error.code(), Some(&SqlState::INTERNAL_ERROR), "{error:?}");
    }
    superuser
}

/// Runs a statement as a writer; what it did is kept.
async fn run(client: &Client, writer: &str, statement: &str) -> Result<u64, Error> {
    let role = if writer == "owner" { crate::support::OWNER } else { writer };
    client
        .batch_execute(&format!(
            r#"set request.jwt.claims = '{{"sub":"{OPERATOR}","role":"authenticated"}}'; set role {role}"#
        ))
        .await
        .expect("the role is taken");
    let outcome = client.execute(statement, &[]).await;
    client.batch_execute("reset role; reset request.jwt.claims").await.expect("the role is given back");
    outcome
}

/// The statement that `PostgREST` makes of an upsert: every column of the payload is set to what was proposed.
fn upsert(table: &str, target: &str, payload: &Value) -> String {
    upsert_with(table, target, payload, "do update")
}

fn upsert_with(table: &str, target: &str, payload: &Value, action: &str) -> String {
    let rows = payload.as_array().cloned().unwrap_or_else(|| vec![payload.clone()]);
    let mut columns: Vec<String> = Vec::new();
    for row in &rows {
        for name in row.as_object().expect("a row is an object").keys() {
            if !columns.contains(name) {
                columns.push(name.clone());
            }
        }
    }
    let quoted = |prefix: &str| {
        columns.iter().map(|name| format!("{prefix}\"{name}\"")).collect::<Vec<_>>().join(", ")
    };
    let sets: Vec<String> = columns.iter().map(|name| format!("\"{name}\" = excluded.\"{name}\"")).collect();
    let action = if action == "do nothing" {
        "do nothing".to_owned()
    } else {
        format!("do update set {}", sets.join(", "))
    };
    let payload = Value::Array(rows).to_string().replace('\'', "''");
    format!(
        "insert into public.{table} ({}) select {} from jsonb_populate_recordset(null::public.{table}, '{payload}') as body
         on conflict ({target}) {action}",
        quoted(""),
        quoted("body."),
    )
}

async fn json_of(client: &Client, query: &str) -> Value {
    let row = client
        .query_one(&format!("select coalesce(jsonb_agg(to_jsonb(x)), '[]')::text from ({query}) x"), &[])
        .await
        .expect("the query is right");
    serde_json::from_str(row.get(0)).expect("Postgres writes JSON")
}

/// The row as a client reads it.
async fn read(client: &Client, table: &str, keap_id: &str) -> Value {
    json_of(client, &format!("select * from {table} where account_id = 'demo' and keap_id = '{keap_id}'"))
        .await[0]
        .clone()
}

/// What an edit leaves: the row without its times and version, what is queued, audited and kept as the base.
async fn traces(client: &Client, entity: &str, table: &str, keap_id: &str) -> Value {
    let mut row = read(client, table, keap_id).await;
    for time in ["updated_at", "edited_at", "version", "id", "keap_id"] {
        row.as_object_mut().expect("the row is there").remove(time);
    }
    if !row["deleted_at"].is_null() {
        row["deleted_at"] = json!("deleted");
    }
    let of = format!("entity_type = '{entity}' and account_id = 'demo' and keap_id = '{keap_id}'");
    json!({
        "row": row,
        "queued": json_of(client, &format!("select operation, payload from sync_queue where {of} order by sequence")).await,
        "audited": json_of(client, &format!("select operation, old_data, changed_fields, user_id from sync_audit_log where {of} order by id")).await,
        "base": json_of(client, &format!("select has_base, base, last_sync_status from sync_status where {of}")).await,
    })
}

fn message(error: &Error) -> String {
    let error = error.as_db_error().expect("the server refused");
    format!("{} {} {:?} {:?}", error.code().code(), error.message(), error.detail(), error.hint())
}

#[tokio::test]
async fn an_upsert_by_keap_id_is_the_update_of_its_columns() {
    for writer in WRITERS {
        let database = TestDatabase::migrated().await;
        let client = furnished(&database).await;
        for (entity, table, column, _, after) in EDITED {
            let payload = json!({"account_id": "demo", "keap_id": "7", column: after});
            let done = run(&client, writer, &upsert(table, "account_id, keap_id", &payload)).await;
            assert_eq!(done.map_err(|error| message(&error)), Ok(1), "{writer} {table}");
            run(
                &client,
                writer,
                &format!(
                    "update {table} set {column} = '{after}' where keap_id = '8' and account_id = 'demo'"
                ),
            )
            .await
            .expect("the update is made");
            let (upserted, updated) =
                (traces(&client, entity, table, "7").await, traces(&client, entity, table, "8").await);
            assert_eq!(upserted, updated, "{writer} {table}");
            assert_eq!(upserted["queued"][0]["operation"], "update", "{writer} {table}");
            assert_eq!(upserted["queued"][0]["payload"]["new"], json!({column: after}), "{writer} {table}");
        }
        let foreign = json_of(
            &client,
            "select job_title from sync_contacts where account_id = 'other' order by keap_id",
        )
        .await;
        assert_eq!(foreign, json!([{"job_title": "Clerk"}, {"job_title": "Clerk"}]));
    }
}

#[tokio::test]
async fn an_upsert_by_id_edits_with_or_without_the_account() {
    for writer in WRITERS {
        let database = TestDatabase::migrated().await;
        let client = furnished(&database).await;
        for (entity, table, column, _, after) in EDITED {
            let id = read(&client, table, "7").await["id"].clone();
            for payload in [
                json!({"id": id, column: after}),
                json!({"id": id, "account_id": "demo", column: "again"}),
                json!({"id": id, "account_id": "demo", "keap_id": "7", column: after}),
            ] {
                let done = run(&client, writer, &upsert(table, "id", &payload)).await;
                assert_eq!(done.map_err(|error| message(&error)), Ok(1), "{writer} {table} {payload}");
            }
            let traces = traces(&client, entity, table, "7").await;
            assert_eq!(traces["row"][column], after);
            assert_eq!(traces["queued"].as_array().map(Vec::len), Some(3), "{writer} {table}");
        }
        assert_eq!(json_of(&client, "select count(*) from sync_contacts").await[0]["count"], 4);
    }
}

#[tokio::test]
async fn a_whole_row_sent_back_as_it_was_read_changes_nothing() {
    for writer in WRITERS {
        let database = TestDatabase::migrated().await;
        let client = furnished(&database).await;
        let owner = database.person().await;
        // An order that a person gave to a contact that Keap has not got yet: it stays with the old one there.
        owner
            .batch_execute(
                "insert into sync_contacts (account_id, email) values ('demo', 'new@example.com');
                 update sync_orders set contact_id = (select id from sync_contacts where email = 'new@example.com')
                     where account_id = 'demo' and keap_id = '7'",
            )
            .await
            .expect("the order is linked");
        for (entity, table, column, ..) in EDITED {
            for target in ["account_id, keap_id", "id"] {
                let before = traces(&client, entity, table, "7").await;
                let row = read(&client, table, "7").await;
                let done = run(&client, writer, &upsert(table, target, &row)).await;
                assert_eq!(done.map_err(|error| message(&error)), Ok(1), "{writer} {table} {target}");
                assert_eq!(traces(&client, entity, table, "7").await, before, "{writer} {table} {target}");
                assert_eq!(
                    read(&client, table, "7").await["edited_at"],
                    row["edited_at"],
                    "{writer} {table}"
                );
                // And with one column changed it is that column's edit.
                let mut changed = row.clone();
                changed[column] = json!(format!("by {target}"));
                run(&client, writer, &upsert(table, target, &changed)).await.expect("it is an edit");
                let queued = &traces(&client, entity, table, "7").await["queued"];
                let last = queued.as_array().and_then(|items| items.last()).expect("an item");
                assert_eq!(
                    last["payload"]["new"],
                    json!({column: format!("by {target}")}),
                    "{writer} {table}"
                );
            }
        }
        let linked = json_of(
            &client,
            "select contact.email from sync_orders record join sync_contacts contact on contact.id = record.contact_id
             where record.account_id = 'demo' and record.keap_id = '7'",
        )
        .await;
        assert_eq!(linked, json!([{"email": "new@example.com"}]));
    }
}

#[tokio::test]
async fn defaults_that_the_api_fills_in_and_columns_of_the_sync_change_nothing_but_what_is_edited() {
    for writer in WRITERS {
        let database = TestDatabase::migrated().await;
        let client = furnished(&database).await;
        for (entity, table, column, _, after) in EDITED {
            let before = read(&client, table, "7").await;
            // `missing=default`: columns that other rows of the payload have are filled in, the key among them.
            let mut payload = json!({
                "account_id": "demo", "keap_id": "7", column: after,
                "id": FREE, "version": 77, "sync_status": "completed", "sync_error": "x", "source_system": "manual", "extra": {},
                "last_synced_at": "2001-01-01", "keap_updated_at": "2099-01-01", "created_at": "2001-01-01",
                "updated_at": "2099-01-01", "edited_at": "2099-01-01", "created_by": VIEWER, "updated_by": VIEWER, "deleted_by": VIEWER,
            });
            let done = run(&client, writer, &upsert(table, "account_id, keap_id", &payload)).await;
            assert_eq!(done.map_err(|error| message(&error)), Ok(1), "{writer} {table}");
            payload["sync_status"] = json!("nonsense");
            payload["extra"] = Value::Null;
            payload["version"] = Value::Null;
            let done = run(&client, writer, &upsert(table, "account_id, keap_id", &payload)).await;
            assert_eq!(done.map_err(|error| message(&error)), Ok(1), "{writer} {table}");
            let row = read(&client, table, "7").await;
            for kept in [
                "id",
                "source_system",
                "extra",
                "last_synced_at",
                "keap_updated_at",
                "created_at",
                "created_by",
                "deleted_by",
            ] {
                assert_eq!(row[kept], before[kept], "{writer} {table} {kept}");
            }
            assert_eq!((&row["sync_status"], &row["sync_error"]), (&json!("pending"), &Value::Null));
            assert_eq!((&row["version"], &row[column]), (&json!(3), &json!(after)));
            let dated = json_of(
                &client,
                &format!("select from {table} where updated_at > now() + interval '1 hour' or edited_at > now() + interval '1 hour'"),
            )
            .await;
            assert_eq!(dated, json!([]), "{writer} {table}");
            assert_eq!(traces(&client, entity, table, "7").await["queued"].as_array().map(Vec::len), Some(1));
        }
    }
}

#[tokio::test]
async fn what_names_no_row_is_refused_whatever_else_the_statement_says() {
    for writer in WRITERS {
        let database = TestDatabase::migrated().await;
        let client = furnished(&database).await;
        for (_, table, column, ..) in EDITED {
            let invented = json!({"account_id": "demo", "keap_id": "4711", column: "x"});
            let mixed = json!([{"account_id": "demo", "keap_id": "7", column: "x"}, invented]);
            for statement in [
                upsert(table, "account_id, keap_id", &invented),
                upsert(table, "account_id, keap_id", &mixed),
                upsert_with(table, "account_id, keap_id", &invented, "do nothing"),
                upsert(table, "id", &invented),
                format!("insert into {table} (account_id, keap_id) values ('demo', '4711')"),
            ] {
                let refused = run(&client, writer, &statement).await.expect_err("the id is invented");
                let database_error = refused.as_db_error().expect("the server refused");
                assert_eq!(
                    database_error.code(),
                    &SqlState::INTEGRITY_CONSTRAINT_VIOLATION,
                    "{writer} {statement}"
                );
                assert!(database_error.hint().is_some());
            }
            // Of a row that is there nothing is made by a plain insert, and nothing is done where duplicates are ignored.
            let known = json!({"account_id": "demo", "keap_id": "7", column: "x"});
            let plain = format!("insert into {table} (account_id, keap_id) values ('demo', '7')");
            let refused = run(&client, writer, &plain).await.expect_err("the row is there");
            assert_eq!(refused.code(), Some(&SqlState::UNIQUE_VIOLATION), "{writer} {table}");
            let ignored = upsert_with(table, "account_id, keap_id", &known, "do nothing");
            assert_eq!(run(&client, writer, &ignored).await.expect("it is ignored"), 0, "{writer} {table}");
            // A row does not get another's ids.
            let eighth = read(&client, table, "8").await["id"].clone();
            for (target, payload) in [
                ("account_id, keap_id", json!({"id": eighth, "account_id": "demo", "keap_id": "7"})),
                ("id", json!({"id": eighth, "account_id": "demo", "keap_id": "7"})),
                ("id", json!({"id": eighth, "account_id": "demo", "keap_id": "4711"})),
                ("id", json!({"id": eighth, "account_id": "demo", "keap_id": null})),
            ] {
                let refused = run(&client, writer, &upsert(table, target, &payload))
                    .await
                    .expect_err("it would be relinked");
                assert_eq!(
                    refused.code(),
                    Some(&SqlState::INTEGRITY_CONSTRAINT_VIOLATION),
                    "{writer} {payload}"
                );
            }
        }
        assert_eq!(json_of(&client, "select from sync_queue").await, json!([]), "{writer}");
        assert_eq!(json_of(&client, "select from sync_audit_log").await, json!([]), "{writer}");
    }
}

#[tokio::test]
async fn whether_a_foreign_row_exists_is_not_to_be_told_by_any_answer() {
    let database = TestDatabase::migrated().await;
    let client = furnished(&database).await;
    // Pairs of statements that differ in nothing but whether the other account has such a row.
    let of_other = |keap_id: &str| {
        upsert(
            "sync_contacts",
            "account_id, keap_id",
            &json!({"account_id": "other", "keap_id": keap_id, "job_title": "x"}),
        )
    };
    let of_mine = |keap_id: &str| {
        upsert(
            "sync_contacts",
            "account_id, keap_id",
            &json!({"account_id": "demo", "keap_id": keap_id, "job_title": "x"}),
        )
    };
    let with_id = |target: &str, account: Value, id: &str| {
        let mut payload = json!({"id": id, "job_title": "x"});
        if !account.is_null() {
            payload["account_id"] = account;
        }
        upsert("sync_contacts", target, &payload)
    };
    let plain = |account: &str, columns: &str, values: &str| {
        format!("insert into sync_contacts (account_id, {columns}) values ('{account}', {values})")
    };
    let order = |account: &str, id: &str| {
        format!("insert into sync_orders (account_id, contact_id, title) values ('{account}', '{id}', 'x')")
    };
    let moved = |id: &str| {
        format!("update sync_orders set account_id = 'other', contact_id = '{id}' where keap_id = '7'")
    };
    let linked = |id: &str| format!("update sync_orders set contact_id = '{id}' where keap_id = '7'");
    for (existing, missing) in [
        (of_other("9"), of_other("4711")),
        (of_mine("9"), of_mine("4711")),
        (plain("other", "keap_id", "'9'"), plain("other", "keap_id", "'4711'")),
        (plain("demo", "id", &format!("'{FOREIGN}'")), plain("demo", "id", &format!("'{FREE}'"))),
        (plain("other", "id", &format!("'{FOREIGN}'")), plain("other", "id", &format!("'{FREE}'"))),
        (with_id("id", json!("demo"), FOREIGN), with_id("id", json!("demo"), FREE)),
        (with_id("id", json!("other"), FOREIGN), with_id("id", json!("other"), FREE)),
        (with_id("id", Value::Null, FOREIGN), with_id("id", Value::Null, FREE)),
        (order("demo", FOREIGN), order("demo", FREE)),
        (order("other", FOREIGN), order("other", FREE)),
        (moved(FOREIGN), moved(FREE)),
        (linked(FOREIGN), linked(FREE)),
    ] {
        let mut answers = Vec::new();
        for statement in [&existing, &missing] {
            client.batch_execute("begin").await.expect("a transaction");
            client
                .batch_execute(&format!(
                    r#"set local request.jwt.claims = '{{"sub":"{OPERATOR}","role":"authenticated"}}'; set local role authenticated"#
                ))
                .await
                .expect("the role is taken");
            let answer = client.execute(statement.as_str(), &[]).await.map_err(|error| {
                message(&error)
                    .replace(FOREIGN, "given")
                    .replace(FREE, "given")
                    .replace("4711", "given")
                    .replace("'9'", "given")
            });
            client.batch_execute("rollback").await.expect("the transaction ends");
            answers.push(answer);
        }
        assert_eq!(answers[0], answers[1], "{existing}");
    }
}

#[tokio::test]
async fn an_upsert_that_carries_a_deleted_at_neither_revives_nor_dates_a_row() {
    for writer in WRITERS {
        let database = TestDatabase::migrated().await;
        let client = furnished(&database).await;
        for (entity, table, column, before, _) in EDITED {
            let live = read(&client, table, "7").await;
            let id = live["id"].clone();
            run(&client, writer, &format!("delete from {table} where keap_id = '7'"))
                .await
                .expect("it is deleted");
            let deleted = read(&client, table, "7").await;
            assert!(!deleted["deleted_at"].is_null());
            for (target, payload) in [
                (
                    "id",
                    json!({"id": id, "account_id": "demo", "deleted_at": deleted["deleted_at"], column: "1"}),
                ),
                ("id", json!({"id": id, "account_id": "demo", "deleted_at": "2000-01-01", column: "2"})),
                ("id", json!({"id": id, "account_id": "demo", "deleted_at": "infinity", column: "3"})),
                (
                    "account_id, keap_id",
                    json!({"keap_id": "7", "account_id": "demo", "deleted_at": "2000-01-01", column: "4"}),
                ),
                // Nor does one that says nothing of it.
                ("id", json!({"id": id, "account_id": "demo", column: "5"})),
                ("account_id, keap_id", json!({"keap_id": "7", "account_id": "demo", column: "6"})),
            ] {
                run(&client, writer, &upsert(table, target, &payload)).await.expect("it is an edit");
                let row = read(&client, table, "7").await;
                assert_eq!(row["deleted_at"], deleted["deleted_at"], "{writer} {table} {payload}");
                assert_eq!(row[column], payload[column]);
            }
            // A restore that says so is one, of whole rows too.
            run(&client, writer, &upsert(table, "id", &live)).await.expect("it is an edit");
            assert_eq!(read(&client, table, "7").await["deleted_at"], Value::Null);
            let audited = traces(&client, entity, table, "7").await["audited"].clone();
            let operations: Vec<&Value> =
                audited.as_array().expect("a list").iter().map(|entry| &entry["operation"]).collect();
            assert_eq!(operations.first(), Some(&&json!("delete")), "{writer} {table}");
            assert_eq!(operations.last(), Some(&&json!("undelete")), "{writer} {table}");
            assert_eq!(read(&client, table, "7").await[column], before);
        }
    }
}

#[tokio::test]
async fn the_moment_of_a_delete_is_the_databases() {
    for writer in WRITERS {
        let database = TestDatabase::migrated().await;
        let client = furnished(&database).await;
        for (_, table, column, ..) in EDITED {
            let id = read(&client, table, "8").await["id"].clone();
            for (round, statement) in [
                format!("update {table} set deleted_at = '2000-01-01' where account_id = 'demo'"),
                format!("update {table} set deleted_at = '-infinity' where account_id = 'demo'"),
                format!("update {table} set deleted_at = 'infinity' where account_id = 'demo'"),
                format!("update {table} set deleted_at = '0044-03-15 BC' where account_id = 'demo'"),
                format!("update {table} set deleted_at = now() - interval '1 hour' where account_id = 'demo'"),
                upsert(table, "id", &json!({"id": id, "account_id": "demo", "deleted_at": "2000-01-01"})),
                upsert(table, "account_id, keap_id", &json!({"keap_id": "8", "account_id": "demo", "deleted_at": "2000-01-01"})),
                format!("insert into {table} (account_id, {column}, deleted_at) values ('demo', 'x', '2000-01-01')"),
                upsert(table, "id", &json!({"id": FREE, "account_id": "demo", column: "x", "deleted_at": "2000-01-01", "created_at": "2000-01-01"})),
            ]
            .iter()
            .enumerate()
            {
                run(&client, writer, &format!("update {table} set deleted_at = null where account_id = 'demo'"))
                    .await
                    .expect("all are restored");
                run(&client, writer, statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
                let dated = json_of(
                    &client,
                    &format!(
                        "select count(*) filter (where deleted_at is not null) > 0 as deleted,
                             bool_and(deleted_at between now() - interval '1 minute' and now() + interval '1 minute') as now,
                             bool_and((deleted_by is null) = (deleted_at is null)) as by
                         from {table} where account_id = 'demo'"
                    ),
                )
                .await;
                assert_eq!(dated, json!([{"deleted": true, "now": true, "by": true}]), "{writer} {round} {statement}");
            }
            let stamps = json_of(
                &client,
                &format!(
                    "select from {table} where account_id = 'demo' and keap_id is null
                         and least(created_at, updated_at, edited_at) < now() - interval '1 minute'"
                ),
            )
            .await;
            assert_eq!(stamps, json!([]));
        }
        // Nothing of it is purged, whoever calls the upkeep and whatever they set.
        let before = json_of(&client, "select count(*) from sync_contacts").await;
        client
            .batch_execute(
                "update sync_queue set status = 'completed', completed_at = now(); set session_replication_role = replica;
                 update sync_contacts set sync_status = 'completed'; set session_replication_role = origin;
                 select * from sync_maintain(); set keapsync.purging = on; delete from sync_contacts; reset keapsync.purging",
            )
            .await
            .expect("the upkeep runs");
        assert_eq!(json_of(&client, "select count(*) from sync_contacts").await, before);
    }
}

#[tokio::test]
async fn the_owner_who_pretends_to_resolve_dates_no_delete() {
    let database = TestDatabase::migrated().await;
    furnished(&database).await;
    let owner = database.person().await;
    owner
        .batch_execute("set keapsync.resolving = on; update sync_contacts set deleted_at = '2000-01-01' where account_id = 'demo'")
        .await
        .expect("it is an edit");
    let old =
        json_of(&owner, "select from sync_contacts where deleted_at < now() - interval '1 minute'").await;
    assert_eq!(old, json!([]));
}

#[tokio::test]
async fn rows_of_a_copy_are_new_rows_with_the_databases_times() {
    let database = TestDatabase::migrated().await;
    furnished(&database).await;
    let owner = database.superuser().await;
    // From a program's output, so that the lines go no other way than COPY's.
    let copy = async |columns: &str, lines: &str| -> Result<u64, Error> {
        let program = format!("printf '%b' '{lines}'").replace('\'', "''");
        owner.execute(&format!("copy sync_contacts ({columns}) from program '{program}'"), &[]).await
    };
    let copied = copy("account_id, email, deleted_at, created_at, version, sync_status", "demo\\ta@example.com\\t\\\\N\\t2000-01-01\\t9\\tcompleted\\ndemo\\tb@example.com\\t2000-01-01\\t2000-01-01\\t9\\tcompleted\\n").await;
    assert_eq!(copied.expect("the rows are copied"), 2);
    let rows = json_of(
        &owner,
        "select email, version, sync_status, deleted_at is not null as deleted,
             least(deleted_at, created_at, updated_at, edited_at) > now() - interval '1 minute' as now
         from sync_contacts where keap_id is null order by email",
    )
    .await;
    assert_eq!(
        rows,
        json!([
            {"email": "a@example.com", "version": 1, "sync_status": "pending", "deleted": false, "now": true},
            {"email": "b@example.com", "version": 1, "sync_status": "pending", "deleted": true, "now": true},
        ])
    );
    assert_eq!(
        json_of(&owner, "select count(*) from sync_queue where operation = 'create'").await[0]["count"],
        2
    );
    let invented = copy("account_id, keap_id", "demo\\t4711\\n").await.expect_err("the id is invented");
    assert_eq!(invented.code(), Some(&SqlState::INTEGRITY_CONSTRAINT_VIOLATION));
    // COPY knows no conflict: a row that is there is one too many, and nothing is changed.
    let known =
        copy("account_id, keap_id, job_title", "demo\\t7\\tx\\n").await.expect_err("the row is there");
    assert_eq!(known.code(), Some(&SqlState::UNIQUE_VIOLATION));
    assert_eq!(read(&owner, "sync_contacts", "7").await["job_title"], "Clerk");
}

#[tokio::test]
async fn several_rows_of_one_upsert_are_each_an_edit_or_a_new_row() {
    for writer in WRITERS {
        let database = TestDatabase::migrated().await;
        let client = furnished(&database).await;
        let id = read(&client, "sync_contacts", "8").await["id"].clone();
        let payload = json!([
            {"id": id, "account_id": "demo", "job_title": "a"},
            {"id": FREE, "account_id": "demo", "job_title": "b"},
        ]);
        assert_eq!(
            run(&client, writer, &upsert("sync_contacts", "id", &payload)).await.expect("an upsert"),
            2
        );
        let queued =
            json_of(&client, "select operation, payload -> 'new' as new from sync_queue order by sequence")
                .await;
        assert_eq!(
            queued,
            json!([{"operation": "update", "new": {"job_title": "a"}}, {"operation": "create", "new": {"job_title": "b"}}])
        );
        // Its own condition may compare what was read: a row that is newer stays.
        let stale = upsert(
            "sync_contacts",
            "id",
            &json!({"id": id, "account_id": "demo", "version": 1, "job_title": "c"}),
        ) + " where sync_contacts.version = excluded.version";
        assert_eq!(run(&client, writer, &stale).await.expect("an upsert"), 0);
        let fresh = upsert(
            "sync_contacts",
            "id",
            &json!({"id": id, "account_id": "demo", "version": 2, "job_title": "c"}),
        ) + " where sync_contacts.version = excluded.version";
        assert_eq!(run(&client, writer, &fresh).await.expect("an upsert"), 1);
    }
}

#[tokio::test]
async fn viewers_upsert_nothing() {
    let database = TestDatabase::migrated().await;
    let client = furnished(&database).await;
    client
        .batch_execute(&format!(r#"set request.jwt.claims = '{{"sub":"{VIEWER}"}}'; set role authenticated"#))
        .await
        .expect("the role is taken");
    for payload in
        [json!({"account_id": "demo", "keap_id": "7"}), json!({"account_id": "demo", "keap_id": "4711"})]
    {
        let refused = client
            .execute(&upsert("sync_contacts", "account_id, keap_id", &payload), &[])
            .await
            .expect_err("a viewer writes nothing");
        assert_eq!(refused.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
    }
}

#[tokio::test]
async fn a_delete_answers_no_row_and_is_made_all_the_same() {
    let database = TestDatabase::migrated().await;
    let client = furnished(&database).await;
    let answered =
        client.query("delete from sync_contacts where account_id = 'demo' returning id", &[]).await;
    assert_eq!(answered.expect("a delete").len(), 0);
    let live =
        json_of(&client, "select from sync_contacts where account_id = 'demo' and deleted_at is null").await;
    assert_eq!(live, json!([]));
}
