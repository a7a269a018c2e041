//! The runtime's side: events in, answers out.

use crate::delivery::{self, Inbox, Incoming};
use crate::intake::{Intake, Share};
use crate::route::Route;
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::AccountId;
use keapsync_domain::limits::WEBHOOK_BODY_BYTES_MAX;
use keapsync_domain::timestamp::Timestamp;
use keapsync_domain::wire::{EventsRequest, EventsResponse};
use keapsync_engine::ports::Clock as _;
use keapsync_platform::address_limit::{self, ADDRESS_HEADER, PAGE_COST, WRONG_CREDENTIAL_COST};
use keapsync_platform::body::{BodyError, read_body};
use keapsync_platform::clock::WorkerClock;
use keapsync_platform::config::{ConfigError, WebhookConfig};
use keapsync_platform::coordinator_client::CoordinatorClient;
use keapsync_platform::health::{health_answer, is_scope_self};
use keapsync_platform::kv::Cache;
use keapsync_platform::log::Log;
use keapsync_platform::panic_hook;
use keapsync_platform::respond::Answer;
use serde_json::json;
use std::rc::Rc;
use worker::{Context, Env, Request, Response, event};

/// Runs once per isolate.
#[event(start)]
pub fn start() {
    panic_hook::install();
}

/// Answers one request.
#[event(fetch)]
pub async fn fetch(mut request: Request, env: Env, _context: Context) -> worker::Result<Response> {
    let config = WebhookConfig::of_isolate(&env);
    let allowed_origin = config.as_ref().ok().and_then(|config| config.common.allowed_origin.clone());
    let answer = answer(&mut request, &env, config).await;
    if allowed_origin.is_none() {
        return answer.into_response();
    }
    let request_origin = request.headers().get("origin").ok().flatten();
    answer.with_cors(allowed_origin.as_deref(), request_origin.as_deref()).into_response()
}

async fn answer(request: &mut Request, env: &Env, config: Result<Rc<WebhookConfig>, ConfigError>) -> Answer {
    let path = request.path();
    let route = Route::of(request.method().as_ref(), &path);
    let now = WorkerClock.now();
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            Log::default().error("misconfigured").config_error(&error).emit();
            return match route {
                Route::Health => {
                    health_answer(now, &[("configuration", false)], &[("problem", json!(error.to_string()))])
                }
                _ => Answer::misconfigured(),
            };
        }
    };
    if !matches!(route, Route::ByToken { .. } | Route::Signed)
        && let Err(answer) = Received::of(request, now).charge(PAGE_COST)
    {
        return answer;
    }
    match route {
        Route::ByToken { account, token } => {
            let inbox = CoordinatorClient::new(env, &config.common.internal_token);
            delivery::by_token(
                &config,
                (account, token),
                &mut Received::of(request, now),
                &Coordinator(inbox),
                now,
            )
            .await
        }
        Route::Signed => {
            let inbox = CoordinatorClient::new(env, &config.common.internal_token);
            delivery::signed(&config, &mut Received::of(request, now), &Coordinator(inbox), now).await
        }
        Route::Health => health(request, env, &config, now).await,
        Route::OtherMethod(allowed) => Answer::method_not_allowed(allowed),
        Route::Unknown => Answer::not_found("there is no such path: hooks go to /webhook/{account}/{token}"),
    }
}

async fn health(request: &Request, env: &Env, config: &WebhookConfig, now: Timestamp) -> Answer {
    let cache_works = match Cache::open(env) {
        Ok(cache) => cache.is_accessible().await,
        Err(_) => false,
    };
    let mut services = vec![("SYNC_CACHE", cache_works)];
    if !is_scope_self(request.url().ok().as_ref().and_then(|url| url.query())) {
        let coordinator = CoordinatorClient::new(env, &config.common.internal_token);
        services.push(("COORDINATOR", coordinator.is_healthy().await));
    }
    health_answer(now, &services, &[])
}

thread_local! {
    /// What this isolate holds of bodies.
    static INTAKE: Rc<Intake> = Rc::default();
}

struct Received<'a> {
    request: &'a mut Request,
    now: Timestamp,
    share: Option<Share>,
}

impl<'a> Received<'a> {
    fn of(request: &'a mut Request, now: Timestamp) -> Self {
        Self { request, now, share: None }
    }
}

impl Received<'_> {
    fn charge(&self, cost: u32) -> Result<(), Answer> {
        address_limit::take(self.header(ADDRESS_HEADER).as_deref(), cost, WorkerClock.now())
    }
}

impl Incoming for Received<'_> {
    fn header(&self, name: &str) -> Option<String> {
        self.request.headers().get(name).ok().flatten()
    }

    fn admit(&mut self, is_proven: bool) -> bool {
        let declared = self.header("content-length").and_then(|length| length.parse().ok());
        self.share = INTAKE.with(|intake| intake.admit(declared, is_proven, self.now));
        self.share.is_some()
    }

    fn refused_of_late(&self) -> Option<u64> {
        INTAKE.with(|intake| intake.refused_of_late(self.now))
    }

    fn stored(&self) {
        if let Some(share) = &self.share {
            share.stored(WorkerClock.now());
        }
    }

    fn charge_wrong_credential(&self) -> Result<(), Answer> {
        self.charge(WRONG_CREDENTIAL_COST)
    }

    async fn body(&mut self) -> Result<Vec<u8>, BodyError> {
        read_body(self.request, WEBHOOK_BODY_BYTES_MAX).await
    }
}

struct Coordinator(CoordinatorClient);

impl Inbox for Coordinator {
    async fn push(&self, account: &AccountId, request: &EventsRequest) -> Result<EventsResponse, Failure> {
        self.0.push_events(account, request).await
    }
}
