//! Runs: ordered unit by unit to workers of their own, which live and die apart from the object.

use super::connection::{Refreshing, live_token, note_rejection, take_lease};
use super::object::{Part, entropy, may_work, note, world_of};
use super::ports::{SimulatedClock, SimulatedStore, SimulatedTransport};
use super::stage::Stage;
use super::verdict::{Invariant, Violation};
use crate::paced::PacedTransport;
use crate::quota::Priority;
use crate::runs::{RunRequest, Start, TrackedRun, incremental_due_at, start};
use crate::undo::{run_reversal, undo};
use crate::unit::run_unit;
use keapsync_domain::application::KeapApplication;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::EntityType;
use keapsync_domain::run::{Direction, RunKind, RunState};
use keapsync_domain::timestamp::Timestamp;
use keapsync_domain::wire::{KeapGrant, UnitOrder, UnitReport};
use keapsync_keap::caller::Caller;
use keapsync_keap::records::{Links, RecordsApi};
use std::rc::Rc;

/// Calls of one unit.
const UNIT_CALLS_MAX: u32 = 300;

/// The most calls per second that a unit can use.
const UNIT_CALLS_PER_SECOND_MAX: u32 = 50;

/// Groups of workers on units begin here, far from the object's incarnations.
const UNIT_GROUPS_FROM: u64 = 1 << 32;

/// Orders what is due.
pub(super) async fn runs_loop(stage: Rc<Stage>, refreshing: Refreshing) {
    loop {
        if may_work(&stage, Part::Runs) {
            let outcome = order_units(&stage, &refreshing).await;
            note(&stage, Part::Runs, &outcome);
        }
        stage.schedule.sleep(1_000).await;
    }
}

async fn order_units(stage: &Rc<Stage>, refreshing: &Refreshing) -> Result<(), Failure> {
    if incremental_due(stage).is_some_and(|due| due <= stage.object_now()) {
        begin_runs(stage, RunKind::Incremental, &EntityType::ALL);
    }
    let active = stage.storage.borrow().runs.clone();
    for tracked in active {
        let tracked = match tracked.expired(stage.object_now()) {
            Some(expired) => {
                stage.coverage.borrow_mut().count("unit vanished");
                write_run(stage, &expired);
                expired
            }
            None => tracked,
        };
        if tracked.next_order_at().is_some_and(|at| at <= stage.object_now()) {
            order_unit(stage, refreshing, &tracked).await?;
        }
    }
    Ok(())
}

/// Keeps an active run; a final one leaves only what it brought.
fn write_run(stage: &Stage, next: &TrackedRun) {
    let mut storage = stage.storage.borrow_mut();
    storage.runs.retain(|known| known.run.id != next.run.id);
    if !next.run.state.is_final() {
        storage.runs.push(next.clone());
        return;
    }
    let counts = &next.run.counts;
    if counts.created + counts.updated + counts.deleted > 0 {
        storage.ended.push((next.run.entity, next.run.id.clone()));
    }
    if next.run.kind == RunKind::Revert && next.run.state == RunState::Completed {
        stage.coverage.borrow_mut().count("run undone");
    } else if let Some(watermark) = next.watermark() {
        stage.judge(check_all_read(stage, next));
        let entity = next.run.entity;
        let known = storage.watermarks.entry(entity).or_insert(watermark);
        *known = watermark.max(*known);
        storage.completed_since.insert((entity, next.run.kind == RunKind::Full), watermark);
    } else {
        stage.coverage.borrow_mut().count("run given up");
    }
}

/// The watermark passes no change that nobody has read.
fn check_all_read(stage: &Stage, run: &TrackedRun) -> Result<(), Violation> {
    let Some((begun, since)) = stage.runs_begun.borrow_mut().remove(&run.run.id) else { return Ok(()) };
    let entity = run.run.entity;
    let keap = stage.keap.borrow();
    let passed = keap.records(entity).iter().find(|(_, record)| {
        record.unread_since.is_some_and(|step| step < begun)
            && since.is_none_or(|since| record.updated_at >= since)
    });
    let Some((id, record)) = passed else { return Ok(()) };
    Err(Violation::new(
        Invariant::NoLostUpdate,
        format!(
            "{} ended without having read {} {id}, which changed before it began: {}",
            run.run.id,
            entity.as_str(),
            record.cells
        ),
    ))
}

async fn order_unit(stage: &Rc<Stage>, refreshing: &Refreshing, tracked: &TrackedRun) -> Result<(), Failure> {
    let (token, generation) = live_token(stage, refreshing).await?;
    let priority = if tracked.run.kind == RunKind::Full { Priority::Backfill } else { Priority::Poll };
    let lease_id = format!("{}-{}", tracked.run.id, tracked.unit + 1);
    let lease =
        match take_lease(stage, priority, UNIT_CALLS_MAX, UNIT_CALLS_PER_SECOND_MAX, Some(lease_id.clone()))
            .await
        {
            Ok(lease) => lease,
            Err(failure) if failure.class == FailureClass::RateLimited => {
                let until = stage.object_now().plus_ms(failure.retry_after_ms.unwrap_or(1_000));
                write_run(stage, &tracked.postponed(until));
                return Ok(());
            }
            Err(failure) => return Err(failure),
        };
    let Some(ordered) = tracked.ordered(stage.object_now(), Some(lease_id)) else { return Ok(()) };
    if ordered.unit == 1 {
        let begun = (stage.steps.get(), ordered.run.cursor.since);
        stage.runs_begun.borrow_mut().insert(ordered.run.id.clone(), begun);
    }
    write_run(stage, &ordered);
    let order = UnitOrder {
        account: stage.account.clone(),
        run_id: ordered.run.id.clone(),
        unit: ordered.unit,
        kind: ordered.run.kind,
        entity: ordered.run.entity,
        direction: ordered.run.direction,
        mode: ordered.unit_mode(),
        cursor: ordered.run.cursor.clone(),
        run_started_at: ordered.run.started_at.unwrap_or_default(),
        reverts: ordered.run.reverts.clone(),
        grant: KeapGrant {
            access_token: token,
            calls_max: lease.permits,
            calls_per_second_max: lease.calls_per_second_max,
            expires_at: lease.expires_at,
            link_fields: stage.link_fields.clone(),
            application: KeapApplication::default(),
            generation,
        },
        settings: stage.settings.clone(),
    };
    stage.pause().await;
    let group = UNIT_GROUPS_FROM + stage.step(13, u64::from(ordered.unit));
    stage.units.borrow_mut().push(group);
    stage.coverage.borrow_mut().count("unit ordered");
    stage.tell(|| {
        format!(
            "unit {} of {} ordered ({:?} {})",
            order.unit,
            order.run_id,
            order.kind,
            order.entity.as_str()
        )
    });
    stage.schedule.spawn(group, work_on_unit(Rc::clone(stage), order, generation));
    Ok(())
}

/// A worker's invocation: the unit, then its report.
async fn work_on_unit(stage: Rc<Stage>, order: UnitOrder, generation: u64) {
    let clock = SimulatedClock { stage: Rc::clone(&stage), skew_ms: stage.setting.unit_skew_ms };
    let (transport, store) = (SimulatedTransport::new(&stage), SimulatedStore { stage: Rc::clone(&stage) });
    let grant = &order.grant;
    let paced = PacedTransport::new(&transport, &clock, grant.calls_max, grant.calls_per_second_max)
        .until(grant.expires_at);
    let caller = Caller { transport: &paced, base_url: "http://keap", access_token: &grant.access_token };
    let api = RecordsApi::new(caller, Links::of(&grant.link_fields));
    let report = if order.kind == RunKind::Revert {
        run_reversal(&store, &clock, &order).await
    } else {
        run_unit(&world_of(&stage, &api, &store, &clock), &order).await
    };
    stage.pause().await;
    stage.step(14, u64::from(report.unit));
    {
        let mut faults = stage.faults.borrow_mut();
        if faults.reports_lost > 0 {
            faults.reports_lost -= 1;
            stage.coverage.borrow_mut().count("report lost");
            return;
        }
    }
    stage.tell(|| {
        format!(
            "unit {} of {} reports {:?} {:?}",
            report.unit, report.run_id, report.finished, report.failure
        )
    });
    take_report(&stage, &report, generation);
}

fn take_report(stage: &Stage, report: &UnitReport, generation: u64) {
    let known = stage.storage.borrow().runs.iter().find(|known| known.run.id == report.run_id).cloned();
    let now = stage.object_now();
    let next = known.as_ref().and_then(|known| known.reported(report, now, entropy(stage)));
    let (Some(known), Some(next)) = (known, next) else {
        stage.coverage.borrow_mut().count("report too late");
        return;
    };
    write_run(stage, &next);
    if report.failure.as_ref().is_some_and(|failure| failure.class == FailureClass::Unauthorized) {
        note_rejection(stage, generation);
    }
    if let Some(lease_id) = &known.lease_id {
        stage.quota.borrow_mut().release(lease_id, report.calls, now);
    }
}

/// Starts runs of these entities, or joins those that are under way.
pub(super) fn begin_runs(stage: &Stage, kind: RunKind, entities: &[EntityType]) {
    let now = stage.object_now();
    let mut storage = stage.storage.borrow_mut();
    for entity in entities {
        let request = RunRequest {
            kind,
            entity: *entity,
            direction: Direction::Bidirectional,
            batch_id: None,
            dry_run: false,
            reverts: None,
        };
        storage.numbers += 1;
        let run_id = format!("run-{}", storage.numbers);
        let watermark = storage.watermarks.get(entity).copied();
        if let Start::Started(run) = start(&storage.runs, &request, &run_id, watermark, now) {
            storage.runs.push(*run);
            storage.last_requested_at = Some(now);
        }
    }
}

/// A person undoes a run that has ended, counted from the last one back.
pub(super) fn undo_run(stage: &Stage, back: u32) {
    let now = stage.object_now();
    let mut storage = stage.storage.borrow_mut();
    let Some(position) = storage.ended.len().checked_sub(1 + back as usize) else { return };
    let Some((entity, reverted)) = storage.ended.get(position).cloned() else { return };
    let request = RunRequest {
        kind: RunKind::Revert,
        entity,
        direction: Direction::Bidirectional,
        batch_id: None,
        dry_run: false,
        reverts: Some(reverted),
    };
    storage.numbers += 1;
    let run_id = format!("run-{}", storage.numbers);
    if let Start::Started(run) = start(&storage.runs, &request, &run_id, None, now) {
        storage.runs.push(*run);
    }
}

/// A person undoes a change, counted from the last one back.
pub(super) fn undo_change(stage: &Rc<Stage>, back: u32) {
    let store = SimulatedStore { stage: Rc::clone(stage) };
    let entry = {
        let mirror = stage.mirror.borrow();
        let number = mirror.audit.len().checked_sub(1 + back as usize).and_then(|at| i64::try_from(at).ok());
        number.and_then(|number| mirror.read_audit(number))
    };
    let Some(entry) = entry else { return };
    let group = UNIT_GROUPS_FROM + stage.step(19, u64::from(back));
    let account = stage.account.clone();
    // Refused or put off, it is the person's to ask again.
    stage.schedule.spawn(group, async move { drop(undo(&store, &account, &entry, None).await) });
}

/// When incremental runs are due: not while a run is under way, which sees what they would.
fn incremental_due(stage: &Stage) -> Option<Timestamp> {
    let storage = stage.storage.borrow();
    if !storage.runs.is_empty() {
        return None;
    }
    incremental_due_at(
        storage.last_requested_at,
        storage.watermarks.values().max().copied(),
        stage.settings.incremental_interval_minutes,
    )
}
