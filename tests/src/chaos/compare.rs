//! Both sides against each other, record by record and field by field.

use crate::chaos::record::Record;
use crate::chaos::views::{View, of_keap, of_row};
use keapsync_domain::ids::EntityType;
use std::collections::{BTreeSet, HashSet};

/// What the comparison found.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Records that both sides have.
    pub compared: usize,
    /// Rows that both sides count as gone.
    pub gone: usize,
    /// Differences that stand in the list of conflicts, for a person to decide.
    pub open: usize,
    /// Rows that Keap refused to take, and that say so.
    pub refused: usize,
    /// Every other difference.
    pub differences: Vec<String>,
}

/// Compares everything.
#[must_use]
pub fn compare(record: &Record) -> Comparison {
    let mut comparison = Comparison::default();
    for (entity, rows) in &record.rows {
        let mut seen: HashSet<&str> = HashSet::new();
        let Some(in_keap) = record.keap.get(entity) else { continue };
        for row in rows {
            let there = row.keap_id.as_ref().and_then(|id| in_keap.get(id));
            seen.extend(row.keap_id.as_deref());
            let name = format!(
                "{} {} (Keap's {})",
                entity.as_str(),
                row.id,
                row.keap_id.as_deref().unwrap_or("none")
            );
            let is_open = record
                .open_conflicts
                .get(&row.id)
                .is_some_and(|fields| fields.iter().any(|field| field == "deleted_at"));
            match (row.is_deleted(), there) {
                (true, None) => comparison.gone += 1,
                _ if is_open => comparison.open += 1,
                (true, Some(_)) => {
                    comparison.differences.push(format!("{name} is deleted here and lives in Keap"));
                }
                (false, None) if row.is_refused() => comparison.refused += 1,
                (false, None) => comparison.differences.push(format!(
                    "{name} lives here ({}) and Keap has none",
                    row.json["sync_status"].as_str().unwrap_or_default()
                )),
                (false, Some(keap)) => {
                    comparison.compared += 1;
                    let (row_view, keap_view) = (of_row(*entity, &row.json), of_keap(*entity, keap));
                    for path in paths(&row_view, &keap_view) {
                        let (here, keap) = (row_view.get(path), keap_view.get(path));
                        if here == keap {
                            continue;
                        }
                        if record.is_open(&row.id, path) {
                            comparison.open += 1;
                        } else {
                            comparison.differences.push(format!(
                                "{path} of {name} is {here:?} here and {keap:?} in Keap; the row says {} {}",
                                row.json["sync_status"].as_str().unwrap_or_default(),
                                row.json["sync_error"].as_str().unwrap_or_default()
                            ));
                        }
                    }
                }
            }
        }
        let unknown = in_keap.keys().filter(|id| !seen.contains(id.as_str()));
        comparison.differences.extend(unknown.map(|id| missing(*entity, id)));
    }
    comparison
}

fn missing(entity: EntityType, id: &str) -> String {
    format!("{} {id} is in Keap and has no row", entity.as_str())
}

fn paths<'a>(left: &'a View, right: &'a View) -> BTreeSet<&'a String> {
    left.keys().chain(right.keys()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::record::MirroredRow;
    use serde_json::{Value, json};
    use std::collections::BTreeMap;

    fn record(rows: &[(&str, Option<&str>, Value)], keap: &[(&str, Value)]) -> Record {
        let rows = rows.iter().map(|(id, keap_id, json)| MirroredRow {
            id: (*id).to_owned(),
            keap_id: keap_id.map(str::to_owned),
            json: json.clone(),
        });
        let keap = keap.iter().map(|(id, json)| ((*id).to_owned(), json.clone()));
        Record {
            rows: BTreeMap::from([(EntityType::Contact, rows.collect())]),
            keap: BTreeMap::from([(EntityType::Contact, keap.collect())]),
            ..Record::default()
        }
    }

    #[test]
    fn equal_sides_have_no_difference() {
        let record = record(
            &[
                ("a", Some("1"), json!({"first_name": "Ann", "deleted_at": null})),
                ("b", Some("2"), json!({"deleted_at": "2026-01-01"})),
            ],
            &[("1", json!({"id": "1", "given_name": "Ann"}))],
        );
        let comparison = compare(&record);
        assert_eq!((comparison.compared, comparison.gone, comparison.differences), (1, 1, Vec::new()));
    }

    #[test]
    fn every_kind_of_difference_is_told() {
        let mut record = record(
            &[
                ("a", Some("1"), json!({"first_name": "Ann", "last_name": "Lee"})),
                ("b", Some("2"), json!({"deleted_at": "2026-01-01"})),
                ("c", None, json!({"sync_status": "pending"})),
            ],
            &[
                ("1", json!({"id": "1", "given_name": "Anna", "family_name": "Leigh"})),
                ("2", json!({"id": "2"})),
                ("3", json!({"id": "3"})),
            ],
        );
        assert_eq!(compare(&record).differences.len(), 5);
        record.open_conflicts.insert("a".to_owned(), vec!["last_name".to_owned()]);
        let comparison = compare(&record);
        assert_eq!((comparison.open, comparison.differences.len()), (1, 4));
    }
}
