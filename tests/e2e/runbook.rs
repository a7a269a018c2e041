//! The blocks of commands of `docs/operations.md`: what asks the workers is run against this system as it stands there, SQL is run and
//! rolled back, and of what only a deployment could answer the command and its options are held against the tool's own words. Commands
//! within a sentence are not read here.
//!
//! Backup and restore are run for real by the part `schema` of the tests, where the server's own programs are.

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser as _;
use keapsync_e2e::account::Account;
use keapsync_e2e::stage::Stage;
use keapsync_xtask::cli::Arguments;
use keapsync_xtask::node_tools;
use keapsync_xtask::workspace::Workspace;
use reqwest::Method;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

/// Tools that a test cannot let loose: each is replaced by one that writes down how it was called.
const STAND_INS: [&str; 4] = ["cargo", "npx", "psql", "pg_dump"];

/// Writes its own name and arguments, each ended by a NUL, and an empty one at the end.
const RECORDER: &str = "#!/bin/sh\n{ printf '%s\\0' \"${0##*/}\" \"$@\"; printf '\\0'; } >> \"$RECORD\"\n";

/// The document's function, but it tells what was answered.
const ASK: &str = r#"admin() {
    code=$(curl --silent --show-error --header "Authorization: Bearer $ADMIN_API_TOKEN" --output answer --write-out '%{http_code}' "$@") || exit 1
    echo "$code $*" >> calls
    cat answer; echo
}"#;

/// Blocks of shell commands, in order.
fn blocks(document: &str) -> Vec<String> {
    let parts = document.split("```sh\n").skip(1);
    parts.filter_map(|part| Some(part.split_once("```")?.0.to_owned())).collect()
}

/// The tool of the checkout that is replaced likewise, where the commands are run.
const SCRIPT: &str = "deploy.sh";

/// A password that a shell would take apart, in the form that a person may have entered it.
const AWKWARD_URL: &str = "postgres://postgres:a&b`touch carried-out`$HOME@h.example:5432/postgres";

/// A block without the lines that give example values to what is set.
fn without_examples(block: &str, set: &BTreeMap<&str, String>) -> String {
    let gives_example = |line: &str| {
        line.strip_prefix("export ")
            .and_then(|rest| rest.split_once('='))
            .is_some_and(|(name, value)| set.contains_key(name) && !value.starts_with("\"$(setting "))
    };
    block.lines().filter(|line| !gives_example(line)).fold(String::new(), |all, line| all + line + "\n")
}

fn shell(script: &str, directory: &Path, set: &BTreeMap<&str, String>) -> Result<()> {
    let path = format!("{}:{}", directory.join("bin").display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script]).current_dir(directory).env("PATH", path).envs(set);
    let output = command.output().context("the runbook's commands need bash and curl: install them")?;
    if !output.status.success() {
        bail!(
            "this failed:\n{script}\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// What a person has at hand who follows the runbook for an account with a run and a change.
async fn values(stage: &Stage, account: &Account<'_>) -> Result<BTreeMap<&'static str, String>> {
    account.keap.seed(5).await?;
    let run = account.start("contacts?dry_run=true").await?;
    account.wait_for_run(&run).await?;
    account.full_sync().await?;
    let row = account
        .mirror
        .one("select id::text, keap_id from sync_contacts where account_id = $1 limit 1", &[])
        .await?;
    let id = row["id"].as_str().context("no row")?.to_owned();
    let edit = "update sync_contacts set job_title = 'Dean' where account_id = $1 and id = $2::text::uuid";
    ensure!(account.mirror.execute(edit, &[&id]).await? == 1, "the edit was not written");
    account.wait_for_quiet().await?;
    let url = format!("{}/audit?account={}&entity=contact&id={id}", stage.access.sync, account.name);
    let entries = stage.admin(Method::GET, &url, None).await?.json();
    let is_update =
        |entry: &&serde_json::Value| entry["operation"] == "update" && entry["source"] == "supabase";
    let entry = entries["entries"]
        .as_array()
        .into_iter()
        .flatten()
        .find(is_update)
        .context("no entry of the edit")?;
    Ok(BTreeMap::from([
        ("COORDINATOR", stage.access.coordinator.clone()),
        ("SYNC", stage.access.sync.clone()),
        ("WEBHOOK", stage.access.webhook.clone()),
        ("ACCOUNT", account.name.clone()),
        ("ADMIN_API_TOKEN", stage.access.admin_token.clone()),
        ("KEAP_WEBHOOK_SECRET", stage.access.webhook_secret.clone()),
        ("DATABASE_URL", stage.access.database.clone()),
        ("RUN", run),
        ("ROW", id),
        ("ENTRY", entry["id"].to_string()),
    ]))
}

pub async fn every_command_of_the_runbook_works(stage: &Stage) -> Result<()> {
    let workspace = Workspace::discover()?;
    let document = std::fs::read_to_string(workspace.root().join("docs/operations.md"))?;
    let blocks = blocks(&document);
    ensure!(blocks.len() > 15, "only {} blocks of commands were found", blocks.len());

    let directory = workspace.root().join(".keapsync/e2e/runbook");
    if directory.exists() {
        std::fs::remove_dir_all(&directory)?;
    }
    std::fs::create_dir_all(directory.join("bin"))?;
    let on_path = STAND_INS.map(|tool| directory.join("bin").join(tool));
    for path in on_path.into_iter().chain([directory.join(SCRIPT)]) {
        std::fs::write(&path, RECORDER)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    }
    let account = Account::connect(stage, "runbook").await?;
    let mut set = values(stage, &account).await?;
    let record = directory.join("record");
    set.insert("RECORD", record.display().to_string());

    let (first, others) = blocks.split_first().context("no block")?;
    let file = format!(
        "ADMIN_API_TOKEN=\"{}\"\r\nDATABASE_URL={AWKWARD_URL}\nKEAP_WEBHOOK_SECRET='{}'\n",
        set["ADMIN_API_TOKEN"], set["KEAP_WEBHOOK_SECRET"]
    );
    std::fs::write(directory.join(".env.production"), file)?;
    let seen = "[ \"$DATABASE_URL\" = \"$AWKWARD_URL\" ] && [ \"$KEAP_WEBHOOK_SECRET\" = \"$SECRET\" ] && [ ! -e carried-out ]";
    let mut with_file = set.clone();
    with_file.insert("AWKWARD_URL", AWKWARD_URL.to_owned());
    let secret = with_file.remove("KEAP_WEBHOOK_SECRET").context("no secret")?;
    with_file.insert("SECRET", secret);
    // The file alone gives the token and what else is secret.
    with_file.retain(|name, _| !["ADMIN_API_TOKEN", "DATABASE_URL"].contains(name));
    let block = without_examples(first, &set);
    shell(&format!("{block}admin \"$COORDINATOR/accounts\"\n{seen}"), &directory, &with_file)?;
    for block in others {
        shell(&format!("{ASK}\n{}", without_examples(block, &set)), &directory, &set)?;
    }
    let calls = std::fs::read_to_string(directory.join("calls"))?;
    for call in calls.lines() {
        let (code, what) = call.split_once(' ').context("a call without a status")?;
        // The run at hand waits for nobody's word, and was dry: saying so is the right answer.
        let may_refuse = ["/approve", "/cancel", &format!("/runs/{}/revert", set["RUN"])]
            .iter()
            .any(|end| what.contains(end));
        ensure!(
            code.starts_with('2') || (may_refuse && code == "409"),
            "the runbook's call was answered with {call}"
        );
    }
    ensure!(calls.lines().count() > 20, "only these calls were made:\n{calls}");
    let recorded = String::from_utf8(std::fs::read(&record)?)?;
    check_tools(&workspace, &recorded, &account).await?;
    std::fs::remove_dir_all(&directory)?;
    account.wait_for_quiet().await
}

/// Checks the calls that only a deployment could answer.
async fn check_tools(workspace: &Workspace, recorded: &str, account: &Account<'_>) -> Result<()> {
    let mut used = BTreeSet::new();
    for call in recorded.split("\0\0").map(|call| call.trim_matches('\0')).filter(|call| !call.is_empty()) {
        let words: Vec<&str> = call.split('\0').collect();
        let (tool, words) = words.split_first().context("an empty call")?;
        used.insert((*tool).to_owned());
        match *tool {
            "cargo" => {
                let parsed = Arguments::try_parse_from(words);
                ensure!(
                    parsed.is_ok(),
                    "cargo {}: {}",
                    words.join(" "),
                    parsed.err().map(|error| error.to_string()).unwrap_or_default()
                );
            }
            "npx" => wrangler_knows(workspace, words)?,
            SCRIPT => {
                let script = std::fs::read_to_string(workspace.root().join(SCRIPT))?;
                let options: Vec<&&str> = words.iter().filter(|word| word.starts_with("--")).collect();
                ensure!(options.contains(&&"--env"), "{SCRIPT} {} names no environment", words.join(" "));
                let unknown = options.iter().find(|option| !script.contains(**option));
                ensure!(unknown.is_none(), "{SCRIPT} has no {unknown:?}");
            }
            // What brings a file is the backup's way back, and run where that is.
            "psql" if words.iter().any(|word| word.starts_with("--file")) => {}
            "psql" => {
                let statement = words.last().context("psql without a statement")?;
                let tried =
                    account.mirror.client.batch_execute(&format!("begin; {statement}; rollback")).await;
                tried.with_context(|| format!("psql: {statement}"))?;
            }
            "pg_dump" => {}
            other => bail!("{other} was called"),
        }
    }
    ensure!(used.len() == STAND_INS.len() + 1, "the runbook calls only {used:?}");
    Ok(())
}

/// Whether wrangler has the command and each of its options.
fn wrangler_knows(workspace: &Workspace, words: &[&str]) -> Result<()> {
    let (wrangler, words) = words.split_first().context("npx without a command")?;
    ensure!(*wrangler == "wrangler", "npx {wrangler}");
    // Names are small letters; what is given to a command has others.
    let is_name = |word: &&&str| !word.starts_with('-') && word.bytes().all(|byte| byte.is_ascii_lowercase());
    let command: Vec<&str> = words.iter().take_while(is_name).copied().collect();
    let node = node_tools::ensure(workspace)?;
    let output = node.wrangler_command().args(&command).arg("--help").output()?;
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        help.contains(&format!("wrangler {}", command.join(" "))),
        "there is no wrangler {}:\n{help}",
        command.join(" ")
    );
    for option in words.iter().filter(|word| word.starts_with("--")) {
        ensure!(
            help.contains(&format!("{option} ")) || help.contains(&format!("{option},")),
            "wrangler {} has no {option}:\n{help}",
            command.join(" ")
        );
    }
    Ok(())
}
