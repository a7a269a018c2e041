//! The audit log, and edits that the sync makes in a person's name: `store`'s history statements and `keapsync_edit`.

use super::{MirrorSide, RowChange};
use crate::inbound::DELETED_AT;
use crate::ports::RowState;
use crate::ports::history::{AuditEntry, DELETED_HERE_ALONE, PersonEdit};
use keapsync_domain::ids::EntityType;
use keapsync_domain::schema::fields;
use keapsync_domain::timestamp::Timestamp;
use serde_json::{Map, Value};

/// An entry of the log; its number is its position.
#[derive(Clone, Debug)]
pub(in crate::simulation) struct Entry {
    /// Of what.
    pub entity: EntityType,
    /// The row.
    pub row_id: String,
    /// What happened.
    pub operation: &'static str,
    /// Who wrote it.
    pub source: &'static str,
    /// In the name of which run.
    pub run_id: Option<String>,
    /// Values before, by column.
    pub old: Map<String, Value>,
}

/// An edit was planned for a row that is not there as it was read.
#[derive(Debug)]
pub(in crate::simulation) struct Outdated;

impl MirrorSide {
    /// The entry of a number, with what its columns held right after it.
    pub(in crate::simulation) fn read_audit(&self, id: i64) -> Option<AuditEntry> {
        let position = usize::try_from(id).ok()?;
        let entry = self.audit.get(position)?;
        let schema = fields(entry.entity).iter().map(|field| field.name.to_owned());
        let told: Vec<String> =
            if entry.operation == "create" { schema.collect() } else { entry.old.keys().cloned().collect() };
        let row = self.rows(entry.entity).get(&entry.row_id);
        let after = told.into_iter().map(|name| {
            let mut later = self.audit.iter().skip(position + 1).filter(|next| next.row_id == entry.row_id);
            let value = later.find_map(|next| next.old.get(&name)).cloned().or_else(|| {
                let row = &row?.row;
                Some(match name.as_str() {
                    DELETED_AT => row.deleted_at.map(Timestamp::to_rfc3339).into(),
                    name => row.record.get_by_name(name).clone(),
                })
            });
            (name, value.unwrap_or(Value::Null))
        });
        Some(AuditEntry {
            id,
            created_at: Timestamp(0),
            entity: entry.entity,
            entity_id: entry.row_id.clone(),
            keap_id: None,
            operation: entry.operation.to_owned(),
            sync_source: entry.source.to_owned(),
            run_id: entry.run_id.clone(),
            user_id: None,
            after: after.collect(),
            changed_fields: entry.old.keys().cloned().collect(),
            old: entry.old.clone(),
            note: Map::new(),
        })
    }

    /// Whether a change of the row was ever undone.
    pub(in crate::simulation) fn was_undone(&self, row_id: &str) -> bool {
        self.audit.iter().any(|entry| entry.operation == "revert" && entry.row_id == row_id)
    }

    /// Entries that a run wrote, newest first.
    pub(in crate::simulation) fn list_run_audit(
        &self,
        run_id: &str,
        before: Option<i64>,
        limit: usize,
    ) -> Vec<AuditEntry> {
        let numbered = (0_i64..).zip(&self.audit);
        let mut of_run: Vec<i64> = numbered
            .filter(|(id, entry)| {
                entry.run_id.as_deref() == Some(run_id) && before.is_none_or(|before| *id < before)
            })
            .map(|(id, _)| id)
            .collect();
        of_run.reverse();
        of_run.into_iter().take(limit).filter_map(|id| self.read_audit(id)).collect()
    }

    /// `keapsync_edit`. An error when the row is gone or has another version; the change is absent where nothing changed.
    pub(in crate::simulation) fn edit_for_person(
        &mut self,
        entity: EntityType,
        edit: &PersonEdit,
        now: Timestamp,
    ) -> Result<Option<RowChange>, Outdated> {
        let entry = self.table_mut(entity).rows.get_mut(&edit.row_id).ok_or(Outdated)?;
        if entry.row.version != edit.expected_version {
            return Err(Outdated);
        }
        let before = entry.row.clone();
        let mut changed = Map::new();
        for (name, value) in &edit.values {
            let held = before.record.get_by_name(name);
            if held != value {
                changed.insert(name.clone(), held.clone());
                entry.row.record.set_by_name(name, value.clone());
            }
        }
        if let Some(deletes) = edit.deleted.filter(|deletes| *deletes != before.deleted_at.is_some()) {
            changed.insert(DELETED_AT.to_owned(), before.deleted_at.map(Timestamp::to_rfc3339).into());
            entry.row.deleted_at = deletes.then_some(now);
        }
        if changed.is_empty() {
            return Ok(None);
        }
        let is_delete = edit.deleted == Some(true) && changed.contains_key(DELETED_AT);
        let operation = if is_delete { "delete" } else { "update" };
        let audited = Entry {
            entity,
            row_id: edit.row_id.clone(),
            operation: "revert",
            source: "supabase",
            run_id: edit.run_id.clone(),
            old: changed.clone(),
        };
        let mut change = self.rebased(entity, &edit.row_id, before, changed, now);
        self.audit.push(audited);
        if edit.stays_here && is_delete {
            if let Some(entry) = self.table_mut(entity).rows.get_mut(&edit.row_id) {
                entry.row.base_delta.insert(DELETED_AT.to_owned(), DELETED_HERE_ALONE.into());
                entry.state = RowState::Completed;
                change.after = entry.row.clone();
            }
        } else {
            self.capture(entity, &edit.row_id, operation, now);
        }
        Ok(Some(change))
    }
}
