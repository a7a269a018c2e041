//! A backup and its restoration, by the very commands that `docs/operations.md` gives: what comes back is what was there, and goes on
//! working as it did.
//!
//! It needs Postgres' own `pg_dump` and `psql` of the server's version, so it runs where Debian's server does.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tokio_postgres::Client;

use super::schema_round_trip::expect_same;
use crate::database;
use crate::progress::detail;
use crate::scratch_postgres::{OWNER, ScratchPostgres};
use crate::subprocess::output_of;
use crate::workspace::Workspace;

/// Where the commands stand.
const RUNBOOK: &str = "docs/operations.md";

/// The database that is backed up, and the one that it is restored into.
const SOURCE: &str = "keapsync_drill_source";
const TARGET: &str = "keapsync_drill_target";

/// Records of both kinds of history: brought by the sync, and edited by a person.
const SYNCED: &str = "
    insert into sync_accounts (account_id, name, status) values ('demo', 'Demo', 'active');
    insert into sync_contacts (account_id, keap_id, first_name) values ('demo', '1', 'Ann'), ('demo', '2', 'Bob')";
const EDIT: &str = "update sync_contacts set first_name = 'Anna' where keap_id = '1'";

/// What must come back.
const CONTENT: &str = "
    select format('%s %s %s %s', keap_id, first_name, version, sync_status) from sync_contacts
    union all select format('queue %s %s', operation, status) from sync_queue
    union all select format('audit %s %s', operation, sync_source) from sync_audit_log
    union all select format('health %s %s %s', entity_type, total, pending) from sync_health
    order by 1";

/// Backs a database up and restores it into an empty one on a server whose programs are in `programs`.
pub(super) async fn run(workspace: &Workspace, server: &ScratchPostgres, programs: &Path) -> Result<()> {
    let outcome = drill(workspace, server, programs).await;
    for name in [SOURCE, TARGET] {
        server.drop_database(name).await?;
    }
    outcome.with_context(|| format!("the backup and restore of {RUNBOOK}"))?;
    detail("A backup was restored into an empty database by the runbook's commands");
    Ok(())
}

async fn drill(workspace: &Workspace, server: &ScratchPostgres, programs: &Path) -> Result<()> {
    let runbook =
        std::fs::read_to_string(workspace.root().join(RUNBOOK)).context("the runbook cannot be read")?;
    let source = server.migrated_database(workspace, SOURCE).await?;
    database::connect(&source.engine_url).await?.batch_execute(SYNCED).await.context("the engine writes")?;
    let owner = database::connect(&source.owner_url).await?;
    owner.batch_execute(EDIT).await.context("a person edits")?;
    let before = content(&owner).await?;
    ensure!(before.len() > 4, "there is nothing to restore: {before:?}");

    let directory = workspace.root().join(".keapsync").join("restore-drill");
    std::fs::create_dir_all(&directory).context("no place for the dump")?;
    run_command(&runbook, "pg_dump ", programs, &directory, &source.owner_url)?;
    let target = server.migrated_database(workspace, TARGET).await?;
    // As Supabase lets the owner of a project do.
    let may_replicate = format!("grant set on parameter session_replication_role to {OWNER}");
    database::connect(&target.superuser_url).await?.batch_execute(&may_replicate).await?;
    run_command(
        &runbook,
        "psql \"$DATABASE_URL\" --single-transaction",
        programs,
        &directory,
        &target.owner_url,
    )?;
    let restored = database::connect(&target.owner_url).await?;

    expect_same(&before, &content(&restored).await?, "other content came back")?;
    // It goes on: a person's edit is captured, and the engine's is not.
    restored.batch_execute("update sync_contacts set first_name = 'Bobby' where keap_id = '2'").await?;
    let engine = database::connect(&target.engine_url).await?;
    engine.batch_execute("update sync_contacts set sync_status = 'pending' where keap_id = '2'").await?;
    let waiting: i64 = engine.query_one("select count(*) from sync_queue", &[]).await?.get(0);
    ensure!(waiting == 2, "{waiting} edits wait after a second edit");
    std::fs::remove_dir_all(&directory).context("the dump stays behind")
}

async fn content(client: &Client) -> Result<Vec<String>> {
    Ok(client.query(CONTENT, &[]).await?.into_iter().map(|row| row.get(0)).collect())
}

/// The runbook's command that begins so.
fn command<'a>(runbook: &'a str, beginning: &str) -> Result<&'a str> {
    let found = runbook.lines().find(|line| line.starts_with(beginning));
    found.with_context(|| format!("{RUNBOOK} has no command that begins with {beginning}"))
}

/// Runs one of the runbook's commands as a shell does, with the server's own programs.
fn run_command(runbook: &str, beginning: &str, programs: &Path, directory: &Path, url: &str) -> Result<()> {
    let line = command(runbook, beginning)?;
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("exec {}/{line}", programs.display())])
        .current_dir(directory)
        .env("DATABASE_URL", url);
    output_of(&mut shell).with_context(|| format!("`{line}` failed")).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_in_the_runbook() {
        let runbook = "text\n```sh\npg_dump \"$DATABASE_URL\" --file=x\n```\n";
        assert_eq!(command(runbook, "pg_dump ").unwrap(), "pg_dump \"$DATABASE_URL\" --file=x");
        assert!(command(runbook, "psql ").unwrap_err().to_string().contains("psql"));
    }
}
