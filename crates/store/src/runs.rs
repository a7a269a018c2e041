//! `sync_runs`: runs as the account's object last reported them.

use crate::Store;
use crate::refusal::failure;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::AccountId;
use keapsync_domain::run::{Direction, Run};
use keapsync_domain::timestamp::Timestamp;
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

/// A mirrored run, as SQL has it.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRow {
    /// A UUID.
    pub id: String,
    /// `full`, `incremental`, `verify` or `revert`.
    pub kind: String,
    /// Kind of record.
    pub entity_type: String,
    /// `keap_to_supabase`, `supabase_to_keap` or `bidirectional`.
    pub direction: String,
    /// `queued`, `running`, `awaiting_approval`, `completed` or `failed`.
    pub state: String,
    /// Records by what was done with them.
    pub counts: Value,
    /// Where the next unit goes on.
    pub cursor: Option<Value>,
    /// What went wrong last, in words.
    pub error: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its first unit was ordered.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// A report that is older than what is known (a run that ended goes back to running) changes nothing.
const UPSERT: &str = "
    with reported as (
        insert into public.sync_runs as known
            (id, account_id, kind, entity_type, direction, state, counts, cursor, error, created_at, started_at, finished_at,
             dry_run, batch_id, reverts)
        values ($1::uuid, $2, $3, $4, $5, $6, $7::jsonb, $8::jsonb, $9, to_timestamp($10::float8 / 1000),
                to_timestamp($11::float8 / 1000), to_timestamp($12::float8 / 1000), $13, $14::uuid, $15::uuid)
        on conflict (id) do update
        set state = excluded.state, counts = excluded.counts, cursor = excluded.cursor, error = excluded.error,
            started_at = excluded.started_at, finished_at = excluded.finished_at, updated_at = now()
        where known.finished_at is null and known.account_id = excluded.account_id
        returning account_id, kind, dry_run, state, error, finished_at
    )
    update public.sync_accounts account
    set last_full_sync_at = case when reported.state = 'completed' and reported.kind = 'full' and not reported.dry_run
            then reported.finished_at else account.last_full_sync_at end,
        last_incremental_sync_at = case when reported.state = 'completed' and reported.kind = 'incremental' and not reported.dry_run
            then reported.finished_at else account.last_incremental_sync_at end,
        last_error = case when reported.state = 'failed' then reported.error else account.last_error end,
        last_error_at = case when reported.state = 'failed' then reported.finished_at else account.last_error_at end,
        updated_at = now()
    from reported
    where account.account_id = reported.account_id and reported.state in ('completed', 'failed')";

macro_rules! run_columns {
    () => {
        "id::text, kind, entity_type, direction, state, counts::text, cursor::text, error,
         (extract(epoch from created_at) * 1000)::bigint, (extract(epoch from started_at) * 1000)::bigint,
         (extract(epoch from finished_at) * 1000)::bigint"
    };
}

const READ: &str =
    concat!("select ", run_columns!(), " from public.sync_runs where account_id = $1 and id = $2::uuid");

const LIST: &str = concat!(
    "select ",
    run_columns!(),
    " from public.sync_runs where account_id = $1 order by created_at desc, id limit $2"
);

impl Store<'_> {
    /// Mirrors a run, and on its account when it last ended well or badly.
    pub async fn upsert_run(&self, account: &AccountId, run: &Run) -> Result<(), Failure> {
        let unwritable = |_| Failure::new(FailureClass::Unexpected, "the run's counts or cursor are no JSON");
        let direction = match run.direction {
            Direction::KeapToSupabase => "keap_to_supabase",
            Direction::SupabaseToKeap => "supabase_to_keap",
            Direction::Bidirectional => "bidirectional",
        };
        let counts = serde_json::to_string(&run.counts).map_err(unwritable)?;
        let cursor = serde_json::to_string(&run.cursor).map_err(unwritable)?;
        self.query(
            UPSERT,
            &[
                (&run.id, Type::TEXT),
                (&account.as_str(), Type::TEXT),
                (&run.kind.as_str(), Type::TEXT),
                (&run.entity.as_str(), Type::TEXT),
                (&direction, Type::TEXT),
                (&run.state.as_str(), Type::TEXT),
                (&counts, Type::TEXT),
                (&cursor, Type::TEXT),
                (&run.error.as_ref().map(|error| error.message.as_str()), Type::TEXT),
                (&run.requested_at.0, Type::INT8),
                (&run.started_at.map(|time| time.0), Type::INT8),
                (&run.finished_at.map(|time| time.0), Type::INT8),
                (&run.dry_run, Type::BOOL),
                (&run.batch_id, Type::TEXT),
                (&run.reverts, Type::TEXT),
            ],
        )
        .await
        .map(|_| ())
    }

    /// Reads one run of an account.
    pub async fn read_run(&self, account: &AccountId, id: &str) -> Result<Option<RunRow>, Failure> {
        let rows = self.query(READ, &[(&account.as_str(), Type::TEXT), (&id, Type::TEXT)]).await?;
        rows.first().map(run_row).transpose()
    }

    /// Reads an account's latest runs, newest first.
    pub async fn list_runs(&self, account: &AccountId, limit: i64) -> Result<Vec<RunRow>, Failure> {
        let rows = self.query(LIST, &[(&account.as_str(), Type::TEXT), (&limit, Type::INT8)]).await?;
        rows.iter().map(run_row).collect()
    }
}

fn run_row(row: &Row) -> Result<RunRow, Failure> {
    let read = || -> Result<(RunRow, String, Option<String>), tokio_postgres::Error> {
        let run = RunRow {
            id: row.try_get(0)?,
            kind: row.try_get(1)?,
            entity_type: row.try_get(2)?,
            direction: row.try_get(3)?,
            state: row.try_get(4)?,
            counts: Value::Null,
            cursor: None,
            error: row.try_get(7)?,
            created_at: Timestamp(row.try_get(8)?),
            started_at: row.try_get::<_, Option<i64>>(9)?.map(Timestamp),
            finished_at: row.try_get::<_, Option<i64>>(10)?.map(Timestamp),
        };
        Ok((run, row.try_get(5)?, row.try_get(6)?))
    };
    let (mut run, counts, cursor) = read().map_err(|error| failure(&error))?;
    let unreadable_json =
        |_| Failure::new(FailureClass::Unexpected, "a run's counts or cursor could not be read");
    run.counts = serde_json::from_str(&counts).map_err(unreadable_json)?;
    run.cursor = cursor.map(|text| serde_json::from_str(&text)).transpose().map_err(unreadable_json)?;
    Ok(run)
}
