//! The tests that cargo runs: of the crates, of the store on a Postgres of its own, and end to end.

use std::path::Path;

use anyhow::{Context, Result};

use super::schema_round_trip;
use crate::node_tools;
use crate::ports::{PortNumbers, Ports};
use crate::postgres::{self, EmbeddedPostgres};
use crate::process::{Lifetime, Service};
use crate::secrets::Secrets;
use crate::subprocess::{cargo, run_shown};
use crate::workspace::Workspace;

/// Names a superuser's URL of the server that tests may use; set it to test on another version of Postgres.
const DATABASE_URL_VARIABLE: &str = "KEAPSYNC_TEST_DATABASE_URL";

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
pub(super) async fn store(workspace: &Workspace) -> Result<()> {
    let server = TestServer::start(workspace).await?;
    let outcome = run_shown(
        cargo()
            .args(["test", "--quiet", "--locked", "--package", STORE_PACKAGE])
            .env(DATABASE_URL_VARIABLE, &server.url)
            .current_dir(workspace.root()),
    );
    server.stop();
    outcome
}

/// Migrations up, down and up again.
pub(super) async fn schema(workspace: &Workspace) -> Result<()> {
    let server = TestServer::start(workspace).await?;
    let outcome = schema_round_trip::run(workspace, &server.url).await;
    server.stop();
    outcome
}

/// The end-to-end tests, which start their own system.
pub(super) fn end_to_end(workspace: &Workspace) -> Result<()> {
    run_shown(
        cargo()
            .args(["test", "--quiet", "--locked", "--package", END_TO_END_PACKAGE])
            .current_dir(workspace.root()),
    )
}

/// A Postgres for tests: the one that the environment names, or an embedded one.
struct TestServer {
    url: String,
    service: Option<Service>,
}

impl TestServer {
    async fn start(workspace: &Workspace) -> Result<Self> {
        if let Some(url) = std::env::var(DATABASE_URL_VARIABLE).ok().filter(|url| !url.is_empty()) {
            return Ok(Self { url, service: None });
        }
        let node = node_tools::ensure(workspace)?;
        let state_dir = workspace.root().join(".keapsync").join("test-postgres");
        std::fs::create_dir_all(&state_dir)
            .with_context(|| format!("{} cannot be created", state_dir.display()))?;
        // The data outlive the checkout, its secrets don't: what another checkout at this place left has another password.
        postgres::wipe(workspace, &state_dir)?;
        let port = PortNumbers::choose(Ports::Free)?.postgres;
        let secrets = Secrets::of(&state_dir)?;
        let embedded = EmbeddedPostgres::prepare(workspace, &node, &state_dir, port, &secrets)?;
        let service = embedded.start(&log_of(&state_dir), Lifetime::WithParent).await?;
        Ok(Self { url: embedded.superuser_url("postgres"), service: Some(service) })
    }

    fn stop(self) {
        if let Some(service) = self.service {
            service.stop();
        }
    }
}

fn log_of(state_dir: &Path) -> std::path::PathBuf {
    state_dir.join("postgres.log")
}
