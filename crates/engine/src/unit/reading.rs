//! Keap's records, page by page: applied, or planned; and the rows between them whose records Keap has lost.

use super::{Step, Unit, UnitStore};
use crate::foresight::foresee_page;
use crate::inbound::{Expected, apply_within};
use crate::ports::Clock;
use futures_util::StreamExt as _;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::limits::PAGE_RECORDS_MAX;
use keapsync_domain::run::{Cursor, Direction, RunKind};
use keapsync_domain::wire::UnitReport;
use keapsync_keap::capability::{FullPages, capability};
use keapsync_keap::page::RecordPage;
use keapsync_keap::transport::Transport;
use std::collections::HashSet;

/// Pages in work at once: while one is written and the next one waits to be, a third is fetched and merged, so that Postgres never
/// waits for a page. More would only take memory.
const PAGES_AT_ONCE: usize = 3;

impl<T: Transport, S: UnitStore, C: Clock> Unit<'_, '_, T, S, C> {
    /// Reads until the budget or Keap's records are at their end. Says whether all were read.
    pub(super) async fn read(&self, report: &mut UnitReport) -> Result<bool, Failure> {
        if self.order.kind == RunKind::Full && report.cursor == Cursor::default() {
            let newest = self.newest_first().await?;
            report.counts.add(&newest.counts);
            if newest.held {
                report.held = true;
                return Ok(false);
            }
        }
        let pages = futures_util::stream::unfold(Some(report.cursor.clone()), |cursor| async {
            let cursor = cursor?;
            let fetched = self.fetch(&cursor).await;
            let next = fetched.as_ref().ok().and_then(|page| page.next.clone());
            Some(((cursor, fetched), next.filter(|_| self.has_budget())))
        });
        let steps = pages
            .map(async |(cursor, fetched)| {
                let page = fetched?;
                self.take(&cursor, page).await
            })
            .buffered(PAGES_AT_ONCE);
        let mut steps = std::pin::pin!(steps);
        // In the order of the pages, so that everything before the cursor is committed. What a later page committed beyond a
        // failed one is found unchanged when it is read again.
        while let Some(step) = steps.next().await {
            let step = step?;
            report.counts.add(&step.counts);
            if step.held || step.again {
                report.held = step.held;
                return Ok(false);
            }
            match step.next {
                Some(next) => report.cursor = next,
                None => return Ok(true),
            }
        }
        Ok(false)
    }

    /// What changed last comes first, so that a long run shows what matters soon; and the largest id tells how far it is.
    async fn newest_first(&self) -> Result<Step, Failure> {
        if matches!(capability(self.order.entity).full, FullPages::ByToken(_)) {
            return Ok(Step::default());
        }
        let page = self.world.keap.list_newest(self.order.entity, self.world.clock.now()).await?;
        let ids = page.records.iter().filter_map(|remote| remote.keap_id.parse::<u64>().ok());
        self.newest_id.set(ids.max());
        if self.plans() || page.next_page_token.is_none() {
            // The pages in order of id plan it, and hold all there is anyway.
            return Ok(Step::default());
        }
        let applied = page.records.iter().map(|remote| remote.keap_id.clone()).collect();
        let mut step = self.apply(page.records, page.rejected).await?;
        // A unit begins so at the most once.
        let _ = self.applied_first.set(applied);
        // They are read again in their place, and counted there.
        step.counts.read = 0;
        step.counts.rejected = 0;
        step.counts.unchanged = 0;
        Ok(step)
    }

    async fn fetch(&self, cursor: &Cursor) -> Result<RecordPage, Failure> {
        let (entity, now) = (self.order.entity, self.world.clock.now());
        match self.order.kind {
            RunKind::Incremental => self.world.keap.list_changed(entity, cursor, now).await,
            RunKind::Full | RunKind::Verify | RunKind::Revert => {
                self.world.keap.list_after(entity, cursor, now).await
            }
        }
    }

    async fn take(&self, cursor: &Cursor, page: RecordPage) -> Result<Step, Failure> {
        let finds_lost = self.order.kind == RunKind::Full
            && matches!(capability(self.order.entity).full, FullPages::ByKey(_));
        let until = page.next.as_ref().and_then(|next| next.after_id.clone());
        let present: Vec<String> =
            if finds_lost { page.ids().map(str::to_owned).collect() } else { Vec::new() };
        let next = page.next.clone();
        let mut step = if self.plans() {
            let carries = self.order.direction == Direction::Bidirectional;
            let rejected = page.rejected.len() as u64;
            let foreseen = foresee_page(self.world, self.order.entity, page.records, carries).await?;
            self.world.store.write_planned(self.world.account, &self.order.run_id, &foreseen.changes).await?;
            let mut counts = foreseen.counts;
            counts.read += rejected;
            counts.rejected += rejected;
            Step { counts, ..Step::default() }
        } else {
            self.apply(page.records, page.rejected).await?
        };
        if finds_lost && !step.held {
            let lost = self.find_lost(cursor.after_id.clone(), until.as_deref(), &present).await?;
            step.counts.add(&lost.counts);
            step.held = lost.held;
            step.again = lost.again;
        }
        Ok(Step { next, ..step })
    }

    /// The rows with ids above `after` and up to `until` that Keap did not name, however many.
    async fn find_lost(
        &self,
        mut after: Option<String>,
        until: Option<&str>,
        present: &[String],
    ) -> Result<Step, Failure> {
        let mut found = Step::default();
        loop {
            let (account, entity) = (self.world.account, self.order.entity);
            let store = self.world.store;
            let missing = store
                .list_missing(account, entity, after.as_deref(), until, present, PAGE_RECORDS_MAX)
                .await?;
            let is_full = missing.len() >= PAGE_RECORDS_MAX;
            after = missing.last().map(|row| row.keap_id.clone());
            let lost = self.settle_missing(missing).await?;
            found.counts.add(&lost.counts);
            found.held = lost.held;
            found.again = lost.again;
            if lost.held || lost.again || !is_full {
                return Ok(found);
            }
        }
    }

    pub(super) async fn apply(
        &self,
        records: Vec<keapsync_domain::remote::RemoteRecord>,
        rejected: Vec<keapsync_domain::remote::RejectedRecord>,
    ) -> Result<Step, Failure> {
        let entity = self.order.entity;
        let nothing = HashSet::new();
        let but = self.applied_first.get().unwrap_or(&nothing);
        let met_again = records.iter().filter(|remote| but.contains(&remote.keap_id)).count() as u64;
        let expected = if self.expects_new.get() { Expected::New { but } } else { Expected::Anything };
        let applied =
            apply_within(self.world, entity, &self.origin, &self.allowance, expected, records, rejected)
                .await?;
        let counts = &applied.counts;
        let rest_was_new = counts.created > 0 && counts.created + met_again == counts.read;
        self.expects_new.set(self.order.kind == RunKind::Full && rest_was_new);
        if applied.unsettled.is_empty() {
            return Ok(Step { counts: applied.counts, held: applied.held, ..Step::default() });
        }
        Err(Failure::new(
            FailureClass::Conflict,
            format!(
                "{} rows kept changing while they were merged; the page is read again",
                applied.unsettled.len()
            ),
        ))
    }
}
