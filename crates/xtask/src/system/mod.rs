//! A whole keapsync system on this machine: Postgres, the Keap simulator and the three workers on workerd, and for tests a
//! pooler between Postgres and the workers.
//!
//! `cargo xtask dev` runs one on the documented ports; tests and benchmarks start their own on free ports. Two systems never
//! see each other: ports, storage, worker registry and secrets belong to a state directory.
//!
//! # Invariants
//! - [`System::start`] returns a system whose every part answers, or an error with the end of the log of the part that did
//!   not, and then nothing of it is left running.
//! - With [`Lifetime::WithParent`] nothing outlives the process that called `start`.
//!
//! It connects no account and starts no sync: that is the caller's first step.

mod health;
mod options;
mod parts;
mod record;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::artifacts::{self, Artifacts};
use crate::database;
use crate::migrate;
use crate::pooler::{Login, Pooler};
use crate::ports::PortNumbers;
use crate::postgres::{self, EmbeddedPostgres};
use crate::process::Service;
use crate::progress::say;
use crate::secrets::Secrets;
use crate::worker_build::Worker;
use crate::workspace::Workspace;

pub use crate::ports::Ports;
pub use crate::process::Lifetime;
pub use options::{KeapSource, SystemOptions, WorkerRuntime};
pub use parts::DEV_ACCOUNT;
pub use record::{SystemRecord, Urls};

/// The part that is the database, in records and logs.
pub const POSTGRES_PART: &str = "postgres";

/// The part that is the pooler between the workers and Postgres, in records and logs.
pub const POOLER_PART: &str = "pooler";

/// The part that is the Keap simulator, in records and logs.
pub const KEAP_PART: &str = "keap-sim";

/// All workers where they run in one process, as a part of a system.
pub const WORKERS_PART: &str = "workers";

/// A running system.
#[derive(Debug)]
pub struct System {
    workspace: Workspace,
    artifacts: Artifacts,
    options: SystemOptions,
    state_dir: PathBuf,
    ports: PortNumbers,
    secrets: Secrets,
    urls: Urls,
    embedded: Option<EmbeddedPostgres>,
    pooler: Option<Pooler>,
    services: BTreeMap<String, Service>,
}

impl System {
    /// Builds what is missing, starts every part and waits until all of them answer.
    pub async fn start(options: SystemOptions) -> Result<Self> {
        let workspace = Workspace::discover()?;
        if options.pooler && options.database_url.is_some() {
            bail!("the pooler stands before the embedded Postgres only: leave out --pooler, or DATABASE_URL");
        }
        let artifacts = artifacts::ensure(&workspace, &options)?;
        let state_dir = workspace.root().join(&options.state_dir);
        if let Some(left_over) = SystemRecord::read(&state_dir)? {
            left_over.stop();
        }
        if options.fresh {
            wipe(&workspace, &state_dir)?;
        }
        let logs = state_dir.join("logs");
        std::fs::create_dir_all(&logs).with_context(|| format!("{} cannot be created", logs.display()))?;
        remove_old_logs(&logs)?;
        let ports = PortNumbers::choose(options.ports)?;
        check_ports(&ports, &options)?;
        let secrets = Secrets::of(&state_dir)?;
        let embedded = match &options.database_url {
            Some(_) => None,
            None => Some(EmbeddedPostgres::prepare(
                &workspace,
                &artifacts.node,
                &state_dir,
                ports.postgres,
                &secrets,
            )?),
        };
        let pooler = if options.pooler {
            let engine = Login { role: database::ENGINE, password: &secrets.postgres_engine_password };
            let console_password = &secrets.postgres_superuser_password;
            let (port, server_port) = (ports.pooler, ports.postgres);
            Some(Pooler::prepare(&workspace, &state_dir, port, server_port, &[engine], console_password)?)
        } else {
            None
        };
        let urls = Urls::of(&ports, &secrets, &options)?;
        let services = BTreeMap::new();
        let mut system = Self {
            workspace,
            artifacts,
            options,
            state_dir,
            ports,
            secrets,
            urls,
            embedded,
            pooler,
            services,
        };
        match system.start_parts().await {
            Ok(()) => Ok(system),
            Err(error) => {
                system.stop_services();
                Err(error)
            }
        }
    }

    /// Starts the first slow part, works on the database while it comes up, and then goes on with the others.
    async fn start_parts(&mut self) -> Result<()> {
        say("Starting Postgres, the Keap simulator and three workers");
        if self.options.keap.is_simulated() {
            self.launch_keap()?;
        }
        let [first, others @ ..] = Worker::ALL;
        let in_one = self.options.runtime == WorkerRuntime::OneWorkerd;
        if in_one {
            self.launch_all_workers()?;
        } else {
            self.launch_worker(first)?;
        }
        self.record()?;
        if self.embedded.is_some() {
            self.start_postgres().await?;
        }
        if self.pooler.is_some() {
            self.start_pooler().await?;
        }
        self.prepare_database().await?;
        // One at a time: they share the storage of KV, and two that open it at the same moment end with SQLITE_BUSY.
        self.wait_until_worker_runs(first).await?;
        for worker in others.into_iter().filter(|_| !in_one) {
            self.launch_worker(worker)?;
            self.record()?;
            self.wait_until_worker_runs(worker).await?;
        }
        if self.options.keap.is_simulated() {
            self.wait_for_keap().await?;
        }
        for worker in Worker::ALL {
            self.wait_for_worker(worker).await?;
        }
        Ok(())
    }

    async fn prepare_database(&self) -> Result<()> {
        if let Some(embedded) = &self.embedded {
            let server = embedded.superuser_url("postgres");
            let database = embedded.superuser_url(database::DATABASE);
            database::prepare_embedded(&server, &database, &self.secrets).await?;
        } else {
            database::prepare_external(&self.urls.database).await?;
        }
        let applied = migrate::up(&self.workspace, &self.urls.database, None).await?;
        if !applied.is_empty() {
            say(format!("Applied {} migrations", applied.len()));
        }
        database::set_engine_password(&self.urls.database, &self.secrets).await
    }

    /// Where the parts answer.
    #[must_use]
    pub fn urls(&self) -> &Urls {
        &self.urls
    }

    /// The system's secrets.
    #[must_use]
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// The directory of the parts' logs, one file each.
    #[must_use]
    pub fn logs_dir(&self) -> PathBuf {
        self.state_dir.join("logs")
    }

    /// The directory that all of the system's own files are in.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// The URL of a superuser, on an embedded server.
    #[must_use]
    pub fn superuser_database_url(&self) -> Option<String> {
        self.embedded.as_ref().map(|embedded| embedded.superuser_url(database::DATABASE))
    }

    /// Process groups of the parts that run, by name.
    #[must_use]
    pub fn process_groups(&self) -> BTreeMap<String, i32> {
        self.services.iter().map(|(name, service)| (name.clone(), service.record().pid)).collect()
    }

    /// Fires a cron expression of the sync worker, which `wrangler dev` never does by itself.
    pub async fn fire_cron(&self, cron: &str) -> Result<()> {
        crate::supervise::fire_cron(&self.urls.sync, cron).await
    }

    /// Stops every part and waits until nothing of them is left.
    // Awaiting nothing today, it is part of an asynchronous interface that callers already await.
    #[expect(clippy::unused_async, reason = "stopping is awaited like every other step of a system's life")]
    pub async fn stop(&mut self) -> Result<()> {
        self.stop_services();
        SystemRecord::remove(&self.state_dir)?;
        if self.options.wipe_data_on_stop && self.embedded.is_some() {
            postgres::wipe(&self.workspace, &self.state_dir)?;
        }
        Ok(())
    }

    fn stop_services(&mut self) {
        // Workers first: they complain at length about a database that goes away under them.
        let database = [POOLER_PART, POSTGRES_PART].map(|part| self.services.remove(part));
        let others: Vec<Service> = std::mem::take(&mut self.services).into_values().collect();
        std::thread::scope(|scope| {
            for service in others {
                scope.spawn(|| service.stop());
            }
        });
        for service in database.into_iter().flatten() {
            service.stop();
        }
    }

    /// Writes down what runs, for `status`, `down` and the next start.
    fn record(&self) -> Result<()> {
        let parts = self.services.values().map(|service| service.record().clone()).collect();
        let record = SystemRecord {
            urls: self.urls.clone(),
            ports: self.ports,
            keap_is_simulated: self.options.keap.is_simulated(),
            parts,
        };
        record.write(&self.state_dir)
    }
}

/// Deletes a stopped system's data: objects, database and worker registry. Its secrets stay.
pub fn wipe(workspace: &Workspace, state_dir: &Path) -> Result<()> {
    postgres::wipe(workspace, state_dir)?;
    for directory in [crate::wrangler_dev::objects_dir(state_dir), state_dir.join("registry")] {
        if directory.exists() {
            std::fs::remove_dir_all(&directory)
                .with_context(|| format!("{} cannot be removed", directory.display()))?;
        }
    }
    Ok(())
}

/// A log that goes on from an earlier system would show that system's errors as this one's.
fn remove_old_logs(logs: &Path) -> Result<()> {
    let entries = std::fs::read_dir(logs).with_context(|| format!("{} cannot be read", logs.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_file() {
            std::fs::remove_file(&path).with_context(|| format!("{} cannot be removed", path.display()))?;
        }
    }
    Ok(())
}

fn check_ports(ports: &PortNumbers, options: &SystemOptions) -> Result<()> {
    let needed = ports.named().into_iter().filter(|(name, _)| match *name {
        "postgres" => options.database_url.is_none(),
        "pooler" => options.pooler,
        "keap simulator" => options.keap.is_simulated(),
        _ => true,
    });
    let taken: Vec<String> = needed
        .filter(|(_, port)| !crate::ports::is_free(*port))
        .map(|(name, port)| format!("{port} ({name})"))
        .collect();
    if !taken.is_empty() {
        bail!(
            "these ports are taken by other programs: {}. Stop those (`ss -ltnp` names them), or run `cargo xtask down` in \
             the checkout whose system it is",
            taken.join(", ")
        );
    }
    Ok(())
}
