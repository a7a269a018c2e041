//! The engine against in-memory sides: each test is a short story with an ending that can be checked.

mod access_cases;
mod accounting_cases;
mod conflict_cases;
mod first_meeting_cases;
mod guard_cases;
mod stale_reading_cases;
mod tag_cases;
mod tenant_cases;
mod watched_cases;

use crate::fakes::FakeClock;
use crate::fakes::keap::{FakeKeap, Fault};
use crate::fakes::mirror::FakeMirror;
use crate::inbound::{DELETED_AT, Origin, Told, apply, refetch};
use crate::outbox::{DrainReport, drain};
use crate::paced::PacedTransport;
use crate::ports::{Clock as _, RowState, WriteSource};
use crate::unit::run_unit;
use crate::world::World;
use futures_util::FutureExt as _;
use keapsync_domain::application::KeapApplication;
use keapsync_domain::failure::FailureClass;
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_domain::policy::Policy;
use keapsync_domain::run::{Cursor, Direction, RunKind};
use keapsync_domain::secret::Secret;
use keapsync_domain::settings::AccountSettings;
use keapsync_domain::timestamp::Timestamp;
use keapsync_domain::wire::{Approval, KeapGrant, LinkField, LinkFields, UnitMode, UnitOrder, UnitReport};
use keapsync_keap::caller::Caller;
use keapsync_keap::records::{Links, RecordsApi};
use keapsync_keap::transport::Transport;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Both sides, and what is needed to run passes over them.
pub(crate) struct Stage<'a> {
    pub(crate) clock: &'a FakeClock,
    pub(crate) keap: &'a FakeKeap<'a>,
    pub(crate) mirror: &'a FakeMirror<'a>,
    pub(crate) settings: AccountSettings,
    account: AccountId,
    secret: Secret,
    link_fields: LinkFields,
}

pub(crate) fn on_stage<O>(story: impl FnOnce(&mut Stage<'_>) -> O) -> O {
    let clock = FakeClock::default();
    clock.advance_ms(1_000_000);
    let (keap, mirror) = (FakeKeap::new(&clock), FakeMirror::new(&clock));
    story(&mut Stage {
        clock: &clock,
        keap: &keap,
        mirror: &mirror,
        settings: AccountSettings::default(),
        account: AccountId::parse("demo").unwrap(),
        secret: Secret::new("token"),
        link_fields: LinkFields {
            contact: Some(LinkField { id: "77".to_owned(), field_name: "keapsyncrowid".to_owned() }),
            order: None,
        },
    })
}

/// Runs a future of the fakes, which never wait.
fn now<F: Future>(future: F) -> F::Output {
    future.now_or_never().expect("the fakes never wait")
}

impl Stage<'_> {
    pub(crate) fn in_world<O>(
        &self,
        pass: impl AsyncFnOnce(&World<'_, FakeKeap<'_>, FakeMirror<'_>, FakeClock>) -> O,
    ) -> O {
        let caller = Caller { transport: self.keap, base_url: "http://keap", access_token: &self.secret };
        let api = RecordsApi::new(caller, Links::of(&self.link_fields));
        let world = World {
            keap: &api,
            store: self.mirror,
            clock: self.clock,
            account: &self.account,
            settings: &self.settings,
            entropy: 0,
        };
        now(pass(&world))
    }

    /// A hook named these contacts.
    pub(crate) fn hook(&self, ids: &[u64]) {
        let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
        let refetched = self.in_world(async |world| refetch(world, EntityType::Contact, &ids).await.unwrap());
        assert!(refetched.failed.is_empty(), "{:?}", refetched.failed);
    }

    pub(crate) fn drain(&self) -> DrainReport {
        self.in_world(async |world| drain(world, "test").await.unwrap())
    }

    /// A contact that both sides know.
    pub(crate) fn linked(&self, fields: &Value) -> (u64, String) {
        let id = self.keap.add(fields);
        self.hook(&[id]);
        (id, self.mirror.linked(id).row.id)
    }

    pub(crate) fn row_value(&self, id: u64, name: &str) -> Value {
        self.mirror.linked(id).row.record.get_by_name(name).clone()
    }

    /// After quiescence nothing is written on either side.
    fn assert_silent(&self, ids: &[u64]) {
        let before = (self.keap.writes.get(), self.mirror.writes.get());
        self.hook(ids);
        self.drain();
        assert_eq!(
            (self.keap.writes.get(), self.mirror.writes.get()),
            before,
            "a quiet system wrote something"
        );
    }
}

pub(crate) fn emails(address: &str) -> Value {
    json!([{"field": "EMAIL1", "email": address}])
}

#[test]
fn a_hook_makes_a_row_and_its_repetition_does_nothing() {
    on_stage(|stage| {
        let (id, _) = stage.linked(&json!({"given_name": "Ann", "email_addresses": emails("a@x.io")}));
        assert_eq!(stage.row_value(id, "email"), "a@x.io");
        stage.assert_silent(&[id]);
    });
}

#[test]
fn an_edit_goes_to_keap_with_a_mask_of_what_changed_and_its_echo_is_silent() {
    on_stage(|stage| {
        let (id, row) = stage
            .linked(&json!({"given_name": "Ann", "family_name": "Lee", "email_addresses": emails("a@x.io")}));
        stage.mirror.edit(&row, "first_name", &json!("Anna"));
        stage.mirror.edit(&row, "email", &json!("anna@x.io"));
        assert_eq!(stage.drain().completed, 2);
        assert_eq!(*stage.keap.last_mask.borrow(), ["email_addresses", "given_name"]);
        assert_eq!(stage.keap.writes.get(), 1, "both edits of one record are one write");
        assert_eq!(stage.keap.value(id, "email_addresses")[0]["email"], "anna@x.io");
        assert_eq!(stage.mirror.linked(id).state, RowState::Completed);
        stage.assert_silent(&[id]);
    });
}

#[test]
fn edits_of_different_fields_on_both_sides_combine() {
    on_stage(|stage| {
        let (id, row) = stage.linked(&json!({"given_name": "Ann", "family_name": "Lee"}));
        stage.mirror.edit(&row, "first_name", &json!("Anna"));
        stage.keap.edit(id, &json!({"family_name": "Leigh"}));
        stage.hook(&[id]);
        stage.drain();
        for (field, property, value) in
            [("first_name", "given_name", "Anna"), ("last_name", "family_name", "Leigh")]
        {
            assert_eq!(stage.row_value(id, field), value);
            assert_eq!(stage.keap.value(id, property), value);
        }
        assert!(stage.mirror.conflicts.borrow().is_empty());
        stage.assert_silent(&[id]);
    });
}

#[test]
fn a_conflict_is_recorded_and_settled_whichever_pass_sees_it_first() {
    for hook_first in [true, false] {
        on_stage(|stage| {
            let (id, row) = stage.linked(&json!({"given_name": "Ann"}));
            stage.keap.edit(id, &json!({"given_name": "Keap"}));
            stage.mirror.edit(&row, "first_name", &json!("Supabase"));
            if hook_first {
                stage.hook(&[id]);
            }
            stage.drain();
            assert_eq!(stage.keap.value(id, "given_name"), "Supabase", "the later edit wins");
            assert_eq!(stage.row_value(id, "first_name"), "Supabase");
            assert_eq!(*stage.mirror.conflicts.borrow(), [(row, "first_name".to_owned(), Some("supabase"))]);
            stage.assert_silent(&[id]);
        });
    }
}

#[test]
fn a_manual_conflict_waits_for_a_person_and_is_not_recorded_as_a_new_one() {
    on_stage(|stage| {
        stage.settings.policies.default = Policy::Manual;
        let (id, row) = stage.linked(&json!({"given_name": "Ann", "family_name": "Lee"}));
        stage.keap.edit(id, &json!({"given_name": "Keap"}));
        stage.mirror.edit(&row, "first_name", &json!("Supabase"));
        stage.mirror.edit(&row, "last_name", &json!("Leigh"));
        stage.drain();
        assert_eq!(stage.keap.value(id, "given_name"), "Keap");
        assert_eq!(stage.keap.value(id, "family_name"), "Leigh", "other fields keep syncing");
        assert_eq!(stage.row_value(id, "first_name"), "Supabase");
        assert_eq!(stage.mirror.linked(id).state, RowState::Conflict);
        assert!(
            stage
                .mirror
                .conflicts
                .borrow()
                .iter()
                .all(|(_, field, winner)| field == "first_name" && winner.is_none())
        );
    });
}

#[test]
fn an_edit_between_read_and_write_is_not_lost() {
    on_stage(|stage| {
        let (id, row) = stage.linked(&json!({"given_name": "Ann", "family_name": "Lee"}));
        stage.keap.edit(id, &json!({"family_name": "Leigh"}));
        stage.mirror.before_write.borrow_mut().push((row, "first_name", json!("Anna")));
        stage.hook(&[id]);
        assert_eq!(stage.row_value(id, "first_name"), "Anna");
        assert_eq!(stage.row_value(id, "last_name"), "Leigh");
        stage.drain();
        assert_eq!(stage.keap.value(id, "given_name"), "Anna");
    });
}

#[test]
fn old_news_does_not_overwrite_newer_state() {
    on_stage(|stage| {
        let (id, row) = stage.linked(&json!({"given_name": "Ann"}));
        let old = stage.in_world(async |world| {
            world.keap.list_ids(EntityType::Contact, &[id.to_string()], stage.clock.now()).await.unwrap()
        });
        stage.mirror.edit(&row, "first_name", &json!("Anna"));
        stage.drain();
        let origin = Origin { source: WriteSource::FullSync, run_id: None, told: Told::default() };
        stage.in_world(async |world| {
            apply(world, EntityType::Contact, &origin, old.records, Vec::new()).await.unwrap()
        });
        assert_eq!(stage.row_value(id, "first_name"), "Anna");
        assert_eq!(stage.keap.value(id, "given_name"), "Anna");
    });
}

#[test]
fn a_reading_that_was_on_its_way_while_a_newer_one_arrived_is_read_again() {
    on_stage(|stage| {
        let (id, row) = stage.linked(&json!({"given_name": "Ann", "email_addresses": emails("a@x.io")}));
        let read = async |world: &World<'_, FakeKeap<'_>, FakeMirror<'_>, FakeClock>| {
            let mut page =
                world.keap.list_ids(EntityType::Contact, &[id.to_string()], stage.clock.now()).await.unwrap();
            page.records.remove(0)
        };
        let mut old = stage.in_world(read);
        stage.mirror.edit(&row, "first_name", &json!("Anna"));
        stage.drain();
        // Keap tells times by the second, and both readings are of the same.
        old.updated_at = stage.mirror.linked(id).row.keap_updated_at;
        let origin = Origin { source: WriteSource::Hook, run_id: None, told: Told::default() };
        let applied = stage.in_world(async |world| {
            apply(world, EntityType::Contact, &origin, vec![old], Vec::new()).await.unwrap()
        });
        assert_eq!(applied.unsettled, [id.to_string()]);
        assert_eq!(stage.row_value(id, "first_name"), "Anna");
    });
}

#[test]
fn a_reading_from_before_a_delete_revives_nothing_however_new_it_was() {
    on_stage(|stage| {
        let (id, _) = stage.linked(&json!({"given_name": "Ann"}));
        stage.keap.edit(id, &json!({"given_name": "Anna"}));
        let unseen = stage.in_world(async |world| {
            world.keap.list_ids(EntityType::Contact, &[id.to_string()], stage.clock.now()).await.unwrap()
        });
        stage.keap.contacts.borrow_mut().clear();
        stage.hook(&[id]);
        let origin = Origin { source: WriteSource::FullSync, run_id: None, told: Told::default() };
        stage.in_world(async |world| {
            apply(world, EntityType::Contact, &origin, unseen.records, Vec::new()).await.unwrap()
        });
        assert!(stage.mirror.linked(id).row.deleted_at.is_some());
    });
}

#[test]
fn a_new_row_becomes_one_contact_even_when_the_answer_is_lost() {
    on_stage(|stage| {
        let row = stage.mirror.insert(&json!({"first_name": "New", "email": "n@x.io", "tags": ["9"]}));
        stage.keap.write_faults.borrow_mut().push(Fault::LostAnswer);
        assert_eq!(stage.drain().retried, 1);
        // Keap's own hook arrives before we try again.
        stage.hook(&[1]);
        stage.clock.advance_ms(60_000);
        stage.drain();
        assert_eq!(stage.keap.contacts.borrow().len(), 1);
        assert_eq!(stage.mirror.rows.borrow().len(), 1);
        assert_eq!(stage.mirror.linked(1).row.id, row);
        assert_eq!(stage.keap.value(1, "tag_ids"), json!(["9"]));
        assert_eq!(stage.mirror.count("completed"), 1);
        stage.assert_silent(&[1]);
    });
}

#[test]
fn a_row_that_keap_would_refuse_fails_alone_with_its_reason() {
    on_stage(|stage| {
        stage.mirror.insert(&json!({"first_name": "No way to reach"}));
        stage.mirror.insert(&json!({"first_name": "x".repeat(41), "email": "l@x.io"}));
        let good = stage.mirror.insert(&json!({"first_name": "Good", "email": "g@x.io"}));
        let report = stage.drain();
        assert_eq!((report.completed, report.failed), (1, 2));
        assert_eq!(stage.mirror.linked(1).row.id, good);
        let errors: Vec<String> = stage
            .mirror
            .items
            .borrow()
            .iter()
            .filter_map(|item| item.error.clone())
            .map(|error| error.message)
            .collect();
        assert!(errors[0].contains("phone number") && errors[1].contains("first_name"), "{errors:?}");
    });
}

#[test]
fn an_outage_costs_no_attempts_and_loses_nothing() {
    on_stage(|stage| {
        let (id, row) = stage.linked(&json!({"given_name": "Ann"}));
        stage.mirror.edit(&row, "first_name", &json!("Anna"));
        for fault in [
            Fault::Status(503),
            Fault::Status(429),
            Fault::LostRequest,
            Fault::Status(401),
            Fault::LostAnswer,
        ] {
            stage.keap.write_faults.borrow_mut().push(fault);
            let report = stage.drain();
            assert_eq!(report.retried, 1);
            assert!(report.outage.is_some(), "the caller must learn of {fault:?}");
            stage.clock.advance_ms(60_000);
        }
        stage.mirror.outages.set(1);
        assert_eq!(stage.drain().retried, 1, "Postgres away after Keap took the write");
        stage.clock.advance_ms(60_000);
        assert_eq!(stage.drain().completed, 1);
        assert_eq!(stage.keap.value(id, "given_name"), "Anna");
        assert_eq!(stage.keap.writes.get(), 1, "the lost answer's write was recognised");
        stage.assert_silent(&[id]);
    });
}

#[test]
fn what_keap_takes_and_does_not_keep_is_not_written_forever() {
    on_stage(|stage| {
        let (id, row) = stage.linked(&json!({"given_name": "Ann"}));
        stage.keap.unheeded.set(Some("given_name"));
        stage.mirror.edit(&row, "first_name", &json!("Anna"));
        for _ in 0..10 {
            stage.drain();
            stage.clock.advance_ms(3_600_000);
        }
        assert_eq!((stage.keap.writes.get(), stage.mirror.count("failed")), (3, 1));
        assert_eq!(stage.keap.value(id, "given_name"), "Ann");
        let error = stage.mirror.items.borrow()[0].error.clone().unwrap();
        assert!(error.message.contains("first_name"), "{error}");
    });
}

#[test]
fn a_poison_record_becomes_a_dead_letter() {
    on_stage(|stage| {
        let (_, row) = stage.linked(&json!({"given_name": "Ann"}));
        stage.mirror.edit(&row, "first_name", &json!("Anna"));
        for _ in 0..3 {
            stage.keap.write_faults.borrow_mut().push(Fault::Status(418));
            stage.drain();
            stage.clock.advance_ms(3_600_000);
        }
        assert_eq!(stage.mirror.count("failed"), 1);
        assert_eq!(stage.mirror.items.borrow()[0].error.as_ref().unwrap().class, FailureClass::Unexpected);
    });
}

#[test]
fn a_tag_that_keap_has_not_got_any_more_leaves_the_row_and_nothing_becomes_a_dead_letter() {
    for is_new in [false, true] {
        on_stage(|stage| {
            let contact = json!({"given_name": "Ann", "tag_ids": ["1"]});
            let row = if is_new {
                stage.mirror.insert(&json!({"first_name": "Ann", "email": "a@x.io"}))
            } else {
                stage.linked(&contact).1
            };
            stage.mirror.edit(&row, "first_name", &json!("Anna"));
            stage.mirror.edit(&row, "tags", &json!(["1", "7", "2"]));
            stage.keap.gone_tags.borrow_mut().push("7".to_owned());
            let report = stage.drain();
            assert_eq!((report.failed, report.retried), (0, 0));
            let id = *stage.keap.contacts.borrow().keys().next().unwrap();
            assert_eq!(stage.row_value(id, "tags"), json!(["1", "2"]));
            assert_eq!(stage.keap.value(id, "tag_ids"), json!(["1", "2"]), "it holds back no other tag");
            assert_eq!(stage.keap.value(id, "given_name"), "Anna");
            assert_eq!(stage.mirror.linked(id).state, RowState::Error);
            stage.assert_silent(&[id]);
        });
    }
}

#[test]
fn a_contact_deleted_in_keap_is_deleted_softly_unless_an_edit_waits() {
    on_stage(|stage| {
        let (gone, _) = stage.linked(&json!({"given_name": "Gone"}));
        let (edited, row) = stage.linked(&json!({"given_name": "Edited"}));
        stage.mirror.edit(&row, "first_name", &json!("Kept"));
        stage.keap.contacts.borrow_mut().clear();
        stage.hook(&[gone, edited]);
        assert!(stage.mirror.linked(gone).row.deleted_at.is_some());
        let kept = stage.mirror.linked(edited);
        assert!(kept.row.deleted_at.is_none());
        assert_eq!(kept.state, RowState::Conflict);
        assert_eq!(stage.drain().failed, 1, "the edit stays visible as a dead letter");
        stage.hook(&[gone]);
        assert!(stage.mirror.linked(gone).row.deleted_at.is_some(), "a late event revives nothing");
    });
}

#[test]
fn a_delete_here_reaches_keap_only_when_the_owner_lets_it() {
    for allowed in [false, true] {
        on_stage(|stage| {
            stage.settings.delete_in_keap = allowed;
            let (id, row) = stage.linked(&json!({"given_name": "Ann"}));
            stage.mirror.delete(&row);
            assert_eq!(stage.drain().completed, 1);
            assert_eq!(stage.keap.contacts.borrow().contains_key(&id), !allowed);
            stage.hook(&[id]);
            assert!(stage.mirror.linked(id).row.deleted_at.is_some(), "the tombstone holds");
            stage.assert_silent(&[id]);
        });
    }
}

#[test]
fn an_edit_in_keap_survives_a_delete_here() {
    on_stage(|stage| {
        stage.settings.delete_in_keap = true;
        let (id, row) = stage.linked(&json!({"given_name": "Ann"}));
        stage.keap.edit(id, &json!({"given_name": "Anna"}));
        stage.mirror.delete(&row);
        stage.drain();
        let survivor = stage.mirror.linked(id).row;
        assert!(survivor.deleted_at.is_none());
        assert_eq!(survivor.record.get_by_name("first_name"), "Anna");
        assert_eq!(stage.mirror.conflicts.borrow()[0].1, DELETED_AT);
    });
}

#[test]
fn a_read_only_field_is_restored_and_says_so() {
    on_stage(|stage| {
        let (id, row) =
            stage.linked(&json!({"given_name": "Ann", "company": {"id": "3", "company_name": "Acme"}}));
        stage.mirror.edit(&row, "company", &json!("Mine"));
        stage.drain();
        let after = stage.mirror.linked(id);
        assert_eq!(after.row.record.get_by_name("company"), "Acme");
        assert!(after.sync_error.unwrap().starts_with("read_only_field"));
        assert_eq!(stage.keap.writes.get(), 0);
    });
}

#[test]
fn a_unit_reads_everything_and_reports_a_broken_contact() {
    on_stage(|stage| {
        for number in 0..30 {
            stage.keap.add(&json!({"given_name": format!("N{number}")}));
        }
        let broken = stage.keap.add(&json!({"given_name": {"not": "a text"}}));
        let report = run_full(stage, 100);
        assert!(report.finished, "{report:?}");
        assert_eq!((report.counts.created, report.counts.rejected), (30, 1));
        assert_eq!(stage.mirror.rejected.borrow()[0].keap_id, Some(broken.to_string()));
        let again = run_full(stage, 100);
        assert_eq!((again.counts.created, again.counts.unchanged), (0, 30));
    });
}

#[test]
fn a_unit_that_meets_an_outage_reports_what_stands() {
    on_stage(|stage| {
        stage.keap.add(&json!({"given_name": "A"}));
        stage.mirror.outages.set(1);
        let report = run_full(stage, 100);
        assert!(!report.finished);
        assert_eq!(report.failure.unwrap().class, FailureClass::Unavailable);
        assert_eq!(report.cursor, Cursor::default());
        assert!(run_full(stage, 100).finished);
        assert_eq!(run_full(stage, 0).failure.unwrap().class, FailureClass::RateLimited);
    });
}

/// Whatever comes of it.
pub(crate) const APPROVED: UnitMode = UnitMode::Approved(Approval { id: String::new(), records: u64::MAX });

fn run_full(stage: &Stage<'_>, calls_max: u32) -> UnitReport {
    run_of(stage, RunKind::Full, APPROVED, Cursor::default(), calls_max)
}

/// One unit of a run over contacts.
pub(crate) fn run_of(
    stage: &Stage<'_>,
    kind: RunKind,
    mode: UnitMode,
    cursor: Cursor,
    calls_max: u32,
) -> UnitReport {
    let order = order_of(stage, EntityType::Contact, kind, mode, cursor);
    run_through(stage, stage.keap, &order, calls_max)
}

/// One unit whose calls go through `transport`.
pub(crate) fn run_through<T: Transport>(
    stage: &Stage<'_>,
    transport: &T,
    order: &UnitOrder,
    calls_max: u32,
) -> UnitReport {
    let paced = PacedTransport::new(transport, stage.clock, calls_max, 1_000);
    let caller = Caller { transport: &paced, base_url: "http://keap", access_token: &stage.secret };
    let api = RecordsApi::new(caller, Links::of(&stage.link_fields));
    let world = World {
        keap: &api,
        store: stage.mirror,
        clock: stage.clock,
        account: &stage.account,
        settings: &stage.settings,
        entropy: 0,
    };
    now(run_unit(&world, order))
}

/// The order of the first unit of a run.
pub(crate) fn order_of(
    stage: &Stage<'_>,
    entity: EntityType,
    kind: RunKind,
    mode: UnitMode,
    cursor: Cursor,
) -> UnitOrder {
    UnitOrder {
        account: stage.account.clone(),
        run_id: "run".to_owned(),
        unit: 1,
        kind,
        entity,
        direction: Direction::Bidirectional,
        mode,
        cursor,
        run_started_at: Timestamp(0),
        reverts: None,
        grant: KeapGrant {
            access_token: stage.secret.clone(),
            calls_max: 1_000,
            calls_per_second_max: 1_000,
            expires_at: Timestamp(i64::MAX),
            link_fields: stage.link_fields.clone(),
            application: KeapApplication::default(),
            generation: 1,
        },
        settings: stage.settings.clone(),
    }
}

/// One step of a random history.
#[derive(Clone, Debug)]
enum Step {
    EditHere(usize, usize, u8),
    EditThere(usize, usize, u8),
    Insert(u8),
    Add(u8),
    Hook,
    Drain,
    KeapFault(u8),
    MirrorOutage,
    EditBetween(usize, usize, u8),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..4_usize, 0..3_usize, 0..4_u8).prop_map(|(row, field, value)| Step::EditHere(row, field, value)),
        3 => (0..4_usize, 0..3_usize, 0..4_u8).prop_map(|(row, field, value)| Step::EditThere(row, field, value)),
        1 => (0..4_u8).prop_map(Step::Insert),
        1 => (0..4_u8).prop_map(Step::Add),
        2 => Just(Step::Hook),
        2 => Just(Step::Drain),
        1 => (0..4_u8).prop_map(Step::KeapFault),
        1 => Just(Step::MirrorOutage),
        1 => (0..4_usize, 0..3_usize, 0..4_u8).prop_map(|(row, field, value)| Step::EditBetween(row, field, value)),
    ]
}

const FIELDS: [(&str, &str); 3] =
    [("first_name", "given_name"), ("last_name", "family_name"), ("job_title", "job_title")];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// Whatever happens, once edits and faults stop both sides are equal, one row is one contact, and then silence.
    #[test]
    fn every_history_converges(steps in prop::collection::vec(any_step(), 1..40)) {
        on_stage(|stage| {
            for id in 0..2 {
                stage.linked(&json!({"given_name": format!("v{id}"), "email_addresses": emails("a@x.io")}));
            }
            for step in steps {
                play(stage, &step);
            }
            stage.keap.write_faults.borrow_mut().clear();
            stage.mirror.outages.set(0);
            stage.mirror.before_write.borrow_mut().clear();
            for _ in 0..6 {
                stage.clock.advance_ms(3_600_000);
                hook_all(stage);
                stage.drain();
            }
            prop_assert_eq!(stage.mirror.count("pending"), 0);
            prop_assert_eq!(stage.mirror.count("failed"), 0);
            let ids: Vec<u64> = stage.keap.contacts.borrow().keys().copied().collect();
            prop_assert_eq!(ids.len(), stage.mirror.rows.borrow().len());
            for id in &ids {
                for (field, property) in FIELDS {
                    prop_assert_eq!(stage.row_value(*id, field), stage.keap.value(*id, property), "{} of {}", field, id);
                }
                prop_assert!(stage.mirror.linked(*id).row.base_delta.is_empty());
                prop_assert_eq!(stage.mirror.linked(*id).state, RowState::Completed);
            }
            stage.assert_silent(&ids);
            Ok(())
        })?;
    }
}

fn play(stage: &Stage<'_>, step: &Step) {
    let row = |position: usize| {
        let rows: Vec<String> = stage.mirror.rows.borrow().keys().cloned().collect();
        rows[position % rows.len()].clone()
    };
    let value = |value: &u8| if *value == 0 { Value::Null } else { json!(format!("v{value}")) };
    match step {
        Step::EditHere(at, field, new) => stage.mirror.edit(&row(*at), FIELDS[*field].0, &value(new)),
        Step::EditThere(at, field, new) => {
            let ids: Vec<u64> = stage.keap.contacts.borrow().keys().copied().collect();
            stage.keap.edit(ids[at % ids.len()], &json!({FIELDS[*field].1: value(new)}));
        }
        Step::Insert(name) => {
            let _ = stage.mirror.insert(&json!({"first_name": value(name), "email": "n@x.io"}));
        }
        Step::Add(name) => {
            let _ = stage.keap.add(&json!({"given_name": value(name), "email_addresses": emails("k@x.io")}));
        }
        Step::Hook => hook_all(stage),
        Step::Drain => drop(stage.in_world(async |world| drain(world, "test").await)),
        Step::KeapFault(kind) => stage.keap.write_faults.borrow_mut().push(match kind {
            0 => Fault::LostAnswer,
            1 => Fault::LostRequest,
            2 => Fault::Status(503),
            _ => Fault::Status(429),
        }),
        Step::MirrorOutage => stage.mirror.outages.set(1),
        Step::EditBetween(at, field, new) => {
            stage.mirror.before_write.borrow_mut().push((row(*at), FIELDS[*field].0, value(new)));
        }
    }
    stage.clock.advance_ms(40_000);
}

fn hook_all(stage: &Stage<'_>) {
    let ids: Vec<String> = stage.keap.contacts.borrow().keys().map(u64::to_string).collect();
    drop(stage.in_world(async |world| refetch(world, EntityType::Contact, &ids).await));
}
