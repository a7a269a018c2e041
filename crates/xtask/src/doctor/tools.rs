//! The tools and the room that this machine has for building, deploying and running a local system.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::Finding;
use crate::node_tools;
use crate::ports::{PortNumbers, is_free};
use crate::rust_tools::{self, WORKER_BUILD_VERSION, locked_version};
use crate::subprocess::{find_program, output_of};
use crate::workspace::Workspace;

/// Free space below which builds and data get into trouble, in bytes.
const FREE_DISK_BYTES_MIN: u64 = 5_000_000_000;

/// The oldest Node whose npm installs the pinned one.
const NODE_MAJOR_MIN: u32 = 20;

/// What building and deploying need.
pub(super) fn findings(workspace: &Workspace) -> Vec<Finding> {
    vec![
        Finding::new("rust", rust(workspace)),
        Finding::new("node and npm", node()),
        Finding::new("pinned tools", javascript_tools(workspace)),
        Finding::new("worker-build", rust_tool(workspace, "worker-build", "worker-build")),
        Finding::new("wasm-bindgen", rust_tool(workspace, "wasm-bindgen-cli", "wasm-bindgen")),
        Finding::new("free disk", free_disk(workspace)),
    ]
}

fn rust(workspace: &Workspace) -> Result<String> {
    let version = output_of(Command::new("rustc").arg("--version").current_dir(workspace.root()))
        .context("install Rust from https://rustup.rs")?;
    let pinned = std::fs::read_to_string(workspace.root().join("rust-toolchain.toml"))?;
    let number = version.split(' ').nth(1).unwrap_or_default();
    ensure!(
        pinned.contains(&format!("\"{number}\"")),
        "{} is not the pinned one: run `rustup show` in the checkout, which installs it",
        version.trim()
    );
    Ok(version.trim().to_owned())
}

fn node() -> Result<String> {
    let fix = "install Node 20 or later with npm (https://nodejs.org)";
    let version = output_of(Command::new("node").arg("--version")).context(fix)?;
    ensure!(find_program("npm").is_some(), "npm is missing: {fix}");
    let major: u32 = version.trim().trim_start_matches('v').split('.').next().unwrap_or_default().parse()?;
    ensure!(major >= NODE_MAJOR_MIN, "Node {} is too old: {fix}", version.trim());
    Ok(version.trim().to_owned())
}

fn javascript_tools(workspace: &Workspace) -> Result<String> {
    let tools = node_tools::installed(workspace)?
        .context("not installed for this lock file: run `cargo xtask setup`")?;
    Ok(format!("wrangler {}, Node {}", tools.wrangler_version()?, tools.node_version()?))
}

fn rust_tool(workspace: &Workspace, package: &str, program: &str) -> Result<String> {
    let lock = std::fs::read_to_string(workspace.root().join("Cargo.lock"))?;
    let version = if package == "worker-build" {
        WORKER_BUILD_VERSION.to_owned()
    } else {
        locked_version(&lock, program)
            .context("Cargo.lock does not name it: run `cargo generate-lockfile`")?
    };
    let path = rust_tools::tool_path(workspace.cache_dir(), package, program, &version);
    ensure!(path.is_file(), "{version} is not installed: run `cargo xtask setup`");
    Ok(version)
}

fn free_disk(workspace: &Workspace) -> Result<String> {
    let mut least = u64::MAX;
    for place in [workspace.root(), workspace.cache_dir()] {
        let existing = place.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
        let space = rustix::fs::statvfs(existing)
            .with_context(|| format!("{} cannot be asked", existing.display()))?;
        least = least.min(space.f_bavail.saturating_mul(space.f_frsize));
    }
    let gigabytes = least / 1_000_000_000;
    ensure!(least >= FREE_DISK_BYTES_MIN, "only {gigabytes} GB are free: `cargo clean` frees the most");
    Ok(format!("{gigabytes} GB"))
}

/// Whether a local system could be started.
pub(super) fn free_ports() -> Result<String> {
    let taken: Vec<String> = PortNumbers::FIXED
        .named()
        .into_iter()
        .filter(|(_, port)| !is_free(*port))
        .map(|(name, port)| format!("{port} ({name})"))
        .collect();
    ensure!(taken.is_empty(), "taken by other programs: {}. `ss -ltnp` names them", taken.join(", "));
    Ok("free".to_owned())
}
