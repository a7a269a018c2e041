//! The stage: both sides, the object's storage, and what is about to go wrong.
//!
//! Each call of a port waits, has its effect at one moment, and waits again; what goes wrong, goes wrong at that moment. A request
//! that was sent arrives even when its sender is gone by then, as in life.

use super::cells::Cells;
use super::coverage::Coverage;
use super::keap_side::{KeapSide, answer, link_field};
use super::ledger::{Ledger, WrittenBy};
use super::mirror_side::MirrorSide;
use super::mutation::Mutation;
use super::object::Storage;
use super::random::Random;
use super::schedule::{Group, Schedule, Waiter};
use super::story::{HookFault, RequestFault, Setting, StatementFault};
use super::trace::Trace;
use super::verdict::{Invariant, Violation};
use crate::inbound::base_of;
use crate::quota::{QuotaLimits, QuotaState};
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::{AccountId, EntityType};
use keapsync_domain::limits::READING_AGE_MAX_MS;
use keapsync_domain::merge::Side;
use keapsync_domain::settings::AccountSettings;
use keapsync_domain::timestamp::Timestamp;
use keapsync_domain::wire::LinkFields;
use keapsync_keap::transport::{Credential, Request, Response};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

/// Where time begins: 2026-01-01.
pub(super) const BEGINNING_MS: i64 = 1_767_225_600_000;

/// Wait of a client that gets no answer, in milliseconds.
const TIMEOUT_MS: i64 = 25_000;

/// When a record was last read.
#[derive(Clone, Copy, Debug)]
struct LastRead {
    /// The step at which Keap answered.
    step: u64,
    /// When the answer arrives.
    answered_ms: i64,
}

/// What happens besides the ends of waits.
pub(super) enum Event {
    /// A request arrives at Keap.
    Request(Box<Flight>),
    /// A delivery of hooks arrives.
    Hook(Vec<(EntityType, u64)>),
    /// A line of the story.
    Line(usize),
    /// The object starts again, unless it has been started since: the incarnation that went before.
    Restart(Group),
    /// Somebody connects the account again.
    Reconnect,
    /// A record of Keap's is within the account's reach again.
    AccessBack(EntityType, u64),
}

/// A request on its way.
pub(super) struct Flight {
    /// What is asked.
    pub request: Request,
    /// The pass that sent it.
    pub pass: u64,
    /// When the engine asked for it: before it waited for its turn within the quota.
    pub asked_ms: i64,
    /// Where the answer goes.
    pub reply: Rc<Reply>,
}

/// The place of an answer.
#[derive(Default)]
pub(super) struct Reply {
    /// The sender.
    pub waiter: Rc<Waiter>,
    /// The answer, once it is there.
    pub response: RefCell<Option<Result<Response, Failure>>>,
}

/// What is about to go wrong.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Of the coming requests.
    pub requests: VecDeque<RequestFault>,
    /// Keap answers this status until then.
    pub keap_down: Option<(u16, i64)>,
    /// Of the coming statements.
    pub statements: VecDeque<StatementFault>,
    /// Of the coming hooks.
    pub hooks: VecDeque<HookFault>,
    /// No hook is sent until then.
    pub hooks_inactive_until_ms: i64,
    /// The account is paused until then.
    pub paused_until_ms: i64,
    /// Steps to the eviction of the object, and whether its alarm is lost.
    pub evict: Option<(u64, bool)>,
    /// Steps to the death of all workers on units.
    pub units_die: Option<u64>,
    /// Reports of units to be lost.
    pub reports_lost: u32,
}

/// All that is shared.
pub(super) struct Stage {
    pub schedule: Schedule<Event>,
    pub keap: RefCell<KeapSide>,
    pub mirror: RefCell<MirrorSide>,
    pub ledger: RefCell<Ledger>,
    pub storage: RefCell<Storage>,
    pub quota: RefCell<QuotaState>,
    pub limits: QuotaLimits,
    pub faults: RefCell<Faults>,
    pub coverage: RefCell<Coverage>,
    pub trace: RefCell<Trace>,
    pub setting: Setting,
    pub settings: AccountSettings,
    pub account: AccountId,
    pub link_fields: LinkFields,
    pub mutation: Mutation,
    pub violation: RefCell<Option<Violation>>,
    /// Counts what has an effect: each port call, line, hook.
    pub steps: Cell<u64>,
    /// The object's incarnation.
    pub incarnation: Cell<Group>,
    /// Whether the object is evicted and not yet started again.
    pub is_down: Cell<bool>,
    /// Groups of the workers on units.
    pub units: RefCell<Vec<Group>>,
    /// Requests on their way.
    pub in_flight: Cell<u32>,
    /// Hooks on their way.
    pub hooks_in_flight: Cell<u32>,
    /// Who waits for hooks to arrive.
    pub arrivals: RefCell<Vec<Rc<Waiter>>>,
    /// When a pass last read a record.
    reads: RefCell<HashMap<(u64, EntityType, u64), LastRead>>,
    /// Passes begun.
    pub passes: Cell<u64>,
    /// When requests were asked for that have not had their turn yet.
    pub asked: RefCell<Vec<(String, i64)>>,
    /// When runs began, by steps, and from which time of change on they read.
    pub runs_begun: RefCell<HashMap<String, (u64, Option<Timestamp>)>>,
    second: RefCell<VecDeque<i64>>,
    minute: RefCell<VecDeque<i64>>,
    day: RefCell<VecDeque<i64>>,
}

impl Stage {
    pub(super) fn new(setting: &Setting, mutation: Mutation, seed: u64, is_told: bool) -> Self {
        let settings = AccountSettings {
            policies: setting.policies.clone(),
            delete_in_keap: setting.delete_in_keap,
            incremental_interval_minutes: 3,
            ..AccountSettings::default()
        };
        Self {
            schedule: Schedule::new(BEGINNING_MS, Random::new(seed, 2)),
            keap: RefCell::new(KeapSide::new(
                setting.time_grain_ms,
                setting.tags_move_time,
                setting.page_size,
            )),
            mirror: RefCell::default(),
            ledger: RefCell::default(),
            storage: RefCell::default(),
            quota: RefCell::default(),
            limits: QuotaLimits {
                per_second: setting.calls.0,
                per_minute: setting.calls.1,
                per_day: setting.calls_per_day,
            },
            faults: RefCell::default(),
            coverage: RefCell::default(),
            trace: RefCell::new(Trace::new(is_told)),
            setting: setting.clone(),
            settings,
            account: AccountId::parse("simulated").unwrap_or_else(|_| unreachable!("the name is valid")),
            link_fields: LinkFields { contact: Some(link_field()), order: Some(link_field()) },
            mutation,
            violation: RefCell::default(),
            steps: Cell::new(0),
            incarnation: Cell::new(0),
            is_down: Cell::new(false),
            units: RefCell::default(),
            in_flight: Cell::new(0),
            hooks_in_flight: Cell::new(0),
            arrivals: RefCell::default(),
            reads: RefCell::default(),
            passes: Cell::new(0),
            asked: RefCell::default(),
            runs_begun: RefCell::default(),
            second: RefCell::default(),
            minute: RefCell::default(),
            day: RefCell::default(),
        }
    }

    /// Notes a broken invariant; the first one counts.
    pub(super) fn judge(&self, verdict: Result<(), Violation>) {
        if let Err(violation) = verdict {
            self.tell(|| format!("BROKEN: {violation}"));
            self.violation.borrow_mut().get_or_insert(violation);
        }
    }

    /// Adds to the trace.
    pub(super) fn tell(&self, line: impl FnOnce() -> String) {
        self.trace.borrow_mut().tell(self.schedule.now_ms() - BEGINNING_MS, line);
    }

    /// Counts a step, and lets what is due after so many steps happen.
    pub(super) fn step(&self, kind: u64, detail: u64) -> u64 {
        let step = self.steps.get() + 1;
        self.steps.set(step);
        self.keap.borrow_mut().step = step;
        self.trace.borrow_mut().note(self.schedule.now_ms(), kind, detail);
        step
    }

    pub(super) fn keap_now(&self) -> Timestamp {
        Timestamp(self.schedule.now_ms() + self.setting.keap_skew_ms)
    }

    pub(super) fn postgres_now(&self) -> Timestamp {
        Timestamp(self.schedule.now_ms() + self.setting.postgres_skew_ms)
    }

    pub(super) fn object_now(&self) -> Timestamp {
        Timestamp(self.schedule.now_ms())
    }

    pub(super) fn is_paused(&self) -> bool {
        self.faults.borrow().paused_until_ms > self.schedule.now_ms()
    }

    pub(super) fn latency_ms(&self) -> i64 {
        self.schedule.draw(|random| match random.below(100) {
            0..60 => random.between(0, 10),
            60..97 => random.between(5, 120),
            _ => random.between(100, 3_000),
        })
    }

    /// Waits as long as a message takes.
    pub(super) async fn pause(&self) {
        self.schedule.sleep(self.latency_ms()).await;
    }

    /// Runs one statement.
    pub(super) async fn statement<R>(
        &self,
        kind: u64,
        run: impl FnOnce(&mut MirrorSide, Timestamp) -> R,
    ) -> Result<R, Failure> {
        self.pause().await;
        self.step(kind, 0);
        let fault = self.faults.borrow_mut().statements.pop_front();
        let away = || Failure::new(FailureClass::Unavailable, "Postgres is away");
        if fault == Some(StatementFault::Refused) {
            self.coverage.borrow_mut().count("statement refused");
            self.tell(|| "Postgres: a statement is refused".to_owned());
            return Err(away());
        }
        let result = run(&mut self.mirror.borrow_mut(), self.postgres_now());
        if fault == Some(StatementFault::AnswerLost) {
            self.coverage.borrow_mut().count("statement committed, its answer lost");
            self.tell(|| "Postgres: a statement is committed, its answer is lost".to_owned());
            self.pause().await;
            return Err(away());
        }
        self.pause().await;
        Ok(result)
    }

    /// A request arrives at Keap.
    pub(super) fn arrive(&self, flight: &Flight) {
        let step = self.step(1, 0);
        self.in_flight.set(self.in_flight.get() - 1);
        let now_ms = self.schedule.now_ms();
        let (fault, down) = {
            let mut faults = self.faults.borrow_mut();
            (faults.requests.pop_front(), faults.keap_down.filter(|(_, until_ms)| *until_ms > now_ms))
        };
        let no_answer = || Failure::new(FailureClass::Unavailable, "Keap could not be reached");
        let status = match (fault, down) {
            (_, Some((status, _))) | (Some(RequestFault::Status(status)), None) => Some(status),
            _ => None,
        };
        let described = || {
            let url = flight.request.url.split("&fields=").next().unwrap_or_default();
            let url = url.split("?fields=").next().unwrap_or_default().replace("http://keap/rest/v2", "");
            format!("{} {url}", flight.request.method.as_str())
        };
        if let Some(status) = status {
            self.coverage.borrow_mut().count(if status == 429 { "429" } else { "5xx" });
            self.tell(|| format!("Keap: {} -> {status}", described()));
            self.reply(flight, Ok(answer(status, "{\"message\":\"fault\"}".to_owned())), self.latency_ms());
            return;
        }
        if fault == Some(RequestFault::Lost) {
            self.coverage.borrow_mut().count("request lost");
            self.tell(|| format!("Keap: {} is lost", described()));
            let wait_ms = if step.is_multiple_of(2) { TIMEOUT_MS } else { 50 };
            self.reply(flight, Err(no_answer()), wait_ms);
            return;
        }
        let is_authorised = match &flight.request.credential {
            Credential::Bearer(token) => token.reveal() == self.keap.borrow().access_token,
            Credential::Basic(_) => false,
        };
        if !is_authorised {
            self.coverage.borrow_mut().count("401");
            self.reply(flight, Ok(answer(401, "{\"message\":\"token\"}".to_owned())), self.latency_ms());
            return;
        }
        let served = self.keap.borrow_mut().serve(&flight.request, self.keap_now());
        self.tell(|| format!("Keap: {} -> {}", described(), served.response.status));
        if let Some(change) = &served.change {
            let read = self.reads.borrow().get(&(flight.pass, change.entity, change.id)).copied();
            let written_by = read.map(|read| WrittenBy {
                read_at_step: read.step,
                is_fresh: flight.asked_ms - read.answered_ms <= READING_AGE_MAX_MS,
            });
            self.tell(|| {
                let after = change.after.map_or_else(|| "gone".to_owned(), |after| after.to_string());
                format!("  {} {} now {after}", change.entity.as_str(), change.id)
            });
            let verdict = self.ledger.borrow_mut().engine_wrote_keap(change, written_by);
            self.judge(verdict);
            if change.after.is_none() {
                let mirror = self.mirror.borrow();
                let row = mirror.linked(change.entity, change.id).map(|row| row.row.id.as_str());
                self.judge(self.ledger.borrow().check_deleted_in_keap(change, row));
            }
            if let Some(row) = self.keap.borrow_mut().twice.take() {
                self.judge(Err(Violation::new(
                    Invariant::OneEffect,
                    format!("row {row} was made a record of Keap's twice"),
                )));
            }
            self.send_hook(change.entity, change.id);
        }
        if fault == Some(RequestFault::AnswerLost) {
            self.coverage.borrow_mut().count("answer lost");
            self.tell(|| "  its answer is lost".to_owned());
            let wait_ms = if step.is_multiple_of(2) { TIMEOUT_MS } else { 50 };
            self.reply(flight, Err(no_answer()), wait_ms);
            return;
        }
        let slow_ms = match fault {
            Some(RequestFault::Slow(delay_ms)) => {
                self.coverage.borrow_mut().count("slow answer");
                delay_ms
            }
            _ => 0,
        };
        let delay_ms = self.latency_ms() + slow_ms;
        let read = LastRead { step, answered_ms: now_ms + delay_ms };
        let shown = served.shown.iter().map(|(entity, id)| ((flight.pass, *entity, *id), read));
        self.reads.borrow_mut().extend(shown);
        self.reply(flight, Ok(served.response), delay_ms);
    }

    fn reply(&self, flight: &Flight, response: Result<Response, Failure>, delay_ms: i64) {
        *flight.reply.response.borrow_mut() = Some(response);
        self.schedule.fire_after(delay_ms, Rc::clone(&flight.reply.waiter));
    }

    /// Keap sends a hook for a record.
    pub(super) fn send_hook(&self, entity: EntityType, id: u64) {
        let mut faults = self.faults.borrow_mut();
        let mut coverage = self.coverage.borrow_mut();
        if !self.setting.has_hooks || faults.hooks_inactive_until_ms > self.schedule.now_ms() {
            coverage.count("hook not sent");
            return;
        }
        let delay_ms = self.schedule.draw(|random| {
            if random.chance(80) { random.between(20, 900) } else { random.between(500, 8_000) }
        });
        let (copies, delay_ms) = match faults.hooks.pop_front() {
            Some(HookFault::Dropped) => {
                coverage.count("hook dropped");
                (0, 0)
            }
            Some(HookFault::Doubled) => {
                coverage.count("hook doubled");
                (2, delay_ms)
            }
            Some(HookFault::Delayed(extra_ms)) => {
                coverage.count("hook delayed");
                (1, delay_ms + extra_ms)
            }
            None => (1, delay_ms),
        };
        for copy in 0..copies {
            self.hooks_in_flight.set(self.hooks_in_flight.get() + 1);
            self.schedule.after(delay_ms + copy * 700, Event::Hook(vec![(entity, id)]));
        }
    }

    /// Counts a call at the moment it is sent.
    pub(super) fn count_call(&self) {
        let now_ms = self.schedule.now_ms();
        for (window, length_ms, limit, name) in [
            (&self.second, 1_000, self.limits.per_second, "second"),
            (&self.minute, 60_000, self.limits.per_minute, "minute"),
            (&self.day, 86_400_000, self.limits.per_day, "day"),
        ] {
            let mut calls = window.borrow_mut();
            while calls.front().is_some_and(|sent| now_ms - sent >= length_ms) {
                calls.pop_front();
            }
            calls.push_back(now_ms);
            if calls.len() > limit as usize {
                self.judge(Err(Violation::new(
                    Invariant::Quota,
                    format!("{} calls within one {name}, where {limit} are allowed", calls.len()),
                )));
            }
        }
    }

    /// An undo changed a row: values that were there before are there again, and are edits of now.
    pub(super) fn undo_wrote_row(&self, change: &super::mirror_side::RowChange) {
        let before = change.before.as_ref().map(|row| Cells::of_record(&row.record));
        let after = Cells::of_record(&change.after.record);
        let id = change.after.keap_id.as_ref().and_then(|id| id.parse().ok());
        let there = id.and_then(|id| self.keap.borrow().cells(after.entity, id));
        let agreed = change.before.as_ref().map(|row| Cells::of_record(&base_of(row)));
        let mut ledger = self.ledger.borrow_mut();
        ledger.renew(before.as_ref(), &after, there.as_ref(), agreed.as_ref());
        ledger.person_wrote(Side::Supabase, before.as_ref(), &after, self.steps.get());
    }

    /// A person's change of a row, with all it brings.
    pub(super) fn person_wrote_row(&self, change: Option<super::mirror_side::RowChange>) {
        let Some(change) = change else { return };
        let before = change.before.as_ref().map(|row| Cells::of_record(&row.record));
        let after = Cells::of_record(&change.after.record);
        let step = self.steps.get();
        self.ledger.borrow_mut().person_wrote(Side::Supabase, before.as_ref(), &after, step);
    }
}
