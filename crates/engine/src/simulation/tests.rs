//! The simulator proves the engine, and known-bad engines prove the simulator.

use super::story::{Action, Deed, Doing, Fault, HookFault, Line, Setting, Story};
use super::{Invariant, Mutation, replay, shrunk, simulate};
use keapsync_domain::ids::EntityType;
use keapsync_domain::merge::Side;
use keapsync_domain::policy::Policies;

#[test]
fn some_hundred_histories_break_nothing() {
    for seed in 0..300 {
        let history = simulate(seed, Mutation::None);
        if let Some(violation) = history.violation {
            panic!("seed {seed} breaks {violation}. Replay: cargo xtask simulate --seed {seed}");
        }
    }
}

#[test]
fn a_seed_is_one_history() {
    for seed in 0..20 {
        let (first, second) = (simulate(seed, Mutation::None), simulate(seed, Mutation::None));
        assert_eq!((first.hash, first.operations), (second.hash, second.operations), "seed {seed}");
    }
    assert_ne!(simulate(1, Mutation::None).hash, simulate(2, Mutation::None).hash);
}

/// The first seed, of a thousand, under which a known-bad engine breaks something.
fn caught(mutation: Mutation) -> (u64, Invariant) {
    (0..1_000)
        .find_map(|seed| Some((seed, simulate(seed, mutation).violation?.invariant)))
        .unwrap_or_else(|| panic!("{mutation:?} is not caught within 1000 seeds"))
}

#[test]
fn every_known_bad_engine_is_caught() {
    for mutation in Mutation::ALL {
        let (seed, _) = caught(mutation);
        assert!(
            simulate(seed, Mutation::None).violation.is_none(),
            "seed {seed} tells nothing of {mutation:?}"
        );
    }
}

#[test]
fn a_failing_story_is_shrunk_and_still_fails() {
    let (seed, invariant) = caught(Mutation::LastWriterWins);
    let found = shrunk(seed, Mutation::LastWriterWins).expect("it fails");
    assert!(found.story.lines.len() < Story::of_seed(seed).lines.len());
    let again = replay(found.schedule, &found.story, Mutation::LastWriterWins, false);
    assert_eq!(again.violation.map(|violation| violation.invariant), Some(invariant));
    assert_eq!(again.hash, found.history.hash);
}

const CONTACT: EntityType = EntityType::Contact;

fn in_keap(doing: Doing, entity: EntityType) -> Action {
    Action::Person(Deed { side: Side::Keap, entity, record: 0, doing })
}

fn in_supabase(doing: Doing, entity: EntityType) -> Action {
    Action::Person(Deed { side: Side::Supabase, entity, record: 0, doing })
}

fn calm() -> Setting {
    Setting {
        policies: Policies::default(),
        delete_in_keap: false,
        contacts: 1,
        orders: 0,
        subscriptions: 0,
        page_size: 1_000,
        has_hooks: true,
        time_grain_ms: 1_000,
        tags_move_time: true,
        keap_skew_ms: 0,
        postgres_skew_ms: 0,
        unit_skew_ms: 0,
        calls: (25, 600),
        calls_per_day: 50_000,
    }
}

/// Plays a story under many schedules.
fn holds(setting: &Setting, lines: &[(i64, Action)]) {
    let lines: Vec<Line> =
        lines.iter().map(|(at_ms, action)| Line { at_ms: *at_ms, action: *action }).collect();
    let story = Story { setting: setting.clone(), lines };
    for schedule in 0..150 {
        let violation = replay(schedule, &story, Mutation::None, false).violation;
        assert_eq!(violation, None, "schedule {schedule} of\n{story}");
    }
}

#[test]
fn an_edit_of_a_row_that_came_back_after_its_contact_was_deleted_is_kept() {
    let lines = [
        (0, in_keap(Doing::Delete, CONTACT)),
        (20_000, in_supabase(Doing::Undelete, CONTACT)),
        (20_150, in_supabase(Doing::Edit { cell: 8, value: 1_900 }, CONTACT)),
    ];
    holds(&calm(), &lines);
}

#[test]
fn an_edit_before_a_delete_that_keap_undoes_is_carried() {
    let lines = [
        (0, in_keap(Doing::Edit { cell: 3, value: 1_460 }, CONTACT)),
        (10, in_supabase(Doing::Edit { cell: 7, value: 1_540 }, CONTACT)),
        (20, in_supabase(Doing::Delete, CONTACT)),
    ];
    holds(&calm(), &lines);
    let late = [
        (0, in_supabase(Doing::Edit { cell: 0, value: 1_240 }, CONTACT)),
        (4_000, in_supabase(Doing::Delete, CONTACT)),
        (9_000, in_keap(Doing::Edit { cell: 4, value: 1_480 }, CONTACT)),
    ];
    holds(&calm(), &late);
}

#[test]
fn what_changes_in_keap_while_it_is_written_is_carried_again() {
    let lines = [
        (0, in_supabase(Doing::Toggle { bit: 1 }, CONTACT)),
        (10, in_supabase(Doing::Edit { cell: 5, value: 1_100 }, CONTACT)),
        (700, in_keap(Doing::Toggle { bit: 1 }, CONTACT)),
        (900, in_keap(Doing::Toggle { bit: 1 }, CONTACT)),
        (950, Action::Fault(Fault::Hooks { fault: HookFault::Delayed(2_000), times: 2 })),
    ];
    holds(&calm(), &lines);
}

#[test]
fn a_tag_or_a_subscription_made_here_is_one_row_whoever_tells_of_it_first() {
    for entity in [EntityType::Tag, EntityType::Subscription] {
        holds(&calm(), &[(0, in_supabase(Doing::Make { value: 1_320 }, entity))]);
    }
}

#[test]
fn a_line_is_made_once_wherever_it_stands_in_the_row() {
    let setting = Setting { orders: 1, ..calm() };
    let order = EntityType::Order;
    let lines = [
        (0, in_supabase(Doing::AddLine { value: 1_140 }, order)),
        (20, in_supabase(Doing::AddLine { value: 1_160 }, order)),
        (40, in_supabase(Doing::RemoveLine { line: 0 }, order)),
    ];
    holds(&setting, &lines);
}

#[test]
fn a_record_that_the_mirror_cannot_store_delays_nobody_else() {
    let setting = Setting { contacts: 2, ..calm() };
    let other =
        Deed { side: Side::Keap, entity: CONTACT, record: 1, doing: Doing::Edit { cell: 0, value: 1_100 } };
    let lines = [
        (0, in_keap(Doing::Edit { cell: 0, value: 1_075 }, CONTACT)),
        (10, Action::Person(other)),
        (20, in_supabase(Doing::Edit { cell: 1, value: 1_200 }, CONTACT)),
    ];
    holds(&setting, &lines);
}
