//! Rows whose records may be gone from Keap: asked for by name, and deleted here only when Keap says that there is no such
//! record. That a list leaves a record out may be its filter's doing.

use super::{Step, Unit, UnitStore};
use crate::foresight::foresee_lost;
use crate::inbound::{DELETED_AT, Expected, apply_delete, apply_within};
use crate::ports::Clock;
use crate::ports::proof::{Held, LinkedRow};
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::limits::PAGE_RECORDS_MAX;
use keapsync_domain::run::Cursor;
use keapsync_keap::transport::Transport;
use std::collections::HashSet;

/// Records that a plan asks Keap for one by one in a step; the rest are taken for lost.
const PLAN_ASKED_MAX: usize = 50;

impl<T: Transport, S: UnitStore, C: Clock> Unit<'_, '_, T, S, C> {
    /// A page of linked rows, compared with what Keap has of them.
    pub(super) async fn look_at_rows(&self, cursor: &Cursor) -> Result<Step, Failure> {
        let (world, entity) = (self.world, self.order.entity);
        let after = cursor.after_row.as_deref();
        let rows = world.store.list_linked(world.account, entity, after, PAGE_RECORDS_MAX).await?;
        let Some(behind) = rows.last() else { return Ok(Step::default()) };
        let next = Cursor { after_row: Some(behind.keap_id.clone()), ..cursor.clone() };
        let ids: Vec<String> = rows.iter().map(|row| row.keap_id.clone()).collect();
        let page = world.keap.list_ids(entity, &ids, world.clock.now()).await?;
        let found: HashSet<&str> = page.ids().collect();
        let missing: Vec<LinkedRow> =
            rows.iter().filter(|row| !found.contains(row.keap_id.as_str())).cloned().collect();
        let mut step = if self.plans() {
            Step::default()
        } else {
            // What was renamed between its page and this look may have lain on no page.
            let mut met = self.apply(page.records, page.rejected).await?;
            met.counts.read = 0;
            met.counts.rejected = 0;
            met.counts.unchanged = 0;
            met
        };
        if step.held {
            return Ok(step);
        }
        let lost = self.settle_missing(missing).await?;
        step.counts.add(&lost.counts);
        Ok(Step { next: Some(next), counts: step.counts, ..lost })
    }

    /// Deletes the rows of these that Keap has lost: as many as there is budget for, after the guard has let all of them pass.
    pub(super) async fn settle_missing(&self, mut missing: Vec<LinkedRow>) -> Result<Step, Failure> {
        let (world, entity) = (self.world, self.order.entity);
        let mut step = Step::default();
        if !missing.is_empty() {
            // Of these a person has been asked already: an edit waited when the record went.
            let ids: Vec<String> = missing.iter().map(|row| row.id.clone()).collect();
            let open = world.store.open_conflict_fields(world.account, entity, &ids).await?;
            let asked = |id: &str| {
                open.iter().any(|(row, fields)| row == id && fields.iter().any(|field| field == DELETED_AT))
            };
            missing.retain(|row| !asked(&row.id));
        }
        if missing.is_empty() {
            return Ok(step);
        }
        // Before any is asked for: a thousand of them would cost a thousand calls, and a person has to look anyway.
        let class = Held { entity, deletes: true };
        let ids: Vec<String> = missing.iter().map(|row| row.id.clone()).collect();
        // Each takes its own when its turn comes.
        if !self.allowance.would_take(world.store, world.account, class, &ids).await? {
            step.held = true;
            return Ok(step);
        }
        let (mut lost, mut found) = (Vec::new(), Vec::new());
        for row in missing {
            let asks = self.has_budget() && lost.len() + found.len() < PLAN_ASKED_MAX;
            if self.plans() && !asks {
                lost.push(row);
                continue;
            }
            if !self.plans() && !self.has_budget() {
                step.again = true;
                break;
            }
            let observed_at = world.clock.now();
            match world.keap.get(entity, &row.keap_id, observed_at).await? {
                Some(remote) => found.push(remote),
                None if self.plans() => lost.push(row),
                None => {
                    let own = std::slice::from_ref(&row.id);
                    if !self.allowance.take(world.store, world.account, class, own).await? {
                        step.held = true;
                        break;
                    }
                    let deleted = apply_delete(world, entity, &self.origin, &row.keap_id, observed_at).await;
                    if matches!(deleted, Ok(true)) {
                        self.deleted.set(self.deleted.get() + 1);
                    } else {
                        self.allowance.give_back(1);
                    }
                    deleted?;
                }
            }
        }
        if self.plans() {
            let foreseen = foresee_lost(world, entity, &lost).await?;
            world.store.write_planned(world.account, &self.order.run_id, &foreseen.changes).await?;
            step.counts.add(&foreseen.counts);
            return Ok(step);
        }
        let applied =
            apply_within(world, entity, &self.origin, &self.allowance, Expected::Anything, found, Vec::new())
                .await?;
        step.counts.add(&applied.counts);
        step.held = step.held || applied.held;
        if applied.unsettled.is_empty() {
            return Ok(step);
        }
        Err(Failure::new(
            FailureClass::Conflict,
            "rows kept changing while they were merged; they are read again",
        ))
    }
}
