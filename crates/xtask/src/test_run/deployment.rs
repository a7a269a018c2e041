//! The wrangler files as they would be deployed: each environment has all that local work has, and wrangler takes them.
//!
//! An environment of a wrangler file inherits neither bindings nor variables, so each repeats them, and what is forgotten shows only
//! in the cloud. Nothing here reaches Cloudflare: `wrangler deploy --dry-run` bundles the built workers and stops.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::node_tools::{self, NodeTools};
use crate::progress::detail;
use crate::subprocess::output_of;
use crate::worker_build::{self, GZIPPED_BYTES_MAX, Recipe, Worker};
use crate::workspace::Workspace;

/// Where keapsync is deployed to.
const ENVIRONMENTS: [&str; 2] = ["staging", "production"];

/// What names of secrets end in; such a name among the variables would be a secret in a tracked file.
const SECRET_ENDINGS: [&str; 5] = ["_SECRET", "_TOKEN", "_KEY", "_PASSWORD", "_PREVIOUS"];

/// Fails with every rule that a file breaks, and with what wrangler says against it.
pub(super) fn run(workspace: &Workspace) -> Result<()> {
    ensure!(
        Recipe::of_environment() == Recipe::Deployed,
        "quick builds say nothing about the workers' sizes: unset KEAPSYNC_QUICK_WORKERS and repeat"
    );
    let node = node_tools::ensure(workspace)?;
    let mut broken = Vec::new();
    for worker in Worker::ALL {
        let configurations = read(workspace, &node, worker)?;
        broken.extend(broken_rules(worker, &configurations));
    }
    if !broken.is_empty() {
        bail!("{}", broken.join("\n"));
    }
    worker_build::ensure(workspace, &Worker::ALL, Recipe::Deployed)?;
    for worker in Worker::ALL {
        for environment in ENVIRONMENTS {
            let gzipped_bytes = dry_run(workspace, &node, worker, environment)?;
            detail(format!("{} in {environment}: {} kB gzipped", worker.name(), gzipped_bytes / 1000));
            ensure!(
                gzipped_bytes <= GZIPPED_BYTES_MAX,
                "the {} worker is {gzipped_bytes} bytes gzipped as wrangler uploads it, over its budget of {GZIPPED_BYTES_MAX}",
                worker.name()
            );
        }
    }
    Ok(())
}

/// A worker's file as wrangler reads it: for local work under an empty name, and for each environment.
fn read(workspace: &Workspace, node: &NodeTools, worker: Worker) -> Result<Value> {
    let script = workspace.root().join("crates/xtask/js/read-wrangler-config.mjs");
    let mut command = node.node_command();
    command.arg(script).arg(workspace.root()).arg(worker.config_file()).arg("").args(ENVIRONMENTS);
    // What wrangler thinks of the file comes before the JSON, which is one line.
    let output = output_of(&mut command)?;
    let json = output.lines().last().unwrap_or_default();
    serde_json::from_str(json).with_context(|| format!("{} cannot be read", worker.config_file()))
}

/// Bundles a worker as a deployment would; gives its size in bytes, gzipped, as wrangler counts it.
fn dry_run(workspace: &Workspace, node: &NodeTools, worker: Worker, environment: &str) -> Result<u64> {
    let mut command = node.wrangler_command();
    command
        .args(["deploy", "--dry-run", "--config", &worker.config_file(), "--env", environment])
        .env("KEAPSYNC_WORKERS_PREBUILT", "1")
        .current_dir(workspace.root());
    let said = output_of(&mut command)?;
    gzipped_bytes(&said).with_context(|| format!("wrangler does not say how big the worker is:\n{said}"))
}

fn gzipped_bytes(said: &str) -> Option<u64> {
    let (whole, fraction) = said.split("gzip: ").nth(1)?.split(" KiB").next()?.split_once('.')?;
    let hundredths: u64 = fraction.get(..2)?.parse().ok()?;
    Some(whole.parse::<u64>().ok()? * 1024 + hundredths * 1024 / 100)
}

fn broken_rules(worker: Worker, configurations: &Value) -> Vec<String> {
    let empty = Value::Null;
    let local = configurations.get("").unwrap_or(&empty);
    let mut broken = Vec::new();
    for environment in ENVIRONMENTS {
        let deployed = configurations.get(environment).unwrap_or(&empty);
        let found = rules_broken_in(worker, environment, local, deployed);
        let place = format!("{}, env.{environment}", worker.config_file());
        broken.extend(found.into_iter().map(|rule| format!("{place}: {rule}")));
    }
    broken
}

fn rules_broken_in(worker: Worker, environment: &str, local: &Value, deployed: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    let mut rule = |holds: bool, says: &str| {
        if !holds {
            broken.push(says.to_owned());
        }
    };
    let at = |value: &Value, path: &str| value.pointer(path).cloned().unwrap_or_default();
    let named = |name: &str| format!("{name}-{environment}");
    rule(
        at(deployed, "/name").as_str() == Some(&named(worker.script_name())),
        "its name must end in the environment's",
    );
    for (path, key, what) in [
        ("/kv_namespaces", "binding", "KV namespaces"),
        ("/hyperdrive", "binding", "Hyperdrive configurations"),
        ("/services", "binding", "services"),
        ("/durable_objects/bindings", "name", "objects"),
    ] {
        let says = format!("the {what} must be those of local work");
        rule(values(&at(deployed, path), key) == values(&at(local, path), key), &says);
    }
    let services = values(&at(local, "/services"), "service").iter().map(|name| named(name)).collect();
    rule(
        values(&at(deployed, "/services"), "service") == services,
        "services must be the workers of the same environment",
    );
    rule(
        keys(&at(deployed, "/vars")) == keys(&at(local, "/vars")),
        "the variables must be those of local work",
    );
    let has_secret =
        keys(&at(deployed, "/vars")).iter().any(|name| SECRET_ENDINGS.iter().any(|end| name.ends_with(end)));
    rule(!has_secret, "a secret must not stand among the variables: deploy.sh brings it");
    rule(at(deployed, "/observability/enabled").as_bool() == Some(true), "observability must be on");
    rule(at(deployed, "/limits/cpu_ms").is_u64(), "processor time must be limited");
    for path in ["/compatibility_date", "/triggers/crons", "/migrations", "/main"] {
        rule(at(deployed, path) == at(local, path), &format!("{path} must be that of local work"));
    }
    rule(
        worker != Worker::Sync
            || at(deployed, "/triggers/crons").as_array().is_some_and(|crons| crons.len() == 3),
        "the sync worker must have its three crons",
    );
    broken
}

fn values(list: &Value, key: &str) -> BTreeSet<String> {
    let entries = list.as_array().into_iter().flatten();
    entries.filter_map(|entry| entry.get(key)?.as_str()).map(str::to_owned).collect()
}

fn keys(object: &Value) -> BTreeSet<String> {
    object.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn configuration(suffix: &str) -> Value {
        json!({
            "name": format!("sync-worker{suffix}"),
            "main": "build/sync/index.js",
            "compatibility_date": "2026-11-01",
            "vars": {"LOG_LEVEL": "info"},
            "kv_namespaces": [{"binding": "SYNC_CACHE"}],
            "hyperdrive": [{"binding": "HYPERDRIVE"}],
            "services": [{"binding": "COORDINATOR", "service": format!("sync-coordinator{suffix}")}],
            "triggers": {"crons": ["a", "b", "c"]},
            "observability": {"enabled": true},
            "limits": {"cpu_ms": 1},
        })
    }

    #[test]
    fn an_environment_that_repeats_everything_breaks_no_rule() {
        let broken = rules_broken_in(Worker::Sync, "staging", &configuration(""), &configuration("-staging"));
        assert_eq!(broken, Vec::<String>::new());
    }

    #[test]
    fn each_thing_that_is_forgotten_is_told() {
        let changes: [(&str, Value, &str); 9] = [
            ("/name", json!("sync-worker"), "its name"),
            ("/services/0/service", json!("sync-coordinator-production"), "same environment"),
            ("/hyperdrive", json!([]), "Hyperdrive"),
            ("/kv_namespaces", json!([]), "KV"),
            ("/vars", json!({}), "variables"),
            ("/observability/enabled", json!(false), "observability"),
            ("/limits", json!({}), "processor time"),
            ("/triggers/crons", json!([]), "three crons"),
            ("/compatibility_date", json!("2026-01-01"), "compatibility_date"),
        ];
        for (path, value, says) in changes {
            let mut deployed = configuration("-staging");
            *deployed.pointer_mut(path).unwrap() = value;
            let broken = rules_broken_in(Worker::Sync, "staging", &configuration(""), &deployed).join("\n");
            assert!(broken.contains(says), "{path}: {broken}");
        }
        let mut secret = configuration("-staging");
        secret["vars"] = json!({"LOG_LEVEL": "info", "ADMIN_API_TOKEN": "x"});
        let broken = rules_broken_in(Worker::Sync, "staging", &configuration(""), &secret).join("\n");
        assert!(broken.contains("a secret"), "{broken}");
    }

    #[test]
    fn sizes_are_read_as_wrangler_prints_them() {
        assert_eq!(gzipped_bytes("Total Upload: 2426.55 KiB / gzip: 959.50 KiB\n"), Some(959 * 1024 + 512));
        assert_eq!(gzipped_bytes("nothing"), None);
    }
}
