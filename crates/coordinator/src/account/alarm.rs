//! The alarm: does what is due, and sets itself to what is due next.
//!
//! It never throws, because the platform gives up on an alarm that throws six times; it always arms itself again. The parts
//! are isolated: each has its own wait and its own last error.

use super::parts::{Part, Parts, wait_ms};
use super::setup::Step;
use super::signal::Signal;
use super::{Account, ObjectState, time_now};
use crate::database::Database;
use crate::storage::values;
use futures_util::future::{join, join3, select};
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::AccountId;
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::ports::Clock as _;
use keapsync_engine::token::ConnectionState;
use keapsync_platform::clock::{WorkerClock, sleep_ms};
use keapsync_platform::entropy::random_u32;
use keapsync_platform::log::Log;
use std::cell::Cell;
use std::pin::pin;

/// How long one alarm goes on taking up work, in milliseconds.
const WORK_BUDGET_MS: i64 = 20_000;

/// When to try again after an alarm that could not even find out what is due, in milliseconds.
const FALLBACK_MS: i64 = 15_000;

/// Longest pause between two looks for work while other parts are at work, in milliseconds: an arrival ends it, what falls due
/// by time does not.
const IDLE_LOOK_MS: i64 = 250;

/// After a drain the next one waits this many times as long as that one took, and no longer than the limit in milliseconds. What arrives
/// meanwhile shares one drain: each costs a connection, a share of the quota and a call to Keap, however few events it settles,
/// and an object that only drained would leave deliveries waiting.
const REST_FACTOR: i64 = 3;
const REST_MS_MAX: i64 = 300;

impl ObjectState {
    /// Runs the alarm.
    pub async fn run_alarm(&self) {
        let now = WorkerClock.now();
        self.armed_at.set(None);
        self.running_since.set(Some(now));
        let next = match self.account_name() {
            Ok(Some(id)) => match &self.config {
                Ok(config) => Account { object: self, id: &id, config }.work(now).await,
                Err(error) => {
                    Log::default().error("misconfigured").account(&id).config_error(error).emit();
                    Some(now.plus_ms(FALLBACK_MS))
                }
            },
            Ok(None) => None,
            Err(failure) => {
                Log::default().error("alarm_failed").failure(&failure).emit();
                Some(now.plus_ms(FALLBACK_MS))
            }
        };
        self.running_since.set(None);
        if let Some(next) = next {
            self.set_alarm(next, WorkerClock.now()).await;
        }
    }

    fn account_name(&self) -> Result<Option<AccountId>, Failure> {
        if !self.sql.exists()? {
            return Ok(None);
        }
        self.sql.get(values::ACCOUNT)
    }
}

impl Account<'_> {
    /// Does what is due and says when something is due next. What it says is found out without an await before the end, so
    /// nothing that arrived meanwhile is overlooked.
    async fn work(&self, now: Timestamp) -> Option<Timestamp> {
        let database = Database::new(&self.object.env);
        let deadline = now.plus_ms(WORK_BUDGET_MS);
        if let Err(failure) = self.do_parts(&database, deadline).await {
            self.log().error("alarm_failed").account(self.id).failure(&failure).emit();
            return Some(time_now().plus_ms(FALLBACK_MS));
        }
        match self.next_due_at() {
            Ok(next) => next,
            Err(failure) => {
                self.log().error("alarm_failed").account(self.id).failure(&failure).emit();
                Some(time_now().plus_ms(FALLBACK_MS))
            }
        }
    }

    async fn do_parts(&self, database: &Database, deadline: Timestamp) -> Result<(), Failure> {
        if self.is_due(Part::Token)? && self.token_due_at()?.is_some_and(|due_at| due_at <= time_now()) {
            let outcome = self.renew_credential().await;
            self.note(Part::Token, &outcome)?;
        }
        // Also what is not connected tells the registry and the mirror so.
        if self.is_due(Part::Setup)? && self.has_setup_open()? {
            let outcome = self.run_setup(database).await;
            self.note(Part::Setup, &outcome)?;
        }
        if !self.is_connected() {
            return Ok(());
        }
        self.note_pulse()?;
        let busy = Cell::new(0);
        let (events, work) = (&self.object.events_arrived, &self.object.work_arrived);
        // Boxed: it is seldom at work, and would make the future of every alarm larger.
        let hooks = self.keep_at(work, &busy, deadline, async || Box::pin(self.hooks_part()).await);
        if self.can_write_rows()? {
            let live = join3(
                self.keep_at(events, &busy, deadline, async || self.events_part(database, deadline).await),
                self.keep_at(work, &busy, deadline, async || self.outbox_part(database, deadline).await),
                self.keep_at(work, &busy, deadline, async || self.runs_part().await),
            );
            let (hooks, (events, outbox, runs)) = join(hooks, live).await;
            hooks.and(events).and(outbox).and(runs)?;
            if self.is_due(Part::Mirror)? {
                let outcome = self.mirror_runs(database).await;
                self.note(Part::Mirror, &outcome)?;
            }
        } else {
            hooks.await?;
        }
        self.write_tally()
    }

    /// Repeats a part until it finds nothing to do while no other is at work: what arrives meanwhile would otherwise wait
    /// for the slowest.
    async fn keep_at(
        &self,
        signal: &Signal,
        busy: &Cell<u8>,
        deadline: Timestamp,
        part: impl AsyncFn() -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        loop {
            let seen = signal.count();
            busy.set(busy.get() + 1);
            let outcome = part().await;
            busy.set(busy.get() - 1);
            if busy.get() == 0 {
                // Who waits for this part to end must not wait for something to arrive.
                self.object.wake_parts();
            }
            let has_worked = outcome?;
            if time_now() >= deadline {
                return Ok(());
            }
            if has_worked {
                continue;
            }
            if busy.get() == 0 {
                return Ok(());
            }
            select(pin!(signal.raised_since(seen)), pin!(sleep_ms(IDLE_LOOK_MS))).await;
        }
    }

    /// Looks at the subscriptions to hooks. Says whether it did.
    async fn hooks_part(&self) -> Result<bool, Failure> {
        // Somebody may have revoked while the alarm is at work; a look that does nothing would be due again at once, without an end.
        // That is asked last, because the credential is decrypted for it.
        if !self.is_due(Part::Hooks)? || self.next_hooks_at()? > time_now() || !self.is_connected() {
            return Ok(false);
        }
        let outcome = self.look_at_hooks().await;
        self.note(Part::Hooks, &outcome)?;
        Ok(outcome.is_ok())
    }

    /// Drains events. Says whether there were any.
    async fn events_part(&self, database: &Database, deadline: Timestamp) -> Result<bool, Failure> {
        if !self.has_events_to_drain()? {
            return Ok(false);
        }
        let rest_ms = self.object.drain_not_before.get().since_ms(time_now()).min(REST_MS_MAX);
        if rest_ms > 0 {
            sleep_ms(rest_ms).await;
            if !self.has_events_to_drain()? {
                return Ok(false);
            }
        }
        let now = time_now();
        let outcome = self.drain_events(database, deadline).await;
        let ended = time_now();
        let rest_ms = ended.since_ms(now).saturating_mul(REST_FACTOR).min(REST_MS_MAX);
        self.object.drain_not_before.set(ended.plus_ms(rest_ms));
        let settled = *outcome.as_ref().unwrap_or(&0);
        if settled > 0 {
            self.object.events_moved_at.set(Some(time_now()));
            let line = self.log().info("events_drained").account(self.id).count("settled", settled as u64);
            line.duration_ms(time_now().since_ms(now)).emit();
        }
        self.note(Part::Events, &outcome.map(|_| ()))?;
        Ok(settled > 0)
    }

    fn has_events_to_drain(&self) -> Result<bool, Failure> {
        Ok(!self.is_paused()?
            && self.is_due(Part::Events)?
            && self.sql().next_event_at()?.is_some_and(|due_at| due_at <= time_now()))
    }

    /// Drains the outbox. Says whether anything was carried over.
    async fn outbox_part(&self, database: &Database, deadline: Timestamp) -> Result<bool, Failure> {
        let now = time_now();
        if !self.can_carry()? || !self.is_due(Part::Outbox)? || self.next_outbox_at(now) > now {
            return Ok(false);
        }
        let outcome = self.drain_outbox(database, deadline).await;
        let carried = *outcome.as_ref().unwrap_or(&0);
        if carried > 0 {
            let line = self.log().info("outbox_drained").account(self.id).count("carried", carried as u64);
            line.duration_ms(time_now().since_ms(now)).emit();
        }
        if outcome.is_ok() {
            self.settle_carrying_runs(carried)?;
        }
        self.note(Part::Outbox, &outcome.map(|_| ()))?;
        Ok(carried > 0)
    }

    /// Starts and orders what is due. Says whether there was anything.
    async fn runs_part(&self) -> Result<bool, Failure> {
        if self.is_paused()?
            || !self.is_due(Part::Runs)?
            || self.next_run_at()?.is_none_or(|at| at > time_now())
        {
            return Ok(false);
        }
        let outcome = self.order_units().await;
        self.note(Part::Runs, &outcome)?;
        Ok(outcome.is_ok())
    }

    /// The earliest moment at which any part has something to do.
    fn next_due_at(&self) -> Result<Option<Timestamp>, Failure> {
        let now = time_now();
        let parts = self.parts()?;
        let after_wait = |part: Part, at: Option<Timestamp>| {
            at.map(|at| parts.retry_at(part).map_or(at, |retry_at| at.max(retry_at)))
        };
        let token = after_wait(Part::Token, self.token_due_at()?);
        let setup = after_wait(Part::Setup, self.has_setup_open()?.then_some(now));
        if !self.is_connected() {
            return Ok([token, setup].into_iter().flatten().min());
        }
        let hooks = after_wait(Part::Hooks, Some(self.next_hooks_at()?));
        let mut due = vec![token, setup, hooks, self.object.tally.due_at()];
        if self.can_write_rows()? {
            if !self.is_paused()? {
                due.push(after_wait(Part::Events, self.sql().next_event_at()?));
                due.push(after_wait(Part::Runs, self.next_run_at()?));
            }
            due.push(after_wait(Part::Mirror, (!self.sql().unmirrored_runs(1)?.is_empty()).then_some(now)));
        }
        if self.can_carry()? {
            due.push(after_wait(Part::Outbox, Some(self.next_outbox_at(now))));
        }
        Ok(due.into_iter().flatten().min())
    }

    /// When the alarm refreshes the token, or tries the service key.
    fn token_due_at(&self) -> Result<Option<Timestamp>, Failure> {
        let token = self.load_token()?;
        Ok(token.next_refresh_at().or_else(|| token.key_check_at()))
    }

    async fn renew_credential(&self) -> Result<(), Failure> {
        if self.load_token()?.key_check_at().is_some() {
            return self.check_key().await;
        }
        self.credential().await.map(|_| ())
    }

    /// Whether there is a credential. One that cannot be decrypted is none; status says why.
    pub(super) fn is_connected(&self) -> bool {
        self.load_token().is_ok_and(|token| token.state == ConnectionState::Connected)
    }

    /// Whether something has to be done once that can be done now.
    fn has_setup_open(&self) -> Result<bool, Failure> {
        Ok(!self.steps_to_do()?.is_empty())
    }

    /// Whether rows can be written: they refer to the account's row.
    fn can_write_rows(&self) -> Result<bool, Failure> {
        Ok(!self.setup()?.open.contains(&Step::AccountRow))
    }

    /// Whether edits can be carried to Keap: creates rest on the link fields.
    fn can_carry(&self) -> Result<bool, Failure> {
        let fields = self.link_fields()?;
        Ok(self.can_write_rows()? && fields.contact.is_some() && fields.order.is_some())
    }

    pub(super) fn parts(&self) -> Result<Parts, Failure> {
        Ok(self.sql().get(values::PARTS)?.unwrap_or_default())
    }

    fn is_due(&self, part: Part) -> Result<bool, Failure> {
        Ok(self.parts()?.is_due(part, time_now()))
    }

    /// Notes how a part ended; writes only what changed.
    fn note(&self, part: Part, outcome: &Result<(), Failure>) -> Result<(), Failure> {
        if let Err(failure) = outcome
            && wait_ms(failure).is_none()
        {
            self.log()
                .warn("part_failed")
                .account(self.id)
                .word("part", part.as_str())
                .failure(failure)
                .emit();
        }
        let before = self.parts()?;
        let mut parts = before.clone();
        parts.note(part, outcome, time_now(), random_u32()?);
        if parts == before {
            return Ok(());
        }
        self.sql().put(values::PARTS, &parts)?;
        self.tell_all(parts.told_since(&before, part));
        Ok(())
    }

    /// Lets every part run at once: the account was connected anew, or somebody asks.
    pub(super) fn retry_all_parts(&self) -> Result<(), Failure> {
        let mut parts = self.parts()?;
        parts.retry_all();
        self.sql().put(values::PARTS, &parts)
    }
}
