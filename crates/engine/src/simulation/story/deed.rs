//! What a person does to a record, on either side.

use super::super::cells::{ValueNumber, poisonous, shape};
use super::super::random::Random;
use keapsync_domain::ids::EntityType;
use keapsync_domain::merge::Side;
use std::fmt;

/// The position that stands for the record that was made last.
pub(in crate::simulation) const NEWEST: u32 = u32::MAX;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::simulation) enum Doing {
    /// A cell is set; 0 clears it.
    Edit { cell: usize, value: ValueNumber },
    /// A tag goes on or off, a subscription ends or goes on.
    Toggle { bit: u32 },
    /// An order gets a line.
    AddLine { value: ValueNumber },
    /// A line of an order gets another name.
    EditLine { line: u32, value: ValueNumber },
    /// A line of an order goes.
    RemoveLine { line: u32 },
    /// A record is made with values from this one on; `record` is the contact that it is of.
    Make { value: ValueNumber },
    /// A record is deleted.
    Delete,
    /// A row's delete is taken back.
    Undelete,
}

/// What a person does, and to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::simulation) struct Deed {
    /// Where.
    pub side: Side,
    /// To what kind of record.
    pub entity: EntityType,
    /// Its position among those that exist, or [`NEWEST`].
    pub record: u32,
    /// What.
    pub doing: Doing,
}

impl Deed {
    /// Something that a person does to one of so many records, writing values from `value` on.
    pub(super) fn draw(random: &mut Random, records: u32, value: ValueNumber) -> Self {
        let entity = match random.below(100) {
            0..58 => EntityType::Contact,
            58..80 => EntityType::Order,
            80..88 => EntityType::Tag,
            _ => EntityType::Subscription,
        };
        let side = if random.chance(50) { Side::Keap } else { Side::Supabase };
        let record = match random.below(100) {
            0..10 => NEWEST,
            _ => u32::try_from(random.below(u64::from(records))).unwrap_or(0),
        };
        Self { side, entity, record, doing: Doing::draw(random, side, entity, value) }
    }
}

impl Doing {
    fn draw(random: &mut Random, side: Side, entity: EntityType, value: ValueNumber) -> Self {
        let shape = shape(entity);
        let cell = random.pick(shape.edited).unwrap_or(0);
        let bit = u32::try_from(random.below(u64::from(shape.flags.max(1)))).unwrap_or(0);
        let line = u32::try_from(random.below(4)).unwrap_or(0);
        // Some edits clear the cell, where that can be.
        let is_cleared = random.chance(8) && !shape.required.contains(&cell);
        // What Keap holds and the mirror cannot store: only Keap takes it.
        let is_poison = side == Side::Keap && random.chance(2);
        let written = if is_poison { poisonous(value) } else { value };
        let edit = Self::Edit { cell, value: if is_cleared { 0 } else { written } };
        match random.below(100) {
            0..72 => match (entity, random.below(10)) {
                (EntityType::Order, 0..2) => Self::AddLine { value },
                (EntityType::Order, 2..4) => Self::EditLine { line, value },
                (EntityType::Order, 4..5) => Self::RemoveLine { line },
                _ => edit,
            },
            72..86 if shape.flags > 0 => Self::Toggle { bit },
            72..86 => edit,
            86..93 => Self::Make { value },
            93..99 => Self::Delete,
            _ if side == Side::Supabase => Self::Undelete,
            _ => edit,
        }
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (place, noun) = match self.side {
            Side::Keap => ("Keap", self.entity.as_str().to_owned()),
            Side::Supabase => ("Supabase", format!("{} row", self.entity.as_str())),
        };
        let record = if self.record == NEWEST { "newest".to_owned() } else { format!("#{}", self.record) };
        write!(formatter, "in {place}, somebody ")?;
        match self.doing {
            Doing::Edit { cell, value } => {
                let name = shape(self.entity).names.get(cell).copied().unwrap_or_default();
                let value = if value == 0 { "nothing".to_owned() } else { format!("v{value}") };
                write!(formatter, "sets {name} of {noun} {record} to {value}")
            }
            Doing::Toggle { bit } => {
                write!(formatter, "toggles {} #{bit} of {noun} {record}", shape(self.entity).flags_name)
            }
            Doing::AddLine { value } => write!(formatter, "adds a line v{value} to {noun} {record}"),
            Doing::EditLine { line, value } => {
                write!(formatter, "makes line #{line} of {noun} {record} v{value}")
            }
            Doing::RemoveLine { line } => write!(formatter, "removes line #{line} of {noun} {record}"),
            Doing::Make { value } => {
                write!(formatter, "adds a {noun} with values from v{value}")?;
                match self.entity {
                    EntityType::Order | EntityType::Subscription => {
                        write!(formatter, ", of contact {record}")
                    }
                    EntityType::Contact | EntityType::Tag => Ok(()),
                }
            }
            Doing::Delete => write!(formatter, "deletes {noun} {record}"),
            Doing::Undelete => write!(formatter, "takes back the delete of {noun} {record}"),
        }
    }
}
