//! The documents say what the code does: every event that it logs is described and no other, alerts speak of metrics that exist, links lead
//! somewhere, and the commands that documents and fixes give can be carried out as they stand.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends at the first thing that is not as it should be"
)]

use keapsync_xtask::workspace::Workspace;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

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

/// Every document: those at the root, in `docs`, beside the migrations and of each crate.
fn documents() -> Vec<PathBuf> {
    let root = Workspace::discover().unwrap().root().to_path_buf();
    let mut directories = vec![root.clone(), root.join("docs"), root.join("migrations")];
    directories.extend(std::fs::read_dir(root.join("crates")).unwrap().flatten().map(|entry| entry.path()));
    let entries = directories.iter().filter_map(|directory| std::fs::read_dir(directory).ok());
    let paths = entries.flat_map(|entries| entries.flatten().map(|entry| entry.path()));
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    let mut links = 0;
    let documents = documents();
    assert!(
        documents.iter().any(|path| path.ends_with("README.md")) && documents.len() > 20,
        "{documents:?}"
    );
    for path in documents {
        let text = std::fs::read_to_string(&path).unwrap();
        for (at, _) in text.match_indices("](") {
            let target = text.get(at + 2..).unwrap().split(')').next().unwrap();
            if target.contains("://") {
                continue;
            }
            links += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let linked = if file.is_empty() { path.clone() } else { path.with_file_name(file) };
            assert!(linked.exists(), "{}: nothing is at {target}", path.display());
            if !anchor.is_empty() {
                let known = anchors(&std::fs::read_to_string(&linked).unwrap());
                assert!(known.contains(anchor), "{}: no heading is at {target}", path.display());
            }
        }
    }
    assert!(links > 30, "only {links} links were found");
}

/// What stands behind a program's name up to the end of its command, wherever a text names it.
fn commands(text: &str, program: &str) -> Vec<String> {
    let ends = |letter: char| "`\n\"#|,;)".contains(letter);
    let behind =
        text.match_indices(program).map(|(at, _)| text.get(at + program.len()..).unwrap_or_default());
    behind.filter_map(|rest| rest.split(ends).next()).map(|rest| rest.trim().to_owned()).collect()
}

/// Every text that gives commands to a person: the documents, and the fixes that the tools name.
fn advice() -> Vec<String> {
    let mut texts: Vec<String> =
        documents().iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    sources(&Workspace::discover().unwrap().root().join("crates/xtask/src"), &mut texts);
    texts
}

/// What is wrong with a command of `deploy.sh`, whose text and steps are given; nothing about its name alone.
fn fault_of(command: &str, script: &str, steps: &str) -> Option<String> {
    let mut words = command.split_whitespace();
    let mut has_environment = command.is_empty();
    while let Some(word) = words.next() {
        let value = if ["--env", "--only", "--to"].contains(&word) { words.next() } else { None };
        match (word, value) {
            // Where the environment is the reader's to fill in, or filled in when the fix is told.
            ("--env", Some("staging" | "production" | "…" | "{}" | "{0}")) => has_environment = true,
            ("--only", Some(step)) if steps.split_whitespace().any(|known| known == step) => {}
            ("--to", Some(_)) | ("validate" | "rollback" | "destroy", None) => {}
            (option, None) if option.starts_with("--") && script.contains(&format!("\n  {option} ")) => {}
            _ => return Some(format!("has no {word} {}", value.unwrap_or_default())),
        }
    }
    (!has_environment).then(|| "wants --env".to_owned())
}

#[test]
fn commands_of_the_deployment_can_be_carried_out_as_they_stand() {
    let (script, steps) = (read("deploy.sh"), read("deploy/steps.sh"));
    let steps =
        steps.lines().find_map(|line| line.strip_prefix("all_steps=")).unwrap().trim_matches('\'').to_owned();
    let mut checked = 0;
    for text in advice() {
        for command in commands(&text, "./deploy.sh") {
            let fault = fault_of(&command, &script, &steps);
            assert!(fault.is_none(), "`./deploy.sh {command}` {}", fault.unwrap_or_default());
            checked += usize::from(!command.is_empty());
        }
        // A worker of the tracked configurations without an environment is deployed nowhere.
        for program in
            ["wrangler tail", "wrangler secret put", "wrangler secret delete", "wrangler secret list"]
        {
            for command in commands(&text, program) {
                let names = command.contains("--env ") || command.contains("--name ");
                let is_complete = if program == "wrangler tail" { !command.starts_with('-') } else { false };
                assert!(names || is_complete, "`{program} {command}` names no worker that is deployed");
            }
        }
        assert!(!text.contains(". ./.env"), "an environment file is carried out in place of being read");
    }
    assert!(checked > 15, "only {checked} commands were found");
    for (wrong, fault) in [
        ("validate", "wants --env"),
        ("--only secrets", "wants --env"),
        ("--env local", "has no --env local"),
        ("--env staging --only everything", "has no --only everything"),
        ("validate --env staging --health", "has no --health "),
    ] {
        assert_eq!(fault_of(wrong, &script, &steps).as_deref(), Some(fault));
    }
}

#[test]
fn every_setting_of_the_example_is_described_once_and_no_other() {
    let is_name = |text: &&str| {
        text.starts_with(|first: char| first.is_ascii_uppercase())
            && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
    };
    let example = read(".env.example");
    let lines = example.lines().map(|line| line.strip_prefix("# ").unwrap_or(line));
    let known: BTreeSet<&str> =
        lines.filter_map(|line| Some(line.split_once('=')?.0)).filter(is_name).collect();
    let document = read("docs/configuration.md");
    let table = document.split("\n## ").next().unwrap();
    let mut described = BTreeSet::new();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let names = row.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2);
        for name in names {
            assert!(described.insert(name), "docs/configuration.md describes {name} twice");
        }
    }
    assert!(known.len() > 25, "{known:?}");
    assert_eq!(known, described, "left: .env.example, right: docs/configuration.md");
}
