//! The variables and secrets of an environment file: whether they are there, and of the right form.
//!
//! The workers' own rules are applied, so that what passes here passes there. Beside them stand rules about what one worker alone
//! cannot know: that two secrets differ, and that addresses are those of a deployment. No value is ever part of a finding.

use keapsync_platform::config::{ConfigError, CoordinatorConfig, Lookup, SyncConfig, WebhookConfig};

use super::Finding;
use crate::deployment::Variables;

/// Secrets of which no two may be the same: who learns one would have the other.
const DISTINCT: [&str; 6] = [
    "ADMIN_API_TOKEN",
    "INTERNAL_TOKEN",
    "WAKE_TOKEN",
    "KEAP_WEBHOOK_SECRET",
    "TOKEN_ENCRYPTION_KEY",
    "KEAP_CLIENT_SECRET",
];

/// Addresses that Keap and people's browsers reach.
const PUBLIC: [&str; 2] = ["KEAP_REDIRECT_URI", "WEBHOOK_PUBLIC_URL"];

/// Judges an environment file.
#[must_use]
pub fn judge(variables: &Variables) -> Vec<Finding> {
    let read = |name: &str| variables.get(name).cloned();
    let lookup = Lookup::new(&read);
    vec![
        of_worker("settings of coordinator", variables, CoordinatorConfig::read(&lookup).map(drop)),
        of_worker("settings of sync worker", variables, SyncConfig::read(&lookup).map(drop)),
        of_worker("settings of webhook", variables, WebhookConfig::read(&lookup).map(drop)),
        distinct(variables),
        addresses(variables),
        database_url(variables),
    ]
}

fn of_worker(check: &str, variables: &Variables, read: Result<(), ConfigError>) -> Finding {
    let outcome = read.map(|()| "complete".to_owned()).map_err(|error| {
        if variables.get(error.name).is_some_and(|value| !value.trim().is_empty()) {
            return anyhow::anyhow!("{error}");
        }
        // A worker advises to set it there, which the next deployment from this file would undo.
        anyhow::anyhow!(
            "{} is not set: enter it in the environment file, as .env.example says, and deploy with it",
            error.name
        )
    });
    Finding::new(check, outcome)
}

fn distinct(variables: &Variables) -> Finding {
    let check = "secrets differ";
    for (nth, first) in DISTINCT.iter().enumerate() {
        for second in DISTINCT.iter().skip(nth + 1) {
            let values = (variables.get(*first), variables.get(*second));
            if let (Some(one), Some(other)) = values
                && !one.is_empty()
                && one == other
            {
                return Finding::problem(
                    check,
                    format!(
                        "{first} and {second} are the same: make another {second} with `openssl rand -hex 32`, as docs/security.md says"
                    ),
                );
            }
        }
    }
    Finding { check: check.to_owned(), ok: true, says: "each is another".to_owned() }
}

fn addresses(variables: &Variables) -> Finding {
    let check = "public addresses";
    let value = |name: &str| variables.get(name).map(String::as_str).unwrap_or_default();
    for name in PUBLIC {
        let url = value(name);
        if url.is_empty()
            || url.contains("localhost")
            || url.contains("127.0.0.1")
            || url.contains("example.com")
        {
            return Finding::problem(
                check,
                format!("{name} is no public address: give the one that the deployed worker has"),
            );
        }
    }
    if !value("KEAP_REDIRECT_URI").ends_with("/oauth/callback") {
        return Finding::problem(
            check,
            "KEAP_REDIRECT_URI does not end in /oauth/callback: it is the coordinator's address with that path, exactly as registered at \
             Keap",
        );
    }
    Finding { check: check.to_owned(), ok: true, says: "public".to_owned() }
}

fn database_url(variables: &Variables) -> Finding {
    let check = "DATABASE_URL";
    let Some(url) = variables.get(check).filter(|url| !url.is_empty()) else {
        return Finding::problem(
            check,
            "is not set: give the connection string of Supabase's session pooler (port 5432), which migrations need",
        );
    };
    let Ok(parsed) = reqwest::Url::parse(url) else {
        return Finding::problem(
            check,
            "is no address: it has the form postgres://user:password@host:5432/postgres, with %-escapes in the password",
        );
    };
    if !["postgres", "postgresql"].contains(&parsed.scheme()) {
        return Finding::problem(check, "is no database's address: begin it with postgres://");
    }
    if parsed.port() == Some(6543) {
        return Finding::problem(
            check,
            "names the transaction pooler (port 6543), which cannot hold the lock of a migration: use port 5432",
        );
    }
    Finding { check: check.to_owned(), ok: true, says: "of the right form".to_owned() }
}
