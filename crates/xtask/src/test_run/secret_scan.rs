//! A look for secrets in tracked files: keys and tokens by their usual forms, and files that must never be tracked.

use std::process::Command;

use anyhow::{Result, bail};

use crate::subprocess::output_of;
use crate::workspace::Workspace;

/// A form that secrets have: a fixed beginning and at least so many further characters of one kind.
struct Form {
    name: &'static str,
    beginning: &'static str,
    length_min: usize,
    is_part: fn(char) -> bool,
}

const FORMS: [Form; 8] = [
    Form { name: "a private key", beginning: "-----BEGIN ", length_min: 8, is_part: is_upper_or_blank },
    Form { name: "a Keap key", beginning: "KeapAK-", length_min: 32, is_part: is_word },
    Form { name: "a cloud access key", beginning: "AKIA", length_min: 16, is_part: is_upper_or_digit },
    Form { name: "a GitHub token", beginning: "ghp_", length_min: 36, is_part: is_word },
    Form { name: "a GitHub token", beginning: "github_pat_", length_min: 40, is_part: is_word },
    Form { name: "a payment key", beginning: "sk_live_", length_min: 16, is_part: is_word },
    Form { name: "a Supabase key", beginning: "sbp_", length_min: 32, is_part: is_word },
    Form { name: "a signed token", beginning: "eyJhbGciOi", length_min: 60, is_part: is_token },
];

/// Fails with the place of every find.
pub(super) fn run(workspace: &Workspace) -> Result<()> {
    let listing = output_of(Command::new("git").args(["ls-files", "-z"]).current_dir(workspace.root()))?;
    let mut finds = Vec::new();
    for name in listing.split('\0').filter(|name| !name.is_empty()) {
        if is_private_file(name) {
            finds.push(format!("{name} must not be tracked: remove it with `git rm --cached`"));
        }
        // A file that was deleted in the work tree, or is no text, holds nothing to find.
        let content = std::fs::read_to_string(workspace.root().join(name)).unwrap_or_default();
        for (number, line) in content.lines().enumerate() {
            if let Some(what) = secret_in(line) {
                finds.push(format!(
                    "{name}:{}: {what}: remove it, and replace the secret where it is used",
                    number + 1
                ));
            }
        }
    }
    if !finds.is_empty() {
        bail!("{}", finds.join("\n"));
    }
    Ok(())
}

fn is_private_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_env = name == ".env" || name.starts_with(".env.") || name.starts_with(".dev.vars");
    (is_env && name != ".env.example") || name == "secrets.json"
}

fn secret_in(line: &str) -> Option<&'static str> {
    FORMS.iter().find(|form| has_form(line, form)).map(|form| form.name)
}

fn has_form(line: &str, form: &Form) -> bool {
    line.match_indices(form.beginning).any(|(start, beginning)| {
        let rest = line.get(start + beginning.len()..).unwrap_or_default();
        rest.chars().take_while(|character| (form.is_part)(*character)).count() >= form.length_min
    })
}

fn is_upper_or_blank(character: char) -> bool {
    character.is_ascii_uppercase() || character == ' '
}

fn is_upper_or_digit(character: char) -> bool {
    character.is_ascii_uppercase() || character.is_ascii_digit()
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_' || character == '-'
}

fn is_token(character: char) -> bool {
    is_word(character) || character == '.'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_by_their_form() {
        // Put together here, so that this file holds none itself.
        let secrets = [
            format!("-----BEGIN {} KEY-----", "RSA PRIVATE"),
            format!("key = AKIA{}", "ABCDEFGHIJKLMNOP"),
            format!("KeapAK-{}", "0123456789abcdef".repeat(2)),
            format!("eyJhbGciOi{}.{}", "J".repeat(30), "x".repeat(40)),
        ];
        for secret in secrets {
            assert!(secret_in(&secret).is_some(), "{secret}");
        }
    }

    #[test]
    fn names_and_examples_are_no_secrets() {
        for line in
            ["KEAP_CLIENT_SECRET=", "the prefix KeapAK- marks a key", "AKIA is a prefix", "token: $TOKEN"]
        {
            assert_eq!(secret_in(line), None, "{line}");
        }
    }

    #[test]
    fn files_with_secrets_are_known_by_name() {
        assert!(is_private_file(".env"));
        assert!(is_private_file("a/.dev.vars"));
        assert!(!is_private_file(".env.example"));
    }
}
