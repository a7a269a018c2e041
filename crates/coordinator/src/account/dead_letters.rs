//! Dead letters: one list over the events given up here and the items failed in Postgres' `sync_queue`.

use super::times::shown;
use super::wire::ReplayRequest;
use super::{Account, time_now};
use crate::database::Database;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::{EntityType, is_keap_id};
use keapsync_domain::timestamp::Timestamp;
use keapsync_platform::entropy::random_bytes;
use keapsync_platform::respond::Answer;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

/// Failed items that are listed at once.
const LISTED_MAX: i64 = 500;

/// Before an event's id, so that it is told apart from an item's UUID.
const EVENT_PREFIX: &str = "event:";

const LIST: &str = "
    select id::text, operation, entity_type, entity_id::text, keap_id, attempts, error_class, error_message,
        (extract(epoch from created_at) * 1000)::bigint
    from public.sync_queue
    where account_id = $1 and status = 'failed'
    order by created_at desc, id
    limit $2";

/// Edits are queued again; records that could not be applied are taken off the list, because reading them again decides.
const REPLAY: &str = "
    with chosen as materialized (
        select item.id, item.operation, item.entity_type, item.keap_id
        from public.sync_queue item
        where item.account_id = $1 and item.status = 'failed'
            and ($2::text[] is null or item.id::text = any($2::text[]))
            and ($3::text is null or item.error_class = $3::text)
        order by item.id
        for update
    ), queued as (
        update public.sync_queue item
        set status = 'pending', attempts = 0, scheduled_at = now(), completed_at = null, error_class = null,
            error_message = null, updated_at = now()
        from chosen
        where item.id = chosen.id and chosen.operation <> 'sync'
        returning item.id
    ), taken_off as (
        delete from public.sync_queue item
        using chosen
        where item.id = chosen.id and chosen.operation = 'sync'
        returning item.id
    )
    select operation, entity_type, keap_id from chosen
    where (select count(*) from queued) + (select count(*) from taken_off) >= 0";

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
        let rows = client
            .query_typed(LIST, &[(&self.id.as_str(), Type::TEXT), (&LISTED_MAX, Type::INT8)])
            .await
            .map_err(|error| failed(&error))?;
        for row in &rows {
            letters.push(letter(row).map_err(|error| failed(&error))?);
        }
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
        let rows = client
            .query_typed(
                REPLAY,
                &[
                    (&self.id.as_str(), Type::TEXT),
                    (&request.ids, Type::TEXT_ARRAY),
                    (&request.cause, Type::TEXT),
                ],
            )
            .await
            .map_err(|error| failed(&error))?;
        replayed += i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let mut unread = Vec::new();
        for row in &rows {
            let (operation, keap_id): (String, Option<String>) = (
                row.try_get(0).map_err(|error| failed(&error))?,
                row.try_get(2).map_err(|error| failed(&error))?,
            );
            unread.extend(keap_id.filter(|id| operation == "sync" && is_keap_id(id)));
        }
        let ids: Vec<&str> = unread.iter().map(String::as_str).collect();
        let sequence = i64::try_from(u64::from_le_bytes(random_bytes()?) >> 11).unwrap_or_default();
        self.sql().push_events(EntityType::Contact, &ids, "replay", sequence, time_now())?;
        self.object.open_events.set(None);
        self.wake_outbox();
        self.object.arm(time_now()).await;
        Ok(Answer::json(200, &json!({"replayed": replayed})))
    }
}

fn letter(row: &Row) -> Result<DeadLetter, tokio_postgres::Error> {
    let operation: String = row.try_get(1)?;
    Ok(DeadLetter {
        id: row.try_get(0)?,
        direction: if operation == "sync" { "inbound" } else { "outbound" },
        operation,
        entity: row.try_get(2)?,
        entity_id: row.try_get(3)?,
        keap_id: row.try_get(4)?,
        attempts: row.try_get(5)?,
        cause: row.try_get(6)?,
        message: row.try_get(7)?,
        created_at: Timestamp(row.try_get(8)?),
    })
}

/// Postgres' own message may hold values; its code says enough.
fn failed(error: &tokio_postgres::Error) -> Failure {
    let code = error.code().map_or("no connection", |code| code.code());
    Failure::new(FailureClass::Unavailable, format!("Postgres could not answer ({code}): try again"))
}
