//! The diagram of tables and what refers to what, as a mermaid `erDiagram`, which code hosts draw.
//!
//! Solid lines are foreign keys. Dotted lines are columns that name a row of another table by convention, where a foreign key
//! would refuse rows that come in another order or outlive what they name, or where a trigger stands in its place.

use std::fmt::Write as _;

use super::catalog::{Catalog, Column, Relation};

/// Columns that name a row of another table without a foreign key.
const NAMED_BY_CONVENTION: [(&str, &str); 3] =
    [("account_id", "sync_accounts"), ("contact_id", "sync_contacts"), ("run_id", "sync_runs")];

/// Stands for a row of any mirrored table, which `entity_type` and `entity_id` together name.
const ANY_RECORD: &str = "any_mirrored_record";

/// The whole diagram, in a fence.
pub(super) fn of(catalog: &Catalog) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _infallible = write(catalog, &mut text);
    text
}

fn write(catalog: &Catalog, text: &mut String) -> std::fmt::Result {
    writeln!(text, "```mermaid\nerDiagram")?;
    for table in tables(catalog) {
        writeln!(text, "    {} {{", table.name)?;
        for column in &table.columns {
            let keys = keys(catalog, table, column);
            if !keys.is_empty() {
                writeln!(text, "        {} {} {keys}", word(&column.data_type), column.name)?;
            }
        }
        writeln!(text, "    }}")?;
    }
    writeln!(text, "    {ANY_RECORD} {{\n        text entity_type\n        uuid entity_id\n    }}")?;
    for key in &catalog.foreign_keys {
        writeln!(text, "    {} ||--o{{ {} : {}", key.target, key.table, key.column)?;
    }
    for table in tables(catalog) {
        for (column, target) in NAMED_BY_CONVENTION {
            if table.name != target && has(table, column) && !is_foreign_key(catalog, table, column) {
                writeln!(text, "    {target} ||..o{{ {} : {column}", table.name)?;
            }
        }
        if has(table, "entity_type") && has(table, "entity_id") {
            writeln!(text, "    {ANY_RECORD} ||..o{{ {} : entity_id", table.name)?;
        }
        if is_mirrored(table) {
            writeln!(text, "    {ANY_RECORD} ||..|| {} : is", table.name)?;
        }
    }
    writeln!(text, "```")
}

fn tables(catalog: &Catalog) -> impl Iterator<Item = &Relation> {
    catalog.relations.iter().filter(|relation| !relation.is_view)
}

/// Mirrored tables are those whose rows are known to Keap.
fn is_mirrored(table: &Relation) -> bool {
    has(table, "keap_id") && has(table, "source_system")
}

fn has(table: &Relation, name: &str) -> bool {
    table.columns.iter().any(|column| column.name == name)
}

fn is_foreign_key(catalog: &Catalog, table: &Relation, column: &str) -> bool {
    catalog.foreign_keys.iter().any(|key| key.table == table.name && key.column == column)
}

/// What of keys a column belongs to, as mermaid writes it.
fn keys(catalog: &Catalog, table: &Relation, column: &Column) -> String {
    let refers = is_foreign_key(catalog, table, &column.name)
        || NAMED_BY_CONVENTION.iter().any(|(name, target)| *name == column.name && *target != table.name);
    let named = [(column.in_primary_key, "PK"), (refers, "FK"), (column.in_unique_key, "UK")];
    named.into_iter().filter(|(is, _)| *is).map(|(_, name)| name).collect::<Vec<_>>().join(", ")
}

/// Mermaid takes a single word for a type.
fn word(data_type: &str) -> String {
    match data_type {
        "timestamp with time zone" => "timestamptz".to_owned(),
        other => other.replace(' ', "_"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::catalog::ForeignKey;
    use super::*;

    fn table(name: &str, columns: &[(&str, bool)]) -> Relation {
        let columns = columns.iter().map(|(name, in_primary_key)| Column {
            name: (*name).to_owned(),
            data_type: "timestamp with time zone".to_owned(),
            in_primary_key: *in_primary_key,
            ..Column::default()
        });
        Relation { name: name.to_owned(), columns: columns.collect(), ..Relation::default() }
    }

    #[test]
    fn keys_become_lines_and_other_columns_are_left_out() {
        let catalog = Catalog {
            relations: vec![
                table("sync_accounts", &[("account_id", true), ("name", false)]),
                table("sync_members", &[("account_id", true)]),
                table("sync_notes", &[("account_id", false), ("entity_type", false), ("entity_id", false)]),
            ],
            functions: Vec::new(),
            foreign_keys: vec![ForeignKey {
                table: "sync_members".to_owned(),
                column: "account_id".to_owned(),
                target: "sync_accounts".to_owned(),
            }],
        };
        let diagram = of(&catalog);
        for line in [
            "        timestamptz account_id PK, FK",
            "    sync_accounts ||--o{ sync_members : account_id",
            "    sync_accounts ||..o{ sync_notes : account_id",
            "    any_mirrored_record ||..o{ sync_notes : entity_id",
        ] {
            assert!(diagram.lines().any(|found| found == line), "{line} is missing in\n{diagram}");
        }
        assert!(!diagram.contains("name PK") && !diagram.contains("timestamptz name"), "{diagram}");
        assert_eq!(diagram.matches("sync_members : account_id").count(), 1);
    }
}
