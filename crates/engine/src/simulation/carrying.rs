//! The outbox, drained as the coordinator does.

use super::connection::{Refreshing, credential, heed, release, take_lease};
use super::object::{LOOK_MS, Part, WORK_BUDGET_MS, may_work, note, object_clock, world_of};
use super::ports::{AskedTransport, SimulatedStore, SimulatedTransport};
use super::stage::Stage;
use crate::outbox::drain;
use crate::paced::PacedTransport;
use crate::ports::Clock as _;
use crate::quota::Priority;
use keapsync_domain::failure::Failure;
use keapsync_keap::caller::Caller;
use keapsync_keap::records::{Links, RecordsApi};
use std::rc::Rc;

/// Looks at the outbox, and carries what is due.
pub(super) async fn outbox_loop(stage: Rc<Stage>, refreshing: Refreshing) {
    loop {
        let due = stage.mirror.borrow().depth().next_due_at;
        if may_work(&stage, Part::Outbox) && due.is_some_and(|due| due <= stage.postgres_now()) {
            let outcome = drain_outbox(&stage, &refreshing).await;
            note(&stage, Part::Outbox, &outcome);
        }
        stage.schedule.sleep(LOOK_MS).await;
    }
}

async fn drain_outbox(stage: &Rc<Stage>, refreshing: &Refreshing) -> Result<(), Failure> {
    let deadline = stage.object_now().plus_ms(WORK_BUDGET_MS);
    let live = credential(stage, refreshing).await?;
    let lease = take_lease(stage, Priority::Outbox, 160, 8, None).await?;
    let (transport, clock) = (SimulatedTransport::carrying(stage), object_clock(stage));
    let paced = PacedTransport::new(&transport, &clock, lease.permits, lease.calls_per_second_max)
        .until(lease.expires_at);
    let store = SimulatedStore { stage: Rc::clone(stage) };
    let asked = AskedTransport { stage, inner: &paced };
    let caller = Caller { transport: &asked, base_url: "http://keap", access_token: &live.token };
    let api = RecordsApi::new(caller, Links::of(&stage.link_fields));
    let world = world_of(stage, &api, &store, &clock);
    let outcome = loop {
        transport.begin_pass();
        match drain(&world, "object").await {
            Err(failure) => break Err(failure),
            Ok(report) => {
                let mut coverage = stage.coverage.borrow_mut();
                coverage.add("edit carried", report.completed as u64);
                coverage.add("edit put back", report.retried as u64);
                if let Some(failure) = report.outage {
                    break Err(failure);
                }
                if !report.more || paced.calls_left() < 10 || clock.now() >= deadline {
                    break Ok(());
                }
            }
        }
    };
    release(stage, &lease, paced.calls()).await;
    outcome.or_else(|failure| heed(stage, &live, failure))
}
