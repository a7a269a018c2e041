//! The blast guard over hooks and runs: what a flood of deletions may take, and what goes on beside it.

use super::{Stage, emails, on_stage, run_of};
use crate::inbound::{DeleteGate, Refetched, refetch_guarded};
use keapsync_domain::ids::EntityType;
use keapsync_domain::run::{Cursor, RunKind};
use keapsync_domain::settings::BlastGuard;
use keapsync_domain::wire::{Approval, UnitMode};
use serde_json::{Value, json};
use std::collections::HashSet;

const LIMIT: u64 = 5;

fn contacts(stage: &mut Stage<'_>, count: u64) -> Vec<u64> {
    stage.settings.blast_guard = BlastGuard { records_max: LIMIT, percent_max: 0 };
    let contact =
        |number: u64| json!({"given_name": "A", "email_addresses": emails(&format!("{number}@x.io"))});
    (0..count).map(|number| stage.linked(&contact(number)).0).collect()
}

fn live(stage: &Stage<'_>) -> usize {
    stage.mirror.rows.borrow().values().filter(|entry| entry.row.deleted_at.is_none()).count()
}

fn told(stage: &Stage<'_>, ids: &[u64], approved: &HashSet<String>, is_stopped: bool) -> Refetched {
    let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
    let gate = DeleteGate { approved, is_stopped };
    stage.in_world(async |world| refetch_guarded(world, EntityType::Contact, &ids, gate).await).unwrap()
}

fn remove(stage: &Stage<'_>, ids: &[u64]) {
    stage.keap.contacts.borrow_mut().retain(|id, _| !ids.contains(id));
}

#[test]
fn a_flood_of_delete_hooks_is_held_whole_and_what_it_comes_with_is_applied() {
    on_stage(|stage| {
        let ids = contacts(stage, 20);
        remove(stage, &ids[..10]);
        stage.keap.edit(ids[15], &json!({"given_name": "Edited"}));
        let none = HashSet::new();
        let refetched = told(stage, &ids, &none, false);
        assert_eq!((refetched.held.len(), refetched.settled.len(), refetched.failed.len()), (10, 10, 0));
        assert_eq!((live(stage), stage.row_value(ids[15], "first_name")), (20, Value::from("Edited")));
        // Approved are those that were shown, and only they.
        let approved = ids[..8].iter().map(u64::to_string).collect();
        let refetched = told(stage, &ids[..10], &approved, true);
        assert_eq!((refetched.held.len(), refetched.counts.deleted, live(stage)), (2, 8, 12));
    });
}

#[test]
fn single_delete_hooks_stop_at_the_limit_until_the_hour_is_over() {
    on_stage(|stage| {
        let ids = contacts(stage, 20);
        let none = HashSet::new();
        remove(stage, &ids[..12]);
        let held: usize = ids[..10].iter().map(|id| told(stage, &[*id], &none, false).held.len()).sum();
        assert_eq!((held, live(stage)), (5, 15));
        stage.clock.advance_ms(3_600_000);
        assert_eq!(told(stage, &ids[10..11], &none, true).held.len(), 1, "others wait already");
        assert_eq!(told(stage, &ids[10..11], &none, false).held.len(), 0);
    });
}

#[test]
fn a_delete_that_a_person_is_asked_about_needs_no_word_of_the_guard() {
    on_stage(|stage| {
        let ids = contacts(stage, 10);
        for id in &ids {
            let row = stage.mirror.linked(*id).row.id;
            stage.mirror.edit(&row, "first_name", &json!("Mine"));
        }
        remove(stage, &ids);
        let refetched = told(stage, &ids, &HashSet::new(), true);
        assert_eq!((refetched.held.len(), refetched.settled.len(), live(stage)), (0, 10, 10));
    });
}

/// A unit whose report is lost has destroyed all the same: the next ones have that much less to destroy.
#[test]
fn what_a_lost_unit_destroyed_counts() {
    on_stage(|stage| {
        let ids = contacts(stage, 30);
        let unit = |mode: UnitMode| run_of(stage, RunKind::Full, mode, Cursor::default(), 1_000);
        let mut destroyed = 0;
        for part in ids[..12].chunks(4) {
            remove(stage, part);
            // Its report never arrives.
            drop(unit(UnitMode::Guarded));
            destroyed = 30 - live(stage);
        }
        assert_eq!(destroyed, 4, "as many as one unit may, and no more by those after it");
        let approval = Approval { id: "a".to_owned(), records: 8 };
        let approved = UnitMode::Approved(approval);
        drop(unit(approved.clone()));
        remove(stage, &ids[12..20]);
        assert!(unit(approved).held, "the lost unit used the approval up");
        assert_eq!(live(stage), 18);
    });
}
