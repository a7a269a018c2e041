//! After the faults have ended: waiting until nothing is on its way, within a bound, and then until nothing happens at all.

use crate::account::{Account, OnItsWay};
use crate::chaos::people::now_ms;
use crate::wait::{PATIENCE, until_within};
use anyhow::{Context as _, Result, ensure};
use keapsync_domain::certificate::DIFFERENCES_MAX;
use keapsync_domain::ids::EntityType;
use keapsync_xtask::progress::detail;
use keapsync_xtask::supervise::{WATCHDOG_CRON, fire_cron};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;
use tokio::time::{Instant, interval};

/// How often the clock of the workers ticks here: ten times as fast as in production.
const WATCHDOG_INTERVAL: Duration = Duration::from_secs(6);

/// How often it is told what is still on its way.
const REPORT_INTERVAL: Duration = Duration::from_secs(20);

/// How often it is asked whether anything is on its way.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How often the silence is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How often the incremental sync runs during the silence.
const INCREMENTAL_INTERVAL: Duration = Duration::from_mins(1);

/// What was given up on the way.
#[derive(Debug)]
pub struct GivenUp {
    /// Dead letters that were queued again, as a person would, when the faults had ended.
    pub replayed: u64,
    /// Dead letters in the end, by what they say.
    pub left: BTreeMap<String, u64>,
}

/// Ends the faults and waits until both sides are at rest.
pub async fn settle(account: &Account<'_>, entities: &[EntityType], patience: Duration) -> Result<GivenUp> {
    account.keap.clear_faults().await?;
    wait_for_rest(account, patience).await?;
    let replayed = replay(account).await?;
    wait_for_rest(account, patience).await?;
    for kind in ["incremental", "full"] {
        for entity in entities {
            run(account, *entity, kind, patience).await?;
        }
        wait_for_rest(account, patience).await?;
    }
    let mut left = BTreeMap::new();
    for letter in letters(account).await? {
        let said = format!(
            "{}: {}",
            letter["cause"].as_str().unwrap_or("no cause"),
            letter["message"].as_str().unwrap_or_default()
        );
        *left.entry(said).or_default() += 1;
    }
    Ok(GivenUp { replayed, left })
}

/// Lets the product itself compare both sides, and tells what its certificates say against their being equal. Rows that Keap
/// refused wait for a person, and the certificate has to name them.
pub async fn verify(
    account: &Account<'_>,
    entities: &[EntityType],
    refused: &HashSet<&str>,
    patience: Duration,
) -> Result<Vec<String>> {
    let mut objections = Vec::new();
    for entity in entities {
        run_of(account, &format!("verify?entity={}", entity.as_str()), patience).await?;
    }
    let url = format!("{}/sync/verify?account={}", account.stage.access.sync, account.name);
    let answer = until_within(patience, "the certificates", async || {
        let answer = account.stage.admin(Method::GET, &url, None).await?;
        ensure!(answer.status == 200, "the certificates answered {}: {}", answer.status, answer.text);
        Ok(Some(answer.json()))
    })
    .await?;
    for entity in entities {
        let certificates = answer["certificates"].as_array().into_iter().flatten();
        let certificate =
            certificates.into_iter().find(|certificate| certificate["entity"] == entity.as_str());
        if !certificate.is_some_and(|certificate| is_as_expected(certificate, refused)) {
            objections
                .push(format!("the certificate of {} does not say equal: {certificate:?}", entity.plural()));
        }
    }
    Ok(objections)
}

/// Whether a certificate says equal, or names nothing but rows that Keap refused. It names the first [`DIFFERENCES_MAX`] of them and
/// counts all: no more than were refused.
fn is_as_expected(certificate: &Value, refused: &HashSet<&str>) -> bool {
    let named: Vec<&Value> = certificate["differences"].as_array().into_iter().flatten().collect();
    let is_explained = |difference: &&Value| {
        difference["reason"] == "waiting"
            && difference["entity_id"].as_str().is_some_and(|row| refused.contains(row))
    };
    let differing = certificate["differing_count"].as_u64().and_then(|count| usize::try_from(count).ok());
    let all_are_named = differing.is_some_and(|count| named.len() == count.min(DIFFERENCES_MAX));
    let are_refused = differing.is_some_and(|count| 0 < count && count <= refused.len());
    certificate["equal"] == true || (all_are_named && are_refused && named.iter().all(is_explained))
}

/// Runs a sync of one kind of record to its end.
pub async fn run(account: &Account<'_>, entity: EntityType, kind: &str, patience: Duration) -> Result<Value> {
    run_of(account, &format!("{}?kind={kind}", entity.plural()), patience).await
}

/// Starts a run by `POST /sync/{what}`, asking again when a worker or the database was too busy to take the request.
async fn start(account: &Account<'_>, what: &str, patience: Duration) -> Result<String> {
    until_within(patience, &format!("the start of {what}"), async || account.start(what).await.map(Some))
        .await
}

/// Runs what `POST /sync/{what}` starts to its end.
async fn run_of(account: &Account<'_>, what: &str, patience: Duration) -> Result<Value> {
    let run_id = start(account, what, patience).await?;
    let url = format!("{}/sync/runs/{run_id}?account={}", account.stage.access.sync, account.name);
    let mut ticks = interval(WATCHDOG_INTERVAL);
    let run = until_within(patience, &format!("the end of {what}"), async || {
        tick(account, &mut ticks).await;
        let run = account.stage.admin(Method::GET, &url, None).await?.json();
        Ok(["completed", "failed", "stopped"].iter().any(|state| run["state"] == *state).then_some(run))
    })
    .await?;
    ensure!(run["state"] == "completed", "{what} did not complete: {run}");
    Ok(run)
}

/// Waits until no hook waits at Keap, no event here, and nothing in the outbox: for as long as less and less is on its way, because how
/// long a backlog takes is the quota's matter, and for no longer than `patience` without.
async fn wait_for_rest(account: &Account<'_>, patience: Duration) -> Result<()> {
    let (mut ticks, mut reports) = (interval(WATCHDOG_INTERVAL), interval(REPORT_INTERVAL));
    let (mut least, mut progressed_at) = (u64::MAX, Instant::now());
    loop {
        tick(account, &mut ticks).await;
        let open = match account.on_its_way().await {
            Ok(open) if open == OnItsWay::default() => return Ok(()),
            Ok(open) => {
                if open.events + open.outbox < least {
                    (least, progressed_at) = (open.events + open.outbox, Instant::now());
                }
                if futures_util::FutureExt::now_or_never(reports.tick()).is_some() {
                    detail(format!("on its way: {open:?}"));
                }
                format!("still open: {open:?}")
            }
            Err(error) => format!("{error:#}"),
        };
        ensure!(
            progressed_at.elapsed() < patience,
            "waited {} s without progress for both sides to be at rest: {open}",
            patience.as_secs()
        );
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Makes sure that nothing is on its way.
pub async fn is_at_rest(account: &Account<'_>) -> Result<()> {
    let open = account.on_its_way().await?;
    ensure!(open == OnItsWay::default(), "still open: {open:?}");
    Ok(())
}

async fn tick(account: &Account<'_>, ticks: &mut tokio::time::Interval) {
    // Due at once the first time, and then at each interval; a condition that is asked more often does not wait for it.
    if futures_util::FutureExt::now_or_never(ticks.tick()).is_some() {
        // Where all workers are one process nothing fires crons: then the account's own alarm must do.
        let _not_fired = fire_cron(&account.stage.access.sync, WATCHDOG_CRON).await;
    }
}

/// The dead letters.
async fn letters(account: &Account<'_>) -> Result<Vec<Value>> {
    let listed: Value = serde_json::from_str(&account.dead_letters().await?)?;
    Ok(listed["dead_letters"].as_array().cloned().unwrap_or_default())
}

/// Queues every dead letter again, and tells how many there were.
async fn replay(account: &Account<'_>) -> Result<u64> {
    let count = letters(account).await?.len() as u64;
    if count > 0 {
        let url = account.route("dead-letters/replay");
        let answer = account.stage.admin(Method::POST, &url, Some(&json!({"all": true}))).await?;
        ensure!(
            answer.status == 200,
            "the replay of dead letters answered {}: {}",
            answer.status,
            answer.text
        );
    }
    Ok(count)
}

/// Watches a quiet system: no write to Keap, no row written. The clock of the workers goes on, and so do incremental syncs.
pub async fn silence(account: &Account<'_>, entities: &[EntityType], length: Duration) -> Result<()> {
    let before = mark(account).await?;
    let began_at = now_ms();
    let ends = Instant::now() + length;
    let (mut looks, mut ticks, mut polls) =
        (interval(LOOK_INTERVAL), interval(WATCHDOG_INTERVAL), interval(INCREMENTAL_INTERVAL));
    while Instant::now() < ends {
        looks.tick().await;
        tick(account, &mut ticks).await;
        if futures_util::FutureExt::now_or_never(polls.tick()).is_some() {
            for entity in entities {
                start(account, &format!("{}?kind=incremental", entity.plural()), PATIENCE).await?;
            }
        }
        let now = mark(account).await?;
        ensure!(
            now == before,
            "a quiet system wrote after {} s: {before} became {now}",
            (now_ms() - began_at) / 1000
        );
    }
    Ok(())
}

/// Numbers that grow with every write.
async fn mark(account: &Account<'_>) -> Result<Value> {
    let sql = "select (select coalesce(sum(version), 0) from sync_contacts where account_id = $1) as contacts, \
                   (select coalesce(sum(version), 0) from sync_orders where account_id = $1) as orders, \
                   (select coalesce(sum(version), 0) from sync_tags where account_id = $1) as tags, \
                   (select coalesce(sum(version), 0) from sync_subscriptions where account_id = $1) as subscriptions, \
                   (select count(*) from sync_audit_log where account_id = $1) as audited, \
                   (select count(*) from sync_queue where account_id = $1) as queued, \
                   (select count(*) from sync_conflicts where account_id = $1) as conflicts";
    let mut mark = account.mirror.one(sql, &[]).await?;
    let writes = account.keap.writes().await.context("the simulator counts no writes")?;
    if let Some(mark) = mark.as_object_mut() {
        mark.insert("writes_in_keap".to_owned(), writes.into());
    }
    Ok(mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_may_name_what_keap_refused_and_nothing_else() {
        let refused = HashSet::from(["a"]);
        let certificate = |count: u64, row: &str, reason: &str| json!({"equal": false, "differing_count": count, "differences": [{"entity_id": row, "reason": reason}]});
        assert!(is_as_expected(&json!({"equal": true}), &refused));
        assert!(is_as_expected(&certificate(1, "a", "waiting"), &refused));
        for other in
            [certificate(2, "a", "waiting"), certificate(1, "b", "waiting"), certificate(1, "a", "differs")]
        {
            assert!(!is_as_expected(&other, &refused), "{other}");
        }
        assert!(!is_as_expected(&json!({"equal": false, "differing_count": 0}), &refused));
    }

    fn certificate(named: usize, differing: usize) -> Value {
        let differences: Vec<Value> =
            (0..named).map(|row| json!({"entity_id": row.to_string(), "reason": "waiting"})).collect();
        json!({"equal": false, "differences": differences, "differing_count": differing})
    }

    #[test]
    fn a_certificate_names_the_first_hundred_of_the_refused_and_no_others() {
        let rows: Vec<String> = (0..109).map(|row| row.to_string()).collect();
        let refused: HashSet<&str> = rows.iter().map(String::as_str).collect();
        assert!(is_as_expected(&certificate(100, 109), &refused));
        assert!(is_as_expected(&certificate(7, 7), &refused));
        assert!(!is_as_expected(&certificate(100, 110), &refused), "one of them was not refused");
        assert!(!is_as_expected(&certificate(99, 109), &refused), "one more would have been named");
        assert!(!is_as_expected(&certificate(7, 7), &HashSet::from(["0"])));
        assert!(!is_as_expected(&certificate(0, 0), &refused));
    }
}
