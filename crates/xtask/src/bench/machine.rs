//! What a benchmark ran on, and what ran: read from the system, never guessed.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;

use crate::subprocess::output_of;
use crate::workspace::Workspace;

/// The computer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Processors that may be used.
    pub cores: usize,
    /// Memory in GiB.
    pub memory_gb: f64,
    /// System and release.
    pub kernel: String,
    /// Programs that wanted a processor in the minute before, on average: well above 0 means that others were at work.
    pub load_before: f64,
}

impl Machine {
    /// The computer this runs on.
    #[must_use]
    pub fn discover() -> Self {
        let cpu_info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory_info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let kernel = |name| std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default();
        Self {
            cpu: field(&cpu_info, "model name").unwrap_or("unknown processor").to_owned(),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_gb: field(&memory_info, "MemTotal").and_then(kibibytes).unwrap_or_default()
                / (1024.0 * 1024.0),
            kernel: format!("{} {}", kernel("ostype").trim(), kernel("osrelease").trim()),
            load_before: load.split(' ').next().and_then(|minute| minute.parse().ok()).unwrap_or_default(),
        }
    }
}

/// The value of a `name : value` line.
pub(super) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then(|| value.trim())
    })
}

/// Reads `123 kB`.
pub(super) fn kibibytes(text: &str) -> Option<f64> {
    text.strip_suffix("kB")?.trim().parse().ok()
}

/// The commit of the checkout, with `-dirty` when tracked files differ from it.
pub fn git_commit(workspace: &Workspace) -> Result<String> {
    let git =
        |arguments: &[&str]| output_of(Command::new("git").args(arguments).current_dir(workspace.root()));
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).context("the commit cannot be read")?;
    let changes = git(&["status", "--porcelain", "--untracked-files=no"])?;
    let mark = if changes.is_empty() { "" } else { "-dirty" };
    Ok(format!("{}{mark}", commit.trim()))
}

/// Versions of what runs: of the packages in `node_modules`, and of keapsync itself.
pub fn versions(workspace: &Workspace) -> Result<BTreeMap<String, String>> {
    let mut versions = BTreeMap::from([("keapsync".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]);
    for name in ["wrangler", "workerd", "node"] {
        let version = package_version(&workspace.root().join("node_modules").join(name))?;
        versions.insert(name.to_owned(), version);
    }
    Ok(versions)
}

fn package_version(package: &Path) -> Result<String> {
    let path = package.join("package.json");
    let content = std::fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    let manifest: Value =
        serde_json::from_slice(&content).with_context(|| format!("{} is no JSON", path.display()))?;
    let version = manifest.get("version").and_then(Value::as_str);
    Ok(version.with_context(|| format!("{} names no version", path.display()))?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 2.0GHz\nMemTotal:       24000000 kB\n";
        assert_eq!(field(text, "model name"), Some("Some CPU @ 2.0GHz"));
        assert_eq!(field(text, "model"), None);
        assert_eq!(field(text, "MemTotal").and_then(kibibytes), Some(24_000_000.0));
        assert_eq!(kibibytes("12 MB"), None);
    }
}
