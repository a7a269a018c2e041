//! The commands of docs/manual-setup.md, run in their order by one shell, as a newcomer would type them.

use serde_json::json;

use crate::stage::{Clone, SETTINGS, repository};
use crate::{assert_succeeded, assert_whole};

/// The fenced blocks of a document, each with the language after its fence.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), open.as_mut()) {
            (Some(language), None) => open = Some((language.trim().to_owned(), String::new())),
            (Some(_), Some(_)) => found.extend(open.take()),
            (None, Some((_, content))) => {
                content.push_str(line);
                content.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    found
}

/// What a person does in an editor, after the block that makes the file: enters the three settings that nobody can make for them.
fn as_entered() -> String {
    SETTINGS
        .map(|(name, value)| {
            format!(
                "sed -i -e 's|^# {name}=.*|{name}=|' -e 's|^{name}=.*|{name}={value}|' .env.staging\n\
                 grep -q '^{name}={value}$' .env.staging\n"
            )
        })
        .concat()
}

#[test]
fn a_newcomer_who_types_every_command_of_the_manual_has_a_whole_deployment() {
    let text = std::fs::read_to_string(repository().join("docs/manual-setup.md")).expect("the manual");
    let blocks = blocks(&text);
    let mut script = String::new();
    for (number, (language, content)) in blocks.iter().enumerate() {
        assert_eq!(language, "sh", "block {number} of the manual would be run by nobody");
        script.extend([&format!("echo 'block {number}'\n"), content.as_str()]);
        if content.starts_with("cp .env.example") {
            script.push_str(&as_entered());
        }
        if content.contains("npx wrangler login") {
            // Whoever has not logged in gets no further.
            script.push_str("npx wrangler whoami --json > /dev/null\n");
        }
    }
    let clone = Clone::new();
    clone.change_state(|state| state["loggedIn"] = json!(false));
    let run = clone.shell(&script, &[]);
    assert_succeeded(&run);
    for number in 0..blocks.len() {
        assert!(
            run.output.lines().any(|line| line == format!("block {number}")),
            "block {number} was not run"
        );
    }
    assert!(blocks.len() > 10);
    assert_whole(&clone);
    let secrets = ["pass-of-the-owner", "secret-of-the-client"];
    let arguments = run.calls.join("\n");
    assert!(secrets.iter().all(|secret| !arguments.contains(secret)));
    assert!(!arguments.contains(&clone.settings()["ENGINE_DATABASE_PASSWORD"]));
    assert!(!arguments.contains(&clone.settings()["TOKEN_ENCRYPTION_KEY"]));
    // What the manual leaves behind is what the script would have left.
    assert!(std::fs::read_dir(&clone.root).expect("the clone").all(|entry| {
        let name = entry.expect("a file").file_name().to_string_lossy().into_owned();
        !name.starts_with("manual-") && !name.contains(".new")
    }));
}

#[test]
fn every_setting_that_the_script_knows_is_in_the_example() {
    let script = std::fs::read_to_string(repository().join("deploy/settings.sh")).expect("the script");
    let example = std::fs::read_to_string(repository().join(".env.example")).expect("the example");
    let lists: String = script
        .split("secrets_of()")
        .next()
        .unwrap_or_default()
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect::<Vec<_>>()
        .join(" ");
    let names: Vec<&str> = lists
        .split(|character: char| !(character.is_ascii_uppercase() || character == '_'))
        .filter(|word| word.len() > 3 && !word.contains("__"))
        .collect();
    assert!(names.len() > 25, "{names:?}");
    for name in names {
        let is_there =
            example.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{name}=")));
        assert!(is_there, "{name} is missing in .env.example");
    }
}
