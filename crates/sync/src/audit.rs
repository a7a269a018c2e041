//! The audit log, read by record, and the undo of one of its entries.
//!
//! An undo is an edit in a person's name: the store writes row, base, outbox and audit log together or nothing, and what it owes to
//! Keap is carried over like any edit. The account's object is woken at once; if that fails, it looks by itself later.

use crate::request::Query;
use keapsync_domain::failure::Failure;
use keapsync_domain::ids::{AccountId, EntityType, is_uuid};
use keapsync_engine::ports::history::{AuditEntry, HistoryStore as _};
use keapsync_engine::undo::undo;
use keapsync_platform::coordinator_client::CoordinatorClient;
use keapsync_platform::hyperdrive::{self, HYPERDRIVE_BINDING};
use keapsync_platform::respond::Answer;
use keapsync_store::Store;
use serde_json::{Value, json};
use worker::Env;

/// Entries in one answer, unless asked otherwise, and at most.
const LISTED_DEFAULT: usize = 50;
const LISTED_MAX: usize = 500;

/// `GET /audit?entity=&id=&before=&limit=`: what happened to a row, newest first.
pub(crate) async fn list(env: &Env, account: &AccountId, query: &Query) -> Result<Answer, Failure> {
    let page = match page_of(query) {
        Ok(page) => page,
        Err(reason) => return Ok(Answer::bad_request(&reason)),
    };
    let client = hyperdrive::connect(env, HYPERDRIVE_BINDING).await?;
    let entries =
        Store::new(&client).list_audit(account, page.entity, &page.row_id, page.before, page.limit).await?;
    let next = if entries.len() >= page.limit { entries.last().map(|entry| entry.id) } else { None };
    let shown: Vec<Value> = entries.iter().map(shown).collect();
    Ok(Answer::json(200, &json!({"entries": shown, "next_before": next})))
}

/// `POST /audit/{id}/revert`.
pub(crate) async fn revert(
    env: &Env,
    coordinator: &CoordinatorClient,
    account: &AccountId,
    id: i64,
) -> Result<Answer, Failure> {
    let client = hyperdrive::connect(env, HYPERDRIVE_BINDING).await?;
    let store = Store::new(&client);
    let Some(entry) = store.read_audit(account, id).await? else {
        return Ok(Answer::not_found("the account's audit log has no entry of this id"));
    };
    let undone = undo(&store, account, &entry, None).await?;
    // Only a hint: the outbox is polled anyway.
    let _ = coordinator.wake(account).await;
    Ok(Answer::json(200, &undone))
}

#[derive(Debug, PartialEq, Eq)]
struct PageRequest {
    entity: EntityType,
    row_id: String,
    before: Option<i64>,
    limit: usize,
}

fn page_of(query: &Query) -> Result<PageRequest, String> {
    let entity = query
        .get("entity")
        .and_then(EntityType::from_name)
        .ok_or("entity is contact, order, tag or subscription")?;
    let row_id = query.get("id").filter(|id| is_uuid(id)).ok_or("id is the row's id, a UUID")?.to_owned();
    let before = match query.get("before").map(str::parse) {
        None => None,
        Some(Ok(before)) => Some(before),
        Some(Err(_)) => return Err("before is the id of the last entry that was shown".to_owned()),
    };
    Ok(PageRequest { entity, row_id, before, limit: query.limit(LISTED_DEFAULT, LISTED_MAX)? })
}

fn shown(entry: &AuditEntry) -> Value {
    json!({
        "id": entry.id,
        "at": entry.created_at.to_rfc3339(),
        "entity": entry.entity,
        "entity_id": entry.entity_id,
        "keap_id": entry.keap_id,
        "operation": entry.operation,
        "source": entry.sync_source,
        "run_id": entry.run_id,
        "user_id": entry.user_id,
        "changed_fields": entry.changed_fields,
        "before": entry.old,
        "after": entry.after,
        "note": entry.note,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = "018f3f6e-0000-4000-8000-00000000abcd";

    #[test]
    fn pages_are_checked() {
        let page = |pairs: &[(&str, &str)]| {
            page_of(
                &Query::new(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
                    .unwrap(),
            )
        };
        let row = [("entity", "order"), ("id", ROW)];
        let read = page(&row).unwrap();
        assert_eq!(
            (read.entity, read.row_id.as_str(), read.before, read.limit),
            (EntityType::Order, ROW, None, 50)
        );
        assert_eq!(page(&[row[0], row[1], ("before", "7")]).unwrap().before, Some(7));
        assert!(page(&[("entity", "order")]).is_err() && page(&[("id", ROW)]).is_err());
        for odd in [("before", "x"), ("limit", "0"), ("limit", "501")] {
            assert!(page(&[row[0], row[1], odd]).is_err(), "{odd:?}");
        }
    }
}
