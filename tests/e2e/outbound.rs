//! From the mirror to Keap.

use anyhow::{Context as _, Result, ensure};
use keapsync_e2e::account::Account;
use keapsync_e2e::keap::email;
use keapsync_e2e::stage::Stage;
use keapsync_e2e::wait::until;
use reqwest::Method;
use serde_json::{Value, json};

async fn with_contact(account: &Account<'_>, name: &str) -> Result<String> {
    let fields = json!({
        "given_name": name, "family_name": "Lee",
        "email_addresses": [{"field": "EMAIL1", "email": "one@x.example"}, {"field": "EMAIL2", "email": "two@x.example"}],
        "phone_numbers": [{"field": "PHONE1", "number": "480 555 0100"}, {"field": "PHONE2", "number": "480 555 0200"}],
    });
    let id = account.keap.add(&fields).await?;
    account.wait_for_row(&id, "the contact's row", |row| row["first_name"] == name).await?;
    account.wait_for_quiet().await?;
    Ok(id)
}

pub async fn an_edit_reaches_keap(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "edit").await?;
    let id = with_contact(&account, "Ann").await?;
    account
        .mirror
        .execute(
            "update sync_contacts set first_name = 'Anna', email = 'anna@x.example', middle_name = 'M' \
             where account_id = $1 and keap_id = $2",
            &[&id],
        )
        .await?;
    let contact =
        account.wait_for_keap(&id, "the edit in Keap", |contact| contact["given_name"] == "Anna").await?;
    ensure!(email(&contact, "EMAIL1").as_deref() == Some("anna@x.example"), "{contact}");
    ensure!(email(&contact, "EMAIL2").as_deref() == Some("two@x.example"), "a sibling was lost: {contact}");
    ensure!(contact["phone_numbers"].as_array().map(Vec::len) == Some(2), "{contact}");
    ensure!(contact["middle_name"] == "M" && contact["family_name"] == "Lee", "{contact}");
    account.wait_for_row(&id, "the row's completion", |row| row["sync_status"] == "completed").await?;
    Ok(())
}

pub async fn a_new_row_becomes_one_contact(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "insert").await?;
    account
        .mirror
        .execute(
            "insert into sync_contacts (account_id, first_name, last_name, email, custom_fields) \
             values ($1, 'New', 'Person', 'new@x.example', '{}')",
            &[],
        )
        .await?;
    let row = until("the new row's link", async || {
        let row = account
            .mirror
            .one("select keap_id, sync_status from sync_contacts where account_id = $1 and keap_id is not null", &[])
            .await?;
        Ok((row["sync_status"] == "completed").then_some(row))
    })
    .await?;
    let id = row["keap_id"].as_str().context("no keap_id")?;
    let contact = account.keap.contact(id).await?.context("no contact")?;
    ensure!(
        contact["given_name"] == "New" && email(&contact, "EMAIL1").as_deref() == Some("new@x.example"),
        "{contact}"
    );
    account.wait_for_quiet().await?;
    ensure!(account.mirror.count().await? == 1, "the hook of our own create made a second row");
    ensure!(account.keap.counts().await?["contacts"] == 1);
    Ok(())
}

pub async fn edits_on_both_sides_combine(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "merge").await?;
    let id = with_contact(&account, "Ann").await?;
    account.keap.faults(&json!([{"kind": "hook_lost"}])).await?;
    account.keap.edit(&id, &json!({"family_name": "Leigh", "job_title": "Keap's"})).await?;
    account
        .mirror
        .execute(
            "update sync_contacts set first_name = 'Anna', job_title = 'Ours' where account_id = $1 and keap_id = $2",
            &[&id],
        )
        .await?;
    let contact =
        account.wait_for_keap(&id, "the merge in Keap", |contact| contact["given_name"] == "Anna").await?;
    ensure!(contact["family_name"] == "Leigh" && contact["job_title"] == "Ours", "{contact}");
    let row = account.wait_for_row(&id, "the merge in the row", |row| row["last_name"] == "Leigh").await?;
    ensure!(row["first_name"] == "Anna" && row["job_title"] == "Ours", "{row}");
    let conflict = account
        .mirror
        .one(
            "select conflict_fields, resolution_strategy, keap_data, supabase_data from sync_conflicts where account_id = $1",
            &[],
        )
        .await?;
    ensure!(conflict["conflict_fields"] == json!(["job_title"]), "{conflict}");
    ensure!(conflict["resolution_strategy"] == "newest_wins", "{conflict}");
    account.keap.clear_faults().await
}

pub async fn what_keap_does_not_take_is_put_back_and_the_rest_is_carried(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "refused").await?;
    let id = with_contact(&account, "Ann").await?;
    // The name is too long; the site is taken; Keap alone knows that the slot holds no address.
    let edit = "update sync_contacts set first_name = $3, website = 'x.example', \
        emails = '[{\"field\": \"EMAIL2\", \"email\": \"none\"}, {\"field\": \"EMAIL3\", \"email\": \"three@x.example\"}]' \
        where account_id = $1 and keap_id = $2";
    account.mirror.execute(edit, &[&id, &"x".repeat(60)]).await?;
    let contact =
        account.wait_for_keap(&id, "the rest", |contact| email(contact, "EMAIL3").is_some()).await?;
    ensure!(contact["website"] == "x.example" && contact["given_name"] == "Ann", "{contact}");
    ensure!(email(&contact, "EMAIL2").as_deref() == Some("two@x.example"), "{contact}");
    let row = account.wait_for_row(&id, "the word", |row| row["sync_status"] == "error").await?;
    ensure!(
        row["sync_error"]
            .as_str()
            .is_some_and(|text| text.contains("first_name") && text.contains("emails.EMAIL2")),
        "{row}"
    );
    ensure!(row["first_name"] == "Ann", "{row}");
    let letters: Value = serde_json::from_str(&account.dead_letters().await?)?;
    ensure!(letters["groups"].as_array().is_some_and(Vec::is_empty), "{letters}");
    Ok(())
}

pub async fn a_refused_row_becomes_a_dead_letter_and_can_be_replayed(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "letter").await?;
    let insert =
        "insert into sync_contacts (account_id, email, first_name) values ($1, 'long@x.example', $2)";
    account.mirror.execute(insert, &[&"x".repeat(60)]).await?;
    until("the dead letter", async || {
        let letters: Value = serde_json::from_str(&account.dead_letters().await?)?;
        Ok(letters.to_string().contains("first_name").then_some(()))
    })
    .await?;
    let mend = "update sync_contacts set first_name = 'Short' where account_id = $1";
    account.mirror.execute(mend, &[]).await?;
    until("the mended row in Keap", async || {
        Ok((account.keap.counts().await?["contacts"] == 1).then_some(()))
    })
    .await?;
    let replay =
        stage.admin(Method::POST, &account.route("dead-letters/replay"), Some(&json!({"all": true}))).await?;
    ensure!(replay.status == 200, "{}", replay.text);
    until("the end of all dead letters", async || {
        let row = account
            .mirror
            .one("select count(*) as n from sync_queue where account_id = $1 and status <> 'completed'", &[])
            .await?;
        Ok((row["n"] == 0).then_some(()))
    })
    .await
}

pub async fn a_delete_stays_here_until_the_owner_lets_it_through(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "delete").await?;
    let (kept, gone) = (with_contact(&account, "Kept").await?, with_contact(&account, "Gone").await?);
    let delete = "delete from sync_contacts where account_id = $1 and keap_id = $2";
    account.mirror.execute(delete, &[&kept]).await?;
    account.wait_for_quiet().await?;
    ensure!(account.mirror.contact(&kept).await?["deleted_at"].is_string(), "a delete is soft");
    ensure!(account.keap.contact(&kept).await?.is_some(), "a delete went to Keap unasked");
    account.change_settings(&json!({"delete_in_keap": true})).await?;
    account.mirror.execute(delete, &[&gone]).await?;
    until("the delete in Keap", async || Ok(account.keap.contact(&gone).await?.is_none().then_some(()))).await
}
