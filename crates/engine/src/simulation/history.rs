//! One history from its beginning to its verdict.

use super::connection::connect;
use super::convergence::check_convergence;
use super::coverage::Coverage;
use super::mutation::Mutation;
use super::object::{is_idle, start_object};
use super::people::{act, bring_back, populate};
use super::schedule::Step;
use super::stage::{BEGINNING_MS, Event, Stage};
use super::story::{SMALL_DAY, Story};
use super::unit_orders::begin_runs;
use super::verdict::{Invariant, Violation};
use keapsync_domain::ids::EntityType;
use keapsync_domain::run::RunKind;
use std::rc::Rc;

/// After the last fault, everything that waits must be done within this, in milliseconds.
const LIVENESS_MS: i64 = 30 * 60_000;

/// The same where the day's quota is so small that work waits for the next day, or the one after.
const LIVENESS_OF_DAYS_MS: i64 = 72 * 3_600_000;

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
    coverage.add("written again, gone in Keap before it was known here", stage.ledger.borrow().written_again);
    let hash = stage.trace.borrow().hash();
    let lines = std::mem::take(&mut stage.trace.borrow_mut().lines);
    let violation = stage.violation.borrow().clone();
    History { hash, operations: stage.steps.get(), coverage, violation, lines }
}

fn run(stage: &Rc<Stage>, story: &Story) -> Result<(), Violation> {
    connect(stage);
    populate(stage);
    begin_runs(stage, RunKind::Full, &EntityType::ALL);
    start_object(stage);
    // Most stories begin with both sides in step; the others meet the backfill.
    let begins_at_ms = if stage.schedule.draw(|random| random.chance(80)) {
        run_until(stage, story, stage.schedule.now_ms() + liveness_ms(stage), is_idle)?;
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

fn liveness_ms(stage: &Stage) -> i64 {
    if stage.limits.per_day < SMALL_DAY { LIVENESS_OF_DAYS_MS } else { LIVENESS_MS }
}

fn end_faults(stage: &Rc<Stage>) {
    *stage.faults.borrow_mut() = super::stage::Faults::default();
    stage.keap.borrow_mut().short_pages = 0;
    let hidden = stage.keap.borrow().hidden();
    for (entity, id) in hidden {
        bring_back(stage, entity, id);
    }
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
        let storage = stage.storage.borrow();
        let has_polled = EntityType::ALL.iter().all(|entity| {
            let since =
                [false, true].map(|is_full| storage.completed_since.get(&(*entity, is_full)).copied());
            since.into_iter().flatten().max().is_some_and(|since| since >= now)
        });
        has_polled && is_idle(stage)
    };
    run_until(stage, story, stage.schedule.now_ms() + liveness_ms(stage), is_settled)
}

/// The daily sweep: a full run finds what neither hooks nor polls told, and what Keap has lost.
fn sweep(stage: &Stage) {
    begin_runs(stage, RunKind::Full, &EntityType::ALL);
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
            stage.step(20, ids.first().map_or(0, |(_, id)| *id));
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
        Event::AccessBack(entity, id) => bring_back(stage, entity, id),
    }
}

/// Echoes of everything, an incremental run and a full one: nothing may be written.
fn check_silence(stage: &Rc<Stage>, story: &Story) -> Result<(), Violation> {
    let writes = |stage: &Stage| (stage.keap.borrow().writes, stage.mirror.borrow().writes);
    let before = writes(stage);
    let ids = all_records(stage);
    stage.storage.borrow_mut().push(&ids, stage.object_now());
    begin_runs(stage, RunKind::Full, &EntityType::ALL);
    let until_ms = stage.schedule.now_ms() + QUIET_MS;
    run_until(stage, story, until_ms + liveness_ms(stage), |stage| {
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

/// All that Keap holds.
fn all_records(stage: &Stage) -> Vec<(EntityType, u64)> {
    let keap = stage.keap.borrow();
    let of = |entity: EntityType| keap.records(entity).keys().map(move |id| (entity, *id));
    EntityType::ALL.into_iter().flat_map(of).collect()
}
