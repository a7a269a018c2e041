//! The pinned Rust tools of the worker build: worker-build and wasm-bindgen-cli.
//!
//! This is the one place for their versions. They live in the cache outside the checkout, each version in a directory
//! of its own, so that two checkouts with different pins don't fight.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::countdown::{self, Part};
use crate::progress::{Step, detail};
use crate::subprocess::{cargo, output_of};
use crate::workspace::Workspace;

/// The version of `worker-build`; it goes with the `worker` crate of the same version.
pub const WORKER_BUILD_VERSION: &str = "0.8.7";

/// The version of `cargo-deny`, which only the gate of that name installs.
pub const CARGO_DENY_VERSION: &str = "0.20.2";

/// Where the pinned Rust tools are.
#[derive(Debug, Clone)]
pub struct RustTools {
    /// The program that turns a worker crate into a JavaScript module with its wasm.
    pub worker_build: PathBuf,
    /// The program that writes the JavaScript side of the wasm; its version equals the lock file's `wasm-bindgen`.
    pub wasm_bindgen: PathBuf,
}

/// Installs what is missing and says where the tools are.
pub fn ensure(workspace: &Workspace) -> Result<RustTools> {
    let version = wasm_bindgen_version(workspace)?;
    let tools =
        ensure_tool(workspace, "wasm-bindgen-cli", "wasm-bindgen", &version).and_then(|wasm_bindgen| {
            let worker_build = ensure_tool(workspace, "worker-build", "worker-build", WORKER_BUILD_VERSION)?;
            Ok(RustTools { worker_build, wasm_bindgen })
        });
    remove_leftovers(workspace)?;
    countdown::ended(Part::RustTools);
    tools
}

/// Whether both tools are there.
pub fn are_installed(workspace: &Workspace) -> Result<bool> {
    let version = wasm_bindgen_version(workspace)?;
    let there =
        |package, program, version| tool_path(workspace.cache_dir(), package, program, version).is_file();
    Ok(there("wasm-bindgen-cli", "wasm-bindgen", &version)
        && there("worker-build", "worker-build", WORKER_BUILD_VERSION))
}

/// The version of the lock file: the tool and the library have to be of one release.
fn wasm_bindgen_version(workspace: &Workspace) -> Result<String> {
    let lock_path = workspace.root().join("Cargo.lock");
    let lock = std::fs::read_to_string(&lock_path).with_context(|| {
        format!("{} cannot be read: restore it from version control", lock_path.display())
    })?;
    locked_version(&lock, "wasm-bindgen")
        .context("Cargo.lock names no wasm-bindgen: run `cargo generate-lockfile`")
}

/// Installs `cargo-deny` if it is missing and says where it is.
pub fn ensure_cargo_deny(workspace: &Workspace) -> Result<PathBuf> {
    let tool = ensure_tool(workspace, "cargo-deny", "cargo-deny", CARGO_DENY_VERSION);
    remove_leftovers(workspace)?;
    tool
}

/// The version that a lock file gives a package.
#[must_use]
pub fn locked_version(lock: &str, package: &str) -> Option<String> {
    let name_line = format!("name = \"{package}\"");
    let mut lines = lock.lines();
    lines.find(|line| *line == name_line)?;
    let version = lines.next()?.strip_prefix("version = \"")?.strip_suffix('"')?;
    Some(version.to_owned())
}

/// Where a tool's program is, or would be after installing it.
#[must_use]
pub fn tool_path(cache_dir: &Path, package: &str, program: &str, version: &str) -> PathBuf {
    cache_dir.join("tools").join(format!("{package}-{version}")).join("bin").join(program)
}

fn ensure_tool(workspace: &Workspace, package: &str, program: &str, version: &str) -> Result<PathBuf> {
    let path = tool_path(workspace.cache_dir(), package, program, version);
    if path.is_file() {
        return Ok(path);
    }
    let step = Step::start(format!("Installing {package} {version} (once per machine)"));
    let root = path.parent().and_then(Path::parent).context("a tool has no directory")?;
    std::fs::create_dir_all(root).with_context(|| {
        format!("{} cannot be created: set KEAPSYNC_CACHE_DIR to a directory you may write", root.display())
    })?;
    detail(format!("{package} goes to {}", root.display()));
    if let Err(error) = install(workspace, (package, program), version, root, true) {
        // A tool's own lock file may name a release that was withdrawn since; its code is pinned all the same.
        install(workspace, (package, program), version, root, false)
            .map_err(|second| second.context(format!("with the versions that it pins: {error:#}")))
            .with_context(|| {
                format!("{package} could not be installed: check the network and repeat the command")
            })?;
    }
    step.done();
    Ok(path)
}

/// What the tools were built of is of no use once they are there.
fn remove_leftovers(workspace: &Workspace) -> Result<()> {
    let directory = build_directory(workspace);
    match std::fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", directory.display()))
        }
        _ => Ok(()),
    }
}

/// A directory of this process: another checkout's may be installing its own tools.
fn build_directory(workspace: &Workspace) -> PathBuf {
    workspace.cache_dir().join("tools").join(format!("building-{}", std::process::id()))
}

/// Has cargo build one program of a package and put it under `root`. Only a tool's answers count, and it works for seconds: it is built
/// without optimisation, with what the tools have in common built once.
fn install(
    workspace: &Workspace,
    (package, program): (&str, &str),
    version: &str,
    root: &Path,
    locked: bool,
) -> Result<()> {
    let mut command = cargo();
    command
        .args(["install", "--quiet", "--version", version, "--root"])
        .arg(root)
        .args([package, "--bin", program])
        .args(["--profile", "dev"])
        .args(["--config", "profile.dev.debug=false"])
        .env("CARGO_TARGET_DIR", build_directory(workspace))
        .current_dir(workspace.root());
    if locked {
        command.arg("--locked");
    }
    output_of(&mut command).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "[[package]]\nname = \"wasm-bindgen-futures\"\nversion = \"0.4.80\"\n\n[[package]]\n\
                        name = \"wasm-bindgen\"\nversion = \"0.2.130\"\n";

    #[test]
    fn the_lock_files_version_is_found_by_the_whole_name() {
        assert_eq!(locked_version(LOCK, "wasm-bindgen").as_deref(), Some("0.2.130"));
        assert_eq!(locked_version(LOCK, "wasm-bindgen-futures").as_deref(), Some("0.4.80"));
        assert_eq!(locked_version(LOCK, "wasm"), None);
    }

    #[test]
    fn the_workspaces_lock_file_matches_the_pinned_worker_build() {
        let lock = include_str!("../../../Cargo.lock");
        assert_eq!(locked_version(lock, "worker").as_deref(), Some(WORKER_BUILD_VERSION));
        assert!(locked_version(lock, "wasm-bindgen").is_some());
    }

    #[test]
    fn each_version_has_a_directory_of_its_own() {
        let path = tool_path(Path::new("/cache"), "wasm-bindgen-cli", "wasm-bindgen", "1.2.3");
        assert_eq!(path, Path::new("/cache/tools/wasm-bindgen-cli-1.2.3/bin/wasm-bindgen"));
    }
}
