//! The database's daily upkeep, for databases without `pg_cron`; with it, this finds little left to do.
//!
//! Each statement does a bounded share, because the proxy before Postgres ends statements at 60 s; shares follow each other while
//! there is more to do.

use keapsync_domain::failure::Failure;
use keapsync_platform::config::SyncConfig;
use keapsync_platform::hyperdrive::{self, HYPERDRIVE_BINDING};
use keapsync_store::{Store, UpkeepReport};
use worker::Env;

/// Rows of each task in one share.
const ROWS_MAX: i32 = 5_000;

/// Shares in one day: what is left waits for the next, so that a flood is worked off without an end in sight being needed.
const SHARES_MAX: usize = 20;

/// Does the upkeep. Nothing here may end in an error, because nobody would see it: each is logged.
pub(crate) async fn run(env: &Env, config: &SyncConfig) {
    let log = config.common.log;
    match attempt(env, config).await {
        Ok(shares) => log.info("upkeep_done").count("shares", shares).emit(),
        Err(failure) => log.error("upkeep_failed").failure(&failure).emit(),
    }
}

async fn attempt(env: &Env, config: &SyncConfig) -> Result<u64, Failure> {
    let client = hyperdrive::connect(env, HYPERDRIVE_BINDING).await?;
    let store = Store::new(&client);
    let mut shares = 0;
    for _ in 0..SHARES_MAX {
        let reports = store.maintain(ROWS_MAX).await?;
        shares += 1;
        if shares == 1 {
            let advised = reports.iter().filter(|report| is_advice(report)).count();
            if advised > 0 {
                // `select * from sync_maintain()` says which tables, and what to do.
                config.common.log.warn("vacuum_advised").count("tables", advised as u64).emit();
            }
        }
        if !reports.iter().any(has_more) {
            break;
        }
    }
    Ok(shares)
}

fn is_advice(report: &UpkeepReport) -> bool {
    report.task == "vacuum advice"
}

/// Whether a task did all that one share allows.
fn has_more(report: &UpkeepReport) -> bool {
    !is_advice(report) && report.rows >= i64::from(ROWS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_share_asks_for_another() {
        let report = |task: &str, rows| UpkeepReport { task: task.to_owned(), detail: String::new(), rows };
        assert!(has_more(&report("purge deleted", 5_000)));
        assert!(!has_more(&report("purge deleted", 4_999)));
        assert!(!has_more(&report("vacuum advice", 1_000_000)));
    }
}
