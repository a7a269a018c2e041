//! Reads contacts with their sync status.

use crate::Store;
use crate::refusal::failure;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_domain::record::Record;
use keapsync_domain::schema::{CONTACT_FIELDS, FieldKind};
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::ports::{KnownRow, LocalRow, RemoteKey};
use serde_json::{Map, Value};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

/// The columns of a [`LocalRow`], read by [`local_row`] in this order: the mapped ones in the order of the schema.
macro_rules! local_row_columns {
    () => {
        "contact.id::text, contact.keap_id, contact.version, coalesce(status.has_base, false), status.base::text,
         status.keap_hash, (extract(epoch from contact.updated_at) * 1000)::bigint,
         (extract(epoch from contact.keap_updated_at) * 1000)::bigint,
         (extract(epoch from status.keap_observed_at) * 1000)::bigint,
         (extract(epoch from contact.deleted_at) * 1000)::bigint, contact.extra::text,
         contact.email, contact.first_name, contact.last_name, contact.middle_name, contact.phone, contact.company,
         contact.job_title, contact.website, to_char(contact.birth_date, 'YYYY-MM-DD'), contact.owner_id,
         contact.lead_source_id, contact.opt_in_status, contact.emails::text, contact.phones::text,
         contact.addresses::text, contact.tags::text, contact.custom_fields::text"
    };
}

/// Columns before the mapped ones.
const LEADING_COLUMNS: usize = 11;

/// Answers from `sync_status` alone for what did not change. Contacts are read for what did, and for what has no status under its
/// Keap id: a row that carries the id without one, and the row that created the record.
///
/// `offset 0` keeps each lookup a lookup by index: without statistics, right after a first load, the planner would
/// rather read the whole account into a hash table.
const KNOWN: &str = concat!(
    "with key as materialized (
        select unnest($2::text[]) as keap_id, unnest($3::text[]) as keap_hash, unnest($4::text[])::uuid as row_id
    ), met as materialized (
        select key.keap_id, key.row_id, coalesce(found.keap_hash = key.keap_hash, false) as unchanged, found.entity_id as id
        from key
        left join lateral (
            select status.entity_id, status.keap_hash
            from public.sync_status status
            where status.account_id = $1 and status.entity_type = 'contact' and status.keap_id = key.keap_id
            limit 1
        ) as found on true
    ), known as materialized (
        select keap_id, unchanged, case when not unchanged then id end as id from met where id is not null
        union all
        select met.keap_id, false, coalesce(linked.id, case when made.keap_id is null then made.id end)
        from met
        left join lateral (
            select contact.id from public.sync_contacts contact
            where contact.account_id = $1 and contact.keap_id = met.keap_id
            offset 0
        ) as linked on true
        left join lateral (
            select contact.id, contact.keap_id from public.sync_contacts contact
            where contact.id = met.row_id and contact.account_id = $1
            offset 0
        ) as made on true
        where met.id is null
    )
    select known.keap_id, known.unchanged, found.*
    from known
    left join lateral (
        select ",
    local_row_columns!(),
    "   from public.sync_contacts contact
        left join lateral (
            select * from public.sync_status status
            where status.account_id = $1 and status.entity_type = 'contact' and status.entity_id = contact.id
            offset 0
        ) as status on true
        where contact.id = known.id
        offset 0
    ) as found on true"
);

const ROWS: &str = concat!(
    "select ",
    local_row_columns!(),
    " from public.sync_contacts contact
    left join public.sync_status status
        on status.account_id = contact.account_id and status.entity_type = 'contact' and status.entity_id = contact.id
    where contact.account_id = $1 and contact.id = any($2::text[]::uuid[])"
);

/// Finds rows by Keap id or by the row id that a record carries.
pub(crate) async fn known(
    store: &Store<'_>,
    account: &AccountId,
    keys: &[RemoteKey],
) -> Result<Vec<KnownRow>, Failure> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let keap_ids: Vec<&str> = keys.iter().map(|key| key.keap_id.as_str()).collect();
    let hashes: Vec<&str> = keys.iter().map(|key| key.keap_hash.as_str()).collect();
    // The row id comes out of a field that people can edit in Keap.
    let row_ids: Vec<Option<&str>> =
        keys.iter().map(|key| key.row_id.as_deref().filter(|id| is_uuid(id))).collect();
    let rows = store
        .query(
            KNOWN,
            &[
                (&account.as_str(), Type::TEXT),
                (&keap_ids, Type::TEXT_ARRAY),
                (&hashes, Type::TEXT_ARRAY),
                (&row_ids, Type::TEXT_ARRAY),
            ],
        )
        .await?;
    let mut known = Vec::with_capacity(rows.len());
    for row in &rows {
        let keap_id: String = row.try_get(0).map_err(|error| failure(&error))?;
        let unchanged: bool = row.try_get(1).map_err(|error| failure(&error))?;
        let row = if unchanged { None } else { local_row(row, 2)? };
        // A status whose row was purged: the record is as good as unknown.
        if unchanged || row.is_some() {
            known.push(KnownRow { keap_id, row });
        }
    }
    Ok(known)
}

/// Reads rows by key. Ids that are no UUIDs name no row.
pub(crate) async fn rows(
    store: &Store<'_>,
    account: &AccountId,
    ids: &[String],
) -> Result<Vec<LocalRow>, Failure> {
    let ids: Vec<&str> = ids.iter().map(String::as_str).filter(|id| is_uuid(id)).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = store.query(ROWS, &[(&account.as_str(), Type::TEXT), (&ids, Type::TEXT_ARRAY)]).await?;
    rows.iter().filter_map(|row| local_row(row, 0).transpose()).collect()
}

/// Whether `text` is a UUID in its canonical form, hyphens included.
pub(crate) fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(position, byte)| match position {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Reads the columns of `local_row_columns` from `first` on; `None` when the join found no row.
fn local_row(row: &Row, first: usize) -> Result<Option<LocalRow>, Failure> {
    let Some((mut local, base, extra)) = plain_columns(row, first).map_err(|error| failure(&error))? else {
        return Ok(None);
    };
    local.extra = serde_json::from_str(extra).map_err(|_| unreadable_json("extra"))?;
    if let Some(base) = base {
        local.base_delta = serde_json::from_str(base).map_err(|_| unreadable_json("base"))?;
    }
    for (position, field) in CONTACT_FIELDS.iter().enumerate() {
        let text: Option<&str> =
            row.try_get(first + LEADING_COLUMNS + position).map_err(|error| failure(&error))?;
        let Some(text) = text else { continue };
        let value = match field.kind {
            FieldKind::Set
            | FieldKind::Slots(_)
            | FieldKind::Map
            | FieldKind::Address
            | FieldKind::Integer
            | FieldKind::Boolean => serde_json::from_str(text).map_err(|_| unreadable_json(field.name))?,
            _ => Value::String(text.to_owned()),
        };
        local.record.set(position, value);
    }
    Ok(Some(local))
}

/// A row without what its JSON columns hold, and the texts of base and extra.
type PlainColumns<'a> = (LocalRow, Option<&'a str>, &'a str);

fn plain_columns(row: &Row, first: usize) -> Result<Option<PlainColumns<'_>>, tokio_postgres::Error> {
    let Some(id) = row.try_get::<_, Option<String>>(first)? else {
        return Ok(None);
    };
    let time = |offset: usize| -> Result<Option<Timestamp>, tokio_postgres::Error> {
        Ok(row.try_get::<_, Option<i64>>(first + offset)?.map(Timestamp))
    };
    let local = LocalRow {
        id,
        keap_id: row.try_get(first + 1)?,
        version: row.try_get(first + 2)?,
        record: Record::empty(EntityType::Contact),
        extra: Map::new(),
        base_delta: Map::new(),
        has_base: row.try_get(first + 3)?,
        keap_hash: row.try_get(first + 5)?,
        updated_at: Timestamp(row.try_get(first + 6)?),
        keap_updated_at: time(7)?,
        keap_observed_at: time(8)?,
        deleted_at: time(9)?,
    };
    Ok(Some((local, row.try_get(first + 4)?, row.try_get(first + 10)?)))
}

fn unreadable_json(column: &str) -> Failure {
    Failure::new(
        FailureClass::Unexpected,
        format!(
            "the JSON in column {column} nests too deep or holds a number out of range; correct it in the row"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::is_uuid;

    #[test]
    fn only_canonical_uuids_are_sent() {
        assert!(is_uuid("018f3f6e-0000-4000-8000-00000000abCD"));
        for bad in [
            "",
            "018f3f6e00004000800000000000abcd",
            "018f3f6e-0000-4000-8000-00000000abcg",
            "{018f3f6e-0000-4000-8000-00000000abc}",
        ] {
            assert!(!is_uuid(bad), "{bad}");
        }
    }
}
