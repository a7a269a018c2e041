//! `sync_audit_log`: what happened to records, read for people and for undo; and edits that the sync makes in a person's name.
//!
//! Entries of one record are numbered in the order in which they happened, because the record's row is locked while each is
//! written. Their times are those at which transactions began, and may lie the other way round: so numbers decide here.

use crate::mirror::table::Form;
use crate::mirror::table_of;
use crate::refusal::{failure, retried};
use crate::{Parameter, Store};
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::{AccountId, EntityType, is_uuid};
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::ports::history::{
    AuditEntry, DELETED_HERE_ALONE, HistoryStore, PersonEdit, UNDONE_HERE,
};
use serde_json::{Map, Value};
use std::sync::LazyLock;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

/// Entries that `chosen` selects, newest first, with what the columns they changed held right after them: the old values of the next
/// entries that name these columns, or what the row holds now. A create changed all columns.
///
/// A later entry may carry an earlier time, but not by a day: that lets Postgres leave older months alone.
fn entries(chosen: &str) -> String {
    let kinds: Vec<String> = EntityType::ALL
        .map(|entity| {
            let columns: Vec<&str> = table_of(entity).columns.iter().map(|column| column.name).collect();
            format!("when '{}' then '{{{}}}'::text[]", entity.as_str(), columns.join(","))
        })
        .into();
    let rows: Vec<String> = EntityType::ALL
        .map(|entity| {
            format!(
                "when '{}' then (select to_jsonb(mirrored) from {} mirrored where mirrored.id = entry.entity_id)",
                entity.as_str(),
                table_of(entity).name
            )
        })
        .into();
    format!(
        "with entry as materialized (
        select chosen.*, case
            when chosen.changed_fields is not null then chosen.changed_fields
            when chosen.operation = 'create' then case chosen.entity_type {kinds} end
        end as told_fields
        from ({chosen}) as chosen
    )
    select entry.id, (extract(epoch from entry.created_at) * 1000)::bigint, entry.entity_type, entry.entity_id::text,
        entry.keap_id, entry.operation, entry.sync_source, entry.run_id::text, entry.user_id::text, entry.old_data::text,
        entry.new_data::text, entry.changed_fields, (
            select jsonb_object_agg(told.field, coalesce(later.old_values -> told.field, present.record -> told.field))
            from unnest(entry.told_fields) as told (field)
        )::text
    from entry
    left join lateral (
        select jsonb_object_agg(next.key, next.value) as old_values
        from (
            select distinct on (old.key) old.key, old.value
            from public.sync_audit_log log
            cross join jsonb_each(log.old_data) as old
            where log.entity_type = entry.entity_type and log.entity_id = entry.entity_id and log.id > entry.id
                and log.created_at > entry.created_at - interval '1 day' and old.key = any(entry.told_fields)
            order by old.key, log.id
        ) as next
    ) as later on true
    left join lateral (
        select case entry.entity_type {rows} end as record
    ) as present on true
    order by entry.id desc",
        kinds = kinds.join(" "),
        rows = rows.join(" "),
    )
}

static ONE: LazyLock<String> = LazyLock::new(|| {
    entries("select log.* from public.sync_audit_log log where log.id = $2 and log.account_id = $1")
});

static OF_RECORD: LazyLock<String> = LazyLock::new(|| {
    entries(
        "select log.* from public.sync_audit_log log
            where log.entity_type = $2 and log.entity_id = $3::uuid and log.account_id = $1 and ($4::bigint is null or log.id < $4)
            order by log.id desc
            limit $5",
    )
});

/// A walk along the index over runs. Where there are no statistics, a run looks as small as a page, and sorting all of it for each page
/// looks cheap: a range that begins within the run does not. The account is compared outside for the same reason.
static OF_RUN: LazyLock<String> = LazyLock::new(|| {
    entries(
        "select page.* from (
                select log.* from public.sync_audit_log log
                where log.run_id is not null and (log.run_id, log.id) < ($2::uuid, coalesce($3, 9223372036854775807))
                    and (log.run_id, log.id) >= ($2::uuid, 0)
                order by log.run_id desc, log.id desc
                limit $4
            ) as page
            where page.account_id = $1",
    )
});

const EDIT: &str =
    "select public.keapsync_edit($1, $2, $3::uuid, $4, $5::jsonb, $6, $7, $8::jsonb, $9::uuid, $10, $11)";

impl HistoryStore for Store<'_> {
    async fn read_audit(&self, account: &AccountId, id: i64) -> Result<Option<AuditEntry>, Failure> {
        let rows = self.query(&ONE, &[(&account.as_str(), Type::TEXT), (&id, Type::INT8)]).await?;
        Ok(entries_of(&rows)?.into_iter().next())
    }

    async fn list_audit(
        &self,
        account: &AccountId,
        entity: EntityType,
        entity_id: &str,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, Failure> {
        if !is_uuid(entity_id) {
            return Ok(Vec::new());
        }
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let parameters: [Parameter<'_>; 5] = [
            (&account.as_str(), Type::TEXT),
            (&entity.as_str(), Type::TEXT),
            (&entity_id, Type::TEXT),
            (&before, Type::INT8),
            (&limit, Type::INT8),
        ];
        entries_of(&self.query(&OF_RECORD, &parameters).await?)
    }

    async fn list_run_audit(
        &self,
        account: &AccountId,
        run_id: &str,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<AuditEntry>, Failure> {
        if !is_uuid(run_id) {
            return Ok(Vec::new());
        }
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let parameters: [Parameter<'_>; 4] = [
            (&account.as_str(), Type::TEXT),
            (&run_id, Type::TEXT),
            (&before, Type::INT8),
            (&limit, Type::INT8),
        ];
        entries_of(&self.query(&OF_RUN, &parameters).await?)
    }

    async fn edit(
        &self,
        account: &AccountId,
        entity: EntityType,
        edit: &PersonEdit,
    ) -> Result<bool, Failure> {
        let table = table_of(entity);
        if let Some(name) =
            edit.values.keys().find(|name| table.columns.iter().all(|column| column.name != *name))
        {
            let shown: String = name.chars().take(40).collect();
            return Err(Failure::new(
                FailureClass::Invalid,
                format!("{shown} is no column of {} that people edit; leave it out", table.name),
            ));
        }
        if !is_uuid(&edit.row_id) {
            return Ok(false);
        }
        let values = Value::Object(edit.values.clone()).to_string();
        let note = Value::Object(edit.note.clone()).to_string();
        // What stands in the base of a delete that stays here, and what its row says.
        let (mark, said) = match (edit.deleted, edit.stays_here) {
            (Some(true), true) => (Some(DELETED_HERE_ALONE), Some(UNDONE_HERE)),
            _ => (None, None),
        };
        let parameters: [Parameter<'_>; 11] = [
            (&account.as_str(), Type::TEXT),
            (&entity.as_str(), Type::TEXT),
            (&edit.row_id, Type::TEXT),
            (&edit.expected_version, Type::INT4),
            (&values, Type::TEXT),
            (&edit.deleted, Type::BOOL),
            (&edit.operation, Type::TEXT),
            (&note, Type::TEXT),
            (&edit.run_id, Type::TEXT),
            (&mark, Type::TEXT),
            (&said, Type::TEXT),
        ];
        let rows = retried(async || self.client.query_typed(EDIT, &parameters).await)
            .await
            .map_err(|error| refused_edit(&error))?;
        let made = rows.first().map(|row| row.try_get(0)).transpose().map_err(|error| failure(&error))?;
        Ok(made.unwrap_or(false))
    }
}

fn refused_edit(error: &tokio_postgres::Error) -> Failure {
    match error.code().map(tokio_postgres::error::SqlState::code) {
        Some(code) if code.starts_with("22") || code.starts_with("23") => Failure::new(
            FailureClass::Invalid,
            format!(
                "the row cannot take these values any more (SQLSTATE {code}); edit the record by hand instead"
            ),
        ),
        _ => failure(error),
    }
}

fn entries_of(rows: &[Row]) -> Result<Vec<AuditEntry>, Failure> {
    let mut entries = Vec::with_capacity(rows.len());
    for row in rows {
        let entity: &str = row.try_get(2).map_err(|error| failure(&error))?;
        // A kind that a newer version mirrors is read by that version.
        let Some(entity) = EntityType::from_name(entity) else { continue };
        entries.push(entry_of(row, entity)?);
    }
    Ok(entries)
}

fn entry_of(row: &Row, entity: EntityType) -> Result<AuditEntry, Failure> {
    let object = |position: usize| -> Result<Map<String, Value>, Failure> {
        let text: Option<&str> = row.try_get(position).map_err(|error| failure(&error))?;
        text.map_or(Ok(Map::new()), |text| serde_json::from_str(text).map_err(|_| unreadable()))
    };
    let (old, note, after) = (object(9)?, object(10)?, object(12)?);
    let read = || -> Result<AuditEntry, tokio_postgres::Error> {
        Ok(AuditEntry {
            id: row.try_get(0)?,
            created_at: Timestamp(row.try_get(1)?),
            entity,
            entity_id: row.try_get(3)?,
            keap_id: row.try_get(4)?,
            operation: row.try_get(5)?,
            sync_source: row.try_get(6)?,
            run_id: row.try_get(7)?,
            user_id: row.try_get(8)?,
            old: in_record_form(entity, old),
            after: in_record_form(entity, after),
            changed_fields: row.try_get::<_, Option<Vec<String>>>(11)?.unwrap_or_default(),
            note,
        })
    };
    read().map_err(|error| failure(&error))
}

/// Values as records have them, whether they come from a row, from the capture of an edit or from the sync itself.
fn in_record_form(entity: EntityType, mut values: Map<String, Value>) -> Map<String, Value> {
    for (name, value) in &mut values {
        let form = if name == "deleted_at" {
            Some(Form::Instant)
        } else {
            table_of(entity).columns.iter().find(|column| column.name == name).map(|column| column.form)
        };
        let changed = match (form, &*value) {
            // Printed without an exponent and without zeros at the end; the column's 14 digits fit.
            (Some(Form::Money), Value::Number(amount)) => amount.as_f64().map(|amount| amount.to_string()),
            (Some(Form::Instant), Value::String(text)) => {
                Timestamp::parse_rfc3339(text).map(Timestamp::to_rfc3339)
            }
            (Some(Form::Currency), Value::String(text)) => Some(text.trim_end().to_owned()),
            _ => None,
        };
        if let Some(text) = changed {
            *value = Value::String(text);
        }
    }
    values
}

fn unreadable() -> Failure {
    Failure::new(
        FailureClass::Unexpected,
        "an audit entry's values could not be read: they nest too deep or hold a number out of range",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_of_every_source_have_one_form() {
        let values = json!({
            "total_amount": 12.5, "paid_amount": "12.5", "due_amount": -99_999_999_999.999_f64, "refund_amount": 0.0, "order_date": "2026-03-01T10:00:00.123456+02:00", "currency": "US ",
            "deleted_at": null, "line_items": [{"quantity": 2}], "extra": {"a": 1}, "notes": "x ",
        });
        let expected = json!({
            "total_amount": "12.5", "paid_amount": "12.5", "due_amount": "-99999999999.999", "refund_amount": "0", "order_date": "2026-03-01T08:00:00.123Z", "currency": "US",
            "deleted_at": null, "line_items": [{"quantity": 2}], "extra": {"a": 1}, "notes": "x ",
        });
        let Value::Object(values) = values else { panic!("an object") };
        assert_eq!(Value::Object(in_record_form(EntityType::Order, values)), expected);
    }
}
