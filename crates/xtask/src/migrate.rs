//! Applying and undoing the migrations, with sqlx doing the work.
//!
//! Files are `migrations/NNNN_name.up.sql` and `.down.sql`. What was applied is recorded in a schema of its own, so that
//! nothing of the tools stands among the tables people query. Each file runs in one transaction; an advisory lock keeps
//! two migrations apart, which is why this needs a direct or session-pooled connection.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use sqlx::migrate::{Migrate, Migrator};
use sqlx::{Connection, PgConnection};

use crate::workspace::Workspace;

/// The schema of the record.
const RECORD_SCHEMA: &str = "keapsync_migrations";

/// The table of the record.
const RECORD_TABLE: &str = "keapsync_migrations.applied";

/// One migration and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MigrationState {
    /// The number in its file's name.
    pub version: i64,
    /// The name in its file's name.
    pub name: String,
    /// Whether the database has it.
    pub applied: bool,
    /// Whether its file is not the one that was applied.
    pub changed_since: bool,
}

/// Applies all migrations, or those up to and including a version; gives the versions that were new.
pub async fn up(workspace: &Workspace, url: &str, to: Option<i64>) -> Result<Vec<i64>> {
    let migrator = read(workspace).await?;
    let mut connection = open(url).await?;
    let before = applied_versions(&migrator, &mut connection).await?;
    let done = match to {
        Some(version) => {
            check_version(&migrator, version)?;
            migrator.run_to(version, &mut connection).await
        }
        None => migrator.run(&mut connection).await,
    };
    done.context("a migration failed and was rolled back; the ones before it stay applied")?;
    let after = applied_versions(&migrator, &mut connection).await?;
    close(connection).await?;
    Ok(after.into_keys().filter(|version| !before.contains_key(version)).collect())
}

/// Undoes the last migration, or all after a version; 0 undoes everything. Gives the versions that were undone.
pub async fn down(workspace: &Workspace, url: &str, to: Option<i64>) -> Result<Vec<i64>> {
    let migrator = read(workspace).await?;
    let mut connection = open(url).await?;
    let before = applied_versions(&migrator, &mut connection).await?;
    let target = match to {
        Some(0) => 0,
        Some(version) => {
            check_version(&migrator, version)?;
            version
        }
        None => before.keys().rev().nth(1).copied().unwrap_or(0),
    };
    migrator
        .undo(&mut connection, target)
        .await
        .context("a migration could not be undone and was rolled back; the ones after it are gone")?;
    let after = applied_versions(&migrator, &mut connection).await?;
    close(connection).await?;
    Ok(before.into_keys().rev().filter(|version| !after.contains_key(version)).collect())
}

/// Where each migration stands. It looks and makes nothing: a database without the record has none of them.
pub async fn status(workspace: &Workspace, url: &str) -> Result<Vec<MigrationState>> {
    let migrator = read(workspace).await?;
    let mut connection = open(url).await?;
    let has_record: bool = sqlx::query_scalar("select to_regclass($1) is not null")
        .bind(RECORD_TABLE)
        .fetch_one(&mut connection)
        .await
        .context("the record of migrations cannot be looked for")?;
    let applied =
        if has_record { applied_versions(&migrator, &mut connection).await? } else { BTreeMap::new() };
    close(connection).await?;
    Ok(states(&migrator, &applied))
}

fn states(migrator: &Migrator, applied: &BTreeMap<i64, Vec<u8>>) -> Vec<MigrationState> {
    let ups = migrator.iter().filter(|migration| migration.migration_type.is_up_migration());
    ups.map(|migration| {
        let recorded = applied.get(&migration.version);
        MigrationState {
            version: migration.version,
            name: migration.description.to_string(),
            applied: recorded.is_some(),
            changed_since: recorded.is_some_and(|checksum| *checksum != migration.checksum.as_ref()),
        }
    })
    .collect()
}

async fn read(workspace: &Workspace) -> Result<Migrator> {
    let directory = workspace.root().join("migrations");
    let mut migrator = Migrator::new(directory.as_path())
        .await
        .with_context(|| format!("the files in {} cannot be read as migrations", directory.display()))?;
    migrator.create_schema(RECORD_SCHEMA);
    migrator.dangerous_set_table_name(RECORD_TABLE);
    Ok(migrator)
}

/// A connection as migrations use it: encrypted where the server can.
pub(crate) async fn open(url: &str) -> Result<PgConnection> {
    PgConnection::connect(url).await.context(
        "no connection to the database: check DATABASE_URL, or start the local one with `cargo xtask dev`",
    )
}

/// Ends a connection in order.
pub(crate) async fn close(connection: PgConnection) -> Result<()> {
    connection.close().await.context("the connection to the database did not close")
}

async fn applied_versions(
    migrator: &Migrator,
    connection: &mut PgConnection,
) -> Result<BTreeMap<i64, Vec<u8>>> {
    for schema in migrator.create_schemas.iter() {
        connection.create_schema_if_not_exists(schema).await?;
    }
    connection.ensure_migrations_table(&migrator.table_name).await?;
    let applied = connection.list_applied_migrations(&migrator.table_name).await?;
    Ok(applied.into_iter().map(|migration| (migration.version, migration.checksum.into_owned())).collect())
}

fn check_version(migrator: &Migrator, version: i64) -> Result<()> {
    if !migrator.version_exists(version) {
        bail!("there is no migration {version}: `cargo xtask migrate status` lists them");
    }
    Ok(())
}
