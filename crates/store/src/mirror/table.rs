//! What the statements on mirrored tables need to know of each table.
//!
//! Invariant: a table's columns are the fields of its entity's schema, in the same order; a test compares them.

use keapsync_domain::ids::EntityType;

/// A mirrored table.
#[derive(Debug)]
pub(crate) struct Table {
    /// What its rows are.
    pub(crate) entity: EntityType,
    /// Its name, with the schema.
    pub(crate) name: &'static str,
    /// The columns of its own that are synced.
    pub(crate) columns: &'static [Column],
}

/// A synced column.
#[derive(Debug)]
pub(crate) struct Column {
    /// Its name, which is the field's.
    pub(crate) name: &'static str,
    /// What it takes.
    pub(crate) form: Form,
}

/// What a column takes. Every value crosses as a text and is cast in SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Text of any length.
    Text,
    /// Text that is a key of a B-tree index, whose entries are bounded.
    IndexedText,
    /// Keap's id of another record: text of digits.
    KeapId,
    /// `char(3)`.
    Currency,
    /// `date`.
    Date,
    /// `timestamptz`.
    Instant,
    /// `numeric(14, 3)`.
    Money,
    /// `integer`.
    Integer,
    /// `boolean`.
    Boolean,
    /// `jsonb` that holds an array.
    JsonArray,
    /// `jsonb` that holds an object.
    JsonObject,
}

impl Column {
    /// A column called `name`.
    pub(crate) const fn new(name: &'static str, form: Form) -> Self {
        Self { name, form }
    }

    /// The value of `input` as the column takes it.
    pub(crate) fn write_expression(&self) -> String {
        let cast = match self.form {
            // Assigned to its column, a text is cast and a longer one refused.
            Form::Text | Form::IndexedText | Form::KeapId | Form::Currency => "",
            Form::Date => "::date",
            Form::Instant => "::timestamptz",
            Form::Money => "::numeric",
            Form::Integer => "::integer",
            Form::Boolean => "::boolean",
            Form::JsonArray | Form::JsonObject => "::jsonb",
        };
        format!("input.{}{cast}", self.name)
    }

    /// The column of `mirrored` as a text, in one form whatever the session's settings are.
    pub(crate) fn read_expression(&self) -> String {
        let name = self.name;
        match self.form {
            Form::Text | Form::IndexedText | Form::KeapId => format!("mirrored.{name}"),
            Form::Date => format!("to_char(mirrored.{name}, 'YYYY-MM-DD')"),
            Form::Instant => {
                format!("to_char(mirrored.{name} at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')")
            }
            Form::Money => format!("trim_scale(mirrored.{name})::text"),
            // The cast of a char(3) drops what it was padded with.
            Form::Currency | Form::Integer | Form::Boolean | Form::JsonArray | Form::JsonObject => {
                format!("mirrored.{name}::text")
            }
        }
    }
}

impl Form {
    /// Whether the text that is read is JSON, and not the value itself.
    pub(crate) const fn is_read_as_json(self) -> bool {
        matches!(self, Self::Integer | Self::Boolean | Self::JsonArray | Self::JsonObject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::table_of;
    use keapsync_domain::schema::{FieldKind, fields};

    #[test]
    fn columns_are_the_fields_of_the_schema() {
        for entity in EntityType::ALL {
            let table = table_of(entity);
            assert_eq!(table.entity, entity);
            let names: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
            let expected: Vec<&str> = fields(entity).iter().map(|field| field.name).collect();
            assert_eq!(names, expected, "{entity:?}");
            for (column, field) in table.columns.iter().zip(fields(entity)) {
                let fits = match field.kind {
                    FieldKind::Text | FieldKind::Email | FieldKind::Phone => {
                        matches!(column.form, Form::Text | Form::IndexedText | Form::KeapId | Form::Currency)
                    }
                    FieldKind::Date => column.form == Form::Date,
                    FieldKind::Instant => column.form == Form::Instant,
                    FieldKind::Integer => column.form == Form::Integer,
                    FieldKind::Boolean => column.form == Form::Boolean,
                    FieldKind::Money => column.form == Form::Money,
                    FieldKind::Set | FieldKind::Slots(_) => column.form == Form::JsonArray,
                    FieldKind::Address | FieldKind::Map => column.form == Form::JsonObject,
                };
                assert!(fits, "{entity:?}.{}: {:?} for {:?}", field.name, column.form, field.kind);
            }
        }
    }
}
