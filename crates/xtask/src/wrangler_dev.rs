//! One worker under `wrangler dev`: its command line, its variables and its place in a system.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::node_tools::NodeTools;
use crate::private_file;
use crate::worker_build::Worker;

/// All that one worker's process needs to know.
#[derive(Debug, Clone)]
pub struct WorkerProcess<'a> {
    /// Which worker.
    pub worker: Worker,
    /// The checkout.
    pub root: &'a Path,
    /// The system's state directory: storage, registry and logs are in it.
    pub state_dir: &'a Path,
    /// Where the worker listens.
    pub port: u16,
    /// Where its debugger listens.
    pub inspector_port: u16,
    /// Variables and secrets.
    pub variables: &'a BTreeMap<String, String>,
    /// The database as the workers see it.
    pub engine_database_url: &'a str,
}

impl WorkerProcess<'_> {
    /// The command that runs the worker; writes its variables to a file that only the owner reads.
    pub fn command(&self, node: &NodeTools) -> Result<Command> {
        let name = self.worker.name();
        let env_file = self.state_dir.join(format!("{name}.env"));
        private_file::write(&env_file, env_file_content(self.variables).as_bytes())?;
        let mut command = node.wrangler_command();
        command
            .arg("dev")
            .args(["--config", &self.worker.config_file()])
            .args(["--ip", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--inspector-ip", "127.0.0.1", "--inspector-port", &self.inspector_port.to_string()])
            .arg("--persist-to")
            .arg(objects_dir(self.state_dir))
            .arg("--env-file")
            .arg(&env_file)
            .args(["--log-level", self.shown_level(), "--show-interactive-dev-session=false"])
            .current_dir(self.root)
            .env("KEAPSYNC_WORKERS_PREBUILT", "1")
            // A registry of its own: two systems on one machine must not find each other's workers.
            .env("WRANGLER_REGISTRY_PATH", self.state_dir.join("registry"))
            .env("WRANGLER_LOG_PATH", self.state_dir.join("logs"))
            .env("CLOUDFLARE_HYPERDRIVE_LOCAL_CONNECTION_STRING_HYPERDRIVE", self.engine_database_url);
        Ok(command)
    }

    /// From which level on `wrangler` shows anything. It shows a line of its own for each request together with what workers log as steps,
    /// which is too much for a load test: warnings and errors are shown, and everything where somebody asks for every step.
    fn shown_level(&self) -> &'static str {
        match self.variables.get("LOG_LEVEL").map(String::as_str) {
            Some("debug") => "log",
            _ => "warn",
        }
    }
}

/// Where the workers' objects and KV live.
#[must_use]
pub fn objects_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("objects")
}

/// Variables in the form of an env file: quoted, one a line.
#[must_use]
pub fn env_file_content(variables: &BTreeMap<String, String>) -> String {
    let mut content = String::new();
    for (name, value) in variables {
        // Single quotes keep everything but a single quote as it is; a value with one goes into double quotes.
        let quote = if value.contains('\'') { '"' } else { '\'' };
        // Writing to a string cannot fail.
        let _infallible = writeln!(content, "{name}={quote}{value}{quote}");
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_env_file_quotes_what_shells_would_read() {
        let variables = [("A", "plain"), ("B", "with $dollar and # hash"), ("C", "it's")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(env_file_content(&variables), "A='plain'\nB='with $dollar and # hash'\nC=\"it's\"\n");
    }
}
