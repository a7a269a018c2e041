//! Our own writes come back as hooks and in polls; they must end there.

use anyhow::{Result, ensure};
use keapsync_e2e::account::Account;
use keapsync_e2e::stage::Stage;
use serde_json::json;

pub async fn after_quiescence_there_is_silence(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "echo").await?;
    account.keap.seed(50).await?;
    account.full_sync().await?;
    account
        .mirror
        .execute(
            "update sync_contacts set job_title = 'Echo ' || left(keap_id, 3) where account_id = $1",
            &[],
        )
        .await?;
    let made =
        json!({"given_name": "Made", "email_addresses": [{"field": "EMAIL1", "email": "m@x.example"}]});
    let id = account.keap.add(&made).await?;
    account.wait_for_row(&id, "the new row", |row| row["first_name"] == "Made").await?;
    account.wait_for_quiet().await?;
    // One full round of every path over the quiet system: hook, poll, sweep, outbox.
    let (writes, mark) = (account.keap.writes().await?, account.mirror.write_mark().await?);
    let answer = account.deliver("contact.edit", &[&id, "1", "2", "3"]).await?;
    ensure!(answer.status == 200 && answer.text == "OK", "{answer:?}");
    account.wait_for_quiet().await?;
    let run_id = account.start("contacts?kind=incremental").await?;
    account.wait_for_run(&run_id).await?;
    let run = account.full_sync().await?;
    ensure!(run["counts"]["unchanged"] == run["counts"]["read"], "{run}");
    account.wait_for_quiet().await?;
    ensure!(account.keap.writes().await? == writes, "a quiet system wrote to Keap");
    let after = account.mirror.write_mark().await?;
    ensure!(after == mark, "a quiet system wrote to Postgres: {mark} became {after}");
    Ok(())
}
