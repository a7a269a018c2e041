//! The pinned Rust tools of the worker build: worker-build and wasm-bindgen-cli.
//!
//! This is the one place for their versions. They live in the cache outside the checkout, each version in a directory
//! of its own, so that two checkouts with different pins don't fight.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::progress::{Step, say};
use crate::subprocess::{cargo, run_shown};
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
    let lock_path = workspace.root().join("Cargo.lock");
    let lock = std::fs::read_to_string(&lock_path).with_context(|| {
        format!("{} cannot be read: restore it from version control", lock_path.display())
    })?;
    let wasm_bindgen_version = locked_version(&lock, "wasm-bindgen")
        .context("Cargo.lock names no wasm-bindgen: run `cargo generate-lockfile`")?;
    Ok(RustTools {
        wasm_bindgen: ensure_tool(workspace, "wasm-bindgen-cli", "wasm-bindgen", &wasm_bindgen_version)?,
        worker_build: ensure_tool(workspace, "worker-build", "worker-build", WORKER_BUILD_VERSION)?,
    })
}

/// Installs `cargo-deny` if it is missing and says where it is.
pub fn ensure_cargo_deny(workspace: &Workspace) -> Result<PathBuf> {
    ensure_tool(workspace, "cargo-deny", "cargo-deny", CARGO_DENY_VERSION)
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
    let step =
        Step::start(format!("Installing {package} {version} (once per machine, one to three minutes)"));
    let root = path.parent().and_then(Path::parent).context("a tool has no directory")?;
    std::fs::create_dir_all(root).with_context(|| {
        format!("{} cannot be created: set KEAPSYNC_CACHE_DIR to a directory you may write", root.display())
    })?;
    say(format!("It goes to {}", root.display()));
    let install = |locked: bool| {
        let mut command = cargo();
        command
            .args(["install", "--quiet", "--version", version, "--root"])
            .arg(root)
            .arg(package)
            // The tool is not part of the workspace: cargo builds it in a directory of its own and removes that.
            .env_remove("CARGO_TARGET_DIR")
            .current_dir(workspace.root());
        if locked {
            command.arg("--locked");
        }
        run_shown(&mut command)
    };
    if let Err(error) = install(true) {
        // A tool's own lock file may name a release that was withdrawn since; its code is pinned all the same.
        say(format!("{error:#}; trying again with its newest compatible dependencies"));
        install(false).with_context(|| {
            format!("{package} could not be installed: check the network and repeat the command")
        })?;
    }
    step.done();
    Ok(path)
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
