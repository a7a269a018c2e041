//! Dead letters: one list over the events given up here and the items failed in Postgres' `sync_queue`.

use super::times::shown;
use super::wire::ReplayRequest;
use super::{Account, time_now};
use crate::database::Database;
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::{EntityType, is_keap_id};
use keapsync_domain::timestamp::Timestamp;
use keapsync_platform::entropy::random_bytes;
use keapsync_platform::respond::Answer;
use keapsync_store::{FailedItem, Store};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;

/// Failed items that are listed at once.
const LISTED_MAX: i64 = 500;

/// Before an event's id, so that it is told apart from an item's UUID.
const EVENT_PREFIX: &str = "event:";

/// A dead letter, whichever side it is from.
#[derive(Debug, Serialize)]
struct DeadLetter {
    id: String,
    /// `inbound` (an event, or a record that could not be applied) or `outbound` (an edit).
    direction: &'static str,
    operation: String,
    entity: String,
    entity_id: Option<String>,
    keap_id: Option<String>,
    attempts: i32,
    cause: Option<String>,
    message: Option<String>,
    created_at: Timestamp,
}

impl Account<'_> {
    /// The list, newest first, with counts by cause.
    pub(super) async fn list_dead_letters(&self) -> Result<Answer, Failure> {
        let events = self.sql().dead_events()?.into_iter().map(|event| DeadLetter {
            id: format!("{EVENT_PREFIX}{}:{}", event.entity, event.keap_id),
            direction: "inbound",
            operation: event.event_key,
            entity: event.entity,
            entity_id: None,
            keap_id: Some(event.keap_id),
            attempts: event.attempts,
            cause: event.error_class,
            message: event.error_message,
            created_at: event.received_at,
        });
        let mut letters: Vec<DeadLetter> = events.collect();
        let database = Database::new(&self.object.env);
        let client = database.client().await?;
        let items = Store::new(&client).failed_items(self.id, LISTED_MAX).await?;
        letters.extend(items.into_iter().map(DeadLetter::from));
        letters.sort_by(|left, right| {
            right.created_at.cmp(&left.created_at).then_with(|| left.id.cmp(&right.id))
        });
        let mut causes: BTreeMap<&str, u64> = BTreeMap::new();
        for letter in &letters {
            *causes.entry(letter.cause.as_deref().unwrap_or("unknown")).or_default() += 1;
        }
        Ok(Answer::json(200, &shown(&json!({"dead_letters": letters, "causes": causes}))))
    }

    /// Queues dead letters again.
    pub(super) async fn replay(&self, body: &[u8]) -> Result<Answer, Failure> {
        let request: ReplayRequest = serde_json::from_slice(body).unwrap_or_default();
        let choices = [request.ids.is_some(), request.cause.is_some(), request.all];
        if choices.into_iter().filter(|chosen| *chosen).count() != 1 {
            return Ok(Answer::bad_request("say which: {\"ids\":[…]}, {\"cause\":\"…\"} or {\"all\":true}"));
        }
        let event_ids = request.ids.as_ref().map(|ids| {
            ids.iter().filter_map(|id| id.strip_prefix(EVENT_PREFIX)).map(str::to_owned).collect::<Vec<_>>()
        });
        let now = time_now();
        let mut replayed = self.sql().replay_events(event_ids.as_deref(), request.cause.as_deref(), now)?;
        let database = Database::new(&self.object.env);
        let client = database.client().await?;
        let items = Store::new(&client)
            .replay_failed(self.id, request.ids.as_deref(), request.cause.as_deref())
            .await?;
        replayed += i64::try_from(items.len()).unwrap_or(i64::MAX);
        let unread: Vec<(EntityType, &str)> = items
            .iter()
            .filter(|item| item.operation == "sync")
            .filter_map(|item| {
                Some((
                    EntityType::from_name(&item.entity)?,
                    item.keap_id.as_deref().filter(|id| is_keap_id(id))?,
                ))
            })
            .collect();
        let sequence = i64::try_from(u64::from_le_bytes(random_bytes()?) >> 11).unwrap_or_default();
        for entity in EntityType::ALL {
            let ids: Vec<&str> =
                unread.iter().filter(|(kind, _)| *kind == entity).map(|(_, id)| *id).collect();
            self.sql().push_events(entity, &ids, "replay", sequence, time_now())?;
        }
        self.object.open_events.set(None);
        self.wake_outbox();
        self.object.arm(time_now()).await;
        Ok(Answer::json(200, &json!({"replayed": replayed})))
    }
}

impl From<FailedItem> for DeadLetter {
    fn from(item: FailedItem) -> Self {
        Self {
            id: item.id,
            direction: if item.operation == "sync" { "inbound" } else { "outbound" },
            operation: item.operation,
            entity: item.entity,
            entity_id: item.entity_id,
            keap_id: item.keap_id,
            attempts: item.attempts,
            cause: item.cause,
            message: item.message,
            created_at: item.created_at,
        }
    }
}
