//! The three-way merge: `reconcile(base, keap, supabase) -> Merge`, pure, total and deterministic.
//!
//! | field changed since base | result |
//! |---|---|
//! | on neither side | nothing |
//! | on one side only | that value goes to the other side |
//! | on both, to the same value | the base moves, nothing is written |
//! | on both, to different values | a conflict, settled by the field's policy |
//!
//! Sets merge element by element, so that no element can be in conflict: relative to one base an element can only be
//! added (it was not there) or removed (it was), never both. Slots (`addresses.BILLING`) and map entries
//! (`custom_fields.12`) merge one by one under their field's policy. A field that Keap does not let us write always ends
//! as Keap has it; the refused value is reported, never dropped.
//!
//! After a merge the base is what Keap holds now, except for what a person has to decide: there it stays, so that the
//! conflict is seen again, and recognised as the same one.

mod parts;

pub use parts::with_part;

use crate::canonical::{PartKind, same};
use crate::ids::EntityType;
use crate::policy::{Policies, Policy};
use crate::record::Record;
use crate::schema::{Field, FieldKind, SlotKind, fields};
use crate::timestamp::Timestamp;
use parts::{merge_parts, merge_set};
use serde_json::{Map, Value};

/// What the merge looks at.
#[derive(Clone, Copy, Debug)]
pub struct Sides<'a> {
    /// What both sides last agreed on. Two records that never met have an empty one: what only one side has goes to the
    /// other, what both have and differ in is a conflict.
    pub base: &'a Record,
    /// What Keap holds.
    pub keap: &'a Record,
    /// What the row holds.
    pub supabase: &'a Record,
    /// When Keap's record last changed.
    pub keap_changed_at: Option<Timestamp>,
    /// When the row last changed.
    pub supabase_changed_at: Option<Timestamp>,
}

/// A new value for the field at a position of the schema.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldValue {
    /// Position in the schema.
    pub position: usize,
    /// The field's whole value.
    pub value: Value,
}

/// Which side's value a conflict ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Keap.
    Keap,
    /// Supabase.
    Supabase,
}

impl Side {
    /// The name in records of conflicts.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keap => "keap",
            Self::Supabase => "supabase",
        }
    }
}

/// A field, slot or map entry that both sides changed to different values.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflict {
    /// `email`, `addresses.BILLING`, `custom_fields.12`.
    pub path: String,
    /// The value both sides last agreed on.
    pub base: Value,
    /// Keap's value.
    pub keap: Value,
    /// Supabase's value.
    pub supabase: Value,
    /// The policy that applied.
    pub policy: Policy,
    /// Who won; `None` while a person has to decide.
    pub winner: Option<Side>,
}

/// An edit in Supabase that Keap does not take.
#[derive(Clone, Debug, PartialEq)]
pub struct RefusedEdit {
    /// Name of the field.
    pub field: &'static str,
    /// Why, for people.
    pub reason: &'static str,
    /// The value that was asked for.
    pub value: Value,
}

/// What has to happen so that both sides agree.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Merge {
    /// Values the row is to take.
    pub to_supabase: Vec<FieldValue>,
    /// Values Keap is to take.
    pub to_keap: Vec<FieldValue>,
    /// Fields whose new base is not what Keap holds now, because a person has to decide about them or a part of them.
    pub base_kept: Vec<FieldValue>,
    /// Conflicts, settled and open.
    pub conflicts: Vec<Conflict>,
    /// Edits that Keap does not take.
    pub refused: Vec<RefusedEdit>,
}

impl Merge {
    /// Whether a person has to decide something.
    #[must_use]
    pub fn has_open_conflict(&self) -> bool {
        self.conflicts.iter().any(|conflict| conflict.winner.is_none())
    }

    /// The row after the merge.
    #[must_use]
    pub fn row_after(&self, supabase: &Record) -> Record {
        with_values(supabase, &self.to_supabase)
    }

    /// Keap's record after the merge, once our write has landed.
    #[must_use]
    pub fn keap_after(&self, keap: &Record) -> Record {
        with_values(keap, &self.to_keap)
    }

    /// The base after the merge.
    #[must_use]
    pub fn base_after(&self, keap: &Record) -> Record {
        with_values(keap, &self.base_kept)
    }
}

fn with_values(record: &Record, values: &[FieldValue]) -> Record {
    let mut after = record.clone();
    for change in values {
        after.set(change.position, change.value.clone());
    }
    after
}

/// The values of `base` in which `row` differs from it, keyed by field name: what must be kept beside the row so that
/// the base can be rebuilt.
#[must_use]
pub fn base_delta(base: &Record, row: &Record) -> Map<String, Value> {
    let entity = row.entity();
    fields(entity)
        .iter()
        .enumerate()
        .filter(|(position, field)| !same(field.kind, base.get(*position), row.get(*position)))
        .map(|(position, field)| (field.name.to_owned(), base.get(position).clone()))
        .collect()
}

/// Merges three states of one record.
#[must_use]
pub fn reconcile(sides: &Sides<'_>, policies: &Policies) -> Merge {
    let entity = sides.supabase.entity();
    let mut merge = Merge::default();
    for (position, field) in fields(entity).iter().enumerate() {
        let (base, keap, supabase) =
            (sides.base.get(position), sides.keap.get(position), sides.supabase.get(position));
        // Spelled alike is alike whatever the kind, and what most fields are.
        if keap == supabase {
            continue;
        }
        let refusal = field.access.refusal();
        // What merges part by part is compared part by part, too.
        let merges_parts = field.kind.has_parts() && refusal.is_none();
        if !merges_parts && same(field.kind, keap, supabase) {
            continue;
        }
        if let Some(reason) = refusal {
            if !same(field.kind, supabase, base) {
                merge.refused.push(RefusedEdit { field: field.name, reason, value: supabase.clone() });
            }
            merge.to_supabase.push(FieldValue { position, value: keap.clone() });
            continue;
        }
        let context = FieldContext { entity, field, sides, policies };
        let outcome = merge_field(&context, base, keap, supabase);
        if let Some(value) = outcome.row {
            merge.to_supabase.push(FieldValue { position, value });
        }
        if let Some(value) = outcome.keap {
            merge.to_keap.push(FieldValue { position, value });
        }
        if let Some(value) = outcome.base {
            merge.base_kept.push(FieldValue { position, value });
        }
        merge.conflicts.extend(outcome.conflicts);
    }
    merge
}

struct FieldContext<'a> {
    entity: EntityType,
    field: &'static Field,
    sides: &'a Sides<'a>,
    policies: &'a Policies,
}

/// New values of one field: `None` where a side, or the base, already is as it should be.
#[derive(Default)]
struct FieldOutcome {
    row: Option<Value>,
    keap: Option<Value>,
    base: Option<Value>,
    conflicts: Vec<Conflict>,
}

impl FieldContext<'_> {
    fn policy(&self) -> Policy {
        self.policies.of(self.entity, self.field.name)
    }

    fn winner(&self, policy: Policy) -> Option<Side> {
        match policy {
            Policy::KeapWins => Some(Side::Keap),
            Policy::SupabaseWins => Some(Side::Supabase),
            Policy::Manual => None,
            Policy::NewestWins => {
                if self.sides.supabase_changed_at > self.sides.keap_changed_at {
                    Some(Side::Supabase)
                } else {
                    Some(Side::Keap)
                }
            }
        }
    }
}

fn merge_field(context: &FieldContext<'_>, base: &Value, keap: &Value, supabase: &Value) -> FieldOutcome {
    match context.field.kind {
        FieldKind::Set => merge_set(base, keap, supabase),
        FieldKind::Slots(kind) => merge_parts(context, PartKind::Slot(kind), base, keap, supabase),
        FieldKind::Map => merge_parts(context, PartKind::Entry, base, keap, supabase),
        kind => merge_scalar(context, kind, base, keap, supabase),
    }
}

fn merge_scalar(
    context: &FieldContext<'_>,
    kind: FieldKind,
    base: &Value,
    keap: &Value,
    supabase: &Value,
) -> FieldOutcome {
    // The caller has seen that the two sides differ. An address holds what Keap alone says, as a slot does.
    let address = PartKind::Slot(SlotKind::Address);
    let same_edit = |left: &Value, right: &Value| match kind {
        FieldKind::Address => address.same_edit(Some(left), Some(right), Some(supabase), Some(base)),
        _ => same(kind, left, right),
    };
    let is_answered =
        kind == FieldKind::Address && address.is_answered(Some(keap), Some(supabase), Some(base));
    if is_answered || same_edit(supabase, base) {
        return FieldOutcome { row: Some(keap.clone()), ..FieldOutcome::default() };
    }
    if same_edit(keap, base) {
        return FieldOutcome { keap: Some(supabase.clone()), ..FieldOutcome::default() };
    }
    let policy = context.policy();
    let winner = context.winner(policy);
    let conflict = Conflict {
        path: context.field.name.to_owned(),
        base: base.clone(),
        keap: keap.clone(),
        supabase: supabase.clone(),
        policy,
        winner,
    };
    let mut outcome = FieldOutcome { conflicts: vec![conflict], ..FieldOutcome::default() };
    match winner {
        Some(Side::Keap) => outcome.row = Some(keap.clone()),
        Some(Side::Supabase) => outcome.keap = Some(supabase.clone()),
        None => outcome.base = Some(base.clone()),
    }
    outcome
}

#[cfg(test)]
mod tests;
