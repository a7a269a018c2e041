use super::*;
use crate::canonical::set_elements;
use crate::schema::{WriteAccess, position};
use proptest::prelude::*;
use serde_json::json;

const CONTACT: EntityType = EntityType::Contact;

fn contact(values: &Value) -> Record {
    Record::from_object(CONTACT, values.as_object().cloned().unwrap())
}

fn merge_with(
    policy: Policy,
    base: &Value,
    keap: &Value,
    supabase: &Value,
    times: (i64, i64),
) -> (Merge, Record, Record) {
    let (base, keap, supabase) = (contact(base), contact(keap), contact(supabase));
    let policies = Policies { default: policy, ..Policies::default() };
    let merge = reconcile(
        &Sides {
            base: &base,
            keap: &keap,
            supabase: &supabase,
            keap_changed_at: Some(Timestamp(times.0)),
            supabase_changed_at: Some(Timestamp(times.1)),
        },
        &policies,
    );
    let row = merge.row_after(&supabase);
    let keap_after = merge.keap_after(&keap);
    (merge, row, keap_after)
}

#[test]
fn a_change_on_one_side_goes_to_the_other() {
    let base = json!({"first_name": "Ann", "job_title": "Clerk"});
    let (merge, row, keap) = merge_with(
        Policy::NewestWins,
        &base,
        &json!({"first_name": "Anna", "job_title": "Clerk"}),
        &json!({"first_name": "Ann", "job_title": "Boss"}),
        (1, 1),
    );
    assert!(merge.conflicts.is_empty());
    for side in [row, keap] {
        assert_eq!(side.get_by_name("first_name"), "Anna");
        assert_eq!(side.get_by_name("job_title"), "Boss");
    }
}

#[test]
fn the_same_change_on_both_sides_writes_nothing() {
    let (merge, _, _) = merge_with(
        Policy::Manual,
        &json!({"phone": "1"}),
        &json!({"phone": "480 555 0100"}),
        &json!({"phone": "(480) 5550100"}),
        (1, 2),
    );
    assert_eq!(merge, Merge::default());
}

#[test]
fn a_conflict_is_settled_by_policy() {
    let (base, keap, supabase) =
        (json!({"email": "b@x.io"}), json!({"email": "k@x.io"}), json!({"email": "s@x.io"}));
    for (policy, times, winner, value) in [
        (Policy::KeapWins, (1, 9), Some(Side::Keap), "k@x.io"),
        (Policy::SupabaseWins, (9, 1), Some(Side::Supabase), "s@x.io"),
        (Policy::NewestWins, (1, 2), Some(Side::Supabase), "s@x.io"),
        (Policy::NewestWins, (2, 1), Some(Side::Keap), "k@x.io"),
        (Policy::NewestWins, (2, 2), Some(Side::Keap), "k@x.io"),
    ] {
        let (merge, row, keap_after) = merge_with(policy, &base, &keap, &supabase, times);
        assert_eq!(merge.conflicts.len(), 1);
        assert_eq!(merge.conflicts[0].winner, winner, "{policy:?} {times:?}");
        assert_eq!(row.get_by_name("email"), value);
        assert_eq!(keap_after.get_by_name("email"), value);
    }
}

#[test]
fn a_manual_conflict_leaves_both_sides_and_lets_other_fields_pass() {
    let (merge, row, keap) = merge_with(
        Policy::Manual,
        &json!({"email": "b@x.io", "first_name": "A"}),
        &json!({"email": "k@x.io", "first_name": "B"}),
        &json!({"email": "s@x.io", "first_name": "A"}),
        (1, 2),
    );
    assert!(merge.has_open_conflict());
    assert_eq!(row.get_by_name("email"), "s@x.io");
    assert_eq!(keap.get_by_name("email"), "k@x.io");
    assert_eq!(row.get_by_name("first_name"), "B");
    assert_eq!(merge.base_after(&keap).get_by_name("email"), "b@x.io");
}

#[test]
fn sets_combine_adds_and_removes() {
    let (merge, row, keap) = merge_with(
        Policy::KeapWins,
        &json!({"tags": ["1", "2", "3"]}),
        &json!({"tags": ["1", "3", "9"]}),
        &json!({"tags": ["1", "2", "8"]}),
        (1, 2),
    );
    assert!(merge.conflicts.is_empty());
    assert_eq!(set_elements(row.get_by_name("tags")), set_elements(&json!(["1", "8", "9"])));
    assert_eq!(set_elements(keap.get_by_name("tags")), set_elements(&json!(["1", "8", "9"])));
}

#[test]
fn slots_merge_one_by_one_and_keep_their_siblings() {
    let slot = |name: &str, line: &str| json!({"field": name, "line1": line});
    let (merge, row, keap) = merge_with(
        Policy::Manual,
        &json!({"addresses": [slot("BILLING", "1"), slot("SHIPPING", "1"), slot("OTHER", "1")]}),
        &json!({"addresses": [slot("BILLING", "2"), slot("SHIPPING", "1"), slot("OTHER", "k")]}),
        &json!({"addresses": [slot("BILLING", "1"), slot("OTHER", "s")]}),
        (1, 2),
    );
    assert_eq!(merge.conflicts.len(), 1);
    assert_eq!(merge.conflicts[0].path, "addresses.OTHER");
    assert_eq!(row.get_by_name("addresses"), &json!([slot("BILLING", "2"), slot("OTHER", "s")]));
    assert_eq!(keap.get_by_name("addresses"), &json!([slot("BILLING", "2"), slot("OTHER", "k")]));
    assert_eq!(
        merge.base_after(&keap).get_by_name("addresses"),
        &json!([slot("BILLING", "2"), slot("OTHER", "1"), slot("SHIPPING", "1")])
    );
}

#[test]
fn an_edit_that_keap_does_not_take_is_reported_and_undone() {
    let (merge, row, keap) = merge_with(
        Policy::SupabaseWins,
        &json!({"company": "Acme"}),
        &json!({"company": "Acme"}),
        &json!({"company": "Mine"}),
        (1, 2),
    );
    assert_eq!(row.get_by_name("company"), "Acme");
    assert_eq!(keap.get_by_name("company"), "Acme");
    assert_eq!(merge.refused.len(), 1);
    assert_eq!(merge.refused[0].value, "Mine");
}

#[test]
fn records_that_never_met_complete_each_other() {
    let (merge, row, keap) = merge_with(
        Policy::NewestWins,
        &json!({}),
        &json!({"first_name": "Ann", "email": "a@x.io"}),
        &json!({"last_name": "Lee", "email": "a@x.io"}),
        (1, 2),
    );
    assert!(merge.conflicts.is_empty());
    for side in [row, keap] {
        assert_eq!(side.get_by_name("first_name"), "Ann");
        assert_eq!(side.get_by_name("last_name"), "Lee");
    }
}

/// Few values, so that equal ones, and values that differ in form only, meet often.
fn any_text() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![json!(null), json!(""), json!("a"), json!(" a "), json!("b"), json!("c")])
}

fn any_slots(key: &'static str) -> impl Strategy<Value = Value> {
    prop::collection::btree_map(prop::sample::select(vec!["S1", "S2", "S3"]), any_text(), 0..3).prop_map(
        move |slots| slots.into_iter().map(|(name, value)| json!({"field": name, key: value})).collect(),
    )
}

prop_compose! {
    fn any_contact()(
        first in any_text(),
        email in prop::sample::select(vec![json!(null), json!("a@x.io"), json!("a@X.io"), json!("b@x.io")]),
        phone in prop::sample::select(vec![json!(null), json!("480 1"), json!("4801"), json!("4802")]),
        company in any_text(),
        tags in prop::collection::btree_set(prop::sample::select(vec!["1", "2", "3"]), 0..3),
        addresses in any_slots("line1"),
        phones in any_slots("number"),
        custom in prop::collection::btree_map(prop::sample::select(vec!["7", "8"]), any_text(), 0..2),
    ) -> Record {
        contact(&json!({
            "first_name": first, "email": email, "phone": phone, "company": company, "tags": tags,
            "addresses": addresses, "phones": phones, "custom_fields": custom,
        }))
    }
}

fn any_policy() -> impl Strategy<Value = Policy> {
    prop::sample::select(vec![Policy::NewestWins, Policy::KeapWins, Policy::SupabaseWins, Policy::Manual])
}

fn all_same(left: &Record, right: &Record) -> bool {
    fields(CONTACT)
        .iter()
        .enumerate()
        .all(|(position, field)| same(field.kind, left.get(position), right.get(position)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Both sides end equal but for what a person has to decide, and merging again finds nothing new to do.
    #[test]
    fn merging_converges(
        base in any_contact(), keap in any_contact(), supabase in any_contact(),
        policy in any_policy(), times in (0_i64..3, 0_i64..3),
    ) {
        let policies = Policies { default: policy, ..Policies::default() };
        let sides = Sides {
            base: &base, keap: &keap, supabase: &supabase,
            keap_changed_at: Some(Timestamp(times.0)), supabase_changed_at: Some(Timestamp(times.1)),
        };
        let merge = reconcile(&sides, &policies);
        let row = merge.row_after(&supabase);
        let keap_after = merge.keap_after(&keap);
        let open: Vec<&str> = merge.conflicts.iter().filter(|conflict| conflict.winner.is_none())
            .map(|conflict| conflict.path.split('.').next().unwrap()).collect();
        for (at, field) in fields(CONTACT).iter().enumerate() {
            if !open.contains(&field.name) {
                prop_assert!(same(field.kind, row.get(at), keap_after.get(at)), "{} differs", field.name);
            }
        }
        prop_assert!(policy == Policy::Manual || open.is_empty());

        // What Keap holds after our write is the new base, but for what is kept open.
        let base_after = with_values(&keap_after, &merge.base_kept);
        let again = reconcile(&Sides { base: &base_after, keap: &keap_after, supabase: &row, ..sides }, &policies);
        prop_assert!(again.to_keap.is_empty() && again.to_supabase.is_empty(), "{again:?}");
        let paths = |merge: &Merge| merge.conflicts.iter().filter(|c| c.winner.is_none()).map(|c| c.path.clone()).collect::<Vec<_>>();
        prop_assert_eq!(paths(&again), paths(&merge));
    }

    /// Before our write to Keap has landed, merging again asks for the same write and changes nothing else.
    #[test]
    fn an_unfinished_write_is_asked_for_again(base in any_contact(), keap in any_contact(), supabase in any_contact()) {
        let policies = Policies::default();
        let sides = Sides { base: &base, keap: &keap, supabase: &supabase, keap_changed_at: None, supabase_changed_at: Some(Timestamp(1)) };
        let merge = reconcile(&sides, &policies);
        let row = merge.row_after(&supabase);
        let base_after = merge.base_after(&keap);
        let again = reconcile(&Sides { base: &base_after, keap: &keap, supabase: &row, ..sides }, &policies);
        prop_assert!(again.to_supabase.is_empty());
        prop_assert!(again.conflicts.is_empty());
        let positions = |merge: &Merge| merge.to_keap.iter().map(|change| change.position).collect::<Vec<_>>();
        prop_assert_eq!(positions(&again), positions(&merge));
    }

    /// Every value that somebody entered since the base ends on both sides, or is named as a conflict or a refused edit.
    #[test]
    fn no_edit_is_lost(base in any_contact(), keap in any_contact(), supabase in any_contact(), policy in any_policy()) {
        let policies = Policies { default: policy, ..Policies::default() };
        let sides = Sides { base: &base, keap: &keap, supabase: &supabase, keap_changed_at: None, supabase_changed_at: None };
        let merge = reconcile(&sides, &policies);
        let row = merge.row_after(&supabase);
        for name in ["first_name", "email", "phone", "company"] {
            let at = position(CONTACT, name).unwrap();
            let kind = fields(CONTACT)[at].kind;
            for (side, value) in [("keap", keap.get(at)), ("supabase", supabase.get(at))] {
                if !same(kind, value, base.get(at)) && !same(kind, row.get(at), value) {
                    let named = merge.conflicts.iter().any(|c| c.path == name && (&c.keap == value || &c.supabase == value))
                        || merge.refused.iter().any(|refused| refused.field == name && &refused.value == value);
                    prop_assert!(named, "{side}'s {name} {value} vanished");
                }
            }
        }
    }

    /// The base can always be rebuilt from the row and the delta kept beside it.
    #[test]
    fn the_base_is_rebuilt_from_row_and_delta(base in any_contact(), row in any_contact()) {
        prop_assert!(all_same(&row.overlaid(&base_delta(&base, &row)), &base));
    }

    /// A side that did not change never wins over one that did.
    #[test]
    fn an_unchanged_side_never_wins(base in any_contact(), changed in any_contact(), policy in any_policy()) {
        let policies = Policies { default: policy, ..Policies::default() };
        let inbound = reconcile(&Sides { base: &base, keap: &changed, supabase: &base, keap_changed_at: None, supabase_changed_at: None }, &policies);
        prop_assert!(inbound.to_keap.is_empty() && inbound.conflicts.is_empty());
        prop_assert!(all_same(&inbound.row_after(&base), &changed));
        let outbound = reconcile(&Sides { base: &base, keap: &base, supabase: &changed, keap_changed_at: None, supabase_changed_at: None }, &policies);
        prop_assert!(outbound.conflicts.is_empty());
        prop_assert!(outbound.to_supabase.iter().all(|change| fields(CONTACT)[change.position].access != WriteAccess::Writable));
    }
}
