//! Runs and what surrounds them: dry runs, the blast guard, the certificate, undo; and the kinds of record beside contacts.

use crate::conflicts::ask;
use anyhow::{Context as _, Result, ensure};
use keapsync_e2e::account::Account;
use keapsync_e2e::stage::Stage;
use keapsync_e2e::wait::{until, until_within};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn contact(name: &str, address: &str) -> Value {
    json!({"given_name": name, "email_addresses": [{"field": "EMAIL1", "email": address}]})
}

/// An account with synced contacts, of whose later changes no hook tells.
async fn deaf<'a>(stage: &'a Stage, name: &str, contacts: usize) -> Result<(Account<'a>, Vec<String>)> {
    let account = Account::connect(stage, name).await?;
    let mut ids = Vec::new();
    for number in 0..contacts {
        ids.push(account.keap.add(&contact(&format!("n{number}"), &format!("n{number}@x.example"))).await?);
    }
    account.wait_for_quiet().await?;
    account.full_sync().await?;
    account.wait_for_quiet().await?;
    account.keap.faults(&json!([{"kind": "hook_lost"}])).await?;
    Ok((account, ids))
}

async fn guard_at(account: &Account<'_>, records_max: u64) -> Result<()> {
    let settings =
        json!({"delete_in_keap": true, "blast_guard": {"records_max": records_max, "percent_max": 0}});
    account.change_settings(&settings).await
}

async fn run_in(account: &Account<'_>, run_id: &str, state: &str) -> Result<Value> {
    until(&format!("a run that is {state}"), async || {
        let run = ask(account, Method::GET, &format!("sync/runs/{run_id}"), None).await?.json();
        Ok((run["state"] == state).then_some(run))
    })
    .await
}

/// Approves a run as a person does who has seen that so many records wait.
async fn approve(account: &Account<'_>, run_id: &str, number: u64) -> Result<()> {
    let body = json!({"number": number});
    let answer = ask(account, Method::POST, &format!("sync/runs/{run_id}/approve"), Some(&body)).await?;
    ensure!(answer.status == 200, "approve answered {}: {}", answer.status, answer.text);
    Ok(())
}

/// The run that holds something back.
async fn held_run(account: &Account<'_>) -> Result<Value> {
    until("the run that tells what is held", async || {
        let runs = ask(account, Method::GET, "sync/runs", None).await?.json();
        let runs = runs["runs"].as_array().cloned().unwrap_or_default();
        Ok(runs.into_iter().find(|run| run["state"] == "awaiting_approval"))
    })
    .await
}

async fn decide(account: &Account<'_>, path: &str) -> Result<Value> {
    let answer = ask(account, Method::POST, path, None).await?;
    ensure!((200..300).contains(&answer.status.as_u16()), "{path}: {}: {}", answer.status, answer.text);
    Ok(answer.json())
}

async fn live(account: &Account<'_>) -> Result<i64> {
    let counted = account
        .mirror
        .one("select count(*) as n from sync_contacts where account_id = $1 and deleted_at is null", &[])
        .await?;
    counted["n"].as_i64().context("no count")
}

pub async fn a_dry_run_says_what_the_run_then_does(stage: &Stage) -> Result<()> {
    let (account, ids) = deaf(stage, "dry", 4).await?;
    account.keap.edit(&ids[0], &json!({"given_name": "Changed"})).await?;
    account.keap.delete(&ids[1]).await?;
    let new = account.keap.add(&contact("New", "new@x.example")).await?;
    let before = account.mirror.write_mark().await?;
    let run_id = account.start("contacts?dry_run=true").await?;
    let run = account.wait_for_run(&run_id).await?;
    ensure!(run["dry_run"] == true, "{run}");
    ensure!(account.mirror.write_mark().await? == before, "a dry run wrote rows");
    let plan = ask(&account, Method::GET, &format!("sync/runs/{run_id}/plan"), None).await?.json();
    let mut listed: Vec<String> = plan["changes"]
        .as_array()
        .context("no changes")?
        .iter()
        .map(|change| {
            let word = |name: &str| change[name].as_str().unwrap_or_default().to_owned();
            format!("{} {} {} {}", word("side"), word("action"), word("keap_id"), change["fields"])
        })
        .collect();
    listed.sort();
    let mut expected = vec![
        format!("supabase update {} [\"first_name\"]", ids[0]),
        format!("supabase delete {} []", ids[1]),
        format!("supabase create {new} [\"email\",\"first_name\"]"),
    ];
    expected.sort();
    ensure!(
        listed.len() == expected.len()
            && listed
                .iter()
                .zip(&expected)
                .all(|(one, other)| one.starts_with(other.split('[').next().unwrap_or(""))),
        "{plan}"
    );
    account.full_sync().await?;
    ensure!(account.mirror.contact(&ids[0]).await?["first_name"] == "Changed");
    ensure!(account.mirror.contact(&ids[1]).await?["deleted_at"].is_string());
    ensure!(account.mirror.contact(&new).await?["first_name"] == "New");
    account.keap.clear_faults().await
}

pub async fn a_mass_deletion_in_keap_waits_for_a_person(stage: &Stage) -> Result<()> {
    let (account, ids) = deaf(stage, "blast", 8).await?;
    guard_at(&account, 3).await?;
    for id in &ids[..5] {
        account.keap.delete(id).await?;
    }
    let run_id = account.start("contacts").await?;
    let run = run_in(&account, &run_id, "awaiting_approval").await?;
    ensure!(run["planned"]["deleted"] == 5, "{run}");
    ensure!(live(&account).await? == 8, "rows were deleted before anybody approved it");
    let plan = ask(&account, Method::GET, &format!("sync/runs/{run_id}/plan"), None).await?.json();
    ensure!(plan["changes"].as_array().map(Vec::len) == Some(5), "{plan}");
    ensure!(plan["number"] == 5, "{plan}");
    let path = format!("sync/runs/{run_id}/approve");
    let silent = ask(&account, Method::POST, &path, None).await?;
    ensure!(silent.status == 422 && silent.text.contains("number"), "{}: {}", silent.status, silent.text);
    let fewer = ask(&account, Method::POST, &path, Some(&json!({"number": 4}))).await?;
    ensure!(fewer.status == 409 && fewer.text.contains('5'), "{}: {}", fewer.status, fewer.text);
    ensure!(live(&account).await? == 8, "rows were deleted by an approval of fewer");
    approve(&account, &run_id, 5).await?;
    account.wait_for_run(&run_id).await?;
    ensure!(live(&account).await? == 3);
    let again = ask(&account, Method::POST, &path, Some(&json!({"number": 5}))).await?;
    ensure!(again.status == 409, "{}: {}", again.status, again.text);
    account.keap.clear_faults().await
}

pub async fn a_mass_deletion_in_sql_waits_for_a_person(stage: &Stage) -> Result<()> {
    let (account, ids) = deaf(stage, "sqlblast", 6).await?;
    account.keap.clear_faults().await?;
    guard_at(&account, 3).await?;
    account.mirror.execute("delete from sync_contacts where account_id = $1", &[]).await?;
    let held = held_run(&account).await?;
    ensure!(held["planned"]["destroyed"] == 6, "{held}");
    for id in &ids {
        ensure!(account.keap.contact(id).await?.is_some(), "a contact was deleted in Keap");
    }
    let run_id = held["id"].as_str().context("no id")?;
    approve(&account, run_id, 6).await?;
    until("the deletes in Keap", async || Ok((account.keap.counts().await?["contacts"] == 0).then_some(())))
        .await?;
    account.wait_for_run(run_id).await.map(drop)
}

/// Contacts that the guard lets go within an hour.
const GUARD_MAX: usize = 10;

/// How long an ordinary edit may take beside what the guard holds.
const ORDINARY_LIMIT: Duration = Duration::from_secs(5);

/// An ordinary edit of a row; how long its way to Keap took.
async fn ordinary_edit(account: &Account<'_>, id: &String) -> Result<Duration> {
    let begun = Instant::now();
    let edit = "update sync_contacts set first_name = 'Edited' where account_id = $1 and keap_id = $2";
    account.mirror.execute(edit, &[id]).await?;
    account.wait_for_keap(id, "an ordinary edit", |contact| contact["given_name"] == "Edited").await?;
    Ok(begun.elapsed())
}

/// An ordinary edit in Keap; how long its way to the row took.
async fn ordinary_change(account: &Account<'_>, id: &str) -> Result<Duration> {
    let begun = Instant::now();
    account.keap.edit(id, &json!({"given_name": "Changed"})).await?;
    account.wait_for_row(id, "an ordinary change", |row| row["first_name"] == "Changed").await?;
    Ok(begun.elapsed())
}

/// One delete a second, each in a statement of its own, and edits of colleagues between them.
pub async fn a_loop_of_single_deletes_stops_and_edits_beside_it_go_on(stage: &Stage) -> Result<()> {
    let (account, ids) = deaf(stage, "loop", 30).await?;
    account.keap.clear_faults().await?;
    let guard = json!({"records_max": GUARD_MAX, "percent_max": 5});
    account.change_settings(&json!({"delete_in_keap": true, "blast_guard": guard})).await?;
    let (doomed, kept) = ids.split_at(20);
    let mut second = tokio::time::interval(Duration::from_secs(1));
    let mut slowest = Duration::ZERO;
    for (position, id) in doomed.iter().enumerate() {
        second.tick().await;
        let delete = "delete from sync_contacts where account_id = $1 and keap_id = $2";
        account.mirror.execute(delete, &[id]).await?;
        if let Some(edited) = position.checked_sub(10).and_then(|position| kept.get(position)) {
            let took = match position % 2 {
                0 => ordinary_edit(&account, edited).await?,
                _ => ordinary_change(&account, edited).await?,
            };
            slowest = slowest.max(took);
        }
    }
    ensure!(slowest < ORDINARY_LIMIT, "an ordinary edit took {slowest:?}");
    let held = until("the run that holds what is over the limit", async || {
        let held = held_run(&account).await?;
        Ok((held["planned"]["destroyed"] == doomed.len() - GUARD_MAX).then_some(held))
    })
    .await?;
    let left = account.keap.counts().await?["contacts"].clone();
    ensure!(left == ids.len() - GUARD_MAX, "{left} contacts are left in Keap");
    let row = account.mirror.contact(&doomed[19]).await?;
    ensure!(row["sync_status"] == "paused", "{row}");
    ensure!(row["sync_error"].as_str().is_some_and(|word| word.starts_with("blast_guard: ")), "{row}");
    let status = account.status().await?;
    let warning = status["warnings"].as_array().into_iter().flatten().find(|it| it["code"] == "blast_guard");
    ensure!(warning.is_some_and(|warning| warning["number"] == 10), "{}", status["warnings"]);
    approve(&account, held["id"].as_str().context("no id")?, 10).await?;
    until("the approved deletes", async || {
        Ok((account.keap.counts().await?["contacts"] == kept.len()).then_some(()))
    })
    .await
}

/// Keap tells of 500 deletions; what is over the limit waits among the events, and edits on both sides go on.
pub async fn a_flood_of_delete_hooks_stops_and_edits_beside_it_go_on(stage: &Stage) -> Result<()> {
    let account = Account::connect_filled(stage, "hookflood", 600).await?;
    account.full_sync().await?;
    account.wait_for_quiet().await?;
    let contacts = account.keap.all("contacts").await?;
    let ids: Vec<String> =
        contacts.iter().filter_map(|contact| contact["id"].as_str()).map(str::to_owned).collect();
    let (doomed, kept) = ids.split_at(500);
    let total = live(&account).await?;
    let mut slowest = Duration::ZERO;
    for (part, chunk) in doomed.chunks(100).enumerate() {
        for id in chunk {
            account.keap.delete(id).await?;
        }
        slowest = slowest.max(ordinary_edit(&account, &kept[2 * part]).await?);
        slowest = slowest.max(ordinary_change(&account, &kept[2 * part + 1]).await?);
    }
    ensure!(slowest < ORDINARY_LIMIT, "an ordinary edit took {slowest:?}");
    let (held, number) = until("all that is over the limit to wait", async || {
        let held = held_run(&account).await?;
        let number = held["planned"]["destroyed"].as_i64().unwrap_or_default();
        let settled = account.status().await?["events"]["open"] == number;
        Ok((number + (total - live(&account).await?) == 500 && settled).then_some((held, number)))
    })
    .await?;
    ensure!(number >= 450, "{} rows were deleted before anybody approved it", 500 - number);
    let row = account.mirror.contact(&doomed[499]).await?;
    ensure!(row["sync_status"] == "paused" && row["deleted_at"].is_null(), "{row}");
    let run_id = held["id"].as_str().context("no id")?;
    let fewer = json!({"number": number - 1});
    let refused = ask(&account, Method::POST, &format!("sync/runs/{run_id}/approve"), Some(&fewer)).await?;
    ensure!(refused.status == 409 && refused.text.contains(&number.to_string()), "{}", refused.text);
    let letters = stage.admin(Method::GET, &account.route("dead-letters"), None).await?.json();
    ensure!(letters["groups"].as_array().is_none_or(Vec::is_empty), "{letters}");
    approve(&account, run_id, u64::try_from(number)?).await?;
    until_within(FLOOD_PATIENCE, "the approved deletes", async || {
        Ok((live(&account).await? == total - 500).then_some(()))
    })
    .await
}

/// How long 500 approved deletes may take: Keap is asked for each of them, six a second.
const FLOOD_PATIENCE: Duration = Duration::from_mins(4);

pub async fn the_certificate_tells_equal_from_different(stage: &Stage) -> Result<()> {
    let (account, ids) = deaf(stage, "certificate", 3).await?;
    let verify = async || -> Result<Value> {
        let run_id = account.start("verify").await?;
        account.wait_for_run(&run_id).await?;
        Ok(ask(&account, Method::GET, "sync/verify", None).await?.json())
    };
    let proof = verify().await?;
    ensure!(proof["equal"] == true && proof["certificates"].as_array().map(Vec::len) == Some(4), "{proof}");
    account.keap.edit(&ids[0], &json!({"given_name": "Unheard"})).await?;
    let proof = verify().await?;
    ensure!(proof["equal"] == false, "{proof}");
    let certificates = proof["certificates"].as_array().context("no certificates")?;
    let contacts = certificates.iter().find(|one| one["entity"] == "contact").context("no contacts")?;
    ensure!(contacts["differences"][0]["keap_id"] == ids[0].as_str(), "{contacts}");
    ensure!(contacts["differences"][0]["fields"] == json!(["first_name"]), "{contacts}");
    ensure!(contacts["last_equal_at"].is_string(), "{contacts}");
    account.full_sync().await?;
    let proof = verify().await?;
    ensure!(proof["equal"] == true, "{proof}");
    account.keap.clear_faults().await
}

pub async fn a_change_and_a_run_are_undone(stage: &Stage) -> Result<()> {
    let (account, ids) = deaf(stage, "undo", 3).await?;
    account
        .mirror
        .execute(
            "update sync_contacts set job_title = 'Oops' where account_id = $1 and keap_id = $2",
            &[&ids[0]],
        )
        .await?;
    account.wait_for_keap(&ids[0], "the edit in Keap", |contact| contact["job_title"] == "Oops").await?;
    account.wait_for_quiet().await?;
    let row_id = account.mirror.contact(&ids[0]).await?["id"].as_str().context("no id")?.to_owned();
    let url = format!("{}/audit?account={}&entity=contact&id={row_id}", stage.access.sync, account.name);
    let log = stage.admin(Method::GET, &url, None).await?.json();
    let entries = log["entries"].as_array().context("no entries")?;
    let edit =
        entries.iter().find(|entry| entry["source"] == "supabase").context("the edit is not audited")?;
    ensure!(edit["after"]["job_title"] == "Oops", "{edit}");
    let undone = decide(&account, &format!("audit/{}/revert", edit["id"])).await?;
    ensure!(undone["changed"] == true && undone["fields"] == json!(["job_title"]), "{undone}");
    account
        .wait_for_keap(&ids[0], "the undo in Keap", |contact| {
            contact["job_title"].as_str().unwrap_or_default().is_empty()
        })
        .await?;
    account.wait_for_quiet().await?;

    for id in &ids {
        account.keap.edit(id, &json!({"family_name": "Wrong"})).await?;
    }
    let run_id = account.start("contacts?kind=incremental").await?;
    account.wait_for_run(&run_id).await?;
    ensure!(account.mirror.contact(&ids[2]).await?["last_name"] == "Wrong");
    let revert = decide(&account, &format!("sync/runs/{run_id}/revert")).await?;
    account.wait_for_run(revert["run_id"].as_str().context("no run_id")?).await?;
    for id in &ids {
        let what = "the undone name in Keap";
        account
            .wait_for_keap(id, what, |contact| contact["family_name"].as_str().unwrap_or_default().is_empty())
            .await?;
        ensure!(account.mirror.contact(id).await?["last_name"].is_null());
    }
    account.keap.clear_faults().await
}

pub async fn orders_tags_and_subscriptions_flow_both_ways(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "kinds").await?;
    account
        .mirror
        .execute(
            "with person as (
                insert into sync_contacts (account_id, first_name, email) values ($1, 'Buyer', 'buyer@x.example') returning id
             )
             insert into sync_orders (account_id, contact_id, title, order_type, order_date, line_items)
             select $1, id, 'First order', 'ONLINE', now(),
                 '[{\"name\": \"Consulting\", \"item_type\": \"OTHER\", \"quantity\": 2, \"price_per_unit\": \"12.50\"}]'
             from person",
            &[],
        )
        .await?;
    account
        .mirror
        .execute("insert into sync_tags (account_id, name) values ($1, 'Insiders of the year')", &[])
        .await?;
    let linked = async |table: &str| {
        until(&format!("the row of {table} in Keap"), async || {
            let row = account
                .mirror
                .one(
                    &format!("select to_jsonb(t) as row from {table} t where account_id = $1 and keap_id is not null order by created_at desc limit 1"),
                    &[],
                )
                .await;
            Ok(row.ok().map(|row| row["row"].clone()).filter(|row| row["sync_status"] == "completed"))
        })
        .await
    };
    let order = linked("sync_orders").await?;
    ensure!(order["contact_id"].is_string() && order["keap_contact_id"].is_string(), "{order}");
    let orders = account.keap.all("orders").await?;
    ensure!(orders.len() == 1 && orders[0].to_string().contains("Consulting"), "{orders:?}");
    ensure!(order["line_items"][0]["id"].is_string(), "Keap's id of the line is in the row: {order}");
    let tag = linked("sync_tags").await?;
    ensure!(tag["name"] == "Insiders of the year", "{tag}");
    account.wait_for_quiet().await?;
    account.mirror.execute("update sync_orders set title = 'Renamed' where account_id = $1", &[]).await?;
    until("the renamed order in Keap", async || {
        Ok(account.keap.all("orders").await?[0].to_string().contains("Renamed").then_some(()))
    })
    .await?;
    account.wait_for_quiet().await?;
    let writes = account.keap.writes().await?;
    account.full_sync().await?;
    account.wait_for_quiet().await?;
    ensure!(account.keap.writes().await? == writes, "a quiet system wrote to Keap");
    Ok(())
}
