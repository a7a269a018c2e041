use crate::guard::Allowance;
use crate::inbound::{Expected, Origin, Told, apply_within};
use crate::ports::WriteSource;
use crate::ports::proof::{PlannedAction, PlannedSide};
use crate::tests::{APPROVED, Stage, emails, on_stage, run_of};
use keapsync_domain::certificate::DifferenceReason;
use keapsync_domain::ids::EntityType;
use keapsync_domain::run::{Counts, Cursor, RunKind};
use keapsync_domain::settings::BlastGuard;
use keapsync_domain::wire::{UnitMode, UnitReport};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashSet};

const GUARDED: UnitMode = UnitMode::Guarded;

fn contact(name: &str) -> Value {
    json!({"given_name": name, "email_addresses": emails("a@x.io")})
}

fn full(stage: &Stage<'_>, mode: UnitMode) -> UnitReport {
    let report = run_of(stage, RunKind::Full, mode, Cursor::default(), 1_000);
    assert_eq!(report.failure, None);
    report
}

fn live(stage: &Stage<'_>) -> usize {
    stage.mirror.rows.borrow().values().filter(|entry| entry.row.deleted_at.is_none()).count()
}

#[test]
fn a_full_run_deletes_what_keap_has_lost() {
    on_stage(|stage| {
        let (lost, row) = stage.linked(&contact("Ann"));
        stage.linked(&contact("Bob"));
        stage.keap.contacts.borrow_mut().remove(&lost);
        let report = full(stage, GUARDED);
        assert!(report.finished && !report.held);
        assert_eq!((report.counts.deleted, report.counts.destroyed, live(stage)), (1, 1, 1));
        assert!(stage.mirror.rows.borrow()[&row].row.deleted_at.is_some());
        assert_eq!(full(stage, GUARDED).counts.deleted, 0);
    });
}

#[test]
fn a_first_load_looks_nothing_up_and_meets_what_is_there_all_the_same() {
    on_stage(|stage| {
        for name in ["Ann", "Bob", "Cid"] {
            stage.keap.add(&contact(name));
        }
        assert_eq!(full(stage, GUARDED).counts.created, 3);
        assert_eq!(stage.mirror.looked_up.get(), 0);
        let (edited, row) = stage.linked(&contact("Dan"));
        stage.mirror.edit(&row, "job_title", &json!("Baker"));
        stage.keap.edit(edited, &json!({"family_name": "Lee"}));
        let unseen = stage.keap.add(&contact("Eve"));
        let made = stage.mirror.insert(&json!({"first_name": "Fay", "email": "f@x.io"}));
        let named =
            stage.keap.add(&json!({"given_name": "Fay", "custom_fields": [{"id": "77", "content": made}]}));
        let (applied, _) = stage.linked(&contact("Gil"));
        stage.mirror.looked_up.set(0);
        let but = HashSet::from([applied.to_string()]);
        let counts = apply_expected(stage, Expected::New { but: &but }, &[edited, unseen, named, applied]);
        assert_eq!((counts.created, counts.updated, counts.unchanged), (1, 2, 1), "{counts:?}");
        // First those that name their row or were applied before, then the one that was there after all.
        assert_eq!(stage.mirror.looked_up.get(), 3);
        assert_eq!(stage.row_value(edited, "job_title"), "Baker", "an edit that waits was lost");
        assert_eq!(stage.row_value(edited, "last_name"), "Lee");
        assert_eq!(stage.mirror.linked(named).row.id, made, "a second row was made");
        assert_eq!(live(stage), 7);
    });
}

/// Applies what Keap has of these contacts, as a page of which something is expected.
fn apply_expected(stage: &Stage<'_>, expected: Expected<'_>, ids: &[u64]) -> Counts {
    let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
    let applied = stage.in_world(async |world| {
        let page = world.keap.list_ids(EntityType::Contact, &ids, stage.clock.tick()).await.unwrap();
        let origin = Origin { source: WriteSource::FullSync, run_id: None, told: Told::default() };
        let allowance = Allowance::unlimited();
        apply_within(world, EntityType::Contact, &origin, &allowance, expected, page.records, Vec::new())
            .await
    });
    let applied = applied.unwrap();
    assert!(applied.unsettled.is_empty() && !applied.held, "{applied:?}");
    applied.counts
}

#[test]
fn the_guard_stops_a_run_before_it_deletes_and_a_plan_says_what_it_would_do() {
    on_stage(|stage| {
        stage.settings.blast_guard = BlastGuard { records_max: 3, percent_max: 0 };
        for number in 0..6 {
            stage.linked(&contact(&format!("n{number}")));
        }
        let kept: Vec<u64> = stage.keap.contacts.borrow().keys().copied().take(2).collect();
        stage.keap.contacts.borrow_mut().retain(|id, _| kept.contains(id));
        let report = full(stage, GUARDED);
        assert!(report.held && !report.finished);
        assert_eq!((report.counts.deleted, live(stage)), (0, 6), "something was deleted");
        let plan = run_of(stage, RunKind::Full, UnitMode::Plan, report.cursor.clone(), 1_000);
        assert!(plan.finished && plan.counts.destroyed == 4, "{plan:?}");
        assert_eq!((live(stage), stage.mirror.planned.borrow().len()), (6, 4));
        assert!(stage.mirror.planned.borrow().iter().all(|change| change.action == PlannedAction::Delete));
        let report = run_of(stage, RunKind::Full, APPROVED, report.cursor, 1_000);
        assert!(report.finished && report.counts.deleted == 4, "{report:?}");
        assert_eq!(live(stage), 2);
    });
}

#[test]
fn the_guard_stops_a_run_before_it_overwrites_and_lets_additions_through() {
    on_stage(|stage| {
        stage.settings.blast_guard = BlastGuard { records_max: 2, percent_max: 0 };
        let ids: Vec<u64> = (0..5).map(|number| stage.linked(&contact(&format!("n{number}"))).0).collect();
        for id in &ids {
            stage.keap.edit(*id, &json!({"family_name": "Lee"}));
        }
        assert!(full(stage, GUARDED).finished, "what is only added destroys nothing");
        for id in &ids {
            stage.keap.edit(*id, &json!({"family_name": "Leigh"}));
        }
        let report = full(stage, GUARDED);
        assert!(report.held && report.counts.updated == 0, "{report:?}");
        assert_eq!(stage.row_value(ids[0], "last_name"), "Lee");
        assert!(full(stage, APPROVED).finished);
        assert_eq!(stage.row_value(ids[0], "last_name"), "Leigh");
    });
}

#[test]
fn a_comparison_names_what_differs_and_says_equal_when_nothing_does() {
    on_stage(|stage| {
        let (edited, _) = stage.linked(&contact("Ann"));
        let (lost, _) = stage.linked(&contact("Bob"));
        let (_, waiting) = stage.linked(&contact("Cid"));
        let verify = |stage: &Stage<'_>| {
            let report = run_of(stage, RunKind::Verify, APPROVED, Cursor::default(), 1_000);
            assert!(report.finished && report.failure.is_none(), "{report:?}");
            stage.mirror.certificates.borrow().last().cloned().unwrap()
        };
        let before = (stage.mirror.writes.get(), stage.keap.writes.get());
        let certificate = verify(stage);
        assert!(certificate.equal && certificate.keap_count == 3, "{certificate:?}");
        assert_eq!(certificate.keap_tree_hash, certificate.supabase_tree_hash);
        stage.keap.edit(edited, &json!({"given_name": "Anna"}));
        stage.keap.contacts.borrow_mut().remove(&lost);
        stage.mirror.edit(&waiting, "first_name", &json!("Sid"));
        let unseen = stage.keap.add(&contact("Dan"));
        let made = stage.mirror.insert(&json!({"first_name": "Eve", "email": "e@x.io"}));
        let certificate = verify(stage);
        assert_eq!(
            (stage.mirror.writes.get(), stage.keap.writes.get()),
            before,
            "a comparison wrote something"
        );
        assert!(!certificate.equal && certificate.differing_count == 5, "{certificate:?}");
        let reason_of = |keap_id: Option<u64>, row: Option<&str>| {
            let found = certificate.differences.iter().find(|difference| match keap_id {
                Some(id) => difference.keap_id == Some(id.to_string()),
                None => difference.entity_id.as_deref() == row,
            });
            found.map(|difference| (difference.reason, difference.fields.join(",")))
        };
        let first_name = "first_name".to_owned();
        assert_eq!(reason_of(Some(edited), None), Some((DifferenceReason::Differs, first_name.clone())));
        assert_eq!(reason_of(Some(lost), None), Some((DifferenceReason::MissingInKeap, String::new())));
        assert_eq!(reason_of(Some(unseen), None), Some((DifferenceReason::MissingInSupabase, String::new())));
        assert_eq!(reason_of(None, Some(&waiting)), Some((DifferenceReason::Waiting, first_name)));
        assert_eq!(reason_of(None, Some(&made)), Some((DifferenceReason::Waiting, String::new())));
        full(stage, APPROVED);
        stage.drain();
        assert!(verify(stage).equal);
    });
}

/// What a person would see of both sides: contacts by Keap's id, rows by theirs, the deleted ones without fields.
type Sides = (BTreeMap<u64, Map<String, Value>>, BTreeMap<String, Option<Map<String, Value>>>);

fn sides(stage: &Stage<'_>) -> Sides {
    let rows = stage.mirror.rows.borrow();
    let shown = rows.values().map(|entry| {
        let fields = entry.row.deleted_at.is_none().then(|| entry.row.record.to_object());
        (entry.row.id.clone(), fields)
    });
    let contacts = stage.keap.contacts.borrow();
    let contacts = contacts.iter().map(|(id, contact)| {
        let mut contact = contact.clone();
        contact.remove("update_time");
        (*id, contact)
    });
    (contacts.collect(), shown.collect())
}

/// A change, as `side action record`.
fn seen(side: PlannedSide, action: PlannedAction, record: &str) -> String {
    format!("{} {} {record}", side.as_str(), action.as_str())
}

fn changes_between(before: &Sides, after: &Sides, stage: &Stage<'_>) -> Vec<String> {
    let mut changes = Vec::new();
    let rows = stage.mirror.rows.borrow();
    let row_of = |id: u64| {
        let found = rows.values().find(|entry| entry.row.keap_id == Some(id.to_string()));
        found.map_or_else(|| id.to_string(), |entry| entry.row.id.clone())
    };
    for (id, contact) in &after.0 {
        match before.0.get(id) {
            None => changes.push(seen(PlannedSide::Keap, PlannedAction::Create, &row_of(*id))),
            Some(known) if known != contact => {
                changes.push(seen(PlannedSide::Keap, PlannedAction::Update, &id.to_string()));
            }
            Some(_) => {}
        }
    }
    for id in before.0.keys().filter(|id| !after.0.contains_key(id)) {
        changes.push(seen(PlannedSide::Keap, PlannedAction::Delete, &id.to_string()));
    }
    for (id, row) in &after.1 {
        let keap_id = rows[id].row.keap_id.clone().unwrap_or_else(|| id.clone());
        let action = match (before.1.get(id), row) {
            (None, _) => PlannedAction::Create,
            (Some(Some(_)), None) => PlannedAction::Delete,
            (Some(None), Some(_)) => PlannedAction::Undelete,
            (Some(Some(known)), Some(row)) if known != row => PlannedAction::Update,
            (Some(_), _) => continue,
        };
        changes.push(seen(PlannedSide::Supabase, action, &keap_id));
    }
    changes.sort();
    changes
}

/// One edit of a random state that no sync has seen yet.
#[derive(Clone, Debug)]
enum Edit {
    Here(usize, usize, u8),
    There(usize, usize, u8),
    DeleteHere(usize),
    DeleteThere(usize),
    Insert(u8),
    Add(u8),
}

fn any_edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => (0..6_usize, 0..3_usize, 0..4_u8).prop_map(|(row, field, value)| Edit::Here(row, field, value)),
        4 => (0..6_usize, 0..3_usize, 0..4_u8).prop_map(|(row, field, value)| Edit::There(row, field, value)),
        1 => (0..6_usize).prop_map(Edit::DeleteHere),
        1 => (0..6_usize).prop_map(Edit::DeleteThere),
        1 => (0..4_u8).prop_map(Edit::Insert),
        1 => (0..4_u8).prop_map(Edit::Add),
    ]
}

const FIELDS: [(&str, &str); 3] =
    [("first_name", "given_name"), ("last_name", "family_name"), ("job_title", "job_title")];

fn make(stage: &Stage<'_>, edit: &Edit) {
    let row = |position: usize| {
        let rows: Vec<String> = stage.mirror.rows.borrow().keys().cloned().collect();
        rows[position % rows.len()].clone()
    };
    let contact_id = |position: usize| {
        let ids: Vec<u64> = stage.keap.contacts.borrow().keys().copied().collect();
        (!ids.is_empty()).then(|| ids[position % ids.len()])
    };
    let value = |value: &u8| if *value == 0 { Value::Null } else { json!(format!("v{value}")) };
    match edit {
        Edit::Here(at, field, new) => {
            let id = row(*at);
            if stage.mirror.rows.borrow()[&id].row.deleted_at.is_none() {
                stage.mirror.edit(&id, FIELDS[*field].0, &value(new));
            }
        }
        Edit::There(at, field, new) => {
            if let Some(id) = contact_id(*at) {
                stage.keap.edit(id, &json!({FIELDS[*field].1: value(new)}));
            }
        }
        Edit::DeleteHere(at) => {
            let id = row(*at);
            if stage.mirror.rows.borrow()[&id].row.deleted_at.is_none() {
                stage.mirror.delete(&id);
            }
        }
        Edit::DeleteThere(at) => {
            if let Some(id) = contact_id(*at) {
                stage.keap.contacts.borrow_mut().remove(&id);
            }
        }
        Edit::Insert(name) => {
            stage.mirror.insert(&json!({"first_name": value(name), "email": "n@x.io"}));
        }
        Edit::Add(name) => {
            stage.keap.add(&json!({"given_name": value(name), "email_addresses": emails("k@x.io")}));
        }
    }
    stage.clock.advance_ms(2_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A dry run writes nothing, and its list is what the run then does to every record on both sides.
    #[test]
    fn a_dry_run_lists_what_the_run_then_does(
        edits in prop::collection::vec(any_edit(), 0..14),
        deletes_in_keap in any::<bool>(),
    ) {
        on_stage(|stage| {
            stage.settings.delete_in_keap = deletes_in_keap;
            for number in 0..5 {
                stage.linked(&contact(&format!("v{number}")));
            }
            for edit in &edits {
                make(stage, edit);
            }
            let before = sides(stage);
            let plan = full(stage, UnitMode::Plan);
            prop_assert!(plan.finished);
            prop_assert_eq!(&sides(stage), &before, "a dry run wrote something");
            full(stage, APPROVED);
            for _ in 0..3 {
                stage.clock.advance_ms(3_600_000);
                stage.drain();
            }
            let mut planned: Vec<String> = stage
                .mirror
                .planned
                .borrow()
                .iter()
                .filter(|change| change.action != PlannedAction::Conflict)
                .map(|change| {
                    let record = change.keap_id.clone().or_else(|| change.entity_id.clone()).unwrap();
                    seen(change.side, change.action, &record)
                })
                .collect();
            planned.sort();
            prop_assert_eq!(planned, changes_between(&before, &sides(stage), stage));
            Ok(())
        })?;
    }
}
