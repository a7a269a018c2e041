//! What slots and maps are made of: named parts, borrowed from the value that holds them, compared one by one.

use super::text::{email, number_text, phone, trimmed, upper};
use super::{canonical, canonical_entry, is_absent};
use crate::schema::SlotKind;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::cmp::Ordering;

/// What the parts of a field are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartKind {
    /// Objects of a [`FieldKind::Slots`](crate::schema::FieldKind::Slots).
    Slot(SlotKind),
    /// Values of a [`FieldKind::Map`](crate::schema::FieldKind::Map).
    Entry,
}

/// A field's parts, each name once, in the order of their names.
#[derive(Debug)]
pub(crate) struct Parts<'a>(Vec<(Cow<'a, str>, &'a Value)>);

impl<'a> Parts<'a> {
    /// The parts of a field's value.
    pub(crate) fn of(kind: PartKind, value: &'a Value) -> Self {
        let mut parts: Vec<(Cow<'a, str>, &'a Value)> = match kind {
            PartKind::Slot(kind) => named_slots(kind, value).collect(),
            PartKind::Entry => value
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, entry)| (Cow::Borrowed(name.as_str()), entry))
                .collect(),
        };
        // Stable, so that of several parts with one name the last one stands behind the others.
        parts.sort_by(|left, right| left.0.cmp(&right.0));
        parts.dedup_by(|later, kept| {
            let is_one = later.0 == kept.0;
            if is_one {
                kept.1 = later.1;
            }
            is_one
        });
        Self(parts)
    }

    /// Parts that are in the order of their names already, each name once.
    pub(crate) fn in_order(parts: impl Iterator<Item = (&'a str, &'a Value)>) -> Self {
        Self(parts.map(|(name, part)| (Cow::Borrowed(name), part)).collect())
    }

    /// The part of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        let position = self.0.binary_search_by(|(known, _)| known.as_ref().cmp(name)).ok()?;
        self.0.get(position).map(|(_, part)| *part)
    }
}

/// Both sides' parts of each name, in the order of names.
pub(crate) fn in_step<'p, 'a>(
    left: &'p Parts<'a>,
    right: &'p Parts<'a>,
) -> impl Iterator<Item = (&'p str, Option<&'a Value>, Option<&'a Value>)> {
    let (mut left, mut right) = (left.0.iter().peekable(), right.0.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((left, _)), Some((right, _))) => left.cmp(right),
        };
        let from_left = if order == Ordering::Greater { None } else { left.next() };
        let from_right = if order == Ordering::Less { None } else { right.next() };
        let (name, _) = from_left.or(from_right)?;
        Some((name.as_ref(), from_left.map(|(_, part)| *part), from_right.map(|(_, part)| *part)))
    })
}

impl PartKind {
    /// Whether two parts mean the same; one that is missing means what one means that holds nothing.
    pub(crate) fn same(self, left: Option<&Value>, right: Option<&Value>) -> bool {
        match self {
            Self::Entry => {
                let (left, right) =
                    (left.filter(|part| !is_absent(part)), right.filter(|part| !is_absent(part)));
                left == right
                    || left
                        .zip(right)
                        .is_some_and(|(left, right)| canonical_entry(left) == canonical_entry(right))
            }
            Self::Slot(kind) => {
                same_slot(kind, left.and_then(Value::as_object), right.and_then(Value::as_object), |_| true)
            }
        }
    }

    /// Whether two parts differ in nothing that an edit can bring about, where `edited` is the part as people left it and `base` as
    /// they found it. What Keap alone says of a slot, and a reason for consent that is left out (Keap never forgets one), is no edit.
    /// Of a name and the code that it follows from, the code counts, and the name where somebody edited it or it stands alone.
    pub(crate) fn same_edit(
        self,
        left: Option<&Value>,
        right: Option<&Value>,
        edited: Option<&Value>,
        base: Option<&Value>,
    ) -> bool {
        self.same_but(left, right, edited, base, false)
    }

    /// Whether Keap holds what the edit asks for: as [`same_edit`](Self::same_edit), and the code that Keap finds for a name that was
    /// written without one is Keap's answer.
    pub(crate) fn is_answered(
        self,
        keap: Option<&Value>,
        edited: Option<&Value>,
        base: Option<&Value>,
    ) -> bool {
        self.same_but(keap, edited, edited, base, true)
    }

    fn same_but(
        self,
        left: Option<&Value>,
        right: Option<&Value>,
        edited: Option<&Value>,
        base: Option<&Value>,
        is_answer: bool,
    ) -> bool {
        let Self::Slot(kind) = self else { return self.same(left, right) };
        let [left, right, edited, base] =
            [left, right, edited, base].map(|part| part.and_then(Value::as_object));
        let says = |property: &str| edited.is_some_and(|slot| compared(kind, slot, property).is_some());
        let is_edited =
            |property: &str| says(property) && !same_slot(kind, edited, base, |other| other == property);
        let stands_alone = |name: &str, code: &str| {
            let holds = |slot: &Map<String, Value>, property| compared(kind, slot, property).is_some();
            [left, right].into_iter().flatten().any(|slot| holds(slot, name) && !holds(slot, code))
        };
        same_slot(kind, left, right, |property| match (kind, property) {
            (SlotKind::Email, "opt_in_reason") => says(property),
            (SlotKind::Email, _) => property == "email",
            (SlotKind::Phone, _) => matches!(property, "number" | "extension" | "type"),
            (SlotKind::Address, _) => {
                if let Some(code) = named_by(property) {
                    return !says(code) || is_edited(property) || stands_alone(property, code);
                }
                let mut names = ADDRESS_NAMES.iter().filter(|(_, code)| *code == property);
                !is_answer || says(property) || !names.any(|(name, _)| says(name))
            }
            (SlotKind::Item, _) => true,
        })
    }

    /// Whether a part holds nothing.
    pub(crate) fn is_absent(self, part: &Value) -> bool {
        match self {
            Self::Entry => is_absent(part),
            Self::Slot(_) => self.same(Some(part), None),
        }
    }
}

/// What of an address follows from another property of it: Keap keeps the code, and shows the name beside it.
const ADDRESS_NAMES: [(&str, &str); 4] = [
    ("region", "region_code"),
    ("country", "country_code"),
    ("zip_code", "postal_code"),
    ("zip_four", "postal_code"),
];

/// The property of an address that another one follows from.
fn named_by(property: &str) -> Option<&'static str> {
    ADDRESS_NAMES.iter().find(|(name, _)| *name == property).map(|(_, code)| *code)
}

/// Whether two slots hold the same, of the properties that count.
fn same_slot(
    kind: SlotKind,
    left: Option<&Map<String, Value>>,
    right: Option<&Map<String, Value>>,
    counts: impl Fn(&str) -> bool,
) -> bool {
    if left == right {
        return true;
    }
    let covers = |slot: Option<&Map<String, Value>>, other: Option<&Map<String, Value>>| {
        slot.into_iter().flat_map(Map::keys).filter(|property| counts(property)).all(|property| {
            let ours = slot.and_then(|slot| compared(kind, slot, property));
            let theirs = other.and_then(|other| compared(kind, other, property));
            match (ours, theirs) {
                (None, None) => true,
                (Some(ours), Some(theirs)) => {
                    ours == theirs
                        || property_form(kind, property, ours) == property_form(kind, property, theirs)
                }
                _ => false,
            }
        })
    };
    covers(left, right) && covers(right, left)
}

/// A slot's value of a property as far as it is compared: `None` when it holds nothing, and for the slot's name.
pub(super) fn compared<'a>(
    kind: SlotKind,
    slot: &'a Map<String, Value>,
    property: &str,
) -> Option<&'a Value> {
    slot.get(property).filter(|value| property != kind.key() && !is_absent(value))
}

/// The canonical form of a slot's property that is compared.
pub(super) fn property_form(kind: SlotKind, property: &str, value: &Value) -> Value {
    if let Some(kind) = kind.property_kind(property) {
        return canonical(kind, value);
    }
    let Value::String(text) = value else { return canonical_entry(value) };
    let text = trimmed(text);
    let form = match (kind, property) {
        (SlotKind::Email, "email") => email(text),
        (SlotKind::Phone, "number") => phone(text),
        (SlotKind::Address, "country_code") => upper(text),
        _ => Cow::Borrowed(text),
    };
    Value::String(form.into_owned())
}

/// The slots of a slot field with their names. Of several with one name the last counts, as it does for Keap; objects
/// without a name are told apart by their position so that none is lost. A line's id names it as a text or as a number.
pub fn slot_entries(kind: SlotKind, value: &Value) -> impl Iterator<Item = (String, &Value)> {
    named_slots(kind, value).map(|(name, slot)| (name.into_owned(), slot))
}

fn named_slots(kind: SlotKind, value: &Value) -> impl Iterator<Item = (Cow<'_, str>, &Value)> {
    value.as_array().into_iter().flatten().enumerate().filter(|(_, slot)| slot.is_object()).map(
        move |(position, slot)| {
            let name = match slot.get(kind.key()) {
                Some(Value::String(name)) => Cow::Borrowed(name.as_str()),
                Some(Value::Number(id)) if kind == SlotKind::Item => Cow::Owned(number_text(id)),
                _ => Cow::Owned(format!("#{position}")),
            };
            (name, slot)
        },
    )
}
