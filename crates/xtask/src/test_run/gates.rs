//! The gates that cargo's own tools keep: format, lints, documentation, licences.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::rust_tools;
use crate::subprocess::{cargo, output_of, run_shown};
use crate::workspace::Workspace;

/// The source is formatted.
pub(super) fn format(workspace: &Workspace) -> Result<()> {
    ensure_component(workspace, "rustfmt", "fmt")?;
    run_shown(cargo().args(["fmt", "--all", "--check"]).current_dir(workspace.root()))
        .context("the source is not formatted: run `cargo fmt --all`")
}

/// Clippy has nothing to say.
pub(super) fn clippy(workspace: &Workspace) -> Result<()> {
    ensure_component(workspace, "clippy", "clippy")?;
    let arguments = ["clippy", "--quiet", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"];
    run_shown(cargo().args(arguments).current_dir(workspace.root()))
}

/// The documentation builds and its links lead somewhere.
pub(super) fn docs(workspace: &Workspace) -> Result<()> {
    let arguments = ["doc", "--quiet", "--locked", "--workspace", "--no-deps"];
    run_shown(cargo().args(arguments).env("RUSTDOCFLAGS", "-D warnings").current_dir(workspace.root()))
}

/// Licences, sources and banned crates. Advisories need a database from the network and are left to a scheduled job.
pub(super) fn deny(workspace: &Workspace) -> Result<()> {
    let program = rust_tools::ensure_cargo_deny(workspace)?;
    let arguments = ["--locked", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"];
    run_shown(Command::new(program).args(arguments).current_dir(workspace.root()))
}

/// No known vulnerability is in what is built or started. What was published today may be known tomorrow, so that this is no matter of a
/// commit: a workflow runs it every day.
pub(super) fn advisories(workspace: &Workspace) -> Result<()> {
    let program = rust_tools::ensure_cargo_deny(workspace)?;
    let crates = Command::new(program)
        .args(["--locked", "check", "--hide-inclusion-graph", "advisories"])
        .current_dir(workspace.root())
        .status()
        .context("cargo-deny cannot be started")?;
    let packages = Command::new("npm")
        .args(["audit", "--package-lock-only", "--audit-level=moderate"])
        .current_dir(workspace.root())
        .status()
        .context("npm is missing: install Node 20 or later with npm (https://nodejs.org)")?;
    ensure!(
        crates.success() && packages.success(),
        "there are advisories, or their database was not reached; what was found is above. Take a release that mends it \
         (`cargo update --package NAME`, `npm update NAME`); one that does not concern keapsync goes into deny.toml with the reason"
    );
    Ok(())
}

/// A toolchain of the minimal profile lacks these.
fn ensure_component(workspace: &Workspace, component: &str, subcommand: &str) -> Result<()> {
    if output_of(cargo().args([subcommand, "--version"]).current_dir(workspace.root())).is_ok() {
        return Ok(());
    }
    let mut add = Command::new("rustup");
    add.args(["component", "add", component]).current_dir(workspace.root());
    run_shown(&mut add)
        .with_context(|| format!("{component} is missing: run `rustup component add {component}`"))
}
