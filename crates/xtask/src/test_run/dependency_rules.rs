//! The direction of dependencies, and that none is unused, read from cargo's metadata.
//!
//! domain <- keap <- engine <- store, platform <- the three workers; native tools stand apart. Only the platform and the
//! workers know the Workers SDK, and the pure crates know no runtime at all. Test dependencies are free.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::workspace::Workspace;

/// Each package with the packages of the workspace that it may be built from.
const ALLOWED: [(&str, &[&str]); 13] = [
    ("keapsync-domain", &[]),
    ("keapsync-keap", &["keapsync-domain"]),
    ("keapsync-engine", &["keapsync-domain", "keapsync-keap"]),
    ("keapsync-store", &["keapsync-domain", "keapsync-keap", "keapsync-engine"]),
    ("keapsync-platform", BELOW_PLATFORM),
    ("keapsync-coordinator", BELOW_WORKERS),
    ("keapsync-webhook", BELOW_WORKERS),
    ("keapsync-sync", BELOW_WORKERS),
    ("keapsync-fuzz", EVERYTHING_BUT_TOOLS),
    ("keapsync-keap-sim", &["keapsync-domain", "keapsync-keap"]),
    ("keapsync-accounting", &["keapsync-domain", "keapsync-keap", "keapsync-engine", "keapsync-keap-sim"]),
    // The platform for its rules of configuration, which are pure.
    ("keapsync-xtask", BELOW_WORKERS),
    ("keapsync-e2e", &["keapsync-domain", "keapsync-keap", "keapsync-keap-sim", "keapsync-xtask"]),
];

const BELOW_PLATFORM: &[&str] = &["keapsync-domain", "keapsync-keap", "keapsync-engine", "keapsync-store"];

const BELOW_WORKERS: &[&str] =
    &["keapsync-domain", "keapsync-keap", "keapsync-engine", "keapsync-store", "keapsync-platform"];

const EVERYTHING_BUT_TOOLS: &[&str] = &[
    "keapsync-domain",
    "keapsync-keap",
    "keapsync-engine",
    "keapsync-store",
    "keapsync-platform",
    "keapsync-coordinator",
    "keapsync-webhook",
    "keapsync-sync",
];

/// Packages that may know the Workers SDK.
const KNOW_WORKERS: [&str; 4] =
    ["keapsync-platform", "keapsync-coordinator", "keapsync-webhook", "keapsync-sync"];

/// What belongs to the Workers SDK.
const WORKERS_SDK: [&str; 3] = ["worker", "wasm-bindgen", "wasm-bindgen-futures"];

/// Packages without input and output.
const PURE: [&str; 3] = ["keapsync-domain", "keapsync-keap", "keapsync-engine"];

/// Runtimes and transports, which pure packages must not know.
const RUNTIMES: [&str; 7] = ["tokio", "tokio-postgres", "reqwest", "hyper", "axum", "sqlx", "getrandom"];

/// Fails with every broken rule.
pub(super) fn run(workspace: &Workspace) -> Result<()> {
    let metadata = workspace.cargo_metadata()?;
    let mut broken = broken_rules(&metadata)?;
    broken.extend(unused_dependencies(&metadata)?);
    if !broken.is_empty() {
        bail!("{}", broken.join("\n"));
    }
    Ok(())
}

fn packages(metadata: &Value) -> Result<&Vec<Value>> {
    metadata.get("packages").and_then(Value::as_array).context("cargo metadata has no packages")
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn dependencies(package: &Value) -> impl Iterator<Item = &Value> {
    package.get("dependencies").and_then(Value::as_array).into_iter().flatten()
}

fn broken_rules(metadata: &Value) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for package in packages(metadata)? {
        let name = text(package, "name");
        let Some((_, allowed)) = ALLOWED.iter().find(|(known, _)| *known == name) else {
            broken.push(format!("{name} has no place in the order of dependencies: give it one"));
            continue;
        };
        for dependency in dependencies(package).filter(|dependency| text(dependency, "kind") != "dev") {
            let target = text(dependency, "name");
            let is_ours = target.starts_with("keapsync-");
            if is_ours && !allowed.contains(&target) {
                broken.push(format!("{name} must not depend on {target}"));
            }
            if WORKERS_SDK.contains(&target) && !KNOW_WORKERS.contains(&name) {
                broken.push(format!("{name} must not know the Workers SDK, but depends on {target}"));
            }
            if RUNTIMES.contains(&target) && PURE.contains(&name) {
                broken.push(format!("{name} is pure, but depends on {target}"));
            }
        }
    }
    Ok(broken)
}

/// Dependencies whose crate name stands nowhere in the package's own files.
fn unused_dependencies(metadata: &Value) -> Result<Vec<String>> {
    let mut unused = Vec::new();
    for package in packages(metadata)? {
        let directory = Path::new(text(package, "manifest_path")).parent().unwrap_or(Path::new(""));
        let mut source = String::new();
        read_sources(directory, &mut source)?;
        for dependency in dependencies(package) {
            let rename = dependency.get("rename").and_then(Value::as_str);
            let crate_name = rename.unwrap_or_else(|| text(dependency, "name")).replace('-', "_");
            // A dependency may be there only to switch a feature on for the whole tree.
            let chooses_features = dependency
                .get("features")
                .and_then(Value::as_array)
                .is_some_and(|features| !features.is_empty());
            if !mentions(&source, &crate_name) && !chooses_features {
                unused.push(format!(
                    "{} does not use {}: remove it",
                    text(package, "name"),
                    text(dependency, "name")
                ));
            }
        }
    }
    Ok(unused)
}

/// True when a word stands in the text on its own.
fn mentions(source: &str, word: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    source.match_indices(word).any(|(start, _)| {
        let before = source.get(..start).and_then(|text| text.chars().next_back());
        let after = source.get(start + word.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

fn read_sources(directory: &Path, source: &mut String) -> Result<()> {
    let entries =
        std::fs::read_dir(directory).with_context(|| format!("{} cannot be read", directory.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                read_sources(&path, source)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            source.push_str(
                &std::fs::read_to_string(&path)
                    .with_context(|| format!("{} cannot be read", path.display()))?,
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn broken(name: &str, dependency: &str, kind: Option<&str>) -> Vec<String> {
        let metadata =
            json!({"packages": [{"name": name, "dependencies": [{"name": dependency, "kind": kind}]}]});
        broken_rules(&metadata).unwrap()
    }

    #[test]
    fn dependencies_point_one_way() {
        assert!(broken("keapsync-engine", "keapsync-domain", None).is_empty());
        assert_eq!(broken("keapsync-domain", "keapsync-engine", None).len(), 1);
        assert_eq!(broken("keapsync-sync", "keapsync-keap-sim", None).len(), 1);
        assert_eq!(broken("keapsync-new", "serde", None).len(), 1);
    }

    #[test]
    fn only_the_platform_and_the_workers_know_the_workers_sdk() {
        assert!(broken("keapsync-platform", "worker", None).is_empty());
        assert_eq!(broken("keapsync-store", "worker", None).len(), 1);
    }

    #[test]
    fn pure_packages_know_no_runtime_except_in_tests() {
        assert_eq!(broken("keapsync-engine", "tokio", None).len(), 1);
        assert!(broken("keapsync-engine", "tokio", Some("dev")).is_empty());
    }

    #[test]
    fn a_word_counts_only_on_its_own() {
        assert!(mentions("use hex::encode;", "hex"));
        assert!(!mentions("let hexagon = to_hex(1);", "hex"));
    }
}
