//! The pinned JavaScript tools: wrangler, the Node that it wants, esbuild, binaryen and the embedded Postgres.
//!
//! `package.json` and its lock file hold the versions. `npm ci` runs only when the lock file differs from what was
//! installed last.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::countdown::{self, Part};
use crate::progress::Step;
use crate::subprocess::{find_program, output_of};
use crate::workspace::Workspace;

/// The installed JavaScript tools.
#[derive(Debug, Clone)]
pub struct NodeTools {
    modules: PathBuf,
}

/// The tools, if what is installed is what the lock file names.
pub fn installed(workspace: &Workspace) -> Result<Option<NodeTools>> {
    let wanted = lock_hash(workspace)?;
    let tools = NodeTools { modules: workspace.root().join("node_modules") };
    let is_current = std::fs::read_to_string(tools.stamp()).is_ok_and(|installed| installed == wanted);
    Ok((is_current && tools.wrangler().is_file()).then_some(tools))
}

/// Runs `npm ci` when the lock file changed since the last time.
pub fn ensure(workspace: &Workspace) -> Result<NodeTools> {
    if let Some(tools) = installed(workspace)? {
        return Ok(tools);
    }
    if find_program("npm").is_none() {
        bail!(
            "npm is missing: install Node 20 or later with npm (https://nodejs.org), then repeat the command"
        );
    }
    let step =
        Step::start("Installing the pinned JavaScript tools with npm (wrangler, workerd, Postgres; 600 MB)");
    let installed = Command::new("npm")
        .args(["ci", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(workspace.root())
        .output()
        .context("npm cannot be started")?;
    if !installed.status.success() {
        bail!(
            "npm ci failed: check the network (a proxy goes into `npm config set proxy`) and repeat the command\n{}",
            // npm says the reason first and its usage last.
            String::from_utf8_lossy(&installed.stderr).lines().take(15).collect::<Vec<_>>().join("\n")
        );
    }
    let tools = NodeTools { modules: workspace.root().join("node_modules") };
    let stamp = tools.stamp();
    std::fs::write(&stamp, lock_hash(workspace)?)
        .with_context(|| format!("{} cannot be written", stamp.display()))?;
    step.done();
    countdown::ended(Part::JavaScriptTools);
    Ok(tools)
}

fn lock_hash(workspace: &Workspace) -> Result<String> {
    let lock_path = workspace.root().join("package-lock.json");
    let lock = std::fs::read(&lock_path).with_context(|| {
        format!("{} cannot be read: restore it from version control", lock_path.display())
    })?;
    Ok(hex::encode(Sha256::digest(&lock)))
}

impl NodeTools {
    fn stamp(&self) -> PathBuf {
        self.modules.join(".keapsync-lock-hash")
    }

    /// The pinned wrangler.
    #[must_use]
    pub fn wrangler(&self) -> PathBuf {
        self.program("wrangler")
    }

    /// The pinned esbuild: the native program itself, because worker-build resolves links.
    #[must_use]
    pub fn esbuild(&self) -> PathBuf {
        self.program("esbuild")
    }

    /// The pinned wasm-opt of binaryen.
    #[must_use]
    pub fn wasm_opt(&self) -> PathBuf {
        self.program("wasm-opt")
    }

    /// `PATH` with the pinned programs first, so that wrangler's scripts find the pinned Node.
    #[must_use]
    pub fn path(&self) -> OsString {
        let mut path = OsString::from(self.modules.join(".bin"));
        if let Some(existing) = std::env::var_os("PATH") {
            path.push(":");
            path.push(existing);
        }
        path
    }

    /// The pinned Node.
    #[must_use]
    pub fn node_command(&self) -> Command {
        let mut command = Command::new(self.program("node"));
        command.env("PATH", self.path()).env("WRANGLER_SEND_METRICS", "false").env("NO_COLOR", "1");
        command
    }

    /// A wrangler command with the pinned Node and without questions or metrics.
    #[must_use]
    pub fn wrangler_command(&self) -> Command {
        let mut command = Command::new(self.wrangler());
        command
            .env("PATH", self.path())
            .env("WRANGLER_SEND_METRICS", "false")
            .env("CI", "1")
            .env("NO_COLOR", "1")
            .env("FORCE_COLOR", "0");
        command
    }

    /// The directory of the embedded Postgres for this system, and its version.
    pub fn embedded_postgres(&self) -> Result<(PathBuf, String)> {
        let platform = match (std::env::consts::OS, std::env::consts::ARCH) {
            ("linux", "x86_64") => "linux-x64",
            ("linux", "aarch64") => "linux-arm64",
            ("macos", "x86_64") => "darwin-x64",
            ("macos", "aarch64") => "darwin-arm64",
            (system, architecture) => bail!(
                "no embedded Postgres for {system} on {architecture}: set DATABASE_URL to a Postgres 15 to 17 of your own"
            ),
        };
        let package = self.modules.join("@embedded-postgres").join(platform);
        let manifest_path = package.join("package.json");
        let manifest = std::fs::read(&manifest_path).with_context(|| {
            format!("{} is missing: delete node_modules and repeat the command", manifest_path.display())
        })?;
        let manifest: serde_json::Value = serde_json::from_slice(&manifest)
            .with_context(|| format!("{} is no JSON", manifest_path.display()))?;
        let version = manifest.get("version").and_then(serde_json::Value::as_str).unwrap_or("unknown");
        Ok((package.join("native"), version.to_owned()))
    }

    /// The version of the pinned Node, as it says itself.
    pub fn node_version(&self) -> Result<String> {
        Ok(output_of(Command::new(self.program("node")).arg("--version"))?.trim().to_owned())
    }

    /// The version of wrangler that is installed.
    pub fn wrangler_version(&self) -> Result<String> {
        Ok(output_of(self.wrangler_command().arg("--version"))?.trim().to_owned())
    }

    fn program(&self, name: &str) -> PathBuf {
        self.modules.join(".bin").join(name)
    }
}
