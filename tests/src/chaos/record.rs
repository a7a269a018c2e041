//! Everything that is left in the end, read once from both sides: rows, audit, conflicts, Keap's records and its writes.

use crate::chaos::edit::collect_marks;
use crate::chaos::pool::table;
use crate::database::Mirror;
use crate::keap::Tenant;
use anyhow::{Context as _, Result};
use keapsync_domain::ids::{EntityType, is_uuid};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};

/// One mirrored row.
#[derive(Debug)]
pub struct MirroredRow {
    /// Its id.
    pub id: String,
    /// Keap's id.
    pub keap_id: Option<String>,
    /// All of it.
    pub json: Value,
}

impl MirroredRow {
    /// Whether Keap refused to make a record of it, and it says so: an order, say, whose contact is no more.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        !self.is_deleted() && self.keap_id.is_none() && self.json["sync_status"] == "error"
    }

    /// Whether it was deleted, on either side.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        !self.json["deleted_at"].is_null()
    }
}

/// Marks by where they were found.
#[derive(Debug, Default)]
pub struct Marks {
    /// In rows as they are.
    pub rows: HashSet<String>,
    /// In Keap's records as they are.
    pub keap: HashSet<String>,
    /// In old values that a person's next edit replaced.
    pub replaced_by_people: HashSet<String>,
    /// In old values that the sync replaced.
    pub replaced_by_sync: HashSet<String>,
    /// In values that the audit log says were not carried over.
    pub refused: HashSet<String>,
    /// In conflicts, open or settled.
    pub conflicts: HashSet<String>,
    /// In writes that took effect in Keap.
    pub written: HashSet<String>,
}

/// What is left in the end.
#[derive(Debug, Default)]
pub struct Record {
    /// Rows by kind.
    pub rows: BTreeMap<EntityType, Vec<MirroredRow>>,
    /// Keap's records by kind and id.
    pub keap: BTreeMap<EntityType, BTreeMap<String, Value>>,
    /// How many audit entries a person's edits have left, by row.
    pub audited: HashMap<String, u64>,
    /// Fields in open conflicts, by row.
    pub open_conflicts: HashMap<String, Vec<String>>,
    /// Writes of the API that took effect.
    pub writes: Vec<Value>,
    /// Where marks are.
    pub marks: Marks,
}

/// Reads all of it.
pub async fn read(mirror: &Mirror, keap: &Tenant, entities: &[EntityType]) -> Result<Record> {
    let mut record = Record::default();
    for &entity in entities {
        let rows = rows(mirror, entity).await?;
        for row in &rows {
            collect_marks(&row.json.to_string(), &mut record.marks.rows);
        }
        let mut records = BTreeMap::new();
        for value in keap.all(entity.plural()).await? {
            collect_marks(&value.to_string(), &mut record.marks.keap);
            records.insert(
                value["id"].as_str().context("a record of the simulator has no id")?.to_owned(),
                value,
            );
        }
        record.rows.insert(entity, rows);
        record.keap.insert(entity, records);
    }
    read_audit(mirror, &mut record).await?;
    read_conflicts(mirror, &mut record).await?;
    record.writes = keap.kept_writes().await?;
    for write in &record.writes {
        collect_marks(&write["body"].to_string(), &mut record.marks.written);
    }
    Ok(record)
}

async fn rows(mirror: &Mirror, entity: EntityType) -> Result<Vec<MirroredRow>> {
    let sql = format!(
        "select id::text, keap_id, to_jsonb(r) from {} r where account_id = $1 order by id",
        table(entity)
    );
    let rows = mirror.client.query(&sql, &[&mirror.account]).await?;
    Ok(rows.iter().map(|row| MirroredRow { id: row.get(0), keap_id: row.get(1), json: row.get(2) }).collect())
}

async fn read_audit(mirror: &Mirror, record: &mut Record) -> Result<()> {
    // Once a contact has its id in Keap, what people linked to it before is captured as theirs; nobody here moves a record otherwise.
    let sql = "select entity_id::text, sync_source, coalesce(old_data::text, ''), coalesce(new_data::text, ''), \
                   operation = 'update' and changed_fields = '{keap_contact_id}' and entity_type <> 'contact' \
               from sync_audit_log where account_id = $1";
    for row in mirror.client.query(sql, &[&mirror.account]).await? {
        let (id, source, old, lost): (String, String, String, String) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        let follows_contact = row.get::<_, Option<bool>>(4).unwrap_or(false);
        if source == "supabase" && follows_contact {
            continue;
        }
        if source == "supabase" {
            *record.audited.entry(id).or_default() += 1;
            collect_marks(&old, &mut record.marks.replaced_by_people);
        } else {
            collect_marks(&old, &mut record.marks.replaced_by_sync);
        }
        collect_marks(&lost, &mut record.marks.refused);
    }
    Ok(())
}

async fn read_conflicts(mirror: &Mirror, record: &mut Record) -> Result<()> {
    let sql = "select entity_id::text, conflict_fields, resolved_at is null, \
                   concat_ws(' ', base_data, keap_data, supabase_data) \
               from sync_conflicts where account_id = $1";
    for row in mirror.client.query(sql, &[&mirror.account]).await? {
        let (id, fields, is_open, values): (String, Vec<String>, bool, String) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        collect_marks(&values, &mut record.marks.conflicts);
        if is_open {
            record.open_conflicts.entry(id).or_default().extend(fields);
        }
    }
    Ok(())
}

impl Record {
    /// Whether a person has to decide about a field of a row, or about the whole row.
    #[must_use]
    pub fn is_open(&self, row: &str, path: &str) -> bool {
        let is_it = |field: &String| {
            field == "deleted_at"
                || path == field
                || path.strip_prefix(field.as_str()).is_some_and(|rest| rest.starts_with('.'))
        };
        self.open_conflicts.get(row).is_some_and(|fields| fields.iter().any(is_it))
    }

    /// Ids of rows that Keap refused.
    pub fn refused(&self) -> impl Iterator<Item = &str> {
        self.rows.values().flatten().filter(|row| row.is_refused()).map(|row| row.id.as_str())
    }

    /// Ids of rows that more than one creation in Keap named, and that more than one record of Keap names.
    #[must_use]
    pub fn duplicates(&self) -> Vec<String> {
        let mut made: HashMap<&str, u32> = HashMap::new();
        for write in &self.writes {
            if matches!(write["operation"].as_str(), Some("create_contact" | "create_order")) {
                for row in links(&write["body"]) {
                    *made.entry(row).or_default() += 1;
                }
            }
        }
        let mut held: HashMap<&str, u32> = HashMap::new();
        for record in self.keap.values().flat_map(BTreeMap::values) {
            for row in links(record) {
                *held.entry(row).or_default() += 1;
            }
        }
        let made = made
            .into_iter()
            .filter(|(_, times)| *times > 1)
            .map(|(row, times)| format!("row {row} was made {times} times"));
        let held = held
            .into_iter()
            .filter(|(_, times)| *times > 1)
            .map(|(row, times)| format!("{times} records of Keap name row {row}"));
        made.chain(held).collect()
    }
}

/// Rows that a record's custom fields name.
fn links(record: &Value) -> impl Iterator<Item = &str> {
    let fields = record["custom_fields"].as_array().into_iter().flatten();
    fields.filter_map(|field| field["content"].as_str()).filter(|text| is_uuid(text))
}
