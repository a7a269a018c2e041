//! The runtime's side: requests in, answers out; who may ask what.

use crate::account::times::shown;
use crate::account::wire::AccountRequest;
use crate::account::{ACCOUNT_BINDING, object_path};
use crate::oauth::handlers;
use crate::object_call::{ObjectAnswer, ObjectRequest, hand_over};
use crate::route::{AccountCall, Route};
use crate::{access_log, live, metrics, registry};
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::AccountId;
use keapsync_domain::wire::AccessEntry;
use keapsync_engine::ports::Clock as _;
use keapsync_platform::access::{Caller, Tokens, Visit, log_entry, shows};
use keapsync_platform::body::read_body;
use keapsync_platform::clock::WorkerClock;
use keapsync_platform::config::{ConfigError, CoordinatorConfig};
use keapsync_platform::health::{health_answer, is_scope_self};
use keapsync_platform::hyperdrive::{HYPERDRIVE_BINDING, connect};
use keapsync_platform::kv::{CACHE_BINDING, Cache};
use keapsync_platform::log::Log;
use keapsync_platform::memory::wasm_memory_bytes;
use keapsync_platform::panic_hook;
use keapsync_platform::prometheus;
use keapsync_platform::respond::Answer;
use keapsync_platform::sync_client::{SYNC_WORKER_BINDING, SyncClient};
use serde_json::{Value, json};
use worker::{Context, Env, Method, Request, Response, Url, event};

/// Largest body that is taken, in bytes: a report or a delivery of 1000 ids is far smaller.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// This worker, in the record of access.
const WORKER: &str = "coordinator";

/// Accounts whose numbers `GET /metrics` shows.
const METRICS_ACCOUNTS_MAX: usize = 100;

/// What answering needs.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The bindings.
    pub env: &'a Env,
    /// The settings.
    pub config: &'a CoordinatorConfig,
}

/// Runs once per isolate.
#[event(start)]
pub fn start() {
    panic_hook::install();
}

/// Answers one request.
#[event(fetch)]
pub async fn fetch(request: Request, env: Env, _context: Context) -> worker::Result<Response> {
    let config = match CoordinatorConfig::of_isolate(&env) {
        Ok(config) => config,
        Err(error) => return misconfigured(&request, &error).into_response(),
    };
    let allowed = config.common.allowed_origin.clone();
    let origin = request.headers().get("origin")?;
    if request.method() == Method::Options {
        return Answer::preflight(allowed.as_deref(), origin.as_deref()).into_response();
    }
    let around = Surroundings { env: &env, config: &config };
    if let Some(account) = around.delivered_to(&request) {
        return around.hand_over_events(&account, request).await;
    }
    if let Some(account) = live::asked_for(&request) {
        return around.open_live(&account, &request).await;
    }
    let answer = around.answer(request).await;
    answer.with_cors(allowed.as_deref(), origin.as_deref()).into_response()
}

fn misconfigured(request: &Request, error: &ConfigError) -> Answer {
    Log::default().error("misconfigured").config_error(error).emit();
    match Route::of(request.method().as_ref(), &request.path()) {
        Route::Health => health_answer(
            WorkerClock.now(),
            &[("configuration", false)],
            &[("problem", json!(error.to_string()))],
        ),
        _ => Answer::misconfigured(),
    }
}

impl Surroundings<'_> {
    async fn answer(&self, mut request: Request) -> Answer {
        let Ok(url) = request.url() else {
            return Answer::bad_request("the address of the request cannot be read");
        };
        let route = Route::of(request.method().as_ref(), url.path());
        if route == Route::Metrics {
            let authorization = request.headers().get("authorization").ok().flatten();
            if shows(authorization.as_deref(), self.config.common.metrics_token.as_ref()) {
                return self.metrics().await;
            }
        }
        let visit = self.visit(&request, url.path());
        if let Err(refusal) = visit.admit(WorkerClock.now()) {
            return refusal;
        }
        let (answer, account) = self.answer_visit(&visit, route, &url, &mut request).await;
        // Whatever was asked, and whether or not it is there: every answer passes here.
        self.record_visit(&visit, account, answer.status).await;
        answer
    }

    /// Answers a visit that was let in, and names the account that it is about.
    async fn answer_visit(
        &self,
        visit: &Visit,
        route: Route,
        url: &Url,
        request: &mut Request,
    ) -> (Answer, Option<AccountId>) {
        let query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        // What anybody may ask.
        match &route {
            Route::Health => return (self.health(url.query()).await, None),
            Route::OAuthOpen => {
                let answer = handlers::open(self, &query).await;
                if answer.status == 400 {
                    visit.charge_wrong_credential(WorkerClock.now());
                }
                return (answer, None);
            }
            Route::OAuthCallback => {
                let cookies = request.headers().get("cookie").ok().flatten();
                let (answer, account) = handlers::callback(self, &query, cookies.as_deref()).await;
                if answer.status == 400 {
                    visit.charge_wrong_credential(WorkerClock.now());
                }
                // Without an account the state was not ours: anybody can make such requests, and none is worth a record.
                if account.is_some() {
                    self.record(Some(visit.browser_entry(WORKER, account, answer.status, WorkerClock.now())))
                        .await;
                }
                return (answer, None);
            }
            Route::Unknown => return (Answer::not_found("there is nothing at this path"), None),
            Route::OtherMethod(methods) => return (Answer::method_not_allowed(methods), None),
            _ => {}
        }
        if !may_ask(visit.caller, &route) {
            let answer =
                Answer::unauthorized("give the admin token: Authorization: Bearer <ADMIN_API_TOKEN>");
            return (answer, account_of(&route, &[]));
        }
        let body = match read_body(request, BODY_BYTES_MAX).await {
            Ok(body) => body,
            Err(error) => return (error.answer(), account_of(&route, &[])),
        };
        let account = account_of(&route, &body);
        (self.answer_route(route, url.path(), &query, &body).await, account)
    }

    /// Answers who may ask.
    async fn answer_route(
        &self,
        route: Route,
        path: &str,
        query: &[(String, String)],
        body: &[u8],
    ) -> Answer {
        match route {
            Route::Account(account, AccountCall::Live) => self.live_page(&account, query).await,
            Route::Account(account, call) => self.ask_account(&account, &call, path, body).await,
            Route::OAuthInitiate => handlers::initiate(self, body).await,
            Route::OAuthStatus => handlers::status(self, query).await,
            Route::OAuthRefresh => handlers::on_account(self, body, "oauth/refresh").await,
            Route::OAuthRevoke => handlers::on_account(self, body, "oauth/revoke").await,
            Route::OAuthServiceKey => handlers::service_key(self, body).await,
            Route::Accounts => self.accounts().await,
            Route::Metrics => self.metrics().await,
            Route::AccessLog => access_log::answer(self.env, query).await,
            Route::NoteAccess => self.note_access(body).await,
            Route::InvalidAccount => Answer::not_found(
                "there is no such account: its id is 1 to 64 characters of a-z, 0-9 and '-'",
            ),
            Route::Health
            | Route::OAuthOpen
            | Route::OAuthCallback
            | Route::OtherMethod(_)
            | Route::Unknown => Answer::not_found("there is nothing at this path"),
        }
    }

    /// The account, when the request is a delivery that another worker hands over.
    fn delivered_to(&self, request: &Request) -> Option<AccountId> {
        match Route::of(request.method().as_ref(), &request.path()) {
            Route::Account(account, AccountCall::Events)
                if self.visit(request, &request.path()).caller == Caller::Worker =>
            {
                Some(account)
            }
            _ => None,
        }
    }

    /// Hands a delivery to the account's object, neither side read here: this is the way of every hook.
    async fn hand_over_events(&self, account: &AccountId, request: Request) -> worker::Result<Response> {
        match hand_over(self.env, ACCOUNT_BINDING, &account.object_name(), request).await {
            Ok(response) => Ok(response),
            Err(failure) => self.unreachable(account, &failure).into_response(),
        }
    }

    pub(crate) fn unreachable(&self, account: &AccountId, failure: &Failure) -> Answer {
        self.config.common.log.error("object_unreachable").account(account).failure(failure).emit();
        Answer::failure(failure)
    }

    pub(crate) fn visit(&self, request: &Request, path: &str) -> Visit {
        let headers = request.headers();
        let header = |name: &str| headers.get(name).ok().flatten();
        let config = self.config;
        let method = request.method();
        let wakes = matches!(Route::of(method.as_ref(), path), Route::Account(_, AccountCall::Wake));
        let tokens = Tokens {
            admin: &config.admin_token,
            internal: &config.common.internal_token,
            wake: wakes.then_some(&config.wake_token),
        };
        Visit::new(method.as_ref(), path, header, tokens)
    }

    /// Records what an admin did, or that a credential was refused.
    pub(crate) async fn record_visit(&self, visit: &Visit, account: Option<AccountId>, status: u16) {
        let now = WorkerClock.now();
        self.record(visit.entry(WORKER, &self.config.admin_token, account, status, now)).await;
    }

    /// Durable before the answer leaves. What was done stays done when the record cannot be reached: the log has the entry then.
    async fn record(&self, entry: Option<AccessEntry>) {
        let Some(entry) = entry else { return };
        let log = self.config.common.log;
        log_entry(log, &entry);
        if let Err(failure) = access_log::record(self.env, entry).await {
            log.error("access_not_recorded").failure(&failure).emit();
        }
    }

    /// Takes an entry from another worker, which has logged it.
    async fn note_access(&self, body: &[u8]) -> Answer {
        let Ok(entry) = serde_json::from_slice::<AccessEntry>(body) else {
            return Answer::bad_request(
                "the entry has an unexpected shape: deploy all workers at one version",
            );
        };
        match access_log::record(self.env, entry).await {
            Ok(()) => Answer::json(200, &json!({})),
            Err(failure) => Answer::failure(&failure),
        }
    }

    async fn ask_account(&self, account: &AccountId, call: &AccountCall, path: &str, body: &[u8]) -> Answer {
        let object_name = account.object_name();
        let method = match call {
            AccountCall::Status
            | AccountCall::Settings
            | AccountCall::DeadLetters
            | AccountCall::Runs
            | AccountCall::Run(_) => Method::Get,
            AccountCall::ChangeSettings => Method::Put,
            _ => Method::Post,
        };
        let body = if method == Method::Get { &[] } else { body };
        let request =
            ObjectRequest { binding: ACCOUNT_BINDING, object_name: &object_name, method, path, body };
        match request.send(self.env).await {
            Ok(answer) => self.pass_on(answer),
            Err(failure) => self.unreachable(account, &failure),
        }
    }

    /// An object's answer as ours.
    #[must_use]
    pub fn pass_on(&self, answer: ObjectAnswer) -> Answer {
        let passed = Answer::new(answer.status, "application/json; charset=utf-8", answer.body);
        match answer.retry_after {
            Some(seconds) => passed.with_header("retry-after", &seconds),
            None => passed,
        }
    }

    async fn accounts(&self) -> Answer {
        match registry::list(self.env).await {
            Ok(accounts) => Answer::json(200, &shown(&json!({"accounts": accounts}))),
            Err(failure) => Answer::failure(&failure),
        }
    }

    async fn metrics(&self) -> Answer {
        let accounts = match registry::list(self.env).await {
            Ok(accounts) => accounts,
            Err(failure) => return Answer::failure(&failure),
        };
        let mut statuses = Vec::new();
        for entry in accounts.into_iter().take(METRICS_ACCOUNTS_MAX) {
            let path = object_path(&entry.account_id, "status");
            let answer = self.ask_account(&entry.account_id, &AccountCall::Status, &path, &[]).await;
            if let Ok(status) = serde_json::from_slice::<Value>(&answer.body) {
                statuses.push((entry.account_id.as_str().to_owned(), status));
            }
        }
        let text = metrics::text(&statuses, wasm_memory_bytes());
        Answer::new(200, prometheus::MEDIA_TYPE, text.into_bytes())
    }

    async fn health(&self, query: Option<&str>) -> Answer {
        let cache = match Cache::open(self.env) {
            Ok(cache) => cache.is_accessible().await,
            Err(_) => false,
        };
        let database = match connect(self.env, HYPERDRIVE_BINDING).await {
            Ok(client) => client.execute_typed("select 1", &[]).await.is_ok(),
            Err(_) => false,
        };
        // The registry answering shows that objects run at all.
        let objects = registry::list(self.env).await.is_ok();
        let mut services = vec![
            (CACHE_BINDING, cache),
            (HYPERDRIVE_BINDING, database),
            (ACCOUNT_BINDING, self.env.durable_object(ACCOUNT_BINDING).is_ok()),
            (crate::quota::QUOTA_BINDING, self.env.durable_object(crate::quota::QUOTA_BINDING).is_ok()),
            (registry::REGISTRY_BINDING, objects),
        ];
        if !is_scope_self(query) {
            let sync = SyncClient::new(self.env, &self.config.common.internal_token);
            services.push((SYNC_WORKER_BINDING, sync.is_healthy().await));
        }
        health_answer(WorkerClock.now(), &services, &[])
    }
}

fn may_ask(caller: Caller, route: &Route) -> bool {
    match (caller, route) {
        (Caller::Anybody | Caller::Refused, _) | (Caller::Admin(_), Route::NoteAccess) => false,
        (Caller::Waker, route) => matches!(route, Route::Account(_, AccountCall::Wake)),
        (Caller::Admin(_), Route::Account(_, call)) => !call.is_internal_only(),
        (Caller::Worker | Caller::Admin(_), _) => true,
    }
}

/// The account that is asked about, by the path or, for OAuth, by the body.
fn account_of(route: &Route, body: &[u8]) -> Option<AccountId> {
    match route {
        Route::Account(account, _) => Some(account.clone()),
        Route::OAuthInitiate | Route::OAuthRefresh | Route::OAuthRevoke | Route::OAuthServiceKey => {
            serde_json::from_slice::<AccountRequest>(body).ok().map(|request| request.keap_account_id)
        }
        _ => None,
    }
}
