//! The merge against the shared table of cases, and what holds for any merge.

#![allow(clippy::expect_used, reason = "a test ends at the first thing that is not as it should be")]

mod merge_table;

use keapsync_domain::canonical::same;
use keapsync_domain::ids::EntityType;
use keapsync_domain::merge::{Sides, reconcile};
use keapsync_domain::schema::fields;
use merge_table::random::Random;
use merge_table::table;
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
fn the_table_names_each_case_once_and_meets_every_entity() {
    let table = table();
    let names: HashSet<&str> = table.iter().map(|(case, _)| case.name.as_str()).collect();
    assert_eq!(names.len(), table.len());
    for entity in [EntityType::Contact, EntityType::Order, EntityType::Tag, EntityType::Subscription] {
        assert!(table.iter().any(|(case, _)| case.entity == entity), "no case of {}", entity.as_str());
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
