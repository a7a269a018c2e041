//! Faults that doctor finds: each is planted in a system that is otherwise well.

use crate::world::{World, now, time};
use serde_json::json;

/// A fault: what it is, how it is planted, which check finds it, and words of the fix.
pub(crate) type Fault = (&'static str, fn(&mut World), &'static str, &'static str);

pub(crate) const FAULTS: &[Fault] = &[
    (
        "a secret is missing",
        |w| drop(w.variables.remove("INTERNAL_TOKEN")),
        "settings of sync worker",
        "INTERNAL_TOKEN is not set: enter it in the environment file",
    ),
    (
        "an encryption key is too short",
        |w| w.set("TOKEN_ENCRYPTION_KEY", "c2hvcnQ="),
        "settings of coordinator",
        "openssl rand -base64 32",
    ),
    (
        "a token can be guessed",
        |w| w.set("ADMIN_API_TOKEN", "hunter2"),
        "settings of sync worker",
        "openssl rand -hex 32",
    ),
    (
        "two secrets are one",
        |w| w.set("INTERNAL_TOKEN", "admin-token-0123456789"),
        "secrets differ",
        "make another INTERNAL_TOKEN",
    ),
    (
        "the redirect address lacks its path",
        |w| w.set("KEAP_REDIRECT_URI", "https://c.acme.workers.dev"),
        "public addresses",
        "/oauth/callback",
    ),
    (
        "the hooks' address is this machine's",
        |w| w.set("WEBHOOK_PUBLIC_URL", "http://localhost:8789"),
        "public addresses",
        "WEBHOOK_PUBLIC_URL",
    ),
    (
        "migrations go through the transaction pooler",
        |w| w.set("DATABASE_URL", "postgres://u:p@h.example.net:6543/postgres"),
        "DATABASE_URL",
        "port 5432",
    ),
    (
        "DATABASE_URL is missing",
        |w| drop(w.variables.remove("DATABASE_URL")),
        "DATABASE_URL",
        "session pooler",
    ),
    (
        "a worker is not there",
        |w| w.webhook = None,
        "webhook handler",
        "./deploy.sh validate --env staging --health-only",
    ),
    (
        "a worker is misconfigured",
        |w| {
            World::in_health(&mut w.coordinator, 503, |body| {
                body["problem"] = json!("KEAP_CLIENT_ID is not set: set it");
            });
        },
        "coordinator",
        "KEAP_CLIENT_ID is not set",
    ),
    (
        "a worker is bound to nothing",
        |w| World::in_health(&mut w.sync, 503, |body| body["services"]["SYNC_CACHE"] = json!(false)),
        "sync worker",
        "wrangler kv namespace list",
    ),
    (
        "two workers have different internal tokens",
        |w| World::in_health(&mut w.webhook, 503, |body| body["services"]["COORDINATOR"] = json!(false)),
        "webhook handler",
        "one INTERNAL_TOKEN",
    ),
    (
        "an address is another worker's",
        |w| w.webhook = w.sync.clone(),
        "webhook handler",
        "give the webhook handler's own",
    ),
    (
        "an address is no worker's",
        |w| drop(w.coordinator.as_mut().unwrap().insert("/health".to_owned(), (200, "<html>".to_owned()))),
        "coordinator",
        "correct it",
    ),
    (
        "a clock is wrong",
        |w| World::in_health(&mut w.coordinator, 200, |body| body["timestamp"] = json!(time(now() - 600))),
        "coordinator's clock",
        "timedatectl",
    ),
    (
        "the admin token is another",
        |w| w.token = "not-the-admin-token",
        "admin token (coordinator)",
        "./deploy.sh --env staging --only secrets",
    ),
    (
        "another server answers with JSON",
        |w| {
            let answer = (200, r#"{"error":"no"}"#.to_owned());
            drop(w.sync.as_mut().unwrap().insert("/health".to_owned(), answer));
        },
        "sync worker",
        "correct it",
    ),
    (
        "a worker says that it is not well and not why",
        |w| World::in_health(&mut w.coordinator, 503, |body| body["status"] = json!("unhealthy")),
        "coordinator",
        "npx wrangler tail sync-coordinator-staging",
    ),
    (
        "workers log in as a person",
        |w| w.in_identity("role", json!("postgres")),
        "workers' database",
        "wrangler hyperdrive update",
    ),
    (
        "a cache stands before the database",
        |w| w.in_identity("is_cached", json!(true)),
        "workers' database",
        "--caching-disabled",
    ),
    (
        "the workers' database is empty",
        |w| w.in_identity("is_migrated", json!(false)),
        "workers' database",
        "cargo xtask migrate up",
    ),
    (
        "the workers have another database",
        |w| w.in_identity("server_started_us", json!("999")),
        "one database",
        "wrangler hyperdrive get",
    ),
    (
        "Postgres is too old",
        |w| "14.9".clone_into(&mut w.facts.version),
        "postgres version",
        "Postgres 15 to 17",
    ),
    ("the database's clock is wrong", |w| w.facts.clock_seconds += 90, "postgres clock", "timedatectl"),
    (
        "connections run out",
        |w| w.facts.connections = 58,
        "postgres connections",
        "--origin-connection-limit",
    ),
    ("a migration is missing", |w| w.facts.migrations[2].applied = false, "schema", "cargo xtask migrate up"),
    (
        "a migration was changed",
        |w| w.facts.migrations[1].changed_since = true,
        "schema",
        "restore their files",
    ),
    (
        "the workers' role may do everything",
        |w| w.facts.engine.as_mut().unwrap().is_superuser = true,
        "workers' role",
        "nosuperuser",
    ),
    (
        "the workers' role may not log in",
        |w| w.facts.engine.as_mut().unwrap().can_login = false,
        "workers' role",
        "login password",
    ),
    (
        "the workers' statements are compiled before they run",
        |w| w.facts.compiles = true,
        "workers' role",
        "set jit = off",
    ),
    ("there is no role for the workers", |w| w.facts.engine = None, "workers' role", "migrate up"),
    (
        "a connection was lost",
        |w| w.in_status("/token/state", json!("needs_reauthorization")),
        "account demo: connection",
        "POST /oauth/initiate",
    ),
    (
        "a connection is about to end",
        |w| w.in_status("/token/warnings", json!([{"message": "connect the account again before"}])),
        "account demo: token",
        "connect the account again",
    ),
    (
        "one application is connected twice",
        |w| w.in_status("/warnings", json!([{"message": "revoke the others"}])),
        "account demo: warning",
        "revoke the others",
    ),
    (
        "a hook went inactive",
        |w| w.in_status("/hooks/0/status", json!("Inactive")),
        "account demo: hooks",
        "hooks/check",
    ),
    (
        "an account was forgotten in a pause",
        |w| w.in_status("/paused", json!({"since": time(now())})),
        "account demo: paused",
        "/coordinator/demo/resume",
    ),
    (
        "work stands still",
        |w| w.in_status("/stalled", json!([{"what": "events", "since": time(0), "why": "x"}])),
        "account demo: stalled",
        "docs/operations.md",
    ),
    (
        "connecting did not finish",
        |w| w.in_status("/setup_open", json!(["hooks"])),
        "account demo: set-up",
        "/coordinator/demo/wake",
    ),
    (
        "a part keeps failing",
        |w| {
            w.in_status(
                "/errors/events",
                json!({"failures": 9, "error": {"class": "unavailable", "message": "m"}}),
            );
        },
        "account demo: failing",
        "Keap and the database are up",
    ),
    (
        "changes were given up",
        |w| w.in_status("/events/dead", json!(4)),
        "account demo: dead letters",
        "dead-letters/replay",
    ),
    (
        "hooks are not worked off",
        |w| w.in_status("/events/oldest_at", json!(time(now() - 3_600))),
        "account demo: events' lag",
        "docs/operations.md",
    ),
    (
        "edits are not carried over",
        |w| w.in_status("/outbox/oldest_at", json!(time(now() - 3_600))),
        "account demo: edits' lag",
        "dead letters",
    ),
    (
        "the day's calls are used up",
        |w| w.in_status("/quota/day/left", json!(100)),
        "account demo: quota",
        "docs/tokens.md",
    ),
    (
        "a run waits for somebody",
        |w| w.in_status("/runs/0/state", json!("awaiting_approval")),
        "account demo: run",
        "/sync/runs/r1/approve",
    ),
];
