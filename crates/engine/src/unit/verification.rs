//! Both sides compared completely: the convergence certificate.
//!
//! Keap's records are gone through page by page with their rows, then the rows that have no record. Where pages move while they are read
//! (tags), rows are compared on the way through the rows, which move not: a record may lie on no page, or change behind its own. What differs at first sight
//! is read again from both sides, because a change may have been on its way between the two looks; only what differs twice
//! counts. A record whose delete the account's settings or an undo keep here is left out: the owner wants the sides to differ in it.
//!
//! Nothing is written but the certificate.

use super::{Step, Unit, UnitStore};
use crate::inbound::DELETED_AT;
use crate::ports::proof::LinkedRow;
use crate::ports::{Clock, LocalRow, RemoteKey};
use keapsync_domain::certificate::{Circumstances, Comparison, Pair, differing_fields};
use keapsync_domain::failure::Failure;
use keapsync_domain::limits::PAGE_RECORDS_MAX;
use keapsync_domain::record::Record;
use keapsync_domain::remote::RemoteRecord;
use keapsync_domain::run::{Counts, Cursor};
use keapsync_keap::capability::{FullPages, capability};
use keapsync_keap::page::RecordPage;
use keapsync_keap::transport::Transport;
use std::collections::{HashMap, HashSet};

/// Ids asked for one by one in a step, where Keap's list does not name them.
const ASKED_MAX: usize = 100;

/// A record of Keap beside its row.
type Looked = (RemoteRecord, Option<LocalRow>);

impl<T: Transport, S: UnitStore, C: Clock> Unit<'_, '_, T, S, C> {
    /// A page of Keap's records, compared with their rows.
    pub(super) async fn compare_page(&self, cursor: &Cursor) -> Result<Step, Failure> {
        let (world, entity) = (self.world, self.order.entity);
        let page = world.keap.list_after(entity, cursor, world.clock.now()).await?;
        let mut comparison = taken(cursor);
        let counts =
            Counts { read: page.length as u64, rejected: page.rejected.len() as u64, ..Counts::default() };
        // What cannot be read is no row's equal.
        for id in page.rejected.iter().filter_map(|rejected| rejected.keap_id.as_deref()) {
            comparison.only_in_keap(id, &Record::empty(entity), None, false);
        }
        let until = page.next.as_ref().and_then(|next| next.after_id.clone());
        let present: Vec<String> = page.ids().map(str::to_owned).collect();
        let next = page.next.clone();
        let by_key = matches!(capability(entity).full, FullPages::ByKey(_));
        let records = if by_key { page.records } else { self.without_live_rows(page.records).await? };
        self.compare(&mut comparison, records).await?;
        if by_key {
            let mut after = cursor.after_id.clone();
            loop {
                let (account, until) = (world.account, until.as_deref());
                let limit = PAGE_RECORDS_MAX;
                let missing = world
                    .store
                    .list_missing(account, entity, after.as_deref(), until, &present, limit)
                    .await?;
                self.compare_missing(&mut comparison, &missing).await?;
                if missing.len() < limit {
                    break;
                }
                after = missing.last().map(|row| row.keap_id.clone());
            }
        }
        let pass = |cursor: &Cursor| cursor.pass.unwrap_or_default().number;
        // A further pass meets all of them once more.
        let begins_anew = next.as_ref().is_some_and(|next| pass(next) > pass(cursor));
        let comparison = Some(Box::new(if begins_anew { Comparison::new() } else { comparison }));
        let next = match next {
            Some(next) => Cursor { comparison, ..next },
            None => Cursor { phase: keapsync_domain::run::Phase::Rows, comparison, ..Cursor::default() },
        };
        Ok(Step { counts, next: Some(next), ..Step::default() })
    }

    /// A page of rows that have no record in Keap; behind the last of them the certificate is written.
    pub(super) async fn compare_rows(&self, cursor: &Cursor) -> Result<Step, Failure> {
        let (world, entity) = (self.world, self.order.entity);
        let mut comparison = taken(cursor);
        // Rows first that were never in Keap, by their ids; then, where pages go by token, those that are linked, by Keap's.
        let linked_after = cursor.after_id.as_deref();
        let next = if linked_after.is_none() {
            let after = cursor.after_row.as_deref();
            let ids = world.store.list_unlinked(world.account, entity, after, PAGE_RECORDS_MAX).await?;
            for row in world.store.read_rows(world.account, entity, &ids).await? {
                if row.deleted_at.is_none() && row.keap_id.is_none() {
                    comparison.only_in_supabase(&row.id, &row.record, None, true);
                }
            }
            match ids.last() {
                Some(last) => Some(Cursor { after_row: Some(last.clone()), ..cursor.clone() }),
                None if matches!(capability(entity).full, FullPages::ByToken(_)) => {
                    Some(Cursor { after_id: Some(String::new()), ..cursor.clone() })
                }
                None => None,
            }
        } else {
            let rows = world.store.list_linked(world.account, entity, linked_after, PAGE_RECORDS_MAX).await?;
            let ids: Vec<String> = rows.iter().map(|row| row.keap_id.clone()).collect();
            let page = if ids.is_empty() {
                RecordPage::default()
            } else {
                world.keap.list_ids(entity, &ids, world.clock.now()).await?
            };
            let found: HashSet<String> = page.ids().map(str::to_owned).collect();
            self.compare(&mut comparison, page.records).await?;
            let missing: Vec<LinkedRow> =
                rows.iter().filter(|row| !found.contains(&row.keap_id)).cloned().collect();
            self.compare_missing(&mut comparison, &missing).await?;
            rows.last().map(|last| Cursor { after_id: Some(last.keap_id.clone()), ..cursor.clone() })
        };
        if let Some(next) = next {
            let next = Cursor { comparison: Some(Box::new(comparison)), ..next };
            return Ok(Step { next: Some(next), ..Step::default() });
        }
        self.certify(comparison).await?;
        Ok(Step::default())
    }

    async fn certify(&self, comparison: Comparison) -> Result<(), Failure> {
        let (world, entity) = (self.world, self.order.entity);
        let unsynced = world.store.unsynced(world.account, entity).await?;
        let circumstances = Circumstances {
            open_conflicts: u64::try_from(unsynced.open_conflicts).unwrap_or(0),
            oldest_unsynced_at: unsynced.oldest_unsynced_at,
            started_at: self.order.run_started_at,
            checked_at: world.clock.now(),
        };
        let certificate = comparison.certify(entity, circumstances);
        world.store.write_certificate(world.account, Some(&self.order.run_id), &[certificate]).await
    }

    /// Compares records with their rows; what differs is read again from both sides first.
    async fn compare(&self, comparison: &mut Comparison, records: Vec<RemoteRecord>) -> Result<(), Failure> {
        let (world, entity) = (self.world, self.order.entity);
        let mut looked = self.with_rows(records).await?;
        let doubtful: Vec<String> = looked
            .iter()
            .filter(|(remote, row)| !is_plainly_equal(remote, row.as_ref()))
            .map(|(remote, _)| remote.keap_id.clone())
            .collect();
        if !doubtful.is_empty() {
            let again = world.keap.list_ids(entity, &doubtful, world.clock.now()).await?;
            for id in again.rejected.iter().filter_map(|rejected| rejected.keap_id.as_deref()) {
                comparison.only_in_keap(id, &Record::empty(entity), None, false);
            }
            let answered: HashSet<String> = again.ids().map(str::to_owned).collect();
            let doubtful: HashSet<String> = doubtful.into_iter().collect();
            // Gone since the first look: what is left of them are their rows.
            for (remote, row) in &looked {
                let is_gone = doubtful.contains(&remote.keap_id) && !answered.contains(&remote.keap_id);
                if let Some(row) = row.as_ref().filter(|row| is_gone && row.deleted_at.is_none()) {
                    comparison.only_in_supabase(&row.id, &row.record, Some(&remote.keap_id), false);
                }
            }
            looked.retain(|(remote, _)| !doubtful.contains(&remote.keap_id));
            looked.extend(self.with_rows(again.records).await?);
        }
        let row_ids: Vec<String> = looked
            .iter()
            .filter(|(remote, row)| !is_plainly_equal(remote, row.as_ref()))
            .filter_map(|(_, row)| row.as_ref().map(|row| row.id.clone()))
            .collect();
        let open: HashMap<String, Vec<String>> = if row_ids.is_empty() {
            HashMap::new()
        } else {
            let open = world.store.open_conflict_fields(world.account, entity, &row_ids).await?;
            open.into_iter().collect()
        };
        for (remote, row) in &looked {
            let Some(row) = row else {
                comparison.only_in_keap(&remote.keap_id, &remote.record, None, false);
                continue;
            };
            let conflicts: &[String] = open.get(&row.id).map_or(&[], Vec::as_slice);
            let is_undecided = conflicts.iter().any(|field| field == DELETED_AT);
            if row.deleted_at.is_some() {
                let deleted_here = row.base_delta.contains_key(DELETED_AT);
                let is_kept_here = deleted_here && (self.keeps_deletes() || row.is_deleted_here_alone());
                if !is_undecided && !is_kept_here {
                    comparison.only_in_keap(&remote.keap_id, &remote.record, Some(&row.id), deleted_here);
                }
                continue;
            }
            comparison.pair(&Pair {
                keap_id: &remote.keap_id,
                entity_id: &row.id,
                keap: &remote.record,
                supabase: &row.record,
                open_conflicts: conflicts,
                is_waiting: !row.base_delta.is_empty() || !row.has_base,
            });
        }
        Ok(())
    }

    /// Records without those that live rows stand for.
    async fn without_live_rows(&self, records: Vec<RemoteRecord>) -> Result<Vec<RemoteRecord>, Failure> {
        let looked = self.with_rows(records).await?;
        let is_live = |row: &Option<LocalRow>| row.as_ref().is_some_and(|row| row.deleted_at.is_none());
        let others = looked.into_iter().filter(|(_, row)| !is_live(row));
        Ok(others.map(|(remote, _)| remote).collect())
    }

    /// Whether deletes made here stay here.
    fn keeps_deletes(&self) -> bool {
        !self.world.settings.delete_in_keap || !capability(self.order.entity).supports_delete()
    }

    async fn with_rows(&self, records: Vec<RemoteRecord>) -> Result<Vec<Looked>, Failure> {
        let (world, entity) = (self.world, self.order.entity);
        let keys: Vec<RemoteKey> = records
            .iter()
            .map(|remote| RemoteKey {
                keap_id: remote.keap_id.clone(),
                // No row has it, so that every row is answered, whatever Keap's hash was.
                keap_hash: String::new(),
                row_id: remote.row_id.clone(),
            })
            .collect();
        let known = world.store.read_known(world.account, entity, &keys).await?;
        let mut rows: HashMap<String, Option<LocalRow>> =
            known.into_iter().map(|known| (known.keap_id, known.row)).collect();
        Ok(records
            .into_iter()
            .map(|remote| {
                let row = rows.remove(&remote.keap_id).flatten();
                (remote, row)
            })
            .collect())
    }

    /// Rows whose records Keap's lists did not name: asked for one by one, up to a number that shows the matter well enough.
    async fn compare_missing(
        &self,
        comparison: &mut Comparison,
        missing: &[LinkedRow],
    ) -> Result<(), Failure> {
        let (world, entity) = (self.world, self.order.entity);
        let (mut found, mut gone) = (Vec::new(), Vec::new());
        for (position, row) in missing.iter().enumerate() {
            let remote = if position < ASKED_MAX && self.has_budget() {
                world.keap.get(entity, &row.keap_id, world.clock.now()).await?
            } else {
                None
            };
            match remote {
                Some(remote) => found.push(remote),
                None => gone.push(row.id.clone()),
            }
        }
        self.compare(comparison, found).await?;
        let open: HashSet<String> = if gone.is_empty() {
            HashSet::new()
        } else {
            let open = world.store.open_conflict_fields(world.account, entity, &gone).await?;
            open.into_iter()
                .filter(|(_, fields)| fields.iter().any(|field| field == DELETED_AT))
                .map(|(id, _)| id)
                .collect()
        };
        for row in world.store.read_rows(world.account, entity, &gone).await? {
            if row.deleted_at.is_none() && !open.contains(&row.id) {
                comparison.only_in_supabase(&row.id, &row.record, row.keap_id.as_deref(), false);
            }
        }
        Ok(())
    }
}

fn taken(cursor: &Cursor) -> Comparison {
    cursor.comparison.as_deref().cloned().unwrap_or_default()
}

fn is_plainly_equal(remote: &RemoteRecord, row: Option<&LocalRow>) -> bool {
    row.is_some_and(|row| {
        row.deleted_at.is_none() && differing_fields(&remote.record, &row.record, &[]).is_empty()
    })
}
