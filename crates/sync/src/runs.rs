//! Runs as people ask for them: started, planned, approved, cancelled, undone; and the certificates of those that compare.

use crate::request::Query;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_domain::run::{Direction, RunKind};
use keapsync_domain::wire::StartRunsRequest;
use keapsync_engine::ports::Clock as _;
use keapsync_engine::ports::proof::{ListedChange, ProofStore as _};
use keapsync_platform::clock::WorkerClock;
use keapsync_platform::coordinator_client::{CoordinatorClient, account_path};
use keapsync_platform::hyperdrive::{self, HYPERDRIVE_BINDING};
use keapsync_platform::respond::Answer;
use keapsync_store::Store;
use serde_json::{Value, json};
use worker::Env;

/// Planned changes in one answer, unless asked otherwise, and at most.
const PLANNED_DEFAULT: usize = 200;
const PLANNED_MAX: usize = 1_000;

/// `GET /sync/runs/{id}/plan?after=&limit=`: what a dry run, or one that the blast guard stopped, would do.
pub(crate) async fn plan(
    env: &Env,
    coordinator: &CoordinatorClient,
    account: &AccountId,
    id: &str,
    query: &Query,
) -> Result<Answer, Failure> {
    let (after, limit) =
        match (query.get("after").map(str::parse::<i64>), query.limit(PLANNED_DEFAULT, PLANNED_MAX)) {
            (Some(Err(_)), _) => {
                return Ok(Answer::bad_request("after is the number of the last change that was shown"));
            }
            (_, Err(reason)) => return Ok(Answer::bad_request(&reason)),
            (after, Ok(limit)) => (after.and_then(Result::ok).unwrap_or(0), limit),
        };
    let client = hyperdrive::connect(env, HYPERDRIVE_BINDING).await?;
    let store = Store::new(&client);
    let runs = runs_called(coordinator, &store, account, id).await?;
    let mut changes: Vec<ListedChange> = Vec::new();
    let mut counts = Vec::new();
    for (run_id, entity) in &runs {
        changes.extend(store.list_planned(account, run_id, after, limit).await?);
        for count in store.count_planned(account, run_id).await? {
            counts.push(
                json!({"entity": entity, "side": count.side, "action": count.action, "count": count.count}),
            );
        }
    }
    changes.sort_by_key(|change| change.number);
    let is_full = changes.len() >= limit;
    changes.truncate(limit);
    let next = if is_full { changes.last().map(|change| change.number) } else { None };
    let shown: Vec<Value> = changes
        .iter()
        .map(|listed| {
            let change = &listed.change;
            json!({
                "number": listed.number, "side": change.side, "action": change.action, "entity": change.entity,
                "entity_id": change.entity_id, "keap_id": change.keap_id, "fields": change.fields,
            })
        })
        .collect();
    let number = number_to_approve(coordinator, account, id).await;
    Ok(Answer::json(200, &json!({"counts": counts, "changes": shown, "next_after": next, "number": number})))
}

/// How many records a person approves with the run, or with all of those started together; `None` where it waits for nobody.
async fn number_to_approve(coordinator: &CoordinatorClient, account: &AccountId, id: &str) -> Option<u64> {
    let run: Value = coordinator.get_account_json(account, &format!("runs/{id}")).await.ok()?;
    let runs = run.get("runs").and_then(Value::as_array).cloned().unwrap_or_else(|| vec![run]);
    let waiting =
        runs.iter().filter(|run| run.get("state").and_then(Value::as_str) == Some("awaiting_approval"));
    let numbers: Vec<u64> = waiting.filter_map(|run| run.pointer("/planned/destroyed")?.as_u64()).collect();
    (!numbers.is_empty()).then(|| numbers.iter().sum())
}

/// `POST /sync/runs/{id}/approve` and `…/cancel`.
pub(crate) async fn decide(
    coordinator: &CoordinatorClient,
    account: &AccountId,
    id: &str,
    decision: &str,
    body: &Value,
) -> Result<Answer, Failure> {
    let path = account_path(account, &format!("runs/{id}/{decision}"));
    let answer: Value = coordinator.post_json(&path, body).await?;
    Ok(Answer::json(200, &answer))
}

/// `POST /sync/runs/{id}/revert`: a run that undoes what another did.
pub(crate) async fn revert(
    env: &Env,
    coordinator: &CoordinatorClient,
    account: &AccountId,
    id: &str,
) -> Result<Answer, Failure> {
    let client = hyperdrive::connect(env, HYPERDRIVE_BINDING).await?;
    if let Ok(run) = coordinator.get_account_json::<Value>(account, &format!("runs/{id}")).await
        && is_at_work(&run)
    {
        let message = "the run is still at work: cancel it or wait for its end, and try again in a minute";
        return Ok(Answer::error(409, "run_at_work", message));
    }
    let runs = runs_called(coordinator, &Store::new(&client), account, id).await?;
    let mut run_ids = Vec::new();
    for (run_id, entity) in runs {
        let request = StartRunsRequest {
            kind: RunKind::Revert,
            entities: vec![entity],
            direction: Direction::Bidirectional,
            dry_run: false,
            reverts: Some(run_id),
        };
        run_ids.push(coordinator.start_runs(account, &request).await?.run_id);
    }
    Ok(Answer::json(202, &json!({"run_id": run_ids.first(), "run_ids": run_ids})))
}

/// Whether a run, or one of several, has not ended, or has a unit out that may still write.
fn is_at_work(run: &Value) -> bool {
    let runs = run.get("runs").and_then(Value::as_array);
    let mut runs = runs.map_or_else(|| vec![run], |runs| runs.iter().collect()).into_iter();
    let now = WorkerClock.now().to_rfc3339();
    runs.any(|run| {
        let state = run.get("state").and_then(Value::as_str);
        let leased_until = run.get("leased_until").and_then(Value::as_str);
        // Both are RFC 3339 in UTC with milliseconds, and so in the order of their texts.
        !matches!(state, Some("completed" | "failed"))
            || leased_until.is_some_and(|until| until > now.as_str())
    })
}

/// `GET /sync/verify`: the latest certificate of each entity, and when it was last equal.
pub(crate) async fn certificates(env: &Env, account: &AccountId) -> Result<Answer, Failure> {
    let client = hyperdrive::connect(env, HYPERDRIVE_BINDING).await?;
    let latest = Store::new(&client).latest_certificates(account).await?;
    let equal = latest.len() == EntityType::ALL.len() && latest.iter().all(|latest| latest.certificate.equal);
    let time = |moment: Option<keapsync_domain::timestamp::Timestamp>| {
        moment.map(keapsync_domain::timestamp::Timestamp::to_rfc3339)
    };
    let shown: Vec<Value> = latest
        .iter()
        .map(|latest| {
            let certificate = &latest.certificate;
            json!({
                "entity": certificate.entity,
                "equal": certificate.equal,
                "run_id": latest.run_id,
                "keap_count": certificate.keap_count,
                "supabase_count": certificate.supabase_count,
                "keap_tree_hash": certificate.keap_tree_hash,
                "supabase_tree_hash": certificate.supabase_tree_hash,
                "differing_count": certificate.differing_count,
                "differences": certificate.differences,
                "open_conflicts": certificate.open_conflicts,
                "oldest_unsynced_at": time(certificate.oldest_unsynced_at),
                "started_at": certificate.started_at.to_rfc3339(),
                "checked_at": certificate.checked_at.to_rfc3339(),
                "last_equal_at": time(latest.last_equal_at),
            })
        })
        .collect();
    Ok(Answer::json(200, &json!({"equal": equal, "certificates": shown})))
}

/// The runs that `id` names: one, or all that were started together under it. The account's object knows the newest, Postgres all.
async fn runs_called(
    coordinator: &CoordinatorClient,
    store: &Store<'_>,
    account: &AccountId,
    id: &str,
) -> Result<Vec<(String, EntityType)>, Failure> {
    let known: Result<Value, Failure> = coordinator.get_account_json(account, &format!("runs/{id}")).await;
    let named = |run: &Value| {
        let id = run.get("id")?.as_str()?.to_owned();
        Some((id, EntityType::from_name(run.get("entity")?.as_str()?)?))
    };
    match known {
        Ok(run) => Ok(match run.get("runs").and_then(Value::as_array) {
            Some(runs) => runs.iter().filter_map(named).collect(),
            None => named(&run).into_iter().collect(),
        }),
        Err(failure) if failure.class == FailureClass::NotFound => match store.read_run(account, id).await? {
            Some(run) => Ok(EntityType::from_name(&run.entity_type)
                .map(|entity| (run.id, entity))
                .into_iter()
                .collect()),
            None => Err(failure),
        },
        Err(failure) => Err(failure),
    }
}
