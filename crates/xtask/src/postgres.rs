//! The embedded Postgres: a real server from a package, with its data in the cache.
//!
//! It listens on 127.0.0.1 with passwords and keeps Postgres' own guarantees (nothing is turned off for speed), so that
//! what is measured against it means something. Postgres refuses to run as root: root starts it as another user, from a
//! copy that this user can read.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::database;
use crate::node_tools::NodeTools;
use crate::process::{Lifetime, Service, StopSignal};
use crate::progress::{Step, say};
use crate::secrets::Secrets;
use crate::subprocess::{output_of, run_shown};
use crate::unprivileged::UnprivilegedUser;
use crate::workspace::Workspace;

/// The superuser of an embedded server.
pub const SUPERUSER: &str = "postgres";

/// How long a server may take until it answers; recovery after a crash is the slow case.
const START_LIMIT: Duration = Duration::from_mins(1);

/// Settings of the server. Three workers with several connections each, a pooler and tests need more than 100.
const SETTINGS: [&str; 7] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=200",
    "shared_buffers=256MB",
    "max_wal_size=2GB",
    "wal_level=logical",
    "log_line_prefix=%m [%p] %u@%d ",
];

/// An embedded server that can be started: installed, with a data directory.
#[derive(Debug, Clone)]
pub struct EmbeddedPostgres {
    binaries: PathBuf,
    data: PathBuf,
    user: Option<UnprivilegedUser>,
    port: u16,
    superuser_password: String,
}

impl EmbeddedPostgres {
    /// Installs the server where it can be read and makes the data directory, as far as that is not done.
    pub fn prepare(
        workspace: &Workspace,
        node: &NodeTools,
        state_dir: &Path,
        port: u16,
        secrets: &Secrets,
    ) -> Result<Self> {
        let user = UnprivilegedUser::for_servers()?;
        let binaries = readable_binaries(workspace, node, user)?;
        let data = data_dir(workspace, state_dir);
        let prepared = Self {
            binaries,
            data,
            user,
            port,
            superuser_password: secrets.postgres_superuser_password.clone(),
        };
        prepared.initialise()?;
        Ok(prepared)
    }

    /// The superuser's URL of one of the server's databases.
    #[must_use]
    pub fn superuser_url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}:{}@127.0.0.1:{}/{database}", self.superuser_password, self.port)
    }

    /// Starts the server and waits until it answers.
    pub async fn start(&self, log: &Path, lifetime: Lifetime) -> Result<Service> {
        let mut command = self.command("postgres");
        command.arg("-D").arg(&self.data).args(["-p", &self.port.to_string()]);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        let mut service = Service::start("postgres", &mut command, log, lifetime, StopSignal::Interrupt)?;
        let url = self.superuser_url("postgres");
        let deadline = tokio::time::Instant::now() + START_LIMIT;
        loop {
            let Err(error) = database::connect(&url).await else { return Ok(service) };
            if !service.is_running() || tokio::time::Instant::now() > deadline {
                bail!(
                    "Postgres did not start on port {} ({error:#}). Is the port taken? The end of {}:\n{}",
                    self.port,
                    log.display(),
                    service.log_tail(15)
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn initialise(&self) -> Result<()> {
        if self.data.join("PG_VERSION").is_file() {
            return Ok(());
        }
        let step = Step::start("Creating the embedded Postgres' data directory");
        let parent = self.data.parent().context("the data directory has no parent")?;
        if parent.exists() {
            std::fs::remove_dir_all(parent)
                .with_context(|| format!("{} cannot be removed", parent.display()))?;
        }
        std::fs::create_dir_all(parent).with_context(|| format!("{} cannot be created", parent.display()))?;
        let password_file = parent.join("superuser-password");
        crate::private_file::write(&password_file, self.superuser_password.as_bytes())?;
        if let Some(user) = self.user {
            user.own(parent)?;
            user.own(&password_file)?;
        }
        let mut command = self.command("initdb");
        command
            .arg("-D")
            .arg(&self.data)
            .arg("--pwfile")
            .arg(&password_file)
            .args(["--username", SUPERUSER, "--auth", "scram-sha-256", "--encoding", "UTF8", "--no-sync"])
            .args(["--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C"]);
        output_of(&mut command).with_context(|| {
            format!(
                "the data directory cannot be made; can an unprivileged user reach {}? If not, set KEAPSYNC_CACHE_DIR",
                parent.display()
            )
        })?;
        std::fs::remove_file(&password_file).context("the password file cannot be removed")?;
        step.done();
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.join("bin").join(program));
        // Postgres complains about a working directory that its user cannot read.
        command.current_dir("/").env("LC_ALL", "C").env_remove("PGDATA");
        if let Some(user) = self.user {
            user.run(&mut command);
        }
        command
    }
}

/// Where a state directory's data are.
fn data_dir(workspace: &Workspace, state_dir: &Path) -> PathBuf {
    workspace.cache_dir_for("postgres-data", state_dir).join("data")
}

/// Deletes a state directory's data.
pub fn wipe(workspace: &Workspace, state_dir: &Path) -> Result<()> {
    let data = data_dir(workspace, state_dir);
    let parent = data.parent().unwrap_or(&data);
    if parent.exists() {
        std::fs::remove_dir_all(parent).with_context(|| format!("{} cannot be removed", parent.display()))?;
    }
    Ok(())
}

/// The server's programs at a place that its user can read: the package itself, or for root a copy in the cache.
fn readable_binaries(
    workspace: &Workspace,
    node: &NodeTools,
    user: Option<UnprivilegedUser>,
) -> Result<PathBuf> {
    let (package, version) = node.embedded_postgres()?;
    if user.is_none() {
        return Ok(package);
    }
    let copy = workspace.cache_dir().join("postgres").join(version);
    if copy.join("bin/postgres").is_file() {
        return Ok(copy);
    }
    say(format!("Copying Postgres to {}, where the user it runs as can read it", copy.display()));
    let scratch = copy.with_extension(format!("{}.new", std::process::id()));
    std::fs::create_dir_all(&scratch).with_context(|| format!("{} cannot be created", scratch.display()))?;
    run_shown(Command::new("cp").arg("-a").arg(package.join(".")).arg(&scratch))?;
    if let Err(error) = std::fs::rename(&scratch, &copy) {
        // Another process was faster; its copy serves as well.
        std::fs::remove_dir_all(&scratch).context("a second copy of Postgres cannot be removed")?;
        if !copy.join("bin/postgres").is_file() {
            return Err(error).with_context(|| format!("{} cannot be put in place", copy.display()));
        }
    }
    Ok(copy)
}
