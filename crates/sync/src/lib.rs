#![doc = include_str!("../README.md")]

mod audit;
pub mod conflicts;
mod metrics;
pub mod request;
mod routes;
mod runs;
mod schedule;
pub mod smoke;
mod unit;
mod upkeep;

use keapsync_platform::config::SyncConfig;
use keapsync_platform::log::Log;
use worker::{Context, Env, Request, Response, Result, ScheduleContext, ScheduledEvent, event};

#[event(start)]
fn start() {
    keapsync_platform::panic_hook::install();
}

/// Answers a request.
#[event(fetch)]
async fn fetch(request: Request, env: Env, context: Context) -> Result<Response> {
    let answer = match SyncConfig::of_isolate(&env) {
        Ok(config) => routes::route(request, &env, &context, &config).await,
        Err(error) => routes::misconfigured(&request, &error),
    };
    answer.into_response()
}

/// Runs what is due by the clock.
#[event(scheduled)]
async fn scheduled(event: ScheduledEvent, env: Env, _context: ScheduleContext) {
    match SyncConfig::of_isolate(&env) {
        Ok(config) => schedule::run(&event.cron(), &env, &config).await,
        Err(error) => Log::default().error("misconfigured").config_error(&error).emit(),
    }
}
