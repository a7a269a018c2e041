//! Debian's Postgres 15 with `pg_cron`: the oldest version that is supported, and an extension that the embedded server lacks.
//!
//! # Invariants
//! - It starts from nothing each time, and ends with the process that started it.
//! - It listens on 127.0.0.1 with a password of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::database;
use crate::debian;
use crate::ports::{PortNumbers, Ports};
use crate::private_file;
use crate::process::{Lifetime, Service, StopSignal};
use crate::scratch_postgres::state_dir;
use crate::secrets::Secrets;
use crate::subprocess::output_of;
use crate::unprivileged::UnprivilegedUser;
use crate::workspace::Workspace;

/// Where Debian puts the server's programs and libraries.
const PREFIX: &str = "/usr/lib/postgresql/15";

/// The packages that bring them.
const PACKAGES: [&str; 2] = ["postgresql-15", "postgresql-15-cron"];

/// What the server's files are kept under.
const NAME: &str = "test-postgres-15";

/// The name of the superuser.
const SUPERUSER: &str = "postgres";

/// How long it may take until it answers; its data are new, so that there is nothing to recover.
const START_LIMIT: Duration = Duration::from_mins(1);

/// A running server.
pub(super) struct Postgres15 {
    /// The superuser's URL of the database `postgres`.
    pub url: String,
    service: Service,
}

impl Postgres15 {
    /// Installs what is missing, and starts a server whose `pg_cron` works in one database.
    pub(super) async fn start(workspace: &Workspace, cron_database: &str) -> Result<Self> {
        ensure_installed()?;
        let state_dir = state_dir(workspace, NAME)?;
        let password = Secrets::of(&state_dir)?.postgres_superuser_password;
        let user = UnprivilegedUser::for_servers()?;
        let parent = workspace.cache_dir_for("postgres-15-data", &state_dir);
        let data = initialise(&parent, &password, user)?;

        let port = PortNumbers::choose(Ports::Free)?.postgres;
        let mut command = server_command("postgres", user);
        command.arg("-D").arg(&data).args(["-p", &port.to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1".to_owned(),
            "unix_socket_directories=".to_owned(),
            "wal_level=logical".to_owned(),
            "shared_preload_libraries=pg_cron".to_owned(),
            format!("cron.database_name={cron_database}"),
        ] {
            command.args(["-c", &setting]);
        }
        let log = state_dir.join("postgres.log");
        let mut service =
            Service::start("postgres 15", &mut command, &log, Lifetime::WithParent, StopSignal::Interrupt)?;
        let url = format!("postgres://{SUPERUSER}:{password}@127.0.0.1:{port}/postgres");
        let deadline = tokio::time::Instant::now() + START_LIMIT;
        while let Err(error) = database::connect(&url).await {
            if !service.is_running() || tokio::time::Instant::now() > deadline {
                bail!(
                    "Postgres 15 did not start on port {port} ({error:#}). The end of {}:\n{}",
                    log.display(),
                    service.log_tail(15)
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(Self { url, service })
    }

    /// Where the programs are that came with it, `pg_dump` among them.
    pub(super) fn programs() -> PathBuf {
        Path::new(PREFIX).join("bin")
    }

    /// Ends it.
    pub(super) fn stop(self) {
        self.service.stop();
    }
}

fn ensure_installed() -> Result<()> {
    let missing = || {
        ["bin/postgres", "bin/initdb", "lib/pg_cron.so"]
            .into_iter()
            .map(|file| Path::new(PREFIX).join(file))
            .find(|file| !file.is_file())
    };
    let Some(file) = missing() else { return Ok(()) };
    debian::install(
        &PACKAGES,
        &format!("the schema is tested on Postgres 15 with pg_cron, and {} is missing", file.display()),
    )?;
    match missing() {
        Some(file) => bail!("the packages {} are installed, but not {}", PACKAGES.join(" "), file.display()),
        None => Ok(()),
    }
}

/// Makes new data in the place of old ones, and answers where.
fn initialise(parent: &Path, password: &str, user: Option<UnprivilegedUser>) -> Result<PathBuf> {
    if parent.exists() {
        std::fs::remove_dir_all(parent).with_context(|| format!("{} cannot be removed", parent.display()))?;
    }
    std::fs::create_dir_all(parent).with_context(|| format!("{} cannot be created", parent.display()))?;
    let password_file = parent.join("superuser-password");
    private_file::write(&password_file, password.as_bytes())?;
    if let Some(user) = user {
        user.own(parent)?;
        user.own(&password_file)?;
    }
    let data = parent.join("data");
    output_of(
        server_command("initdb", user).arg("-D").arg(&data).arg("--pwfile").arg(&password_file).args([
            "--username",
            SUPERUSER,
            "--auth",
            "scram-sha-256",
            "--encoding",
            "UTF8",
            "--locale",
            "C",
            "--no-sync",
        ]),
    )
    .with_context(|| {
        format!(
            "the data directory cannot be made; can an unprivileged user reach {}? If not, set KEAPSYNC_CACHE_DIR",
            parent.display()
        )
    })?;
    std::fs::remove_file(&password_file).context("the password file cannot be removed")?;
    Ok(data)
}

fn server_command(program: &str, user: Option<UnprivilegedUser>) -> Command {
    let mut command = Command::new(Path::new(PREFIX).join("bin").join(program));
    // Postgres complains about a working directory that its user cannot read.
    command.current_dir("/").env("LC_ALL", "C").env_remove("PGDATA");
    if let Some(user) = user {
        user.run(&mut command);
    }
    command
}
