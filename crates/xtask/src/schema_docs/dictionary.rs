//! The documents' text: overview, tables and views, functions.

use std::fmt::Write as _;

use super::catalog::{Catalog, Function, Relation};
use super::diagram;

/// The overview: the diagram, and one line for each table, view and function.
pub(super) fn overview(catalog: &Catalog) -> String {
    let mut text = String::from(
        "# The database\n\n\
         Solid lines are foreign keys; dotted ones are columns that name a row by convention, where a foreign key would refuse rows\n\
         that come in another order, or would look with every row for what a trigger checks once. Only key columns are drawn.\n\
         [Tables and views](tables.md) have every column, [functions](functions.md) every function; the audit log's monthly partitions\n\
         are like the table itself.\n\n",
    );
    text.push_str(&diagram::of(catalog));
    text.push_str("\n| table or view | what it holds |\n|---|---|\n");
    for relation in &catalog.relations {
        push(
            &mut text,
            format_args!(
                "| [`{0}`](tables.md#{0}) | {1} |\n",
                relation.name,
                cell(relation.comment.as_deref())
            ),
        );
    }
    text
}

/// Every table and view with its columns, keys, checks, indexes, triggers and policies.
pub(super) fn relations(catalog: &Catalog) -> String {
    let mut text = String::from("# Tables and views\n");
    for relation in &catalog.relations {
        describe(relation, &mut text);
    }
    text
}

/// Every function with its arguments, its result and who may call it.
pub(super) fn functions(catalog: &Catalog) -> String {
    let mut text = String::from(
        "# Functions\n\n\
         Nobody but the owner may call a function unless a role is named; `owner` in the column `as` means that it runs with its\n\
         owner's rights. Trigger functions are called by the triggers that [tables.md](tables.md) names.\n\n\
         | function | gives | as | roles | what it does |\n|---|---|---|---|---|\n",
    );
    for function in &catalog.functions {
        push(&mut text, format_args!("{}\n", function_line(function)));
    }
    text
}

fn function_line(function: &Function) -> String {
    let name = function.signature.split('(').next().unwrap_or_default();
    format!(
        "| `{name}({})` | {} | {} | {} | {} |",
        cell(Some(&function.arguments)),
        code(function.result.as_deref()),
        if function.runs_as_owner { "owner" } else { "caller" },
        cell(Some(&function.executable_by)),
        cell(function.comment.as_deref())
    )
}

fn describe(relation: &Relation, text: &mut String) {
    push(text, format_args!("\n## {}\n\n", relation.name));
    if relation.is_view {
        text.push_str("View. ");
    }
    push(text, format_args!("{}\n\n", relation.comment.as_deref().unwrap_or_default()));
    let is_view = relation.is_view;
    text.push_str(if is_view {
        "| column | type | meaning |\n|---|---|---|\n"
    } else {
        "| column | type | null | default | meaning |\n|---|---|---|---|---|\n"
    });
    for column in &relation.columns {
        push(text, format_args!("| `{}` | {} |", column.name, cell(Some(&column.data_type))));
        if !is_view {
            let null = if column.may_be_null { "yes" } else { "" };
            push(text, format_args!(" {null} | {} |", code(column.initial.as_deref())));
        }
        push(text, format_args!(" {} |\n", cell(column.comment.as_deref())));
    }
    for (title, lines) in [
        ("Keys to other tables and checks", &relation.constraints),
        ("Indexes", &relation.indexes),
        ("Triggers", &relation.triggers),
        ("Policies", &relation.policies),
    ] {
        if !lines.is_empty() {
            push(text, format_args!("\n{title}:\n\n"));
            for line in lines {
                let (name, rest) = line.split_once(": ").unwrap_or((line, ""));
                push(
                    text,
                    format_args!("- `{name}`: `{}`\n", rest.split_whitespace().collect::<Vec<_>>().join(" ")),
                );
            }
        }
    }
}

fn push(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _infallible = text.write_fmt(what);
}

/// Text that may stand in a cell of a table.
fn cell(text: Option<&str>) -> String {
    text.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// Code that may stand in a cell of a table; nothing for nothing.
fn code(text: Option<&str>) -> String {
    let text = cell(text);
    if text.is_empty() { text } else { format!("`{text}`") }
}

#[cfg(test)]
mod tests {
    use super::super::catalog::Column;
    use super::*;

    #[test]
    fn a_table_is_described_line_by_line() {
        let relation = Relation {
            name: "sync_things".to_owned(),
            comment: Some("Things.".to_owned()),
            columns: vec![Column {
                name: "id".to_owned(),
                data_type: "uuid".to_owned(),
                initial: Some("gen_random_uuid()".to_owned()),
                comment: Some("One |\n or other.".to_owned()),
                ..Column::default()
            }],
            indexes: vec!["sync_things_pkey: UNIQUE btree (id)".to_owned()],
            ..Relation::default()
        };
        let mut text = String::new();
        describe(&relation, &mut text);
        assert!(text.contains("| `id` | uuid |  | `gen_random_uuid()` | One \\| or other. |\n"), "{text}");
        assert!(text.contains("- `sync_things_pkey`: `UNIQUE btree (id)`\n"), "{text}");
        assert!(!text.contains("Triggers"), "{text}");
    }

    #[test]
    fn a_function_says_whose_rights_it_has() {
        let function = Function {
            signature: "mend(text)".to_owned(),
            arguments: "what text DEFAULT 'all'::text".to_owned(),
            result: Some("integer".to_owned()),
            runs_as_owner: true,
            comment: Some("Mends.".to_owned()),
            executable_by: "keapsync_engine".to_owned(),
        };
        assert_eq!(
            function_line(&function),
            "| `mend(what text DEFAULT 'all'::text)` | `integer` | owner | keapsync_engine | Mends. |"
        );
    }
}
