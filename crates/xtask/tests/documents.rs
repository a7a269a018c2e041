//! The documents say what the code does: every event that it logs is described and no other, and alerts speak of metrics that exist.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends at the first thing that is not as it should be"
)]

use keapsync_xtask::workspace::Workspace;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The crates that run in workers.
const LOGGING: [&str; 4] = ["coordinator", "webhook", "sync", "platform"];

/// The calls that begin a line, with the level of each.
const LEVELS: [&str; 4] = ["debug", "info", "warn", "error"];

fn read(path: &str) -> String {
    let path = Workspace::discover().unwrap().root().join(path);
    std::fs::read_to_string(path).expect("the document is there")
}

/// Every line of Rust under a directory that is no test, as one text each.
fn sources(directory: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            // Tests stand at the end of a file.
            let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            found.push(code.to_owned());
        }
    }
}

/// The events that the code logs, with the levels of each.
fn logged() -> BTreeMap<String, BTreeSet<&'static str>> {
    let mut all = Vec::new();
    let workspace = Workspace::discover().unwrap();
    for name in LOGGING {
        sources(&workspace.root().join("crates").join(name).join("src"), &mut all);
    }
    let mut events: BTreeMap<String, BTreeSet<&'static str>> = BTreeMap::new();
    let mut note = |level: &'static str, rest: &str| {
        let name: String =
            rest.chars().take_while(|letter| letter.is_ascii_lowercase() || *letter == '_').collect();
        if !name.is_empty() && rest.get(name.len()..).is_some_and(|rest| rest.starts_with('"')) {
            events.entry(name).or_default().insert(level);
        }
    };
    for text in &all {
        for level in LEVELS {
            for (_, rest) in text
                .match_indices(&format!(".{level}(\""))
                .map(|(at, call)| (at, text.get(at + call.len()..).unwrap()))
            {
                note(level, rest);
            }
        }
        // One line is begun for several events of one kind.
        for (at, call) in text.match_indices("about(\"") {
            note("debug", text.get(at + call.len()..).unwrap());
        }
    }
    events
}

/// The rows of a document's tables whose first cell is code: that, and the second cell.
fn rows(document: &str) -> BTreeMap<String, String> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split('|');
        let name = cells.next()?.trim().trim_end_matches('`').to_owned();
        Some((name, cells.next()?.trim().to_owned()))
    };
    document.lines().filter_map(row).collect()
}

#[test]
fn every_event_of_the_log_is_described_and_no_other() {
    let document = read("docs/events.md");
    // The first table is of fields.
    let events = document.split_once("## The webhook handler").unwrap().1;
    let described = rows(events);
    let logged = logged();
    assert!(logged.len() > 40, "the code logs only {logged:?}");
    let names = |all: Vec<&String>| all.into_iter().cloned().collect::<BTreeSet<_>>();
    let (in_code, in_document) = (names(logged.keys().collect()), names(described.keys().collect()));
    let missing: Vec<_> = in_code.difference(&in_document).collect();
    assert!(missing.is_empty(), "docs/events.md does not describe {missing:?}");
    let invented: Vec<_> = in_document.difference(&in_code).collect();
    assert!(invented.is_empty(), "docs/events.md describes {invented:?}, which nothing logs");
    for (event, levels) in &logged {
        for level in levels {
            assert!(
                described[event].contains(level),
                "{event} is logged as {level}, but described as {}",
                described[event]
            );
        }
    }
}

/// Words of an expression that are names of metrics.
fn metrics_of(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("keapsync_")).map(str::to_owned).collect()
}

#[test]
fn alerts_speak_of_metrics_that_are_documented_and_each_says_what_to_do() {
    let (document, alerts) = (read("docs/metrics.md"), read("docs/alerts.yml"));
    let metrics = rows(&document);
    let mut used = 0;
    for metric in metrics_of(&alerts) {
        used += 1;
        assert!(
            metrics.contains_key(&metric),
            "docs/alerts.yml speaks of {metric}, which docs/metrics.md does not have"
        );
    }
    assert!(used >= 12, "the alerts use only {used} metrics");
    let rules: BTreeSet<&str> =
        alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let table: BTreeSet<&str> =
        metrics.keys().filter(|name| name.starts_with("Keapsync")).map(String::as_str).collect();
    assert_eq!(
        rules, table,
        "docs/alerts.yml and the table of alerts in docs/metrics.md list different alerts"
    );
}

/// The anchors of a document's headings, as they are linked to.
fn anchors(document: &str) -> BTreeSet<String> {
    let headings = document.lines().filter_map(|line| line.strip_prefix('#'));
    headings
        .map(|heading| {
            let plain = heading.trim_start_matches('#').trim().to_lowercase();
            plain
                .chars()
                .filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter))
                .map(|letter| if letter == ' ' { '-' } else { letter })
                .collect()
        })
        .collect()
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    let docs = Workspace::discover().unwrap().root().join("docs");
    let mut links = 0;
    for entry in std::fs::read_dir(&docs).unwrap().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for (at, _) in text.match_indices("](") {
            let target = text.get(at + 2..).unwrap().split(')').next().unwrap();
            if target.contains("://") {
                continue;
            }
            links += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let linked = if file.is_empty() { path.clone() } else { docs.join(file) };
            assert!(linked.exists(), "{}: nothing is at {target}", path.display());
            if !anchor.is_empty() {
                let known = anchors(&std::fs::read_to_string(&linked).unwrap());
                assert!(known.contains(anchor), "{}: no heading is at {target}", path.display());
            }
        }
    }
    assert!(links > 30, "only {links} links were found");
}
