//! The tests that cargo runs: of the crates, of the store on a Postgres of its own, and end to end.

use anyhow::{Context, Result, ensure};

use super::Extent;
use super::postgres_15::Postgres15;
use super::{restore_drill, schema_round_trip};
use crate::pooler::{Login, Pooler};
use crate::ports::{PortNumbers, Ports};
use crate::process::{Lifetime, Service};
use crate::schema_docs;
use crate::scratch_postgres::{DATABASE_URL_VARIABLE, ScratchPostgres, state_dir};
use crate::subprocess::{cargo, run_shown};
use crate::worker_build::QUICK_VARIABLE as QUICK_WORKERS_VARIABLE;
use crate::workspace::Workspace;

/// Names the engine's URL of a pooler in transaction mode before that server; the name of the database is put in.
const POOLER_URL_VARIABLE: &str = "KEAPSYNC_TEST_POOLER_URL";

/// How many random states both merges are given, and for how long many connections edit at once.
const STATES_VARIABLE: &str = "KEAPSYNC_MERGE_STATES";
const CONTENTION_VARIABLE: &str = "KEAPSYNC_CONTENTION_SECONDS";

/// Set, the end-to-end tests do the main job and no more.
const MAIN_JOB_VARIABLE: &str = "KEAPSYNC_E2E_MAIN_JOB";

/// The workers' role, and the password that the store's tests give it.
const ENGINE: Login<'static> = Login { role: crate::database::ENGINE, password: "keapsync-test" };

/// What the files of the server for tests are kept under.
const SERVER_NAME: &str = "test-postgres";

/// The package whose tests need a Postgres.
const STORE_PACKAGE: &str = "keapsync-store";

/// The package whose tests need a whole system.
const END_TO_END_PACKAGE: &str = "keapsync-e2e";

/// All crates' tests that need no server.
pub(super) fn unit(workspace: &Workspace) -> Result<()> {
    let arguments = ["test", "--quiet", "--locked", "--workspace"];
    run_shown(
        cargo()
            .args(arguments)
            .args(["--exclude", STORE_PACKAGE, "--exclude", END_TO_END_PACKAGE])
            .current_dir(workspace.root()),
    )
}

/// The store's tests, unit tests included.
pub(super) async fn store(workspace: &Workspace, extent: Extent) -> Result<()> {
    let server = ScratchPostgres::start(workspace, SERVER_NAME).await?;
    let outcome = match TestPooler::start(workspace, &server.url).await {
        Ok(pooler) => {
            let outcome = run_shown(
                cargo()
                    .args(["test", "--quiet", "--locked", "--package", STORE_PACKAGE])
                    .env(DATABASE_URL_VARIABLE, &server.url)
                    .env(POOLER_URL_VARIABLE, &pooler.url)
                    .env(STATES_VARIABLE, extent.states.to_string())
                    .env(CONTENTION_VARIABLE, extent.contention_seconds.to_string())
                    .current_dir(workspace.root()),
            );
            pooler.service.stop();
            outcome
        }
        Err(error) => Err(error),
    };
    server.stop();
    outcome
}

/// Migrations up, down and up again, on the oldest version and on the newest; the runbook's backup and restore; and the documents that
/// describe the schema.
pub(super) async fn schema(workspace: &Workspace) -> Result<()> {
    let oldest = Postgres15::start(workspace, schema_round_trip::DATABASE).await?;
    let outcome = match schema_round_trip::run(workspace, &oldest.url).await {
        Ok(()) => {
            let server = ScratchPostgres::of(&oldest.url);
            restore_drill::run(workspace, &server, &Postgres15::programs()).await
        }
        Err(error) => Err(error),
    };
    oldest.stop();
    outcome?;
    let server = ScratchPostgres::start(workspace, SERVER_NAME).await?;
    let outcome = match schema_round_trip::run(workspace, &server.url).await {
        Ok(()) => schema_docs::check(workspace, &server).await,
        Err(error) => Err(error),
    };
    server.stop();
    outcome
}

/// The end-to-end tests, which start their own system.
pub(super) fn end_to_end(workspace: &Workspace, extent: Extent) -> Result<()> {
    let mut command = cargo();
    command.args(["test", "--quiet", "--locked", "--package", END_TO_END_PACKAGE]);
    if extent.main_job_only {
        command.env(MAIN_JOB_VARIABLE, "1").env(QUICK_WORKERS_VARIABLE, "1");
    }
    run_shown(command.current_dir(workspace.root()))
}

/// A pooler before the server under test, for the connections of the engine.
struct TestPooler {
    url: String,
    service: Service,
}

impl TestPooler {
    async fn start(workspace: &Workspace, server_url: &str) -> Result<Self> {
        let server: reqwest::Url = server_url.parse().context("the test server's URL cannot be read")?;
        let host = server.host_str().unwrap_or_default();
        ensure!(
            matches!(host, "127.0.0.1" | "localhost"),
            "{DATABASE_URL_VARIABLE} names the host {host}: use a server on 127.0.0.1, where the pooler is put before it"
        );
        let state_dir = state_dir(workspace, SERVER_NAME)?;
        let port = PortNumbers::choose(Ports::Free)?.pooler;
        let server_port = server.port().unwrap_or(5432);
        let pooler = Pooler::prepare(workspace, &state_dir, port, server_port, &[ENGINE], ENGINE.password)?;
        let service = pooler.start("pooler", &state_dir.join("pooler.log"), Lifetime::WithParent).await?;
        let url = format!("postgres://{}:{}@127.0.0.1:{port}/", ENGINE.role, ENGINE.password);
        Ok(Self { url, service })
    }
}
