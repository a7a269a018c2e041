//! The yardstick: the mirror's own rows, copied by one `COPY` into a table just like theirs. Of the mirror's triggers it has the one
//! that stands for a foreign key.

use std::io::Cursor;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::{SinkExt as _, TryStreamExt as _};
use tokio::time::Instant;
use tokio_postgres::Client;

/// The table that is copied into.
const TABLE: &str = "public.keapsync_benchmark_copy";

/// Rows in memory, and the table to copy them into.
#[derive(Debug)]
pub struct CopyTable {
    client: Client,
    rows: Vec<Vec<u8>>,
}

impl CopyTable {
    /// Makes the table, without rows.
    pub async fn empty(client: Client) -> Result<Self> {
        client
            .batch_execute(&format!(
                "drop table if exists {TABLE};
                 create table {TABLE} (like public.sync_contacts including defaults including constraints
                                       including indexes including storage including compression);
                 create trigger check_account_insert after insert on {TABLE} referencing new table as changed
                     for each statement execute function public.keapsync_check_account()"
            ))
            .await
            .context("the table for COPY cannot be made")?;
        Ok(Self { client, rows: Vec::new() })
    }

    /// Makes the table and reads the account's rows.
    pub async fn make(client: Client, account: &str) -> Result<Self> {
        let mut table = Self::empty(client).await?;
        // An account's name is of a-z, 0-9 and -: nothing in it needs quoting. COPY takes no parameters.
        table.read(&format!("select * from public.sync_contacts where account_id = '{account}'")).await?;
        Ok(table)
    }

    /// Copies the mirror's rows that the table does not have yet; tells how many, and how long it took.
    pub async fn copy_what_is_new(&mut self) -> Result<(u64, Duration)> {
        self.read(&format!(
            "select * from public.sync_contacts mirrored
             where not exists (select from {TABLE} known where known.id = mirrored.id)"
        ))
        .await?;
        self.copy_rows().await
    }

    async fn read(&mut self, query: &str) -> Result<()> {
        let sql = format!("copy ({query}) to stdout");
        let rows = self.client.copy_out(&sql).await.context("the rows cannot be read by COPY")?;
        self.rows = rows.map_ok(|row| row.to_vec()).try_collect().await.context("the rows broke off")?;
        Ok(())
    }

    /// Empties the table and copies all rows into it; tells how many, and how long it took until they were committed.
    pub async fn copy(&self) -> Result<(u64, Duration)> {
        self.client.batch_execute(&format!("truncate {TABLE}")).await?;
        self.copy_rows().await
    }

    async fn copy_rows(&self) -> Result<(u64, Duration)> {
        let rows: Vec<_> = self.rows.iter().cloned().map(Cursor::new).collect();
        let started = Instant::now();
        let mut sink = pin!(self.client.copy_in(&format!("copy {TABLE} from stdin")).await?);
        for row in rows {
            sink.feed(row).await?;
        }
        let copied = sink.finish().await.context("COPY was refused")?;
        Ok((copied, started.elapsed()))
    }

    /// Removes the table.
    pub async fn drop_table(&self) -> Result<()> {
        self.client.batch_execute(&format!("drop table {TABLE}")).await.context("the table for COPY stays")
    }
}
