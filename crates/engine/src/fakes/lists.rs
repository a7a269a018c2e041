//! Lists of the fake mirror's rows, and what dry runs and comparisons leave in it.

use super::mirror::FakeMirror;
use crate::ports::proof::{
    LatestCertificate, LinkedRow, ListedChange, PlannedChange, PlannedCount, ProofStore, Unsynced,
};
use crate::ports::{LocalRow, RowLists};
use keapsync_domain::certificate::EntityCertificate;
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::{AccountId, EntityType};

fn number(keap_id: &str) -> u64 {
    keap_id.parse().unwrap_or(0)
}

impl FakeMirror<'_> {
    fn live(&self) -> Vec<LocalRow> {
        let rows = self.rows.borrow();
        rows.values().map(|entry| entry.row.clone()).filter(|row| row.deleted_at.is_none()).collect()
    }

    fn linked_rows(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<LinkedRow> {
        let linked = self.live().into_iter().filter_map(|row| {
            Some(LinkedRow { keap_id: row.keap_id.filter(|keap_id| is_wanted(keap_id))?, id: row.id })
        });
        linked.collect()
    }
}

impl RowLists for FakeMirror<'_> {
    async fn list_missing(
        &self,
        _: &AccountId,
        _: EntityType,
        after: Option<&str>,
        until: Option<&str>,
        present: &[String],
        limit: usize,
    ) -> Result<Vec<LinkedRow>, Failure> {
        let (after, until) = (after.map_or(0, number), until.map_or(u64::MAX, number));
        let mut rows = self.linked_rows(|keap_id| {
            number(keap_id) > after
                && number(keap_id) <= until
                && !present.iter().any(|known| known == keap_id)
        });
        rows.sort_by_key(|row| number(&row.keap_id));
        rows.truncate(limit);
        Ok(rows)
    }

    async fn list_open(
        &self,
        _: &AccountId,
        _: EntityType,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, Failure> {
        let items = self.items.borrow();
        let open = items.iter().filter(|entry| entry.status == "pending");
        let mut ids: Vec<String> = open.map(|entry| entry.item.entity_id.clone()).collect();
        ids.retain(|id| after.is_none_or(|after| id.as_str() > after));
        ids.sort();
        ids.dedup();
        ids.truncate(limit);
        Ok(ids)
    }

    async fn list_unlinked(
        &self,
        _: &AccountId,
        _: EntityType,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, Failure> {
        let live = self.live().into_iter().filter(|row| row.keap_id.is_none()).map(|row| row.id);
        let behind = live.filter(|id| after.is_none_or(|after| id.as_str() > after));
        Ok(behind.take(limit).collect())
    }
}

impl ProofStore for FakeMirror<'_> {
    async fn list_linked(
        &self,
        _: &AccountId,
        _: EntityType,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<LinkedRow>, Failure> {
        let mut rows = self.linked_rows(|keap_id| after.is_none_or(|after| keap_id > after));
        rows.sort_by(|one, other| one.keap_id.cmp(&other.keap_id));
        rows.truncate(limit);
        Ok(rows)
    }

    async fn unsynced(&self, _: &AccountId, _: EntityType) -> Result<Unsynced, Failure> {
        let live = self.live();
        let unlinked = live.iter().filter(|row| row.keap_id.is_none()).count();
        Ok(Unsynced {
            live: i64::try_from(live.len()).unwrap_or(i64::MAX),
            unlinked: i64::try_from(unlinked).unwrap_or(i64::MAX),
            ..Unsynced::default()
        })
    }

    async fn open_conflict_fields(
        &self,
        _: &AccountId,
        _: EntityType,
        row_ids: &[String],
    ) -> Result<Vec<(String, Vec<String>)>, Failure> {
        let conflicts = self.conflicts.borrow();
        let open = |id: &String| -> Vec<String> {
            let of_row = conflicts.iter().filter(|(row, _, winner)| row == id && winner.is_none());
            of_row.map(|(_, field, _)| field.clone()).collect()
        };
        let found = row_ids.iter().map(|id| (id.clone(), open(id)));
        Ok(found.filter(|(_, fields)| !fields.is_empty()).collect())
    }

    async fn write_certificate(
        &self,
        _: &AccountId,
        _: Option<&str>,
        certificates: &[EntityCertificate],
    ) -> Result<(), Failure> {
        self.certificates.borrow_mut().extend(certificates.iter().cloned());
        Ok(())
    }

    async fn latest_certificates(&self, _: &AccountId) -> Result<Vec<LatestCertificate>, Failure> {
        let latest = self.certificates.borrow().last().cloned().into_iter();
        let shown = |certificate| LatestCertificate { certificate, run_id: None, last_equal_at: None };
        Ok(latest.map(shown).collect())
    }

    async fn write_planned(&self, _: &AccountId, _: &str, changes: &[PlannedChange]) -> Result<(), Failure> {
        let mut planned = self.planned.borrow_mut();
        for change in changes {
            let of = |known: &PlannedChange| {
                (known.side, known.entity_id.clone().or_else(|| known.keap_id.clone()))
            };
            planned.retain(|known| of(known) != of(change));
            planned.push(change.clone());
        }
        Ok(())
    }

    async fn list_planned(
        &self,
        _: &AccountId,
        _: &str,
        after_number: i64,
        limit: usize,
    ) -> Result<Vec<ListedChange>, Failure> {
        let planned = self.planned.borrow();
        let numbered = (1_i64..).zip(planned.iter()).filter(|(number, _)| *number > after_number);
        Ok(numbered
            .take(limit)
            .map(|(number, change)| ListedChange {
                number,
                created_at: keapsync_domain::timestamp::Timestamp(0),
                change: change.clone(),
            })
            .collect())
    }

    async fn count_planned(&self, _: &AccountId, _: &str) -> Result<Vec<PlannedCount>, Failure> {
        let mut counts: Vec<PlannedCount> = Vec::new();
        for change in self.planned.borrow().iter() {
            let same = |known: &&mut PlannedCount| (known.side, known.action) == (change.side, change.action);
            match counts.iter_mut().find(same) {
                Some(known) => known.count += 1,
                None => counts.push(PlannedCount { side: change.side, action: change.action, count: 1 }),
            }
        }
        Ok(counts)
    }
}
