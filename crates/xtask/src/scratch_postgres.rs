//! A Postgres server that lives as long as one command: for tests, for reading the schema, for measuring the database.
//!
//! # Invariants
//! - It starts from nothing: what an earlier command left at its place is gone.
//! - A database that it makes belongs to a role without superuser rights and went through the migrations, as on Supabase.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use tokio_postgres::Client;

use crate::database;
use crate::migrate;
use crate::node_tools;
use crate::ports::{PortNumbers, Ports};
use crate::postgres::{self, EmbeddedPostgres};
use crate::process::{Lifetime, Service};
use crate::secrets::Secrets;
use crate::workspace::Workspace;

/// Names a superuser's URL of the server that tests may use; set it to test on another version of Postgres.
pub const DATABASE_URL_VARIABLE: &str = "KEAPSYNC_TEST_DATABASE_URL";

/// The role that owns the databases made here.
pub const OWNER: &str = "keapsync_scratch_owner";

/// The password of the owner and the engine, on a server that listens on this machine for as long as a command runs.
const PASSWORD: &str = "keapsync-test";

/// A server of one's own.
#[derive(Debug)]
pub struct ScratchPostgres {
    /// The superuser's URL of the database `postgres`.
    pub url: String,
    service: Option<Service>,
}

/// A database on such a server.
#[derive(Debug, Clone)]
pub struct MigratedDatabase {
    /// As a superuser.
    pub superuser_url: String,
    /// As its owner: a person, to the capture trigger.
    pub owner_url: String,
    /// As the workers.
    pub engine_url: String,
}

impl ScratchPostgres {
    /// The server that the environment names, or an embedded one whose files are kept under `name`.
    pub async fn start(workspace: &Workspace, name: &str) -> Result<Self> {
        match std::env::var(DATABASE_URL_VARIABLE).ok().filter(|url| !url.is_empty()) {
            Some(url) => Ok(Self { url, service: None }),
            None => Self::start_embedded(workspace, name).await,
        }
    }

    /// An embedded server in any case, with the settings that every local system has.
    pub async fn start_embedded(workspace: &Workspace, name: &str) -> Result<Self> {
        let node = node_tools::ensure(workspace)?;
        let state_dir = state_dir(workspace, name)?;
        // The data outlive the checkout, its secrets don't: what another checkout at this place left has another password.
        postgres::wipe(workspace, &state_dir)?;
        let port = PortNumbers::choose(Ports::Free)?.postgres;
        let secrets = Secrets::of(&state_dir)?;
        let embedded = EmbeddedPostgres::prepare(workspace, &node, &state_dir, port, &secrets)?;
        let service = embedded.start(&state_dir.join("postgres.log"), Lifetime::WithParent).await?;
        Ok(Self { url: embedded.superuser_url("postgres"), service: Some(service) })
    }

    /// The server's process group, where it is ours.
    #[must_use]
    pub fn process_group(&self) -> Option<i32> {
        self.service.as_ref().map(|service| service.record().pid)
    }

    /// A server that somebody else started and ends.
    #[must_use]
    pub fn of(url: &str) -> Self {
        Self { url: url.to_owned(), service: None }
    }

    /// Makes a database and applies all migrations to it. One of the same name is replaced.
    pub async fn migrated_database(&self, workspace: &Workspace, name: &str) -> Result<MigratedDatabase> {
        let made = self.empty_database(name).await?;
        migrate::up(workspace, &made.owner_url, None).await?;
        let superuser = database::connect(&made.superuser_url).await?;
        superuser.batch_execute(&format!("alter role {} password '{PASSWORD}'", database::ENGINE)).await?;
        Ok(made)
    }

    /// Makes a database as a new project has it, without any migration. One of the same name is replaced. The engine can log in once
    /// it exists on the server.
    pub async fn empty_database(&self, name: &str) -> Result<MigratedDatabase> {
        let server = database::connect(&self.url).await?;
        ensure_role(&server).await?;
        server.batch_execute(&format!("drop database if exists {name} with (force)")).await?;
        server.batch_execute(&format!("create database {name} owner {OWNER}")).await?;
        let superuser_url = database::in_database(&self.url, name)?;
        let superuser = database::connect(&superuser_url).await?;
        superuser.batch_execute(database::SUPABASE_SHIM).await?;
        superuser
            .batch_execute(&format!(
                "grant usage on schema auth to {OWNER};
                 grant references, select on auth.users to {OWNER};
                 alter publication supabase_realtime owner to {OWNER}"
            ))
            .await?;
        let owner_url = database::url_as(&superuser_url, OWNER, PASSWORD)?;
        let engine_url = database::url_as(&superuser_url, database::ENGINE, PASSWORD)?;
        Ok(MigratedDatabase { superuser_url, owner_url, engine_url })
    }

    /// Drops a database again; on a server of somebody else's it would stay otherwise.
    pub async fn drop_database(&self, name: &str) -> Result<()> {
        let server = database::connect(&self.url).await?;
        server
            .batch_execute(&format!("drop database if exists {name} with (force)"))
            .await
            .with_context(|| format!("the database {name} stays behind"))
    }

    /// Stops the server, unless it is somebody else's.
    pub fn stop(self) {
        if let Some(service) = self.service {
            service.stop();
        }
    }
}

async fn ensure_role(server: &Client) -> Result<()> {
    if server.query_opt("select from pg_roles where rolname = $1", &[&OWNER]).await?.is_none() {
        server.batch_execute(&format!("create role {OWNER} login createrole nosuperuser")).await?;
    }
    server.batch_execute(&format!("alter role {OWNER} password '{PASSWORD}'")).await.map_err(Into::into)
}

/// Where logs and secrets of a server go.
pub fn state_dir(workspace: &Workspace, name: &str) -> Result<PathBuf> {
    let state_dir = workspace.root().join(".keapsync").join(name);
    std::fs::create_dir_all(&state_dir)
        .with_context(|| format!("{} cannot be created", state_dir.display()))?;
    Ok(state_dir)
}
