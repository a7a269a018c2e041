//! The texts of the statements on mirrored tables, made once per process.

use super::table::Table;
use super::{columns, first, table_of};
use keapsync_domain::ids::EntityType;
use keapsync_engine::ports::history::DELETED_HERE_ALONE;
use std::sync::LazyLock;

/// The statements on one table.
#[derive(Debug)]
pub(crate) struct Statements {
    /// Writes a page.
    pub(crate) write: String,
    /// Writes a page of nothing but new records.
    pub(crate) first: String,
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
        write: filled(include_str!("write.sql"), table, columns::FIXED_PARAMETERS),
        first: filled(include_str!("first.sql"), table, first::FIXED_PARAMETERS),
        known: filled(include_str!("known.sql"), table, 0),
        rows: filled(include_str!("rows.sql"), table, 0),
        requeue: filled(include_str!("requeue.sql"), table, 0),
    }
}

/// A template with its places filled in; the table's own columns are the parameters behind the `fixed` ones. Names and types come from
/// this crate alone, never from data.
fn filled(template: &str, table: &Table, fixed: usize) -> String {
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
        .replace("{column_arrays}", &list(", ", &|position, _| format!("${}::text[]", fixed + 1 + position)))
        .replace("{columns_assigned}", &assigned.join(",\n        "))
        .replace("{columns_written}", &written.join(", "))
        .replace("{columns_read}", &read.join(",\n        "))
        .replace("{waits_for_contact}", waits_for_contact(table))
        .replace("{deleted_here_alone}", DELETED_HERE_ALONE)
        .replace("{contact_column}", if is_of_contact(table) { "contact_id, " } else { "" })
        .replace("{contact_value}", if is_of_contact(table) { "contact.id, " } else { "" })
        .replace("{contact_join}", if is_of_contact(table) { CONTACT_JOIN } else { "" })
}

/// The row of a record's contact, looked for by Keap's id alone and the account compared outside: without statistics an index that
/// begins with the account looks as good, and all of its contacts would be read for each record.
const CONTACT_JOIN: &str = "
    left join lateral (
        select found.id
        from (
            select mirrored.id, mirrored.account_id from public.sync_contacts mirrored
            where mirrored.keap_id = input.keap_contact_id
            offset 0
        ) as found
        where found.account_id = $1
    ) as contact on true";

/// Whether the rows are of contacts.
fn is_of_contact(table: &Table) -> bool {
    table.columns.iter().any(|column| column.name == "keap_contact_id")
}

/// Whether a row is of a contact that has no Keap id yet; only some tables' rows are of contacts.
fn waits_for_contact(table: &Table) -> &'static str {
    if is_of_contact(table) {
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
                ("first", &statements.first),
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
