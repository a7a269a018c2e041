//! What the live feed is told of passes over both sides.

use super::{Stage, emails, now, on_stage};
use crate::inbound::refetch;
use crate::outbox::drain;
use crate::watched::Watched;
use crate::world::World;
use keapsync_domain::failure::FailureClass;
use keapsync_domain::feed::{ChangedRecord, FeedEvent, RecordChange};
use keapsync_domain::ids::EntityType;
use keapsync_domain::policy::Policy;
use keapsync_domain::run::Direction;
use keapsync_keap::caller::Caller;
use keapsync_keap::records::{Links, RecordsApi};
use serde_json::json;

/// A hook names these contacts, or (none) the outbox is drained; what is told of it.
fn told(stage: &Stage<'_>, ids: &[u64]) -> Vec<FeedEvent> {
    let caller = Caller { transport: stage.keap, base_url: "http://keap", access_token: &stage.secret };
    let api = RecordsApi::new(caller, Links::of(&stage.link_fields));
    let store = Watched::new(stage.mirror);
    let world = World {
        keap: &api,
        store: &store,
        clock: stage.clock,
        account: &stage.account,
        settings: &stage.settings,
        entropy: 0,
    };
    if ids.is_empty() {
        now(drain(&world, "test")).unwrap();
    } else {
        let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
        now(refetch(&world, EntityType::Contact, &ids)).unwrap();
    }
    let events = store.take_events();
    assert!(store.take_events().is_empty(), "an event was told twice");
    let text = serde_json::to_string(&events).unwrap();
    for value in ["Ann", "Lee", "x.io"] {
        assert!(!text.contains(value), "a value was told: {text}");
    }
    events
}

/// The one thing that was told, as `direction change count id fields`.
fn only(events: &[FeedEvent]) -> String {
    match events {
        [FeedEvent::RecordsApplied { entity: EntityType::Contact, direction, change, count, records }] => {
            let name = |record: &ChangedRecord| {
                let id = record.keap_id.clone().unwrap_or_default();
                std::iter::once(id).chain(record.fields.iter().cloned()).collect::<Vec<String>>().join(" ")
            };
            let names: Vec<String> = records.iter().map(name).collect();
            format!("{direction:?} {change:?} {count}: {}", names.join(", "))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_keap_changed_is_told_once_and_by_name_only() {
    on_stage(|stage| {
        let one = stage.keap.add(&json!({"given_name": "Ann", "email_addresses": emails("a@x.io")}));
        let two = stage.keap.add(&json!({"given_name": "Ann Lee"}));
        assert_eq!(only(&told(stage, &[one, two])), format!("KeapToSupabase Created 2: {one}, {two}"));
        assert_eq!(told(stage, &[one, two]), [], "an echo is told");
        stage.keap.edit(one, &json!({"family_name": "Lee"}));
        assert_eq!(only(&told(stage, &[one])), format!("KeapToSupabase Updated 1: {one} last_name"));
        stage.keap.contacts.borrow_mut().remove(&two);
        assert_eq!(only(&told(stage, &[two])), format!("KeapToSupabase Deleted 1: {two}"));
    });
}

#[test]
fn what_was_carried_to_keap_is_told_and_its_answer_is_not() {
    on_stage(|stage| {
        let (id, row) = stage.linked(&json!({"given_name": "Ann", "family_name": "Lee"}));
        stage.mirror.edit(&row, "first_name", &json!("Anna"));
        stage.mirror.edit(&row, "email", &json!("anna@x.io"));
        assert_eq!(only(&told(stage, &[])), format!("SupabaseToKeap Updated 1: {id} email first_name"));
        assert_eq!(told(stage, &[id]), []);
        let made = stage.mirror.insert(&json!({"first_name": "Ann", "email": "n@x.io"}));
        match told(stage, &[]).as_slice() {
            [FeedEvent::RecordsApplied { direction, change: RecordChange::Created, records, .. }] => {
                assert_eq!(*direction, Direction::SupabaseToKeap);
                assert_eq!(records[0].id.as_deref(), Some(made.as_str()));
                assert!(records[0].keap_id.is_some() && records[0].fields.is_empty(), "{records:?}");
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn conflicts_are_told_as_what_they_are() {
    on_stage(|stage| {
        for (policy, is_open) in [(Policy::Manual, true), (Policy::KeapWins, false)] {
            stage.settings.policies.default = policy;
            let (id, row) = stage.linked(&json!({"given_name": "Ann"}));
            stage.mirror.edit(&row, "first_name", &json!("Ann-Lee"));
            stage.keap.edit(id, &json!({"given_name": "Ann Lee"}));
            let events = told(stage, &[id]);
            let conflict = events.iter().find_map(|event| match event {
                FeedEvent::ConflictOpened(conflict) if is_open => Some(conflict),
                FeedEvent::ConflictSettled { winner, conflict } if !is_open && winner == "keap" => {
                    Some(conflict)
                }
                _ => None,
            });
            let conflict = conflict.unwrap_or_else(|| panic!("{policy:?}: {events:?}"));
            assert_eq!(conflict.record.fields, ["first_name"]);
            assert_eq!(conflict.record.keap_id, Some(id.to_string()));
            assert_eq!(conflict.record.id.as_deref(), Some(row.as_str()));
        }
    });
}

#[test]
fn an_edit_that_keap_refuses_is_told_as_a_dead_letter() {
    on_stage(|stage| {
        let (id, row) = stage.linked(&json!({"given_name": "Ann"}));
        stage.mirror.edit(&row, "first_name", &json!("Anna"));
        let mut events = Vec::new();
        for _ in 0..3 {
            assert_eq!(events, [], "told before it was given up");
            stage.keap.write_faults.borrow_mut().push(super::Fault::Status(418));
            events = told(stage, &[]);
            stage.clock.advance_ms(3_600_000);
        }
        let letter = events.iter().find_map(|event| match event {
            FeedEvent::DeadLetter { direction: Direction::SupabaseToKeap, record, error, .. } => {
                Some((record, error))
            }
            _ => None,
        });
        let (record, error) = letter.unwrap_or_else(|| panic!("{events:?}"));
        assert_eq!((record.keap_id.clone(), error.class), (Some(id.to_string()), FailureClass::Unexpected));
    });
}
