//! What waits for Keap, listed by a dry run.

use super::{Step, Unit, UnitStore};
use crate::foresight::foresee_outgoing;
use crate::ports::Clock;
use keapsync_domain::failure::Failure;
use keapsync_domain::run::Cursor;
use keapsync_keap::transport::Transport;

/// Rows looked at in one step: each that Keap does not list costs a call.
const ROWS_AT_ONCE: usize = 50;

impl<T: Transport, S: UnitStore, C: Clock> Unit<'_, '_, T, S, C> {
    /// A page of rows whose edits wait for Keap.
    pub(super) async fn foresee(&self, cursor: &Cursor) -> Result<Step, Failure> {
        let (world, entity) = (self.world, self.order.entity);
        let after = cursor.after_row.as_deref();
        let ids = world.store.list_open(world.account, entity, after, ROWS_AT_ONCE).await?;
        let Some(last) = ids.last() else { return Ok(Step::default()) };
        let next = Cursor { after_row: Some(last.clone()), ..cursor.clone() };
        let foreseen = foresee_outgoing(world, entity, &ids).await?;
        world.store.write_planned(world.account, &self.order.run_id, &foreseen.changes).await?;
        Ok(Step { counts: foreseen.counts, next: Some(next), ..Step::default() })
    }
}
