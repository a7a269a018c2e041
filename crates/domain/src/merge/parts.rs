//! The merge of fields that are made of parts: sets element by element, slots and maps part by part.
//!
//! Parts are borrowed from the three states; only what a side is to take is made anew.

use super::{Conflict, FieldContext, FieldOutcome, Side};
use crate::canonical::{PartKind, Parts, in_step, set_texts};
use crate::schema::FieldKind;
use serde_json::Value;
use std::borrow::Cow;

/// Merges a set: in the result is what both sides have, and what exactly one side has because it added it.
pub(super) fn merge_set(base: &Value, keap: &Value, supabase: &Value) -> FieldOutcome {
    let [base, keap, supabase] = [base, keap, supabase].map(elements);
    let mut merged: Vec<&Cow<'_, str>> = keap
        .iter()
        .filter(|element| contains(&supabase, element) || !contains(&base, element))
        .chain(supabase.iter().filter(|element| !contains(&keap, element) && !contains(&base, element)))
        .collect();
    merged.sort_unstable();
    let value = || merged.iter().map(|element| Value::String(element.to_string())).collect();
    let is_merged = |side: &[Cow<'_, str>]| side.iter().eq(merged.iter().copied());
    FieldOutcome {
        row: (!is_merged(&supabase)).then(value),
        keap: (!is_merged(&keap)).then(value),
        ..FieldOutcome::default()
    }
}

/// The elements of a set, each once, in order.
fn elements(value: &Value) -> Vec<Cow<'_, str>> {
    let mut elements: Vec<Cow<'_, str>> = set_texts(value).collect();
    elements.sort_unstable();
    elements.dedup();
    elements
}

fn contains(elements: &[Cow<'_, str>], element: &str) -> bool {
    elements.binary_search_by(|known| known.as_ref().cmp(element)).is_ok()
}

/// Parts of which a value takes another state's: their names, in order, and what stands there.
type Replaced<'a> = [(&'a str, Option<&'a Value>)];

/// Merges what is made of named parts, each part as a scalar would be.
pub(super) fn merge_parts(
    context: &FieldContext<'_>,
    kind: PartKind,
    base: &Value,
    keap: &Value,
    supabase: &Value,
) -> FieldOutcome {
    let [base_parts, keap_parts, supabase_parts] = [base, keap, supabase].map(|value| Parts::of(kind, value));
    let (mut to_row, mut to_keap, mut to_base) = (Vec::new(), Vec::new(), Vec::new());
    let mut conflicts = Vec::new();
    for (name, keap, supabase) in in_step(&keap_parts, &supabase_parts) {
        if kind.same(keap, supabase) {
            continue;
        }
        let base = base_parts.get(name);
        let same_edit = |left, right| kind.same_edit(left, right, supabase, base);
        // Where the row differs by no edit, it is Keap's to say.
        let side = if kind.is_answered(keap, supabase, base) || same_edit(supabase, base) {
            Some(Side::Keap)
        } else if same_edit(keap, base) {
            Some(Side::Supabase)
        } else {
            let policy = context.policy();
            let winner = context.winner(policy);
            let original = |part: Option<&Value>| part.cloned().unwrap_or(Value::Null);
            conflicts.push(Conflict {
                path: format!("{}.{name}", context.field.name),
                base: original(base),
                keap: original(keap),
                supabase: original(supabase),
                policy,
                winner,
            });
            winner
        };
        match side {
            Some(Side::Keap) => to_row.push((name, keap)),
            Some(Side::Supabase) => to_keap.push((name, supabase)),
            None => to_base.push((name, base)),
        }
    }
    let with = |parts: &Parts<'_>, replaced: &Replaced<'_>| {
        (!replaced.is_empty()).then(|| assembled(kind, parts, replaced))
    };
    FieldOutcome {
        row: with(&supabase_parts, &to_row),
        keap: with(&keap_parts, &to_keap),
        base: with(&keap_parts, &to_base),
        conflicts,
    }
}

/// A slots or map field with one part replaced; null removes it. Values of other kinds stay as they are.
#[must_use]
pub fn with_part(kind: FieldKind, value: &Value, name: &str, part: &Value) -> Value {
    let kind = match kind {
        FieldKind::Slots(kind) => PartKind::Slot(kind),
        FieldKind::Map => PartKind::Entry,
        _ => return value.clone(),
    };
    assembled(kind, &Parts::of(kind, value), &[(name, Some(part))])
}

/// Parts with some of them replaced, as the field's value: in the order of their names, without slots that hold nothing
/// and without entries that were replaced by nothing.
fn assembled(kind: PartKind, parts: &Parts<'_>, replaced: &Replaced<'_>) -> Value {
    let replaced = Parts::in_order(replaced.iter().map(|(name, part)| (*name, part.unwrap_or(&Value::Null))));
    let chosen = in_step(parts, &replaced).filter_map(|(name, own, replacing)| match replacing {
        Some(part) => (!part.is_null()).then_some((name, part)),
        None => Some((name, own?)),
    });
    match kind {
        PartKind::Slot(_) => {
            chosen.filter(|(_, slot)| !kind.is_absent(slot)).map(|(_, slot)| slot.clone()).collect()
        }
        PartKind::Entry => {
            Value::Object(chosen.map(|(name, entry)| (name.to_owned(), entry.clone())).collect())
        }
    }
}
