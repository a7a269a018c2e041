//! The people: what one of them does next, by SQL or in Keap.
//!
//! An edit that finds its record gone, or that would change nothing, is drawn again; what came of it in the end is told.

use crate::chaos::edit::{Action, Edit, Side};
use crate::chaos::pool::{Pool, table};
use crate::chaos::random::Random;
use crate::chaos::{contacts, orders, subscriptions, tags};
use crate::database::{Mirror, Restartable};
use crate::keap::Tenant;
use anyhow::{Context as _, Result};
use keapsync_domain::ids::EntityType;
use serde_json::Value;
use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

/// How often an edit is drawn again before it is given up.
const DRAWS: u64 = 8;

/// How often a statement is sent again that Postgres ended because two stood in each other's way.
const DEADLOCKS_MAX: usize = 10;

/// One person, who works on one thing at a time.
pub struct Person<'a> {
    /// The person's session in the database.
    pub mirror: Mirror,
    /// The database of that session.
    pub database: &'a Restartable,
    /// The person's Keap.
    pub keap: Tenant,
    /// The records there are.
    pub pool: &'a Pool,
    /// Kinds of records that are in step.
    pub entities: &'a [EntityType],
    /// A text field among the custom fields of each kind.
    pub text_fields: &'a HashMap<EntityType, String>,
    /// The seed of the run.
    pub seed: u64,
}

/// What was done: the record, the action, and the path.
pub type Done = (String, Action, String);

impl Person<'_> {
    /// Makes edit `number`. `None` when no record was found that it could be of.
    pub async fn edit(&mut self, number: u64) -> Result<Option<Edit>> {
        for draw in 0..DRAWS {
            let mut random = Random::of(self.seed, "edit", number * DRAWS + draw);
            let side = if random.percent(50) { Side::Sql } else { Side::Keap };
            let weights: Vec<(u64, EntityType)> =
                self.entities.iter().map(|entity| (weight(*entity), *entity)).collect();
            let entity = random.weighted(&weights).context("nothing is synced")?;
            let database = self.database;
            // A person in Keap works on while the database is away.
            let _held = if side == Side::Sql { Some(database.hold(&mut self.mirror).await?) } else { None };
            let began_ms = now_ms();
            let done = match entity {
                EntityType::Contact => contacts::edit(self, side, number, &mut random).await,
                EntityType::Order => orders::edit(self, side, number, &mut random).await,
                EntityType::Tag => tags::edit(self, side, number, &mut random).await,
                EntityType::Subscription => subscriptions::edit(self, side, number, &mut random).await,
            };
            let done = done.with_context(|| format!("edit {number} of a {} in {side:?}", entity.as_str()))?;
            if let Some((record, action, path)) = done {
                if action == Action::Create {
                    self.pool.add(entity, side, &record);
                }
                let at_ms = now_ms();
                return Ok(Some(Edit { number, side, entity, record, action, path, began_ms, at_ms }));
            }
        }
        Ok(None)
    }

    /// The text field among the custom fields of a kind.
    pub fn text_field(&self, entity: EntityType) -> Result<&str> {
        self.text_fields
            .get(&entity)
            .map(String::as_str)
            .with_context(|| format!("no text field of {}", entity.plural()))
    }

    /// Runs a statement of which `$1` is the account; the first column of its first row, as text.
    pub async fn sql(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Option<String>> {
        let mut all: Vec<&(dyn ToSql + Sync)> = vec![&self.mirror.account];
        all.extend(parameters);
        for _ in 0..DEADLOCKS_MAX {
            match self.mirror.client.query(sql, &all).await {
                Ok(rows) => return Ok(rows.first().map(|row| row.get(0))),
                Err(error) if error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED) => {}
                Err(error) => return Err(error).with_context(|| sql.to_owned()),
            }
        }
        Ok(None)
    }

    /// Sets columns of a live row by `assignments`, of which `$2` is the row and `$3` the value. False when it is not there.
    pub async fn set(&self, entity: EntityType, row: &str, assignments: &str, value: &str) -> Result<bool> {
        let table = table(entity);
        let sql = format!(
            "update {table} set {assignments} where account_id = $1 and id = $2::text::uuid and deleted_at is null \
             and $3::text is not null returning id::text"
        );
        Ok(self.sql(&sql, &[&row, &value]).await?.is_some())
    }

    /// Deletes a live row, by the column or by DELETE. False when it is not there.
    pub async fn delete_row(&self, entity: EntityType, row: &str, by_statement: bool) -> Result<bool> {
        let table = table(entity);
        if !by_statement {
            return self.set(entity, row, "deleted_at = now()", "").await;
        }
        // A DELETE of a mirrored table tells of no row, as a trigger does its work; a lock tells whether there was one.
        let client = &self.mirror.client;
        client.batch_execute("begin").await?;
        let sql = format!(
            "select id::text from {table} where account_id = $1 and id = $2::text::uuid and deleted_at is null for update"
        );
        let found = client.query(&sql, &[&self.mirror.account, &row]).await.map(|rows| !rows.is_empty());
        let deleted = match found {
            Ok(true) => {
                let sql = format!("delete from {table} where account_id = $1 and id = $2::text::uuid");
                client.execute(&sql, &[&self.mirror.account, &row]).await.map(|_| true)
            }
            other => other,
        };
        client.batch_execute(if deleted.is_ok() { "commit" } else { "rollback" }).await?;
        match deleted {
            Err(error) if error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED) => Ok(false),
            other => other.with_context(|| format!("the deletion of a row of {table}")),
        }
    }

    /// Takes back the delete of a row. False when it is not deleted.
    pub async fn undelete_row(&self, entity: EntityType, row: &str) -> Result<bool> {
        let table = table(entity);
        let sql = format!(
            "update {table} set deleted_at = null where account_id = $1 and id = $2::text::uuid and deleted_at is not null \
             returning id::text"
        );
        Ok(self.sql(&sql, &[&row]).await?.is_some())
    }

    /// Changes a record in Keap. False when it is not there.
    pub async fn change(&self, path: &str, body: &Value) -> Result<bool> {
        Ok(self.keap.person(reqwest::Method::PATCH, path, Some(body)).await?.is_some())
    }

    /// Deletes a record in Keap. False when it is not there.
    pub async fn delete(&self, path: &str) -> Result<bool> {
        Ok(self.keap.person(reqwest::Method::DELETE, path, None).await?.is_some())
    }

    /// Makes a record in Keap, and tells its id.
    pub async fn make(&self, path: &str, body: &Value) -> Result<String> {
        let made = self.keap.person(reqwest::Method::POST, path, Some(body)).await?;
        let id = made.as_ref().and_then(|made| made["id"].as_str()).map(str::to_owned);
        id.with_context(|| format!("the simulator told no id of what it made at {path}"))
    }
}

/// How often records of a kind are edited.
fn weight(entity: EntityType) -> u64 {
    match entity {
        EntityType::Contact => 55,
        EntityType::Order => 25,
        EntityType::Tag => 8,
        EntityType::Subscription => 12,
    }
}

/// Milliseconds since 1970.
#[must_use]
pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
