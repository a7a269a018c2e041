//! What a system is started with.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Lifetime, Ports};
use crate::worker_build::{Recipe, Worker};

/// Which Keap the workers talk to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum KeapSource {
    /// The simulator, directly.
    #[default]
    Simulator,
    /// The simulator for OAuth, and another address (a proxy in front of it) for the API.
    SimulatorBehind {
        /// The API's base, ending in `/crm`.
        api_base_url: String,
    },
    /// A real Keap, whose OAuth application is in `KEAP_CLIENT_ID` and `KEAP_CLIENT_SECRET`.
    Real {
        /// The API's base, ending in `/crm`.
        api_base_url: String,
        /// The application's id.
        client_id: String,
        /// The application's secret.
        client_secret: String,
    },
}

impl KeapSource {
    /// Whether the simulator is part of the system.
    #[must_use]
    pub fn is_simulated(&self) -> bool {
        !matches!(self, Self::Real { .. })
    }

    /// The API's base where it is not the simulator's own.
    #[must_use]
    pub fn api_base_url(&self) -> Option<&str> {
        match self {
            Self::Simulator => None,
            Self::SimulatorBehind { api_base_url } | Self::Real { api_base_url, .. } => Some(api_base_url),
        }
    }
}

/// How the workers run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WorkerRuntime {
    /// Each under a `wrangler dev` of its own, as a developer runs them.
    #[default]
    WranglerDev,
    /// All in one workerd, without wrangler's proxies between them: for measuring.
    OneWorkerd,
}

/// How to start a system.
#[derive(Debug, Clone)]
pub struct SystemOptions {
    /// Where its files go; relative to the checkout.
    pub state_dir: PathBuf,
    /// Which ports it listens on.
    pub ports: Ports,
    /// Whether it ends with the process that starts it.
    pub lifetime: Lifetime,
    /// How the workers run.
    pub runtime: WorkerRuntime,
    /// How the workers are built.
    pub recipe: Recipe,
    /// Which Keap it mirrors.
    pub keap: KeapSource,
    /// Contacts in the simulator's tenant `demo`.
    pub contacts: u32,
    /// The seed of the simulator's data.
    pub seed: u64,
    /// Divides the simulator's hook timers.
    pub time_scale: f64,
    /// Further arguments of the simulator.
    pub keap_sim_arguments: Vec<String>,
    /// A Postgres of one's own in place of the embedded one.
    pub database_url: Option<String>,
    /// Whether the workers reach the embedded Postgres through a pooler in transaction mode, as they do in production.
    pub pooler: bool,
    /// Further variables of single workers; they win over those that every system sets.
    pub worker_variables: BTreeMap<Worker, BTreeMap<String, String>>,
    /// Delete what an earlier system of this state directory left.
    pub fresh: bool,
    /// Delete the database with the system.
    pub wipe_data_on_stop: bool,
}

impl SystemOptions {
    /// The system of `cargo xtask dev`.
    #[must_use]
    pub fn for_dev(lifetime: Lifetime) -> Self {
        Self {
            state_dir: PathBuf::from(".keapsync/dev"),
            ports: Ports::Fixed,
            lifetime,
            runtime: WorkerRuntime::WranglerDev,
            recipe: Recipe::Quick,
            keap: KeapSource::Simulator,
            contacts: 10_000,
            seed: 1,
            time_scale: 300.0,
            keap_sim_arguments: Vec::new(),
            database_url: None,
            pooler: false,
            worker_variables: BTreeMap::new(),
            fresh: true,
            wipe_data_on_stop: false,
        }
    }

    /// A system for tests on free ports; `name` keeps it apart from others of the same checkout.
    #[must_use]
    pub fn for_tests(name: &str) -> Self {
        Self {
            state_dir: PathBuf::from(".keapsync").join(name),
            ports: Ports::Free,
            recipe: Recipe::of_environment(),
            contacts: 0,
            pooler: true,
            wipe_data_on_stop: true,
            ..Self::for_dev(Lifetime::WithParent)
        }
    }

    /// Adds a variable to one worker.
    #[must_use]
    pub fn with_variable(mut self, worker: Worker, name: &str, value: &str) -> Self {
        self.worker_variables.entry(worker).or_default().insert(name.to_owned(), value.to_owned());
        self
    }
}
