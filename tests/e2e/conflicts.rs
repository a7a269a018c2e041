//! Conflicts that wait for a person, and what the person decides.

use anyhow::{Context as _, Result, ensure};
use keapsync_e2e::account::Account;
use keapsync_e2e::stage::{Answer, Stage};
use keapsync_e2e::wait::until;
use reqwest::Method;
use serde_json::{Value, json};

/// An account that leaves every conflict to a person, and a contact with one about its job title: Keap says one thing, the row
/// another.
async fn in_conflict<'a>(stage: &'a Stage, name: &str) -> Result<(Account<'a>, String, String)> {
    let account = Account::connect(stage, name).await?;
    account.change_settings(&json!({"policies": {"default": "manual"}})).await?;
    let fields = json!({"given_name": "Ann", "job_title": "Clerk",
        "email_addresses": [{"field": "EMAIL1", "email": "one@x.example"}]});
    let id = account.keap.add(&fields).await?;
    account.wait_for_row(&id, "the contact's row", |row| row["job_title"] == "Clerk").await?;
    account.wait_for_quiet().await?;
    account.keap.faults(&json!([{"kind": "hook_lost"}])).await?;
    account.keap.edit(&id, &json!({"job_title": "Keap's"})).await?;
    let edit = "update sync_contacts set job_title = 'Ours' where account_id = $1 and keap_id = $2";
    account.mirror.execute(edit, &[&id]).await?;
    account.wait_for_row(&id, "the conflict", |row| row["sync_status"] == "conflict").await?;
    account.keap.clear_faults().await?;
    let listed = until("the conflict in the list", async || {
        let listed = ask(&account, Method::GET, "conflicts", None).await?.json();
        Ok(listed["conflicts"][0].is_object().then_some(listed))
    })
    .await?;
    let conflict = &listed["conflicts"][0];
    ensure!(conflict["fields"] == json!(["job_title"]), "{listed}");
    ensure!(conflict["keap"] == json!({"job_title": "Keap's"}), "{listed}");
    ensure!(conflict["supabase"] == json!({"job_title": "Ours"}), "{listed}");
    ensure!(conflict["base"] == json!({"job_title": "Clerk"}), "{listed}");
    let conflict_id = conflict["id"].as_str().context("no id")?.to_owned();
    Ok((account, id, conflict_id))
}

/// Asks the sync worker about the account.
pub async fn ask(account: &Account<'_>, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
    let url = format!("{}/{path}?account={}", account.stage.access.sync, account.name);
    account.stage.admin(method, &url, body).await
}

async fn settle(account: &Account<'_>, conflict_id: &str, decision: &Value) -> Result<()> {
    let path = format!("conflicts/{conflict_id}/resolve");
    let answer = ask(account, Method::POST, &path, Some(decision)).await?;
    ensure!(answer.status == 200, "{}: {}", answer.status, answer.text);
    Ok(())
}

/// Both sides hold `title`, and nothing is open.
async fn agreed(account: &Account<'_>, keap_id: &str, title: &str) -> Result<()> {
    account.wait_for_keap(keap_id, "the decision in Keap", |contact| contact["job_title"] == title).await?;
    account
        .wait_for_row(keap_id, "the decision in the row", |row| {
            row["job_title"] == title && row["sync_status"] == "completed"
        })
        .await?;
    let listed = ask(account, Method::GET, "conflicts", None).await?.json();
    ensure!(listed["conflicts"] == json!([]), "{listed}");
    Ok(())
}

pub async fn a_person_lets_the_row_win(stage: &Stage) -> Result<()> {
    let (account, keap_id, conflict_id) = in_conflict(stage, "rowwins").await?;
    settle(&account, &conflict_id, &json!({"strategy": "supabase_wins", "notes": "we asked her"})).await?;
    agreed(&account, &keap_id, "Ours").await?;
    let shown = ask(&account, Method::GET, &format!("conflicts/{conflict_id}"), None).await?.json();
    ensure!(shown["winner"] == "supabase" && shown["notes"] == "we asked her", "{shown}");
    ensure!(shown["resolved_at"].is_string(), "{shown}");
    // A second decision comes too late, and says so.
    let path = format!("conflicts/{conflict_id}/resolve");
    let again = ask(&account, Method::POST, &path, Some(&json!({"strategy": "keap_wins"}))).await?;
    ensure!(again.status == 409, "{}: {}", again.status, again.text);
    agreed(&account, &keap_id, "Ours").await
}

pub async fn a_person_lets_keap_win(stage: &Stage) -> Result<()> {
    let (account, keap_id, conflict_id) = in_conflict(stage, "keapwins").await?;
    let writes_before = account.keap.writes().await?;
    settle(&account, &conflict_id, &json!({"strategy": "keap_wins"})).await?;
    agreed(&account, &keap_id, "Keap's").await?;
    account.wait_for_quiet().await?;
    ensure!(account.keap.writes().await? == writes_before, "Keap was written what it had already");
    Ok(())
}

pub async fn a_person_gives_a_third_value(stage: &Stage) -> Result<()> {
    let (account, keap_id, conflict_id) = in_conflict(stage, "third").await?;
    for (odd, status) in [
        (json!({"strategy": "manual"}), 400),
        (json!({"strategy": "coin"}), 400),
        (json!({"strategy": "merge"}), 422),
        (json!({"strategy": "manual", "values": {"email": "x"}}), 422),
    ] {
        let path = format!("conflicts/{conflict_id}/resolve");
        let answer = ask(&account, Method::POST, &path, Some(&odd)).await?;
        ensure!(answer.status == status, "{odd}: {}: {}", answer.status, answer.text);
    }
    let unknown = "conflicts/018f3f6e-0000-4000-8000-00000000abcd";
    ensure!(ask(&account, Method::GET, unknown, None).await?.status == 404, "an unknown conflict");
    settle(&account, &conflict_id, &json!({"strategy": "manual", "values": {"job_title": "Both"}})).await?;
    agreed(&account, &keap_id, "Both").await
}
