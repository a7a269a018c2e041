//! Secrets that were changed stay changed: a deployment of code alone keeps them, and no rollback brings old ones back.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::going_back::{code, deploy_code, with_three_releases};
use crate::stage::{Clone, Failure, repository};
use crate::{assert_kept_secret, assert_refused, assert_succeeded, worker};

const NEW_KEY: &str = "bmV3LWtleS1uZXcta2V5LW5ldy1rZXktbmV3LWtleSE=";

fn key(clone: &Clone) -> Value {
    worker(&clone.state(), "sync-coordinator-staging")["secrets"]["TOKEN_ENCRYPTION_KEY"].clone()
}

/// What a workflow has: settings, and of secrets those that it needs itself.
fn in_ci(clone: &Clone) -> Vec<(String, String)> {
    let names = [
        "DATABASE_URL",
        "KEAP_CLIENT_ID",
        "KEAP_REDIRECT_URI",
        "WEBHOOK_PUBLIC_URL",
        "SYNC_PUBLIC_URL",
        "ADMIN_API_TOKEN",
    ];
    let settings = clone.settings();
    std::fs::remove_file(clone.root.join(".env.staging")).expect("it can be removed");
    // A value that was entered in a form may end in a new line.
    names.map(|name| (name.to_owned(), format!("{}\n", settings[name]))).into()
}

#[test]
fn a_deployment_of_code_leaves_secrets_that_were_rotated() {
    let clone = Clone::deployed();
    let ci = {
        let copy = clone.copy();
        in_ci(&copy)
    };
    let mut variables: Vec<(&str, &str)> =
        ci.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    variables.push(("STAND_IN_CODE", "two"));
    clone.change_setting("TOKEN_ENCRYPTION_KEY", NEW_KEY);
    assert_succeeded(&clone.deploy(&["--only", "secrets"]));
    assert_eq!(key(&clone), json!(NEW_KEY));
    drop(in_ci(&clone));
    std::fs::remove_dir_all(clone.root.join(".keapsync")).expect("it can be removed");
    let run = clone.deploy_with(&["--code-only", "--yes"], Failure::None, &variables, "");
    assert_succeeded(&run);
    assert_eq!((code(&clone), key(&clone)), (vec!["two".to_owned(); 3], json!(NEW_KEY)));
    assert!(
        !run.calls.iter().any(|call| call.contains("secrets-file") || call.contains("secret bulk")),
        "{:#?}",
        run.calls
    );
    // Without the changed secrets' values nobody knows what the release before has.
    assert_refused(
        &clone.deploy_with(&["rollback", "--yes"], Failure::None, &variables, ""),
        &["may have other secrets", "which sends the present secrets"],
    );
    assert_eq!((code(&clone), key(&clone)), (vec!["two".to_owned(); 3], json!(NEW_KEY)));
    // Between two deployments of code alone there is nothing to lose.
    variables.push(("STAND_IN_CODE", "three"));
    assert_succeeded(&clone.deploy_with(&["--code-only", "--yes"], Failure::None, &variables, ""));
    assert_succeeded(&clone.deploy_with(&["rollback", "--yes"], Failure::None, &variables, ""));
    assert_eq!((code(&clone), key(&clone)), (vec!["two".to_owned(); 3], json!(NEW_KEY)));
    assert_succeeded(&clone.deploy_with(&["validate"], Failure::None, &variables, ""));
}

#[test]
fn a_first_deployment_cannot_be_of_code_alone() {
    let clone = Clone::with_settings();
    clone.change_setting("ADMIN_API_TOKEN", "a-token-for-administrators");
    assert_refused(&clone.deploy(&["--code-only"]), &["there are no secrets that it could keep"]);
    assert_eq!(clone.state()["database"], json!({}));
}

#[test]
fn a_rollback_brings_no_old_secret_back() {
    let clone = with_three_releases();
    clone.change_setting("TOKEN_ENCRYPTION_KEY", NEW_KEY);
    assert_succeeded(&clone.deploy(&["--only", "secrets"]));
    let refused = clone.deploy(&["rollback", "--yes"]);
    assert_refused(&refused, &["sync-coordinator-staging may have other secrets"]);
    assert_kept_secret(&clone, &refused);
    assert_eq!((code(&clone), key(&clone)), (vec!["three".to_owned(); 3], json!(NEW_KEY)));
    // With the code of another release the present secrets stay, and from there on releases have them.
    for release in ["four", "five"] {
        assert_succeeded(&deploy_code(&clone, release));
    }
    assert_succeeded(&clone.deploy(&["rollback", "--yes"]));
    assert_eq!((code(&clone), key(&clone)), (vec!["four".to_owned(); 3], json!(NEW_KEY)));
    assert_refused(&clone.deploy(&["--only", "secrets"]), &["run the whole ./deploy.sh --env staging"]);
}

/// The names in a list of the script.
fn listed(function: &str, argument: &str) -> BTreeSet<String> {
    let script = format!("source deploy/settings.sh; {function} {argument}");
    let run = std::process::Command::new("bash").args(["-c", &script]).current_dir(repository()).output();
    let text = String::from_utf8(run.expect("bash is there").stdout).expect("names");
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn every_worker_gets_what_its_configuration_reads() {
    use keapsync_platform::config::{CoordinatorConfig, Lookup, SyncConfig, WebhookConfig};
    let read_by = |worker: &str| -> BTreeSet<String> {
        let names = std::cell::RefCell::new(BTreeSet::new());
        let value = |name: &str| {
            names.borrow_mut().insert(name.to_owned());
            let value = match name {
                "TOKEN_ENCRYPTION_KEY" => NEW_KEY,
                "KEAP_REDIRECT_URI" | "WEBHOOK_PUBLIC_URL" => "https://worker.example",
                "KEAP_CLIENT_ID"
                | "KEAP_CLIENT_SECRET"
                | "ADMIN_API_TOKEN"
                | "INTERNAL_TOKEN"
                | "WAKE_TOKEN"
                | "KEAP_WEBHOOK_SECRET" => "a-value-that-is-long-enough",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let lookup = Lookup::new(&value);
        let read = match worker {
            "coordinator" => CoordinatorConfig::read(&lookup).map(drop),
            "webhook" => WebhookConfig::read(&lookup).map(drop),
            _ => SyncConfig::read(&lookup).map(drop),
        };
        assert!(read.is_ok(), "the configuration of {worker} was not read to its end");
        names.take()
    };
    for worker in ["coordinator", "webhook", "sync"] {
        let mut read = read_by(worker);
        // It answers no /metrics.
        if worker == "webhook" {
            assert!(read.remove("METRICS_TOKEN"));
        }
        let given = &listed("secrets_of", worker) | &listed("variables_of", worker);
        assert_eq!(given, read, "of {worker}");
    }
}

/// Programs that install or compile run the scripts of everybody whose code is used; each other program gets what it needs by name.
#[test]
fn nothing_is_installed_or_built_with_the_deployments_secrets() {
    let clone = Clone::deployed();
    let variables = in_ci(&clone);
    let mut variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    variables.extend([
        ("CLOUDFLARE_API_TOKEN", "token-of-cloudflare"),
        ("KEAP_CLIENT_SECRET", "secret-of-the-client"),
        ("STAND_IN_CODE", "two"),
    ]);
    // A machine without the pinned tools: they are installed first.
    let wrangler = clone.root.join("node_modules/.bin/wrangler");
    let hidden = clone.root.join("node_modules/.bin/hidden");
    std::fs::rename(&wrangler, &hidden).expect("it can be moved");
    let before = clone.state()["calls"].as_array().map_or(0, Vec::len);
    let run = clone.deploy_with(&["--code-only", "--yes"], Failure::None, &variables, "");
    assert!(!run.succeeded, "it cannot go on without wrangler:\n{}", run.output);
    std::fs::rename(&hidden, &wrangler).expect("it can be moved back");
    assert_succeeded(&clone.deploy_with(&["--code-only", "--yes"], Failure::None, &variables, ""));
    let state = clone.state();
    let (calls, seen) = (state["calls"].as_array().expect("calls"), state["seen"].as_array().expect("names"));
    assert_eq!(calls.len(), seen.len());
    let mut kinds = BTreeSet::new();
    for (call, seen) in calls.iter().zip(seen).skip(before) {
        let call = call.as_str().expect("a text");
        let expected = match call {
            _ if call.starts_with("xtask migrate") => json!(["DATABASE_URL"]),
            _ if call.starts_with("xtask smoke") => json!(["ADMIN_API_TOKEN"]),
            // It is asked for its version before any setting is read.
            _ if call.starts_with("wrangler") && call != "wrangler --version" => {
                json!(["CLOUDFLARE_API_TOKEN"])
            }
            _ => json!([]),
        };
        assert_eq!(*seen, expected, "{call}");
        kinds.extend(call.split(' ').next());
    }
    assert_eq!(kinds, ["cargo", "curl", "npm", "wrangler", "xtask"].into());
}

#[test]
fn what_was_built_elsewhere_is_deployed_without_compiling_anything() {
    let clone = Clone::deployed();
    let variables = in_ci(&clone);
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let deploy = || clone.deploy_with(&["--code-only", "--prebuilt", "--yes"], Failure::None, &variables, "");
    assert_refused(&deploy(), &["build/xtask is not there"]);
    std::fs::copy(clone.root.join("bin/xtask"), clone.root.join("build/xtask")).expect("the program");
    // It looks for the stand-in beside itself.
    std::fs::copy(clone.root.join("bin/stand_in.cjs"), clone.root.join("build/stand_in.cjs"))
        .expect("it too");
    std::fs::remove_file(clone.root.join("bin/cargo")).expect("there is no cargo there");
    let run = deploy();
    assert_succeeded(&run);
    assert!(run.calls.iter().any(|call| call == "xtask migrate up"), "{:#?}", run.calls);
    std::fs::remove_file(clone.root.join("build/sync/index_bg.wasm")).expect("it was built");
    assert_refused(&deploy(), &["the sync worker is not in build/"]);
}

/// The jobs of a workflow, each with its text.
fn jobs(workflow: &str) -> std::collections::BTreeMap<String, String> {
    let (_, jobs) = workflow.split_once("\njobs:\n").expect("it has jobs");
    let mut found = std::collections::BTreeMap::new();
    let mut name = String::new();
    for line in jobs.lines() {
        let heading = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' '));
        match heading.and_then(|rest| rest.strip_suffix(':')) {
            Some(job) => job.clone_into(&mut name),
            None => found.entry(name.clone()).or_insert_with(String::new).extend([line, "\n"]),
        }
    }
    found
}

#[test]
fn the_workflow_builds_where_no_secret_is() {
    let workflow = std::fs::read_to_string(repository().join(".github/workflows/deploy.yml")).expect("it");
    let jobs = jobs(&workflow);
    assert_eq!(jobs.keys().collect::<Vec<_>>(), ["build", "checks", "deploy"]);
    for (name, job) in &jobs {
        let (has_secrets, compiles) = (job.contains("secrets."), job.contains("cargo "));
        assert!(!(has_secrets && compiles), "{name} compiles where secrets are");
        // The environment's secrets are at hand to every step of its job.
        assert_eq!(job.contains("environment:"), has_secrets, "{name}");
    }
    let (before, steps) = jobs["deploy"].split_once("    steps:\n").expect("it has steps");
    assert!(!before.contains("secrets."), "every step would have them");
    for step in steps.split("\n      - ") {
        assert!(!(step.contains("secrets.") && step.contains("npm ")), "npm runs where secrets are: {step}");
        for line in step.lines().filter(|line| line.contains("npm ") && !line.contains("# ")) {
            assert!(
                line.contains("npm ci --ignore-scripts"),
                "a package's script could wait for them: {line}"
            );
        }
    }
    // wrangler wants the Node that is pinned, which npm puts in place by a script only.
    let pinned: Value =
        serde_json::from_str(&std::fs::read_to_string(repository().join("package.json")).expect("the pins"))
            .expect("JSON");
    let node = pinned["devDependencies"]["node"].as_str().expect("a version");
    assert!(jobs["deploy"].contains(&format!("node-version: {node}\n")), "another Node than {node}");
}

#[test]
fn the_workflow_passes_every_setting_and_no_secret_of_the_workers() {
    let workflow = std::fs::read_to_string(repository().join(".github/workflows/deploy.yml")).expect("it");
    let passed = |kind: &str| -> BTreeSet<String> {
        let lines = workflow.lines().filter_map(|line| line.trim().split_once(": ${{ "));
        lines
            .filter(|(name, value)| *value == format!("{kind}.{name} }}}}"))
            .map(|(name, _)| name.to_owned())
            .collect()
    };
    let mut settings: BTreeSet<String> =
        ["coordinator", "webhook", "sync"].iter().flat_map(|worker| listed("variables_of", worker)).collect();
    settings.extend(["CLOUDFLARE_ACCOUNT_ID", "SYNC_PUBLIC_URL"].map(str::to_owned));
    assert_eq!(passed("vars"), settings);
    assert_eq!(
        passed("secrets"),
        ["ADMIN_API_TOKEN", "CLOUDFLARE_API_TOKEN", "DATABASE_URL"].map(str::to_owned).into()
    );
    assert_eq!(workflow.matches("secrets.").count(), 3);
    assert!(workflow.contains("./deploy.sh --env \"$ENVIRONMENT\" --code-only --prebuilt --yes"));
    let manual = std::fs::read_to_string(repository().join("docs/manual-setup.md")).expect("the manual");
    let section = manual.split("## Deployments from GitHub").nth(1).expect("it says how");
    for name in &settings {
        assert!(section.contains(&format!("`{name}`")), "the manual does not say that {name} is set there");
    }
}
