//! What the clock brings: a watchdog every minute, a full run and the database's upkeep every day. Incremental runs are begun by
//! each account's object, at the interval of its settings; it is only woken here.
//!
//! Nothing here may end in an error: the platform drops the outcome of a scheduled handler, so each failure is logged and
//! the next account goes on.

use crate::routes::list_accounts;
use crate::upkeep;
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_domain::run::{Direction, RunKind};
use keapsync_domain::wire::StartRunsRequest;
use keapsync_platform::config::SyncConfig;
use keapsync_platform::coordinator_client::CoordinatorClient;
use worker::Env;

/// The daily cron.
const DAILY: &str = "0 3 * * *";

/// What a cron expression calls for; every other one only wakes.
fn kind_of(cron: &str) -> Option<RunKind> {
    match cron {
        DAILY => Some(RunKind::Full),
        _ => None,
    }
}

/// Does what `cron` calls for, account by account.
pub(crate) async fn run(cron: &str, env: &Env, config: &SyncConfig) {
    let log = config.common.log;
    if cron == DAILY {
        upkeep::run(env, config).await;
    }
    let coordinator = CoordinatorClient::new(env, &config.common.internal_token);
    let accounts = match list_accounts(&coordinator).await {
        Ok(accounts) => accounts,
        Err(failure) => {
            log.error("accounts_unreadable").failure(&failure).emit();
            return;
        }
    };
    for account in &accounts {
        if let Err(failure) = serve(&coordinator, account, kind_of(cron)).await {
            log.warn("schedule_failed").account(account).failure(&failure).emit();
        }
    }
    log.debug("schedule_done").count("accounts", accounts.len() as u64).emit();
}

async fn serve(
    coordinator: &CoordinatorClient,
    account: &AccountId,
    kind: Option<RunKind>,
) -> Result<(), Failure> {
    match kind {
        None => coordinator.wake(account).await,
        Some(kind) => {
            let entities = EntityType::ALL.to_vec();
            let request = StartRunsRequest {
                kind,
                entities,
                direction: Direction::Bidirectional,
                dry_run: false,
                reverts: None,
            };
            coordinator.start_runs(account, &request).await.map(|_| ())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configured_crons_are_known() {
        let config = include_str!("../../../wrangler-sync.toml");
        let crons: Vec<&str> =
            config.split('"').filter(|text| text.split(' ').count() == 5 && text.contains('*')).collect();
        assert_eq!(crons.len(), 3, "{crons:?}");
        let begun: Vec<RunKind> = crons.iter().filter_map(|cron| kind_of(cron)).collect();
        assert_eq!(begun, [RunKind::Full], "the interval of incremental runs is the account's own");
    }
}
