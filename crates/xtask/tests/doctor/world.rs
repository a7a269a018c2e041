//! A whole deployment as doctor sees it: workers that answer over real HTTP what real ones do, settings, and a database as it was seen.

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

/// Stands in an answer for the time at which it is given: doctor compares that with its own clock, however late it asks.
const NOW: &str = "the time of the answer";

/// What the database's clock and this machine's showed when doctor asked the database.
const DATABASE_ASKED_AT: i64 = 1_700_000_000;

/// Answers by path: status and body.
pub(crate) type Answers = BTreeMap<String, (u16, String)>;

/// One worker as it answers; `None` is one that is not there.
pub(crate) type Worker = Option<Answers>;

/// A whole deployment as doctor sees it.
pub(crate) struct World {
    pub(crate) variables: Variables,
    pub(crate) coordinator: Worker,
    pub(crate) sync: Worker,
    pub(crate) webhook: Worker,
    pub(crate) token: &'static str,
    pub(crate) facts: DatabaseFacts,
}

pub(crate) fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

pub(crate) fn time(seconds: i64) -> String {
    keapsync_domain::timestamp::Timestamp(seconds * 1_000).to_rfc3339()
}

fn health(services: &[&str]) -> (u16, String) {
    let services: BTreeMap<&str, bool> = services.iter().map(|name| (*name, true)).collect();
    (200, json!({"status": "healthy", "timestamp": NOW, "services": services}).to_string())
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

pub(crate) fn healthy() -> World {
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
             ADMIN_API_TOKEN=admin-token-0123456789\nINTERNAL_TOKEN=internal-token-0123456789\nWAKE_TOKEN=wake-token-0123456789\n\
             DATABASE_URL=postgres://postgres.ref:p%40ss@aws-0.pooler.supabase.com:5432/postgres\n",
        )
        .unwrap(),
        coordinator: Some(Answers::from([
            ("/health".to_owned(), health(&bindings)),
            ("/accounts".to_owned(), ok(&accounts)),
            (STATUS.to_owned(), ok(&status())),
        ])),
        sync: Some(Answers::from([
            ("/health".to_owned(), health(&["SYNC_CACHE", "HYPERDRIVE", "COORDINATOR"])),
            ("/metrics".to_owned(), (200, "keapsync_database_up 1\n".to_owned())),
            ("/smoke/database".to_owned(), ok(&identity)),
        ])),
        webhook: Some(Answers::from([("/health".to_owned(), health(&["SYNC_CACHE", "COORDINATOR"]))])),
        token: TOKEN,
        facts: DatabaseFacts {
            version: "17.4".to_owned(),
            clock_seconds: DATABASE_ASKED_AT,
            own_clock_seconds: DATABASE_ASKED_AT,
            name: "postgres".to_owned(),
            server_started_us: "123".to_owned(),
            connections_max: 60,
            connections: 12,
            engine: Some(EngineRole { can_login: true, is_superuser: false, bypasses_row_security: false }),
            compiles: false,
            migrations,
        },
    }
}

impl World {
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    /// Changes the account's status.
    pub(crate) fn in_status(&mut self, pointer: &str, value: Value) {
        let answers = self.coordinator.as_mut().unwrap();
        let mut status: Value = serde_json::from_str(&answers[STATUS].1).unwrap();
        *status.pointer_mut(pointer).expect("the status has this") = value;
        answers.insert(STATUS.to_owned(), ok(&status));
    }

    /// Changes a worker's health.
    pub(crate) fn in_health(worker: &mut Worker, status: u16, change: impl FnOnce(&mut Value)) {
        let answers = worker.as_mut().unwrap();
        let mut body: Value = serde_json::from_str(&answers["/health"].1).unwrap();
        change(&mut body);
        answers.insert("/health".to_owned(), (status, body.to_string()));
    }

    pub(crate) fn in_identity(&mut self, name: &str, value: Value) {
        let answers = self.sync.as_mut().unwrap();
        let mut identity: Value = serde_json::from_str(&answers["/smoke/database"].1).unwrap();
        identity[name] = value;
        answers.insert("/smoke/database".to_owned(), ok(&identity));
    }

    /// The deployment, with its workers at addresses of their own.
    pub(crate) async fn deployment(&self) -> Deployment {
        Deployment {
            environment: Environment::Staging,
            coordinator: serve(self.coordinator.clone()).await,
            sync: serve(self.sync.clone()).await,
            webhook: serve(self.webhook.clone()).await,
            admin_token: self.token.to_owned(),
        }
    }

    /// What doctor finds.
    pub(crate) async fn findings(self) -> Vec<Finding> {
        let mut findings = judge_settings(&self.variables);
        let deployment = self.deployment().await;
        let (of_workers, seen) = look_at_workers(&deployment, None).await;
        findings.extend(of_workers);
        findings.extend(judge_database(&self.facts, seen.as_ref()));
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
    let body = body.replace(NOW, &time(now()));
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.ok()
}
