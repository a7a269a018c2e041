//! A record: the mapped values of one contact (later: order, tag, subscription), one per field of its schema.

use crate::ids::EntityType;
use crate::schema::fields;
use serde_json::{Map, Value};

/// Values in the order of [`fields`]; `Null` where a value is absent.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    entity: EntityType,
    values: Vec<Value>,
}

/// The value of a position past the end, so that reads are total.
static ABSENT: Value = Value::Null;

impl Record {
    /// A record of which every value is absent.
    #[must_use]
    pub fn empty(entity: EntityType) -> Self {
        Self { entity, values: vec![Value::Null; fields(entity).len()] }
    }

    /// Reads the entity's fields out of a JSON object keyed by field name; other keys are ignored, missing ones absent.
    #[must_use]
    pub fn from_object(entity: EntityType, mut object: Map<String, Value>) -> Self {
        let values =
            fields(entity).iter().map(|field| object.remove(field.name).unwrap_or(Value::Null)).collect();
        Self { entity, values }
    }

    /// A JSON object keyed by field name, absent values as null.
    #[must_use]
    pub fn to_object(&self) -> Map<String, Value> {
        fields(self.entity)
            .iter()
            .zip(&self.values)
            .map(|(field, value)| (field.name.to_owned(), value.clone()))
            .collect()
    }

    /// Which kind of record this is.
    #[must_use]
    pub fn entity(&self) -> EntityType {
        self.entity
    }

    /// The value at `position` of the schema.
    #[must_use]
    pub fn get(&self, position: usize) -> &Value {
        self.values.get(position).unwrap_or(&ABSENT)
    }

    /// The value of the field called `name`; absent when there is no such field.
    #[must_use]
    pub fn get_by_name(&self, name: &str) -> &Value {
        crate::schema::position(self.entity, name).map_or(&ABSENT, |position| self.get(position))
    }

    /// Replaces the value at `position`; positions past the schema's end are ignored.
    pub fn set(&mut self, position: usize, value: Value) {
        if let Some(slot) = self.values.get_mut(position) {
            *slot = value;
        }
    }

    /// Replaces the value of the field called `name`; unknown names are ignored.
    pub fn set_by_name(&mut self, name: &str, value: Value) {
        if let Some(position) = crate::schema::position(self.entity, name) {
            self.set(position, value);
        }
    }

    /// This record with the values of `overlay` (keyed by field name) in place of its own: how a base is rebuilt from a
    /// row and the old values saved at its first local edit.
    #[must_use]
    pub fn overlaid(&self, overlay: &Map<String, Value>) -> Self {
        let mut record = self.clone();
        for (name, value) in overlay {
            record.set_by_name(name, value.clone());
        }
        record
    }
}
