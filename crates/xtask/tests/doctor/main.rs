//! `cargo xtask doctor` against faults planted one by one: it finds each and names its fix, and finds nothing in a healthy system.
//!
//! The workers are stand-ins over real HTTP that answer what real ones do; the end-to-end tests hold their answers against a real
//! system. What the database says is planted as what was seen of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test ends at the first thing that is not as it should be"
)]

mod faults;
mod world;

use faults::FAULTS;
use keapsync_xtask::doctor::{Finding, judge_settings};
use keapsync_xtask::smoke::{Proof, line_of, prove};
use world::{World, healthy};

fn shown(findings: &[Finding]) -> String {
    let lines: Vec<String> = findings
        .iter()
        .map(|finding| format!("{} {}: {}", finding.ok, finding.check, finding.says))
        .collect();
    lines.join("\n")
}

#[tokio::test]
async fn a_healthy_system_has_no_problem() {
    let findings = healthy().findings().await;
    assert!(findings.iter().all(|finding| finding.ok), "{}", shown(&findings));
    assert!(findings.len() >= 20, "{}", shown(&findings));
}

#[tokio::test]
async fn each_planted_fault_is_found_and_its_fix_named() {
    for (fault, plant, check, fix) in FAULTS {
        let mut world = healthy();
        plant(&mut world);
        let findings = world.findings().await;
        let problem = findings.iter().find(|finding| !finding.ok && finding.check == *check);
        let says = problem.map_or("", |problem| problem.says.as_str());
        assert!(says.contains(fix), "{fault}: {check} says {says:?} and not {fix:?}\n{}", shown(&findings));
    }
}

#[tokio::test]
async fn a_part_that_is_away_hides_no_other_part() {
    let mut world = healthy();
    world.coordinator = None;
    world.facts.migrations[0].applied = false;
    let findings = world.findings().await;
    let problems: Vec<&str> =
        findings.iter().filter(|finding| !finding.ok).map(|finding| finding.check.as_str()).collect();
    assert_eq!(
        problems,
        ["coordinator", "admin token (coordinator)", "accounts", "schema"],
        "{}",
        shown(&findings)
    );
}

/// What the smoke test says of a world.
async fn proofs(world: &World) -> Vec<Proof> {
    let mut proofs = Vec::new();
    prove(&world.deployment().await, 1, |proof| proofs.push(proof)).await.unwrap();
    proofs
}

#[tokio::test]
async fn the_smoke_test_believes_no_answer_of_another_server() {
    let mut world = healthy();
    world.sync.as_mut().unwrap().insert("/health".to_owned(), (200, r#"{"error":"no"}"#.to_owned()));
    world.webhook = world.coordinator.clone();
    let proofs = proofs(&world).await;
    let health: Vec<(bool, &str)> =
        proofs.iter().take(3).map(|proof| (proof.ok, proof.says.as_str())).collect();
    assert!(health[0].0, "{health:?}");
    assert!(!health[1].0 && health[1].1.contains("not one of keapsync's workers"), "{health:?}");
    assert!(!health[2].0 && health[2].1.contains("give the webhook handler's own"), "{health:?}");
}

#[tokio::test]
async fn the_smoke_test_names_the_fix_of_a_wrong_token_once() {
    let world = World { token: "not-the-admin-token", ..healthy() };
    let proofs = proofs(&world).await;
    let problems: Vec<String> = proofs.iter().filter(|proof| !proof.ok).map(line_of).collect();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("./deploy.sh --env staging --only secrets"), "{problems:?}");
}

#[tokio::test]
async fn a_reader_that_goes_early_ends_nothing_in_a_panic() {
    let deployment = healthy().deployment().await;
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_keapsync-xtask"))
        .args(["smoke", "--queries", "1", "--token", &deployment.admin_token])
        .args(["--coordinator-url", &deployment.coordinator, "--sync-url", &deployment.sync])
        .args(["--webhook-url", &deployment.webhook])
        .stdout(writer)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    // The stand-ins answer nothing of the proofs, and that is what the status tells.
    assert_eq!(output.status.code(), Some(1), "{said}");
}

#[tokio::test]
async fn a_deployment_is_looked_at_by_its_file_and_without_what_builds_one() {
    let world = healthy();
    let deployment = world.deployment().await;
    let path = std::env::temp_dir().join(format!("keapsync-doctor-{}", std::process::id()));
    std::fs::write(&path, format!("ADMIN_API_TOKEN={}\n", deployment.admin_token)).unwrap();
    let output = tokio::process::Command::new(env!("CARGO_BIN_EXE_keapsync-xtask"))
        .args(["doctor", "--json", "--coordinator-url", &deployment.coordinator])
        .args(["--sync-url", &deployment.sync, "--webhook-url", &deployment.webhook])
        .arg("--env-file")
        .arg(&path)
        .env("ADMIN_API_TOKEN", "left-over-from-another-deployment")
        .env("DATABASE_URL", "postgres://u:p@127.0.0.1:1/of-another-deployment")
        .output()
        .await
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = said["findings"].as_array().unwrap();
    let says = |check: &str| findings.iter().find(|finding| finding["check"] == check);
    for check in ["coordinator", "admin token (coordinator)", "admin token (sync worker)", "account demo"] {
        assert_eq!(says(check).unwrap()["ok"], true, "{said:#}");
    }
    for check in ["rust", "node and npm", "pinned tools", "worker-build", "wasm-bindgen", "free disk"] {
        assert!(says(check).is_none(), "{said:#}");
    }
    assert!(
        says("database").unwrap()["says"].as_str().unwrap().contains("DATABASE_URL is not set"),
        "{said:#}"
    );
}

#[test]
fn no_finding_tells_a_secret() {
    let mut world = healthy();
    for value in ["hunter2", "another-secret-value"] {
        for name in ["ADMIN_API_TOKEN", "TOKEN_ENCRYPTION_KEY", "DATABASE_URL", "KEAP_WEBHOOK_SECRET"] {
            world.set(name, value);
        }
        let said = shown(&judge_settings(&world.variables));
        assert!(!said.contains(value), "{said}");
    }
}
