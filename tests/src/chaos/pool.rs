//! The records that edits choose from: those that the database knew a moment ago, and those made since.

use crate::chaos::edit::Side;
use crate::chaos::random::Random;
use crate::database::Mirror;
use anyhow::Result;
use keapsync_domain::ids::EntityType;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Records that are edited far more often than others, so that both sides meet.
const HOT: usize = 40;

/// How often, in percent, an edit goes to one of the hot records.
const HOT_PERCENT: u64 = 50;

/// What is known of one kind.
#[derive(Debug, Default)]
struct Known {
    /// Live rows.
    rows: Vec<String>,
    /// Rows that were deleted.
    deleted: Vec<String>,
    /// Records of Keap.
    keap_ids: Vec<String>,
}

/// The records of all kinds.
#[derive(Debug, Default)]
pub struct Pool(Mutex<HashMap<EntityType, Known>>);

/// The mirrored table of a kind.
#[must_use]
pub fn table(entity: EntityType) -> &'static str {
    match entity {
        EntityType::Contact => "sync_contacts",
        EntityType::Order => "sync_orders",
        EntityType::Tag => "sync_tags",
        EntityType::Subscription => "sync_subscriptions",
    }
}

impl Pool {
    fn known(&self) -> MutexGuard<'_, HashMap<EntityType, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads anew what there is.
    pub async fn refresh(&self, mirror: &Mirror, entities: &[EntityType]) -> Result<()> {
        for &entity in entities {
            let sql = format!(
                "select id::text, keap_id, deleted_at is not null from {} where account_id = $1 order by keap_id::bigint, id",
                table(entity)
            );
            let mut fresh = Known::default();
            for row in mirror.client.query(&sql, &[&mirror.account]).await? {
                let (id, keap_id, is_deleted): (String, Option<String>, bool) =
                    (row.get(0), row.get(1), row.get(2));
                if is_deleted {
                    fresh.deleted.push(id);
                } else {
                    fresh.rows.push(id);
                    fresh.keap_ids.extend(keap_id);
                }
            }
            self.known().insert(entity, fresh);
        }
        Ok(())
    }

    /// Takes up a record that was just made.
    pub fn add(&self, entity: EntityType, side: Side, id: &str) {
        let mut known = self.known();
        let known = known.entry(entity).or_default();
        match side {
            Side::Sql => known.rows.push(id.to_owned()),
            Side::Keap => known.keap_ids.push(id.to_owned()),
        }
    }

    /// A live record: its row's id or Keap's.
    #[must_use]
    pub fn pick(&self, entity: EntityType, side: Side, random: &mut Random) -> Option<String> {
        let known = self.known();
        let known = known.get(&entity)?;
        let all = match side {
            Side::Sql => &known.rows,
            Side::Keap => &known.keap_ids,
        };
        let hot = all.get(..HOT.min(all.len())).unwrap_or(all);
        let is_hot = random.percent(HOT_PERCENT);
        random.pick(if is_hot { hot } else { all }).cloned()
    }

    /// A row that was deleted.
    #[must_use]
    pub fn pick_deleted(&self, entity: EntityType, random: &mut Random) -> Option<String> {
        self.known().get(&entity).and_then(|known| random.pick(&known.deleted).cloned())
    }
}
