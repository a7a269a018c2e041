//! The watchdog: looks whether the account's work stands still, says so, and kicks it. Called by the sync worker's cron every minute.

use super::parts::Part;
use super::{Account, time_now};
use keapsync_domain::failure::Failure;
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::watchdog::{Queue, Seen, Stall, stalls};
use keapsync_platform::respond::Answer;
use serde_json::json;

/// Pause between two looks, in milliseconds: edits may call for the alarm many times a second.
const LOOK_INTERVAL_MS: i64 = 30_000;

impl Account<'_> {
    /// What stands still.
    pub(super) fn stalls(&self) -> Result<Vec<Stall>, Failure> {
        Ok(stalls(&self.seen()?, time_now()))
    }

    fn seen(&self) -> Result<Seen, Failure> {
        let (now, pulse, parts) = (time_now(), self.pulse()?, self.parts()?);
        let error = |part: Part| {
            let state = parts.0.get(&part)?;
            (state.failures > 0).then(|| state.error.as_ref().map(|failure| failure.message.clone()))?
        };
        let past = |at: Option<Timestamp>| at.filter(|at| *at <= now);
        let active = self.sql().active_runs()?;
        let overdue = active
            .iter()
            .filter(|tracked| tracked.has_units())
            .filter_map(|tracked| Some(tracked.next_order_at()?.max(tracked.run.requested_at)))
            .min();
        let outbox = self.object.outbox.get();
        Ok(Seen {
            is_at_work: self.is_connected() && !self.is_paused()?,
            alive_at: pulse.alive,
            events: Queue {
                due_since: past(self.sql().next_event_at()?),
                moved_at: self.object.events_moved_at.get().max(pulse.events_moved),
                error: error(Part::Events).or_else(|| error(Part::Setup)),
            },
            outbox: Queue {
                due_since: past(outbox.depth.and_then(|depth| depth.next_due_at)),
                moved_at: outbox.moved_at.max(pulse.outbox_moved),
                error: error(Part::Outbox).or_else(|| error(Part::Setup)),
            },
            runs: Queue {
                due_since: past(overdue),
                moved_at: self.object.runs_moved_at.get().max(pulse.runs_moved),
                error: error(Part::Runs),
            },
        })
    }

    /// `POST …/wake`: looks for work at once. Where something stands still, it says so, and everything is tried anew.
    pub(super) async fn wake(&self) -> Result<Answer, Failure> {
        let now = time_now();
        self.wake_outbox();
        let looked_at = &self.object.watched_at;
        if looked_at.get().is_none_or(|at| now.since_ms(at) >= LOOK_INTERVAL_MS) {
            looked_at.set(Some(now));
            let found = self.stalls()?;
            for stall in &found {
                let line = self.log().warn("stalled").account(self.id).word("what", stall.what.as_str());
                line.duration_ms(now.since_ms(stall.since)).emit();
            }
            if !found.is_empty() {
                self.retry_all_parts()?;
                self.object.forget_alarm(now);
            }
        }
        self.object.arm(now).await;
        Ok(Answer::json(202, &json!({"awake": true})))
    }
}
