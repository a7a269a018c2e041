//! What the blast guard holds back, as runs that people approve: one for each kind of record and class that waits.
//!
//! Edits wait in the outbox, in Postgres; deletes that hooks told of wait among the events, here. What waits is counted anew whenever
//! something may have changed, so that a run never shows an old number for long.

use super::{Account, time_now};
use crate::database::Database;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::EntityType;
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::guard::HeldBack;
use keapsync_engine::ports::proof::{GuardStore as _, Held};
use keapsync_engine::runs::{TrackedRun, hold};
use keapsync_platform::entropy::random_uuid;
use keapsync_platform::respond::Answer;
use keapsync_store::Store;
use serde::Deserialize;
use serde_json::{Value, json};

/// `POST …/runs/{id}/approve`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ApproveRequest {
    number: u64,
}

impl Account<'_> {
    /// The kinds of record whose deletes wait for approval.
    pub(super) fn stopped_deletes(&self) -> Result<Vec<EntityType>, Failure> {
        let mut stopped: Vec<EntityType> =
            self.sql().held_events()?.into_iter().map(|(entity, _)| entity).collect();
        let runs = self.sql().active_runs()?;
        let told = runs.iter().filter_map(|tracked| tracked.holds.map(|holds| holds.class));
        stopped.extend(told.filter(|class| class.deletes).map(|class| class.entity));
        Ok(stopped)
    }

    /// Brings the runs that hold something back to what is held now.
    pub(super) async fn tell_of_holds(&self, store: &Store<'_>) -> Result<(), Failure> {
        let waiting = store.waiting(self.id).await?;
        let events = self.sql().held_events()?;
        for entity in EntityType::ALL {
            for deletes in [false, true] {
                let class = Held { entity, deletes };
                let edits = waiting.iter().find(|waiting| waiting.held == class);
                let hooks = events.iter().find(|(held, _)| *held == entity && deletes);
                let held = HeldBack {
                    held: class,
                    edits: edits.map_or(0, |edits| edits.records),
                    hooks: hooks.map_or(0, |(_, count)| *count),
                    edits_until: edits.map_or(Timestamp::default(), |edits| edits.newest_at),
                };
                let active = self.sql().active_runs()?;
                let known = active.iter().find(|tracked| {
                    tracked.awaits_approval() && tracked.holds.map(|it| it.class) == Some(class)
                });
                let next = match known {
                    Some(known) if held.records() == 0 => Some(known.drained(0, time_now())),
                    None if held.records() == 0 => None,
                    known => hold(known, &held, &random_uuid()?, time_now()),
                };
                if let Some(next) = next {
                    self.write_run(&next)?;
                    let line = self.log().warn("edits_held").account(self.id).run_id(&next.run.id);
                    line.count("records", held.records()).emit();
                }
            }
        }
        Ok(())
    }

    /// Whether a run tells of something that is held.
    pub(super) fn tells_of_holds(&self) -> Result<bool, Failure> {
        Ok(self.sql().active_runs()?.iter().any(|tracked| tracked.holds.is_some()))
    }

    /// Lets go on what the blast guard stopped: a run, or all of those started together under that id. The number is what the person
    /// saw; where more waits by now, nothing is approved.
    pub(super) async fn approve_run(
        &self,
        id: &str,
        body: &[u8],
        database: &Database,
    ) -> Result<Answer, Failure> {
        // What was shown when the person read the number: approval is of nothing that came later.
        let shown = self.runs_called(id)?;
        if shown.is_empty() {
            return Ok(Answer::not_found("there is no such run"));
        }
        if shown.iter().any(|tracked| tracked.holds.is_some()) {
            let client = database.client().await?;
            self.tell_of_holds(&Store::new(&client)).await?;
        }
        let runs = self.runs_called(id)?;
        if !runs.iter().any(TrackedRun::awaits_approval) {
            let message = "the run does not wait for approval: see its state";
            return Ok(Answer::error(409, "not_awaiting_approval", message));
        }
        let number: u64 = runs.iter().map(TrackedRun::number_to_approve).sum();
        let Ok(request) = serde_json::from_slice::<ApproveRequest>(body) else {
            return Err(Failure::new(
                FailureClass::Invalid,
                format!(
                    "say how many records you approve, as the run's planned.destroyed shows it: {{\"number\": {number}}}"
                ),
            ));
        };
        if number > request.number {
            let message = format!(
                "more waits than you saw: {number} records by now, not {}. Nothing was approved. Look again, then send {{\"number\": {number}}}",
                request.number
            );
            return Ok(Answer::error(409, "more_than_shown", &message));
        }
        let mut approved = 0_u32;
        for tracked in &runs {
            let Some(next) = tracked.approved(&random_uuid()?) else { continue };
            let seen = shown.iter().find(|shown| shown.run.id == tracked.run.id);
            if let Some((holds, seen)) = tracked.holds.zip(seen) {
                let until = seen.run.started_at.unwrap_or_default();
                let edits_until = seen.holds.map_or(holds.edits_until, |holds| holds.edits_until);
                let client = database.client().await?;
                Store::new(&client).approve_waiting(self.id, holds.class, edits_until).await?;
                if holds.class.deletes {
                    self.sql().release_held_events(holds.class.entity, Some(until), true, time_now())?;
                }
            }
            if !self.move_run(tracked, &next)? {
                continue;
            }
            self.log().info("run_approved").account(self.id).run_id(&next.run.id).emit();
            if next.holds.is_some() {
                // What it held is on its way like anything else.
                self.write_run(&next.drained(0, time_now()))?;
            }
            approved += 1;
        }
        self.wake_outbox();
        self.object.arm(time_now()).await;
        Ok(Answer::json(200, &json!({"approved": approved, "number": number})))
    }

    /// Asks Keap again for the records whose deletion waits with a run that a person ended.
    pub(super) async fn give_up_hold(&self, run: &TrackedRun, database: &Database) -> Result<(), Failure> {
        let Some(class) = run.holds.map(|holds| holds.class).filter(|class| class.deletes) else {
            return Ok(());
        };
        let released = self.sql().release_held_events(class.entity, None, false, time_now())?;
        let client = database.client().await?;
        Store::new(&client).show_held_deletes(self.id, class.entity, &released, false).await
    }

    /// What waits for somebody's approval, as status shows it.
    pub(super) fn guard_status(&self) -> Result<Vec<Value>, Failure> {
        let runs = self.sql().active_runs()?;
        let waiting = runs.iter().filter(|tracked| tracked.awaits_approval());
        Ok(waiting
            .map(|tracked| {
                let class =
                    tracked.holds.map(|holds| if holds.class.deletes { "deletes" } else { "changes" });
                json!({
                    "run_id": tracked.run.id,
                    "entity": tracked.run.entity,
                    "class": class,
                    "number": tracked.number_to_approve(),
                    "since": tracked.run.requested_at,
                    "message": tracked.run.error.as_ref().map(|error| &error.message),
                })
            })
            .collect())
    }
}
