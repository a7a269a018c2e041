//! One bounded, checkpointed unit of a bulk run: pages of Keap's records, read and applied within a time budget.
//!
//! While one page is written the next one is fetched and merged. The report's cursor stands behind what is committed, so a unit
//! that dies anywhere costs nothing but repeated reads.

use crate::inbound::{Applied, Origin, apply};
use crate::paced::PacedTransport;
use crate::ports::{Clock, MirrorStore, WriteSource};
use crate::world::World;
use futures_util::StreamExt as _;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::limits::UNIT_BUDGET_MS;
use keapsync_domain::run::{Counts, Cursor, RunKind};
use keapsync_domain::timestamp::Timestamp;
use keapsync_domain::wire::{UnitOrder, UnitReport};
use keapsync_keap::page::RecordPage;
use keapsync_keap::transport::Transport;

/// Pages in work at once: one is written while the other is merged. More would only take memory.
const PAGES_AT_ONCE: usize = 2;

/// Works on one unit and reports how it ended; never fails as a whole, because what was committed must be told.
pub async fn run_unit<T: Transport, S: MirrorStore, C: Clock>(
    world: &World<'_, PacedTransport<'_, T, C>, S, C>,
    order: &UnitOrder,
) -> UnitReport {
    let started_at = world.clock.now();
    let source = match order.kind {
        RunKind::Full => WriteSource::FullSync,
        RunKind::Incremental => WriteSource::Poll,
    };
    let origin = Origin { source, run_id: Some(order.run_id.clone()), made_lines: Vec::new() };
    let mut report = UnitReport {
        run_id: order.run_id.clone(),
        unit: order.unit,
        cursor: order.cursor.clone(),
        counts: Counts::default(),
        finished: false,
        failure: None,
        calls: 0,
    };
    let transport = world.keap.caller.transport;
    let pages = futures_util::stream::unfold(Some(order.cursor.clone()), |cursor| async {
        let cursor = cursor?;
        let fetched = fetch(world, order, &cursor).await;
        let next = fetched.as_ref().ok().and_then(|page| page.next.clone());
        Some((fetched, next.filter(|_| has_budget(world, started_at))))
    });
    let applied = pages
        .map(async |fetched| {
            let page = fetched?;
            let counts = settle(apply(world, order.entity, &origin, page.records, page.rejected).await)?;
            Ok((counts, page.next))
        })
        .buffered(PAGES_AT_ONCE);
    let mut applied = std::pin::pin!(applied);
    // In the order of the pages, so that everything before the cursor is committed. What a later page committed beyond a
    // failed one is found unchanged when it is read again.
    while let Some(outcome) = applied.next().await {
        match outcome {
            Ok((counts, next)) => {
                report.counts.add(&counts);
                match next {
                    Some(cursor) => report.cursor = cursor,
                    None => report.finished = true,
                }
            }
            Err(failure) => {
                report.failure = Some(failure);
                break;
            }
        }
    }
    report.calls = transport.calls();
    report
}

fn has_budget<T: Transport, S, C: Clock>(
    world: &World<'_, PacedTransport<'_, T, C>, S, C>,
    started_at: Timestamp,
) -> bool {
    world.keap.caller.transport.calls_left() > 0 && world.clock.now().since_ms(started_at) < UNIT_BUDGET_MS
}

async fn fetch<T: Transport, S, C: Clock>(
    world: &World<'_, T, S, C>,
    order: &UnitOrder,
    cursor: &Cursor,
) -> Result<RecordPage, Failure> {
    let now = world.clock.now();
    match order.kind {
        RunKind::Full => world.keap.list_after(order.entity, cursor, now).await,
        RunKind::Incremental => world.keap.list_changed(order.entity, cursor, now).await,
    }
}

fn settle(applied: Result<Applied, Failure>) -> Result<Counts, Failure> {
    let applied = applied?;
    if applied.unsettled.is_empty() {
        Ok(applied.counts)
    } else {
        Err(Failure::new(
            FailureClass::Conflict,
            format!(
                "{} rows kept changing while they were merged; the page is read again",
                applied.unsettled.len()
            ),
        ))
    }
}
