//! Everything that a system is started from: JavaScript tools, built workers and the simulator's program.
//!
//! Processes that start systems at the same time wait for each other here, so that nothing is built twice.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::node_tools::{self, NodeTools};
use crate::pooler;
use crate::progress::Step;
use crate::subprocess::{cargo, run_shown};
use crate::system::SystemOptions;
use crate::worker_build::{self, Worker};
use crate::workspace::Workspace;

/// The profile that native programs of a system are built with.
const PROFILE: &str = "tools";

/// What a system is started from.
#[derive(Debug, Clone)]
pub struct Artifacts {
    /// The pinned JavaScript tools.
    pub node: NodeTools,
    /// The simulator's program.
    pub keap_sim: PathBuf,
}

/// Installs and builds what is missing or out of date.
pub fn ensure(workspace: &Workspace, options: &SystemOptions) -> Result<Artifacts> {
    let build_dir = workspace.build_dir();
    std::fs::create_dir_all(&build_dir)
        .with_context(|| format!("{} cannot be created", build_dir.display()))?;
    let lock = File::create(build_dir.join(".lock")).context("the build lock cannot be made")?;
    lock.lock().context("the build lock cannot be taken")?;
    let node = node_tools::ensure(workspace)?;
    if options.pooler {
        pooler::ensure_installed()?;
    }
    worker_build::ensure(workspace, &Worker::ALL)?;
    let keap_sim = keap_sim_program(workspace)?;
    if options.keap.is_simulated() {
        build_keap_sim(workspace, &keap_sim)?;
    }
    lock.unlock().context("the build lock cannot be released")?;
    Ok(Artifacts { node, keap_sim })
}

/// Builds the simulator alone, and tells its program.
pub fn ensure_keap_sim(workspace: &Workspace) -> Result<PathBuf> {
    let program = keap_sim_program(workspace)?;
    build_keap_sim(workspace, &program)?;
    Ok(program)
}

fn keap_sim_program(workspace: &Workspace) -> Result<PathBuf> {
    Ok(workspace.target_dir()?.join(PROFILE).join("keap-sim"))
}

fn build_keap_sim(workspace: &Workspace, program: &std::path::Path) -> Result<()> {
    let step = if program.is_file() {
        // Cargo knows whether anything changed; most often nothing did.
        None
    } else {
        Some(Step::start("Building the Keap simulator (once, a minute or two)"))
    };
    run_shown(
        cargo()
            .args(["build", "--quiet", "--locked", "--package", "keapsync-keap-sim", "--bin", "keap-sim"])
            .args(["--profile", PROFILE])
            .current_dir(workspace.root()),
    )
    .context("the Keap simulator does not build")?;
    if let Some(step) = step {
        step.done();
    }
    Ok(())
}
