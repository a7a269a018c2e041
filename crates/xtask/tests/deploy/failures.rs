//! Each call of a first deployment fails once, before its effect and after it; the next run finishes the job.

use crate::stage::{Clone, Failure};
use crate::{FIRST_DEPLOYMENT, assert_kept_secret, assert_succeeded, assert_whole};

/// A failing run, then one that must finish.
fn fails_then_finishes(failure: Failure) {
    let clone = Clone::with_settings();
    let failed = clone.deploy_with(&[], failure, &[], "");
    assert!(!failed.succeeded, "{failure:?} went unnoticed:\n{}", failed.output);
    assert!(failed.output.contains("error: "), "{failure:?} ended without an error:\n{}", failed.output);
    assert!(failed.output.contains("next:  "), "{failure:?} ended without advice:\n{}", failed.output);
    let finished = clone.deploy(&[]);
    assert_succeeded(&finished);
    assert_whole(&clone);
    if clone.root.join(".env.staging").exists() {
        assert_kept_secret(&clone, &failed);
        assert_kept_secret(&clone, &finished);
    }
    assert!(std::fs::read_dir(clone.root.join(".keapsync/deploy/staging")).expect("the state").all(
        |entry| {
            let name = entry.expect("a file").file_name();
            !name.to_string_lossy().starts_with("progress")
        }
    ));
}

/// Runs all of them, a few at a time: each is some dozens of short processes.
fn each(failures: Vec<Failure>) {
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let queue = std::sync::Mutex::new(failures);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("no thread failed").pop();
                    let Some(failure) = next else { break };
                    fails_then_finishes(failure);
                }
            });
        }
    });
}

#[test]
fn whichever_call_fails_the_next_run_finishes_the_job() {
    // A version that cannot be asked for is installed anew, which is no failure.
    each((2..=FIRST_DEPLOYMENT.len()).filter(|number| !is_health(*number)).map(Failure::Before).collect());
}

#[test]
fn a_call_that_landed_and_whose_answer_was_lost_is_not_made_into_two_things() {
    let changes = |number: &usize| {
        let call = FIRST_DEPLOYMENT[number - 1];
        ["build", "migrate", "password", "create", "wrangler deploy --"]
            .iter()
            .any(|word| call.contains(word))
    };
    each((2..=FIRST_DEPLOYMENT.len()).filter(changes).map(Failure::After).collect());
}

/// Health is asked for until a deadline; that has a test of its own.
fn is_health(number: usize) -> bool {
    FIRST_DEPLOYMENT[number - 1].contains("/health")
}

#[test]
fn workers_that_are_not_well_are_said_to_be_so() {
    let clone = Clone::with_settings();
    clone.change_state(|state| state["unwell"] = serde_json::json!(true));
    crate::assert_refused(&clone.deploy(&[]), &["/health answers 503", "rollback", "unhealthy\"}\nerror:"]);
    // A page that is none of ours answers 200 as well.
    clone.change_state(|state| state["page"] = serde_json::json!("{\"error\":\"no\"}"));
    crate::assert_refused(&clone.deploy(&["validate", "--health-only"]), &["not that it is healthy"]);
    clone.change_state(|state| state["page"] = serde_json::Value::Null);
    clone.change_state(|state| state["unwell"] = serde_json::json!(false));
    assert_succeeded(&clone.deploy(&[]));
    assert_whole(&clone);
}

/// Deploys code whose check fails at the end.
fn deploys_without_ending_well(clone: &Clone, code: &str, arguments: &[&str]) {
    clone.change_state(|state| state["unwell"] = serde_json::json!(true));
    assert!(!clone.deploy_with(arguments, Failure::None, &[("STAND_IN_CODE", code)], "").succeeded);
    clone.change_state(|state| state["unwell"] = serde_json::json!(false));
}

#[test]
fn what_an_interrupted_run_deployed_counts_only_while_it_is_what_runs() {
    let deploy = |clone: &Clone, arguments: &[&str], code: &str| {
        assert_succeeded(&clone.deploy_with(arguments, Failure::None, &[("STAND_IN_CODE", code)], ""));
    };
    // Another release went out after the one that is taken up again.
    let clone = Clone::deployed();
    deploys_without_ending_well(&clone, "two", &[]);
    deploys_without_ending_well(&clone, "three", &[]);
    deploy(&clone, &[], "two");
    assert_eq!(crate::going_back::code(&clone), ["two"; 3]);
    // A worker alone had several.
    deploys_without_ending_well(&clone, "four", &[]);
    deploy(&clone, &["--only", "coordinator"], "five");
    deploy(&clone, &[], "four");
    assert_eq!(crate::going_back::code(&clone), ["four"; 3]);
    // A worker was deleted behind the script's back.
    deploys_without_ending_well(&clone, "five", &[]);
    clone.change_state(|state| {
        state["workers"].as_object_mut().expect("workers").remove("webhook-handler-staging");
    });
    deploy(&clone, &[], "five");
    assert_eq!(crate::going_back::code(&clone), ["five"; 3]);
    assert_whole(&clone);
}

#[test]
fn a_run_that_was_interrupted_does_not_deploy_twice_what_it_had_deployed() {
    let clone = Clone::deployed();
    let deployed = |calls: &[String]| -> Vec<String> {
        let calls = calls.iter().filter(|call| call.starts_with("wrangler deploy --config"));
        calls
            .filter_map(|call| call.split("wrangler-").nth(1)?.split('.').next())
            .map(str::to_owned)
            .collect()
    };
    let plain = clone.deploy(&[]);
    let last = plain
        .calls
        .iter()
        .rposition(|call| call.starts_with("wrangler deploy --config"))
        .expect("it deploys");
    let failed = clone.deploy_with(&[], Failure::Before(last + 1), &[], "");
    assert!(!failed.succeeded);
    let resumed = clone.deploy(&[]);
    assert_succeeded(&resumed);
    assert_eq!(
        (deployed(&failed.calls), deployed(&resumed.calls)),
        (vec!["coordinator".to_owned(), "webhook".to_owned(), "sync".to_owned()], vec!["sync".to_owned()])
    );
    assert_eq!(deployed(&clone.deploy(&[]).calls).len(), 3);
}
