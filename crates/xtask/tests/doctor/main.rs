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
use world::healthy;

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
