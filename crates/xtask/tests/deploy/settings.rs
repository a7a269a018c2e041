//! What is entered wrongly in the environment file or on the command line is refused by name, and before anything is done.

use std::os::unix::fs::symlink;

use serde_json::json;

use crate::stage::{Clone, Failure, SETTINGS};
use crate::{assert_refused, assert_succeeded, assert_whole};

/// A clone whose environment file has these lines behind what a person must enter.
fn with_lines(lines: &str) -> Clone {
    let clone = Clone::with_settings();
    let file = clone.root.join(".env.staging");
    let text = std::fs::read_to_string(&file).expect("the file");
    std::fs::write(&file, format!("{text}{lines}")).expect("the file");
    clone
}

#[test]
fn a_value_that_the_workers_would_refuse_is_refused_before_the_build() {
    let database = |address: &str| format!("DATABASE_URL={address}\n");
    let address = |rest: &str| database(&format!("postgres://postgres:{rest}"));
    for (lines, words) in [
        (address("[YOUR-PASSWORD]@db.abcdefgh.supabase.co:5432/postgres"), "still has [YOUR-PASSWORD]"),
        (address("a#b@db.abcdefgh.supabase.co:5432/postgres"), "percent-encoded"),
        (address("a/b@db.abcdefgh.supabase.co:5432/postgres"), "percent-encoded"),
        (address("a@localhost:5432/postgres"), "names this machine"),
        (database("db.abcdefgh.supabase.co"), "not of the form postgres://"),
        ("TOKEN_ENCRYPTION_KEY=short\n".to_owned(), "TOKEN_ENCRYPTION_KEY must be 32 bytes"),
        ("ADMIN_API_TOKEN=a\n".to_owned(), "ADMIN_API_TOKEN must be at least 16"),
        ("INTERNAL_TOKEN_PREVIOUS=a\n".to_owned(), "INTERNAL_TOKEN_PREVIOUS must be at least 16"),
        ("SYNC_PUBLIC_URL=https://a b\n".to_owned(), "SYNC_PUBLIC_URL must be of the form"),
        ("KEAP_REDIRECT_URI=https://a.example/\n".to_owned(), "/oauth/callback"),
        ("LOG_LEVEL=loud\n".to_owned(), "LOG_LEVEL must be"),
        ("KEAP_CALLS_PER_DAY=0\n".to_owned(), "KEAP_CALLS_PER_DAY must be"),
        ("ALLOWED_ORIGIN=https://a.example/\n".to_owned(), "ALLOWED_ORIGIN must be"),
        ("KEAP_CLIENT_ID=two words\n".to_owned(), "KEAP_CLIENT_ID has a blank"),
    ] {
        let clone = with_lines(&lines);
        let run = clone.deploy(&[]);
        assert_refused(&run, &[words]);
        assert!(!run.calls.iter().any(|call| call.starts_with("cargo")), "{:#?}", run.calls);
    }
}

#[test]
fn a_line_that_would_silently_do_nothing_is_refused_by_its_number() {
    for (line, words) in [
        ("KEAP_CLIENT_ID=abc   # of the test application", "line 4: there is a comment behind"),
        ("LOG_LEVEL = debug", "line 4 is not of the form NAME=value"),
        ("some words", "line 4 is not of the form NAME=value"),
        ("LOGLEVEL=debug", "line 4: there is no setting LOGLEVEL"),
        ("KEAP_CLIENT_SECRET=\"one line\nand another\"", "line 4: the quotes of KEAP_CLIENT_SECRET"),
    ] {
        assert_refused(&with_lines(&format!("{line}\n")).deploy(&["--dry-run"]), &[words]);
    }
}

#[test]
fn blanks_quotes_and_marks_of_editors_around_a_setting_do_no_harm() {
    let clone = Clone::new();
    let [database, id, secret] = SETTINGS;
    let text = format!(
        "\u{feff}{}=\"{}\"  \r\n  export {}={}\t\r\n# a comment\r\n{}='{}'\r\nKEAPSYNC_CACHE_DIR=/tmp\r\n",
        database.0, database.1, id.0, id.1, secret.0, secret.1
    );
    std::fs::write(clone.root.join(".env.staging"), text).expect("the file");
    assert_succeeded(&clone.deploy(&[]));
    let coordinator = &clone.state()["workers"]["sync-coordinator-staging"];
    assert_eq!(
        (&coordinator["vars"]["KEAP_CLIENT_ID"], &coordinator["secrets"]["KEAP_CLIENT_SECRET"]),
        (&json!(id.1), &json!(secret.1))
    );
}

#[test]
fn a_file_that_is_a_link_stays_one() {
    let clone = Clone::with_settings();
    let place = clone.root.join("kept-elsewhere");
    std::fs::rename(clone.root.join(".env.staging"), &place).expect("it can be moved");
    symlink(&place, clone.root.join(".env.staging")).expect("a link");
    assert_succeeded(&clone.deploy(&[]));
    assert!(clone.root.join(".env.staging").is_symlink());
    assert!(std::fs::read_to_string(&place).expect("the file").contains("TOKEN_ENCRYPTION_KEY="));
    assert_whole(&clone);
}

#[test]
fn a_command_line_that_says_two_things_is_refused() {
    let clone = Clone::deployed();
    for (arguments, words) in [
        (&["--only", ""][..], "--only wants a value"),
        (&["--only="], "--only wants a value"),
        (&["--only"], "--only wants a value"),
        (&["--only", "build database"], "there is no step build database"),
        (&["validate", "destroy"], "validate and destroy are two commands"),
        (&["--env", "staging", "--env", "production"], "--env is given twice"),
        (&["validate", "--health-only", "--config-only"], "each one part"),
        (&["rollback", "--code-only"], "--code-only belongs to deploying"),
        (&["--only", "secrets", "--code-only"], "sends no secrets"),
    ] {
        let mut arguments = arguments.to_vec();
        if !arguments.contains(&"--env") {
            arguments.splice(0..0, ["--env", "staging"]);
        }
        let run = clone.deploy(&arguments);
        assert_refused(&run, &[words]);
        assert_eq!(run.calls, Vec::<String>::new());
    }
    for word in ["-h", "help", "--help"] {
        let run = clone.deploy(&[word]);
        assert_succeeded(&run);
        assert!(run.output.contains("usage: ./deploy.sh"));
    }
    let limit = [("KEAPSYNC_HEALTH_LIMIT_SECONDS", "90s")];
    assert_refused(&clone.deploy_with(&[], Failure::None, &limit, ""), &["is no whole number"]);
}

#[test]
fn the_script_may_be_called_through_a_link_and_with_cdpath() {
    let clone = Clone::with_settings();
    std::fs::create_dir(clone.root.join("links")).expect("a folder");
    symlink("../deploy.sh", clone.root.join("links/first")).expect("a link");
    symlink("first", clone.root.join("links/second")).expect("a link");
    let run = clone.shell("cd links && CDPATH=.:.. ./second --env staging --dry-run", &[]);
    assert_succeeded(&run);
    let run = clone.shell("export CDPATH=.; bash deploy.sh --env staging --dry-run", &[]);
    assert_succeeded(&run);
}

#[test]
fn of_two_runs_at_once_one_is_refused() {
    let clone = Clone::with_settings();
    let lock = clone.root.join(".keapsync/deploy/staging.lock");
    std::fs::create_dir_all(&lock).expect("a lock");
    std::fs::write(lock.join("pid"), std::process::id().to_string()).expect("who has it");
    for command in [&[][..], &["rollback"], &["destroy"]] {
        let run = clone.deploy(command);
        assert_refused(&run, &["another run for staging is under way"]);
        assert_eq!(run.calls, Vec::<String>::new());
    }
    assert_succeeded(&clone.deploy(&["validate", "--dry-run"]));
    assert!(lock.exists(), "a refused run removed the lock of another");
    // The process that had it is no more.
    let mut gone = std::process::Command::new("true").spawn().expect("a process");
    assert!(gone.wait().expect("it ends").success());
    std::fs::write(lock.join("pid"), gone.id().to_string()).expect("who had it");
    assert_succeeded(&clone.deploy(&[]));
    assert!(!lock.exists());
}
