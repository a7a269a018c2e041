//! Runs: started, ordered from the sync worker unit by unit, moved on by its reports.
//!
//! A run is written before its unit is ordered, so that a unit is never out without the object knowing; and a report is
//! settled in one step. What is not known after a hand-over that failed is left to the unit's lease.

use super::lease::Want;
use super::times::shown;
use super::{Account, time_now};
use crate::database::Database;
use crate::storage::values;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::EntityType;
use keapsync_domain::run::{Batch, Direction, Run, RunKind, RunState};
use keapsync_domain::timestamp::Timestamp;
use keapsync_domain::wire::{KeapGrant, StartRunsRequest, StartRunsResponse, UnitOrder, UnitReport};
use keapsync_engine::catch_up::note_read;
use keapsync_engine::feed::run_event;
use keapsync_engine::quota::Priority;
use keapsync_engine::runs::{RunRequest, Start, TrackedRun, incremental_due_at, start};
use keapsync_platform::entropy::{random_u32, random_uuid};
use keapsync_platform::respond::Answer;
use keapsync_platform::sync_client::SyncClient;
use keapsync_store::Store;
use serde_json::json;
use std::collections::BTreeMap;

/// Calls of one unit: what its time budget allows at the rate below, and a margin.
const UNIT_CALLS_MAX: u32 = 300;

/// The most calls per second that a unit can use.
const UNIT_CALLS_PER_SECOND_MAX: u32 = 50;

/// Runs shown in a list.
const RUNS_SHOWN_MAX: i64 = 100;

/// Runs mirrored in one alarm.
const MIRRORED_MAX: i64 = 20;

impl Account<'_> {
    /// Starts runs, or joins those of their kind.
    pub(super) async fn start_runs(&self, body: &[u8]) -> Result<Answer, Failure> {
        let request = serde_json::from_slice::<StartRunsRequest>(body).ok();
        let Some(request) = request.filter(|request| !request.entities.is_empty()) else {
            return Ok(Answer::bad_request(
                "give kind (full or incremental), entities (contact, order, tag, subscription) and, if wanted, direction",
            ));
        };
        let now = time_now();
        let mut started = self.begin_runs(&request, now)?;
        if let Some(pause) = self.pause_state()? {
            started.waits = Some(format!(
                "the account is paused since {}: the run begins when it is resumed",
                pause.since.to_rfc3339()
            ));
        }
        self.wake_outbox();
        self.object.arm(now).await;
        Ok(Answer::json(202, &started))
    }

    pub(super) fn begin_runs(
        &self,
        request: &StartRunsRequest,
        now: Timestamp,
    ) -> Result<StartRunsResponse, Failure> {
        let watermarks = self.watermarks()?;
        let active = self.sql().active_runs()?;
        let batch_id = (request.entities.len() > 1).then(random_uuid).transpose()?;
        let (mut run_ids, mut run_id) = (Vec::new(), None);
        for entity in &request.entities {
            let request = RunRequest {
                kind: request.kind,
                entity: *entity,
                direction: request.direction,
                batch_id: batch_id.clone(),
                dry_run: request.dry_run,
                reverts: request.reverts.clone(),
            };
            match start(&active, &request, &random_uuid()?, watermarks.get(entity).copied(), now) {
                Start::Joined(id) => {
                    let joined = active.iter().find(|tracked| tracked.run.id == id);
                    let known_as = joined.and_then(|tracked| tracked.run.batch_id.clone());
                    run_id = run_id.or(known_as).or_else(|| Some(id.clone()));
                    run_ids.push(id);
                }
                Start::Started(tracked) => {
                    self.write_run(&tracked)?;
                    // What was started now is what is asked about, also beside runs that were under way.
                    run_id = batch_id.clone().or_else(|| Some(tracked.run.id.clone()));
                    run_ids.push(tracked.run.id);
                }
            }
        }
        Ok(StartRunsResponse { run_id: run_id.unwrap_or_default(), run_ids, waits: None })
    }

    /// From when on each entity's changes are read; absent before its first complete reading.
    pub(super) fn watermarks(&self) -> Result<BTreeMap<EntityType, Timestamp>, Failure> {
        Ok(self.sql().get(values::WATERMARKS)?.unwrap_or_default())
    }

    /// The newest runs.
    pub(super) fn list_runs(&self) -> Result<Answer, Failure> {
        let runs: Vec<_> =
            self.sql().list_runs(RUNS_SHOWN_MAX)?.into_iter().map(|tracked| tracked.run).collect();
        Ok(Answer::json(200, &shown(&json!({"runs": runs}))))
    }

    /// One run, or all that were started together under that id.
    pub(super) fn show_run(&self, id: &str) -> Result<Answer, Failure> {
        if let Some(tracked) = self.sql().read_run(id)? {
            return Ok(Answer::json(200, &shown(&tracked.run)));
        }
        let runs: Vec<Run> = self.sql().batch_runs(id)?.into_iter().map(|tracked| tracked.run).collect();
        Ok(Batch::of(id, runs).map_or_else(
            || Answer::not_found("there is no such run"),
            |batch| Answer::json(200, &shown(&batch)),
        ))
    }

    /// Ends a run, or all of those started together under that id. What they wrote stands.
    pub(super) async fn cancel_run(&self, id: &str, database: &Database) -> Result<Answer, Failure> {
        let runs = self.runs_called(id)?;
        if runs.is_empty() {
            return Ok(Answer::not_found("there is no such run"));
        }
        let mut cancelled = 0_u32;
        for next in runs.iter().filter_map(|tracked| tracked.cancelled(time_now())) {
            self.write_run(&next)?;
            self.log_run(&next, None);
            self.give_up_hold(&next, database).await?;
            cancelled += 1;
        }
        self.object.arm(time_now()).await;
        Ok(Answer::json(200, &json!({"cancelled": cancelled})))
    }

    pub(super) fn runs_called(&self, id: &str) -> Result<Vec<TrackedRun>, Failure> {
        match self.sql().read_run(id)? {
            Some(tracked) => Ok(vec![tracked]),
            None => self.sql().batch_runs(id),
        }
    }

    /// Takes the report of a unit.
    pub(super) async fn take_report(&self, body: &[u8]) -> Result<Answer, Failure> {
        let Ok(report) = serde_json::from_slice::<UnitReport>(body) else {
            return Ok(Answer::bad_request(
                "the report has an unexpected shape: deploy all workers at one version",
            ));
        };
        let Some(tracked) = self.sql().read_run(&report.run_id)? else {
            return Ok(Answer::not_found("there is no such run"));
        };
        // Whatever became of the run: a credential of another application is given up, and calls nobody any more.
        self.note_application(report.generation, &report.application)?;
        let now = time_now();
        let Some(next) = tracked.reported(&report, now, random_u32()?) else {
            return Ok(Answer::json(200, &json!({"accepted": false})));
        };
        self.write_run(&next)?;
        self.object.runs_moved_at.set(Some(now));
        if let Some(watermark) = next.watermark() {
            let mut watermarks = self.watermarks()?;
            note_read(&mut watermarks, next.run.entity, watermark);
            self.sql().put(values::WATERMARKS, &watermarks)?;
            if next.run.kind == RunKind::Full {
                let mut full = self.full_reads()?;
                note_read(&mut full, next.run.entity, watermark);
                self.sql().put(values::FULL_READS, &full)?;
            }
        }
        self.log_run(&next, report.failure.as_ref());
        if let Ok(credential) = self.credential_at_hand() {
            if report.failure.as_ref().is_some_and(|failure| failure.class == FailureClass::Unauthorized) {
                self.note_rejection(report.generation)?;
            }
            if let Some(lease_id) = &tracked.lease_id {
                self.release_lease(&credential, lease_id, report.calls, report.quota).await;
            }
        }
        self.object.arm(now).await;
        Ok(Answer::json(200, &json!({"accepted": true})))
    }

    /// When there is something to do about runs.
    pub(super) fn next_run_at(&self) -> Result<Option<Timestamp>, Failure> {
        let active = self.sql().active_runs()?;
        let orders = active
            .iter()
            .filter(|tracked| tracked.has_units() && !tracked.follows_contacts(&active))
            .filter_map(TrackedRun::next_order_at)
            .min();
        let incremental = self.incremental_due(&active)?.into_iter().map(|(_, due_at)| due_at).min();
        Ok([orders, incremental, self.next_catch_up_at()?].into_iter().flatten().min())
    }

    /// Starts what is due and orders what can be ordered.
    pub(super) async fn order_units(&self) -> Result<(), Failure> {
        let now = time_now();
        self.begin_catch_up(now)?;
        let due = self.incremental_due(&self.sql().active_runs()?)?;
        let entities: Vec<EntityType> =
            due.into_iter().filter(|(_, due_at)| *due_at <= now).map(|(entity, _)| entity).collect();
        if !entities.is_empty() {
            let request = StartRunsRequest {
                kind: RunKind::Incremental,
                entities,
                direction: Direction::Bidirectional,
                dry_run: false,
                reverts: None,
            };
            self.begin_runs(&request, now)?;
        }
        let mut outcome = Ok(());
        let active = self.sql().active_runs()?;
        for tracked in &active {
            if tracked.follows_contacts(&active) {
                continue;
            }
            // Units before this one took their time to order.
            let Some(tracked) = self.sql().read_run(&tracked.run.id)? else { continue };
            let tracked = match tracked.expired(time_now()) {
                Some(expired) => {
                    self.write_run(&expired)?;
                    self.log_run(&expired, expired.run.error.as_ref());
                    expired
                }
                None => tracked,
            };
            if self.is_paused()? {
                return outcome;
            }
            if tracked.has_units() && tracked.next_order_at().is_some_and(|at| at <= time_now()) {
                outcome = outcome.and(self.order_unit(&tracked).await);
            }
        }
        outcome
    }

    /// Ends runs that only carry edits, once the outbox is drained.
    pub(super) fn settle_carrying_runs(&self, carried: usize) -> Result<(), Failure> {
        if !self.is_outbox_empty() {
            return Ok(());
        }
        for tracked in self
            .sql()
            .active_runs()?
            .iter()
            .filter(|tracked| is_carrying(tracked) && tracked.run.started_at.is_some())
        {
            let done = tracked.drained(carried as u64, time_now());
            self.write_run(&done)?;
            self.log_run(&done, None);
        }
        Ok(())
    }

    async fn order_unit(&self, tracked: &TrackedRun) -> Result<(), Failure> {
        let client = SyncClient::new(&self.object.env, &self.config.common.internal_token);
        // Asked before a lease is taken, when there is reason to doubt: a lease under which nobody works blocks others.
        if (tracked.unit == 0 || tracked.run.attempts > 0) && !client.is_healthy().await {
            let failure = Failure::new(
                FailureClass::Unavailable,
                "the sync worker does not answer: see that it is deployed and bound as SYNC_WORKER",
            );
            let next = tracked.not_taken(&failure, time_now(), random_u32()?);
            return self.move_run(tracked, &next).map(drop);
        }
        let credential = self.credential().await?;
        let priority = match tracked.run.kind {
            RunKind::Full | RunKind::Verify | RunKind::Revert => Priority::Backfill,
            RunKind::Incremental => Priority::Poll,
        };
        let lease_id = format!("{}-{}", tracked.run.id, tracked.unit + 1);
        let want =
            Want { priority, calls_max: UNIT_CALLS_MAX, calls_per_second_max: UNIT_CALLS_PER_SECOND_MAX };
        let lease = match self.take_lease(&credential, &lease_id, want).await {
            Ok(lease) => lease,
            Err(failure) => {
                let until = time_now().plus_ms(failure.retry_after_ms.unwrap_or(1_000));
                return match failure.class {
                    FailureClass::RateLimited => self.move_run(tracked, &tracked.postponed(until)).map(drop),
                    _ => Err(failure),
                };
            }
        };
        // A report cannot have come meanwhile, as no unit was out; but a person may have ended the run.
        let Some(ordered) = tracked.ordered(time_now(), Some(lease_id)) else { return Ok(()) };
        if !self.move_run(tracked, &ordered)? {
            return Ok(());
        }
        self.object.runs_moved_at.set(Some(time_now()));
        let order = UnitOrder {
            account: self.id.clone(),
            run_id: ordered.run.id.clone(),
            unit: ordered.unit,
            kind: ordered.run.kind,
            entity: ordered.run.entity,
            direction: ordered.run.direction,
            mode: ordered.unit_mode(),
            cursor: ordered.run.cursor.clone(),
            run_started_at: ordered.run.started_at.unwrap_or_else(time_now),
            reverts: ordered.run.reverts.clone(),
            grant: KeapGrant {
                access_token: credential.token.clone(),
                calls_max: lease.permits,
                calls_per_second_max: lease.calls_per_second_max,
                expires_at: lease.expires_at,
                link_fields: self.link_fields()?,
                application: self.known_application()?,
                generation: credential.generation,
            },
            settings: self.settings()?,
        };
        if let Err(failure) = client.order_unit(&order).await {
            self.log()
                .warn("unit_not_taken")
                .account(self.id)
                .run_id(&ordered.run.id)
                .failure(&failure)
                .emit();
            // The report may have come while the answer was on its way and got lost.
            if let Some(current) = self.sql().read_run(&ordered.run.id)?.filter(|current| *current == ordered)
            {
                self.write_run(&current.not_taken(&failure, time_now(), random_u32()?))?;
            }
        }
        Ok(())
    }

    /// Writes a run, and tells what became of it.
    pub(super) fn write_run(&self, next: &TrackedRun) -> Result<(), Failure> {
        let before = self.sql().read_run(&next.run.id)?;
        self.sql().write_run(next)?;
        if let Some(event) = run_event(before.as_ref().map(|before| &before.run), &next.run) {
            self.tell(event);
        }
        Ok(())
    }

    /// Writes a run's next state, unless somebody else moved it during an await. Says whether it was written.
    pub(super) fn move_run(&self, from: &TrackedRun, next: &TrackedRun) -> Result<bool, Failure> {
        let is_current = self.sql().read_run(&from.run.id)?.is_some_and(|current| current == *from);
        if is_current {
            self.write_run(next)?;
        }
        Ok(is_current)
    }

    /// Lets runs that wait after a failure go on at once.
    pub(super) fn retry_runs(&self) -> Result<(), Failure> {
        for tracked in self.sql().active_runs()? {
            self.write_run(&tracked.postponed(time_now()))?;
        }
        Ok(())
    }

    /// Mirrors runs that changed.
    pub(super) async fn mirror_runs(&self, database: &Database) -> Result<(), Failure> {
        let changed = self.sql().unmirrored_runs(MIRRORED_MAX)?;
        if changed.is_empty() {
            return Ok(());
        }
        let client = database.client().await?;
        let store = Store::new(&client);
        for tracked in changed {
            store.upsert_run(self.id, &tracked.run).await?;
            self.sql().run_mirrored(&tracked)?;
        }
        Ok(())
    }

    /// When the next incremental run of each entity is due, by the interval of the settings. Absent while one is under way, while
    /// one waits for a person, and before anything was ever read completely.
    fn incremental_due(&self, active: &[TrackedRun]) -> Result<Vec<(EntityType, Timestamp)>, Failure> {
        let watermarks = self.watermarks()?;
        let interval_minutes = self.settings()?.incremental_interval_minutes;
        let mut due = Vec::new();
        for entity in EntityType::ALL {
            if active.iter().any(|tracked| tracked.run.entity == entity && is_instead_of_poll(tracked)) {
                continue;
            }
            let watermark = watermarks.get(&entity).or_else(|| watermarks.values().max()).copied();
            let last = self.sql().last_reading_requested_at(entity)?;
            due.extend(incremental_due_at(last, watermark, interval_minutes).map(|at| (entity, at)));
        }
        Ok(due)
    }

    fn log_run(&self, tracked: &TrackedRun, failure: Option<&Failure>) {
        let line = match tracked.run.state {
            RunState::Completed => self.log().info("run_completed"),
            RunState::Failed => self.log().error("run_failed"),
            RunState::AwaitingApproval => self.log().warn("run_awaits_approval"),
            RunState::Queued | RunState::Running if failure.is_some() => self.log().warn("unit_failed"),
            RunState::Queued | RunState::Running => self.log().debug("unit_reported"),
        };
        let line = line.account(self.id).run_id(&tracked.run.id).count("read", tracked.run.counts.read);
        match failure {
            Some(failure) => line.failure(failure).emit(),
            None => line.emit(),
        }
    }
}

/// Whether no incremental run of its entity is begun beside it: it sees what that one would, or is such a one and waits for a
/// person.
fn is_instead_of_poll(tracked: &TrackedRun) -> bool {
    let reads = matches!(tracked.run.kind, RunKind::Full | RunKind::Incremental)
        && tracked.has_units()
        && !tracked.run.dry_run;
    reads && (tracked.run.kind == RunKind::Incremental || !tracked.awaits_approval())
}

/// Whether a run waits for the outbox: it only carries edits, and nobody has to approve them first.
fn is_carrying(tracked: &TrackedRun) -> bool {
    !tracked.has_units() && !tracked.awaits_approval()
}
