//! The merge against the shared table of cases, and what holds for any merge.

#![allow(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

mod merge_table;

use keapsync_domain::canonical::{canonical, same};
use keapsync_domain::ids::EntityType;
use keapsync_domain::merge::{Sides, reconcile};
use keapsync_domain::policy::Policy;
use keapsync_domain::schema::{Field, FieldKind, SlotKind, fields};
use merge_table::document::{Line, Recorded, lines};
use merge_table::random::Random;
use merge_table::table;
use serde_json::Value;
use std::collections::HashSet;

#[test]
fn the_table_comes_out_as_it_says() {
    let mut wrong = Vec::new();
    for (case, expected) in table() {
        let outcome = case.outcome();
        if outcome != expected {
            wrong.push(format!("{}\n  expected {expected}\n  came out {outcome}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} cases differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_table_names_each_case_once() {
    let lines = lines();
    let ids: HashSet<&str> = lines.iter().map(|line| line.id.as_str()).collect();
    let subject = |line: &Line| line.id.split('-').next().unwrap_or_default().to_owned();
    let cases: HashSet<(String, &str)> =
        lines.iter().map(|line| (subject(line), line.case.as_str())).collect();
    assert_eq!((ids.len(), cases.len()), (lines.len(), lines.len()));
}

/// Whether some line is as it is asked for.
fn any_line(entity: EntityType, wanted: impl Fn(&Line) -> bool) -> bool {
    lines().iter().any(|line| line.entity == entity && wanted(line))
}

#[test]
fn the_table_meets_every_policy_and_every_way_to_delete_for_every_kind_of_record() {
    for entity in EntityType::ALL {
        for policy in [Policy::NewestWins, Policy::KeapWins, Policy::SupabaseWins, Policy::Manual] {
            let settles = |line: &Line| {
                line.conflicts().any(|(path, _)| {
                    let field = path.split('.').next().unwrap_or_default();
                    line.policies.as_ref().is_some_and(|policies| policies.of(entity, field) == policy)
                })
            };
            assert!(any_line(entity, settles), "no {} in conflict under {policy:?}", entity.as_str());
        }
        for later in ["Keap", "Supabase", "tie"] {
            assert!(
                any_line(entity, |line| line.later == later),
                "no {} changed later by {later}",
                entity.as_str()
            );
        }
        for (keap, supabase) in [(true, false), (false, true), (true, true)] {
            let deletes = |line: &Line| (line.keap.is_deleted, line.supabase.is_deleted) == (keap, supabase);
            assert!(any_line(entity, deletes), "no {} deleted {keap} {supabase}", entity.as_str());
        }
    }
}

#[test]
fn the_table_meets_every_kind_of_field_and_every_field_that_keap_does_not_take() {
    let mut kinds_missing = HashSet::new();
    let mut kinds_met = HashSet::new();
    for entity in EntityType::ALL {
        for field in fields(entity) {
            let kind = format!("{:?}", field.kind);
            if field.access.refusal().is_some() {
                let refuses = |line: &Line| line.recorded.contains(&Recorded::Refused(field.name.to_owned()));
                assert!(any_line(entity, refuses), "{}.{} is never refused", entity.as_str(), field.name);
            } else if any_line(entity, |line| is_changed_on_both_sides(line, field)) {
                kinds_met.insert(kind);
            } else {
                kinds_missing.insert(kind);
            }
        }
    }
    kinds_missing.retain(|kind| !kinds_met.contains(kind));
    assert!(kinds_missing.is_empty(), "never changed on both sides: {kinds_missing:?}");
}

fn is_changed_on_both_sides(line: &Line, field: &Field) -> bool {
    let [base, keap, supabase] =
        [&line.base, &line.keap.values, &line.supabase.values].map(|state| &state[field.name]);
    !same(field.kind, base, keap) && !same(field.kind, base, supabase) && !same(field.kind, keap, supabase)
}

/// Values of each kind that are compared with each other, in all pairs.
const VALUES_COMPARED: usize = 150;

#[test]
fn values_are_the_same_when_their_canonical_forms_are() {
    let mut kinds: Vec<FieldKind> =
        EntityType::ALL.iter().flat_map(|entity| fields(*entity)).map(|field| field.kind).collect();
    kinds.extend([SlotKind::Email, SlotKind::Phone, SlotKind::Address, SlotKind::Item].map(FieldKind::Slots));
    let mut met = Vec::new();
    kinds.retain(|kind| {
        let is_new = !met.contains(kind);
        met.push(*kind);
        is_new
    });
    let mut random = Random::new(60);
    for kind in kinds {
        let mut values: Vec<Value> = (0..VALUES_COMPARED).map(|_| random.value(kind)).collect();
        // Alike in other words: what lists hold in another order.
        let turned: Vec<Value> = values.iter().map(turned_around).collect();
        values.extend(turned);
        let forms: Vec<Value> = values.iter().map(|value| canonical(kind, value)).collect();
        let mut alike = 0;
        for (left, left_form) in values.iter().zip(&forms) {
            for (right, right_form) in values.iter().zip(&forms) {
                assert_eq!(same(kind, left, right), left_form == right_form, "{kind:?}: {left} and {right}");
                alike += usize::from(left != right && left_form == right_form);
            }
        }
        assert!(alike > 0, "{kind:?}: no two values differed in spelling alone");
    }
}

fn turned_around(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().rev().cloned().collect(),
        Value::String(text) => Value::String(format!(" {text} ")),
        other => other.clone(),
    }
}

#[test]
fn after_any_merge_both_sides_agree_but_for_what_a_person_decides() {
    let mut random = Random::well_formed(1);
    for number in 0..4_000 {
        let case = random.case(number);
        let merge = case.merge();
        let (keap, supabase) = (case.record(&case.keap), case.record(&case.supabase));
        let (row, keap_after) = (merge.row_after(&supabase), merge.keap_after(&keap));
        let open: HashSet<&str> = merge
            .conflicts
            .iter()
            .filter(|conflict| conflict.winner.is_none())
            .map(|conflict| conflict.path.split('.').next().unwrap_or_default())
            .collect();
        for (position, field) in fields(case.entity).iter().enumerate() {
            assert!(
                open.contains(field.name) || same(field.kind, row.get(position), keap_after.get(position)),
                "{} differs after {case:?}",
                field.name
            );
        }
        // Merged again from the new base, only the same open conflicts are left.
        let mut base = keap_after.clone();
        for kept in &merge.base_kept {
            base.set(kept.position, kept.value.clone());
        }
        let again = reconcile(
            &Sides {
                base: &base,
                keap: &keap_after,
                supabase: &row,
                keap_changed_at: case.keap_changed_at,
                supabase_changed_at: case.supabase_changed_at,
            },
            &case.policies,
        );
        assert!(again.conflicts.iter().all(|conflict| conflict.winner.is_none()), "{case:?}");
        assert_eq!(again.refused, [], "{case:?}");
    }
}
