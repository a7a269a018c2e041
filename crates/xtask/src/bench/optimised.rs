//! The benchmark built for speed: what turns rows into statements is measured with them, and an unoptimised build of it would be
//! most of the figure.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::progress::Step;
use crate::subprocess::{cargo, run_shown};
use crate::workspace::Workspace;

/// Tells a program that it is the one built for speed.
const VARIABLE: &str = "KEAPSYNC_BENCH_OPTIMISED";

/// The profile of native programs that are measured, or measured with.
const PROFILE: &str = "tools";

/// True in the program that is built for speed.
pub fn is_this_program() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

/// Builds this program for speed and lets it carry out the same command line.
pub fn run_instead(workspace: &Workspace) -> Result<()> {
    let step = Step::start("Building the benchmark for speed (a few minutes the first time)");
    run_shown(
        cargo()
            .args(["build", "--quiet", "--locked", "--package", "keapsync-xtask", "--profile", PROFILE])
            .current_dir(workspace.root()),
    )
    .context("the benchmark does not build")?;
    step.done();
    let program = workspace.target_dir()?.join(PROFILE).join("keapsync-xtask");
    let status = Command::new(&program)
        .args(std::env::args_os().skip(1))
        .env(VARIABLE, "1")
        .status()
        .with_context(|| format!("{} cannot be started", program.display()))?;
    if !status.success() {
        bail!("the benchmark failed ({status}); its output is above");
    }
    Ok(())
}
