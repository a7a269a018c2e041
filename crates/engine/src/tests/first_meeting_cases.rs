//! Subscriptions that meet their rows before all of the row is in Keap: the first of the two calls that make one landed, and the
//! second did not.

use crate::fakes::FakeClock;
use crate::fakes::mirror::{FakeMirror, FakeRow};
use crate::inbound::refetch;
use crate::outbox::{DrainReport, drain};
use crate::ports::RowState;
use crate::world::World;
use futures_util::FutureExt as _;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_domain::policy::Policy;
use keapsync_domain::secret::Secret;
use keapsync_domain::settings::AccountSettings;
use keapsync_domain::wire::LinkFields;
use keapsync_keap::caller::Caller;
use keapsync_keap::records::{Links, RecordsApi};
use keapsync_keap::transport::{Body, Method, Request, Response, Transport};
use serde_json::{Map, Value, json};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

const ENTITY: EntityType = EntityType::Subscription;

/// A Keap of subscriptions, which fills in what a create leaves out.
struct Plans<'a> {
    clock: &'a FakeClock,
    held: RefCell<BTreeMap<u64, Map<String, Value>>>,
    /// Updates that will have no answer and no effect.
    lost_updates: Cell<u32>,
    /// Creates that were made.
    made: Cell<u32>,
}

impl Plans<'_> {
    fn set(&self, id: u64, values: &Value) {
        let mut held = self.held.borrow_mut();
        let subscription = held.entry(id).or_default();
        subscription.extend(values.as_object().cloned().unwrap_or_default());
        subscription.insert("id".to_owned(), id.to_string().into());
        subscription.insert("modification_time".to_owned(), self.clock.tick().to_rfc3339().into());
    }

    fn make(&self, values: &Value) -> u64 {
        let id = self.held.borrow().len() as u64 + 1;
        self.set(
            id,
            &json!({"active": true, "auto_charge": true, "billing_amount": 10.0, "quantity": 1, "billing_cycle": "MONTH",
                "billing_frequency": 1, "next_bill_date": "2030-02-01"}),
        );
        self.set(id, values);
        id
    }

    fn value(&self, id: u64, name: &str) -> Value {
        self.held.borrow().get(&id).and_then(|held| held.get(name)).cloned().unwrap_or_default()
    }
}

fn answer(status: u16, body: &Value) -> Response {
    Response { status, headers: Vec::new(), body: body.to_string().into_bytes() }
}

impl Transport for Plans<'_> {
    async fn send(&self, request: Request) -> Result<Response, Failure> {
        let (path, query) = request.url.split_once('?').unwrap_or((&request.url, ""));
        let id = path.rsplit('/').next().and_then(|id| id.parse::<u64>().ok());
        let body: Value = match &request.body {
            Body::Json(text) => serde_json::from_str(text).unwrap(),
            _ => Value::Null,
        };
        let one =
            |id: u64| answer(200, &Value::Object(self.held.borrow().get(&id).cloned().unwrap_or_default()));
        Ok(match (request.method, id) {
            (Method::Post, None) => {
                self.made.set(self.made.get() + 1);
                one(self.make(&body))
            }
            (Method::Patch, Some(_)) if self.lost_updates.get() > 0 => {
                self.lost_updates.set(self.lost_updates.get() - 1);
                return Err(Failure::new(FailureClass::Unavailable, "Keap could not be reached"));
            }
            (Method::Patch, Some(id)) => {
                let mask = query.split('&').filter_map(|part| part.strip_prefix("update_mask="));
                let masked: Map<String, Value> =
                    mask.map(|name| (name.to_owned(), body.get(name).cloned().unwrap_or_default())).collect();
                self.set(id, &Value::Object(masked));
                one(id)
            }
            (Method::Get, Some(id)) => one(id),
            _ => {
                let all: Vec<Value> = self.held.borrow().values().cloned().map(Value::Object).collect();
                answer(200, &json!({"subscriptions": all}))
            }
        })
    }
}

struct Meeting<'a> {
    clock: &'a FakeClock,
    keap: Plans<'a>,
    mirror: FakeMirror<'a>,
    settings: AccountSettings,
}

impl Meeting<'_> {
    fn in_world<'s, O>(
        &'s self,
        pass: impl AsyncFnOnce(&World<'_, Plans<'s>, FakeMirror<'s>, FakeClock>) -> O,
    ) -> O {
        let (account, secret, links) =
            (AccountId::parse("demo").unwrap(), Secret::new("token"), LinkFields::default());
        let caller = Caller { transport: &self.keap, base_url: "http://keap", access_token: &secret };
        let api = RecordsApi::new(caller, Links::of(&links));
        let world = World {
            keap: &api,
            store: &self.mirror,
            clock: self.clock,
            account: &account,
            settings: &self.settings,
            entropy: 0,
        };
        pass(&world).now_or_never().expect("the fakes never wait")
    }

    /// Drains the outbox after any wait.
    fn drain(&self) -> DrainReport {
        self.clock.advance_ms(3_600_000);
        self.in_world(async |world| drain(world, "test").await.unwrap())
    }

    fn hook(&self, id: u64) {
        let refetched = self.in_world(async |world| refetch(world, ENTITY, &[id.to_string()]).await.unwrap());
        assert!(refetched.failed.is_empty(), "{:?}", refetched.failed);
    }

    fn conflicts(&self) -> Vec<(String, Option<&'static str>)> {
        self.mirror.conflicts.borrow().iter().map(|(_, field, winner)| (field.clone(), *winner)).collect()
    }

    fn row(&self, id: u64) -> FakeRow {
        assert_eq!(self.mirror.rows.borrow().len(), 1, "the row stays one");
        self.mirror.linked(id)
    }

    fn row_value(&self, id: u64, name: &str) -> Value {
        self.row(id).row.record.get_by_name(name).clone()
    }
}

fn meeting<O>(story: impl FnOnce(&mut Meeting<'_>) -> O) -> O {
    let clock = FakeClock::default();
    clock.advance_ms(1_000_000);
    let keap = Plans {
        clock: &clock,
        held: RefCell::default(),
        lost_updates: Cell::default(),
        made: Cell::default(),
    };
    let mirror = FakeMirror::new(&clock);
    story(&mut Meeting { clock: &clock, keap, mirror, settings: AccountSettings::default() })
}

/// What a person writes: billed yearly, and the plan says monthly.
fn yearly() -> Value {
    json!({"keap_contact_id": "5", "plan_id": "2", "start_date": "2030-01-01", "status": "active", "amount": "99.00",
        "billing_cycle": "YEAR", "billing_frequency": 2})
}

fn assert_yearly(stage: &Meeting<'_>, id: u64) {
    assert_eq!(stage.keap.value(id, "billing_cycle"), "YEAR");
    assert_eq!(stage.keap.value(id, "billing_frequency"), 2);
    assert_eq!(stage.row_value(id, "billing_cycle"), "YEAR");
    assert_eq!(stage.row_value(id, "billing_frequency"), 2);
    assert_eq!(stage.row_value(id, "next_bill_date"), "2030-02-01", "Keap says what nobody wrote");
    let row = stage.row(id);
    assert!(row.state == RowState::Completed && row.row.base_delta.is_empty(), "{row:?}");
    assert_eq!(stage.keap.made.get(), 1, "it is made once");
    let recorded = ["billing_cycle", "billing_frequency"].map(|name| (name.to_owned(), Some("supabase")));
    assert_eq!(stage.conflicts(), recorded, "nothing of Keap's is replaced without a word");
}

/// The create lands, and the update behind it does not.
fn half_made(stage: &Meeting<'_>, values: &Value) -> String {
    let row = stage.mirror.insert_as(ENTITY, values);
    stage.keap.lost_updates.set(1);
    let report = stage.drain();
    assert_eq!((report.completed, stage.keap.made.get()), (0, 1), "{report:?}");
    assert_eq!(stage.keap.value(1, "billing_cycle"), "MONTH");
    row
}

#[test]
fn what_the_second_call_was_to_set_is_set_by_the_retry() {
    for policy in [Policy::NewestWins, Policy::KeapWins, Policy::SupabaseWins, Policy::Manual] {
        meeting(|stage| {
            stage.settings.policies.default = policy;
            half_made(stage, &yearly());
            assert_eq!(stage.drain().completed, 1);
            assert_yearly(stage, 1);
        });
    }
}

#[test]
fn the_hook_of_a_half_made_subscription_takes_nothing_from_the_row() {
    meeting(|stage| {
        half_made(stage, &yearly());
        stage.hook(1);
        assert_eq!(stage.row_value(1, "billing_cycle"), "YEAR");
        assert_eq!(stage.row(1).state, RowState::Pending, "the edit waits");
        assert_eq!(stage.drain().completed, 1);
        assert_yearly(stage, 1);
    });
}

#[test]
fn what_was_edited_since_the_first_call_goes_along() {
    meeting(|stage| {
        let row = half_made(stage, &yearly());
        stage.mirror.edit(&row, "amount", &json!("120.00"));
        stage.drain();
        assert_eq!(stage.keap.value(1, "billing_amount"), 120.0);
        assert_yearly(stage, 1);
    });
}

#[test]
fn an_object_of_which_keap_has_no_place_for_a_part_is_still_the_create() {
    meeting(|stage| {
        let mut values = yearly();
        values["custom_fields"] = json!({"16": "blue", "": "odd"});
        half_made(stage, &values);
        stage.drain();
        assert_eq!(stage.keap.value(1, "billing_cycle"), "YEAR");
        assert_eq!(stage.row_value(1, "custom_fields"), json!({"16": "blue"}));
        assert!(stage.row(1).sync_error.is_some_and(|word| word.contains("custom_fields")));
    });
}

#[test]
fn somebody_elses_subscription_is_merged_with_the_row_as_the_policy_says() {
    for (policy, cycle, winner) in [
        (Policy::KeapWins, "MONTH", Some("keap")),
        (Policy::NewestWins, "MONTH", Some("keap")),
        (Policy::Manual, "YEAR", None),
    ] {
        meeting(|stage| {
            stage.settings.policies.default = policy;
            stage.mirror.insert_as(ENTITY, &yearly());
            let theirs = json!({"contact_id": "5", "subscription_plan_id": "2", "start_date": "2030-01-01",
                "billing_amount": 20.0});
            let id = stage.keap.make(&theirs);
            stage.hook(id);
            stage.drain();
            assert_eq!(stage.row_value(id, "billing_cycle"), cycle, "{policy:?}");
            assert_eq!(stage.keap.value(id, "billing_cycle"), "MONTH", "{policy:?}");
            let conflicts = stage.conflicts();
            for field in ["billing_cycle", "billing_frequency", "amount"] {
                assert!(conflicts.contains(&(field.to_owned(), winner)), "{policy:?} {conflicts:?}");
            }
        });
    }
}
