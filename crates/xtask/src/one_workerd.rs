//! All three workers in one workerd: what the benchmark measures.
//!
//! `wrangler dev` runs each worker behind a proxy of its own and carries calls between workers through Node; at a few
//! hundred requests per second that is all one would measure. This runs the same outputs, by the same wrangler files, in
//! one runtime, where a call to another worker stays inside, as it does on the platform.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::node_tools::NodeTools;
use crate::private_file;
use crate::worker_build::Worker;
use crate::wrangler_dev::objects_dir;

/// The script that starts the runtime, in the checkout.
const SCRIPT: &str = "crates/xtask/js/one-workerd.mjs";

/// What the runtime is started with.
#[derive(Debug, Clone)]
pub struct OneWorkerd<'a> {
    /// The checkout.
    pub root: &'a Path,
    /// The system's state directory.
    pub state_dir: &'a Path,
    /// The database as the workers see it.
    pub engine_database_url: &'a str,
    /// Each worker with its port and its variables.
    pub workers: Vec<(Worker, u16, BTreeMap<String, String>)>,
}

impl OneWorkerd<'_> {
    /// The command that runs the workers; writes what they need to know to a file that only the owner reads.
    pub fn command(&self, node: &NodeTools) -> Result<Command> {
        let file = self.state_dir.join("one-workerd.json");
        let text = serde_json::to_vec(&self.plan()).context("the workers' plan cannot be written as JSON")?;
        private_file::write(&file, &text)?;
        let mut command = node.node_command();
        command.arg(self.root.join(SCRIPT)).arg(file).current_dir(self.root);
        Ok(command)
    }

    fn plan(&self) -> Value {
        let workers: Vec<Value> = self
            .workers
            .iter()
            .map(|(worker, port, variables)| {
                json!({
                    "name": worker.script_name(),
                    "config": worker.config_file(),
                    "output": format!("build/{}", worker.name()),
                    "port": port,
                    "variables": variables,
                })
            })
            .collect();
        json!({
            "root": self.root,
            "storage": objects_dir(self.state_dir),
            "databaseUrl": self.engine_database_url,
            "workers": workers,
        })
    }
}
