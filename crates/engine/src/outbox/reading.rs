//! What Keap is written by: readings of its records, none older than a moment.
//!
//! Keap takes no write under a condition, so what somebody changes there between our reading and our write is overwritten, and
//! nobody could have seen it. That window is kept to the one call: a reading is used for as long as [`READING_AGE_MAX_MS`] and
//! while the row was last merged with it, and then the record is read again, the row with it, and both are merged again.
//!
//! Reading costs a call. So the records that are carried next are read together by one list, as many as are written
//! within that moment; one that had to wait longer is read by itself.

use crate::inbound::{Applied, Origin, Told, apply};
use crate::ports::{Clock, LocalRow, MirrorStore, WriteSource};
use crate::world::World;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::EntityType;
use keapsync_domain::limits::READING_AGE_MAX_MS;
use keapsync_domain::remote::RemoteRecord;
use keapsync_domain::timestamp::Timestamp;
use keapsync_keap::transport::Transport;
use std::collections::HashMap;

/// Records that are read together: at eight calls a second, what can be written while the reading is fresh.
pub(super) const READ_AHEAD: usize = 4;

/// A record of Keap's as it was read.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// The record.
    pub(super) remote: RemoteRecord,
    /// When its answer had arrived.
    pub(super) read_at: Timestamp,
}

impl Reading {
    /// Whether the row was last merged with what was read here. Otherwise the mirror has moved on from the reading, or has not
    /// come to it yet.
    pub(super) fn is_merged_into(&self, row: &LocalRow) -> bool {
        row.keap_hash.as_deref() == Some(self.remote.content_hash.as_str())
    }

    /// Whether Keap may be written by it at `now`.
    pub(super) fn is_fresh(&self, now: Timestamp) -> bool {
        now.since_ms(self.read_at) <= READING_AGE_MAX_MS
    }
}

/// What was read of the records that are carried next.
#[derive(Debug)]
pub(super) struct Ahead {
    rows: HashMap<String, LocalRow>,
    rows_read_at: Timestamp,
    remotes: HashMap<String, RemoteRecord>,
    remotes_read_at: Timestamp,
}

impl Ahead {
    /// The row as it was a moment ago; `None` when it was purged.
    pub(super) fn row(&self, id: &str) -> Option<&LocalRow> {
        self.rows.get(id)
    }

    /// Whether rows must be read again before anything goes by them.
    pub(super) fn has_old_rows(&self, now: Timestamp) -> bool {
        now.since_ms(self.rows_read_at) > READING_AGE_MAX_MS
    }

    /// The record as it was listed, while that may be written by.
    pub(super) fn reading(&self, keap_id: &str, now: Timestamp) -> Option<Reading> {
        let remote = self.remotes.get(keap_id)?.clone();
        Some(Reading { remote, read_at: self.remotes_read_at }).filter(|reading| reading.is_fresh(now))
    }
}

/// Reads rows, and what Keap holds of them, in one call each.
pub(super) async fn read_ahead<T: Transport, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    entity: EntityType,
    row_ids: impl Iterator<Item = String>,
) -> Result<Ahead, Failure> {
    let row_ids: Vec<String> = row_ids.collect();
    let rows = world.store.read_rows(world.account, entity, &row_ids).await?;
    let rows_read_at = world.clock.now();
    let keap_ids: Vec<String> = rows.iter().filter_map(|row| row.keap_id.clone()).collect();
    let remotes = if keap_ids.is_empty() {
        Vec::new()
    } else {
        match world.keap.list_ids(entity, &keap_ids, rows_read_at).await {
            Ok(page) => page.records,
            Err(failure) if failure.class.is_outage() => return Err(failure),
            // One of them may be to blame, so each is read by itself.
            Err(_) => Vec::new(),
        }
    };
    Ok(Ahead {
        rows: rows.into_iter().map(|row| (row.id.clone(), row)).collect(),
        rows_read_at,
        remotes: remotes.into_iter().map(|remote| (remote.keap_id.clone(), remote)).collect(),
        remotes_read_at: world.clock.now(),
    })
}

/// A record as Keap holds it now, or the moment when it was found that Keap has no such record any more.
pub(super) async fn read_now<T: Transport, S, C: Clock>(
    world: &World<'_, T, S, C>,
    entity: EntityType,
    keap_id: &str,
) -> Result<Result<Reading, Timestamp>, Failure> {
    let observed_at = world.clock.now();
    let remote = world.keap.get(entity, keap_id, observed_at).await?;
    Ok(remote.map(|remote| Reading { remote, read_at: world.clock.now() }).ok_or(observed_at))
}

/// The row as it is now; `None` when it was purged.
pub(super) async fn reread<T, S: MirrorStore, C>(
    world: &World<'_, T, S, C>,
    row: &LocalRow,
) -> Result<Option<LocalRow>, Failure> {
    let ids = std::slice::from_ref(&row.id);
    Ok(world.store.read_rows(world.account, row.record.entity(), ids).await?.into_iter().next())
}

pub(super) fn origin(told: Told) -> Origin {
    Origin { source: WriteSource::Outbox, run_id: None, told }
}

/// Merges what Keap holds into the row, so that what is in conflict is recorded while all three values are at hand.
pub(super) async fn merge_in<T, S: MirrorStore, C: Clock>(
    world: &World<'_, T, S, C>,
    remote: RemoteRecord,
    told: Told,
) -> Result<Applied, Failure> {
    let entity = remote.record.entity();
    let applied = apply(world, entity, &origin(told), vec![remote], Vec::new()).await?;
    if applied.counts.rejected > 0 {
        // Going on would overwrite in Keap what no conflict could record.
        return Err(Failure::new(
            FailureClass::Invalid,
            format!(
                "the mirror cannot store what Keap's {} holds now: correct it in Keap, then replay this item",
                entity.as_str()
            ),
        ));
    }
    Ok(applied)
}
