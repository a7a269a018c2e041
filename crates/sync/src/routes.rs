//! Routes: who may ask, what is asked, what is answered.

use crate::audit;
use crate::conflicts;
use crate::metrics;
use crate::request::{Path, Query};
use crate::runs;
use crate::smoke;
use crate::unit;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_domain::run::RunKind;
use keapsync_domain::wire::UnitOrder;
use keapsync_engine::ports::Clock as _;
use keapsync_platform::access::{Caller, Tokens, Visit, log_entry, shows};
use keapsync_platform::body::read_body;
use keapsync_platform::clock::WorkerClock;
use keapsync_platform::config::{ConfigError, SyncConfig};
use keapsync_platform::coordinator_client::CoordinatorClient;
use keapsync_platform::health::{health_answer, is_scope_self};
use keapsync_platform::hyperdrive::{self, HYPERDRIVE_BINDING};
use keapsync_platform::kv::Cache;
use keapsync_platform::log::Log;
use keapsync_platform::respond::Answer;
use serde_json::{Value, json};
use worker::{Context, Env, Method, Request, Url};

/// Longest order of a unit, in bytes: settings and a token, no records.
const ORDER_BYTES_MAX: usize = 64 * 1024;

/// Longest decision about a conflict, in bytes: a field's value, and a note.
const DECISION_BYTES_MAX: usize = 256 * 1024;

/// Longest approval, in bytes: a number.
const APPROVAL_BYTES_MAX: usize = 1024;

/// This worker, in the record of access.
const WORKER: &str = "sync";

/// What a worker says whose configuration is wrong: `GET /health` names the setting, nothing else does.
pub(crate) fn misconfigured(request: &Request, error: &ConfigError) -> Answer {
    Log::default().error("misconfigured").config_error(error).emit();
    if request.method() == Method::Get && request.path() == "/health" {
        let problem = [("problem", json!(error.to_string()))];
        return health_answer(WorkerClock.now(), &[("configuration", false)], &problem);
    }
    Answer::misconfigured()
}

/// Answers a request.
pub(crate) async fn route(request: Request, env: &Env, context: &Context, config: &SyncConfig) -> Answer {
    let origin = header(&request, "origin");
    let allowed = config.common.allowed_origin.as_deref();
    if request.method() == Method::Options {
        return Answer::preflight(allowed, origin.as_deref());
    }
    answer(request, env, context, config).await.with_cors(allowed, origin.as_deref())
}

fn header(request: &Request, name: &str) -> Option<String> {
    request.headers().get(name).ok().flatten()
}

async fn answer(mut request: Request, env: &Env, context: &Context, config: &SyncConfig) -> Answer {
    let Ok(url) = request.url() else {
        return Answer::bad_request("the address of the request cannot be read");
    };
    let authorization = header(&request, "authorization");
    if url.path() == "/metrics"
        && request.method() == Method::Get
        && shows(authorization.as_deref(), config.common.metrics_token.as_ref())
    {
        return metrics::answer(env).await;
    }
    let visit = Visit::new(
        request.method().as_ref(),
        url.path(),
        |name| header(&request, name),
        Tokens { admin: &config.admin_token, internal: &config.common.internal_token, wake: None },
    );
    if let Err(refusal) = visit.admit(WorkerClock.now()) {
        return refusal;
    }
    let coordinator = CoordinatorClient::new(env, &config.common.internal_token);
    let query = Query::new(url.query_pairs().into_owned());
    let account = query.as_ref().ok().and_then(|query| query.account().ok().flatten());
    let answer = match &query {
        Ok(query) => {
            answer_visit(&visit, &mut request, &url, query, (env, context, config, &coordinator)).await
        }
        Err(reason) => Answer::bad_request(reason),
    };
    // Whatever was asked, and whether or not it is there: every answer passes here.
    record(&visit, config, &coordinator, account, &answer).await;
    answer
}

/// Answers a visit that was let in.
async fn answer_visit(
    visit: &Visit,
    request: &mut Request,
    url: &Url,
    query: &Query,
    (env, context, config, coordinator): (&Env, &Context, &SyncConfig, &CoordinatorClient),
) -> Answer {
    let path = Path::parse(url.path(), query);
    let is_read = request.method() == Method::Get;
    let is_write = request.method() == Method::Post;
    match &path {
        Path::Health if is_read => return health(env, config, url.query()).await,
        Path::Units if is_write => {
            if visit.caller != Caller::Worker {
                return Answer::unauthorized("units are ordered by the coordinator only");
            }
            return order(request, env, context, config).await;
        }
        Path::Unknown => return Answer::not_found("there is nothing at this path"),
        Path::Health
        | Path::Metrics
        | Path::Smoke(_)
        | Path::Status
        | Path::Runs
        | Path::Run(_)
        | Path::Plan(_)
        | Path::Audit
        | Path::Conflicts
        | Path::Conflict(_)
            if !is_read =>
        {
            return Answer::method_not_allowed("GET");
        }
        Path::Units
        | Path::Start(..)
        | Path::UnknownKind
        | Path::Approve(_)
        | Path::Cancel(_)
        | Path::RevertRun(_)
        | Path::RevertEntry(_)
        | Path::Resolve(_)
            if !is_write =>
        {
            return Answer::method_not_allowed("POST");
        }
        Path::Verify if !is_read && !is_write => return Answer::method_not_allowed("GET, POST"),
        _ => {}
    }
    if matches!(visit.caller, Caller::Admin(_)) {
        let answered = answer_admin(request, env, coordinator, query, path).await;
        answered.unwrap_or_else(|failure| Answer::failure(&failure))
    } else {
        Answer::unauthorized("give the admin token: Authorization: Bearer <ADMIN_API_TOKEN>")
    }
}

/// Records what an admin did, or that a credential was refused: durable before the answer leaves. What was done stays done when the
/// record cannot be reached: the log has the entry then.
async fn record(
    visit: &Visit,
    config: &SyncConfig,
    coordinator: &CoordinatorClient,
    account: Option<AccountId>,
    answer: &Answer,
) {
    let now = WorkerClock.now();
    let Some(entry) = visit.entry(WORKER, &config.admin_token, account, answer.status, now) else { return };
    let log = config.common.log;
    log_entry(log, &entry);
    if let Err(failure) = coordinator.record_access(&entry).await {
        log.error("access_not_recorded").failure(&failure).emit();
    }
}

async fn answer_admin(
    request: &mut Request,
    env: &Env,
    coordinator: &CoordinatorClient,
    query: &Query,
    path: Path,
) -> Result<Answer, Failure> {
    let is_write = request.method() == Method::Post;
    match path {
        Path::Metrics => Ok(metrics::answer(env).await),
        Path::Smoke(part) => smoke::run(env, coordinator, part, query).await,
        Path::UnknownKind => Ok(Answer::bad_request("kind is full or incremental")),
        Path::Start(kind, entities) => start(coordinator, query, kind, &entities).await,
        Path::Status => show(coordinator, query, "status").await,
        Path::Runs => show(coordinator, query, "runs").await,
        Path::Run(id) => show(coordinator, query, &format!("runs/{id}")).await,
        Path::Verify if is_write => match query.entities() {
            Ok(entities) => start(coordinator, query, RunKind::Verify, &entities).await,
            Err(reason) => Ok(Answer::bad_request(&reason)),
        },
        Path::Conflicts
        | Path::Conflict(_)
        | Path::Resolve(_)
        | Path::Plan(_)
        | Path::Approve(_)
        | Path::Cancel(_)
        | Path::RevertRun(_)
        | Path::Verify
        | Path::Audit
        | Path::RevertEntry(_) => decide(request, env, coordinator, query, &path).await,
        Path::Health | Path::Units | Path::Unknown => Ok(Answer::not_found("there is nothing at this path")),
    }
}

async fn decide(
    request: &mut Request,
    env: &Env,
    coordinator: &CoordinatorClient,
    query: &Query,
    path: &Path,
) -> Result<Answer, Failure> {
    let account = match account_of(coordinator, query).await? {
        Ok(account) => account,
        Err(reason) => return Ok(Answer::bad_request(&reason)),
    };
    match path {
        Path::Plan(id) => runs::plan(env, coordinator, &account, id, query).await,
        Path::Approve(id) => {
            let body = match read_body(request, APPROVAL_BYTES_MAX).await {
                Ok(body) => body,
                Err(error) => return Ok(error.answer()),
            };
            // What is no JSON is told by the account's object, with what to send.
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            runs::decide(coordinator, &account, id, "approve", &body).await
        }
        Path::Cancel(id) => runs::decide(coordinator, &account, id, "cancel", &json!({})).await,
        Path::RevertRun(id) => runs::revert(env, coordinator, &account, id).await,
        Path::Verify => runs::certificates(env, &account).await,
        Path::Audit => audit::list(env, &account, query).await,
        Path::RevertEntry(id) => audit::revert(env, coordinator, &account, *id).await,
        Path::Conflict(id) => conflicts::show(env, &account, id).await,
        Path::Resolve(id) => {
            let body = match read_body(request, DECISION_BYTES_MAX).await {
                Ok(body) => body,
                Err(error) => return Ok(error.answer()),
            };
            let settled = conflicts::resolve(env, coordinator, &account, id, &body).await;
            Ok(settled.unwrap_or_else(|failure| conflicts::answer_of(&failure)))
        }
        _ => conflicts::list(env, &account, query).await,
    }
}

async fn start(
    coordinator: &CoordinatorClient,
    query: &Query,
    kind: RunKind,
    entities: &[EntityType],
) -> Result<Answer, Failure> {
    let request = match query.start(kind, entities) {
        Ok(request) => request,
        Err(reason) => return Ok(Answer::bad_request(&reason)),
    };
    let account = match account_of(coordinator, query).await? {
        Ok(account) => account,
        Err(reason) => return Ok(Answer::bad_request(&reason)),
    };
    Ok(Answer::json(202, &coordinator.start_runs(&account, &request).await?))
}

async fn show(coordinator: &CoordinatorClient, query: &Query, resource: &str) -> Result<Answer, Failure> {
    match account_of(coordinator, query).await? {
        Ok(account) => {
            let value: Value = coordinator.get_account_json(&account, resource).await?;
            Ok(Answer::json(200, &value))
        }
        Err(reason) => Ok(Answer::bad_request(&reason)),
    }
}

/// The account that is meant: the named one, or the only one there is. The inner error is the caller's to mend.
async fn account_of(
    coordinator: &CoordinatorClient,
    query: &Query,
) -> Result<Result<AccountId, String>, Failure> {
    match query.account() {
        Ok(Some(account)) => return Ok(Ok(account)),
        Err(reason) => return Ok(Err(reason)),
        Ok(None) => {}
    }
    let mut accounts = list_accounts(coordinator).await?;
    match (accounts.pop(), accounts.is_empty()) {
        (Some(account), true) => Ok(Ok(account)),
        (Some(_), false) => Ok(Err("there are several accounts: name one by ?account=".to_owned())),
        (None, _) => Ok(Err(
            "no account is connected yet: start with POST /oauth/initiate at the coordinator".to_owned(),
        )),
    }
}

/// Every account that the coordinator knows.
pub(crate) async fn list_accounts(coordinator: &CoordinatorClient) -> Result<Vec<AccountId>, Failure> {
    let answer: Value = coordinator.get_json("/accounts").await?;
    let listed = answer.get("accounts").and_then(Value::as_array).ok_or_else(|| {
        Failure::new(FailureClass::Unexpected, "the coordinator's list of accounts has an unexpected shape")
    })?;
    let ids = listed.iter().filter_map(|entry| entry.get("account_id").and_then(Value::as_str));
    Ok(ids.filter_map(|id| AccountId::parse(id).ok()).collect())
}

async fn order(request: &mut Request, env: &Env, context: &Context, config: &SyncConfig) -> Answer {
    let body = match read_body(request, ORDER_BYTES_MAX).await {
        Ok(body) => body,
        Err(error) => return error.answer(),
    };
    // serde's message could quote the token that the order carries.
    let Ok(order) = serde_json::from_slice::<UnitOrder>(&body) else {
        return Answer::bad_request(
            "the order of a unit has an unexpected shape: deploy all workers at one version",
        );
    };
    let (env, config) = (env.clone(), config.clone());
    context.wait_until(async move { unit::work(&env, &config, &order).await });
    Answer::json(202, &json!({"accepted": true}))
}

async fn health(env: &Env, config: &SyncConfig, query: Option<&str>) -> Answer {
    let kv = match Cache::open(env) {
        Ok(cache) => cache.is_accessible().await,
        Err(_) => false,
    };
    let database = match hyperdrive::connect(env, HYPERDRIVE_BINDING).await {
        Ok(client) => client.execute_typed("select 1", &[]).await.is_ok(),
        Err(_) => false,
    };
    let mut services = vec![("SYNC_CACHE", kv), (HYPERDRIVE_BINDING, database)];
    if !is_scope_self(query) {
        let coordinator = CoordinatorClient::new(env, &config.common.internal_token);
        services.push(("COORDINATOR", coordinator.is_healthy().await));
    }
    let more = [
        ("hyperdrive", json!(if database { "connected" } else { "unreachable" })),
        ("kv", json!(if kv { "accessible" } else { "inaccessible" })),
    ];
    health_answer(WorkerClock.now(), &services, &more)
}
