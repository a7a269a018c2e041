//! Conflicts that wait for a person: listed, shown, and settled.
//!
//! A decision is one call of the store, which changes row, base, outbox and audit log together or nothing. What it owes to Keap is
//! carried over by the outbox like any edit, so the account's object is woken at once; if that fails, it looks by itself later.

use crate::request::Query;
use keapsync_domain::failure::{Failure, FailureClass};
use keapsync_domain::ids::{AccountId, EntityType, is_uuid};
use keapsync_domain::timestamp::Timestamp;
use keapsync_domain::wire::ConflictResolvedRequest;
use keapsync_platform::coordinator_client::CoordinatorClient;
use keapsync_platform::hyperdrive::{self, HYPERDRIVE_BINDING};
use keapsync_platform::respond::Answer;
use keapsync_store::{ConflictRow, Resolution, Store};
use serde::Deserialize;
use serde_json::{Value, json};
use worker::Env;

/// Conflicts in one answer, unless asked otherwise, and at most.
const LISTED_DEFAULT: usize = 50;
const LISTED_MAX: usize = 500;

/// Longest note, in characters.
const NOTES_LENGTH_MAX: usize = 2_000;

/// A person's decision. `values` is an object keyed by the conflict's field.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    strategy: String,
    values: Option<Value>,
    notes: Option<String>,
}

/// Reads a decision; `Err` says what is wrong with it.
pub fn read_decision(body: &[u8]) -> Result<(Decision, Resolution), &'static str> {
    // serde's message could quote a value.
    let decision = serde_json::from_slice::<Decision>(body).map_err(|_| {
        "give {\"strategy\": \"keap_wins|supabase_wins|merge|manual\"} and, if wanted, \"values\" by field and \"notes\""
    })?;
    let resolution = resolution_of(&decision)?;
    Ok((decision, resolution))
}

/// `GET /conflicts?entity=&after=&limit=`: open ones, oldest first.
pub(crate) async fn list(env: &Env, account: &AccountId, query: &Query) -> Result<Answer, Failure> {
    let page = match page_of(query) {
        Ok(page) => page,
        Err(reason) => return Ok(Answer::bad_request(&reason)),
    };
    let client = hyperdrive::connect(env, HYPERDRIVE_BINDING).await?;
    let found =
        Store::new(&client).open_conflicts(account, page.entity, page.after.as_deref(), page.limit).await?;
    let is_full = i64::try_from(found.len()).is_ok_and(|length| length >= page.limit);
    let next = if is_full { found.last().map(|conflict| conflict.id.clone()) } else { None };
    let shown: Vec<Value> = found.iter().map(shown).collect();
    Ok(Answer::json(200, &json!({"conflicts": shown, "next_after": next})))
}

/// `GET /conflicts/{id}`.
pub(crate) async fn show(env: &Env, account: &AccountId, id: &str) -> Result<Answer, Failure> {
    let client = hyperdrive::connect(env, HYPERDRIVE_BINDING).await?;
    Ok(match Store::new(&client).read_conflict(account, id).await? {
        Some(conflict) => Answer::json(200, &shown(&conflict)),
        None => Answer::not_found("the account has no conflict of this id"),
    })
}

/// `POST /conflicts/{id}/resolve {"strategy", "values", "notes"}`.
pub(crate) async fn resolve(
    env: &Env,
    coordinator: &CoordinatorClient,
    account: &AccountId,
    id: &str,
    body: &[u8],
) -> Result<Answer, Failure> {
    let (decision, resolution) = match read_decision(body) {
        Ok(read) => read,
        Err(reason) => return Ok(Answer::bad_request(reason)),
    };
    let client = hyperdrive::connect(env, HYPERDRIVE_BINDING).await?;
    let outcome = Store::new(&client)
        .resolve_conflict(account, id, resolution, decision.values.as_ref(), decision.notes.as_deref())
        .await?;
    // Only hints: the outbox is polled anyway, and who watches sees the record change.
    let _ = coordinator.wake(account).await;
    let resolved = ConflictResolvedRequest { conflict_id: id.to_owned(), strategy: decision.strategy };
    let _ = coordinator.tell_resolved(account, &resolved).await;
    Ok(Answer::json(200, &outcome))
}

struct PageRequest {
    entity: Option<EntityType>,
    after: Option<String>,
    limit: i64,
}

fn page_of(query: &Query) -> Result<PageRequest, String> {
    let entity = match query.get("entity") {
        None => None,
        Some(name) => Some(
            EntityType::from_name(name)
                .ok_or_else(|| "entity is contact, order, tag or subscription".to_owned())?,
        ),
    };
    let after = match query.get("after") {
        None => None,
        Some(id) if is_uuid(id) => Some(id.to_owned()),
        Some(_) => return Err("after is the id of the last conflict that was shown".to_owned()),
    };
    let limit = query.limit(LISTED_DEFAULT, LISTED_MAX)?;
    Ok(PageRequest { entity, after, limit: i64::try_from(limit).unwrap_or(i64::MAX) })
}

fn resolution_of(decision: &Decision) -> Result<Resolution, &'static str> {
    if decision.notes.as_ref().is_some_and(|notes| notes.chars().count() > NOTES_LENGTH_MAX) {
        return Err("notes are at most 2000 characters");
    }
    if decision.values.as_ref().is_some_and(|values| !values.is_object()) {
        return Err("values is an object keyed by the conflict's field");
    }
    match decision.strategy.as_str() {
        "keap_wins" => Ok(Resolution::KeapWins),
        "supabase_wins" => Ok(Resolution::SupabaseWins),
        "merge" => Ok(Resolution::Merge),
        "manual" if decision.values.is_some() => Ok(Resolution::Manual),
        "manual" => Err("with manual, give the values"),
        _ => Err("strategy is keap_wins, supabase_wins, merge or manual"),
    }
}

fn shown(conflict: &ConflictRow) -> Value {
    let time = |moment: Option<Timestamp>| moment.map(Timestamp::to_rfc3339);
    json!({
        "id": conflict.id,
        "entity": conflict.entity_type,
        "entity_id": conflict.entity_id,
        "keap_id": conflict.keap_id,
        "fields": conflict.fields,
        "base": conflict.base,
        "keap": conflict.keap,
        "supabase": conflict.supabase,
        "keap_changed_at": time(conflict.keap_changed_at),
        "supabase_changed_at": time(conflict.supabase_changed_at),
        "detected_at": time(Some(conflict.detected_at)),
        "strategy": conflict.strategy,
        "winner": conflict.winner,
        "resolved_at": time(conflict.resolved_at),
        "resolved_by": conflict.resolved_by,
        "notes": conflict.notes,
    })
}

/// A decision about something that is not there, or already decided, is the caller's to know.
pub(crate) fn answer_of(failure: &Failure) -> Answer {
    match failure.class {
        FailureClass::Conflict => Answer::error(409, "settled_already", &failure.message),
        _ => Answer::failure(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(text: &str) -> Result<Resolution, &'static str> {
        resolution_of(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn decisions_are_checked() {
        assert_eq!(decision(r#"{"strategy":"keap_wins"}"#), Ok(Resolution::KeapWins));
        assert_eq!(decision(r#"{"strategy":"manual","values":{"email":"a@x"}}"#), Ok(Resolution::Manual));
        assert!(decision(r#"{"strategy":"manual"}"#).is_err());
        assert!(decision(r#"{"strategy":"newest"}"#).is_err());
        assert!(decision(r#"{"strategy":"merge","values":[1]}"#).is_err());
        let long = format!(r#"{{"strategy":"merge","notes":"{}"}}"#, "x".repeat(2_001));
        assert!(decision(&long).is_err());
    }

    #[test]
    fn pages_are_checked() {
        let query = |pairs: &[(&str, &str)]| {
            Query::new(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))).unwrap()
        };
        let page = page_of(&query(&[])).unwrap();
        assert_eq!((page.entity, page.after, page.limit), (None, None, 50));
        assert_eq!(page_of(&query(&[("entity", "order")])).unwrap().entity, Some(EntityType::Order));
        for odd in [("entity", "planet"), ("after", "1'--"), ("limit", "0"), ("limit", "501"), ("limit", "x")]
        {
            assert!(page_of(&query(&[odd])).is_err(), "{odd:?}");
        }
    }
}
