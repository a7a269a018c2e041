//! Records that Keap does not show for a while and then shows again as they were: access to them was lost.

use super::{Stage, emails, on_stage, run_full};
use crate::inbound::{DELETED_AT, Origin, Told, apply_delete};
use crate::ports::{RowState, WriteSource};
use keapsync_domain::failure::FailureClass;
use keapsync_domain::ids::EntityType;
use keapsync_domain::timestamp::Timestamp;
use serde_json::json;

fn ann(stage: &Stage<'_>) -> (u64, String) {
    stage.linked(&json!({"given_name": "Ann", "email_addresses": emails("a@x.io")}))
}

#[test]
fn a_record_that_comes_back_unchanged_brings_its_row_back() {
    for by_run in [false, true] {
        on_stage(|stage| {
            let (id, row) = ann(stage);
            let gone = stage.keap.contacts.borrow_mut().remove(&id).unwrap();
            stage.hook(&[id]);
            assert!(stage.mirror.linked(id).row.deleted_at.is_some());
            stage.keap.contacts.borrow_mut().insert(id, gone);
            if by_run {
                assert!(run_full(stage, 100).finished);
            } else {
                stage.hook(&[id]);
            }
            let back = stage.mirror.linked(id).row;
            assert_eq!((back.id, back.deleted_at), (row, None));
            stage.assert_silent(&[id]);
        });
    }
}

#[test]
fn a_record_that_is_played_back_from_before_its_last_change_brings_its_row_back() {
    on_stage(|stage| {
        let (id, _) = ann(stage);
        let old = stage.keap.contacts.borrow().get(&id).cloned().unwrap();
        stage.keap.edit(id, &json!({"given_name": "Anna"}));
        stage.hook(&[id]);
        stage.keap.contacts.borrow_mut().remove(&id);
        stage.hook(&[id]);
        stage.keap.contacts.borrow_mut().insert(id, old);
        stage.hook(&[id]);
        assert_eq!(stage.mirror.linked(id).row.deleted_at, None);
        assert_eq!(stage.row_value(id, "first_name"), "Ann");
        stage.assert_silent(&[id]);
    });
}

#[test]
fn an_edit_that_waited_while_its_record_was_away_is_carried_and_nobody_is_asked_any_more() {
    on_stage(|stage| {
        let (id, row) = ann(stage);
        stage.mirror.edit(&row, "first_name", &json!("Anna"));
        let gone = stage.keap.contacts.borrow_mut().remove(&id).unwrap();
        stage.hook(&[id]);
        assert_eq!(stage.mirror.linked(id).state, RowState::Conflict);
        stage.keap.contacts.borrow_mut().insert(id, gone);
        stage.hook(&[id]);
        let met = stage.mirror.linked(id);
        assert!(!met.row.lost_in_keap, "nothing is left to decide");
        assert_eq!(met.state, RowState::Pending);
        let settled = stage.mirror.conflicts.borrow().last().cloned().unwrap();
        assert_eq!((settled.1.as_str(), settled.2), (DELETED_AT, Some("supabase")));
        stage.drain();
        assert_eq!(stage.keap.value(id, "given_name"), "Anna");
        stage.assert_silent(&[id]);
    });
}

#[test]
fn a_late_answer_that_a_record_is_gone_is_no_end_of_it() {
    on_stage(|stage| {
        let (id, _) = ann(stage);
        let origin = Origin { source: WriteSource::Hook, run_id: None, told: Told::default() };
        let told = |observed_at: Timestamp| {
            let (id, origin) = (id.to_string(), &origin);
            stage.in_world(async |world| {
                apply_delete(world, EntityType::Contact, origin, &id, observed_at).await
            })
        };
        let before = Timestamp(stage.clock.tick().0 - 1_000_000);
        let failure = told(before).unwrap_err();
        assert_eq!(failure.class, FailureClass::Conflict, "whoever asked asks again");
        assert_eq!(stage.mirror.linked(id).row.deleted_at, None);
        assert_eq!(told(stage.clock.tick()), Ok(true));
        assert_eq!(told(before), Ok(false), "what is known already needs no second look");
    });
}

#[test]
fn an_edit_before_a_delete_on_both_sides_is_carried_when_the_record_comes_back() {
    on_stage(|stage| {
        let (id, row) = ann(stage);
        stage.mirror.edit(&row, "first_name", &json!("Anna"));
        stage.mirror.delete(&row);
        let gone = stage.keap.contacts.borrow_mut().remove(&id).unwrap();
        stage.hook(&[id]);
        stage.keap.contacts.borrow_mut().insert(id, gone);
        stage.hook(&[id]);
        assert_eq!(stage.row_value(id, "first_name"), "Anna");
        stage.drain();
        assert_eq!(stage.keap.value(id, "given_name"), "Anna");
        stage.assert_silent(&[id]);
    });
}

#[test]
fn a_row_that_lost_its_record_and_is_deleted_then_is_deleted_on_both_sides() {
    on_stage(|stage| {
        let (id, row) = ann(stage);
        stage.mirror.edit(&row, "first_name", &json!("Anna"));
        stage.keap.contacts.borrow_mut().remove(&id);
        stage.drain();
        assert!(stage.mirror.linked(id).row.lost_in_keap);
        stage.mirror.delete(&row);
        stage.drain();
        let after = stage.mirror.linked(id);
        assert!(!after.row.lost_in_keap && !after.row.base_delta.contains_key(DELETED_AT), "nobody is asked");
        assert_eq!(after.state, RowState::Completed);
    });
}
