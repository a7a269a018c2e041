//! `PgBouncer` in transaction mode: the nearest stand-in for Hyperdrive that runs on one machine.
//!
//! Like Hyperdrive it lends a server's connection for one transaction only and shares few of them among all clients, so
//! whatever relies on a session (a named statement, a setting, an advisory lock) fails here as it would in production.
//!
//! # Invariants
//! - Logins and passwords are in a file that only the user it runs as can read; nothing else of them is written down.
//! - It keeps no state: stopped and started again it serves as before.
//!
//! It does not cache answers and speaks no TLS, both of which Hyperdrive does.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::database;
use crate::debian;
use crate::private_file;
use crate::process::{Lifetime, Service, StopSignal};
use crate::subprocess::{find_program, output_of};
use crate::unprivileged::UnprivilegedUser;
use crate::workspace::Workspace;

/// Server connections per database and role. So few that the workers cannot help sharing them.
pub const SERVER_CONNECTIONS: u32 = 4;

/// Clients at a time: every invocation of a worker opens a connection or two of its own.
const CLIENTS_MAX: u32 = 500;

/// The login of the console, which shows figures and changes nothing.
const CONSOLE_USER: &str = "keapsync_pooler_figures";

/// The name that the console goes by among the databases.
const CONSOLE_DATABASE: &str = "pgbouncer";

/// Where Debian puts the program, which is on the path of root alone.
const DEBIAN_PROGRAM: &str = "/usr/sbin/pgbouncer";

/// How long it may take until it answers; it has nothing to load.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A role that may connect through the pooler.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    /// Its name.
    pub role: &'a str,
    /// Its password, to the pooler and to the server alike.
    pub password: &'a str,
}

/// A pooler that can be started: installed and configured.
#[derive(Debug, Clone)]
pub struct Pooler {
    program: PathBuf,
    configuration: PathBuf,
    user: Option<UnprivilegedUser>,
    console_url: String,
}

/// The program, installed where it is missing and we may.
pub fn ensure_installed() -> Result<PathBuf> {
    let installed = || {
        find_program("pgbouncer")
            .or_else(|| Some(PathBuf::from(DEBIAN_PROGRAM)).filter(|path| path.is_file()))
    };
    if let Some(program) = installed() {
        return Ok(program);
    }
    debian::install(&["pgbouncer"], "PgBouncer stands between the workers and Postgres, and it is missing")?;
    installed().context("the package pgbouncer is installed, but there is no program of that name")
}

impl Pooler {
    /// Writes what the pooler needs to know: it will listen on `port` and pass every database on to `server_port`, both on
    /// 127.0.0.1.
    pub fn prepare(
        workspace: &Workspace,
        state_dir: &Path,
        port: u16,
        server_port: u16,
        logins: &[Login<'_>],
        console_password: &str,
    ) -> Result<Self> {
        let program = ensure_installed()?;
        let user = UnprivilegedUser::for_servers()?;
        // Not in the checkout, which the user it runs as may be unable to reach.
        let directory = workspace.cache_dir_for("pooler", state_dir);
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("{} cannot be created", directory.display()))?;
        let logins_file = directory.join("logins.txt");
        let configuration = directory.join("pgbouncer.ini");
        let console = Login { role: CONSOLE_USER, password: console_password };
        private_file::write(&logins_file, login_lines(logins.iter().chain([&console]))?.as_bytes())?;
        let version = output_of(Command::new(&program).arg("--version"))?;
        let settings = settings(port, server_port, &logins_file, knows_prepared_statements(&version));
        private_file::write(&configuration, settings.as_bytes())?;
        if let Some(user) = user {
            for path in [&directory, &logins_file, &configuration] {
                user.own(path)?;
            }
        }
        Ok(Self { program, configuration, user, console_url: console_url(port, console_password) })
    }

    /// Starts the pooler and waits until it answers.
    pub async fn start(&self, name: &str, log: &Path, lifetime: Lifetime) -> Result<Service> {
        let mut command = Command::new(&self.program);
        command.arg(&self.configuration).current_dir("/");
        if let Some(user) = self.user {
            user.run(&mut command);
        }
        let mut service = Service::start(name, &mut command, log, lifetime, StopSignal::Terminate)?;
        let deadline = tokio::time::Instant::now() + START_LIMIT;
        loop {
            let Err(error) = console(&self.console_url).await else { return Ok(service) };
            if !service.is_running() || tokio::time::Instant::now() > deadline {
                bail!(
                    "PgBouncer did not start ({error:#}). Is its port taken? The end of {}:\n{}",
                    log.display(),
                    service.log_tail(15)
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The URL of the console, which only shows figures.
#[must_use]
pub fn console_url(port: u16, password: &str) -> String {
    format!("postgres://{CONSOLE_USER}:{password}@127.0.0.1:{port}/{CONSOLE_DATABASE}")
}

/// Opens the console, and knows by an answer that the pooler works.
pub async fn console(url: &str) -> Result<Client> {
    let client = database::connect(url).await?;
    client.simple_query("show version").await.context("PgBouncer's console does not answer")?;
    Ok(client)
}

/// One column of what the console shows, such as the `local_port` of `servers`.
pub async fn figures(console: &Client, subject: &str, column: &str) -> Result<Vec<String>> {
    let messages = console
        .simple_query(&format!("show {subject}"))
        .await
        .with_context(|| format!("PgBouncer shows no {subject}"))?;
    messages
        .iter()
        .filter_map(|message| if let SimpleQueryMessage::Row(row) = message { Some(row) } else { None })
        .map(|row| {
            let value =
                row.try_get(column).with_context(|| format!("PgBouncer's {subject} have no {column}"))?;
            Ok(value.unwrap_or_default().to_owned())
        })
        .collect()
}

/// One line for each login. Quotes would need doubling; our passwords have none.
fn login_lines<'a>(logins: impl Iterator<Item = &'a Login<'a>>) -> Result<String> {
    let mut lines = String::new();
    for Login { role, password } in logins {
        ensure!(
            !role.contains(['"', '\n']) && !password.contains(['"', '\n']),
            "the password of {role} holds a quotation mark: choose another one"
        );
        // Writing to a string cannot fail.
        let _infallible = writeln!(lines, "\"{role}\" \"{password}\"");
    }
    Ok(lines)
}

/// From 1.21 on `PgBouncer` can carry named statements over, which Hyperdrive does for some drivers only.
fn knows_prepared_statements(version: &str) -> bool {
    let number = version.split_whitespace().nth(1).unwrap_or_default();
    let mut parts = number.split('.').map(|part| part.parse::<u32>().unwrap_or_default());
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default()) >= (1, 21)
}

fn settings(port: u16, server_port: u16, logins_file: &Path, knows_prepared_statements: bool) -> String {
    let without_prepared_statements =
        if knows_prepared_statements { "max_prepared_statements = 0\n" } else { "" };
    // A reset query belongs to session pooling: in transaction mode clients leave nothing behind that it could clear.
    // After an outage of Postgres the next login is tried soon, because tests wait for it.
    format!(
        "[databases]\n\
         * = host=127.0.0.1 port={server_port}\n\
         \n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\n\
         listen_port = {port}\n\
         unix_socket_dir =\n\
         auth_type = scram-sha-256\n\
         auth_file = {}\n\
         stats_users = {CONSOLE_USER}\n\
         pool_mode = transaction\n\
         {without_prepared_statements}\
         default_pool_size = {SERVER_CONNECTIONS}\n\
         max_client_conn = {CLIENTS_MAX}\n\
         server_reset_query =\n\
         server_login_retry = 1\n\
         log_connections = 0\n\
         log_disconnections = 0\n\
         log_stats = 0\n",
        logins_file.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_carry_named_statements_are_told_not_to() {
        assert!(!knows_prepared_statements("PgBouncer 1.18.0\nlibevent 2.1.12-stable"));
        assert!(!knows_prepared_statements("PgBouncer 1.20.1"));
        assert!(knows_prepared_statements("PgBouncer 1.21.0"));
        assert!(knows_prepared_statements("PgBouncer 2.0.0"));
        let file = Path::new("/private/logins.txt");
        assert!(!settings(1, 2, file, false).contains("prepared"));
        assert!(settings(1, 2, file, true).contains("\nmax_prepared_statements = 0\n"));
    }

    #[test]
    fn settings_are_those_of_transaction_pooling() {
        let settings = settings(8902, 8901, Path::new("/private/logins.txt"), false);
        for line in [
            "* = host=127.0.0.1 port=8901",
            "listen_port = 8902",
            "auth_file = /private/logins.txt",
            "pool_mode = transaction",
            "server_reset_query =",
        ] {
            assert!(settings.lines().any(|found| found == line), "{line} is missing in\n{settings}");
        }
    }

    #[test]
    fn a_password_cannot_end_its_line() {
        let lines = |password| login_lines([Login { role: "engine", password }].iter());
        assert_eq!(lines("secret").unwrap(), "\"engine\" \"secret\"\n");
        assert!(lines("a\"b").is_err() && lines("a\nb").is_err());
    }
}
