//! Rollback, validation and destruction.

use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::stage::{Clone, Failure, Run};
use crate::{assert_kept_secret, assert_refused, assert_succeeded, worker};

/// Three releases with their code, one after the other.
pub fn with_three_releases() -> Clone {
    static DEPLOYED: OnceLock<Clone> = OnceLock::new();
    let deploy = || {
        let clone = Clone::deployed();
        for code in ["two", "three"] {
            assert_succeeded(&deploy_code(&clone, code));
        }
        clone
    };
    DEPLOYED.get_or_init(deploy).copy()
}

pub fn deploy_code(clone: &Clone, code: &str) -> Run {
    clone.deploy_with(&[], Failure::None, &[("STAND_IN_CODE", code)], "")
}

/// The code that each worker runs.
pub fn code(clone: &Clone) -> Vec<String> {
    let state = clone.state();
    let running = |name: &str| {
        let worker = worker(&state, name);
        let deployments = worker["deployments"].as_array().expect("a list");
        let id = &deployments.last().expect("one at least")["versions"][0]["version_id"];
        let versions = worker["versions"].as_array().expect("a list");
        let version = versions.iter().find(|version| version["id"] == *id).expect("it is known");
        version["code"]
            .as_str()
            .and_then(|code| code.split(' ').nth(1))
            .expect("code of a release")
            .to_owned()
    };
    ["sync-coordinator-staging", "webhook-handler-staging", "sync-worker-staging"].map(running).into()
}

#[test]
fn a_rollback_brings_all_three_workers_back_and_leaves_the_database() {
    let clone = with_three_releases();
    let database = clone.state()["database"].clone();
    assert_eq!(code(&clone), ["three"; 3]);
    assert_refused(&clone.deploy(&["rollback"]), &["nothing was changed"]);
    assert_eq!(code(&clone), ["three"; 3]);
    let run = clone.deploy(&["rollback", "--yes"]);
    assert_succeeded(&run);
    assert_kept_secret(&clone, &run);
    assert_eq!(code(&clone), ["two"; 3]);
    // Once more goes further back, and not to the release that was left.
    assert_succeeded(&clone.deploy(&["rollback", "--yes"]));
    assert_eq!(code(&clone), ["one"; 3]);
    assert_refused(&clone.deploy(&["rollback", "--yes"]), &["there is no release before"]);
    assert_eq!(clone.state()["database"], database);
}

#[test]
fn a_release_that_was_rolled_back_from_is_not_come_back_to() {
    let clone = with_three_releases();
    assert_succeeded(&clone.deploy(&["rollback", "--yes"]));
    assert_succeeded(&deploy_code(&clone, "four"));
    assert_eq!(code(&clone), ["four"; 3]);
    assert_succeeded(&clone.deploy(&["rollback", "--yes"]));
    assert_eq!(code(&clone), ["two"; 3]);
}

#[test]
fn a_rollback_of_half_a_release_makes_all_three_agree() {
    let clone = with_three_releases();
    let failed = clone.deploy_with(&[], Failure::Before(11), &[("STAND_IN_CODE", "four")], "");
    assert!(!failed.succeeded);
    assert_eq!(code(&clone), ["four", "three", "three"], "{:#?}", failed.calls);
    assert_succeeded(&clone.deploy(&["rollback", "--yes"]));
    assert_eq!(code(&clone), ["three"; 3]);
}

#[test]
fn a_rollback_that_broke_off_is_finished_by_the_next() {
    let clone = with_three_releases();
    let calls = {
        let probe = with_three_releases();
        let run = probe.deploy(&["rollback", "--yes"]);
        assert_succeeded(&run);
        run.calls
    };
    let rollbacks: Vec<usize> =
        (1..=calls.len()).filter(|number| calls[number - 1].starts_with("wrangler rollback")).collect();
    assert_eq!(rollbacks.len(), 3, "{calls:#?}");
    // The coordinator goes last, so a run that breaks off still knows where it came from.
    assert!(!clone.deploy_with(&["rollback", "--yes"], Failure::Before(rollbacks[2]), &[], "").succeeded);
    assert_eq!(code(&clone), ["three", "two", "two"]);
    assert_succeeded(&clone.deploy(&["rollback", "--yes"]));
    assert_eq!(code(&clone), ["two"; 3]);
}

#[test]
fn a_named_release_comes_back_and_an_unknown_one_changes_nothing() {
    let clone = with_three_releases();
    let state = clone.state();
    let versions = worker(&state, "webhook-handler-staging")["versions"].as_array().expect("a list");
    let first = versions[0]["annotations"]["workers/tag"].as_str().expect("a release").to_owned();
    assert_refused(
        &clone.deploy(&["rollback", "--yes", "--to", "0123456789abcdef"]),
        &["no version of release 0123456789abcdef"],
    );
    assert_eq!(code(&clone), ["three"; 3]);
    assert_succeeded(&clone.deploy(&["rollback", "--yes", "--to", &first]));
    assert_eq!(code(&clone), ["one"; 3]);
}

#[test]
fn secrets_that_were_sent_alone_are_no_release() {
    let clone = with_three_releases();
    assert_succeeded(&clone.deploy(&["--only", "secrets"]));
    assert_succeeded(&clone.deploy(&["rollback", "--yes"]));
    assert_eq!(code(&clone), ["two"; 3]);
}

/// Breaks something behind the script's back.
type Breaking = fn(&mut Value);

fn remove_worker(state: &mut Value, name: &str) {
    state["workers"].as_object_mut().expect("workers").remove(name).expect("it was there");
}

#[test]
fn validation_finds_what_is_missing_and_changes_nothing() {
    let clone = Clone::with_settings();
    assert_refused(&clone.deploy(&["validate", "--config-only"]), &["the workers are not built"]);
    assert_succeeded(&clone.deploy(&["--only", "build"]));
    clone.change_state(|state| state["loggedIn"] = json!(false));
    let run = clone.deploy(&["validate", "--config-only"]);
    assert_succeeded(&run);
    assert_eq!(run.calls.iter().filter(|call| call.starts_with("wrangler deploy --dry-run")).count(), 3);
    clone.change_state(|state| state["loggedIn"] = json!(true));
    assert_refused(&clone.deploy(&["validate"]), &["there is no KV namespace"]);
    assert_refused(
        &clone.deploy(&["rollback", "--yes"]),
        &["the worker is not deployed yet: run ./deploy.sh --env staging first"],
    );
    assert_refused(
        &clone.deploy(&["validate", "--health-only"]),
        &["the address of the coordinator worker is not known"],
    );
    assert_succeeded(&clone.deploy(&[]));
    let whole = without_calls(clone.state());
    for arguments in [&["validate"][..], &["validate", "--config-only"], &["validate", "--health-only"]] {
        let run = clone.deploy(arguments);
        assert_succeeded(&run);
        assert_kept_secret(&clone, &run);
        assert_eq!(without_calls(clone.state()), whole);
    }
    // On another machine, as in CI, nothing is built, and the secrets are where they belong.
    std::fs::rename(clone.root.join("build"), clone.root.join("elsewhere")).expect("it can be moved");
    let run = clone.deploy(&["validate"]);
    assert_succeeded(&run);
    assert!(run.output.contains("the workers are not built here"), "{}", run.output);
    std::fs::rename(clone.root.join("elsewhere"), clone.root.join("build")).expect("it can be moved");
    let health = clone.deploy(&["validate", "--health-only"]);
    assert!(health.calls.iter().all(|call| call.starts_with("curl")), "{:#?}", health.calls);
    let broken: [(&str, Breaking, &str); 4] = [
        (
            "a secret",
            |state| state["workers"]["sync-worker-staging"]["secrets"] = json!({"ADMIN_API_TOKEN": "x"}),
            "sync/INTERNAL_TOKEN",
        ),
        ("a migration", |state| state["database"]["migrated"] = json!(false), "--only database"),
        ("health", |state| state["unwell"] = json!(true), "/health answers 503"),
        (
            "a worker",
            |state| remove_worker(state, "webhook-handler-staging"),
            "webhook-handler-staging is not deployed",
        ),
    ];
    for (what, breaking, words) in broken {
        clone.change_state(breaking);
        assert_refused(&clone.deploy(&["validate"]), &[words]);
        let mut mended = whole.clone();
        for recorded in ["calls", "seen"] {
            mended[recorded] = clone.state()[recorded].clone();
        }
        clone.write_state(&mended);
        assert!(clone.deploy(&["validate"]).succeeded, "{what} was not mended by the test");
    }
}

fn without_calls(mut state: Value) -> Value {
    state["calls"] = json!([]);
    state["seen"] = json!([]);
    state
}

#[test]
fn destruction_wants_the_name_typed() {
    let clone = Clone::deployed();
    let whole = without_calls(clone.state());
    for typed in ["", "yes\n", "production\n", "Staging\n"] {
        let run = clone.deploy_with(&["destroy", "--yes"], Failure::None, &[], typed);
        assert_refused(&run, &["nothing was deleted"]);
        assert_eq!(without_calls(clone.state()), whole);
    }
    let run = clone.deploy_with(&["destroy"], Failure::None, &[], "staging\n");
    assert_succeeded(&run);
    let state = clone.state();
    assert_eq!(
        (&state["workers"], &state["namespaces"], &state["hyperdrives"]),
        (&json!({}), &json!([]), &json!([]))
    );
    assert_eq!(state["database"]["migrated"], json!(true));
    assert!(clone.settings().contains_key("TOKEN_ENCRYPTION_KEY"));
    // Again, there is nothing left to delete; and a new deployment begins from nothing.
    assert_succeeded(&clone.deploy_with(&["destroy"], Failure::None, &[], "staging\n"));
    assert_succeeded(&clone.deploy(&[]));
    crate::assert_whole(&clone);
}

#[test]
fn destruction_that_broke_off_is_finished_by_the_next() {
    let whole = Clone::deployed();
    let state = whole.state();
    let calls = whole.deploy_with(&["destroy"], Failure::None, &[], "staging\n").calls;
    let deletions = (1..=calls.len()).filter(|number| calls[number - 1].contains(" delete "));
    let numbers: Vec<usize> = deletions.collect();
    assert_eq!(numbers.len(), 5, "{calls:#?}");
    for number in numbers {
        whole.write_state(&state);
        assert!(!whole.deploy_with(&["destroy"], Failure::After(number), &[], "staging\n").succeeded);
        assert_succeeded(&whole.deploy_with(&["destroy"], Failure::None, &[], "staging\n"));
        let after = whole.state();
        assert_eq!(
            (&after["workers"], &after["namespaces"], &after["hyperdrives"]),
            (&json!({}), &json!([]), &json!([]))
        );
    }
}
