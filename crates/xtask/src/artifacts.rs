//! Everything that a system is started from: JavaScript tools, built workers and the simulator's program.
//!
//! Processes that start systems at the same time wait for each other here, so that nothing is built twice.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::countdown::{self, Part};
use crate::node_tools::{self, NodeTools};
use crate::pooler;
use crate::progress::Step;
use crate::subprocess::{cargo, run_shown};
use crate::system::SystemOptions;
use crate::worker_build::{self, Recipe, Worker};
use crate::workspace::Workspace;

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
    let mut parts =
        vec![Part::JavaScriptTools, Part::WasmToolchain, Part::RustTools, Part::Workers(options.recipe)];
    if options.keap.is_simulated() {
        parts.push(Part::KeapSim(options.recipe));
    }
    countdown::begin(workspace, &parts)?;
    // The simulator is built beside the workers: neither keeps all cores busy all the time.
    let keap_sim = std::thread::scope(|scope| {
        let simulator = scope.spawn(|| {
            if options.keap.is_simulated() {
                build_keap_sim(workspace, options.recipe)
            } else {
                keap_sim_program(workspace, options.recipe)
            }
        });
        worker_build::ensure(workspace, &Worker::ALL, options.recipe)?;
        simulator.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let node = node_tools::ensure(workspace)?;
    if options.pooler {
        pooler::ensure_installed()?;
    }
    lock.unlock().context("the build lock cannot be released")?;
    Ok(Artifacts { node, keap_sim })
}

/// Builds the simulator alone, for measuring, and tells its program.
pub fn ensure_keap_sim(workspace: &Workspace) -> Result<PathBuf> {
    build_keap_sim(workspace, Recipe::Deployed)
}

/// Cargo's profile of the simulator and the directory that it ends up in: beside quick workers it is built with what the commands
/// themselves are built with.
fn keap_sim_profile(recipe: Recipe) -> (&'static str, &'static str) {
    match recipe {
        Recipe::Deployed => ("tools", "tools"),
        Recipe::Quick => ("dev", "debug"),
    }
}

/// Where the simulator's program is, or will be.
pub fn keap_sim_program(workspace: &Workspace, recipe: Recipe) -> Result<PathBuf> {
    Ok(workspace.target_dir()?.join(keap_sim_profile(recipe).1).join("keap-sim"))
}

fn build_keap_sim(workspace: &Workspace, recipe: Recipe) -> Result<PathBuf> {
    let program = keap_sim_program(workspace, recipe)?;
    // Cargo knows whether anything changed; most often nothing did.
    let step = (!program.is_file()).then(|| Step::start("Building the Keap simulator"));
    run_shown(
        cargo()
            .args(["build", "--quiet", "--locked", "--package", "keapsync-keap-sim", "--bin", "keap-sim"])
            .args(["--profile", keap_sim_profile(recipe).0])
            .current_dir(workspace.root()),
    )
    .context("the Keap simulator does not build")?;
    if let Some(step) = step {
        step.done();
        countdown::ended(Part::KeapSim(recipe));
    }
    Ok(program)
}
