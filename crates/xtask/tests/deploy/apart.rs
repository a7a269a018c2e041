//! Staging and production have nothing in common: settings that are the other's are refused before anything is changed.

use serde_json::json;

use crate::stage::{Clone, Failure, SETTINGS};
use crate::{assert_refused, assert_succeeded};

/// Another project than that of [`SETTINGS`].
const OTHER_DATABASE: (&str, &str) =
    ("DATABASE_URL", "postgres://postgres:other-pass@db.zyxwvuts.supabase.co:5432/postgres");

/// A clone whose production has a database and domains of its own.
fn with_production() -> Clone {
    let clone = Clone::new();
    clone.write_settings_of(
        "production",
        &[
            OTHER_DATABASE,
            SETTINGS[1],
            SETTINGS[2],
            ("KEAP_REDIRECT_URI", "https://sync.acme.com/oauth/callback"),
            ("SYNC_PUBLIC_URL", "https://work.acme.com"),
        ],
    );
    clone
}

#[test]
fn a_copied_file_does_not_take_the_other_environment_over() {
    let clone = with_production();
    std::fs::copy(clone.root.join(".env.production"), clone.root.join(".env.staging")).expect("a copy");
    assert_refused(
        &clone.deploy(&["--yes"]),
        &[".env.staging and .env.production have the same address sync.acme.com"],
    );
    for (name, value) in [
        ("KEAP_REDIRECT_URI", "https://test.acme.com/oauth/callback"),
        ("WEBHOOK_PUBLIC_URL", "https://WORK.acme.com/"),
    ] {
        clone.write_settings(&[SETTINGS[0], SETTINGS[1], SETTINGS[2], (name, value)]);
        let run = clone.deploy(&["--yes"]);
        if name == "WEBHOOK_PUBLIC_URL" {
            assert_refused(&run, &["have the same address work.acme.com"]);
        } else {
            assert_succeeded(&run);
        }
    }
}

#[test]
fn one_database_is_for_one_environment() {
    let clone = with_production();
    let direct = OTHER_DATABASE.1;
    let pooled = "postgres://postgres.zyxwvuts:other-pass@aws-0-eu-west-1.pooler.supabase.com:5432/other";
    for address in [direct, pooled] {
        clone.write_settings(&[("DATABASE_URL", address), SETTINGS[1], SETTINGS[2]]);
        assert_refused(
            &clone.deploy(&[]),
            &["have the same database", "make a Supabase project for staging"],
        );
        assert_eq!(clone.state()["database"], json!({}));
    }
    // From another machine Hyperdrive says whose a database is.
    clone.write_settings(&SETTINGS);
    std::fs::remove_file(clone.root.join(".env.production")).expect("it can be removed");
    clone.change_state(|state| {
        state["hyperdrives"] = json!([{
            "id": "0".repeat(32), "name": "keapsync-production", "user": "keapsync_engine.abcdefgh",
            "host": "aws-0-eu-west-1.pooler.supabase.com", "port": 5432, "database": "postgres", "caching": "disabled",
        }]);
    });
    let run = clone.deploy(&[]);
    assert_refused(&run, &["DATABASE_URL is the database of production"]);
    assert_eq!(clone.state()["database"], json!({}));
    clone.write_settings(&[OTHER_DATABASE, SETTINGS[1], SETTINGS[2]]);
    assert_succeeded(&clone.deploy(&[]));
}

#[test]
fn an_address_that_cloudflare_gave_production_is_not_stagings() {
    let clone = Clone::new();
    let address = ("SYNC_PUBLIC_URL", "https://sync-worker-production.acme.workers.dev");
    clone.write_settings(&[SETTINGS[0], SETTINGS[1], SETTINGS[2], address]);
    assert_refused(&clone.deploy(&[]), &["is an address of production"]);
    clone.write_settings_of("production", &[SETTINGS[0], SETTINGS[1], SETTINGS[2]]);
    std::fs::remove_file(clone.root.join(".env.staging")).expect("it can be removed");
    assert_succeeded(&clone.deploy_with(&["--env", "production"], Failure::None, &[], "y\n"));
}
