//! What is written down of a running system, so that `status` and `down` find it.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{POOLER_PART, POSTGRES_PART, SystemOptions};
use crate::database;
use crate::pooler;
use crate::ports::PortNumbers;
use crate::private_file;
use crate::process::ProcessRecord;
use crate::secrets::Secrets;

/// Where the parts of a system answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Urls {
    /// The coordinator worker, without a slash at the end, as all of these.
    pub coordinator: String,
    /// The sync worker.
    pub sync: String,
    /// The webhook handler.
    pub webhook: String,
    /// The simulator itself; OAuth and the control API are under it.
    pub keap: String,
    /// The base of Keap's API, ending in `/crm`.
    pub keap_api: String,
    /// The database as its owner: a person, to the capture trigger.
    pub database: String,
    /// The database as the workers see it: through the pooler where there is one.
    pub engine_database: String,
    /// The pooler's console, which shows its figures.
    #[serde(default)]
    pub pooler_console: Option<String>,
}

impl Urls {
    /// The URLs of a system that is about to start.
    pub(super) fn of(ports: &PortNumbers, secrets: &Secrets, options: &SystemOptions) -> Result<Self> {
        let local = |port: u16| format!("http://127.0.0.1:{port}");
        let keap = local(ports.keap);
        let database = match &options.database_url {
            Some(url) => url.clone(),
            None => format!(
                "postgres://{}:{}@127.0.0.1:{}/{}",
                database::OWNER,
                secrets.postgres_owner_password,
                ports.postgres,
                database::DATABASE
            ),
        };
        let keap_api = options.keap.api_base_url().map_or_else(|| format!("{keap}/crm"), str::to_owned);
        let engine_database =
            database::url_as(&database, database::ENGINE, &secrets.postgres_engine_password)?;
        Ok(Self {
            coordinator: local(ports.coordinator),
            sync: local(ports.sync),
            webhook: local(ports.webhook),
            keap_api: keap_api.trim_end_matches('/').to_owned(),
            keap,
            engine_database: if options.pooler {
                database::at_port(&engine_database, ports.pooler)?
            } else {
                engine_database
            },
            pooler_console: options
                .pooler
                .then(|| pooler::console_url(ports.pooler, &secrets.postgres_superuser_password)),
            database,
        })
    }
}

/// A running system as a later process finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemRecord {
    /// Where its parts answer.
    pub urls: Urls,
    /// Its ports.
    pub ports: PortNumbers,
    /// Whether the Keap it mirrors is the simulator.
    pub keap_is_simulated: bool,
    /// Its processes.
    pub parts: Vec<ProcessRecord>,
}

impl SystemRecord {
    /// The record in a state directory, if there is one.
    pub fn read(state_dir: &Path) -> Result<Option<Self>> {
        private_file::read_json(&path(state_dir))
    }

    /// Writes the record.
    pub fn write(&self, state_dir: &Path) -> Result<()> {
        private_file::write_json(&path(state_dir), self)
    }

    /// Adds a process to the record of a running system.
    pub fn add_part(state_dir: &Path, part: ProcessRecord) -> Result<()> {
        let mut record = Self::read(state_dir)?.context("no system is recorded here")?;
        record.parts.push(part);
        record.write(state_dir)
    }

    /// Removes the record of a system that is gone.
    pub fn remove(state_dir: &Path) -> Result<()> {
        let path = path(state_dir);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("{} cannot be removed", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Stops every recorded process; Postgres and the pooler before it last, because the others complain about a database
    /// that goes away.
    pub fn stop(&self) {
        let (database, others): (Vec<_>, Vec<_>) =
            self.parts.iter().partition(|part| [POSTGRES_PART, POOLER_PART].contains(&part.name.as_str()));
        for group in [others, database] {
            std::thread::scope(|scope| {
                for part in group {
                    scope.spawn(|| part.stop());
                }
            });
        }
    }

    /// A part by its name.
    #[must_use]
    pub fn part(&self, name: &str) -> Option<&ProcessRecord> {
        self.parts.iter().find(|part| part.name == name)
    }
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("system.json")
}
