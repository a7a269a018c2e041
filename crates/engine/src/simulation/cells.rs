//! A contact as the simulator sees it: cells, the smallest parts that merge by themselves, each holding a numbered value.
//!
//! Every value that a person writes has a number of its own, so that each can be told wherever it shows: in a row, on the
//! wire, in the audit log, in a conflict. 0 is the absent value. A further entity joins with a list of its cells and the
//! two renderings below.

use keapsync_domain::ids::EntityType;
use keapsync_domain::record::Record;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// A numbered value; 0 is absent.
pub(super) type ValueNumber = u32;

/// The numbers of what exists at the beginning; those of stories lie above.
pub(super) const FIRST_KEAP_VALUE: ValueNumber = 100;

/// How many cells a contact has.
pub(super) const CELLS: usize = 9;

/// The cell that Keap lets nobody write through the API.
pub(super) const READ_ONLY: usize = 8;

/// Tags that there are: a set, whose elements have no values of their own.
pub(super) const TAGS: [&str; 3] = ["31", "32", "33"];

/// Id of the custom field that carries row ids.
pub(super) const LINK_FIELD_ID: &str = "77";

/// Id of the custom field that people use.
const CUSTOM_FIELD_ID: &str = "12";

/// What is where: column of the mirror, for people; and how a value looks.
pub(super) const NAMES: [&str; CELLS] = [
    "first_name",
    "last_name",
    "job_title",
    "email",
    "emails.EMAIL2",
    "phone",
    "addresses.BILLING",
    "custom_fields.12",
    "company",
];

/// All cells of one contact, and its tags as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cells {
    /// Values by cell.
    pub values: [ValueNumber; CELLS],
    /// Tags by their position in [`TAGS`].
    pub tags: u8,
}

/// How a value looks in a cell.
pub(super) fn text_of(cell: usize, value: ValueNumber) -> String {
    match cell {
        3 | 4 => format!("v{value}@x.io"),
        5 => format!("480{value:07}"),
        _ => format!("v{value}"),
    }
}

/// The number of a value by its look.
pub(super) fn number_of(text: &str) -> ValueNumber {
    let digits = match text.strip_prefix('v') {
        Some(rest) => rest.split('@').next().unwrap_or_default(),
        None => text.strip_prefix("480").unwrap_or_default(),
    };
    digits.parse().unwrap_or(0)
}

/// Every numbered value anywhere in some JSON.
pub(super) fn numbers_in(value: &Value, found: &mut Vec<ValueNumber>) {
    match value {
        Value::String(text) => match number_of(text) {
            0 => {}
            number => found.push(number),
        },
        Value::Array(items) => items.iter().for_each(|item| numbers_in(item, found)),
        Value::Object(object) => object.values().for_each(|item| numbers_in(item, found)),
        _ => {}
    }
}

fn text_number(value: Option<&Value>) -> ValueNumber {
    value.and_then(Value::as_str).map_or(0, number_of)
}

fn slot<'a>(list: Option<&'a Value>, name: &str) -> Option<&'a Value> {
    list?.as_array()?.iter().find(|item| item["field"] == name)
}

impl Cells {
    /// The value of a cell.
    pub(super) fn get(&self, cell: usize) -> ValueNumber {
        self.values.get(cell).copied().unwrap_or(0)
    }

    /// Sets a cell.
    pub(super) fn set(&mut self, cell: usize, value: ValueNumber) {
        if let Some(place) = self.values.get_mut(cell) {
            *place = value;
        }
    }

    /// The cells of a row.
    pub(super) fn of_record(record: &Record) -> Self {
        let text = |name: &str| text_number(Some(record.get_by_name(name)));
        let second = slot(Some(record.get_by_name("emails")), "EMAIL2").map(|item| &item["email"]);
        let billing = slot(Some(record.get_by_name("addresses")), "BILLING").map(|item| &item["line1"]);
        let custom = record.get_by_name("custom_fields").get(CUSTOM_FIELD_ID);
        let held = record.get_by_name("tags").as_array();
        let holds = |tag: &str| held.is_some_and(|held| held.iter().any(|one| one == tag));
        Self {
            values: [
                text("first_name"),
                text("last_name"),
                text("job_title"),
                text("email"),
                text_number(second),
                text("phone"),
                text_number(billing),
                text_number(custom),
                text("company"),
            ],
            tags: tag_bits(holds),
        }
    }

    /// The columns of a row, keyed by name, in which these cells show; what other cells share with them is in it too.
    pub(super) fn columns(&self) -> Map<String, Value> {
        let text = |cell: usize| match self.get(cell) {
            0 => Value::Null,
            value => text_of(cell, value).into(),
        };
        let mut columns = Map::new();
        for cell in [0, 1, 2, 3, 5, 8] {
            let name = NAMES.get(cell).copied().unwrap_or_default();
            columns.insert(name.to_owned(), text(cell));
        }
        let present = |cell: usize, value: Value| if self.get(cell) == 0 { Value::Null } else { value };
        columns.insert("emails".to_owned(), present(4, json!([{"field": "EMAIL2", "email": text(4)}])));
        columns.insert("addresses".to_owned(), present(6, json!([{"field": "BILLING", "line1": text(6)}])));
        columns.insert("custom_fields".to_owned(), present(7, json!({CUSTOM_FIELD_ID: text(7)})));
        let tags: Vec<&str> = self.tag_ids().collect();
        columns.insert("tags".to_owned(), if tags.is_empty() { Value::Null } else { json!(tags) });
        columns
    }

    /// A record that holds these cells and nothing else.
    pub(super) fn record(&self) -> Record {
        Record::from_object(EntityType::Contact, self.columns())
    }

    /// Ids of the tags that are held.
    pub(super) fn tag_ids(&self) -> impl Iterator<Item = &'static str> {
        let bits = self.tags;
        TAGS.into_iter().enumerate().filter(move |(bit, _)| bits & (1 << bit) != 0).map(|(_, id)| id)
    }

    /// The contact as Keap sends it.
    pub(super) fn to_wire(self, id: u64, updated_at: &str, link: Option<&str>) -> String {
        let mut wire = format!("{{\"id\":\"{id}\",\"update_time\":\"{updated_at}\"");
        for (cell, name) in [(0, "given_name"), (1, "family_name"), (2, "job_title")] {
            if self.get(cell) != 0 {
                let _ = write!(wire, ",\"{name}\":\"v{}\"", self.get(cell));
            }
        }
        let mut list = |name: &str, items: [Option<String>; 2]| {
            let items: Vec<String> = items.into_iter().flatten().collect();
            if !items.is_empty() {
                let _ = write!(wire, ",\"{name}\":[{}]", items.join(","));
            }
        };
        let item = |cell: usize, head: &str, key: &str| {
            (self.get(cell) != 0)
                .then(|| format!("{{{head},\"{key}\":\"{}\"}}", text_of(cell, self.get(cell))))
        };
        list(
            "email_addresses",
            [item(3, "\"field\":\"EMAIL1\"", "email"), item(4, "\"field\":\"EMAIL2\"", "email")],
        );
        list("phone_numbers", [item(5, "\"field\":\"PHONE1\"", "number"), None]);
        list("addresses", [item(6, "\"field\":\"BILLING\"", "line1"), None]);
        let carried = link.map(|row| format!("{{\"id\":\"{LINK_FIELD_ID}\",\"content\":\"{row}\"}}"));
        list("custom_fields", [item(7, "\"id\":\"12\"", "content"), carried]);
        if self.get(READ_ONLY) != 0 {
            let _ =
                write!(wire, ",\"company\":{{\"id\":\"5\",\"company_name\":\"v{}\"}}", self.get(READ_ONLY));
        }
        let tags: Vec<String> = self.tag_ids().map(|tag| format!("\"{tag}\"")).collect();
        if !tags.is_empty() {
            let _ = write!(wire, ",\"tag_ids\":[{}]", tags.join(","));
        }
        wire.push('}');
        wire
    }

    /// Takes the properties of a write's body that `is_written` names, as Keap does: a list replaces the list. Returns the
    /// link when the body sets it.
    pub(super) fn take(&mut self, body: &Value, is_written: impl Fn(&str) -> bool) -> Option<String> {
        for (cell, name) in [(0, "given_name"), (1, "family_name"), (2, "job_title")] {
            if is_written(name) {
                self.set(cell, text_number(body.get(name)));
            }
        }
        for (cell, name, field, key) in [
            (3, "email_addresses", "EMAIL1", "email"),
            (4, "email_addresses", "EMAIL2", "email"),
            (5, "phone_numbers", "PHONE1", "number"),
            (6, "addresses", "BILLING", "line1"),
        ] {
            if is_written(name) {
                self.set(cell, text_number(slot(body.get(name), field).and_then(|item| item.get(key))));
            }
        }
        if !is_written("custom_fields") {
            return None;
        }
        let item = |id: &str| {
            body["custom_fields"]
                .as_array()?
                .iter()
                .find(|item| item["id"] == id)
                .map(|item| &item["content"])
        };
        self.set(7, text_number(item(CUSTOM_FIELD_ID)));
        item(LINK_FIELD_ID).and_then(Value::as_str).map(str::to_owned)
    }
}

/// The bits of the tags for which `holds` says yes.
pub(super) fn tag_bits(holds: impl Fn(&str) -> bool) -> u8 {
    TAGS.iter().enumerate().filter(|(_, tag)| holds(tag)).fold(0, |bits, (bit, _)| bits | 1 << bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_told_from_its_look_on_both_sides() {
        let cells = Cells { values: [11, 12, 13, 14, 15, 16, 17, 18, 19], tags: 0b101 };
        assert_eq!(Cells::of_record(&cells.record()), cells);
        let wire: Value =
            serde_json::from_str(&cells.to_wire(5, "2026-01-01T00:00:00Z", Some("row"))).unwrap();
        let mut taken = Cells { values: [0, 0, 0, 0, 0, 0, 0, 0, 19], tags: 0b101 };
        assert_eq!(taken.take(&wire, |_| true).as_deref(), Some("row"));
        assert_eq!(taken, cells);
    }
}
