//! `cargo xtask doctor` against faults planted one by one: it finds each and names its fix, and finds nothing in a healthy system.
//!
//! The workers are stand-ins over real HTTP that answer what real ones do; the end-to-end tests hold their answers against a real
//! system. What the database says is planted as what was seen of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test ends at the first thing that is not as it should be"
)]

use keapsync_xtask::deployment::{Deployment, Environment, Variables, parse};
use keapsync_xtask::doctor::{
    DatabaseFacts, EngineRole, Finding, judge_database, judge_settings, look_at_workers,
};
use keapsync_xtask::migrate::MigrationState;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const TOKEN: &str = "the-admin-token-of-this-test";

/// Answers by path: status and body.
type Answers = BTreeMap<String, (u16, String)>;

/// One worker as it answers; `None` is one that is not there.
type Worker = Option<Answers>;

/// A whole deployment as doctor sees it.
struct World {
    variables: Variables,
    coordinator: Worker,
    sync: Worker,
    webhook: Worker,
    token: &'static str,
    facts: DatabaseFacts,
}

fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

fn time(seconds: i64) -> String {
    keapsync_domain::timestamp::Timestamp(seconds * 1_000).to_rfc3339()
}

fn health(services: &[&str], at: i64) -> (u16, String) {
    let services: BTreeMap<&str, bool> = services.iter().map(|name| (*name, true)).collect();
    (200, json!({"status": "healthy", "timestamp": time(at), "services": services}).to_string())
}

fn ok(body: &Value) -> (u16, String) {
    (200, body.to_string())
}

fn status() -> Value {
    json!({
        "account_id": "demo", "at": time(now()),
        "token": {"state": "connected", "because": null, "warnings": [], "sealed_with_present_key": true},
        "events": {"open": 0, "dead": 0, "oldest_at": null},
        "outbox": {"open": 1, "failed": 0, "oldest_at": time(now() - 2)},
        "runs": [{"id": "r1", "state": "completed"}],
        "paused": null, "stalled": [], "setup_open": [], "warnings": [],
        "hooks": [{"event_key": "contact.edit", "status": "Verified"}],
        "quota": {"day": {"left": 100_000, "limit": 140_000}, "throttled_until": null, "forecast": {"comes_back_at": null}},
        "errors": {"events": {"failures": 0}},
    })
}

const STATUS: &str = "/coordinator/demo/status";

fn healthy() -> World {
    let mut migrations = Vec::new();
    for version in 1..=3 {
        migrations.push(MigrationState {
            version,
            name: format!("m{version}"),
            applied: true,
            changed_since: false,
        });
    }
    let bindings =
        ["SYNC_CACHE", "HYPERDRIVE", "SYNC_COORDINATOR", "KEAP_QUOTA", "ACCOUNT_REGISTRY", "SYNC_WORKER"];
    let accounts = json!({"accounts": [{"account_id": "demo", "state": "connected"}, {"account_id": "old", "state": "revoked"}]});
    let identity = json!({"role": "keapsync_engine", "database": "postgres", "server_version": "17.4", "server_started_us": "123",
        "server_time_ms": 1, "is_migrated": true, "is_cached": false});
    World {
        variables: parse(
            "KEAP_CLIENT_ID=client\nKEAP_CLIENT_SECRET=the-applications-secret\n\
             KEAP_REDIRECT_URI=https://c.acme.workers.dev/oauth/callback\nWEBHOOK_PUBLIC_URL=https://w.acme.workers.dev\n\
             KEAP_WEBHOOK_SECRET=webhook-secret-0123456789\nTOKEN_ENCRYPTION_KEY=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n\
             ADMIN_API_TOKEN=admin-token-0123456789\nINTERNAL_TOKEN=internal-token-0123456789\n\
             DATABASE_URL=postgres://postgres.ref:p%40ss@aws-0.pooler.supabase.com:5432/postgres\n",
        )
        .unwrap(),
        coordinator: Some(Answers::from([
            ("/health".to_owned(), health(&bindings, now())),
            ("/accounts".to_owned(), ok(&accounts)),
            (STATUS.to_owned(), ok(&status())),
        ])),
        sync: Some(Answers::from([
            ("/health".to_owned(), health(&["SYNC_CACHE", "HYPERDRIVE", "COORDINATOR"], now())),
            ("/metrics".to_owned(), (200, "keapsync_database_up 1\n".to_owned())),
            ("/smoke/database".to_owned(), ok(&identity)),
        ])),
        webhook: Some(Answers::from([("/health".to_owned(), health(&["SYNC_CACHE", "COORDINATOR"], now()))])),
        token: TOKEN,
        facts: DatabaseFacts {
            version: "17.4".to_owned(),
            clock_seconds: now(),
            name: "postgres".to_owned(),
            server_started_us: "123".to_owned(),
            connections_max: 60,
            connections: 12,
            engine: Some(EngineRole { can_login: true, is_superuser: false, bypasses_row_security: false }),
            migrations,
        },
    }
}

impl World {
    fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    /// Changes the account's status.
    fn in_status(&mut self, pointer: &str, value: Value) {
        let answers = self.coordinator.as_mut().unwrap();
        let mut status: Value = serde_json::from_str(&answers[STATUS].1).unwrap();
        *status.pointer_mut(pointer).expect("the status has this") = value;
        answers.insert(STATUS.to_owned(), ok(&status));
    }

    /// Changes a worker's health.
    fn in_health(worker: &mut Worker, status: u16, change: impl FnOnce(&mut Value)) {
        let answers = worker.as_mut().unwrap();
        let mut body: Value = serde_json::from_str(&answers["/health"].1).unwrap();
        change(&mut body);
        answers.insert("/health".to_owned(), (status, body.to_string()));
    }

    fn in_identity(&mut self, name: &str, value: Value) {
        let answers = self.sync.as_mut().unwrap();
        let mut identity: Value = serde_json::from_str(&answers["/smoke/database"].1).unwrap();
        identity[name] = value;
        answers.insert("/smoke/database".to_owned(), ok(&identity));
    }

    /// What doctor finds.
    async fn findings(self) -> Vec<Finding> {
        let mut findings = judge_settings(&self.variables);
        let deployment = Deployment {
            environment: Environment::Staging,
            coordinator: serve(self.coordinator).await,
            sync: serve(self.sync).await,
            webhook: serve(self.webhook).await,
            admin_token: self.token.to_owned(),
        };
        let (of_workers, seen) = look_at_workers(&deployment, None).await;
        findings.extend(of_workers);
        findings.extend(judge_database(&self.facts, seen.as_ref(), now()));
        findings
    }
}

/// Answers requests at an address of its own until the test ends.
async fn serve(worker: Worker) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // Without a worker the listener is dropped, and nobody answers at its address.
    if let Some(answers) = worker {
        let answers = Arc::new(answers);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&answers)));
            }
        });
    }
    url
}

async fn answer(mut stream: TcpStream, answers: Arc<Answers>) -> Option<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut piece = [0; 4096];
        let length = stream.read(&mut piece).await.ok().filter(|length| *length > 0)?;
        request.extend_from_slice(&piece[..length]);
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let path = request.split(' ').nth(1)?;
    let is_admin =
        request.lines().any(|line| line.eq_ignore_ascii_case(&format!("authorization: Bearer {TOKEN}")));
    let (status, body) = match answers.get(path) {
        Some(_) if path != "/health" && !is_admin => (401, "{}".to_owned()),
        Some(known) => known.clone(),
        None => (404, "{}".to_owned()),
    };
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.ok()
}

/// A fault: what it is, how it is planted, which check finds it, and words of the fix.
type Fault = (&'static str, fn(&mut World), &'static str, &'static str);

const FAULTS: &[Fault] = &[
    (
        "a secret is missing",
        |w| drop(w.variables.remove("INTERNAL_TOKEN")),
        "settings of sync worker",
        "wrangler secret put INTERNAL_TOKEN",
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
    ("a worker is not there", |w| w.webhook = None, "webhook handler", "./deploy.sh validate"),
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
        "wrangler secret put ADMIN_API_TOKEN",
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
    ("the database's clock is wrong", |w| w.facts.clock_seconds += 90, "postgres clock", "90 s away"),
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

fn shown(findings: &[Finding]) -> String {
    let lines: Vec<String> = findings
        .iter()
        .map(|finding| format!("{} {}: {}", finding.ok, finding.check, finding.says))
        .collect();
    lines.join("\n")
}

#[tokio::test]
async fn a_healthy_system_has_no_problem() {
    let findings = healthy().findings().await;
    assert!(findings.iter().all(|finding| finding.ok), "{}", shown(&findings));
    assert!(findings.len() >= 20, "{}", shown(&findings));
}

#[tokio::test]
async fn each_planted_fault_is_found_and_its_fix_named() {
    for (fault, plant, check, fix) in FAULTS {
        let mut world = healthy();
        plant(&mut world);
        let findings = world.findings().await;
        let problem = findings.iter().find(|finding| !finding.ok && finding.check == *check);
        let says = problem.map_or("", |problem| problem.says.as_str());
        assert!(says.contains(fix), "{fault}: {check} says {says:?} and not {fix:?}\n{}", shown(&findings));
    }
}

#[tokio::test]
async fn a_part_that_is_away_hides_no_other_part() {
    let mut world = healthy();
    world.coordinator = None;
    world.facts.migrations[0].applied = false;
    let findings = world.findings().await;
    let problems: Vec<&str> =
        findings.iter().filter(|finding| !finding.ok).map(|finding| finding.check.as_str()).collect();
    assert_eq!(
        problems,
        ["coordinator", "admin token (coordinator)", "accounts", "schema"],
        "{}",
        shown(&findings)
    );
}

#[test]
fn no_finding_tells_a_secret() {
    let mut world = healthy();
    for value in ["hunter2", "another-secret-value"] {
        for name in ["ADMIN_API_TOKEN", "TOKEN_ENCRYPTION_KEY", "DATABASE_URL", "KEAP_WEBHOOK_SECRET"] {
            world.set(name, value);
        }
        let said = shown(&judge_settings(&world.variables));
        assert!(!said.contains(value), "{said}");
    }
}
