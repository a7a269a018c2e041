//! One bounded, checkpointed unit of a bulk run, worked on within a time budget.
//!
//! While one page is written the next one is fetched and merged. The report's cursor stands behind what is committed, so a unit
//! that dies anywhere costs nothing but repeated reads. A unit never destroys more than the blast guard lets its run, and a
//! planning one writes no record.

mod outgoing;
mod reading;
mod rows;
mod verification;

#[cfg(test)]
mod tests;

use crate::guard::Allowance;
use crate::inbound::{Origin, Told};
use crate::paced::PacedTransport;
use crate::ports::proof::ProofStore;
use crate::ports::{Clock, MirrorStore, RowLists, WriteSource};
use crate::world::World;
use keapsync_domain::failure::Failure;
use keapsync_domain::limits::UNIT_BUDGET_MS;
use keapsync_domain::run::{Counts, Cursor, Direction, Phase, RunKind};
use keapsync_domain::timestamp::Timestamp;
use keapsync_domain::wire::{UnitMode, UnitOrder, UnitReport};
use keapsync_keap::capability::{FullPages, capability};
use keapsync_keap::transport::Transport;
use std::cell::{Cell, OnceCell};
use std::collections::HashSet;

/// What a unit needs of the database.
pub trait UnitStore: MirrorStore + RowLists + ProofStore {}

impl<S: MirrorStore + RowLists + ProofStore> UnitStore for S {}

/// How a step of a unit ended.
#[derive(Clone, Debug, Default)]
struct Step {
    counts: Counts,
    /// Where to go on; `None` when the phase is over.
    next: Option<Cursor>,
    /// Whether the blast guard stopped it, with nothing of what is counted as destroyed written.
    held: bool,
    /// Whether it is to be taken again from where it began: the budget ended in the middle.
    again: bool,
}

/// What the steps of a unit share.
struct Unit<'a, 'w, T, S, C> {
    world: &'a World<'w, PacedTransport<'w, T, C>, S, C>,
    order: &'a UnitOrder,
    origin: Origin,
    allowance: Allowance,
    started_at: Timestamp,
    newest_id: Cell<Option<u64>>,
    /// Whether the coming page most likely holds nothing new but what was applied first: so did the one before, or there is no row yet.
    expects_new: Cell<bool>,
    /// Keap ids of what was applied first: it comes again in its place.
    applied_first: OnceCell<HashSet<String>>,
    /// Rows deleted one by one: they count also when what comes after them fails.
    deleted: Cell<u64>,
}

/// Works on one unit and reports how it ended; never fails as a whole, because what was committed must be told.
pub async fn run_unit<T: Transport, S: UnitStore, C: Clock>(
    world: &World<'_, PacedTransport<'_, T, C>, S, C>,
    order: &UnitOrder,
) -> UnitReport {
    let mut report = UnitReport::begun(order);
    match begin(world, order).await {
        Ok(unit) => {
            if let Err(failure) = unit.work(&mut report).await {
                report.failure = Some(failure);
            }
            report.newest_id = unit.newest_id.get();
            // Also what was destroyed before a failure.
            report.counts.destroyed += unit.allowance.used();
            report.counts.deleted += unit.deleted.get();
        }
        Err(failure) => report.failure = Some(failure),
    }
    report.calls = world.keap.caller.transport.calls();
    report
}

async fn begin<'a, 'w, T: Transport, S: UnitStore, C: Clock>(
    world: &'a World<'w, PacedTransport<'w, T, C>, S, C>,
    order: &'a UnitOrder,
) -> Result<Unit<'a, 'w, T, S, C>, Failure> {
    let source = if order.kind == RunKind::Incremental { WriteSource::Poll } else { WriteSource::FullSync };
    let guard = world.settings.blast_guard;
    let (allowance, is_empty) = match &order.mode {
        UnitMode::Plan => (Allowance::unlimited(), false),
        mode => {
            let approval = match mode {
                UnitMode::Approved(approval) => Some(approval.clone()),
                UnitMode::Guarded | UnitMode::Plan => None,
            };
            let live = world.store.unsynced(world.account, order.entity).await?.live;
            (Allowance::of(guard, approval), live == 0)
        }
    };
    Ok(Unit {
        world,
        order,
        origin: Origin { source, run_id: Some(order.run_id.clone()), told: Told::default() },
        allowance,
        started_at: world.clock.now(),
        newest_id: Cell::new(None),
        expects_new: Cell::new(is_empty && order.kind == RunKind::Full),
        applied_first: OnceCell::new(),
        deleted: Cell::new(0),
    })
}

impl<T: Transport, S: UnitStore, C: Clock> Unit<'_, '_, T, S, C> {
    /// Goes from phase to phase until the run or the budget is at its end.
    async fn work(&self, report: &mut UnitReport) -> Result<(), Failure> {
        loop {
            let phase = report.cursor.phase;
            let is_over = match phase {
                Phase::Reading if self.order.kind == RunKind::Verify => {
                    self.repeat(report, async |cursor| self.compare_page(&cursor).await).await?
                }
                _ if self.order.kind == RunKind::Verify => {
                    self.repeat(report, async |cursor| self.compare_rows(&cursor).await).await?
                }
                Phase::Reading => self.read(report).await?,
                Phase::Rows => self.repeat(report, async |cursor| self.look_at_rows(&cursor).await).await?,
                Phase::Outgoing => self.repeat(report, async |cursor| self.foresee(&cursor).await).await?,
            };
            if !is_over {
                if report.cursor.phase != phase && !report.held && self.has_budget() {
                    continue;
                }
                return Ok(());
            }
            let Some(phase) = self.phase_behind(phase) else {
                report.finished = true;
                return Ok(());
            };
            report.cursor = Cursor { phase, ..Cursor::default() };
        }
    }

    /// Repeats a step while there is budget. Says whether the phase is over.
    async fn repeat(
        &self,
        report: &mut UnitReport,
        step: impl AsyncFn(Cursor) -> Result<Step, Failure>,
    ) -> Result<bool, Failure> {
        let phase = report.cursor.phase;
        while self.has_budget() && report.cursor.phase == phase {
            let done = step(report.cursor.clone()).await?;
            report.counts.add(&done.counts);
            if done.held || done.again {
                report.held = done.held;
                return Ok(false);
            }
            match done.next {
                Some(next) => report.cursor = next,
                None => return Ok(true),
            }
        }
        Ok(false)
    }

    fn phase_behind(&self, phase: Phase) -> Option<Phase> {
        let lists_edits = self.plans() && self.order.direction != Direction::KeapToSupabase;
        if self.order.kind == RunKind::Verify {
            return None;
        }
        let by_token = matches!(capability(self.order.entity).full, FullPages::ByToken(_));
        match phase {
            // Where pages go by id, what Keap has lost was found page by page.
            Phase::Reading if self.order.kind == RunKind::Full && by_token => Some(Phase::Rows),
            Phase::Reading | Phase::Rows if lists_edits => Some(Phase::Outgoing),
            Phase::Reading | Phase::Rows | Phase::Outgoing => None,
        }
    }

    fn plans(&self) -> bool {
        self.order.mode == UnitMode::Plan
    }

    fn has_budget(&self) -> bool {
        let left = self.world.keap.caller.transport.calls_left();
        left > 0 && self.world.clock.now().since_ms(self.started_at) < UNIT_BUDGET_MS
    }
}
