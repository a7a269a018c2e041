//! One edit that a person made, and what tells its value from every other.
//!
//! Every value that an edit sets holds a mark that no other value holds: a word (`s12x` for the twelfth edit, made in SQL;
//! `k12x` in Keap) or, where only digits are taken, a number. By its mark a value is found again wherever it went.

use std::collections::HashSet;

use keapsync_domain::ids::EntityType;

/// On which side a person edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// In the database, by SQL.
    Sql,
    /// In Keap's own screens.
    Keap,
}

/// What a person did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Made a record.
    Create,
    /// Set a field to a value that holds the mark.
    Set,
    /// Put an element into a set.
    Add,
    /// Took an element out of a set.
    Remove,
    /// Deleted the record.
    Delete,
    /// Took a delete back.
    Undelete,
}

/// An edit that took place.
#[derive(Clone, Debug)]
pub struct Edit {
    /// Its number in the plan; the later of two edits of one task has the higher one.
    pub number: u64,
    /// Where.
    pub side: Side,
    /// Of what kind of record.
    pub entity: EntityType,
    /// The row's id for an edit by SQL, Keap's id for one in Keap.
    pub record: String,
    /// What.
    pub action: Action,
    /// The field, and the part of it: `first_name`, `emails.EMAIL2`, `custom_fields.7`, `line_items.12.quantity`. For a set the
    /// element: `tags.101`.
    pub path: String,
    /// Before its request was sent, in milliseconds since 1970: it took effect between this and [`at_ms`](Self::at_ms).
    pub began_ms: i64,
    /// When its answer was there, in milliseconds since 1970.
    pub at_ms: i64,
}

/// The word that marks a value.
#[must_use]
pub fn word(side: Side, number: u64) -> String {
    match side {
        Side::Sql => format!("s{number}x"),
        Side::Keap => format!("k{number}x"),
    }
}

/// The number that marks a value where only digits are taken: a telephone number of ten digits.
#[must_use]
pub fn digits(side: Side, number: u64) -> String {
    match side {
        Side::Sql => format!("602{number:07}"),
        Side::Keap => format!("480{number:07}"),
    }
}

impl Edit {
    /// Whether the marks found somewhere hold this edit's.
    #[must_use]
    pub fn is_in(&self, marks: &HashSet<String>) -> bool {
        marks.contains(&word(self.side, self.number)) || marks.contains(&digits(self.side, self.number))
    }

    /// For people.
    #[must_use]
    pub fn told(&self) -> String {
        let Self { number, side, entity, record, action, path, .. } = self;
        format!("edit {number}: {action:?} {path} of the {} {record} in {side:?}", entity.as_str())
    }
}

/// Adds every mark that a text holds.
pub fn collect_marks(text: &str, marks: &mut HashSet<String>) {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric());
    marks.extend(words.filter(|word| looks_like_mark(word)).map(str::to_owned));
}

fn looks_like_mark(text: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_word =
        text.strip_prefix(['s', 'k']).and_then(|rest| rest.strip_suffix('x')).is_some_and(is_number);
    is_word || (text.len() == 10 && is_number(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_whole_and_nothing_else_is() {
        let mut marks = HashSet::new();
        collect_marks(
            r#"{"a":"s12x@chaos.example","b":["Main k7x St","6020000012"],"c":"s12","d":12345}"#,
            &mut marks,
        );
        let expected = ["s12x", "k7x", "6020000012"].map(str::to_owned);
        assert_eq!(marks, HashSet::from(expected));
        let edit = |number| Edit {
            number,
            side: Side::Sql,
            entity: EntityType::Contact,
            record: String::new(),
            action: Action::Set,
            path: String::new(),
            began_ms: 0,
            at_ms: 0,
        };
        assert!(edit(12).is_in(&marks) && !edit(1).is_in(&marks) && !edit(7).is_in(&marks));
    }
}
