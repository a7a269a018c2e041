//! What stands in the place of a key that was refused, while the rest of its slot goes on.
//!
//! A slot in which nothing else was edited is the base's again, and the merge leaves it to Keap. One that was edited goes
//! to Keap whole, and there a value of the base would count as somebody's edit, although nobody wrote it and Keap may
//! have lost it since. So such a key says what Keap holds.

use super::address::{NAMED, is_edited};
use super::{Field, put_back_key};
use keapsync_domain::canonical::{is_slot_edited, same};
use keapsync_domain::schema::{FieldKind, SlotKind};
use serde_json::{Map, Value};

/// A slot, a line or an address, and what is known of it.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) kind: SlotKind,
    /// What the base has; null where nothing.
    pub(super) was: &'a Value,
    /// What Keap holds; null where nothing.
    pub(super) held: &'a Value,
    /// The key of the slot's value, and how it compares.
    pub(super) value: Option<(&'static str, FieldKind)>,
    /// What belongs to that value.
    pub(super) owned: &'static [&'static str],
}

/// Puts the keys of a slot that were refused since `told` refusals to what Keap holds, where the slot goes to Keap for
/// other edits. False where it can't go without them and is to be the base's again.
pub(super) fn hold_refused(
    field: &mut Field<'_>,
    told: usize,
    name: Option<&str>,
    part: Part<'_>,
    slot: &mut Map<String, Value>,
) -> bool {
    let Part { kind, was, held, value, owned } = part;
    let keys: Vec<String> =
        field.refused.iter().skip(told).filter_map(|refusal| refusal.key.clone()).collect();
    if keys.is_empty() || !is_slot_edited(kind, was, &Value::Object(slot.clone())) {
        return true;
    }
    let property = |value: &Value, key: &str| value.get(key).cloned().unwrap_or_default();
    if let Some((key, kind)) = value
        && keys.iter().any(|refused| refused == key)
        && !same(kind, &property(was, key), &property(held, key))
    {
        let fault = format!("was written for a {key} that Keap has not got any more: write it again");
        field.refuse(name, None, fault);
        return false;
    }
    let is_of_held = value
        .is_none_or(|(key, kind)| same(kind, &property(held, key), slot.get(key).unwrap_or(&Value::Null)));
    for key in &keys {
        let follows = NAMED.iter().any(|(name, code)| key == code && is_edited(was, slot, name));
        if follows || is_edited(was, slot, key) {
            // It follows from another edit.
            continue;
        }
        if owned.contains(&key.as_str()) && !is_of_held {
            slot.remove(key);
            continue;
        }
        // A name and its code go together, lest they say two things.
        let pair = NAMED.iter().find(|(name, code)| held.is_object() && (key == name || key == code));
        for other in pair.into_iter().flat_map(|(name, code)| [*name, *code]) {
            if !is_edited(was, slot, other) {
                put_back_key(slot, held, other);
            }
        }
        put_back_key(slot, held, key);
    }
    true
}
