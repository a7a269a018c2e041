//! The texts of the statements on mirrored tables, made once per process.

use super::columns::FIXED_PARAMETERS;
use super::table::Table;
use super::table_of;
use keapsync_domain::ids::EntityType;
use std::sync::LazyLock;

/// The statements on one table.
#[derive(Debug)]
pub(crate) struct Statements {
    /// Writes a page.
    pub(crate) write: String,
    /// Finds the rows of remote records.
    pub(crate) known: String,
    /// Reads rows by key.
    pub(crate) rows: String,
    /// Queues what is owed to Keap.
    pub(crate) requeue: String,
}

/// The statements on the table of a kind of record.
pub(crate) fn statements_of(entity: EntityType) -> &'static Statements {
    static CONTACTS: LazyLock<Statements> = LazyLock::new(|| made(EntityType::Contact));
    static ORDERS: LazyLock<Statements> = LazyLock::new(|| made(EntityType::Order));
    static TAGS: LazyLock<Statements> = LazyLock::new(|| made(EntityType::Tag));
    static SUBSCRIPTIONS: LazyLock<Statements> = LazyLock::new(|| made(EntityType::Subscription));
    match entity {
        EntityType::Contact => &CONTACTS,
        EntityType::Order => &ORDERS,
        EntityType::Tag => &TAGS,
        EntityType::Subscription => &SUBSCRIPTIONS,
    }
}

fn made(entity: EntityType) -> Statements {
    let table = table_of(entity);
    Statements {
        write: filled(include_str!("write.sql"), table),
        known: filled(include_str!("known.sql"), table),
        rows: filled(include_str!("rows.sql"), table),
        requeue: filled(include_str!("requeue.sql"), table),
    }
}

/// A template with its places filled in. Names and types come from this crate alone, never from data.
fn filled(template: &str, table: &Table) -> String {
    let list = |separator: &str, write: &dyn Fn(usize, &str) -> String| {
        let parts: Vec<String> =
            table.columns.iter().enumerate().map(|(position, column)| write(position, column.name)).collect();
        parts.join(separator)
    };
    let written: Vec<String> = table.columns.iter().map(super::table::Column::write_expression).collect();
    let read: Vec<String> = table.columns.iter().map(super::table::Column::read_expression).collect();
    let assigned: Vec<String> = table
        .columns
        .iter()
        .map(|column| format!("{} = {}", column.name, column.write_expression()))
        .collect();
    template
        .replace("{table}", table.name)
        .replace("{entity}", table.entity.as_str())
        .replace("{column_names}", &list(", ", &|_, name| name.to_owned()))
        .replace(
            "{column_arrays}",
            &list(", ", &|position, _| format!("${}::text[]", FIXED_PARAMETERS + 1 + position)),
        )
        .replace("{columns_assigned}", &assigned.join(",\n        "))
        .replace("{columns_written}", &written.join(", "))
        .replace("{columns_read}", &read.join(",\n        "))
        .replace("{waits_for_contact}", waits_for_contact(table))
}

/// Whether a row is of a contact that has no Keap id yet; only some tables' rows are of contacts.
fn waits_for_contact(table: &Table) -> &'static str {
    if table.columns.iter().any(|column| column.name == "keap_contact_id") {
        "mirrored.contact_id is not null and mirrored.keap_contact_id is null and exists (
            select from public.sync_contacts contact
            where contact.id = mirrored.contact_id and contact.deleted_at is null
        )"
    } else {
        "false"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_as_shown() {
        for entity in EntityType::ALL {
            let statements = statements_of(entity);
            for (name, text) in [
                ("write", &statements.write),
                ("known", &statements.known),
                ("rows", &statements.rows),
                ("requeue", &statements.requeue),
            ] {
                let literals_apart = text.replace("'{}'", "").replace("'{deleted_at}'", "");
                assert!(!literals_apart.contains('{'), "{name}: a place is left open");
                insta::assert_snapshot!(format!("{}_{name}", entity.as_str()), text);
            }
        }
    }
}
