//! The daily cron keeps the database up.

use anyhow::{Result, ensure};
use keapsync_e2e::account::Account;
use keapsync_e2e::stage::Stage;
use keapsync_xtask::supervise::fire_cron_within;
use std::time::Duration;

/// How long the upkeep of all tests' rows may take. Far above what is normal, because test machines are busy.
const UPKEEP_LIMIT: Duration = Duration::from_mins(5);

pub async fn the_daily_cron_removes_what_is_past_its_retention(stage: &Stage) -> Result<()> {
    let account = Account::connect(stage, "upkeep").await?;
    account.wait_for_quiet().await?;
    for days in [40, 1] {
        account
            .mirror
            .execute(
                "insert into sync_queue (account_id, operation, entity_type, entity_id, status, completed_at) \
                 values ($1, 'update', 'contact', gen_random_uuid(), 'completed', now() - make_interval(days => $2))",
                &[&days],
            )
            .await?;
    }
    fire_cron_within(UPKEEP_LIMIT, &stage.access.sync, "0 3 * * *").await?;
    let kept = "select count(*) as n from sync_queue where account_id = $1 and status = 'completed'";
    let kept = account.mirror.one(kept, &[]).await?;
    ensure!(kept["n"] == 1, "the younger item alone is kept: {kept}");
    let ahead =
        "select count(*) as n from pg_inherits where inhparent = 'sync_audit_log'::regclass and $1 <> ''";
    let partitions = account.mirror.one(ahead, &[]).await?;
    // This month, three ahead, and the default.
    ensure!(partitions["n"].as_i64() >= Some(5), "{partitions}");
    account.wait_for_quiet().await?;
    Ok(())
}
