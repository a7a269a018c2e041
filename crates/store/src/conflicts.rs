//! `sync_conflicts`: fields that both sides changed, for people to read and settle.
//!
//! A decision is one call of the database's `resolve_sync_conflict`, which changes the row, what both sides agreed on, the outbox and
//! the audit log together, or nothing.

use crate::refusal::{failure, retried};
use crate::{Parameter, Store};
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_domain::timestamp::Timestamp;
use serde_json::Value;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

/// A conflict, open or settled.
#[derive(Clone, Debug, PartialEq)]
pub struct ConflictRow {
    /// A UUID.
    pub id: String,
    /// Kind of record.
    pub entity_type: String,
    /// Key of the row, a UUID.
    pub entity_id: String,
    /// Keap's id.
    pub keap_id: Option<String>,
    /// Fields, or `field.slot`.
    pub fields: Vec<String>,
    /// What both sides last agreed on: an object keyed by field, as the two below.
    pub base: Value,
    /// Keap's values.
    pub keap: Value,
    /// The row's values.
    pub supabase: Value,
    /// When Keap's record changed, by Keap's clock.
    pub keap_changed_at: Option<Timestamp>,
    /// When the row changed.
    pub supabase_changed_at: Option<Timestamp>,
    /// When the conflict was met.
    pub detected_at: Timestamp,
    /// The policy that applied, or the strategy that a person chose.
    pub strategy: Option<String>,
    /// Whose value stands; `None` while it is open.
    pub winner: Option<String>,
    /// When it was settled; `None` while it is open.
    pub resolved_at: Option<Timestamp>,
    /// User who settled it; `None` for a policy.
    pub resolved_by: Option<String>,
    /// What was said about it.
    pub notes: Option<String>,
}

/// How a person settles a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Keap's value.
    KeapWins,
    /// The row's value.
    SupabaseWins,
    /// Both sides' changes together, where they can be.
    Merge,
    /// The values that are given.
    Manual,
}

impl Resolution {
    /// The name in SQL and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KeapWins => "keap_wins",
            Self::SupabaseWins => "supabase_wins",
            Self::Merge => "merge",
            Self::Manual => "manual",
        }
    }
}

macro_rules! conflict_columns {
    () => {
        "select conflict.id::text, conflict.entity_type, conflict.entity_id::text, conflict.keap_id, conflict.conflict_fields,
            conflict.base_data::text, conflict.keap_data::text, conflict.supabase_data::text,
            (extract(epoch from conflict.keap_changed_at) * 1000)::bigint,
            (extract(epoch from conflict.supabase_changed_at) * 1000)::bigint,
            (extract(epoch from conflict.detected_at) * 1000)::bigint, conflict.resolution_strategy, conflict.winner,
            (extract(epoch from conflict.resolved_at) * 1000)::bigint, conflict.resolved_by::text, conflict.resolution_notes
        from public.sync_conflicts conflict
        where conflict.account_id = $1"
    };
}

/// Conflicts of one page are often met in one statement, at one time: their ids tell them apart.
const OPEN: &str = concat!(
    conflict_columns!(),
    "   and conflict.resolved_at is null and ($2::text is null or conflict.entity_type = $2)
        and ($3::text is null or (conflict.detected_at, conflict.id) > (
            select last.detected_at, last.id from public.sync_conflicts last where last.id = $3::uuid and last.account_id = $1))
    order by conflict.detected_at, conflict.id
    limit $4"
);

const ONE: &str = concat!(conflict_columns!(), " and conflict.id = $2::uuid");

const RESOLVE: &str = "
    select public.resolve_sync_conflict(conflict.id, $3, $4::jsonb, $5)::text
    from public.sync_conflicts conflict
    where conflict.account_id = $1 and conflict.id = $2::uuid";

impl Store<'_> {
    /// Open conflicts, oldest first: those behind the conflict `after`, or from the first.
    pub async fn open_conflicts(
        &self,
        account: &AccountId,
        entity: Option<EntityType>,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<ConflictRow>, Failure> {
        let entity = entity.map(EntityType::as_str);
        let parameters: [Parameter<'_>; 4] = [
            (&account.as_str(), Type::TEXT),
            (&entity, Type::TEXT),
            (&after, Type::TEXT),
            (&limit, Type::INT8),
        ];
        self.query(OPEN, &parameters).await?.iter().map(conflict_row).collect()
    }

    /// One conflict of an account. `id` is a UUID.
    pub async fn read_conflict(&self, account: &AccountId, id: &str) -> Result<Option<ConflictRow>, Failure> {
        let rows = self.query(ONE, &[(&account.as_str(), Type::TEXT), (&id, Type::TEXT)]).await?;
        rows.first().map(conflict_row).transpose()
    }

    /// Settles a conflict and answers what came of it, as `resolve_sync_conflict` says it. `values` is an object keyed by the conflict's
    /// field, for [`Resolution::Manual`] and, where both cannot be put together, [`Resolution::Merge`].
    ///
    /// [`FailureClass::NotFound`]: the account has no such conflict. [`FailureClass::Conflict`]: it was settled already.
    /// [`FailureClass::Invalid`]: the decision cannot be carried out.
    pub async fn resolve_conflict(
        &self,
        account: &AccountId,
        id: &str,
        resolution: Resolution,
        values: Option<&Value>,
        notes: Option<&str>,
    ) -> Result<Value, Failure> {
        let values = values.map(Value::to_string);
        let parameters: [Parameter<'_>; 5] = [
            (&account.as_str(), Type::TEXT),
            (&id, Type::TEXT),
            (&resolution.as_str(), Type::TEXT),
            (&values, Type::TEXT),
            (&notes, Type::TEXT),
        ];
        let rows = retried(async || self.client.query_typed(RESOLVE, &parameters).await)
            .await
            .map_err(|error| refused_decision(&error))?;
        let Some(row) = rows.first() else {
            return Err(Failure::new(FailureClass::NotFound, "the account has no conflict of this id"));
        };
        let outcome: &str = row.try_get(0).map_err(|error| failure(&error))?;
        serde_json::from_str(outcome).map_err(|_| unreadable())
    }
}

fn refused_decision(error: &tokio_postgres::Error) -> Failure {
    match error.code().map(tokio_postgres::error::SqlState::code) {
        Some("55000") => Failure::new(
            FailureClass::Conflict,
            "the conflict is settled already; read the record as it is now",
        ),
        Some(code) if code.starts_with("22") || code.starts_with("23") => Failure::new(
            FailureClass::Invalid,
            "the decision cannot be carried out: choose a side, or give values that fit their fields",
        ),
        _ => failure(error),
    }
}

fn conflict_row(row: &Row) -> Result<ConflictRow, Failure> {
    let json = |position: usize| -> Result<Value, Failure> {
        let text: Option<&str> = row.try_get(position).map_err(|error| failure(&error))?;
        text.map_or(Ok(Value::Null), |text| serde_json::from_str(text).map_err(|_| unreadable()))
    };
    let (base, keap, supabase) = (json(5)?, json(6)?, json(7)?);
    let read = || -> Result<ConflictRow, tokio_postgres::Error> {
        let time = |position: usize| -> Result<Option<Timestamp>, tokio_postgres::Error> {
            Ok(row.try_get::<_, Option<i64>>(position)?.map(Timestamp))
        };
        Ok(ConflictRow {
            id: row.try_get(0)?,
            entity_type: row.try_get(1)?,
            entity_id: row.try_get(2)?,
            keap_id: row.try_get(3)?,
            fields: row.try_get(4)?,
            base,
            keap,
            supabase,
            keap_changed_at: time(8)?,
            supabase_changed_at: time(9)?,
            detected_at: Timestamp(row.try_get(10)?),
            strategy: row.try_get(11)?,
            winner: row.try_get(12)?,
            resolved_at: time(13)?,
            resolved_by: row.try_get(14)?,
            notes: row.try_get(15)?,
        })
    };
    read().map_err(|error| failure(&error))
}

fn unreadable() -> Failure {
    Failure::new(
        FailureClass::Unexpected,
        "a conflict's values could not be read: they nest too deep or hold a number out of range",
    )
}
