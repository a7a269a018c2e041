//! From Keap to the mirror: by run, by poll, by hook.

use anyhow::{Result, ensure};
use keapsync_e2e::account::Account;
use keapsync_e2e::keap::email;
use keapsync_e2e::stage::Stage;
use keapsync_e2e::wait::until;
use serde_json::{Value, json};

pub async fn a_full_sync_mirrors_everything(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "full").await?;
    account.keap.seed(2_345).await?;
    let odd = json!({
        "given_name": "Zoë 🦊", "family_name": "O'Neil; drop table", "birth_date": "1985-03-15",
        "email_addresses": [{"field": "EMAIL1", "email": "zoe@acme.example"}, {"field": "EMAIL2", "email": "z@home.example"}],
        "phone_numbers": [{"field": "PHONE1", "number": "(480) 555-0100", "type": "Work"}],
        "addresses": [{"field": "BILLING", "line1": "1 Main St", "locality": "Mesa", "region_code": "US-AZ", "country_code": "USA"}],
    });
    let id = account.keap.add(&odd).await?;
    let run = account.full_sync().await?;
    ensure!(run["counts"]["read"].as_u64() >= Some(2_346), "{run}");
    let expected = account.keap.counts().await?["contacts"].as_i64();
    ensure!(Some(account.mirror.count().await?) == expected, "the counts differ");
    let row = account.mirror.contact(&id).await?;
    for (column, value) in [
        ("first_name", json!("Zoë 🦊")),
        ("last_name", json!("O'Neil; drop table")),
        ("email", json!("zoe@acme.example")),
        ("phone", json!("(480) 555-0100")),
        ("birth_date", json!("1985-03-15")),
        ("sync_status", json!("completed")),
        ("source_system", json!("keap")),
    ] {
        ensure!(row[column] == value, "{column}: {} instead of {value}", row[column]);
    }
    ensure!(
        row["emails"][0]["email"] == "z@home.example" && row["addresses"][0]["locality"] == "Mesa",
        "{row}"
    );
    let audited = account
        .mirror
        .one(
            "select count(*) as n from sync_audit_log
             where account_id = $1 and entity_type = 'contact' and operation = 'create'",
            &[],
        )
        .await?;
    ensure!(audited["n"].as_i64() == expected, "every row's making is audited: {audited}");
    Ok(())
}

pub async fn a_second_full_sync_writes_nothing(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "again").await?;
    account.keap.seed(1_100).await?;
    account.full_sync().await?;
    account.wait_for_quiet().await?;
    let before = account.mirror.write_mark().await?;
    let run = account.full_sync().await?;
    ensure!(run["counts"]["unchanged"] == run["counts"]["read"], "{run}");
    ensure!(account.mirror.write_mark().await? == before, "an unchanged sync wrote rows");
    Ok(())
}

pub async fn an_incremental_sync_finds_what_no_hook_told(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "poll").await?;
    let old =
        account.keap.add(&json!({"given_name": "Old", "email_addresses": emails("old@x.example")})).await?;
    account.full_sync().await?;
    account.keap.faults(&json!([{"kind": "hook_lost"}])).await?;
    account.keap.edit(&old, &json!({"given_name": "Newer"})).await?;
    let new =
        account.keap.add(&json!({"given_name": "New", "email_addresses": emails("new@x.example")})).await?;
    let run_id = account.start("contacts?kind=incremental").await?;
    account.wait_for_run(&run_id).await?;
    for (id, name) in [(&old, "Newer"), (&new, "New")] {
        let row = account.mirror.contact(id).await?;
        ensure!(row["first_name"] == name, "{row}");
    }
    Ok(())
}

pub async fn changes_in_keap_arrive_by_hook(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "hook").await?;
    let id =
        account.keap.add(&json!({"given_name": "Ann", "email_addresses": emails("ann@x.example")})).await?;
    account.wait_for_row(&id, "the new contact's row", |row| row["email"] == "ann@x.example").await?;
    account.keap.edit(&id, &json!({"given_name": "Anna"})).await?;
    let row = account.wait_for_row(&id, "the changed name", |row| row["first_name"] == "Anna").await?;
    ensure!(row["version"].as_i64() > Some(1), "{row}");
    let audit = account
        .mirror
        .one("select old_data, changed_fields, sync_source from sync_audit_log where account_id = $1 and operation = 'update'", &[])
        .await?;
    ensure!(audit["old_data"]["first_name"] == "Ann", "the old value is in the audit log: {audit}");
    account.keap.delete(&id).await?;
    account.wait_for_row(&id, "the soft delete", |row| row["deleted_at"].is_string()).await?;
    Ok(())
}

pub async fn a_broken_contact_harms_no_other(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "broken").await?;
    let good =
        account.keap.add(&json!({"given_name": "Good", "email_addresses": emails("g@x.example")})).await?;
    let bad =
        account.keap.add(&json!({"given_name": "Bad", "email_addresses": emails("b@x.example")})).await?;
    account.wait_for_quiet().await?;
    let numeric: u64 = bad.parse()?;
    account.keap.faults(&json!([{"kind": "broken_record", "contact_id": numeric}])).await?;
    account.keap.edit(&good, &json!({"given_name": "Better"})).await?;
    let run = account.full_sync().await?;
    ensure!(run["counts"]["rejected"] == 1, "{run}");
    ensure!(account.mirror.contact(&good).await?["first_name"] == "Better");
    until("the broken contact among the dead letters", async || {
        Ok(account.dead_letters().await?.contains(&format!("\"{bad}\"")).then_some(()))
    })
    .await?;
    until("the broken contact in status", async || {
        let status = account.status().await?;
        Ok((status["outbox"]["failed"].as_i64() >= Some(1)).then_some(()))
    })
    .await?;
    account.keap.clear_faults().await
}

fn emails(address: &str) -> Value {
    let list = json!([{"field": "EMAIL1", "email": address}]);
    debug_assert_eq!(email(&json!({"email_addresses": list}), "EMAIL1").as_deref(), Some(address));
    list
}
