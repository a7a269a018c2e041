//! Reads rows of a mirrored table with their sync status.

use super::statements::statements_of;
use super::table::Table;
use super::table_of;
use crate::Store;
use crate::refusal::failure;
use keapsync_domain::extra::Extra;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::{AccountId, EntityType, is_uuid};
use keapsync_domain::json_number;
use keapsync_domain::record::Record;
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::ports::{KnownRow, LocalRow, RemoteKey};
use serde_json::{Map, Value};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

/// Columns of `known.sql` and `rows.sql` before the table's own.
const LEADING_COLUMNS: usize = 14;

/// Finds rows by Keap id or by the row id that a record carries.
pub(crate) async fn known(
    store: &Store<'_>,
    account: &AccountId,
    entity: EntityType,
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
            &statements_of(entity).known,
            &[
                (&account.as_str(), Type::TEXT),
                (&keap_ids, Type::TEXT_ARRAY),
                (&hashes, Type::TEXT_ARRAY),
                (&row_ids, Type::TEXT_ARRAY),
            ],
        )
        .await?;
    let table = table_of(entity);
    let mut known = Vec::with_capacity(rows.len());
    for row in &rows {
        let keap_id: String = row.try_get(0).map_err(|error| failure(&error))?;
        let unchanged: bool = row.try_get(1).map_err(|error| failure(&error))?;
        let row = if unchanged { None } else { local_row(table, row, 2)? };
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
    entity: EntityType,
    ids: &[String],
) -> Result<Vec<LocalRow>, Failure> {
    let ids: Vec<&str> = ids.iter().map(String::as_str).filter(|id| is_uuid(id)).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = store
        .query(&statements_of(entity).rows, &[(&account.as_str(), Type::TEXT), (&ids, Type::TEXT_ARRAY)])
        .await?;
    rows.iter().filter_map(|row| local_row(table_of(entity), row, 0).transpose()).collect()
}

/// Reads a [`LocalRow`] of the columns from `first` on; `None` when the join found no row.
fn local_row(table: &Table, row: &Row, first: usize) -> Result<Option<LocalRow>, Failure> {
    let Some((mut local, base, extra)) =
        plain_columns(table.entity, row, first).map_err(|error| failure(&error))?
    else {
        return Ok(None);
    };
    local.extra = Extra::of_stored(&serde_json::from_str(extra).map_err(|_| unreadable_json("extra"))?);
    if let Some(base) = base {
        local.base_delta = serde_json::from_str(base).map_err(|_| unreadable_json("base"))?;
    }
    for (position, column) in table.columns.iter().enumerate() {
        let text: Option<&str> =
            row.try_get(first + LEADING_COLUMNS + position).map_err(|error| failure(&error))?;
        let Some(text) = text else { continue };
        let value = if column.form.is_read_as_json() {
            json_number::read(text).map_err(|_| unreadable_json(column.name))?
        } else {
            Value::String(text.to_owned())
        };
        local.record.set(position, value);
    }
    Ok(Some(local))
}

/// A row without what its JSON columns hold, and the texts of base and extra.
type PlainColumns<'a> = (LocalRow, Option<&'a str>, &'a str);

fn plain_columns(
    entity: EntityType,
    row: &Row,
    first: usize,
) -> Result<Option<PlainColumns<'_>>, tokio_postgres::Error> {
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
        record: Record::empty(entity),
        extra: Extra::default(),
        base_delta: Map::new(),
        has_base: row.try_get(first + 3)?,
        keap_hash: row.try_get(first + 5)?,
        edited_at: time(6)?,
        keap_updated_at: time(7)?,
        keap_observed_at: time(8)?,
        deleted_at: time(9)?,
        waits_for_contact: row.try_get(first + 11)?,
        lost_in_keap: row.try_get(first + 12)?,
        word: row.try_get(first + 13)?,
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
