//! The outbox: looked at every second while edits come, more seldom while none do, and drained when something is due.

use super::lease::Want;
use super::{Account, OutboxSeen, time_now};
use crate::database::Database;
use keapsync_domain::failure::Failure;
use keapsync_domain::limits::OUTBOX_CLAIM_MAX;
use keapsync_domain::run::RunState;
use keapsync_domain::settings::AccountSettings;
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::outbox::drain_unheld;
use keapsync_engine::ports::proof::GuardStore as _;
use keapsync_engine::ports::{OutboxDepth, OutboxStore as _};
use keapsync_engine::quota::Priority;
use keapsync_engine::watched::Watched;
use keapsync_engine::world::World;
use keapsync_platform::clock::WorkerClock;
use keapsync_platform::entropy::random_u32;
use keapsync_store::Store;

/// Calls that one lease of the drain holds: an edit costs two or three.
const WANT: Want = Want { priority: Priority::Outbox, calls_max: 160, calls_per_second_max: 8 };

/// Calls that must be left for another batch to be begun.
const CALLS_LEFT_MIN: u32 = 10;

/// Items queued by one statement of a run that carries everything.
const REQUEUE_MAX: usize = 5_000;

/// Pause between two looks while edits come, in milliseconds.
const POLL_INTERVAL_MIN_MS: i64 = 1_000;

/// How long the outbox is looked at every second after the last edit, in milliseconds.
const ACTIVE_MS: i64 = 60_000;

impl Account<'_> {
    /// When the outbox is to be looked at next.
    pub(super) fn next_outbox_at(&self, now: Timestamp) -> Timestamp {
        self.object.outbox.get().next_at.unwrap_or(now)
    }

    /// Makes the next alarm look at the outbox.
    pub(super) fn wake_outbox(&self) {
        let seen = self.object.outbox.get();
        self.object.outbox.set(OutboxSeen { next_at: None, idle_since: None, ..seen });
    }

    /// Looks, drains what is due, and decides when to look again. Says how many items were carried over.
    pub(super) async fn drain_outbox(
        &self,
        database: &Database,
        deadline: Timestamp,
    ) -> Result<usize, Failure> {
        let client = database.client().await?;
        let store = Store::new(&client);
        if self.is_paused()? {
            // What is captured meanwhile is shown.
            self.outbox_seen(store.depth(self.id).await?, false, 0);
            return Ok(0);
        }
        let settings = self.settings()?;
        if let Err(failure) = self.queue_what_is_owed(&store, &settings).await {
            // What is queued already does not wait for it.
            self.log().warn("edits_not_queued").account(self.id).failure(&failure).emit();
        }
        if self.tells_of_holds()? {
            // People may have taken back what is held.
            self.tell_of_holds(&store).await?;
        }
        let depth = store.depth(self.id).await?;
        let is_due = |depth: &OutboxDepth, now| depth.next_due_at.is_some_and(|due_at| due_at <= now);
        if !is_due(&depth, time_now()) {
            self.outbox_seen(depth, false, 0);
            return Ok(0);
        }
        let credential = self.credential().await?;
        let link_fields = self.link_fields()?;
        let watched = Watched::new(&store);
        let owner = super::credential::short_hash(self.id.as_str());
        let outcome = self
            .leased(&credential, WANT, async |paced| {
                let api = self.records(paced, &credential, &link_fields);
                let entropy = random_u32()?;
                let clock = WorkerClock;
                let world = World {
                    keap: &api,
                    store: &watched,
                    clock: &clock,
                    account: self.id,
                    settings: &settings,
                    entropy,
                };
                let mut completed = 0;
                loop {
                    let held = store.pass_edits(self.id, &settings, &self.stopped_deletes()?).await?;
                    if held > 0 {
                        self.tell_of_holds(&store).await?;
                    }
                    let report = drain_unheld(&world, &owner, OUTBOX_CLAIM_MAX).await;
                    self.tell_all(watched.take_events());
                    let report = report?;
                    completed += report.completed;
                    if report.retried + report.failed > 0 {
                        let line = self.log().warn("outbox_items_not_carried").account(self.id);
                        line.count("retried", report.retried as u64)
                            .count("failed", report.failed as u64)
                            .emit();
                    }
                    if let Some(failure) = report.outage {
                        return Err(failure);
                    }
                    if !report.more
                        || self.is_paused()?
                        || paced.calls_left() < CALLS_LEFT_MIN
                        || time_now() >= deadline
                    {
                        return Ok(completed);
                    }
                }
            })
            .await?;
        let completed = self.heed(&credential, outcome)?;
        self.outbox_seen(store.depth(self.id).await?, true, completed);
        Ok(completed)
    }

    /// Queues what is owed to Keap and not on its way, for runs that are to carry everything.
    async fn queue_what_is_owed(&self, store: &Store<'_>, settings: &AccountSettings) -> Result<(), Failure> {
        for tracked in self.sql().active_runs()? {
            if tracked.has_units() || tracked.run.state != RunState::Queued {
                continue;
            }
            let entity = tracked.run.entity;
            if store.requeue(self.id, entity, settings.delete_in_keap, REQUEUE_MAX).await? == 0 {
                self.move_run(&tracked, &tracked.begun(time_now()))?;
            }
        }
        Ok(())
    }

    fn outbox_seen(&self, depth: OutboxDepth, was_active: bool, carried: usize) {
        let now = time_now();
        let before = self.object.outbox.get();
        let idle_since = if was_active { now } else { before.idle_since.unwrap_or(now) };
        let pause_ms = pause_ms(now.since_ms(idle_since), self.config.outbox_poll_interval_max_ms);
        let next_at = match depth.next_due_at.filter(|_| !self.is_paused().unwrap_or(false)) {
            Some(due_at) => now.plus_ms(pause_ms).min(due_at.max(now)),
            None => now.plus_ms(pause_ms),
        };
        self.object.outbox.set(OutboxSeen {
            depth: Some(depth),
            looked_at: Some(now),
            next_at: Some(next_at),
            idle_since: Some(idle_since),
            moved_at: if carried > 0 { Some(now) } else { before.moved_at },
        });
    }

    /// Whether the outbox was seen with nothing in it.
    pub(super) fn is_outbox_empty(&self) -> bool {
        self.object.outbox.get().depth.is_some_and(|depth| depth.open == 0)
    }
}

/// The pause after `idle_ms` without work: a second at first, then a fourth of the idle time, up to the maximum.
fn pause_ms(idle_ms: i64, pause_max_ms: i64) -> i64 {
    let pause_ms =
        if idle_ms < ACTIVE_MS { POLL_INTERVAL_MIN_MS } else { (idle_ms / 4).max(POLL_INTERVAL_MIN_MS) };
    pause_ms.min(pause_max_ms.max(POLL_INTERVAL_MIN_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_every_second_while_active_and_backs_off_when_idle() {
        assert_eq!(pause_ms(0, 30_000), 1_000);
        assert_eq!(pause_ms(ACTIVE_MS - 1, 30_000), 1_000);
        assert_eq!(pause_ms(80_000, 30_000), 20_000);
        assert_eq!(pause_ms(86_400_000, 30_000), 30_000);
        assert_eq!(pause_ms(86_400_000, 0), 1_000);
    }
}
