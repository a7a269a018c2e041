//! `deploy.sh` against stand-ins for wrangler, cargo, npm and curl: what it calls, in which order, what is there afterwards, and that a
//! run that broke off anywhere is finished by the next.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends at the first thing that is not as it should be"
)]

mod apart;
mod documents;
mod failures;
mod going_back;
mod secrets;
mod settings;
mod stage;

use serde_json::{Value, json};
use stage::{Clone, Failure, Run, SETTINGS};

/// Fails with what a run printed, unless it succeeded.
fn assert_succeeded(run: &Run) {
    assert!(run.succeeded, "it failed:\n{}\n{}", run.calls.join("\n"), run.output);
}

/// Fails unless a run failed and said so in these words.
fn assert_refused(run: &Run, words: &[&str]) {
    assert!(!run.succeeded, "it should have failed:\n{}", run.output);
    for word in words {
        assert!(run.output.contains(word), "no {word:?} in:\n{}", run.output);
    }
    assert!(run.output.contains("next:"), "no advice in:\n{}", run.output);
}

/// Calls without what differs from run to run: paths, ids, releases.
fn shape(clone: &Clone, calls: &[String]) -> Vec<String> {
    let root = format!("{}/", clone.root.display());
    let shorten = |call: &String| {
        let call = call.replace(&root, "");
        let call = call.split(" --message ").next().unwrap_or_default().to_owned();
        call.split(' ')
            .map(|word| {
                let is_id = word.len() >= 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
                if is_id { "ID" } else { word }
            })
            .collect::<Vec<_>>()
            .join(" ")
    };
    calls.iter().map(shorten).collect()
}

/// Deployments by worker: how often each was deployed, under which kind of tag.
fn worker<'a>(state: &'a Value, name: &str) -> &'a Value {
    let found = &state["workers"][name];
    assert!(found.is_object(), "no worker {name} in {state}");
    found
}

/// A deployment is whole: one of each thing, and the workers know each other, their addresses and their secrets.
fn assert_whole(clone: &Clone) {
    let state = clone.state();
    let settings = clone.settings();
    let count = |name: &str| state[name].as_array().map_or(0, Vec::len);
    assert_eq!((count("namespaces"), count("hyperdrives")), (1, 1), "{state}");
    assert_eq!(state["namespaces"][0]["title"], json!("keapsync-staging"));
    let hyperdrive = &state["hyperdrives"][0];
    assert_eq!(
        (&hyperdrive["name"], &hyperdrive["caching"], &hyperdrive["user"]),
        (&json!("keapsync-staging"), &json!("disabled"), &json!("keapsync_engine"))
    );
    assert_eq!(hyperdrive["password"], json!(settings["ENGINE_DATABASE_PASSWORD"]));
    assert_eq!(state["database"]["password"], hyperdrive["password"]);
    assert_eq!(state["workers"].as_object().map_or(0, serde_json::Map::len), 3);
    let coordinator = worker(&state, "sync-coordinator-staging");
    assert_eq!(coordinator["services"], json!(["sync-worker-staging"]));
    assert_eq!(coordinator["vars"]["KEAP_CLIENT_ID"], json!("client-id"));
    assert_eq!(
        coordinator["vars"]["KEAP_REDIRECT_URI"],
        json!(format!("{}/oauth/callback", coordinator["url"].as_str().unwrap_or_default()))
    );
    assert_eq!(coordinator["vars"]["WEBHOOK_PUBLIC_URL"], worker(&state, "webhook-handler-staging")["url"]);
    for (name, secrets) in [
        (
            "sync-coordinator-staging",
            &[
                "ADMIN_API_TOKEN",
                "INTERNAL_TOKEN",
                "KEAP_CLIENT_SECRET",
                "KEAP_WEBHOOK_SECRET",
                "TOKEN_ENCRYPTION_KEY",
                "WAKE_TOKEN",
            ][..],
        ),
        ("webhook-handler-staging", &["INTERNAL_TOKEN", "KEAP_WEBHOOK_SECRET"]),
        ("sync-worker-staging", &["ADMIN_API_TOKEN", "INTERNAL_TOKEN"]),
    ] {
        let expected: serde_json::Map<String, Value> =
            secrets.iter().map(|secret| ((*secret).to_owned(), json!(settings[*secret]))).collect();
        assert_eq!(worker(&state, name)["secrets"], Value::Object(expected), "secrets of {name}");
    }
    assert_eq!(state["quick"], json!(false), "a quick build was deployed");
}

/// No secret is in what was printed, in the arguments of a program, or in a file beside the environment file.
fn assert_kept_secret(clone: &Clone, run: &Run) {
    let settings = clone.settings();
    let names = [
        "ADMIN_API_TOKEN",
        "INTERNAL_TOKEN",
        "WAKE_TOKEN",
        "KEAP_WEBHOOK_SECRET",
        "TOKEN_ENCRYPTION_KEY",
        "ENGINE_DATABASE_PASSWORD",
        "KEAP_CLIENT_SECRET",
    ];
    let mut secrets: Vec<&str> =
        names.iter().filter_map(|name| settings.get(*name)).map(String::as_str).collect();
    secrets.push("pass-of-the-owner");
    let mut texts =
        vec![("what it printed".to_owned(), run.output.clone()), ("a call".to_owned(), run.calls.join("\n"))];
    if let Ok(entries) = std::fs::read_dir(clone.root.join(".keapsync/deploy/staging")) {
        for entry in entries {
            let path = entry.expect("a file of the state").path();
            texts.push((path.display().to_string(), std::fs::read_to_string(&path).expect("a text")));
        }
    }
    for (place, text) in &texts {
        for secret in &secrets {
            assert!(!secret.is_empty() && !text.contains(secret), "a secret is in {place}");
        }
    }
}

/// What a first deployment calls, in this order.
const FIRST_DEPLOYMENT: [&str; 23] = [
    "wrangler --version",
    "wrangler whoami --json",
    "wrangler deployments list --name sync-coordinator-staging --json",
    "cargo build --quiet --locked --package keapsync-xtask --message-format json-render-diagnostics",
    "xtask build-worker",
    "wrangler hyperdrive list",
    "xtask migrate up",
    "xtask engine-password",
    "wrangler kv namespace list",
    "wrangler kv namespace create keapsync-staging",
    "wrangler kv namespace list",
    "wrangler hyperdrive list",
    "wrangler hyperdrive create keapsync-staging --origin-scheme postgresql --origin-host db.abcdefgh.supabase.co --origin-port 5432 --origin-user keapsync_engine --database postgres --caching-disabled --origin-connection-limit 10",
    "wrangler hyperdrive list",
    "wrangler deployments list --name sync-worker-staging --json",
    "wrangler deploy --config .keapsync/deploy/staging/wrangler-coordinator.toml --env staging --secrets-file /dev/stdin --tag first-pass",
    "wrangler deploy --config .keapsync/deploy/staging/wrangler-webhook.toml --env staging --secrets-file /dev/stdin --tag ID",
    "wrangler deploy --config .keapsync/deploy/staging/wrangler-sync.toml --env staging --secrets-file /dev/stdin --tag ID",
    "wrangler deploy --config .keapsync/deploy/staging/wrangler-coordinator.toml --env staging --secrets-file /dev/stdin --tag ID",
    "curl --silent --max-time 20 --output .keapsync/deploy/staging/health-coordinator.json --write-out %{http_code} https://sync-coordinator-staging.acme.workers.dev/health",
    "curl --silent --max-time 20 --output .keapsync/deploy/staging/health-webhook.json --write-out %{http_code} https://webhook-handler-staging.acme.workers.dev/health",
    "curl --silent --max-time 20 --output .keapsync/deploy/staging/health-sync.json --write-out %{http_code} https://sync-worker-staging.acme.workers.dev/health",
    "xtask smoke --coordinator-url https://sync-coordinator-staging.acme.workers.dev --webhook-url https://webhook-handler-staging.acme.workers.dev --sync-url https://sync-worker-staging.acme.workers.dev",
];

#[test]
fn a_dry_run_on_a_clean_clone_says_everything_and_calls_nothing() {
    let clone = Clone::new();
    clone.change_state(|state| state["loggedIn"] = json!(false));
    // Neither the pinned tools nor settings are there yet.
    std::fs::remove_dir_all(clone.root.join("node_modules")).expect("they can be removed");
    for environment in ["staging", "production"] {
        let run = clone.deploy(&["--dry-run", "--env", environment]);
        assert_succeeded(&run);
        assert_eq!(run.calls, Vec::<String>::new());
        for step in [
            "tools",
            "login",
            "settings",
            "build",
            "database",
            "namespace",
            "hyperdrive",
            "config",
            "coordinator",
            "webhook",
            "sync",
            "check",
        ] {
            assert!(run.output.contains(&format!("\n==> {step}: ")), "no step {step} in:\n{}", run.output);
        }
        assert_eq!(run.output.matches("\n==> ").count(), run.output.matches("\n    undo: ").count());
        for said in [
            "DATABASE_URL is not set yet",
            "ADMIN_API_TOKEN would be generated",
            &format!("wrangler kv namespace create keapsync-{environment}"),
            "cargo xtask migrate up",
        ] {
            assert!(run.output.contains(said), "no {said:?} in:\n{}", run.output);
        }
    }
    for command in ["rollback", "destroy", "validate"] {
        let run = clone.deploy(&[command, "--dry-run"]);
        assert_succeeded(&run);
        assert_eq!(run.calls, Vec::<String>::new());
    }
    assert!(!clone.root.join(".keapsync").exists());
}

#[test]
fn a_first_deployment_makes_exactly_these_calls() {
    let clone = Clone::with_settings();
    let run = clone.deploy(&[]);
    assert_succeeded(&run);
    assert_eq!(shape(&clone, &run.calls), FIRST_DEPLOYMENT);
    assert_whole(&clone);
    assert_kept_secret(&clone, &run);
    assert!(run.output.contains("https://sync-coordinator-staging.acme.workers.dev/oauth/callback"));
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(clone.root.join(".env.staging")).expect("the file").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_second_deployment_makes_nothing_anew() {
    let clone = Clone::deployed();
    let before = clone.state();
    let run = clone.deploy_with(&[], Failure::None, &[("STAND_IN_CODE", "two")], "");
    assert_succeeded(&run);
    assert_whole(&clone);
    assert_kept_secret(&clone, &run);
    let shape = shape(&clone, &run.calls);
    for made in ["create", "update", "engine-password", "first-pass"] {
        assert!(!shape.iter().any(|call| call.contains(made)), "{made} in {shape:#?}");
    }
    let deployed: Vec<&String> =
        shape.iter().filter(|call| call.starts_with("wrangler deploy --config")).collect();
    assert_eq!(deployed.len(), 3, "{shape:#?}");
    assert_eq!(clone.state()["namespaces"], before["namespaces"]);
    assert_eq!(clone.state()["hyperdrives"], before["hyperdrives"]);
}

#[test]
fn the_tracked_configurations_stay_as_they_are() {
    let clone = Clone::deployed();
    for worker in ["coordinator", "webhook", "sync"] {
        let name = format!("wrangler-{worker}.toml");
        let read =
            |root: &std::path::Path| std::fs::read_to_string(root.join(&name)).expect("a configuration");
        assert_eq!(read(&clone.root), read(&stage::repository()));
    }
}

#[test]
fn what_is_missing_or_wrong_is_named_with_what_to_do() {
    let clone = Clone::new();
    assert_refused(
        &clone.deploy(&[]),
        &["DATABASE_URL KEAP_CLIENT_ID KEAP_CLIENT_SECRET", "copy .env.example to .env.staging"],
    );
    clone.write_settings(&[
        ("DATABASE_URL", "postgres://u:p@pooler.example:6543/postgres"),
        SETTINGS[1],
        SETTINGS[2],
    ]);
    assert_refused(&clone.deploy(&[]), &["transaction pooler", "5432"]);
    clone.write_settings(&[SETTINGS[0], SETTINGS[1]]);
    assert_refused(&clone.deploy(&[]), &["these settings are empty: KEAP_CLIENT_SECRET"]);
    clone.write_settings(&SETTINGS);
    clone.change_state(|state| state["loggedIn"] = json!(false));
    assert_refused(&clone.deploy(&[]), &["npx wrangler login"]);
    clone.change_state(|state| {
        state["loggedIn"] = json!(true);
        state["accounts"] = json!([{"id": "one", "name": "One"}, {"id": "two", "name": "Two"}]);
    });
    assert_refused(&clone.deploy(&[]), &["several accounts", "CLOUDFLARE_ACCOUNT_ID"]);
    for (arguments, words) in [
        (&["--env", "test"][..], "no environment test"),
        (&["--only", "everything"], "no step everything"),
        (&["--production"], "no option or command --production"),
        (&["rollback", "--only", "sync"], "--only belongs to deploying"),
        (&["--health-only"], "belong to validate"),
    ] {
        assert_refused(&clone.deploy(arguments), &[words]);
    }
    assert_eq!(clone.state()["workers"], json!({}));
}

#[test]
fn production_is_deployed_only_after_a_yes() {
    let clone = Clone::with_settings();
    std::fs::rename(clone.root.join(".env.staging"), clone.root.join(".env.production"))
        .expect("it can be renamed");
    let asked = |input: &str| clone.deploy_with(&["--env", "production"], Failure::None, &[], input);
    for answer in ["", "no\n"] {
        assert_refused(&asked(answer), &["nothing was changed"]);
        assert_eq!(clone.state()["database"], json!({}));
        let file = std::fs::read_to_string(clone.root.join(".env.production")).expect("the file");
        assert!(!file.contains("TOKEN_ENCRYPTION_KEY"), "it generated secrets before it asked");
    }
    assert_succeeded(&asked("y\n"));
    assert!(clone.state()["workers"]["sync-coordinator-production"].is_object());
}

#[test]
fn a_second_machine_does_not_make_other_secrets() {
    let clone = Clone::deployed();
    let complete = clone.settings();
    std::fs::remove_dir_all(clone.root.join(".keapsync")).expect("it can be removed");
    clone.write_settings(&SETTINGS);
    let before = clone.state()["workers"].clone();
    assert_refused(
        &clone.deploy(&[]),
        &["TOKEN_ENCRYPTION_KEY", "copy them from the machine that deployed it"],
    );
    assert_eq!(clone.state()["workers"], before);
    // As in CI: no file, all but the database's password in the environment, and Hyperdrive keeps what it has.
    std::fs::remove_file(clone.root.join(".env.staging")).expect("it can be removed");
    let variables: Vec<(&str, &str)> = complete
        .iter()
        .filter(|(name, _)| *name != "ENGINE_DATABASE_PASSWORD")
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let run = clone.deploy_with(&["--yes"], Failure::None, &variables, "");
    assert_succeeded(&run);
    assert!(
        !run.calls.iter().any(|call| call.contains("engine-password") || call.contains("hyperdrive update"))
    );
    assert_eq!(
        clone.state()["workers"]["sync-worker-staging"]["secrets"],
        before["sync-worker-staging"]["secrets"]
    );
    // A deployment that is there must not be given a coordinator without its other half.
    let without_addresses: Vec<(&str, &str)> =
        variables.iter().copied().filter(|(name, _)| *name != "SYNC_PUBLIC_URL").collect();
    assert_refused(
        &clone.deploy_with(&[], Failure::None, &without_addresses, ""),
        &["addresses are not known"],
    );
    assert_eq!(
        clone.state()["workers"]["sync-coordinator-staging"]["services"],
        json!(["sync-worker-staging"])
    );
}

#[test]
fn a_file_counts_before_what_is_left_over_in_the_shell() {
    let clone = Clone::with_settings();
    let run = clone.deploy_with(
        &[],
        Failure::None,
        &[("DATABASE_URL", "postgres://other:other@elsewhere.example:5432/other")],
        "",
    );
    assert_succeeded(&run);
    assert_eq!(clone.state()["hyperdrives"][0]["host"], json!("db.abcdefgh.supabase.co"));
}

#[test]
fn a_pooler_and_domains_of_ones_own_are_used_as_they_are_entered() {
    let clone = Clone::new();
    clone.write_settings(&[
        ("DATABASE_URL", "postgres://postgres.abcdefgh:pass-of-the-owner@aws-0-eu-west-1.pooler.supabase.com:5432/postgres"),
        SETTINGS[1],
        SETTINGS[2],
        ("KEAP_REDIRECT_URI", "https://sync.example.com/oauth/callback"),
        ("WEBHOOK_PUBLIC_URL", "https://hooks.example.com"),
        ("LOG_LEVEL", "\"debug\""),
    ]);
    // A domain leads somewhere else afterwards, so that is asked before anything else is done; but once.
    assert_refused(
        &clone.deploy(&[]),
        &["sync.example.com", "hooks.example.com", "Deploy to staging now?", "nothing was changed"],
    );
    assert_eq!(clone.state()["database"], json!({}));
    assert!(!clone.settings().contains_key("TOKEN_ENCRYPTION_KEY"));
    assert_succeeded(&clone.deploy_with(&[], Failure::None, &[], "y\n"));
    assert_succeeded(&clone.deploy(&[]));
    let state = clone.state();
    let hyperdrive = &state["hyperdrives"][0];
    assert_eq!(
        (&hyperdrive["host"], &hyperdrive["user"]),
        (&json!("aws-0-eu-west-1.pooler.supabase.com"), &json!("keapsync_engine.abcdefgh"))
    );
    assert_eq!(worker(&state, "sync-coordinator-staging")["url"], json!("https://sync.example.com"));
    assert_eq!(worker(&state, "webhook-handler-staging")["url"], json!("https://hooks.example.com"));
    assert_eq!(worker(&state, "sync-worker-staging")["vars"]["LOG_LEVEL"], json!("debug"));
    assert_eq!(clone.settings()["SYNC_PUBLIC_URL"], "https://sync-worker-staging.acme.workers.dev");
}

#[test]
fn one_step_alone_does_what_it_says() {
    let clone = Clone::with_settings();
    assert_refused(
        &clone.deploy(&["--only", "webhook"]),
        &["there is no KV namespace", "run the whole ./deploy.sh"],
    );
    assert_succeeded(&clone.deploy(&["--only", "database"]));
    assert_eq!(clone.state()["workers"], json!({}));
    assert_succeeded(&clone.deploy(&[]));
    for worker in ["webhook", "sync", "coordinator"] {
        let run = clone.deploy(&["--only", worker]);
        assert_succeeded(&run);
        let deployed: Vec<&String> =
            run.calls.iter().filter(|call| call.starts_with("wrangler deploy --config")).collect();
        assert_eq!(deployed.len(), 1);
        assert!(deployed[0].contains(&format!("wrangler-{worker}.toml")), "{deployed:?}");
    }
    let mut settings = clone.settings();
    settings.insert("ADMIN_API_TOKEN".to_owned(), "a-new-token-for-admins".to_owned());
    let settings: Vec<(&str, &str)> =
        settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    clone.write_settings(&settings);
    let run = clone.deploy(&["--only", "secrets"]);
    assert_succeeded(&run);
    assert_kept_secret(&clone, &run);
    assert_whole(&clone);
    assert_succeeded(&clone.deploy(&["--only", "check"]));
}

#[test]
fn a_new_password_of_the_database_reaches_hyperdrive() {
    let clone = Clone::deployed();
    let mut settings = clone.settings();
    settings.insert("ENGINE_DATABASE_PASSWORD".to_owned(), "another-password-of-the-engine".to_owned());
    let settings: Vec<(&str, &str)> =
        settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    clone.write_settings(&settings);
    let run = clone.deploy(&[]);
    assert_succeeded(&run);
    assert_kept_secret(&clone, &run);
    assert_whole(&clone);
}

#[test]
fn a_configuration_that_caches_is_not_accepted() {
    let clone = Clone::deployed();
    clone.change_state(|state| state["hyperdrives"][0]["caching"] = json!("enabled"));
    assert_refused(&clone.deploy(&["validate"]), &["caches answers"]);
    assert_succeeded(&clone.deploy(&[]));
    assert_whole(&clone);
}
