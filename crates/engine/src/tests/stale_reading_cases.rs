//! People who write in Keap while edits are carried there: what nobody could have read may be overwritten, and nothing else.

use super::{Stage, emails, on_stage};
use crate::fakes::FakeClock;
use crate::fakes::keap::FakeKeap;
use crate::inbound::DELETED_AT;
use crate::outbox::{DrainReport, drain};
use crate::world::World;
use futures_util::FutureExt as _;
use keapsync_domain::failure::Failure;
use keapsync_domain::limits::READING_AGE_MAX_MS;
use keapsync_domain::policy::Policy;
use keapsync_keap::caller::Caller;
use keapsync_keap::records::{Links, RecordsApi};
use keapsync_keap::transport::{Method, Request, Response, Transport};
use serde_json::{Value, json};
use std::cell::RefCell;

/// What happens when a request of that method arrives for a contact, before it is served.
type Meanwhile<'a> = (Method, u64, Box<dyn FnOnce() + 'a>);

/// Keap, which other people use too.
struct SharedKeap<'a> {
    keap: &'a FakeKeap<'a>,
    clock: &'a FakeClock,
    /// How long each request takes.
    latency_ms: i64,
    meanwhile: RefCell<Vec<Meanwhile<'a>>>,
    asked: RefCell<Vec<String>>,
}

impl Transport for SharedKeap<'_> {
    async fn send(&self, request: Request) -> Result<Response, Failure> {
        self.clock.advance_ms(self.latency_ms);
        let path = request.url.split('?').next().unwrap_or_default();
        self.asked.borrow_mut().push(format!("{} {}", request.method.as_str(), path));
        let is_it = |(method, id, _): &Meanwhile<'_>| {
            *method == request.method && path.ends_with(&format!("contacts/{id}"))
        };
        let position = self.meanwhile.borrow().iter().position(is_it);
        if let Some(position) = position {
            let (_, _, act) = self.meanwhile.borrow_mut().remove(position);
            act();
        }
        self.keap.send(request).await
    }
}

/// Drains the outbox while that happens; each request takes `latency_ms`.
fn drain_while<'a>(
    stage: &'a Stage<'a>,
    latency_ms: i64,
    meanwhile: Vec<Meanwhile<'a>>,
) -> (DrainReport, Vec<String>) {
    let (keap, clock) = (stage.keap, stage.clock);
    let shared =
        SharedKeap { keap, clock, latency_ms, meanwhile: RefCell::new(meanwhile), asked: RefCell::default() };
    let caller = Caller { transport: &shared, base_url: "http://keap", access_token: &stage.secret };
    let api = RecordsApi::new(caller, Links::of(&stage.link_fields));
    let world = World {
        keap: &api,
        store: stage.mirror,
        clock,
        account: &stage.account,
        settings: &stage.settings,
        entropy: 0,
    };
    let report = drain(&world, "test").now_or_never().expect("the fakes never wait").unwrap();
    assert!(shared.meanwhile.borrow().is_empty(), "not all of it happened: {:?}", shared.asked.borrow());
    (report, shared.asked.into_inner())
}

fn custom(seven: &str, eight: &str) -> Value {
    json!([{"id": "7", "content": seven}, {"id": "8", "content": eight}])
}

/// The two fields as Keap holds them, without the one that carries the row's id.
fn customs_of(stage: &Stage<'_>, id: u64) -> Value {
    let mut held = stage.keap.value(id, "custom_fields");
    if let Some(fields) = held.as_array_mut() {
        fields.retain(|field| field["id"] != "77");
    }
    held
}

fn two_emails(first: &str, third: &str) -> Value {
    json!([{"field": "EMAIL1", "email": first}, {"field": "EMAIL3", "email": third}])
}

/// A contact whose turn comes first, and another.
fn two(stage: &Stage<'_>, fields: &Value) -> ((u64, String), (u64, String)) {
    let first = stage.linked(&json!({"given_name": "First", "email_addresses": emails("first@x.io")}));
    let second = stage.linked(fields);
    stage.mirror.edit(&first.1, "first_name", &json!("Edited"));
    (first, second)
}

#[test]
fn a_field_beside_the_edited_one_is_not_written_back_to_what_it_was() {
    for is_told in [true, false] {
        on_stage(|stage| {
            let stage = &*stage;
            let ((first, _), (id, row)) = two(stage, &json!({"custom_fields": custom("old", "old")}));
            stage.mirror.edit(&row, "custom_fields", &json!({"7": "old", "8": "mine"}));
            let somebody = move || {
                stage.clock.advance_ms(READING_AGE_MAX_MS);
                stage.keap.edit(id, &json!({"custom_fields": custom("theirs", "old")}));
                if is_told {
                    stage.hook(&[id]);
                }
            };
            let (report, _) = drain_while(stage, 5, vec![(Method::Patch, first, Box::new(somebody))]);
            assert_eq!(report.completed, 2);
            assert_eq!(customs_of(stage, id), custom("theirs", "mine"), "told: {is_told}");
            assert_eq!(stage.row_value(id, "custom_fields"), json!({"7": "theirs", "8": "mine"}));
            assert!(stage.mirror.conflicts.borrow().is_empty());
        });
    }
}

#[test]
fn an_address_beside_the_edited_one_is_not_written_back_to_what_it_was() {
    on_stage(|stage| {
        let stage = &*stage;
        let ((first, _), (id, row)) =
            two(stage, &json!({"email_addresses": two_emails("one@x.io", "three@x.io")}));
        let emails_of_row = stage.row_value(id, "emails");
        let edited: Value =
            serde_json::from_str(&emails_of_row.to_string().replace("three@", "third@")).unwrap();
        assert_ne!(edited, emails_of_row, "the row holds its third address");
        stage.mirror.edit(&row, "emails", &edited);
        let somebody = move || {
            stage.clock.advance_ms(READING_AGE_MAX_MS);
            stage.keap.edit(id, &json!({"email_addresses": two_emails("theirs@x.io", "three@x.io")}));
            stage.hook(&[id]);
        };
        drain_while(stage, 5, vec![(Method::Patch, first, Box::new(somebody))]);
        let held = stage.keap.value(id, "email_addresses");
        assert_eq!((&held[0]["email"], &held[1]["email"]), (&json!("theirs@x.io"), &json!("third@x.io")));
        assert_eq!(stage.row_value(id, "email"), "theirs@x.io");
    });
}

#[test]
fn a_change_that_the_mirror_has_met_counts_however_young_the_reading_is() {
    on_stage(|stage| {
        let stage = &*stage;
        let ((first, _), (id, row)) = two(stage, &json!({"custom_fields": custom("old", "old")}));
        stage.mirror.edit(&row, "custom_fields", &json!({"7": "old", "8": "mine"}));
        let somebody = move || {
            stage.keap.edit(id, &json!({"custom_fields": custom("theirs", "old")}));
            stage.hook(&[id]);
        };
        drain_while(stage, 0, vec![(Method::Patch, first, Box::new(somebody))]);
        assert_eq!(customs_of(stage, id), custom("theirs", "mine"));
    });
}

#[test]
fn an_edit_of_the_same_field_in_keap_ends_in_a_recorded_conflict() {
    on_stage(|stage| {
        let stage = &*stage;
        let ((first, _), (id, row)) = two(stage, &json!({"given_name": "Ann"}));
        let somebody = move || {
            stage.clock.advance_ms(READING_AGE_MAX_MS);
            stage.keap.edit(id, &json!({"given_name": "Theirs"}));
        };
        stage.mirror.edit(&row, "first_name", &json!("Mine"));
        drain_while(stage, 5, vec![(Method::Patch, first, Box::new(somebody))]);
        assert_eq!(*stage.mirror.conflicts.borrow(), [(row, "first_name".to_owned(), Some("keap"))]);
        assert_eq!(stage.keap.value(id, "given_name"), "Theirs", "the later edit wins");
    });
}

#[test]
fn a_delete_goes_by_what_keap_holds_right_before_it() {
    on_stage(|stage| {
        stage.settings.delete_in_keap = true;
        let stage = &*stage;
        let ((first, _), (id, row)) = two(stage, &json!({"given_name": "Ann"}));
        stage.mirror.delete(&row);
        // So soon that a list would still do for an update.
        let somebody = move || stage.keap.edit(id, &json!({"given_name": "Theirs"}));
        let (_, asked) = drain_while(stage, 1, vec![(Method::Patch, first, Box::new(somebody))]);
        assert!(stage.keap.contacts.borrow().contains_key(&id), "an edit survives a delete: {asked:?}");
        assert!(stage.mirror.linked(id).row.deleted_at.is_none());
        assert_eq!(stage.row_value(id, "first_name"), "Theirs");
        assert_eq!(*stage.mirror.conflicts.borrow(), [(row, DELETED_AT.to_owned(), Some("keap"))]);
    });
}

#[test]
fn tags_that_take_many_calls_go_by_readings_of_their_own() {
    on_stage(|stage| {
        stage.settings.policies.default = Policy::NewestWins;
        let stage = &*stage;
        let (id, row) = stage.linked(&json!({"given_name": "Ann", "tag_ids": ["1"]}));
        let tags: Vec<String> = (1..=9).map(|tag| tag.to_string()).collect();
        stage.mirror.edit(&row, "tags", &json!(tags));
        let (report, asked) = drain_while(stage, 200, Vec::new());
        let reads =
            asked.iter().filter(|asked| asked.starts_with("GET") && asked.ends_with("contacts/1")).count();
        assert!(reads >= 3, "eight calls of 200 ms each take more than one reading: {asked:?}");
        assert_eq!((report.completed, report.retried), (1, 0), "{asked:?}");
        assert_eq!(stage.row_value(id, "tags"), json!(tags));
        assert_eq!(stage.keap.value(id, "tag_ids").as_array().map(Vec::len), Some(9));
    });
}

#[test]
fn what_is_carried_at_once_is_read_by_one_call() {
    on_stage(|stage| {
        let stage = &*stage;
        for number in 0..8 {
            let (_, row) = stage.linked(&json!({"given_name": format!("Ann {number}")}));
            stage.mirror.edit(&row, "first_name", &json!(format!("Anna {number}")));
        }
        let (report, asked) = drain_while(stage, 60, Vec::new());
        assert_eq!(report.completed, 8);
        assert_eq!(asked.len(), 8 + 2, "four records share a reading: {asked:?}");
    });
}
