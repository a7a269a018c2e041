//! `runs`: the account's runs. The truth about active ones; ended ones are kept for a while and mirrored to Postgres.

use super::{Sql, to_json};
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::EntityType;
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::runs::TrackedRun;
use serde::Deserialize;

/// Ended runs that stay listed here.
const ENDED_KEPT_MAX: i64 = 200;

#[derive(Deserialize)]
struct RunRow {
    body: String,
}

#[derive(Deserialize)]
struct LastRow {
    at: Option<i64>,
}

impl Sql {
    /// Runs that have not ended, oldest first.
    pub fn active_runs(&self) -> Result<Vec<TrackedRun>, Failure> {
        self.read_runs("WHERE is_active = 1 ORDER BY requested_at", vec![])
    }

    /// The newest runs.
    pub fn list_runs(&self, limit: i64) -> Result<Vec<TrackedRun>, Failure> {
        self.read_runs("ORDER BY requested_at DESC LIMIT ?", vec![limit.into()])
    }

    /// One run.
    pub fn read_run(&self, id: &str) -> Result<Option<TrackedRun>, Failure> {
        Ok(self.read_runs("WHERE id = ?", vec![id.into()])?.into_iter().next())
    }

    /// The runs that were started together under an id, oldest first.
    pub fn batch_runs(&self, batch_id: &str) -> Result<Vec<TrackedRun>, Failure> {
        self.read_runs(
            "WHERE json_extract(body, '$.run.batch_id') = ? ORDER BY requested_at, id",
            vec![batch_id.into()],
        )
    }

    /// Runs of which Postgres does not have the latest state yet.
    pub fn unmirrored_runs(&self, limit: i64) -> Result<Vec<TrackedRun>, Failure> {
        self.read_runs("WHERE is_mirrored = 0 ORDER BY requested_at LIMIT ?", vec![limit.into()])
    }

    /// Writes a run. When it has ended, the oldest ended ones make room.
    pub fn write_run(&self, tracked: &TrackedRun) -> Result<(), Failure> {
        let is_active = !tracked.run.state.is_final();
        self.exec(
            "INSERT INTO runs (id, is_active, is_mirrored, requested_at, body) VALUES (?, ?, 0, ?, ?)
             ON CONFLICT (id) DO UPDATE SET is_active = excluded.is_active, is_mirrored = 0, body = excluded.body",
            vec![
                tracked.run.id.as_str().into(),
                i64::from(is_active).into(),
                tracked.run.requested_at.0.into(),
                to_json(tracked)?.into(),
            ],
        )?;
        if is_active {
            return Ok(());
        }
        self.exec(
            "DELETE FROM runs WHERE is_active = 0 AND is_mirrored = 1 AND id NOT IN
                 (SELECT id FROM runs ORDER BY requested_at DESC LIMIT ?)",
            vec![ENDED_KEPT_MAX.into()],
        )
    }

    /// Notes that Postgres has this state of a run, unless it has changed since.
    pub fn run_mirrored(&self, tracked: &TrackedRun) -> Result<(), Failure> {
        self.exec(
            "UPDATE runs SET is_mirrored = 1 WHERE id = ? AND body = ?",
            vec![tracked.run.id.as_str().into(), to_json(tracked)?.into()],
        )
    }

    /// When a run was last asked for that reads an entity and writes what it read.
    pub fn last_reading_requested_at(&self, entity: EntityType) -> Result<Option<Timestamp>, Failure> {
        // From the newest back: the first that reads ends the walk.
        let rows: Vec<LastRow> = self.rows(
            "SELECT requested_at AS at FROM runs
             WHERE body ->> '$.run.entity' = ? AND body ->> '$.run.kind' IN ('full', 'incremental')
                 AND body ->> '$.run.direction' <> 'supabase_to_keap' AND NOT (body ->> '$.run.dry_run')
             ORDER BY requested_at DESC LIMIT 1",
            vec![entity.as_str().into()],
        )?;
        Ok(rows.first().and_then(|row| row.at).map(Timestamp))
    }

    fn read_runs(
        &self,
        rest: &str,
        parameters: Vec<worker::SqlStorageValue>,
    ) -> Result<Vec<TrackedRun>, Failure> {
        let rows: Vec<RunRow> = self.rows(&format!("SELECT body FROM runs {rest}"), parameters)?;
        rows.iter()
            .map(|row| {
                serde_json::from_str(&row.body).map_err(|_| {
                    Failure::new(FailureClass::Unexpected, "a stored run has an unexpected shape")
                })
            })
            .collect()
    }
}
