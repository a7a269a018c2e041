//! A record as the simulator sees it: cells, the smallest parts that merge by themselves, each holding a numbered value.
//!
//! Every value that a person writes has a number of its own, so that each can be told wherever it shows: in a row, on the
//! wire, in the audit log, in a conflict. 0 is the absent value. What is no text of its own is beside the cells: elements of
//! sets and switches as bits, the contact that a record is of, and the lines of an order, which Keap numbers.
//!
//! Each entity has a file of its own with its renderings: a row's columns, and Keap's wire both ways.

mod contact;
mod lines;
mod order;
mod subscription;
mod tag;
mod values;

pub(super) use contact::{TAG_IDS, tag_bits};
pub(super) use lines::{LINES_MAX, Line, Lines};
pub(super) use order::total_of;
pub(super) use values::{ValueNumber, numbers_in, poisonous};

use keapsync_domain::ids::EntityType;
use keapsync_domain::record::Record;
use serde_json::{Map, Value};
use std::fmt;
use values::{is_poisonous, text_number};

/// The numbers of what exists at the beginning; those of stories lie above.
pub(super) const FIRST_KEAP_VALUE: ValueNumber = 100;

/// The most cells that a record has.
pub(super) const CELLS: usize = 9;

/// Id of the custom field that carries row ids.
pub(super) const LINK_FIELD_ID: &str = "77";

/// Id of the custom field that people use.
const CUSTOM_FIELD_ID: &str = "12";

/// What the cells of an entity are.
#[derive(Debug)]
pub(super) struct Shape {
    /// What is where: the column, with the part of it where it has parts.
    pub names: &'static [&'static str],
    /// The cell that Keap lets nobody write through the API.
    pub read_only: Option<usize>,
    /// Cells that Keap holds always: an edit that clears one is refused.
    pub required: &'static [usize],
    /// Cells that people edit.
    pub edited: &'static [usize],
    /// The field that shows as bits.
    pub flags_name: &'static str,
    /// How many bits there are.
    pub flags: u32,
}

/// What the cells of `entity` are.
pub(super) fn shape(entity: EntityType) -> &'static Shape {
    match entity {
        EntityType::Contact => &contact::SHAPE,
        EntityType::Order => &order::SHAPE,
        EntityType::Tag => &tag::SHAPE,
        EntityType::Subscription => &subscription::SHAPE,
    }
}

/// The position of an entity among all, for tables that are vectors.
pub(super) fn entity_position(entity: EntityType) -> usize {
    match entity {
        EntityType::Contact => 0,
        EntityType::Order => 1,
        EntityType::Tag => 2,
        EntityType::Subscription => 3,
    }
}

/// All that one record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cells {
    /// Of what.
    pub entity: EntityType,
    values: [ValueNumber; CELLS],
    /// Tags of a contact, by their position in [`TAG_IDS`]; whether a subscription bills.
    pub flags: u8,
    /// Keap's id of the contact that the record is of; 0 for none.
    pub contact: u64,
    /// Lines of an order.
    pub lines: Lines,
}

impl Cells {
    /// A record that holds nothing.
    pub(super) fn empty(entity: EntityType) -> Self {
        Self { entity, values: [0; CELLS], flags: 0, contact: 0, lines: Lines::default() }
    }

    /// A record as a person would make it: all numbered values from `first` on.
    pub(super) fn made(entity: EntityType, first: ValueNumber) -> Self {
        let mut cells = Self::empty(entity);
        let shape = shape(entity);
        for (cell, value) in (0..shape.names.len()).zip(first..) {
            // Not everything has everything.
            let is_left_out = match entity {
                EntityType::Contact => {
                    cell == 7 && !first.is_multiple_of(2) || cell == 8 && !first.is_multiple_of(3)
                }
                EntityType::Subscription => cell == 5 && !first.is_multiple_of(2),
                EntityType::Order | EntityType::Tag => false,
            };
            if !is_left_out {
                cells.set(cell, value);
            }
        }
        cells.flags = match entity {
            EntityType::Contact => u8::try_from(first % (1 << TAG_IDS.len())).unwrap_or(0),
            EntityType::Subscription => 1,
            EntityType::Order | EntityType::Tag => 0,
        };
        if entity == EntityType::Order {
            cells.lines.push(Line { id: 0, value: first + 10 });
            if first.is_multiple_of(2) {
                cells.lines.push(Line { id: 0, value: first + 11 });
            }
        }
        cells
    }

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

    /// The name of a cell.
    pub(super) fn name(&self, cell: usize) -> &'static str {
        shape(self.entity).names.get(cell).copied().unwrap_or_default()
    }

    /// Whether anything holds that value.
    pub(super) fn holds(&self, value: ValueNumber) -> bool {
        value != 0 && (self.values.contains(&value) || self.lines.iter().any(|line| line.value == value))
    }

    /// Whether it holds something that the mirror cannot store.
    pub(super) fn is_poisoned(&self) -> bool {
        self.values.iter().any(|value| is_poisonous(*value))
    }

    /// The cells of a row.
    pub(super) fn of_record(record: &Record) -> Self {
        let mut cells = Self::empty(record.entity());
        match record.entity() {
            EntityType::Contact => contact::read(&mut cells, record),
            EntityType::Order => order::read(&mut cells, record),
            EntityType::Tag => tag::read(&mut cells, record),
            EntityType::Subscription => subscription::read(&mut cells, record),
        }
        cells
    }

    /// The columns of a row, keyed by name, in which these cells show; what other cells share with them is in it too.
    pub(super) fn columns(&self) -> Map<String, Value> {
        let mut columns = Map::new();
        match self.entity {
            EntityType::Contact => contact::columns(self, &mut columns),
            EntityType::Order => order::columns(self, &mut columns),
            EntityType::Tag => tag::columns(self, &mut columns),
            EntityType::Subscription => subscription::columns(self, &mut columns),
        }
        columns
    }

    /// A record as a person inserts it: these cells, and what a new one needs besides.
    pub(super) fn record(&self) -> Record {
        let mut columns = self.columns();
        match self.entity {
            EntityType::Order => order::complete(&mut columns),
            EntityType::Subscription => subscription::complete(&mut columns),
            EntityType::Contact | EntityType::Tag => {}
        }
        if self.contact != 0 {
            columns.insert("keap_contact_id".to_owned(), self.contact.to_string().into());
        }
        Record::from_object(self.entity, columns)
    }

    /// The record as Keap sends it.
    pub(super) fn wire(&self, id: u64, updated_at: &str, link: Option<&str>) -> String {
        match self.entity {
            EntityType::Contact => contact::to_wire(self, id, updated_at, link),
            EntityType::Order => order::to_wire(self, id, updated_at, link),
            EntityType::Tag => tag::to_wire(self, id, updated_at),
            EntityType::Subscription => subscription::to_wire(self, id, updated_at),
        }
    }

    /// Takes the properties of a write's body that `is_written` names, as Keap does: a list replaces the list. Returns the
    /// link when the body sets it.
    pub(super) fn take(&mut self, body: &Value, is_written: impl Fn(&str) -> bool) -> Option<String> {
        match self.entity {
            EntityType::Contact => contact::take(self, body, &is_written),
            EntityType::Order => order::take(self, body, &is_written),
            EntityType::Tag => tag::take(self, body, &is_written),
            EntityType::Subscription => subscription::take(self, body, &is_written),
        }
        is_written("custom_fields").then(|| taken_link(body)).flatten()
    }
}

impl fmt::Display for Cells {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = shape(self.entity).names.iter().enumerate();
        for (cell, name) in names.filter(|(cell, _)| self.get(*cell) != 0) {
            write!(formatter, "{name} v{} ", self.get(cell))?;
        }
        if shape(self.entity).flags > 0 {
            write!(formatter, "{} {:b} ", shape(self.entity).flags_name, self.flags)?;
        }
        if self.contact != 0 {
            write!(formatter, "of contact {} ", self.contact)?;
        }
        for line in self.lines.iter() {
            write!(formatter, "line {} v{} ", line.id, line.value)?;
        }
        Ok(())
    }
}

/// The item of a list of custom fields.
fn custom_item<'a>(body: &'a Value, id: &str) -> Option<&'a Value> {
    let items = body["custom_fields"].as_array()?;
    items.iter().find(|item| item["id"] == id).map(|item| &item["content"])
}

fn taken_link(body: &Value) -> Option<String> {
    custom_item(body, LINK_FIELD_ID).and_then(Value::as_str).map(str::to_owned)
}

/// A list of objects as a property of Keap's wire; nothing where it is empty.
fn push_list(wire: &mut String, name: &str, items: impl IntoIterator<Item = Option<String>>) {
    let mut is_first = true;
    for item in items.into_iter().flatten() {
        wire.push_str(if is_first { ",\"" } else { "," });
        if is_first {
            wire.push_str(name);
            wire.push_str("\":[");
        }
        is_first = false;
        wire.push_str(&item);
    }
    if !is_first {
        wire.push(']');
    }
}

/// The custom fields: what people use, and the link.
fn push_custom_fields(wire: &mut String, value: ValueNumber, link: Option<&str>) {
    let used = (value != 0).then(|| format!("{{\"id\":\"{CUSTOM_FIELD_ID}\",\"content\":\"v{value}\"}}"));
    let carried = link.map(|row| format!("{{\"id\":\"{LINK_FIELD_ID}\",\"content\":\"{row}\"}}"));
    push_list(wire, "custom_fields", [used, carried]);
}

/// The column of custom fields.
fn custom_column(value: ValueNumber) -> Value {
    if value == 0 { Value::Null } else { serde_json::json!({CUSTOM_FIELD_ID: format!("v{value}")}) }
}

/// The cell of custom fields, in a row.
fn custom_of(record: &Record) -> ValueNumber {
    text_number(record.get_by_name("custom_fields").get(CUSTOM_FIELD_ID))
}

fn text_cell(value: ValueNumber) -> Value {
    if value == 0 { Value::Null } else { format!("v{value}").into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_told_from_its_look_on_both_sides() {
        for entity in EntityType::ALL {
            let mut cells = Cells::made(entity, 1_200);
            cells.contact = if shape(entity).names.contains(&"company") { 0 } else { 7 };
            if entity == EntityType::Tag {
                cells.contact = 0;
            }
            assert_eq!(Cells::of_record(&cells.record()), cells, "{entity:?}");
            let wire: Value =
                serde_json::from_str(&cells.wire(5, "2026-01-01T00:00:00Z", Some("row"))).unwrap();
            let mut found = Vec::new();
            numbers_in(&wire, &mut found);
            for cell in 0..shape(entity).names.len() {
                let value = cells.get(cell);
                assert!(value == 0 || found.contains(&value), "{entity:?} {} in {wire}", cells.name(cell));
            }
        }
    }

    #[test]
    fn a_contact_takes_what_it_sends() {
        let mut cells = Cells::made(EntityType::Contact, 1_200);
        let wire: Value = serde_json::from_str(&cells.wire(5, "2026-01-01T00:00:00Z", Some("row"))).unwrap();
        let mut taken = Cells::empty(EntityType::Contact);
        assert_eq!(taken.take(&wire, |_| true).as_deref(), Some("row"));
        // Tags take calls of their own, and nobody writes the company.
        cells.flags = 0;
        cells.set(8, 0);
        assert_eq!(taken, cells);
    }
}
