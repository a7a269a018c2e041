//! Upkeep: partitions ahead, retention, repair. The work is done by the database's `sync_maintain`, which `pg_cron` calls where
//! there is one; the daily cron calls it otherwise.

use crate::Store;
use crate::refusal::read_all;
use keapsync_domain::failure::Failure;
use tokio_postgres::types::Type;

/// One thing that upkeep did, or advises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpkeepReport {
    /// What it is about.
    pub task: String,
    /// Where, or what to do.
    pub detail: String,
    /// How many rows it concerned.
    pub rows: i64,
}

impl Store<'_> {
    /// Does a share of the upkeep, at most about `rows_max` rows of each task, and answers what was done.
    pub async fn maintain(&self, rows_max: i32) -> Result<Vec<UpkeepReport>, Failure> {
        let statement = "select task, coalesce(detail, ''), coalesce(rows, 0) from public.sync_maintain($1)";
        let rows = self.query(statement, &[(&rows_max, Type::INT4)]).await?;
        read_all(&rows, |row| {
            Ok(UpkeepReport { task: row.try_get(0)?, detail: row.try_get(1)?, rows: row.try_get(2)? })
        })
    }
}
