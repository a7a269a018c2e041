//! Edits that stand or fall alone: a field, or one part of a field that is made of parts.

use super::Change;
use crate::capability::{Carrier, SubResource, capability};
use crate::checks::{REACHED_BY, before_update, check_reachable};
use crate::edits::Refusal;
use crate::orders;
use crate::subscriptions;
use keapsync_domain::canonical::{canonical_entry, canonical_slot, slot_entries};
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::EntityType;
use keapsync_domain::merge::with_part;
use keapsync_domain::record::Record;
use keapsync_domain::schema::{FieldKind, fields};
use keapsync_domain::timestamp::Timestamp;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// One edit.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Unit {
    /// The field.
    pub(super) field: &'static str,
    kind: FieldKind,
    /// The part, of a field that has parts.
    part: Option<String>,
    /// What Keap is to hold there; null where nothing.
    value: Value,
}

impl Unit {
    /// The edit as one that is not taken.
    pub(super) fn refused(self, failure: &Failure) -> Refusal {
        let Self { field, part, value, .. } = self;
        Refusal { field, part, key: None, sent: Some(value), reason: failure.message.clone() }
    }
}

/// The edits of a change that go by the properties of an update, or end a subscription. Those that Keap is known to refuse
/// are told apart, before a call is spent on them.
pub(super) fn taken(change: &Change<'_>, now: Timestamp, refused: &mut Vec<Refusal>) -> Vec<Unit> {
    let (wanted, held) = (change.wanted, &change.remote.record);
    let reach = check_reachable(wanted).err();
    let mut taken = Vec::new();
    for unit in units_of(change) {
        let is_reach = REACHED_BY.contains(&unit.field);
        let fault = reach.as_ref().filter(|_| is_reach).cloned().or_else(|| check(&unit, held, now).err());
        match fault {
            Some(failure) => refused.push(unit.refused(&failure)),
            None => taken.push(unit),
        }
    }
    taken
}

fn units_of(change: &Change<'_>) -> Vec<Unit> {
    let entity = change.wanted.entity();
    let mut units = Vec::new();
    for field in fields(entity).iter().filter(|field| change.changed.contains(&field.name)) {
        let carrier = capability(entity).field(field.name).map(|field| field.update);
        let is_carried =
            matches!(carrier, Some(Carrier::Property(_) | Carrier::SubResource(SubResource::Deactivation)));
        if !is_carried {
            continue;
        }
        let [held, wanted] =
            [&change.remote.record, change.wanted].map(|record| record.get_by_name(field.name));
        let unit =
            |part: Option<String>, value: Value| Unit { field: field.name, kind: field.kind, part, value };
        match field.kind {
            FieldKind::Slots(_) | FieldKind::Map => {
                let names = parts(field.kind, held).into_keys().chain(parts(field.kind, wanted).into_keys());
                let names: std::collections::BTreeSet<String> = names.collect();
                let (held, wanted) = (parts(field.kind, held), parts(field.kind, wanted));
                for name in names {
                    let (was, now) = (held.get(&name), wanted.get(&name));
                    if form(field.kind, was) != form(field.kind, now) {
                        let value = now.map_or(Value::Null, |now| (*now).clone());
                        units.push(unit(Some(name), value));
                    }
                }
            }
            _ => units.push(unit(None, wanted.clone())),
        }
    }
    units
}

fn parts(kind: FieldKind, value: &Value) -> BTreeMap<String, &Value> {
    match kind {
        FieldKind::Slots(kind) => slot_entries(kind, value).collect(),
        _ => value.as_object().into_iter().flatten().map(|(name, entry)| (name.clone(), entry)).collect(),
    }
}

fn form(kind: FieldKind, part: Option<&&Value>) -> Value {
    match (kind, part) {
        (_, None) => Value::Null,
        (FieldKind::Slots(kind), Some(part)) => canonical_slot(kind, part),
        (_, Some(part)) => canonical_entry(part),
    }
}

/// What Keap is known to refuse.
fn check(unit: &Unit, held: &Record, now: Timestamp) -> Result<(), Failure> {
    let entity = held.entity();
    let mut alone = held.clone();
    let value = match &unit.part {
        None => unit.value.clone(),
        Some(name) => with_part(unit.kind, &empty_of(unit.kind), name, &unit.value),
    };
    alone.set_by_name(unit.field, value);
    before_update(&alone, unit.field, now)?;
    let property = match capability(entity).field(unit.field).map(|field| field.update) {
        Some(Carrier::Property(property)) => property,
        Some(Carrier::SubResource(SubResource::Deactivation)) => {
            return subscriptions::convert::status_of(&alone).map(|_| ());
        }
        _ => return Ok(()),
    };
    match entity {
        EntityType::Order => orders::convert::write_body(&alone, held, &[property], None).map(|_| ()),
        EntityType::Subscription => subscriptions::convert::write_body(&alone, held, &[property]).map(|_| ()),
        EntityType::Contact | EntityType::Tag => Ok(()),
    }
}

fn empty_of(kind: FieldKind) -> Value {
    if kind == FieldKind::Map { Value::Object(Map::new()) } else { Value::Array(Vec::new()) }
}

/// The record with those edits made in it.
pub(super) fn with_units(record: &Record, units: &[Unit]) -> Record {
    let mut record = record.clone();
    for unit in units {
        let value = match &unit.part {
            None => unit.value.clone(),
            Some(name) => with_part(unit.kind, record.get_by_name(unit.field), name, &unit.value),
        };
        record.set_by_name(unit.field, value);
    }
    record
}

/// The properties of the update that carries those edits, sorted, each once.
pub(super) fn properties_of(entity: EntityType, units: &[Unit]) -> Vec<&'static str> {
    let calls = capability(entity).update_calls(units.iter().map(|unit| unit.field));
    let mut properties = calls.properties;
    if calls.sub_resources.contains(&SubResource::Deactivation) {
        properties.push("active");
    }
    properties
}
