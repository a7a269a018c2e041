//! Figures of all accounts at once, for a page of metrics: what there is, what waits, and what was carried lately.
//!
//! Both statements read small indexes and no table of records as a whole, however many records there are.

use crate::Store;
use crate::refusal::read_all;
use keapsync_domain::failure::Failure;
use tokio_postgres::types::Type;

/// How one kind of an account's records is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityFigures {
    /// The account.
    pub account_id: String,
    /// Kind of record.
    pub entity: String,
    /// Live records.
    pub total: i64,
    /// With a change that waits for its way to Keap.
    pub pending: i64,
    /// Whose last attempt failed for good.
    pub errors: i64,
    /// With a conflict that waits for a person.
    pub conflicts: i64,
    /// How long the oldest edit has been waiting, in seconds.
    pub oldest_pending_seconds: Option<i64>,
    /// How long ago records of this kind were last brought into step, in seconds.
    pub last_sync_seconds: Option<i64>,
}

/// What was brought into step within a window of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentActivity {
    /// The account.
    pub account_id: String,
    /// Kind of record.
    pub entity: String,
    /// `keap_to_supabase` or `supabase_to_keap`.
    pub direction: String,
    /// Records, whether or not a value changed.
    pub records: i64,
    /// Mean time from a change to its arrival, in milliseconds; none where no record's time of change is known.
    pub lag_ms: Option<i64>,
}

const FIGURES: &str = "
    select health.account_id, health.entity_type, health.total, health.pending, health.errors, health.conflicts,
        extract(epoch from health.oldest_pending_age)::bigint,
        extract(epoch from now() - health.last_sync_at)::bigint
    from public.sync_health health
    where health.account_id in (select account.account_id from public.sync_accounts account order by account.account_id limit $1)
    order by health.account_id, health.entity_type";

/// Looked up account by account and kind by kind, as the index over the activity has them.
const RECENT: &str = "
    select account.account_id, entity.entity_type, recent.direction, recent.records, recent.lag_ms
    from (select known.account_id from public.sync_accounts known order by known.account_id limit $1) as account
    cross join (values ('contact'), ('order'), ('tag'), ('subscription')) as entity (entity_type)
    cross join lateral (
        select activity.direction,
            sum(activity.records)::bigint as records,
            (sum(activity.lag_ms_total) / nullif(sum(activity.lag_records), 0))::bigint as lag_ms
        from public.sync_activity activity
        where activity.account_id = account.account_id and activity.entity_type = entity.entity_type
            and activity.at > now() - $2 * interval '1 second'
        group by activity.direction
    ) as recent
    order by account.account_id, entity.entity_type, recent.direction";

impl Store<'_> {
    /// Figures of the first accounts, kind by kind.
    pub async fn entity_figures(&self, accounts_max: i64) -> Result<Vec<EntityFigures>, Failure> {
        let rows = self.query(FIGURES, &[(&accounts_max, Type::INT8)]).await?;
        read_all(&rows, |row| {
            Ok(EntityFigures {
                account_id: row.try_get(0)?,
                entity: row.try_get(1)?,
                total: row.try_get(2)?,
                pending: row.try_get(3)?,
                errors: row.try_get(4)?,
                conflicts: row.try_get(5)?,
                oldest_pending_seconds: row.try_get(6)?,
                last_sync_seconds: row.try_get(7)?,
            })
        })
    }

    /// What was brought into step for the first accounts within the last seconds.
    pub async fn recent_activity(
        &self,
        accounts_max: i64,
        window_seconds: f64,
    ) -> Result<Vec<RecentActivity>, Failure> {
        let rows =
            self.query(RECENT, &[(&accounts_max, Type::INT8), (&window_seconds, Type::FLOAT8)]).await?;
        read_all(&rows, |row| {
            Ok(RecentActivity {
                account_id: row.try_get(0)?,
                entity: row.try_get(1)?,
                direction: row.try_get(2)?,
                records: row.try_get(3)?,
                lag_ms: row.try_get(4)?,
            })
        })
    }
}
