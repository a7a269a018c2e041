//! Where things are: the checkout, the cache outside it, and cargo's target directory.
//!
//! The cache holds what survives a fresh clone (pinned tools, the Postgres server, its data); the checkout holds what
//! belongs to one work tree (`node_modules`, built workers, the state of `cargo xtask dev`).

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The checkout that the commands work on, and the directories that go with it.
#[derive(Debug, Clone)]
pub struct Workspace {
    root: PathBuf,
    cache_dir: PathBuf,
}

impl Workspace {
    /// Finds the checkout around the current directory.
    pub fn discover() -> Result<Self> {
        let current = std::env::current_dir().context("the current directory cannot be read")?;
        let Some(root) =
            current.ancestors().find(|candidate| candidate.join("wrangler-coordinator.toml").is_file())
        else {
            bail!("not inside a keapsync checkout: change into one and run the command again");
        };
        Ok(Self { root: root.to_path_buf(), cache_dir: cache_dir()? })
    }

    /// The root of the checkout.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The cache outside the checkout: `KEAPSYNC_CACHE_DIR`, or the system's usual place.
    #[must_use]
    pub fn cache_dir(&self) -> &Path {
        &self.cache_dir
    }

    /// Where built workers go; the `main` of the wrangler files points here.
    #[must_use]
    pub fn build_dir(&self) -> PathBuf {
        self.root.join("build")
    }

    /// The state of `cargo xtask dev`: secrets, logs, objects' storage, process ids.
    #[must_use]
    pub fn dev_state_dir(&self) -> PathBuf {
        self.root.join(".keapsync").join("dev")
    }

    /// What cargo knows of the workspace's own packages.
    pub fn cargo_metadata(&self) -> Result<Value> {
        let output = Command::new("cargo")
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .current_dir(&self.root)
            .output()
            .context("cargo cannot be started: install Rust from https://rustup.rs")?;
        if !output.status.success() {
            bail!("cargo metadata failed:\n{}", String::from_utf8_lossy(&output.stderr).trim_end());
        }
        serde_json::from_slice(&output.stdout).context("cargo metadata printed no JSON")
    }

    /// Cargo's target directory, wherever the environment or a config file puts it.
    pub fn target_dir(&self) -> Result<PathBuf> {
        if let Some(target) = std::env::var_os("CARGO_TARGET_DIR") {
            return Ok(self.root.join(target));
        }
        let metadata = self.cargo_metadata()?;
        let target = metadata.get("target_directory").and_then(Value::as_str);
        Ok(PathBuf::from(target.context("cargo metadata names no target directory")?))
    }

    /// A directory in the cache that belongs to one state directory alone.
    #[must_use]
    pub fn cache_dir_for(&self, kind: &str, state_dir: &Path) -> PathBuf {
        let digest = hex::encode(Sha256::digest(state_dir.as_os_str().as_encoded_bytes()));
        self.cache_dir.join(kind).join(digest.get(..16).unwrap_or(&digest))
    }
}

/// True when the process may install system packages and must drop rights to start Postgres.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn cache_dir() -> Result<PathBuf> {
    let from_environment = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(directory) = from_environment("KEAPSYNC_CACHE_DIR") {
        return std::path::absolute(directory).context("KEAPSYNC_CACHE_DIR is not a usable path");
    }
    if is_root() {
        return Ok(PathBuf::from("/var/cache/keapsync"));
    }
    if let Some(directory) = from_environment("XDG_CACHE_HOME") {
        return Ok(directory.join("keapsync"));
    }
    let home = from_environment("HOME").context(
        "neither KEAPSYNC_CACHE_DIR nor HOME is set: set KEAPSYNC_CACHE_DIR to a directory for tools",
    )?;
    Ok(home.join(".cache").join("keapsync"))
}
