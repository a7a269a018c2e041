//! What a pass would do, found by the pass's own planner and written nowhere.
//!
//! What it says is what the pass then does, as long as neither side changes in between. What cannot be foreseen is what Keap
//! makes of a write by itself: values that it derives or spells otherwise, and refusals that only it can tell.

use crate::inbound::{
    DELETED_AT, Outgoing, Told, count_written, is_edited_in_keap, key_of, meet, names_of, newest_of_each,
    plan_delete, plan_page,
};
use crate::ports::proof::{LinkedRow, PlannedAction, PlannedChange, PlannedSide};
use crate::ports::{Clock, KnownRow, LocalRow, MirrorStore, RemoteKey, RowWrite, WriteBatch, WriteSource};
use crate::world::World;
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::EntityType;
use keapsync_domain::remote::RemoteRecord;
use keapsync_domain::run::Counts;
use keapsync_domain::schema::fields;
use keapsync_keap::capability::capability;
use keapsync_keap::checks::before_create;
use keapsync_keap::transport::Transport;
use std::collections::HashMap;

/// What would be done.
#[derive(Clone, Debug, Default)]
pub struct Foreseen {
    /// To rows, by what would become of them.
    pub counts: Counts,
    /// Change by change.
    pub changes: Vec<PlannedChange>,
}

/// What applying records would do; with `carries` also what Keap would then be given.
pub async fn foresee_page<T, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    entity: EntityType,
    remotes: Vec<RemoteRecord>,
    carries: bool,
) -> Result<Foreseen, Failure> {
    let mut remotes = newest_of_each(remotes);
    let keys: Vec<RemoteKey> = remotes.iter().map(|remote| key_of(remote, WriteSource::FullSync)).collect();
    let known = world.store.read_known(world.account, entity, &keys).await?;
    let mut foreseen = planned(world, entity, &mut remotes, known, carries);
    foreseen.counts.read = remotes.len() as u64;
    Ok(foreseen)
}

fn planned<T, S, C: Clock>(
    world: &World<'_, T, S, C>,
    entity: EntityType,
    remotes: &mut [RemoteRecord],
    known: Vec<KnownRow>,
    carries: bool,
) -> Foreseen {
    let plan = plan_page(remotes, known, world.clock.now(), &world.settings.policies, &Told::default());
    let mut foreseen = Foreseen::default();
    foreseen.counts.unchanged = plan.unchanged;
    foreseen.counts.destroyed = plan.destroyed.len() as u64;
    foreseen.changes.extend(plan.rows.iter().filter_map(|write| row_change(entity, write)));
    if carries {
        foreseen.changes.extend(plan.outgoing.into_iter().map(|outgoing| keap_update(entity, outgoing)));
    }
    let written: Vec<String> = plan.rows.iter().map(|write| write.keap_id.clone()).collect();
    let batch = WriteBatch { run_id: None, source: WriteSource::FullSync, rows: plan.rows };
    count_written(&mut foreseen.counts, &batch, &written);
    foreseen
}

/// What becomes of rows whose records Keap has lost.
pub async fn foresee_lost<T, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    entity: EntityType,
    lost: &[LinkedRow],
) -> Result<Foreseen, Failure> {
    let ids: Vec<String> = lost.iter().map(|row| row.id.clone()).collect();
    let rows = world.store.read_rows(world.account, entity, &ids).await?;
    let mut foreseen = Foreseen::default();
    for row in &rows {
        foreseen.add_lost(row, entity, world.clock.now());
    }
    Ok(foreseen)
}

/// What carrying the edits of rows would do, on both sides.
pub async fn foresee_outgoing<T: Transport, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    entity: EntityType,
    row_ids: &[String],
) -> Result<Foreseen, Failure> {
    let rows = world.store.read_rows(world.account, entity, row_ids).await?;
    let keap_ids: Vec<String> = rows.iter().filter_map(|row| row.keap_id.clone()).collect();
    let mut remotes: HashMap<String, RemoteRecord> = HashMap::new();
    if !keap_ids.is_empty() {
        let page = world.keap.list_ids(entity, &keap_ids, world.clock.now()).await?;
        remotes.extend(page.records.into_iter().map(|remote| (remote.keap_id.clone(), remote)));
    }
    let mut foreseen = Foreseen::default();
    for row in rows {
        let Some(keap_id) = row.keap_id.clone() else {
            foreseen.changes.extend(creation(&row, world.clock.now()));
            continue;
        };
        let remote = match remotes.remove(&keap_id) {
            Some(remote) => Some(remote),
            None => world.keap.get(entity, &keap_id, world.clock.now()).await?,
        };
        match remote {
            None => foreseen.add_lost(&row, entity, world.clock.now()),
            Some(mut remote) => foreseen.add(carried(world, entity, row, &keap_id, &mut remote)),
        }
    }
    Ok(foreseen)
}

impl Foreseen {
    fn add(&mut self, other: Self) {
        self.counts.add(&other.counts);
        self.changes.extend(other.changes);
    }

    fn add_lost(&mut self, row: &LocalRow, entity: EntityType, now: keapsync_domain::timestamp::Timestamp) {
        let keap_id = row.keap_id.clone().unwrap_or_default();
        let Some(write) = plan_delete(row, &keap_id, now) else { return };
        if write.audit_operation == Some("delete") {
            self.counts.deleted += 1;
            self.counts.destroyed += 1;
        }
        self.counts.conflicts += write.conflicts.len() as u64;
        self.changes.extend(row_change(entity, &write));
    }
}

/// What an edited row and its record come to.
fn carried<T, S, C: Clock>(
    world: &World<'_, T, S, C>,
    entity: EntityType,
    row: LocalRow,
    keap_id: &str,
    remote: &mut RemoteRecord,
) -> Foreseen {
    let deleted_here = row.deleted_at.is_some() && row.base_delta.contains_key(DELETED_AT);
    let is_revived = deleted_here && is_edited_in_keap(&remote.record, &row);
    let mut foreseen = Foreseen::default();
    if deleted_here && !is_revived && world.settings.delete_in_keap && !row.is_deleted_here_alone() {
        if capability(entity).supports_delete() {
            foreseen.changes.push(PlannedChange {
                side: PlannedSide::Keap,
                action: PlannedAction::Delete,
                entity,
                entity_id: Some(row.id.clone()),
                keap_id: Some(keap_id.to_owned()),
                fields: Vec::new(),
            });
        }
        return foreseen;
    }
    let to_keap = meet(remote, &row, &world.settings.policies, &Told::default()).merge.to_keap;
    let fields = names_of(entity, &to_keap);
    if !fields.is_empty() {
        let outgoing = Outgoing { row_id: row.id.clone(), keap_id: keap_id.to_owned(), fields };
        foreseen.changes.push(keap_update(entity, outgoing));
    }
    let known = vec![KnownRow { keap_id: keap_id.to_owned(), row: Some(row) }];
    foreseen.add(planned(world, entity, std::slice::from_mut(remote), known, false));
    foreseen
}

fn creation(row: &LocalRow, now: keapsync_domain::timestamp::Timestamp) -> Option<PlannedChange> {
    let is_refused = !row.waits_for_contact && before_create(&row.record, now).is_err();
    if row.deleted_at.is_some() || is_refused {
        return None;
    }
    let entity = row.record.entity();
    Some(PlannedChange {
        side: PlannedSide::Keap,
        action: PlannedAction::Create,
        entity,
        entity_id: Some(row.id.clone()),
        keap_id: None,
        fields: filled(&row.record),
    })
}

fn filled(record: &keapsync_domain::record::Record) -> Vec<String> {
    fields(record.entity())
        .iter()
        .enumerate()
        .filter(|(position, _)| !record.get(*position).is_null())
        .map(|(_, field)| field.name.to_owned())
        .collect()
}

fn keap_update(entity: EntityType, outgoing: Outgoing) -> PlannedChange {
    PlannedChange {
        side: PlannedSide::Keap,
        action: PlannedAction::Update,
        entity,
        entity_id: Some(outgoing.row_id),
        keap_id: Some(outgoing.keap_id),
        fields: outgoing.fields,
    }
}

/// The change that a person would see in the row; `None` where only what is known of Keap moves.
fn row_change(entity: EntityType, write: &RowWrite) -> Option<PlannedChange> {
    let changed: Vec<String> = fields(entity)
        .iter()
        .map(|field| field.name)
        .filter(|name| write.audit_old.contains_key(*name))
        .map(str::to_owned)
        .collect();
    let (action, fields) = match write.audit_operation? {
        "create" => (PlannedAction::Create, write.record.as_ref().map(filled).unwrap_or_default()),
        "delete" => (PlannedAction::Delete, Vec::new()),
        "undelete" => (PlannedAction::Undelete, changed),
        "update" if !write.audit_old.is_empty() => (PlannedAction::Update, changed),
        _ if write.conflicts.iter().any(|conflict| conflict.winner.is_none()) => {
            (PlannedAction::Conflict, write.conflicts.iter().map(|conflict| conflict.field.clone()).collect())
        }
        // A conflict that settled itself, and left the row as it was.
        _ => return None,
    };
    Some(PlannedChange {
        side: PlannedSide::Supabase,
        action,
        entity,
        entity_id: write.id.clone(),
        keap_id: Some(write.keap_id.clone()),
        fields,
    })
}
