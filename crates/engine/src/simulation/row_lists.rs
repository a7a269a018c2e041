//! Lists of the in-memory mirror's rows, and of what a dry run would do, as SQL would answer them.

use super::ports::SimulatedStore;
use crate::ports::RowLists;
use crate::ports::proof::{
    LatestCertificate, LinkedRow, ListedChange, PlannedChange, PlannedCount, ProofStore, Unsynced,
};
use keapsync_domain::certificate::EntityCertificate;
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::{AccountId, EntityType};

impl SimulatedStore {
    async fn live_rows<O>(
        &self,
        point: u64,
        entity: EntityType,
        find: impl Fn(&str, Option<&str>) -> Option<O>,
    ) -> Result<Vec<O>, Failure> {
        self.stage
            .statement(point, |mirror, _| {
                let live = mirror.rows(entity).values().filter(|row| row.row.deleted_at.is_none());
                live.filter_map(|row| find(&row.row.id, row.row.keap_id.as_deref())).collect()
            })
            .await
    }
}

fn number(keap_id: &str) -> u64 {
    keap_id.parse().unwrap_or(0)
}

impl RowLists for SimulatedStore {
    async fn list_missing(
        &self,
        _: &AccountId,
        entity: EntityType,
        after: Option<&str>,
        until: Option<&str>,
        present: &[String],
        limit: usize,
    ) -> Result<Vec<LinkedRow>, Failure> {
        let (after, until) = (after.map_or(0, number), until.map_or(u64::MAX, number));
        let mut rows = self
            .live_rows(20, entity, |id, keap_id| {
                let keap_id = keap_id?;
                let is_within = number(keap_id) > after && number(keap_id) <= until;
                let is_missing = is_within && !present.iter().any(|known| known == keap_id);
                is_missing.then(|| LinkedRow { keap_id: keap_id.to_owned(), id: id.to_owned() })
            })
            .await?;
        rows.sort_by_key(|row| number(&row.keap_id));
        rows.truncate(limit);
        Ok(rows)
    }

    async fn list_open(
        &self,
        _: &AccountId,
        _: EntityType,
        _: Option<&str>,
        _: usize,
    ) -> Result<Vec<String>, Failure> {
        // Only dry runs ask, and none is played.
        Ok(Vec::new())
    }

    async fn list_unlinked(
        &self,
        _: &AccountId,
        entity: EntityType,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, Failure> {
        let after = after.unwrap_or_default();
        let mut ids = self
            .live_rows(21, entity, |id, keap_id| (keap_id.is_none() && id > after).then(|| id.to_owned()))
            .await?;
        ids.sort();
        ids.truncate(limit);
        Ok(ids)
    }
}

impl ProofStore for SimulatedStore {
    async fn list_linked(
        &self,
        _: &AccountId,
        entity: EntityType,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<LinkedRow>, Failure> {
        let after = after.unwrap_or_default();
        let mut rows = self
            .live_rows(22, entity, |id, keap_id| {
                let keap_id = keap_id.filter(|keap_id| *keap_id > after)?;
                Some(LinkedRow { keap_id: keap_id.to_owned(), id: id.to_owned() })
            })
            .await?;
        rows.sort_by(|one, other| one.keap_id.cmp(&other.keap_id));
        rows.truncate(limit);
        Ok(rows)
    }

    async fn unsynced(&self, _: &AccountId, entity: EntityType) -> Result<Unsynced, Failure> {
        let rows = self.live_rows(23, entity, |_, keap_id| Some(keap_id.is_none())).await?;
        let unlinked = rows.iter().filter(|is_unlinked| **is_unlinked).count();
        Ok(Unsynced {
            live: i64::try_from(rows.len()).unwrap_or(i64::MAX),
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
        self.stage
            .statement(24, |mirror, _| {
                let fields_of = |id: &String| -> Vec<String> {
                    let open = mirror.open_conflicts.iter().filter(|(row, _)| row == id);
                    open.map(|(_, field)| field.clone()).collect()
                };
                let open = row_ids.iter().map(|id| (id.clone(), fields_of(id)));
                open.filter(|(_, fields)| !fields.is_empty()).collect()
            })
            .await
    }

    async fn write_certificate(
        &self,
        _: &AccountId,
        _: Option<&str>,
        _: &[EntityCertificate],
    ) -> Result<(), Failure> {
        Ok(())
    }

    async fn latest_certificates(&self, _: &AccountId) -> Result<Vec<LatestCertificate>, Failure> {
        Ok(Vec::new())
    }

    async fn write_planned(&self, _: &AccountId, _: &str, _: &[PlannedChange]) -> Result<(), Failure> {
        Ok(())
    }

    async fn list_planned(
        &self,
        _: &AccountId,
        _: &str,
        _: i64,
        _: usize,
    ) -> Result<Vec<ListedChange>, Failure> {
        Ok(Vec::new())
    }

    async fn count_planned(&self, _: &AccountId, _: &str) -> Result<Vec<PlannedCount>, Failure> {
        Ok(Vec::new())
    }
}
