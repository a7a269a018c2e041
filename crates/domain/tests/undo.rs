//! Undo over random records of every kind: what was changed last is restored, and undoing the undo brings it back.

#![allow(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

mod merge_table;

use keapsync_domain::canonical::same;
use keapsync_domain::ids::EntityType;
use keapsync_domain::record::Record;
use keapsync_domain::schema::fields;
use keapsync_domain::undo::{Change, Current, LeftReason, Operation, UndoPlan, plan_undo};
use merge_table::random::Random;
use serde_json::{Map, Value};

/// Random changes per test.
const CHANGES: usize = 4_000;

/// Columns in which two records differ as they are spelled, with the values of the first.
fn differing(left: &Record, right: &Record) -> Map<String, Value> {
    fields(left.entity())
        .iter()
        .enumerate()
        .filter(|(position, _)| left.get(*position) != right.get(*position))
        .map(|(position, field)| (field.name.to_owned(), left.get(position).clone()))
        .collect()
}

fn undo(before: &Record, after: &Record, now: &Record) -> UndoPlan {
    let (old, new) = (differing(before, after), differing(after, before));
    let change = Change {
        entity: before.entity(),
        operation: Operation::Update,
        old: &old,
        after: &new,
        note: &Map::new(),
    };
    plan_undo(&change, &Current { record: now, is_deleted: false })
}

/// The first field, of those that Keap takes, in which two records differ in meaning.
fn first_difference(left: &Record, right: &Record) -> Option<&'static str> {
    let mut known = fields(left.entity()).iter().enumerate();
    known
        .find(|(position, field)| {
            field.access.refusal().is_none() && !same(field.kind, left.get(*position), right.get(*position))
        })
        .map(|(_, field)| field.name)
}

#[test]
fn undoing_the_last_change_restores_what_was_before_and_undoing_that_brings_it_back() {
    let mut random = Random::well_formed(40);
    let mut changed = 0;
    for number in 0..CHANGES {
        let case = random.case(number);
        let (before, after) = (case.record(&case.base), case.record(&case.keap));
        let plan = undo(&before, &after, &after);
        assert!(plan.left.iter().all(|left| left.reason == LeftReason::ReadOnly), "{plan:?} of {case:?}");
        let undone = after.overlaid(&plan.values);
        assert_eq!(first_difference(&undone, &before), None, "{plan:?} of {case:?}");
        let redone = undone.overlaid(&undo(&after, &undone, &undone).values);
        assert_eq!(first_difference(&redone, &after), None, "{plan:?} of {case:?}");
        changed += usize::from(!plan.is_empty());
    }
    assert!(changed > CHANGES / 2, "{changed}");
}

#[test]
fn what_others_changed_since_stays_and_what_is_not_taken_back_is_named() {
    let mut random = Random::well_formed(50);
    let (mut named, mut met) = (0, 0);
    for number in 0..CHANGES {
        let case = random.case(number);
        let (before, after, now) =
            (case.record(&case.base), case.record(&case.keap), case.record(&case.supabase));
        let plan = undo(&before, &after, &now);
        let undone = now.overlaid(&plan.values);
        for (position, field) in fields(case.entity).iter().enumerate() {
            let [before, after, now, undone] =
                [&before, &after, &now, &undone].map(|record| record.get(position));
            if same(field.kind, before, after) {
                assert_eq!(undone, now, "{} was not changed by {case:?}", field.name);
                continue;
            }
            let is_named = plan.left.iter().any(|left| left.field.split('.').next() == Some(field.name));
            named += usize::from(is_named);
            met += 1;
            let is_back = same(field.kind, undone, before);
            let is_merged = case.entity == EntityType::Contact && field.name == "tags"
                || matches!(field.name, "emails" | "phones" | "addresses" | "line_items" | "custom_fields");
            assert!(
                is_back || is_named || is_merged,
                "{} is neither back nor named after {case:?}",
                field.name
            );
            if same(field.kind, after, now) && field.access.refusal().is_none() {
                assert!(is_back && !is_named, "{} was not changed since {case:?}", field.name);
            }
        }
    }
    assert!(named > met / 20 && named < met, "{named} of {met}");
}
