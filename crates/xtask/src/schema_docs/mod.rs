//! `cargo xtask schema-docs`: the database described from the database itself.
//!
//! A fresh database goes through the migrations, and what its catalog says becomes `docs/database`: a diagram, a dictionary of
//! tables and views, and the functions.
//!
//! # Invariants
//! - Whatever has no comment is an error that names it: nothing is described by its name alone.
//! - The same migrations give the same text: partitions, which come with the months, are left out.
//!
//! It describes what there is, not why: that is in the migrations.

mod catalog;
mod diagram;
mod dictionary;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use self::catalog::Catalog;
use crate::database;
use crate::progress::say;
use crate::scratch_postgres::ScratchPostgres;
use crate::workspace::Workspace;

/// The database that is described.
const DATABASE: &str = "keapsync_described";

/// Where the documents are, in the checkout.
const DIRECTORY: &str = "docs/database";

/// Says that nobody should edit a document.
const ORIGIN: &str = "<!-- Made from the migrations by `cargo xtask schema-docs`; edit the comments there, not this file. -->\n";

/// Writes the documents, or with `check` only compares them.
pub async fn run(workspace: &Workspace, only_check: bool) -> Result<()> {
    let server = ScratchPostgres::start(workspace, "schema-docs").await?;
    let outcome = if only_check { check(workspace, &server).await } else { write(workspace, &server).await };
    server.stop();
    outcome
}

/// Fails when the documents are not what the migrations make them.
pub async fn check(workspace: &Workspace, server: &ScratchPostgres) -> Result<()> {
    let differing: Vec<String> = documents(workspace, server)
        .await?
        .into_iter()
        .filter(|(path, text)| std::fs::read_to_string(path).ok().as_ref() != Some(text))
        .map(|(path, _)| path.display().to_string())
        .collect();
    if !differing.is_empty() {
        bail!("these do not describe the schema: {}: run `cargo xtask schema-docs`", differing.join(", "));
    }
    Ok(())
}

async fn write(workspace: &Workspace, server: &ScratchPostgres) -> Result<()> {
    for (path, text) in documents(workspace, server).await? {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("{} cannot be created", directory.display()))?;
        }
        std::fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
        say(format!("Written: {}", path.display()));
    }
    Ok(())
}

/// Each document with its text.
async fn documents(workspace: &Workspace, server: &ScratchPostgres) -> Result<Vec<(PathBuf, String)>> {
    let database = server.migrated_database(workspace, DATABASE).await?;
    let catalog = Catalog::read(&database::connect(&database.superuser_url).await?).await?;
    server.drop_database(DATABASE).await?;
    let missing = catalog.without_comment();
    if !missing.is_empty() {
        bail!(
            "these have no comment: {}. Add one in a migration, by `comment on …`: it is what people read",
            missing.join(", ")
        );
    }
    let directory = workspace.root().join(DIRECTORY);
    let texts = [
        ("README.md", dictionary::overview(&catalog)),
        ("tables.md", dictionary::relations(&catalog)),
        ("functions.md", dictionary::functions(&catalog)),
    ];
    Ok(texts.into_iter().map(|(name, text)| (directory.join(name), format!("{ORIGIN}\n{text}"))).collect())
}
