//! Runs and what surrounds them: dry runs, the blast guard, the certificate, undo; and the kinds of record beside contacts.

use crate::conflicts::ask;
use anyhow::{Context as _, Result, ensure};
use keapsync_e2e::account::Account;
use keapsync_e2e::stage::Stage;
use keapsync_e2e::wait::until;
use reqwest::Method;
use serde_json::{Value, json};

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
    decide(&account, &format!("sync/runs/{run_id}/approve")).await?;
    account.wait_for_run(&run_id).await?;
    ensure!(live(&account).await? == 3);
    let again = ask(&account, Method::POST, &format!("sync/runs/{run_id}/approve"), None).await?;
    ensure!(again.status == 409, "{}: {}", again.status, again.text);
    account.keap.clear_faults().await
}

pub async fn a_mass_deletion_in_sql_waits_for_a_person(stage: &Stage) -> Result<()> {
    let (account, ids) = deaf(stage, "sqlblast", 6).await?;
    account.keap.clear_faults().await?;
    guard_at(&account, 3).await?;
    account.mirror.execute("delete from sync_contacts where account_id = $1", &[]).await?;
    let held = until("the run that holds the deletes", async || {
        let runs = ask(&account, Method::GET, "sync/runs", None).await?.json();
        let runs = runs["runs"].as_array().cloned().unwrap_or_default();
        Ok(runs.into_iter().find(|run| run["state"] == "awaiting_approval"))
    })
    .await?;
    for id in &ids {
        ensure!(account.keap.contact(id).await?.is_some(), "a contact was deleted in Keap");
    }
    let run_id = held["id"].as_str().context("no id")?;
    decide(&account, &format!("sync/runs/{run_id}/approve")).await?;
    until("the deletes in Keap", async || Ok((account.keap.counts().await?["contacts"] == 0).then_some(())))
        .await?;
    account.wait_for_run(run_id).await.map(drop)
}

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
