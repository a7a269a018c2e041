//! `sync_certificates`: what full comparisons of both sides found.

use crate::Store;
use crate::refusal::failure;
use keapsync_domain::certificate::EntityCertificate;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::ports::proof::LatestCertificate;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

/// Certificates cross as the JSON that serde makes of them, times as milliseconds.
const WRITE: &str = "
    insert into public.sync_certificates (account_id, entity_type, run_id, equal, keap_count, supabase_count, keap_tree_hash,
        supabase_tree_hash, differing_count, differences, open_conflicts, oldest_unsynced_at, started_at, checked_at)
    select $1, given.entity, $2::uuid, given.equal, given.keap_count, given.supabase_count, given.keap_tree_hash,
        given.supabase_tree_hash, given.differing_count, given.differences, given.open_conflicts,
        to_timestamp(given.oldest_unsynced_at::float8 / 1000), to_timestamp(given.started_at::float8 / 1000),
        to_timestamp(given.checked_at::float8 / 1000)
    from jsonb_to_recordset($3::jsonb) as given (entity text, equal boolean, keap_count bigint, supabase_count bigint,
        keap_tree_hash text, supabase_tree_hash text, differing_count bigint, differences jsonb, open_conflicts bigint,
        oldest_unsynced_at bigint, started_at bigint, checked_at bigint)
    where not exists (
        select from public.sync_certificates known
        where known.account_id = $1 and known.entity_type = given.entity and known.run_id = $2::uuid
    )";

const LATEST: &str = "
    select latest.entity_type, latest.equal, latest.keap_count, latest.supabase_count, latest.keap_tree_hash,
        latest.supabase_tree_hash, latest.differing_count, latest.differences::text, latest.open_conflicts,
        (extract(epoch from latest.oldest_unsynced_at) * 1000)::bigint, (extract(epoch from latest.started_at) * 1000)::bigint,
        (extract(epoch from latest.checked_at) * 1000)::bigint, latest.run_id::text, (
            select (extract(epoch from max(proof.checked_at)) * 1000)::bigint
            from public.sync_certificates proof
            where proof.account_id = $1 and proof.entity_type = kind.entity_type and proof.equal
        )
    from unnest($2::text[]) with ordinality as kind (entity_type, position)
    cross join lateral (
        select known.* from public.sync_certificates known
        where known.account_id = $1 and known.entity_type = kind.entity_type
        order by known.checked_at desc, known.created_at desc
        limit 1
    ) as latest
    order by kind.position";

/// Keeps certificates.
pub(crate) async fn write(
    store: &Store<'_>,
    account: &AccountId,
    run_id: Option<&str>,
    certificates: &[EntityCertificate],
) -> Result<(), Failure> {
    if certificates.is_empty() {
        return Ok(());
    }
    let certificates = serde_json::to_string(certificates)
        .map_err(|_| Failure::new(FailureClass::Unexpected, "the certificates are no JSON"))?;
    store
        .query(WRITE, &[(&account.as_str(), Type::TEXT), (&run_id, Type::TEXT), (&certificates, Type::TEXT)])
        .await
        .map(|_| ())
}

/// The latest of each kind of record.
pub(crate) async fn latest(
    store: &Store<'_>,
    account: &AccountId,
) -> Result<Vec<LatestCertificate>, Failure> {
    let kinds = EntityType::ALL.map(EntityType::as_str);
    let rows = store
        .query(LATEST, &[(&account.as_str(), Type::TEXT), (&kinds.as_slice(), Type::TEXT_ARRAY)])
        .await?;
    rows.iter().map(latest_certificate).collect()
}

fn latest_certificate(row: &Row) -> Result<LatestCertificate, Failure> {
    let unreadable = || {
        Failure::new(
            FailureClass::Unexpected,
            "a certificate was written by a newer version; read it with that version",
        )
    };
    let entity: &str = row.try_get(0).map_err(|error| failure(&error))?;
    let entity = EntityType::from_name(entity).ok_or_else(unreadable)?;
    let differences: &str = row.try_get(7).map_err(|error| failure(&error))?;
    let differences = serde_json::from_str(differences).map_err(|_| unreadable())?;
    let read = || -> Result<LatestCertificate, tokio_postgres::Error> {
        // The table refuses counts below zero.
        let count = |position: usize| -> Result<u64, tokio_postgres::Error> {
            Ok(row.try_get::<_, i64>(position)?.unsigned_abs())
        };
        Ok(LatestCertificate {
            certificate: EntityCertificate {
                entity,
                equal: row.try_get(1)?,
                keap_count: count(2)?,
                supabase_count: count(3)?,
                keap_tree_hash: row.try_get(4)?,
                supabase_tree_hash: row.try_get(5)?,
                differing_count: count(6)?,
                differences,
                open_conflicts: count(8)?,
                oldest_unsynced_at: row.try_get::<_, Option<i64>>(9)?.map(Timestamp),
                started_at: Timestamp(row.try_get(10)?),
                checked_at: Timestamp(row.try_get(11)?),
            },
            run_id: row.try_get(12)?,
            last_equal_at: row.try_get::<_, Option<i64>>(13)?.map(Timestamp),
        })
    };
    read().map_err(|error| failure(&error))
}
