//! One history from its beginning to its verdict.

use super::cells::{CELLS, Cells, FIRST_KEAP_VALUE, NAMES};
use super::coverage::Coverage;
use super::keap_side::{KeapChange, cells_from};
use super::mirror_side::MirrorSide;
use super::mutation::Mutation;
use super::object::{begin_run, connect, is_idle, start_object};
use super::schedule::Step;
use super::stage::{BEGINNING_MS, Event, Stage};
use super::story::{Action, Story};
use super::verdict::{Invariant, Violation};
use crate::inbound::DELETED_AT;
use crate::ports::RowState;
use keapsync_domain::run::RunKind;
use std::rc::Rc;

/// After the last fault, everything that waits must be done within this, in milliseconds.
const LIVENESS_MS: i64 = 30 * 60_000;

/// How long quiet is looked at, in milliseconds: longer than the interval of incremental runs.
const QUIET_MS: i64 = 7 * 60_000;

/// Operations after which a history is taken for one that never ends.
const STEPS_MAX: u64 = 200_000;

/// What came of a history.
#[derive(Clone, Debug)]
pub struct History {
    /// Hash of all that happened, in order.
    pub hash: u64,
    /// Operations.
    pub operations: u64,
    /// What was exercised.
    pub coverage: Coverage,
    /// What broke first.
    pub violation: Option<Violation>,
    /// What happened, in words, when it was asked for.
    pub lines: Vec<String>,
}

/// Runs the history of a seed.
#[must_use]
pub fn simulate(seed: u64, mutation: Mutation) -> History {
    replay(seed, &Story::of_seed(seed), mutation, false)
}

/// Runs a story under the schedule of a seed; `is_told` keeps what happens in words.
#[must_use]
pub fn replay(seed: u64, story: &Story, mutation: Mutation, is_told: bool) -> History {
    let stage = Rc::new(Stage::new(&story.setting, mutation, seed, is_told));
    let verdict = run(&stage, story);
    stage.judge(verdict);
    // Tasks hold the stage, and the stage holds them.
    for group in stage.units.borrow().iter().copied().chain([stage.incarnation.get()]) {
        stage.schedule.end(group);
    }
    let unobservable = stage.ledger.borrow().unobservable;
    let mut coverage = stage.coverage.borrow().clone();
    coverage.add("edit in Keap overwritten before anybody could read it", unobservable);
    let hash = stage.trace.borrow().hash();
    let lines = std::mem::take(&mut stage.trace.borrow_mut().lines);
    let violation = stage.violation.borrow().clone();
    History { hash, operations: stage.steps.get(), coverage, violation, lines }
}

fn run(stage: &Rc<Stage>, story: &Story) -> Result<(), Violation> {
    connect(stage);
    for number in 0..story.setting.contacts {
        let cells = cells_from(FIRST_KEAP_VALUE + number * 20);
        let change = stage.keap.borrow_mut().add(cells, None, stage.keap_now());
        person_wrote_keap(stage, Some(change));
    }
    begin_run(stage, RunKind::Full);
    start_object(stage);
    // Most stories begin with both sides in step; the others meet the backfill.
    let begins_at_ms = if stage.schedule.draw(|random| random.chance(80)) {
        run_until(stage, story, stage.schedule.now_ms() + LIVENESS_MS, is_idle)?;
        stage.schedule.now_ms()
    } else {
        BEGINNING_MS
    };
    let mut ends_at_ms = begins_at_ms;
    for (position, line) in story.lines.iter().enumerate() {
        let delay_ms = begins_at_ms + line.at_ms - stage.schedule.now_ms();
        stage.schedule.after(delay_ms, Event::Line(position));
        ends_at_ms = ends_at_ms.max(begins_at_ms + line.at_ms + 1);
    }
    run_until(stage, story, ends_at_ms, |stage| stage.schedule.now_ms() >= ends_at_ms)?;
    end_faults(stage);
    settle(stage, story)?;
    sweep(stage);
    settle(stage, story)?;
    check_convergence(stage)?;
    check_silence(stage, story)
}

fn end_faults(stage: &Rc<Stage>) {
    *stage.faults.borrow_mut() = super::stage::Faults::default();
    stage.keap.borrow_mut().short_pages = 0;
    stage.tell(|| "faults end".to_owned());
    start_if_down(stage);
}

fn start_if_down(stage: &Rc<Stage>) {
    if stage.is_down.replace(false) {
        start_object(stage);
    }
}

/// Lets the system settle: an incremental run that began after this moment has ended, and nothing waits.
fn settle(stage: &Rc<Stage>, story: &Story) -> Result<(), Violation> {
    let now = stage.object_now();
    let is_settled = |stage: &Stage| {
        let has_polled =
            stage.storage.borrow().completed_since.last().is_some_and(|(_, since)| *since >= now);
        has_polled && is_idle(stage)
    };
    run_until(stage, story, stage.schedule.now_ms() + LIVENESS_MS, is_settled)
}

/// Stands in for the daily sweep: names what one side has and the other has not.
fn sweep(stage: &Rc<Stage>) {
    let ids: Vec<u64> = {
        let (keap, mirror) = (stage.keap.borrow(), stage.mirror.borrow());
        let rows = mirror.rows.values().filter(|row| row.row.deleted_at.is_none());
        let linked = rows.filter_map(|row| row.row.keap_id.as_ref()?.parse::<u64>().ok());
        linked.filter(|id| !keap.contacts.contains_key(id)).collect()
    };
    stage.tell(|| format!("sweep names {ids:?}"));
    stage.storage.borrow_mut().push(&ids, stage.object_now());
    if !stage.setting.tags_move_time {
        // A tag whose hook was lost shows in no update time: only a full run finds it.
        begin_run(stage, RunKind::Full);
    }
}

/// Runs until `is_done`; that it takes longer than `until_ms` breaks the bound.
fn run_until(
    stage: &Rc<Stage>,
    story: &Story,
    until_ms: i64,
    is_done: impl Fn(&Stage) -> bool,
) -> Result<(), Violation> {
    while !is_done(stage) {
        if stage.schedule.now_ms() > until_ms || stage.steps.get() > STEPS_MAX {
            return Err(Violation::new(Invariant::Liveness, describe_waiting(stage)));
        }
        match stage.schedule.step() {
            None => return Err(Violation::new(Invariant::Liveness, "nothing is left to happen")),
            Some(Step::Polled) => {}
            Some(Step::Event(event)) => happen(stage, story, event),
        }
        after_step(stage);
        if let Some(violation) = stage.violation.borrow().clone() {
            return Err(violation);
        }
    }
    Ok(())
}

fn describe_waiting(stage: &Stage) -> String {
    let (storage, depth) = (stage.storage.borrow(), stage.mirror.borrow().depth());
    format!(
        "long after the last fault there wait: {} edits, {} events, {} runs; token {:?}",
        depth.open,
        storage.events.values().filter(|event| !event.is_dead).count(),
        storage.runs.len(),
        storage.token.state
    )
}

/// Ends the object or workers whose steps are over.
fn after_step(stage: &Rc<Stage>) {
    let steps = stage.steps.get();
    let (evict, units_die) = {
        let mut faults = stage.faults.borrow_mut();
        let evict = faults.evict.take_if(|(at, _)| *at <= steps);
        (evict, faults.units_die.take_if(|at| *at <= steps))
    };
    if let Some((_, alarm_is_lost)) = evict {
        let ended = stage.schedule.end(stage.incarnation.get());
        stage.is_down.set(true);
        stage.coverage.borrow_mut().count("object evicted");
        stage.tell(|| format!("the object is evicted with {ended} tasks"));
        // The alarm's retries take a moment; after the last one only the next request, or the cron, wakes it.
        let down_ms = if alarm_is_lost {
            stage.coverage.borrow_mut().count("alarm lost");
            300_000
        } else {
            stage.schedule.draw(|random| random.between(0, 2_500))
        };
        stage.schedule.after(down_ms, Event::Restart(stage.incarnation.get()));
    }
    if units_die.is_some() {
        let units = std::mem::take(&mut *stage.units.borrow_mut());
        let died: usize = units.into_iter().map(|group| stage.schedule.end(group)).sum();
        stage.coverage.borrow_mut().add("unit died", died as u64);
        stage.tell(|| format!("{died} workers on units die"));
    }
}

fn happen(stage: &Rc<Stage>, story: &Story, event: Event) {
    match event {
        Event::Request(flight) => stage.arrive(&flight),
        Event::Hook(ids) => {
            stage.step(20, ids.first().copied().unwrap_or(0));
            stage.hooks_in_flight.set(stage.hooks_in_flight.get() - 1);
            stage.tell(|| format!("hook names {ids:?}"));
            stage.storage.borrow_mut().push(&ids, stage.object_now());
            start_if_down(stage);
            for waiter in stage.arrivals.take() {
                waiter.fire();
            }
        }
        Event::Line(position) => {
            stage.step(21, position as u64);
            if let Some(line) = story.lines.get(position) {
                stage.tell(|| format!("{}. {}", position + 1, line.action));
                act(stage, line.action);
            }
        }
        Event::Restart(incarnation) => {
            if stage.incarnation.get() == incarnation {
                start_if_down(stage);
            }
        }
        Event::Reconnect => connect(stage),
    }
}

fn person_wrote_keap(stage: &Stage, change: Option<KeapChange>) {
    let Some(change) = change else { return };
    stage.ledger.borrow_mut().person_wrote_keap(&change, stage.steps.get());
    stage.send_hook(change.id);
}

/// The contact at a position among those that exist.
fn contact_at(stage: &Stage, record: u32) -> Option<u64> {
    let keap = stage.keap.borrow();
    keap.contacts.keys().nth(record as usize % keap.contacts.len().max(1)).copied()
}

/// The row at a position among those that exist, deleted ones only when asked for.
fn row_at(mirror: &MirrorSide, record: u32, is_deleted: bool) -> Option<String> {
    let rows: Vec<&String> = mirror
        .rows
        .iter()
        .filter(|(_, row)| row.row.deleted_at.is_some() == is_deleted)
        .map(|(id, _)| id)
        .collect();
    rows.get(record as usize % rows.len().max(1)).map(|id| (*id).clone())
}

fn act(stage: &Rc<Stage>, action: Action) {
    let now_ms = stage.schedule.now_ms();
    let steps = stage.steps.get();
    let keap_now = stage.keap_now();
    let postgres_now = stage.postgres_now();
    let edit_keap = |record: u32, moves_time: bool, edit: &dyn Fn(&mut Cells)| {
        let Some(id) = contact_at(stage, record) else { return };
        let change =
            stage.keap.borrow_mut().edit(id, keap_now, moves_time, |contact| edit(&mut contact.cells));
        person_wrote_keap(stage, change);
    };
    let edit_row = |record: u32, edit: &dyn Fn(&mut Cells)| {
        let change = {
            let mut mirror = stage.mirror.borrow_mut();
            let id = row_at(&mirror, record, false);
            id.and_then(|id| mirror.edit(&id, postgres_now, edit))
        };
        stage.person_wrote_row(change);
    };
    match action {
        Action::KeapEdit { record, cell, value } => edit_keap(record, true, &|cells| cells.set(cell, value)),
        Action::KeapTag { record, tag } => {
            edit_keap(record, stage.setting.tags_move_time, &|cells| cells.tags ^= 1 << tag);
        }
        Action::KeapAdd { value } => {
            let change = stage.keap.borrow_mut().add(cells_from(value), None, keap_now);
            person_wrote_keap(stage, Some(change));
        }
        Action::KeapDelete { record } => {
            let id = contact_at(stage, record);
            let change = id.and_then(|id| stage.keap.borrow_mut().delete(id));
            person_wrote_keap(stage, change);
        }
        Action::RowEdit { record, cell, value } => edit_row(record, &|cells| cells.set(cell, value)),
        Action::RowTag { record, tag } => edit_row(record, &|cells| cells.tags ^= 1 << tag),
        Action::RowInsert { value } => {
            let change = stage.mirror.borrow_mut().insert(cells_from(value), postgres_now);
            stage.person_wrote_row(Some(change));
        }
        Action::RowDelete { record } | Action::RowUndelete { record } => {
            let is_deleted = matches!(action, Action::RowDelete { .. });
            let mut mirror = stage.mirror.borrow_mut();
            if let Some(id) = row_at(&mirror, record, !is_deleted) {
                let _ = mirror.set_deleted(&id, is_deleted, postgres_now);
            }
        }
        Action::Request { fault, times } => {
            (0..times).for_each(|_| stage.faults.borrow_mut().requests.push_back(fault));
        }
        Action::KeapDown { status, for_ms } => {
            stage.faults.borrow_mut().keap_down = Some((status, now_ms + for_ms));
        }
        Action::Statement { fault, times } => {
            (0..times).for_each(|_| stage.faults.borrow_mut().statements.push_back(fault));
        }
        Action::Hooks { fault, times } => {
            (0..times).for_each(|_| stage.faults.borrow_mut().hooks.push_back(fault));
        }
        Action::HooksInactive { for_ms } => {
            stage.faults.borrow_mut().hooks_inactive_until_ms = now_ms + for_ms;
        }
        Action::HookBatch { unknown } => {
            stage.coverage.borrow_mut().count("delivery of 1000 objects");
            let unknown = u64::from(unknown);
            let known: Vec<u64> = stage.keap.borrow().contacts.keys().copied().collect();
            let ids = (0..unknown)
                .map(|id| 90_000 + id)
                .chain(known.iter().copied().cycle().take(1_000))
                .take(1_000);
            stage.hooks_in_flight.set(stage.hooks_in_flight.get() + 1);
            stage.schedule.after(100, Event::Hook(ids.collect()));
        }
        Action::Evict { after_steps, alarm_is_lost } => {
            stage.faults.borrow_mut().evict = Some((steps + after_steps, alarm_is_lost));
        }
        Action::UnitDies { after_steps } => {
            stage.faults.borrow_mut().units_die = Some(steps + after_steps);
        }
        Action::ReportLost => stage.faults.borrow_mut().reports_lost += 1,
        Action::TokenRevoked => "revoked".clone_into(&mut stage.keap.borrow_mut().access_token),
        Action::GrantRevoked => {
            let mut keap = stage.keap.borrow_mut();
            "revoked".clone_into(&mut keap.access_token);
            "revoked".clone_into(&mut keap.refresh_token);
        }
        Action::ShortPages { times } => {
            stage.coverage.borrow_mut().count("short page");
            stage.keap.borrow_mut().short_pages += times;
        }
        Action::FullRun => begin_run(stage, RunKind::Full),
        Action::Pause { for_ms } => {
            stage.coverage.borrow_mut().count("pause");
            stage.faults.borrow_mut().paused_until_ms = now_ms + for_ms;
        }
    }
}

fn diverged(detail: String) -> Violation {
    Violation::new(Invariant::Convergence, detail)
}

fn check_convergence(stage: &Stage) -> Result<(), Violation> {
    let (keap, mirror) = (stage.keap.borrow(), stage.mirror.borrow());
    for (id, contact) in &keap.contacts {
        let Some(row) = mirror.linked(*id) else {
            return Err(diverged(format!("contact {id} has no row")));
        };
        if let Some(made_from) = contact.link.as_ref().filter(|made_from| **made_from != row.row.id) {
            return Err(Violation::new(
                Invariant::OneEffect,
                format!("contact {id} was made from row {made_from} and is linked to row {}", row.row.id),
            ));
        }
        if row.row.deleted_at.is_some() {
            let is_kept = row.row.base_delta.contains_key(DELETED_AT) && !stage.setting.delete_in_keap;
            if !is_kept {
                return Err(diverged(format!("contact {id} exists and its row is deleted")));
            }
            continue;
        }
        let (here, there) = (Cells::of_record(&row.row.record), contact.cells);
        for cell in 0..CELLS {
            let name = NAMES.get(cell).copied().unwrap_or_default();
            let is_open = mirror.open_conflicts.contains(&(row.row.id.clone(), name.to_owned()));
            if here.get(cell) != there.get(cell) && !is_open {
                return Err(diverged(format!(
                    "{name} of contact {id} is v{} in Keap and v{} in Supabase, whose row is {:?}",
                    there.get(cell),
                    here.get(cell),
                    row.state
                )));
            }
        }
        if here.tags != there.tags {
            return Err(diverged(format!(
                "tags of contact {id}: {:b} in Keap, {:b} here",
                there.tags, here.tags
            )));
        }
        let has_open = mirror.open_conflicts.iter().any(|(of, _)| *of == row.row.id);
        if row.state == RowState::Pending || (row.state == RowState::Completed && has_open) {
            return Err(diverged(format!(
                "row of contact {id} says {:?}, conflicts open: {has_open}",
                row.state
            )));
        }
    }
    for (id, row) in &mirror.rows {
        let exists = match &row.row.keap_id {
            Some(keap_id) => keap_id.parse().is_ok_and(|keap_id: u64| keap.contacts.contains_key(&keap_id)),
            None => false,
        };
        let is_told = row.row.deleted_at.is_some()
            || mirror.open_conflicts.contains(&(id.clone(), DELETED_AT.to_owned()))
            || mirror.items.iter().any(|item| item.error.is_some() && item.item.entity_id == *id);
        if !exists && !is_told {
            return Err(diverged(format!(
                "row {id} (contact {:?}) has no contact, and nothing says so; it is {:?}",
                row.row.keap_id, row.state
            )));
        }
    }
    Ok(())
}

/// Echoes of everything, an incremental run and a full one: nothing may be written.
fn check_silence(stage: &Rc<Stage>, story: &Story) -> Result<(), Violation> {
    let writes = |stage: &Stage| (stage.keap.borrow().writes, stage.mirror.borrow().writes);
    let before = writes(stage);
    let ids: Vec<u64> = stage.keap.borrow().contacts.keys().copied().collect();
    stage.storage.borrow_mut().push(&ids, stage.object_now());
    begin_run(stage, RunKind::Full);
    let until_ms = stage.schedule.now_ms() + QUIET_MS;
    run_until(stage, story, until_ms + LIVENESS_MS, |stage| {
        stage.schedule.now_ms() >= until_ms && is_idle(stage)
    })?;
    let after = writes(stage);
    if after == before {
        return Ok(());
    }
    Err(Violation::new(
        Invariant::NoPingPong,
        format!(
            "in quiet there were {} writes to Keap and {} to rows",
            after.0 - before.0,
            after.1 - before.1
        ),
    ))
}
