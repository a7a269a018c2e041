//! Dead letters: one list over the events given up here and the items failed in Postgres' `sync_queue`.

use super::times::shown;
use super::wire::LettersRequest;
use super::{Account, time_now};
use crate::database::Database;
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::{EntityType, is_keap_id};
use keapsync_domain::timestamp::Timestamp;
use keapsync_engine::dead_letters::{Group, Way};
use keapsync_platform::entropy::random_bytes;
use keapsync_platform::respond::Answer;
use keapsync_store::{FailedGroup, FailedItem, Store};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

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

/// Letters of one group.
#[derive(Debug, Serialize)]
struct LetterGroup {
    group: String,
    direction: &'static str,
    cause: String,
    count: i64,
    oldest_at: Timestamp,
    newest_at: Timestamp,
    example: Value,
    fix: &'static str,
}

/// The letters that are meant, as either side is asked for them.
struct Chosen {
    /// `contact:12` and the like; none for all.
    event_ids: Option<Vec<String>>,
    /// Ids of items; none for all.
    item_ids: Option<Vec<String>>,
    cause: Option<String>,
    /// Only those that go this way.
    way: Option<Way>,
}

impl Chosen {
    /// Reads a request; the error says what one has to look like.
    fn parse(body: &[u8]) -> Result<Self, &'static str> {
        const USAGE: &str =
            "say which: {\"ids\":[…]}, {\"group\":\"inbound:invalid\"}, {\"cause\":\"…\"} or {\"all\":true}";
        let request: LettersRequest = serde_json::from_slice(body).map_err(|_| USAGE)?;
        let choices = [request.ids.is_some(), request.cause.is_some(), request.group.is_some(), request.all];
        if choices.into_iter().filter(|chosen| *chosen).count() != 1 {
            return Err(USAGE);
        }
        let group = match request.group.as_deref().map(Group::parse) {
            Some(None) => return Err(USAGE),
            group => group.flatten(),
        };
        let event_ids = request.ids.as_ref().map(|ids| {
            ids.iter().filter_map(|id| id.strip_prefix(EVENT_PREFIX)).map(str::to_owned).collect()
        });
        let way = group.as_ref().map(|group| group.way);
        let cause = group.map(|group| group.cause).or(request.cause);
        Ok(Self { event_ids, item_ids: request.ids, cause, way })
    }
}

impl Account<'_> {
    /// The groups with their counts, and the newest letters.
    pub(super) async fn list_dead_letters(&self) -> Result<Answer, Failure> {
        let database = Database::new(&self.object.env);
        let client = database.client().await?;
        let store = Store::new(&client);
        let items = store.failed_items(self.id, LISTED_MAX).await?;
        let item_groups = store.failed_groups(self.id).await?;
        // Only from here on nothing else runs in the object, so that the groups count the events that the list names.
        let events = self.sql().dead_events()?.into_iter().map(|event| DeadLetter {
            id: format!("{EVENT_PREFIX}{}:{}", event.entity, event.keap_id),
            direction: Way::Inbound.as_str(),
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
        letters.extend(items.into_iter().map(DeadLetter::from));
        letters.sort_by(|left, right| {
            right.created_at.cmp(&left.created_at).then_with(|| left.id.cmp(&right.id))
        });
        let groups = self.letter_groups(item_groups)?;
        Ok(Answer::json(200, &shown(&json!({"groups": groups, "dead_letters": letters}))))
    }

    /// All letters by group, the largest first.
    fn letter_groups(&self, items: Vec<FailedGroup>) -> Result<Vec<LetterGroup>, Failure> {
        let mut groups: BTreeMap<Group, LetterGroup> = BTreeMap::new();
        let of_events = self.sql().dead_groups()?.into_iter().map(|found| FailedGroup {
            is_inbound: true,
            cause: found.error_class,
            count: found.count,
            oldest_at: found.oldest_at,
            newest_at: found.newest_at,
            newest_id: format!("{EVENT_PREFIX}{}", found.id),
            newest_message: found.error_message,
        });
        for found in of_events.chain(items) {
            let way = if found.is_inbound { Way::Inbound } else { Way::Outbound };
            let group = Group::of(way, found.cause.as_deref());
            let fresh = LetterGroup {
                group: group.to_string(),
                direction: way.as_str(),
                cause: group.cause.clone(),
                count: found.count,
                oldest_at: found.oldest_at,
                newest_at: found.newest_at,
                example: json!({"id": found.newest_id, "message": found.newest_message}),
                fix: group.fix(),
            };
            match groups.entry(group) {
                Entry::Vacant(place) => drop(place.insert(fresh)),
                Entry::Occupied(mut place) => {
                    let known = place.get_mut();
                    known.count += fresh.count;
                    known.oldest_at = known.oldest_at.min(fresh.oldest_at);
                    if fresh.newest_at > known.newest_at {
                        known.newest_at = fresh.newest_at;
                        known.example = fresh.example;
                    }
                }
            }
        }
        let mut groups: Vec<LetterGroup> = groups.into_values().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.count));
        Ok(groups)
    }

    /// Queues dead letters again.
    pub(super) async fn replay(&self, body: &[u8]) -> Result<Answer, Failure> {
        let chosen = match Chosen::parse(body) {
            Ok(chosen) => chosen,
            Err(usage) => return Ok(Answer::bad_request(usage)),
        };
        let now = time_now();
        let mut replayed = 0;
        if chosen.way != Some(Way::Outbound) {
            replayed +=
                self.sql().replay_events(chosen.event_ids.as_deref(), chosen.cause.as_deref(), now)?;
        }
        let database = Database::new(&self.object.env);
        let client = database.client().await?;
        let items = Store::new(&client)
            .replay_failed(self.id, chosen.item_ids.as_deref(), chosen.cause.as_deref(), chosen.inbound())
            .await?;
        replayed += items.len();
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
        self.log().info("dead_letters_replayed").account(self.id).count("letters", replayed as u64).emit();
        self.object.arm(time_now()).await;
        Ok(Answer::json(200, &json!({"replayed": replayed})))
    }

    /// Takes dead letters from Keap off the list. Edits stay: their rows hold what Keap has not got, and only an undo or another
    /// edit changes that.
    pub(super) async fn discard(&self, body: &[u8]) -> Result<Answer, Failure> {
        let chosen = match Chosen::parse(body) {
            Ok(chosen) => chosen,
            Err(usage) => return Ok(Answer::bad_request(usage)),
        };
        let mut discarded = 0;
        if chosen.way != Some(Way::Outbound) {
            discarded += self.sql().discard_events(chosen.event_ids.as_deref(), chosen.cause.as_deref())?;
        }
        let database = Database::new(&self.object.env);
        let client = database.client().await?;
        let outcome = Store::new(&client)
            .discard_failed(self.id, chosen.item_ids.as_deref(), chosen.cause.as_deref(), chosen.inbound())
            .await?;
        discarded += outcome.discarded;
        let line = self.log().info("dead_letters_discarded").account(self.id);
        line.count("letters", discarded as u64).count("edits_kept", outcome.edits_kept as u64).emit();
        let advice = (outcome.edits_kept > 0).then_some(
            "edits are not discarded: undo them (POST /audit/{id}/revert), or correct the rows and replay",
        );
        let answer = json!({"discarded": discarded, "edits_kept": outcome.edits_kept, "advice": advice});
        Ok(Answer::json(200, &answer))
    }
}

impl Chosen {
    /// Whether only what came from Keap is meant, or only edits; none for both.
    fn inbound(&self) -> Option<bool> {
        self.way.map(|way| way == Way::Inbound)
    }
}

impl From<FailedItem> for DeadLetter {
    fn from(item: FailedItem) -> Self {
        Self {
            id: item.id,
            direction: if item.operation == "sync" { Way::Inbound } else { Way::Outbound }.as_str(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_choice_is_taken() {
        let chosen = Chosen::parse(br#"{"group":"outbound:invalid"}"#).unwrap();
        assert_eq!((chosen.cause.as_deref(), chosen.inbound()), (Some("invalid"), Some(false)));
        let chosen =
            Chosen::parse(br#"{"ids":["event:contact:7","018f3f6e-0000-4000-8000-00000000abcd"]}"#).unwrap();
        assert_eq!(chosen.event_ids.unwrap(), ["contact:7"]);
        assert_eq!((chosen.item_ids.unwrap().len(), chosen.way), (2, None));
        assert!(Chosen::parse(br#"{"all":true}"#).unwrap().event_ids.is_none());
        for odd in [
            "",
            "{}",
            "[]",
            r#"{"all":false}"#,
            r#"{"all":true,"cause":"x"}"#,
            r#"{"group":"invalid"}"#,
            r#"{"every":1}"#,
        ] {
            assert!(Chosen::parse(odd.as_bytes()).is_err(), "{odd}");
        }
    }
}
